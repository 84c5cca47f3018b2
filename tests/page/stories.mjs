// The stories of the status page: what a person sees, hears and can reach. See `tests/page/run`.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

import { House, SCRIPT, until } from './house.mjs';

const home = process.env.PAGE_HOME;
const require = createRequire(path.join(home, 'package.json'));
const { chromium } = require('playwright-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const words = process.argv.slice(2).filter(word => !word.startsWith('--'));
const forReadme = process.argv.includes('--readme');
const fromSource = process.argv.includes('--from-source');
const seen = name => path.join(home, 'seen', name);
const PATIENCE_MS = 30_000;

const stories = [];
const story = (name, tell) => stories.push({ name, tell });

const row = (page, name) => page.locator(`#pipeline-${name}`);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const text = async locator => (await locator.innerText()).replaceAll(/[\u202f\u00a0]/g, ' ');
const says = (locator, what) => until(`${locator} says ${what}`, async () => what.test(await text(locator).catch(() => '')), PATIENCE_MS);

async function openAll(page, names) {
  for (const name of names) {
    if (await button(page, name).getAttribute('aria-expanded') !== 'true') await button(page, name).click();
    await page.locator(`#inside-${name}`).waitFor();
  }
}

/** Lets the page draw `count` more answers. */
async function looks(page, count) {
  for (let n = 0; n < count; n++) await page.waitForResponse(/api\/status/);
}

story('a healthy pipeline is drawn as its way, with live rates', async ({ page }) => {
  await openAll(page, ['clickstream']);
  const card = row(page, 'clickstream');
  await says(card, /flowing/);
  const stations = (await card.locator('.way li').allInnerTexts()).map(station => station.replaceAll(/\s+/g, ' '));
  assert.equal(stations.length, 4);
  assert.match(stations[0], /source.*demo.*\d \/s|source.*demo.*\d\u00a0\/s/);
  assert.match(stations[1], /transform.*wasm redact\.wasm/);
  assert.match(stations[2], /format.*parquet/);
  assert.match(stations[3], /sink.*lake\/clickstream/);
  await says(card.locator('.way li').first(), /[12] ?\d{3} \/s/);
  for (const place of ['released', 'delivered', 'sealed', 'read', 'tail']) await card.getByText(place, { exact: true }).first().waitFor();
  await says(card, /open chunk[^]*of 16 MiB, cut in \d s at the latest/);
  await says(card, /Last delivered[^]*dt=.*country=.*\.parquet[^]*KiB[^]*s ago/);
});

story('numbers move without a reload, and nodes stay', async ({ page }) => {
  await openAll(page, ['clickstream', 'access-log']);
  await page.evaluate(() => { window.here = [...document.querySelectorAll('#inside-clickstream .way li, #inside-clickstream table tr, .row button, meter')]; });
  const tail = page.locator('#inside-clickstream .positions dd').nth(8);
  const before = await tail.innerText();
  await until('the tail moves', async () => await tail.innerText() !== before);
  await looks(page, 3);
  assert.ok(await page.evaluate(() => window.here.every(node => node.isConnected)), 'nodes were made anew');
});

story('a sink that refuses is said in words, with a hint', async ({ page }) => {
  await openAll(page, ['payments']);
  const card = row(page, 'payments');
  await says(card.locator('.words'), /^blocked: access denied since \d\d:\d\d$/);
  await says(card, /Blocked: access denied since[^]*s3:\/\/lake\/payments\/[^]*AccessDenied: No\.[^]*check the credentials[^]*1 object waits; \d+ attempts? in .*(next in|lost)/);
  await says(card, /promised, not delivered\s+\S+ .*of 2/);
  await says(card, /3 records not delivered yet, the oldest \d+ (s|min) old/);
  await says(page.locator('#health'), /pipelines? needs? a look/);
  assert.match(await page.title(), /^\(\d\) hydrant$/);
});

story('rejected records are shown with a sample and the reason, as text', async ({ page }) => {
  await openAll(page, ['orders']);
  const card = row(page, 'orders');
  await says(card, /Set aside[^]*\d × DataFormatConversion\.MalformedData \(format-conversion-failed\)[^]*column id: expected int64/);
  assert.ok((await card.locator('.sample').first().innerText()).includes(JSON.stringify(SCRIPT)), 'the sample is there as it came');
  await says(card.locator('.way'), /format\s+parquet\s+\d+ set aside/);
  await says(card, /Last delivered[^]*name=/);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
});

story('many shards are a sum and a table to unfold, which stays unfolded', async ({ page }) => {
  await openAll(page, ['access-log']);
  const shards = row(page, 'access-log').locator('details.shards');
  await says(shards, /^3 shards/);
  await shards.locator('summary').click();
  await shards.locator('tbody tr').nth(2).waitFor();
  await looks(page, 3);
  assert.equal(await shards.locator('tbody tr').count(), 3);
  assert.ok(await shards.evaluate(node => node.open));
});

story('a stream without records tells how to send one, and it works', async ({ page, house }) => {
  await openAll(page, ['signups']);
  await says(row(page, 'signups'), /No records yet/);
  const command = row(page, 'signups').locator('.empty code');
  const line = await command.innerText();
  assert.match(line, /^curl -d '\{"hello":"world"\}' http:\/\/127\.0\.0\.1:\d+\/streams\/signups\/records$/);
  const [, body, url] = /-d '(.*)' (\S+)$/.exec(line);
  assert.equal((await fetch(url, { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body })).status, 200);
  await command.waitFor({ state: 'hidden' });
  assert.equal((await house.status()).pipelines.find(({ name }) => name === 'signups').counts.records_in, 1);
});

story('streams show their spool and what they refused', async ({ page }) => {
  const streams = page.getByRole('region', { name: /^Streams/ });
  for (const name of ['orders', 'payments', 'signups']) await says(streams, new RegExp(`${name}\\s+\\S+ (B|KiB|MiB)( of \\d+ GiB)?\\s+\\d+\\s+0`));
});

story('a broken file is said beside the revision that runs on, and forgotten when it is mended', async ({ page, house }) => {
  const card = row(page, 'orders');
  // What is not on the screen is not drawn, and has no text.
  await card.scrollIntoViewIfNeeded();
  house.write('pipelines/orders.yaml', house.orders.replace('int64', 'int65'));
  try {
    await says(card.locator('.words'), /^revision 1 runs on: its file is wrong$/);
    await openAll(page, ['orders']);
    await says(card, /What the file says since \d\d:\d\d cannot be taken[^]*orders\.yaml:4:\d+[^]*int65/);
  } finally {
    house.write('pipelines/orders.yaml', house.orders.replace('500ms', '400ms'));
  }
  await says(card, /revision 2/);
  await card.locator('.panel.mild').waitFor({ state: 'hidden' });
});

story('a change that was refused names its place, beside what runs on', async ({ page }) => {
  await openAll(page, ['billing']);
  const card = row(page, 'billing');
  await says(card.locator('.words'), /^revision 1 runs on: its file is wrong$/);
  await says(card, /What the file says since \d\d:\d\d cannot be taken[^]*billing\.yaml:2:\d+[^]*linez[^]*did you mean `lines`\?[^]*Revision 1 runs on\./);
});

story('a file that was never right is no pipeline yet, and is said so', async ({ page }) => {
  await openAll(page, ['newcomer']);
  const card = row(page, 'newcomer');
  await says(card.locator('.words'), /^does not run: its file is wrong$/);
  await says(card, /Its file is wrong since[^]*newcomer\.yaml:3:\d+[^]*object_store[^]*Nothing runs yet\.[^]*no revision yet/);
  assert.equal(await card.locator('.way').isVisible(), false, 'there is no way to draw');
  assert.equal(await card.locator('.panel').count(), 1);
});

story('a pipeline that has stopped says why, and what starts it', async ({ page }) => {
  await openAll(page, ['taken']);
  await says(row(page, 'taken').locator('.words'), /^stopped: /);
  await says(row(page, 'taken'), /Stopped[^]*s3:\/\/taken\/[^]*starts it again, where it was/);
  await says(page.locator('#ills'), /pipeline taken has stopped/);
});

story('a pipeline without a file drains, and what is left of one is listed', async ({ page }) => {
  await openAll(page, ['leaving']);
  await says(row(page, 'leaving'), /Blocked: access denied[^]*Draining[^]*Its file is gone: what was acknowledged is being delivered\./);
  assert.equal(await row(page, 'left').count(), 0);
  await says(page.getByRole('region', { name: 'State without a file' }), /left drained: nothing that was acknowledged is undelivered/);
});

story('everything is reached by the keyboard, with the focus seen', async ({ page }) => {
  await page.locator('body').focus();
  const reachable = await page.evaluate(() => [...document.querySelectorAll('a, button, input, summary')].filter(node => node.checkVisibility({ contentVisibilityAuto: false })).length);
  const reached = [];
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  for (let n = 0; n < reachable + 12; n++) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate(() => {
      const node = document.activeElement;
      if (node === document.body) return null;
      const outlines = [getComputedStyle(node), getComputedStyle(node, '::after')].map(style => style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2);
      node.reached = true;
      return { what: `${node.tagName} ${node.textContent}`.slice(0, 40), isSeen: outlines.some(Boolean), isControl: node.matches('a, button, input, summary') };
    });
    if (found === null) break;
    if (found.isControl) { reached.push(found.what); assert.ok(found.isSeen, `no focus is seen at ${found.what}`); }
  }
  assert.equal(new Set(reached).size, reachable, reached.join(', '));
  await button(page, 'signups').focus();
  const was = await button(page, 'signups').getAttribute('aria-expanded');
  await page.keyboard.press('Enter');
  assert.notEqual(await button(page, 'signups').getAttribute('aria-expanded'), was);
  await page.keyboard.press('Space');
  assert.equal(await button(page, 'signups').getAttribute('aria-expanded'), was);
});

