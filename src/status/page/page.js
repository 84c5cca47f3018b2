// The status page: asks for api/status once a second, and changes what has changed.
//
// Everything from the daemon is hostile text (records, names, answers of stores): it becomes text nodes and attributes that
// hold no code, nothing else. Nodes are made once and kept, so that focus, selection, scroll and open parts stay, and a page
// that is open for a day has as many as in its first minute.

const POLL_MS = 1000, PATIENCE_MS = 5000, WAIT_MAX_MS = 15000;
const OPEN_AT_FIRST = 3, FILTER_FROM = 6, STREAMS_SHOWN = 100;
// Open at a time: each is asked for by name, and a request has room for so many.
const OPEN_MAX = 40;
const ILLS_SHOWN = 10;

// --- nodes

const at = id => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = tag === 'svg' || tag === 'path' ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets a node's text, if it is another. */
function put(node, text) {
  text = String(text ?? '');
  const first = node.firstChild;
  if (!first) { if (text) node.append(text); } else if (first.data !== text) first.data = text;
}

function attribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const show = (node, whether) => { if (node.hidden === Boolean(whether)) node.hidden = !whether; };
const mark = (node, name, whether) => { if (node.classList.contains(name) !== Boolean(whether)) node.classList.toggle(name); };

/** Brings the children of `parent` to `items`: kept by key, made and removed as needed. */
function list(parent, items, keyOf, create, update) {
  const kept = parent.kept ??= new Map();
  const wanted = new Set(items.map(keyOf));
  for (const [key, child] of kept) if (!wanted.has(key)) { child.node.remove(); kept.delete(key); }
  let before = parent.firstChild;
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    let child = kept.get(key);
    if (!child) kept.set(key, child = create(item));
    if (child.node === before) before = before.nextSibling;
    else parent.insertBefore(child.node, before);
    update(child, item);
  });
}
const byPlace = (_, index) => index;

// --- words

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const number = value => grouped.format(value).replaceAll(',', '\u202f');
const one = (count, word) => `${number(count)} ${word}${Number(count) === 1 ? '' : 's'}`;
const rate = value => `${value > 0 && value < .05 ? '<\u202f0.1' : value > 0 && value < 9.95 ? value.toFixed(1) : number(Math.round(value))}\u00a0/s`;

function size(bytes) {
  let unit = 0;
  for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
  const digits = unit && bytes < 9.95 ? bytes.toFixed(1) : number(Math.round(bytes));
  return `${digits}\u00a0${['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][unit]}`;
}

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 90) return `${minutes}\u00a0min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 36) return `${hours}\u00a0h ${minutes % 60}\u00a0min`;
  return `${Math.floor(hours / 24)} days`;
}

const two = value => String(value).padStart(2, '0');
function moment(ms) {
  const date = new Date(ms);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return { day, minute: `${two(date.getHours())}:${two(date.getMinutes())}`, second: two(date.getSeconds()) };
}
const exactly = ms => { const { day, minute, second } = moment(ms); return `${day} ${minute}:${second}`; };
/** The time of day, with the day if that is another than `now`'s. */
function clock(ms, now) {
  const { day, minute } = moment(ms);
  return day === moment(now).day ? minute : `${day} ${minute}`;
}
/** Sets a relative time, with the absolute one in its title. */
function ago(node, ms, now) {
  put(node, `${span(now - ms)} ago`);
  attribute(node, 'title', exactly(ms));
  attribute(node, 'datetime', new Date(ms).toISOString());
}

/** What went wrong in two words: of `s3://lake/x: access denied: 403 ...` that is `access denied`. */
function cause(message) {
  const parts = message.split(': ');
  if (parts.length > 1 && parts[0].includes('/') && !parts[0].includes(' ')) parts.shift();
  return parts[0].slice(0, 80);
}

/** Whether its file has never been right. */
const hasNeverRun = pipeline => !pipeline.revision.number && Boolean(pipeline.pending);

