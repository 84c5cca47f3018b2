// A daemon with pipelines of every kind of luck, and a store that refuses.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const REFUSAL = '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>';

export const SCRIPT = '<script>window.hacked = "by a record"</script><img src=x onerror="window.hacked = 1">';

/** A port that was free a moment ago: the daemon is to come back on it. */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise(done => server.close(done));
  return port;
}

/** A store that answers every request with 403; in the bucket `taken` something else stands wherever one writes. */
async function refusingStore() {
  const store = http.createServer((request, answer) => {
    request.resume();
    if (request.url.startsWith('/taken/')) {
      const isWrite = request.method === 'PUT';
      answer.writeHead(isWrite ? 412 : 200, { 'content-length': isWrite ? 0 : 6, etag: '"other"', 'last-modified': 'Thu, 01 Jan 2026 00:00:00 GMT' });
      answer.end(isWrite || request.method === 'HEAD' ? '' : 'other\n');
    } else answer.writeHead(403, { 'content-type': 'application/xml' }).end(REFUSAL);
  }).listen(0, '127.0.0.1');
  await once(store, 'listening');
  return store;
}

export class House {
  static async build(scratch) {
    const house = new House();
    house.folder = scratch;
    house.store = await refusingStore();
    house.admin = await freePort();
    house.data = await freePort();
    const demo = fs.readFileSync(path.join(root, 'pipelines/quickstart.yaml'), 'utf8');
    house.write('pipelines/clickstream.yaml', demo.replace('rate: 20000', 'rate: 2000').replace('interval: 5s', 'interval: 2s')
      .replace('../transforms', path.join(root, 'transforms')).replace('./data/clickstream', './lake/clickstream'));
    house.write('pipelines/payments.yaml', `source: { firehose: { stream: payments } }
format: { lines: { compression: gzip } }
buffer: { size: 8 MiB, interval: 300ms }
sink: ${house.bucket('s3://lake/payments/')}
`);
    house.write('pipelines/orders.yaml', house.orders = `source: { http: { stream: orders } }
transforms:
  - jq: "."
format: { parquet: { schema: { id: int64, name: string } } }
buffer: { size: 8 MiB, interval: 500ms }
sink: { object_store: { url: "./lake/orders", prefix: "name={name}/" } }
`);
    house.write('pipelines/access-log.yaml', `source: { file: { path: "log/*.log" } }
format: { lines: {} }
buffer: { size: 8 MiB, interval: 1h }
sink: { object_store: { url: ./lake/logs } }
`);
    for (const name of ['a', 'b', 'c']) house.write(`log/${name}.log`, `GET /${name}\n`.repeat(1000));
    house.write('pipelines/signups.yaml', `source: { firehose: { stream: signups } }
format: { lines: {} }
sink: { object_store: { url: ./lake/signups } }
`);
    house.write('pipelines/billing.yaml', house.billing = house.plain('billing', '{ object_store: { url: ./lake/billing } }'));
    house.write('pipelines/taken.yaml', house.plain('taken', house.bucket('s3://taken/')));
    house.write('pipelines/leaving.yaml', house.plain('leaving', house.bucket('s3://lake/leaving/')));
    house.write('pipelines/left.yaml', house.plain('left', '{ object_store: { url: ./lake/left } }'));
    await house.start();
    return house;
  }

  /** Whatever may befall a pipeline: it is refused, stops, drains in vain, is gone, or never was right. */
  async befall() {
    for (const stream of ['taken', 'leaving', 'left', 'billing']) await this.send(stream, '{"n":1}');
    const of = async name => (await this.status()).pipelines.find(pipeline => pipeline.name === name);
    await until('all is delivered that can be', async () => (await of('left'))?.delivered.length && (await of('leaving'))?.sink_trouble);
    this.write('pipelines/billing.yaml', this.billing.replace('lines:', 'linez:'));
    this.write('pipelines/newcomer.yaml', 'source: { http: { stream: newcomers } }\nformat: { lines: {} }\nsink: { objectstore: { url: ./lake/new } }\n');
    for (const name of ['leaving', 'left']) this.remove(`pipelines/${name}.yaml`);
    await until('all of it has befallen', async () => await of('newcomer') && (await of('billing')).pending && (await of('leaving'))?.state === 'draining' && (await of('taken')).state === 'stopped' && !await of('left'));
  }

  /** Files with which a daemon starts. */
  mend() {
    this.write('pipelines/billing.yaml', this.billing);
    for (const name of ['newcomer', 'taken']) this.remove(`pipelines/${name}.yaml`);
  }

  plain(stream, sink) { return `source: { http: { stream: ${stream} } }\nformat: { lines: {} }\nbuffer: { size: 8 MiB, interval: 200ms }\nsink: ${sink}\n`; }

  bucket(url) {
    return `{ object_store: { url: "${url}", options: { endpoint: "http://127.0.0.1:${this.store.address().port}", allow_http: true, region: us-east-1, access_key_id: ours, secret_access_key: "env:LAKE_SECRET" } } }`;
  }

  get url() { return `http://127.0.0.1:${this.admin}/`; }

  write(name, text) {
    const file = path.join(this.folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }

  remove(name) { fs.rmSync(path.join(this.folder, name), { force: true }); }

  async start() {
    const log = fs.openSync(path.join(this.folder, 'log.txt'), 'a');
    const flags = ['run', 'pipelines', '--state', 'state', '--listen', `127.0.0.1:${this.data}`, '--admin', `127.0.0.1:${this.admin}`, '--log', 'json'];
    this.daemon = spawn(process.env.HYDRANT, flags, { cwd: this.folder, stdio: ['ignore', 'ignore', log], env: { ...process.env, LAKE_SECRET: 'secret', XDG_CACHE_HOME: path.join(this.folder, '..', 'cache') } });
    fs.closeSync(log);
    await until('the daemon is healthy', async () => {
      if (this.daemon.exitCode !== null) throw new Error(`hydrant has ended:\n${fs.readFileSync(path.join(this.folder, 'log.txt'))}`);
      return (await fetch(`${this.url}healthz`).catch(() => null))?.ok;
    });
  }

  async stop() {
    if (!this.daemon || this.daemon.exitCode !== null) return;
    const ended = once(this.daemon, 'exit');
    this.daemon.kill('SIGKILL');
    await ended;
  }

  async close() {
    await this.stop();
    this.store.close();
    this.store.closeAllConnections();
  }

  /** Sends lines to a stream; all are durable when this returns. */
  async send(stream, ...lines) {
    const answer = await fetch(`http://127.0.0.1:${this.data}/streams/${stream}/records`, { method: 'POST', headers: { 'content-type': 'application/x-ndjson' }, body: lines.join('\n') });
    if (!answer.ok) throw new Error(`${stream}: ${answer.status} ${await answer.text()}`);
  }

  async status(query = '') { return (await fetch(`${this.url}api/status${query}`)).json(); }
}

/** Waits until something is true that tells nobody. */
export async function until(what, found, patience_ms = 60_000) {
  const deadline = Date.now() + patience_ms;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise(again => setTimeout(again, 50));
  }
}
