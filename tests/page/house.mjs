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

/** A store that answers every request with 403, until it is told otherwise. */
async function refusingStore() {
  const store = http.createServer((request, answer) => {
    request.resume();
    answer.writeHead(403, { 'content-type': 'application/xml' }).end(REFUSAL);
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
sink: { object_store: { url: "s3://lake/payments/", options: { endpoint: "http://127.0.0.1:${house.store.address().port}", allow_http: true, region: us-east-1, access_key_id: ours, secret_access_key: "env:LAKE_SECRET" } } }
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
    await house.start();
    return house;
  }

  get url() { return `http://127.0.0.1:${this.admin}/`; }

  write(name, text) {
    const file = path.join(this.folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }

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