/** How a pipeline is, in words, and how bad that is. */
function condition(pipeline, now) {
  const { state, why, sink_trouble: sink, reading_trouble: reading, counts, rates, pending } = pipeline;
  if (state === 'stopped') return { bad: 3, brief: 'stopped', words: why ? `stopped: ${cause(why)}` : 'stopped' };
  if (hasNeverRun(pipeline)) return { bad: 2, brief: 'its file is wrong', words: 'does not run: its file is wrong' };
  if (state === 'waiting') return { bad: 2, brief: 'cannot start', words: why ? `cannot start: ${why}` : 'cannot start now' };
  const since = trouble => `${cause(trouble.message)} since ${clock(trouble.since_ms, now)}`;
  if (sink) return { bad: 2, brief: `blocked: ${cause(sink.message)}`, words: `blocked: ${since(sink)}` };
  if (reading) return { bad: 2, brief: 'nothing is read', words: `nothing is read: ${since(reading)}` };
  if (pipeline.transforms_failing) return { bad: 2, brief: 'transforms fail', words: 'transforms set every record aside' };
  if (pending) return { bad: 1, brief: 'change refused', words: `revision ${pipeline.revision.number} runs on: its file is wrong` };
  if (state === 'draining') return { bad: 0, brief: 'draining', words: 'its file is gone: draining' };
  if (state === 'done') return { bad: 0, brief: 'done', words: 'done: everything is delivered' };
  if (rates.records_in > 0) return { bad: 0, brief: 'well', good: true, words: 'flowing' };
  if (pipeline.kafka && !pipeline.kafka.owned) return { bad: 0, brief: 'well', words: pipeline.kafka.member ? 'a member without partitions now' : 'joining its group' };
  if (!counts.records_in) return { bad: 0, brief: 'well', words: 'no records yet' };
  const last = pipeline.delivered[0];
  return { bad: 0, brief: 'well', good: true, words: last ? `quiet; delivered ${span(now - last.at_ms)} ago` : 'quiet' };
}

// --- a pipeline

class Card {
  constructor(name) {
    this.name = name;
    this.button = make('button', { type: 'button', 'aria-expanded': 'false' }, name);
    this.words = make('p', { class: 'words' });
    this.figures = Object.fromEntries(['in', 'out', 'lag'].map(key => [key, make('b')]));
    const figure = (key, word) => make('span', key === 'lag' ? { class: 'more' } : {}, this.figures[key], ` ${word}`);
    const row = make('div', { class: 'row' }, make('h3', {}, this.button), this.words,
      make('p', { class: 'figures' }, figure('in', 'in'), figure('out', 'out'), figure('lag', 'waiting')));
    this.node = make('li', { class: 'card', id: `pipeline-${name}` }, row);
    this.button.addEventListener('click', () => toggle(this.name));
  }

  update(view, pipeline) {
    const { now_ms: now } = view;
    const found = this.condition = condition(pipeline, now);
    put(this.words, found.words);
    mark(this.node, 'good', found.good);
    mark(this.node, 'warn', found.bad === 1);
    mark(this.node, 'bad', found.bad > 1);
    mark(this.node, 'flows', pipeline.rates.records_in > 0);
    put(this.figures.in, rate(pipeline.rates.records_in));
    put(this.figures.out, rate(pipeline.rates.records_out));
    const lag = pipeline.lag_records ?? pipeline.lag_bytes;
    put(this.figures.lag, lag === null ? '–' : pipeline.lag_records === null ? size(lag) : number(lag));
    const { way } = pipeline;
    this.text = [pipeline.name, found.words, way.source, way.stream, way.sink, way.format, pipeline.state, ...way.transforms].join(' ').toLowerCase();
    const isOpen = open.has(this.name);
    attribute(this.button, 'aria-expanded', isOpen);
    if (isOpen && asked.has(this.name)) {
      if (!this.inside) {
        this.inside = new Inside(this.name);
        this.node.append(this.inside.node);
        attribute(this.button, 'aria-controls', this.inside.node.id);
      }
      this.inside.update(view, pipeline);
    } else if (!isOpen) this.close();
  }

  close() {
    this.inside?.node.remove();
    this.inside = null;
    attribute(this.button, 'aria-controls', null);
    attribute(this.button, 'aria-expanded', false);
  }
}

/** A gauge: what it is, how much of how much, a meter. */
class Gauge {
  constructor(label) {
    this.what = make('span', {}, label);
    this.words = make('span');
    this.meter = make('meter', { min: 0, max: 1, 'aria-label': label });
    this.node = make('div', { class: 'gauge' }, make('p', {}, this.what, this.words), this.meter);
  }

  update(used, all, words) {
    attribute(this.meter, 'value', all ? Math.min(1, used / all).toFixed(3) : 0);
    put(this.words, words);
  }
}

/** A table that a keyboard can scroll, where it is too wide. */
const scroll = (label, table) => make('div', { class: 'scroll', role: 'group', tabindex: 0, 'aria-label': label }, table);