story('focus, scroll and selection stay over updates', async ({ page }) => {
  await openAll(page, ['orders', 'clickstream']);
  await button(page, 'orders').focus();
  await page.evaluate(() => window.scrollTo(0, 300));
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('#inside-orders .sample')));
  const state = () => page.evaluate(() => [document.activeElement.textContent, Math.round(scrollY), String(getSelection())]);
  const before = await state();
  await looks(page, 4);
  assert.deepEqual(await state(), before);
});

story('a screen reader finds landmarks, headings, names and states', async ({ page }) => {
  for (const role of ['banner', 'main', 'contentinfo', 'navigation']) await page.getByRole(role).waitFor();
  await page.getByRole('heading', { level: 1, name: 'hydrant' }).waitFor();
  await page.getByRole('heading', { level: 2, name: /^Pipelines/ }).waitFor();
  await openAll(page, ['clickstream']);
  await page.getByRole('heading', { level: 3, name: 'clickstream' }).getByRole('button', { name: 'clickstream', expanded: true }).waitFor();
  await page.getByRole('heading', { level: 4, name: 'Positions' }).first().waitFor();
  await page.getByRole('list', { name: 'the way of the records of clickstream' }).waitFor();
  await page.getByRole('img', { name: /^records read per second over the last minute; peak/ }).first().waitFor();
  await page.getByRole('meter', { name: 'open chunk' }).first().waitFor();
  // What is said aloud does not change each second.
  await page.evaluate(() => {
    window.said = 0;
    for (const live of document.querySelectorAll('[role=status], [aria-live]')) new MutationObserver(() => window.said++).observe(live, { childList: true, characterData: true, subtree: true });
  });
  await looks(page, 4);
  assert.equal(await page.evaluate(() => window.said), 0);
});