/** What is seen of a pipeline that is open. */
class Inside {
  constructor(name) {
    const part = (title, ...children) => make('section', {}, make('h4', {}, title), ...children);
    this.way = make('ol', { class: 'way', 'aria-label': `the way of the records of ${name}` });
    this.empty = make('p', { class: 'empty' }, make('span'));
    this.command = make('code');
    this.empty.append(this.command);
    this.panels = make('div');
    this.spark = new Spark();
    this.chunk = new Gauge('open chunk');
    this.outbox = new Gauge('promised, not delivered');
    this.lag = make('p', { class: 'lagline' });
    this.five = make('dl', { class: 'positions' });
    this.group = new Group();
    this.groupPart = part('Group', this.group.node);
    this.shardsTitle = make('summary');
    this.shardsRows = make('tbody');
    const heads = ['shard', 'released', 'delivered', 'sealed', 'read', 'tail'];
    this.shards = make('details', { class: 'shards' }, this.shardsTitle, scroll('shards',
      make('table', {}, make('thead', {}, make('tr', {}, ...heads.map((head, n) => make('th', { scope: 'col', class: n ? 'n' : '' }, head)))), this.shardsRows)));
    this.delivered = make('tbody', { class: 'objects' });
    const columns = [['object', ''], ['rows', 'n'], ['size', 'n'], ['when', 'n']].map(([head, kind]) => make('th', { scope: 'col', class: kind }, head));
    this.deliveredPart = part('Last delivered', make('div', { class: 'scroll' },
      make('table', {}, make('thead', {}, make('tr', {}, ...columns)), this.delivered)));
    this.aside = make('ul', { class: 'aside-list' });
    this.asidePart = part('Set aside', this.aside);
    this.about = make('p', { class: 'about' });
    // Of one that has never run there is nothing to draw.
    this.drawn = [this.way, make('div', { class: 'two' }, part('Last minute', this.spark.node), part('Buffer', this.chunk.node, this.outbox.node)),
      part('Positions', this.lag, this.five, this.shards)];
    const [way, ...rest] = this.drawn;
    this.node = make('div', { class: 'inside', id: `inside-${name}` }, way, this.empty, this.panels, ...rest, this.groupPart, this.deliveredPart, this.asidePart, this.about);
  }

  update(view, pipeline) {
    const now = view.now_ms;
    for (const part of this.drawn) show(part, pipeline.way.source);
    if (pipeline.way.source) this.drawWay(view, pipeline);
    this.drawEmpty(view, pipeline);
    list(this.panels, troubles(pipeline, now), panel => panel.key, makePanel, updatePanel);
    show(this.panels, this.panels.firstChild);
    this.spark.update(pipeline.history);
    const { open: chunk } = pipeline;
    if (chunk) this.chunk.update(chunk.bytes, chunk.bytes_max, `${size(chunk.bytes)} of ${size(chunk.bytes_max)}, cut in ${span(chunk.cut_at_ms - now)} at the latest`);
    else this.chunk.update(0, 1, 'none: the next record opens one');
    this.outbox.update(pipeline.outbox_bytes, pipeline.outbox_bytes_max, pipeline.outbox_bytes ? `${size(pipeline.outbox_bytes)} of ${size(pipeline.outbox_bytes_max)}` : 'nothing waits');
    this.drawPositions(pipeline, now);
    show(this.groupPart, pipeline.kafka);
    if (pipeline.kafka) this.group.update(pipeline.kafka);
    this.drawDelivered(pipeline, now);
    show(this.asidePart, pipeline.rejected.length);
    // In an order that stays, or the one that is being read would move.
    const aside = [...pipeline.rejected].sort((a, b) => a.code < b.code ? -1 : 1);
    list(this.aside, aside, rejected => rejected.code, makeAside, (child, item) => updateAside(child, item, now));
    const { revision, counts } = pipeline;
    const about = [`file ${pipeline.file}`, !revision.number ? 'no revision yet' : `revision ${revision.number}${revision.hash ? ` (${revision.hash})` : ''}${revision.since_ms ? ` since ${clock(revision.since_ms, now)}` : ''}`,
      `in ${one(counts.records_in, 'record')}, ${size(counts.bytes_in)}`, `out ${one(counts.records_out, 'row')}, ${size(counts.bytes_out)}, ${one(counts.objects_out, 'object')}`];
    list(this.about, about, byPlace, () => ({ node: make('span') }), (child, text) => put(child.node, text));
  }

  drawWay(view, pipeline) {
    const { way, rates, counts } = pipeline;
    const [kind, ...rest] = way.source.split(' ');
    const stations = [{ kind: 'source', name: way.stream ? kind : rest.join(' ') || kind, sub: way.stream || !rest.length ? '' : kind, figure: rate(rates.records_in), stuck: pipeline.reading_trouble && !pipeline.transforms_failing }];
    const stream = way.stream && view.streams.find(stream => stream.name === way.stream);
    if (way.stream) stations.push({ kind: 'stream', name: way.stream, figure: stream ? size(stream.bytes) : '', meter: stream && stream.bytes_max ? stream.bytes / stream.bytes_max : null, meterLabel: `spool of ${way.stream}`, aside: stream?.refused ? `${number(stream.refused)} refused` : '' });
    way.transforms.forEach((name, n) => {
      const last = n === way.transforms.length - 1;
      stations.push({ kind: 'transform', name, figure: last && counts.dropped ? `${number(counts.dropped)} dropped` : '', stuck: pipeline.transforms_failing });
    });
    stations.push({ kind: 'format', name: way.format, figure: '', aside: counts.rejected ? `${number(counts.rejected)} set aside` : '' });
    stations.push({ kind: 'sink', name: way.sink, wide: true, figure: rate(rates.records_out), sub: rates.bytes_out ? `${size(rates.bytes_out)}/s` : '', stuck: pipeline.sink_trouble || pipeline.state === 'stopped', aside: pipeline.sink_trouble ? 'blocked' : '' });
    list(this.way, stations, byPlace, () => {
      const child = { kind: make('small'), name: make('strong'), figure: make('span', { class: 'figure' }), aside: make('span', { class: 'aside' }), meter: make('meter', { min: 0, max: 1, high: .8 }) };
      child.node = make('li', {}, child.kind, child.name, child.figure, child.aside, child.meter);
      return child;
    }, (child, station) => {
      put(child.kind, station.sub ? `${station.kind} · ${station.sub}` : station.kind);
      put(child.name, station.name);
      attribute(child.name, 'title', station.name.length > 30 ? station.name : null);
      put(child.figure, station.figure); show(child.figure, station.figure);
      put(child.aside, station.aside); show(child.aside, station.aside);
      show(child.meter, station.meter !== null && station.meter !== undefined);
      if (station.meterLabel) { attribute(child.meter, 'value', (station.meter ?? 0).toFixed(3)); attribute(child.meter, 'aria-label', station.meterLabel); }
      mark(child.node, 'stuck', station.stuck); mark(child.node, 'wide', station.wide);
    });
  }

  drawEmpty(view, pipeline) {
    const { way, counts } = pipeline;
    const kind = way.source.split(' ')[0];
    const isEmpty = !counts.records_in && pipeline.state === 'running' && !pipeline.reading_trouble;
    show(this.empty, isEmpty);
    if (!isEmpty) return;
    const sent = view.doors && (kind === 'firehose' || kind === 'http');
    put(this.empty.firstChild, sent ? 'No records yet. Send one:' : kind === 'file' ? 'No records yet: no file matches, or they are empty.' : kind === 'stdin' ? 'No records yet: they are lines of the standard input.' : pipeline.kafka && !pipeline.kafka.owned ? 'No records yet: this node has no partitions now.' : 'No records yet.');
    show(this.command, sent);
    if (sent) put(this.command, curl(view.doors, way.stream));
  }

  drawPositions(pipeline, now) {
    const { shards, lag_records: records, lag_bytes: bytes, oldest_undelivered_ms: oldest } = pipeline;
    const lag = records ?? bytes;
    const inWords = records === null ? size : count => one(count, 'record');
    const age = oldest === null ? '' : `, the oldest ${span(now - oldest)} old`;
    put(this.lag, lag === null ? (age ? `Not everything is delivered${age}.` : '') : lag || age ? `${inWords(lag)} not delivered yet${age}.` : shards.length ? 'Everything is delivered.' : 'Nothing was read yet.');
    const only = pipeline.shards_known <= 1 && shards[0];
    const unit = gap => (records === null ? size : number)(Number(gap));
    const places = ['released', 'delivered', 'sealed', 'read', 'tail'];
    const gaps = places.map((place, n) => n ? shards.reduce((sum, shard) => sum + whole(shard[place]) - whole(shard[places[n - 1]]), 0n) : 0n);
    const lies = [() => '', gap => `${unit(gap)} to release`, gap => `${unit(gap)} promised`, gap => `${unit(gap)} in the open chunk`, gap => `${unit(gap)} unread`];
    list(this.five, shards.length ? places.map((place, n) => ({ place, gap: gaps[n], says: lies[n], value: only ? only[place] : null })) : [], item => item.place, item => {
      const child = { value: make('dd'), gap: make('dd', { class: 'gap' }) };
      child.node = make('div', {}, make('dt', {}, item.place), child.value, child.gap);
      return child;
    }, (child, { gap, says, value }) => {
      put(child.value, value === null ? '' : grouping(value)); show(child.value, value !== null);
      put(child.gap, gap ? says(gap) : '');
      mark(child.node, 'waits', gap);
    });
    show(this.shards, pipeline.shards_known > 1);
    put(this.shardsTitle, pipeline.shards_known > shards.length ? `${number(shards.length)} of ${one(pipeline.shards_known, 'shard')}` : one(shards.length, 'shard'));
    list(this.shardsRows, this.shards.open ? shards : [], shard => shard.shard, shard => {
      const cells = places.map(() => make('td', { class: 'n mono' }));
      const name = make('td', { class: 'name', title: shard.shard });
      return { name, cells, node: make('tr', {}, name, ...cells) };
    }, (child, shard) => {
      put(child.name, shard.name ?? shard.shard);
      places.forEach((place, n) => put(child.cells[n], grouping(shard[place])));
    });
  }