for (const scheme of ['light', 'dark']) {
  for (const [device, viewport] of [['wall', { width: 1200, height: 900 }], ['phone', { width: 360, height: 740 }]]) {
    story(`${scheme} on a ${device}: readable, within the screen, without a fault that axe knows`, async ({ page }) => {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize(viewport);
      await openAll(page, ['access-log', 'billing', 'clickstream', 'leaving', 'newcomer', 'orders', 'payments', 'signups', 'taken']);
      await looks(page, 2);
      const light = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number).reduce((a, b) => a + b) / 3);
      assert.ok(scheme === 'dark' ? light < 50 : light > 200, `the paper is ${light}`);
      await fits(page);
      await page.screenshot({ path: seen(`${device}-${scheme}.png`), fullPage: true });
      await isFlawless(page);
    });
  }
}

async function fits(page) {
  const wide = await page.evaluate(() => [...document.querySelectorAll('body *')].filter(node => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('.scroll, svg, .skip, .unseen, [hidden]')).map(node => `${node.tagName}.${node.className}`));
  assert.deepEqual(wide, [], 'beyond the right edge');
  assert.ok(await page.evaluate(() => document.scrollingElement.scrollWidth <= innerWidth), 'it scrolls sideways');
}

/** Whether axe finds no fault. */
async function isFlawless(page) {
  // Sees all of it, not only what is on the screen.
  await page.evaluate(() => document.querySelectorAll('.cards > li').forEach(card => { card.style.contentVisibility = 'visible'; }));
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => `${node.html} ${node.failureSummary}`).join('\n')}`), []);
}

/** A group as the daemon tells of it: partitions dealt out in runs, this node the first member. */
function groupOf(partitions, members, { member = 'hydrant-0-5f3c', mine = Math.ceil(partitions / Math.max(1, members)) } = {}) {
  const each = Math.ceil(partitions / Math.max(1, members));
  const run = (from, to) => to > from ? [{ topic: 'orders', count: to - from, partitions: to - from === 1 ? `${from}` : `${from}-${to - 1}` }] : [];
  const partition = n => ({ topic: 'orders', partition: n, shard: `k1a2b3c4dp${n}s0011223344ff`, committed: 1000 * n, read: 1000 * n + 400, end: 1000 * n + 500, lag: 500, paused: n === 2 });
  const of = n => {
    const [from, to] = [Math.min(partitions, n * each), Math.min(partitions, (n + 1) * each)];
    return { id: `hydrant-${n}-5f3c`, client: `hydrant-${n}`, host: `10.0.0.${n + 1}`, here: n === 0, owned: to - from, owns: run(from, to) };
  };
  return {
    group: 'lake', member, protocol: 'consumer', owned: mine, paused: mine > 2 ? 1 : 0, lag: 500 * mine, owns: run(0, mine),
    partitions: Array.from({ length: Math.min(64, mine) }, (_, n) => partition(n)), members_known: members, members: Array.from({ length: members }, (_, n) => of(n)),
  };
}

/** A page on which pipelines read Kafka, each in its group. There is no broker here: the daemon's answer is changed. */
async function groups(context, house, kafka) {
  const page = await context.newPage();
  await page.route(/api\/status/, async route => {
    const view = await (await route.fetch()).json();
    const one = view.pipelines.find(({ name }) => name === 'signups');
    view.pipelines = Object.entries(kafka).map(([name, of]) => {
      const shards = of.partitions.map(({ shard, topic, partition, committed: at }) => ({ shard, name: `${topic}/${partition}`, released: `${at}`, delivered: `${at}`, sealed: `${at}`, read: `${at + 400}`, tail: `${at + 500}` }));
      return { ...one, name, way: { ...one.way, source: 'kafka orders', stream: null }, kafka: of, shards, shards_known: of.owned, lag_records: of.lag };
    });
    view.streams = [];
    await route.fulfill({ json: view });
  });
  await page.goto(house.url);
  await page.locator('.cards > li').first().waitFor();
  return page;
}

story('a group of Kafka is drawn: who owns what, and what this node has before it', async ({ context, house }) => {
  const page = await groups(context, house, { orders: groupOf(12, 3) });
  await openAll(page, ['orders']);
  const card = row(page, 'orders'), group = card.locator('.group');
  await says(group, /group lake\s+consumer protocol\s+this node is hydrant-0-5f3c/);
  await says(group, /This node owns 4 partitions: orders 0-3\. 2 000 offsets behind, 1 partition paused as what was read waits\./);
  await says(group, /3 members[^]*hydrant-0 this node\s+10\.0\.0\.1\s+4\s+orders 0-3\s+hydrant-1\s+10\.0\.0\.2\s+4\s+orders 4-7/);
  assert.equal(await group.locator('tr.here').count(), 1);
  await group.getByText('4 partitions', { exact: true }).click();
  await says(group, /orders\/2\s+2 000\s+2 400\s+2 500\s+500\s+paused/);
  const shards = card.locator('details.shards');
  await shards.locator('summary').click();
  await says(shards, /orders\/3\s+3 000/);
  assert.equal(await shards.locator('td.name').nth(3).getAttribute('title'), 'k1a2b3c4dp3s0011223344ff');
  await looks(page, 2);
  assert.ok(await shards.evaluate(node => node.open), 'it stays unfolded');
  await page.unrouteAll({ behavior: 'wait' });
  await page.close();
});

story('a group is right while it is shared out, and follows when partitions come and go', async ({ context, house }) => {
  const kafka = { orders: { ...groupOf(0, 0), member: '' } };
  const page = await groups(context, house, kafka);
  await openAll(page, ['orders']);
  const card = row(page, 'orders'), group = card.locator('.group');
  await says(card.locator('.words'), /^joining its group$/);
  await says(group, /this node has not joined yet\s+The group has not let this node in yet\./);
  assert.equal(await group.locator('details:visible').count(), 0);
  kafka.orders = groupOf(0, 0);
  await says(card.locator('.words'), /^a member without partitions now$/);
  await says(group, /This node owns no partitions now/);
  kafka.orders = groupOf(1, 1);
  await says(group, /This node owns 1 partition: orders 0\. 500 offsets behind\.\s+1 member/);
  kafka.orders = { ...groupOf(1, 2), owned: 0, owns: [], partitions: [], lag: 0 };
  await says(group, /no partitions now[^]*2 members[^]*hydrant-1\s+10\.0\.0\.2\s+0/);
  kafka.orders = { ...groupOf(4, 1), lag: 0, paused: 0 };
  await says(group, /This node owns 4 partitions: orders 0-3\. Nothing behind\./);
  await page.unrouteAll({ behavior: 'wait' });
  await page.close();
});

story('large groups fit the wall and the phone', async ({ context, house }) => {
  const page = await groups(context, house, { alone: groupOf(1000, 1), many: groupOf(1000, 20), none: { ...groupOf(0, 0), member: '' }, few: groupOf(12, 3) });
  await openAll(page, ['alone', 'few', 'many', 'none']);
  await says(row(page, 'alone').locator('.group'), /This node owns 1 000 partitions: orders 0-999\.[^]*64 of 1 000 partitions/);
  const members = row(page, 'many').locator('.group details').first();
  await says(members, /^20 members$/);
  await members.locator('summary').click();
  await says(members, /hydrant-19\s+10\.0\.0\.20\s+50\s+orders 950-999/);
  await row(page, 'few').locator('.group summary').nth(1).click();
  for (const [device, viewport] of [['wall', { width: 1200, height: 900 }], ['phone', { width: 360, height: 740 }]]) {
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.setViewportSize(viewport);
      await looks(page, 1);
      await fits(page);
      await page.screenshot({ path: seen(`groups-${device}-${scheme}.png`), fullPage: true });
      await row(page, 'few').screenshot({ path: seen(`group-${device}-${scheme}.png`) });
      await isFlawless(page);
    }
  }
  await page.unrouteAll({ behavior: 'wait' });
  await page.close();
});

story('who wants no motion gets none', async ({ page }) => {
  await openAll(page, ['clickstream']);
  const moving = () => page.evaluate(() => document.getAnimations().length);
  await until('the way moves', moving);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await until('nothing moves', async () => await moving() === 0);
});

story('a page that nobody sees asks for nothing, and looks at once when it is seen', async ({ page }) => {
  await looks(page, 1);
  const hide = hidden => page.evaluate(hidden => {
    Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await hide(true);
  let asked = 0;
  page.on('request', () => asked++);
  // The page's own clock, for three of its seconds.
  await page.evaluate(() => new Promise(done => setTimeout(done, 3000)));
  assert.ok(asked <= 1, `asked ${asked} times`);
  const before = asked;
  await hide(false);
  await until('it looks', () => asked > before);
});

story('a daemon that is away is said, asked more and more seldom, and found again', async ({ page, house }) => {
  await openAll(page, ['clickstream']);
  await house.stop();
  await says(page.locator('#gone'), /^Not reachable since \d\d:\d\d:\d\d\./);
  assert.equal(await page.locator('#gone').getAttribute('role'), 'status');
  await page.screenshot({ path: seen('away.png') });
  const waits = [];
  let last = Date.now();
  page.on('requestfailed', () => { waits.push(Date.now() - last); last = Date.now(); });
  await until('it has asked three times', () => waits.length >= 3);
  assert.ok(waits[2] > waits[1], `waits of ${waits} ms`);
  house.mend();
  await house.start();
  await until('it is there again', async () => await page.locator('#gone').innerText() === '', 40_000);
  await says(row(page, 'clickstream'), /flowing/);
  assert.ok(await page.locator('#inside-clickstream').isVisible(), 'it is still open');
  const left = page.getByRole('region', { name: 'State without a file' });
  await says(left, /leaving 1 object promised and not delivered[^]*taken 1 object promised and not delivered/);
});

story('hostile text anywhere in the answer stays text', async ({ context, house }) => {
  const page = await context.newPage();
  await page.route(/api\/status/, async route => {
    const view = await (await route.fetch()).json();
    const taint = value => typeof value === 'string' && !/^\d+$/.test(value) && !['running', 'draining'].includes(value) ? `${value}${SCRIPT}` : Array.isArray(value) ? value.map(taint) : value && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, taint(inner)])) : value;
    const tainted = taint(view);
    tainted.without_file.push({ name: SCRIPT, folder: SCRIPT, promised: 2, drained: false, holds: [SCRIPT] });
    tainted.ills.push(SCRIPT);
    for (const pipeline of tainted.pipelines) {
      pipeline.pending = { hash: SCRIPT, since_ms: view.now_ms, problems: SCRIPT };
      pipeline.kafka = taint(groupOf(3, 2));
    }
    await route.fulfill({ json: tainted });
  });
  await page.goto(house.url);
  const shut = page.locator('.row button[aria-expanded=false]');
  await shut.first().waitFor();
  while (await shut.count()) await shut.first().click();
  await looks(page, 3);
  assert.equal(await page.locator('main script, main img, main iframe').count(), 0);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.ok((await page.locator('main').innerText()).includes(SCRIPT));
  await page.unrouteAll({ behavior: 'wait' });
  await page.close();
});

story('five hundred pipelines are a list to filter, and only what is open is drawn', async ({ context, house }) => {
  const page = await context.newPage();
  let tick = 0;
  await page.route(/api\/status/, async route => {
    const view = await (await route.fetch()).json();
    const [one] = view.pipelines;
    tick++;
    view.pipelines = Array.from({ length: 500 }, (_, n) => ({ ...one, name: `pipeline-${String(n).padStart(3, '0')}`, rates: { ...one.rates, records_in: tick + n }, sink_trouble: n === 77 ? { message: 's3://x/y: access denied: 403', hint: null, since_ms: view.now_ms - 60000, attempts: 7, waiting: 1, next_at_ms: null } : null }));
    await route.fulfill({ json: view });
  });
  await page.goto(house.url);
  await page.locator('.cards > li').nth(499).waitFor({ state: 'attached' });
  await page.locator('#inside-pipeline-077').waitFor();
  assert.equal(await page.locator('.inside').count(), 1, 'the one that needs a look');
  await says(page.locator('#health'), /^1 of 500 pipelines needs a look$/);
  const nodes = () => page.evaluate(() => document.getElementsByTagName('*').length);
  const before = await nodes();
  assert.ok(before < 500 * 16 + 500, `${before} elements`);
  await page.getByRole('searchbox', { name: 'Filter' }).fill('blocked');
  await says(page.locator("#pipelines-number"), /^1 of 500$/i);
  assert.equal(await page.locator('.cards > li:visible').count(), 1);
  await page.screenshot({ path: seen('filtered.png') });
  await page.getByRole('searchbox').fill('');
  await looks(page, 3);
  assert.equal(await nodes(), before);
  await page.screenshot({ path: seen('many.png') });
  await page.unrouteAll({ behavior: 'wait' });
  await page.close();
});

story('a page that is open for long has as many nodes as at first', async ({ context, house }) => {
  const page = await context.newPage();
  await page.clock.install();
  await page.goto(house.url);
  const answered = async () => { const answer = page.waitForResponse(/api\/status/); await page.clock.runFor(1000); await answer; };
  await answered();
  await openAll(page, ['clickstream', 'orders', 'payments', 'access-log']);
  const devtools = await context.newCDPSession(page);
  const held = async () => {
    await devtools.send('HeapProfiler.collectGarbage');
    const { nodes, jsEventListeners } = await devtools.send('Memory.getDOMCounters');
    return { nodes, jsEventListeners };
  };
  for (let n = 0; n < 20; n++) await answered();
  const before = await held();
  for (let n = 0; n < 400; n++) await answered();
  const after = await held();
  assert.equal(after.jsEventListeners, before.jsEventListeners);
  assert.ok(after.nodes <= before.nodes + 60, `${before.nodes} nodes became ${after.nodes}`);
  await page.close();
});

story('nothing comes from elsewhere, and nothing is said on the console', async ({ heard, requested, house }) => {
  assert.deepEqual([...requested].filter(url => !url.startsWith(house.url) && !url.startsWith('data:')), []);
  const unexpected = heard.filter(line => !/ERR_CONNECTION_REFUSED|Failed to load resource|Failed to fetch/.test(line));
  assert.deepEqual(unexpected, []);
});

// --- telling them

const scratch = fs.mkdtempSync(path.join(home, 'run.'));
const house = await House.build(scratch);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
let passed = 0;
const failed = [];
try {
  await house.send('payments', '{"amount":1}', '{"amount":2}', '{"amount":3}');
  await house.send('orders', '{"id":1,"name":"Ada"}', `{"id":${JSON.stringify(SCRIPT)},"name":"x"}`, 'no JSON at all', '{"id":2,"name":"<b>Grace</b>"}');
  await house.befall();
  const heard = [], requested = new Set();
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, deviceScaleFactor: 1 });
  context.setDefaultTimeout(PATIENCE_MS);
  context.on('console', message => { if (['error', 'warning'].includes(message.type())) heard.push(message.text()); });
  context.on('weberror', error => heard.push(String(error.error())));
  context.on('request', request => requested.add(request.url()));
  if (fromSource) {
    for (const [name, file] of [['', 'index.html'], ['page.css', 'page.css'], ['page.js', 'page.js']]) {
      const shown = await fetch(house.url + name);
      await context.route(house.url + name, route => route.fulfill({ headers: Object.fromEntries(shown.headers), path: path.join('src/status/page', file) }));
    }
  }
  for (const { name, tell } of stories.filter(({ name }) => !words.length || words.some(word => name.includes(word)))) {
    const page = await context.newPage();
    try {
      await page.goto(house.url);
      await row(page, 'clickstream').waitFor();
      await tell({ page, context, house, heard, requested });
      passed++;
      console.log(`ok    ${name}`);
    } catch (error) {
      failed.push(name);
      console.log(`FAILED ${name}\n${error.stack}`);
      await page.screenshot({ path: seen(`failed-${failed.length}.png`), fullPage: true }).catch(() => {});
    }
    await page.close();
  }
  if (forReadme && !failed.length) {
    const page = await browser.newPage({ viewport: { width: 1100, height: 1180 }, deviceScaleFactor: 1 });
    await page.goto(house.url);
    for (const { name } of (await house.status()).pipelines) {
      if ((await button(page, name).getAttribute('aria-expanded') === 'true') !== ['clickstream', 'payments'].includes(name)) await button(page, name).click();
    }
    await until('a minute is drawn', async () => (await house.status()).pipelines.every(({ history }) => history.length === 60), 90_000);
    await looks(page, 2);
    await page.evaluate(() => window.scrollTo(0, 0));
    await page.screenshot({ path: 'docs/status-page.png' });
    const { size } = fs.statSync('docs/status-page.png');
    assert.ok(size < 200_000, `docs/status-page.png has ${size} bytes`);
    console.log(`docs/status-page.png: ${size} bytes`);
  }
} finally {
  await browser.close();
  await house.close();
  if (!failed.length) fs.rmSync(scratch, { recursive: true, force: true });
}
if (failed.length) console.log(`screenshots are in ${seen('')}, logs and data in ${scratch}`);
console.log(`${passed} passed, ${failed.length} failed`);
process.exit(failed.length || !passed ? 1 : 0);