  drawDelivered(pipeline, now) {
    show(this.deliveredPart, pipeline.delivered.length);
    list(this.delivered, pipeline.delivered, byPlace, () => {
      const child = { name: make('td', { class: 'name' }), rows: make('td', { class: 'n' }), size: make('td', { class: 'n' }), when: make('time') };
      child.node = make('tr', {}, child.name, child.rows, child.size, make('td', { class: 'n' }, child.when));
      return child;
    }, (child, object) => {
      put(child.name, below(object.object, pipeline.way.sink));
      attribute(child.name, 'title', object.object);
      put(child.rows, number(object.rows));
      put(child.size, size(object.bytes));
      ago(child.when, object.at_ms, now);
    });
  }
}

/** Such as `orders 0-3,7; users 1`. */
function owned(owns, all) {
  const said = owns.reduce((sum, { count }) => sum + count, 0);
  return [...owns.map(({ topic, partitions }) => `${topic} ${partitions}`), ...(said < all ? [`${number(all - said)} more of other topics`] : [])].join('; ');
}

/** The group of a Kafka source: who owns what. */
class Group {
  constructor() {
    const table = (heads, rows) => scroll(`${heads[0][0]}s of the group`, make('table', {}, make('thead', {}, make('tr', {}, ...heads.map(([head, kind]) => make('th', { scope: 'col', class: kind }, head)))), rows));
    const folded = (title, ...children) => make('details', { class: 'folded' }, title, ...children);
    this.about = make('p', { class: 'about' });
    this.here = make('p');
    this.membersTitle = make('summary');
    this.membersRows = make('tbody', { class: 'members' });
    this.members = folded(this.membersTitle, table([['member', ''], ['host', ''], ['partitions', 'n'], ['which', '']], this.membersRows));
    this.partitionsTitle = make('summary');
    this.partitionsRows = make('tbody', { class: 'parts' });
    this.partitions = folded(this.partitionsTitle, table([['partition', ''], ['committed', 'n'], ['read', 'n'], ['end', 'n'], ['lag', 'n'], ['state', '']], this.partitionsRows));
    this.node = make('div', { class: 'group' }, this.about, this.here, this.members, this.partitions);
  }

  update({ group, member, protocol, owned: count, paused, lag, owns, partitions, members, members_known: known }) {
    const about = [`group ${group}`, `${protocol} protocol`, member ? `this node is ${member}` : 'this node has not joined yet'];
    list(this.about, about, byPlace, () => ({ node: make('span') }), (child, text) => put(child.node, text));
    const waits = paused ? `, ${one(paused, 'partition')} paused as what was read waits` : '';
    put(this.here, count ? `This node owns ${one(count, 'partition')}: ${owned(owns, count)}. ${lag ? `${one(lag, 'offset')} behind` : 'Nothing behind'}${waits}.`
      : member ? 'This node owns no partitions now: others have all of them, or they are being shared out.' : 'The group has not let this node in yet.');
    show(this.members, members.length);
    // A few are seen at once; then it is the reader's choice.
    if (members.length && !this.looked) { this.looked = true; this.members.open = members.length <= 6; }
    put(this.membersTitle, known > members.length ? `${number(members.length)} of ${one(known, 'member')}` : one(members.length, 'member'));
    list(this.membersRows, this.members.open ? members : [], member => member.id, member => {
      const child = { client: make('span'), here: make('b', {}, ' this node'), host: make('td'), owned: make('td', { class: 'n' }), owns: make('td') };
      child.node = make('tr', {}, make('td', { class: 'name', title: member.id }, child.client, child.here), child.host, child.owned, child.owns);
      return child;
    }, (child, member) => {
      put(child.client, member.client || member.id);
      show(child.here, member.here); mark(child.node, 'here', member.here);
      put(child.host, member.host);
      put(child.owned, number(member.owned));
      put(child.owns, owned(member.owns, member.owned));
    });
    show(this.partitions, partitions.length);
    put(this.partitionsTitle, count > partitions.length ? `${number(partitions.length)} of ${one(count, 'partition')}` : one(partitions.length, 'partition'));
    list(this.partitionsRows, this.partitions.open ? partitions : [], ({ topic, partition }) => `${topic}/${partition}`, ({ topic, partition }) => {
      const cells = Array.from({ length: 4 }, () => make('td', { class: 'n mono' })), name = make('td', { class: 'name' }, `${topic}/${partition}`), how = make('td');
      return { cells, how, node: make('tr', {}, name, ...cells, how) };
    }, ({ cells, how }, { committed, read, end, lag, paused }) => {
      [committed, read, end, lag].forEach((offset, n) => put(cells[n], offset === null ? '–' : number(offset)));
      put(how, paused ? 'paused' : '');
    });
  }
}

/** A position as a number; one that is none has nothing between it and others. */
const whole = position => /^\d+$/.test(position) ? BigInt(position) : 0n;
/** A position with its digits in threes. */
const grouping = digits => digits.replace(/\B(?=(\d{3})+$)/g, '\u202f');

/** An object's name below the sink's URL. */
function below(object, sink) {
  const folder = sink.replace(/^(file:\/\/)?(\.\/)?/, '').replace(/\/$/, '');
  const found = folder ? object.indexOf(`${folder}/`) : -1;
  return found < 0 ? object : object.slice(found + folder.length + 1);
}

function curl({ address, credentials }, stream) {
  const host = address.replace(/^(0\.0\.0\.0|\[::\])(?=:\d+$)/, location.hostname);
  const signed = credentials ? '--aws-sigv4 aws:amz:us-east-1:firehose --user "$ACCESS_KEY_ID:$SECRET_ACCESS_KEY" ' : '';
  return `curl ${signed}-d '{"hello":"world"}' http://${host}/streams/${encodeURIComponent(stream)}/records`;
}

/** What is wrong with a pipeline, each with a title, text, hint and how it goes on. */
function troubles(pipeline, now) {
  const found = [];
  const { sink_trouble: sink, reading_trouble: reading, pending, state, why } = pipeline;
  const again = (trouble, things) => {
    const next = trouble.next_at_ms > now ? `, next in ${span(trouble.next_at_ms - now)}` : '';
    const waiting = trouble.waiting ? `${one(trouble.waiting, things)} ${trouble.waiting === 1 ? 'waits' : 'wait'}; ` : '';
    return `${waiting}${one(trouble.attempts, 'attempt')} in ${span(now - trouble.since_ms)}${next}. Nothing is lost: it is tried until it goes.`;
  };
  if (state === 'stopped') found.push({ key: 'stopped', title: 'Stopped', text: why ?? 'A fault has ended it.', more: 'A changed file or a reload starts it again, where it was.' });
  if (state === 'waiting' && !hasNeverRun(pipeline)) found.push({ key: 'waiting', title: 'Cannot start now', text: why ?? '', more: 'It is tried again.' });
  if (sink) found.push({ key: 'sink', title: `Blocked: ${cause(sink.message)} since ${clock(sink.since_ms, now)}`, text: sink.message, hint: sink.hint, more: again(sink, 'object') });
  if (reading) found.push({ key: 'reading', title: `Nothing is read: ${cause(reading.message)} since ${clock(reading.since_ms, now)}`, text: reading.message, hint: reading.hint, more: again(reading, 'shard') });
  if (pipeline.transforms_failing) found.push({ key: 'transforms', title: 'Transforms set every record aside', text: reading ? 'They cannot work now.' : 'Not one record of the last batch came through. Why is below, under “Set aside”.' });
  if (pending && hasNeverRun(pipeline)) found.push({ key: 'pending', title: `Its file is wrong since ${clock(pending.since_ms, now)}`, code: pending.problems, more: 'Nothing runs yet. Mend the file, and it starts at once.' });
  else if (pending) found.push({ key: 'pending', mild: true, title: `What the file says since ${clock(pending.since_ms, now)} cannot be taken`, code: pending.problems, more: `${state === 'running' ? `Revision ${pipeline.revision.number} runs on. ` : ''}Mend the file, and it takes effect at once.` });
  if (state === 'draining') found.push({ key: 'draining', mild: true, title: 'Draining', text: why ? `${why[0].toUpperCase()}${why.slice(1)}.` : 'What was acknowledged is being delivered.' });
  return found;
}

function makePanel() {
  const child = { title: make('h4'), text: make('p'), code: make('pre'), hint: make('p', { class: 'hint' }), more: make('p', { class: 'quiet' }) };
  child.node = make('div', { class: 'panel' }, child.title, child.text, child.code, child.hint, child.more);
  return child;
}

function updatePanel(child, panel) {
  mark(child.node, 'mild', panel.mild);
  for (const key of ['title', 'text', 'code', 'hint', 'more']) { put(child[key], panel[key]); show(child[key], panel[key]); }
}

function makeAside() {
  const child = { count: make('b'), code: make('span'), when: make('time', { class: 'quiet' }), message: make('p'), sample: make('code', { class: 'sample' }) };
  child.node = make('li', {}, make('p', {}, make('span', {}, child.count, ' × ', child.code), child.when), child.message, child.sample);
  return child;
}

function updateAside(child, rejected, now) {
  put(child.count, number(rejected.records));
  put(child.code, `${rejected.code} (${rejected.reason})`);
  ago(child.when, rejected.at_ms, now);
  // From afar neither is told.
  const isWithheld = !rejected.message && !rejected.sample;
  put(child.message, isWithheld ? 'What it holds is shown on the machine itself only.' : rejected.message);
  put(child.sample, rejected.sample || '(empty)');
  show(child.sample, !isWithheld);
}

/** Records read per second over the last minute, and when objects were delivered. */
class Spark {
  constructor() {
    this.area = make('path', { class: 'area' });
    this.line = make('path', { class: 'line' });
    this.out = make('path', { class: 'out' });
    this.svg = make('svg', { class: 'spark', viewBox: '0 0 59 30', preserveAspectRatio: 'none', role: 'img' }, this.area, this.line, this.out);
    this.peak = make('span');
    this.node = make('div', {}, this.svg, make('p', { class: 'legend' }, this.peak, make('span', { class: 'key-out' }, '▎delivered')));
  }

  update(history) {
    const steps = history.slice(1).map((counts, n) => ({ came: counts.records_in - history[n].records_in, went: counts.objects_out - history[n].objects_out }));
    const peak = Math.max(0, ...steps.map(step => step.came));
    const left = 59 - steps.length;
    const points = steps.map((step, n) => `${left + n + .5} ${(28 - (peak ? step.came / peak * 25 : 0)).toFixed(1)}`);
    attribute(this.line, 'd', points.length > 1 ? `M${points.join('L')}` : '');
    attribute(this.area, 'd', points.length > 1 ? `M${left + .5} 30L${points.join('L')}L58.5 30Z` : '');
    attribute(this.out, 'd', steps.map((step, n) => step.went ? `M${left + n + .5} 30v-5` : '').join(''));
    put(this.peak, peak ? `records read per second; peak ${number(peak)}` : 'nothing was read');
    attribute(this.svg, 'aria-label', peak ? `records read per second over the last minute; peak ${number(peak)}` : 'nothing was read in the last minute');
  }
}

// --- the whole

let last = null, heard = null, asked = new Set();
let open = new Set(), opened = false, filter = '';

function remember() {
  try { sessionStorage.setItem('open', JSON.stringify([...open])); } catch { /* a private window: then not */ }
}

function toggle(name) {
  if (!open.delete(name)) open.add(name);
  if (open.size > OPEN_MAX) open.delete(open.values().next().value);
  remember();
  draw(last);
  if (open.has(name)) look();
}

/** Opens what was open, else what the address names, else what needs a look, or a few. */
function openAtFirst({ pipelines }) {
  opened = true;
  try {
    open = new Set(JSON.parse(sessionStorage.getItem('open') ?? '[]').slice(0, OPEN_MAX));
    const named = decodeURIComponent(location.hash.slice(1)).replace(/^pipeline-/, '');
    if (pipelines.some(pipeline => pipeline.name === named)) open.add(named);
  } catch { /* as if nothing was */ }
  if (open.size) return;
  const bad = pipelines.filter(pipeline => condition(pipeline, 0).bad > 0);
  for (const { name } of (pipelines.length <= OPEN_AT_FIRST ? pipelines : bad.slice(0, OPEN_AT_FIRST))) open.add(name);
}

function draw(view) {
  if (!view) return;
  const { pipelines, now_ms: now } = view;
  put(at('version'), view.version);
  put(at('uptime'), span(now - view.started_ms));
  attribute(at('uptime'), 'title', `since ${exactly(view.started_ms)}`);
  const { used_bytes: used, budget_bytes: budget } = view.memory;
  attribute(at('memory'), 'value', budget ? (used / budget).toFixed(3) : 0);
  put(at('memory-words'), budget ? `${size(used)} of ${size(budget)}` : size(used));
  // Its first line; what else is said of a pipeline stands with it.
  const ills = view.ills.slice(0, ILLS_SHOWN).map(ill => ill.split('\n')[0]);
  if (view.ills.length > ills.length) ills.push(`and ${number(view.ills.length - ills.length)} more, in healthz`);
  list(at('ills-list'), ills, byPlace, () => ({ node: make('li') }), (child, ill) => put(child.node, ill));
  show(at('ills'), view.ills.length);

  put(at('pipelines-number'), pipelines.length ? number(pipelines.length) : '');
  show(at('none'), !pipelines.length);
  if (!pipelines.length) put(at('none'), 'No pipelines yet: put a file such as clicks.yaml into the folder that `hydrant run` was started with.');
  show(at('filter-label'), pipelines.length >= FILTER_FROM);
  list(at('list'), pipelines, pipeline => pipeline.name, pipeline => new Card(pipeline.name), (card, pipeline) => {
    card.update(view, pipeline);
    show(card.node, !filter || filter.split(/\s+/).every(word => card.text.includes(word)));
  });
  if (filter) put(at('pipelines-number'), `${number([...at('list').children].filter(card => !card.hidden).length)} of ${number(pipelines.length)}`);

  const streams = view.streams.slice(0, STREAMS_SHOWN);
  show(at('streams'), streams.length);
  put(at('streams-number'), number(view.streams.length));
  list(at('streams-rows'), streams, stream => stream.name, stream => {
    const child = { meter: make('meter', { min: 0, max: 1, high: .8, 'aria-label': `spool of ${stream.name}` }), fill: make('span'), records: make('td', { class: 'n' }), refused: make('td', { class: 'n' }) };
    child.node = make('tr', {}, make('th', { scope: 'row' }, stream.name), make('td', { class: 'fill' }, child.meter, ' ', child.fill), child.records, child.refused);
    return child;
  }, (child, stream) => {
    show(child.meter, stream.bytes_max);
    if (stream.bytes_max) attribute(child.meter, 'value', (stream.bytes / stream.bytes_max).toFixed(3));
    put(child.fill, stream.bytes_max ? `${size(stream.bytes)} of ${size(stream.bytes_max)}` : size(stream.bytes));
    put(child.records, number(stream.records));
    put(child.refused, number(stream.refused));
  });
  show(at('streams-more'), view.streams.length > STREAMS_SHOWN);
  put(at('streams-more'), `and ${number(view.streams.length - STREAMS_SHOWN)} more, in api/status`);

  show(at('left'), view.without_file.length);
  list(at('left-list'), view.without_file, left => left.name, left => {
    const child = { words: make('span') };
    child.node = make('li', {}, make('strong', {}, left.name), ' ', child.words, ' ', make('code', {}, left.folder));
    return child;
  }, (child, left) => {
    const words = left.drained ? ['drained: nothing that was acknowledged is undelivered'] : [];
    if (left.promised) words.push(`${one(left.promised, 'object')} promised and not delivered`);
    if (left.holds.length) words.push(`records are kept for it in ${left.holds.join(', ')}`);
    put(child.words, words.join('; ') || 'nothing waits');
  });
  drawHealth(view);
}

function drawHealth({ pipelines, ills }) {
  const cards = [...(at('list').kept?.values() ?? [])];
  const bad = cards.filter(card => card.condition.bad > 1).length, mild = cards.filter(card => card.condition.bad === 1).length;
  const many = bad + mild;
  const all = pipelines.length;
  const words = many ? `${many === all && all > 1 ? `all ${number(all)} pipelines need` : many === all ? 'the pipeline needs' : `${number(many)} of ${number(all)} pipelines need${many === 1 ? 's' : ''}`} a look`
    : ills.length ? 'not all is well' : all === 0 ? 'nothing to do' : all === 1 ? 'all is well' : `all ${number(all)} pipelines are well`;
  put(at('health'), words);
  mark(at('health'), 'bad', bad || ills.length);
  mark(at('health'), 'warn', !bad && mild && !ills.length);
  const title = many ? `(${many}) hydrant` : 'hydrant';
  if (document.title !== title) document.title = title;
  // Said aloud only when something became better or worse, not each second.
  const now = new Map(cards.map(card => [card.name, card.condition.brief]));
  if (heard) {
    const changed = [...now].filter(([name, brief]) => heard.has(name) && heard.get(name) !== brief);
    if (changed.length) put(at('said'), changed.length > 3 ? `${changed.length} pipelines changed: ${words}` : changed.map(([name, brief]) => `${name}: ${brief}`).join('; '));
  }
  heard = now;
}

// --- asking

let timer = null, waiting = 0, goneSince = null, asking = null;

async function look() {
  clearTimeout(timer);
  if (document.hidden) return;
  asking?.abort();
  const mine = asking = new AbortController();
  const patience = setTimeout(() => mine.abort(), PATIENCE_MS);
  const names = opened ? [...open] : null;
  try {
    const query = names ? `?${new URLSearchParams([['only', ''], ...names.map(name => ['only', name])])}` : '?only=';
    const view = await fetch(`api/status${query}`, { signal: mine.signal, cache: 'no-store' })
      .then(answer => answer.ok ? answer.json() : null).catch(() => null);
    if (mine !== asking) return;
    if (!view) return gone();
    back(view);
    waiting = POLL_MS;
    asked = new Set(names ?? []);
    if (!opened) {
      openAtFirst(view);
      if (open.size) waiting = 0;
    }
    draw(last = view);
  } finally {
    clearTimeout(patience);
    if (mine === asking) timer = setTimeout(look, waiting);
  }
}

function gone() {
  goneSince ??= Date.now();
  waiting = Math.min(WAIT_MAX_MS, Math.max(POLL_MS, waiting * 2));
  const { minute, second } = moment(goneSince);
  put(at('gone'), `Not reachable since ${minute}:${second}. What is shown is from then; it is asked again and again.`);
  mark(document.body, 'stale', true);
  if (document.title !== '(?) hydrant') document.title = '(?) hydrant';
}

/** The daemon answers, again or as ever. One of another version has another page. */
function back(view) {
  if (last && view.version !== last.version) location.reload();
  if (goneSince === null) return;
  goneSince = null;
  at('gone').replaceChildren();
  mark(document.body, 'stale', false);
}

document.addEventListener('visibilitychange', () => document.hidden ? clearTimeout(timer) : look());
window.addEventListener('online', look);
at('filter').addEventListener('input', event => { filter = event.target.value.trim().toLowerCase(); draw(last); });
look();
