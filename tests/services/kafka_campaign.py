"""Everything goes wrong, by seed, while a group of hydrants reads one topic: each record must be delivered once.

    target/services/venv/bin/python tests/services/kafka_campaign.py --takeovers 100 --seed 7 --seconds 300

(with HYDRANT=/path/to/hydrant). Three nodes run two pipelines each, one with one object a chunk, one with several and error
objects, in groups that speak the two protocols (the seed says which speaks which). A producer writes all the time. Nodes
are killed and started again, some without their state folder, frozen until others have their partitions and thawed, and
stopped gently; the broker is killed; guests join the groups and leave. Faults end when so many takeovers were seen. Then all
must be delivered, and every object is held against the topic. The last lines are the counts; the exit code is 1 if a record
is missing, there twice, foreign or misplaced. `campaign.log` in the folder tells who owned what when, and what was done.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions
from confluent_kafka.admin import OffsetSpec

from hydrant import Hydrant, await_that
from kafka_broker import Broker
from kafka_records import NAME, Folder, TopicPartition, compare, make_topic, producer, read_topic, send

TOPIC = "numbers"
KINDS = ["amber", "blue", "cyan", "dun", "ebony"]
SHARD = re.compile(r'hydrant_position\{.*pipeline="([^"]+)".*shard="(k[0-9a-f]{8}p(\d+)s[0-9a-f]{12})"')
TAKEN_OVER = re.compile(r'hydrant_kafka_plans_taken_over_total\{.*pipeline="([^"]+)"')
# A member that is frozen or dead is given up after this; the broker says it to those of the consumer protocol.
SESSION = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "300"}
QUICK = {"reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "500"}


class Campaign:
    """The nodes, what is done to them, and what came of it."""

    def __init__(self, broker, folder, seed, nodes=3, partitions=12, rate=1500, only=None):
        self.broker, self.folder, self.seed, self.partitions, self.only = broker, folder, seed, partitions, only
        self.rng, self.start, self.did = random.Random(seed), time.monotonic(), Counter()
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file, self.log_lock = open(folder / "campaign.log", "w", encoding="utf-8"), threading.Lock()
        protocols = ["classic", "consumer"] if seed % 2 else ["consumer", "classic"]
        self.protocols = dict(zip(["plain", "split"], protocols, strict=True))
        self.topic = f"{TOPIC}-{folder.name}"
        self.lakes = {name: Folder(folder / "lake" / name) for name in self.protocols}
        self.nodes = [Node(self, f"node-{n}") for n in range(nodes)]
        self.feed = Feed(self, rate)
        self.watching = threading.Event()

    def log(self, *words):
        now = time.time()
        stamp = time.strftime("%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}"
        with self.log_lock:
            print(f"{stamp} {time.monotonic() - self.start:7.2f}", *words, file=self.log_file, flush=True)

    def group(self, name):
        return f"{self.topic}-{name}"

    def pipelines(self):
        """The files of a node."""
        made = {}
        for name, protocol in self.protocols.items():
            kafka = {"brokers": [self.broker.address], "topics": [self.topic], "group": self.group(name)}
            sink = {"object_store": {"url": str(self.lakes[name].path), "prefix": ""}}
            session = SESSION if protocol == "classic" else {}
            if name == "split":
                sink["object_store"]["prefix"] = "kind={kind}/"
            made[name] = {
                "source": {"kafka": kafka | {"protocol": protocol, "client": QUICK | session}},
                "format": {"lines": {"compression": "gzip"}},
                "buffer": {"size": "64 KiB", "interval": "1s"},
                "sink": sink,
            }
        return made

    def run(self, takeovers, seconds):
        """Does its worst; returns the verdicts by pipeline. `seconds` limits the faults, not what comes behind."""
        make_topic(self.broker, self.topic, self.partitions)
        self.log("protocols", self.protocols)
        for node in self.nodes:
            node.spawn()
        watcher = threading.Thread(target=self.watch, daemon=True)
        watcher.start()
        feeder = threading.Thread(target=self.feed.run, daemon=True)
        feeder.start()
        try:
            self.await_settled(shared=True)
            deadline = time.monotonic() + seconds
            names = self.only or "kill kill kill freeze freeze stop guest guest break_broker".split()
            faults = [getattr(self, name) for name in names]
            bag = []
            while self.takeovers() < takeovers and time.monotonic() < deadline:
                if not bag:
                    bag = self.rng.sample(faults, len(faults))
                bag.pop()()
                if self.rng.random() < 0.6:
                    self.await_settled(shared=True)
                else:
                    self.linger(1)
            self.feed.stopping.set()
            feeder.join()
            assert self.feed.failed == [], f"not written: {self.feed.failed[:3]}"
            self.log("no more faults,", self.feed.written, "records are written")
            self.await_settled()
            await_that(self.lag_is_gone, "all is committed", at_most_s=180)
            for node in self.nodes:
                node.stop()
            self.log("all nodes have left")
        finally:
            self.watching.set()
            watcher.join()
            self.feed.stopping.set()
            feeder.join()
            for node in self.nodes:
                node.thaw()
                node.daemon.kill()
            self.log_file.close()
        records = read_topic(self.broker, self.topic)
        return {name: compare(records, lake.objects()) for name, lake in self.lakes.items()}

    # Faults.

    def kill(self):
        """One or two nodes, at once or when others have what was theirs; some lose their state folder."""
        victims = self.rng.sample(self.nodes, 2 if self.rng.random() < 0.25 else 1)
        self.linger(1.2)
        for node in victims:
            node.kill()
        if self.rng.random() < 0.5:
            self.await_settled()
        for node in victims:
            if self.rng.random() < 0.5:
                node.forget()
            node.spawn()

    def freeze(self):
        """One node sleeps over its session, wakes up when another has its partitions, and believes that it is yesterday."""
        node, *others = self.rng.sample(self.nodes, len(self.nodes))
        self.linger(1.2)
        had = {(name, partition) for name, owned in node.owned.items() for partition in owned}
        before = self.shards()
        node.freeze()
        killed = self.rng.random() < 0.3 and len(others) > 1
        if killed:
            others[0].kill()
        self.await_settled()

        def replaced():
            now = self.shards()
            return not had or any(now[place] - before[place] for place in had)

        await_that(replaced, f"others deliver what was {node.name}'s")
        node.thaw()
        if killed:
            others[0].spawn()

    def stop(self):
        """One node leaves as it should, and comes back."""
        node = self.rng.choice(self.nodes)
        node.stop()
        if self.rng.random() < 0.5:
            self.await_settled()
        node.spawn()

    def guest(self):
        """Somebody joins a group, gets partitions, and leaves without having done anything."""
        name = self.rng.choice(sorted(self.protocols))
        settings = {"bootstrap.servers": self.broker.address, "group.id": self.group(name), "enable.auto.commit": False}
        if self.protocols[name] == "classic":
            settings |= SESSION | {"partition.assignment.strategy": "cooperative-sticky"}
        else:
            settings["group.protocol"] = "consumer"
        guest = Consumer(settings | {"log_level": 0})
        guest.subscribe([self.topic])
        self.log(f"a guest joins {name}")
        self.did["guests"] += 1

        def has_some():
            guest.consume(100, timeout=0.1)
            return guest.assignment()

        got = await_that(has_some, "the guest gets partitions")
        self.log(f"the guest has {sorted(one.partition for one in got)} of {name}, and leaves")
        guest.close()

    def break_broker(self):
        """The broker dies; perhaps a node dies while it is away."""
        self.log("kill the broker")
        self.did["broker restarts"] += 1
        self.broker.kill()
        node = self.rng.choice(self.nodes) if self.rng.random() < 0.5 else None
        if node:
            node.kill()
        self.linger(1)
        self.broker.start()
        self.log("the broker is back")
        if node:
            node.spawn()

    def linger(self, seconds_max):
        """A moment by chance: that is what a fault's moment is made of."""
        self.watching.wait(self.rng.uniform(0, seconds_max))

    # What is seen.

    def await_settled(self, shared=False):
        """Waits until the nodes that run have all partitions of all pipelines, each one owner; `shared`: and each node some."""

        def settled():
            for node in self.nodes:
                node.must_live()
            for name in self.protocols:
                owned = Counter(partition for node in self.nodes if node.awake() for partition in node.owned[name])
                if len(owned) < self.partitions or max(owned.values()) > 1:
                    return False
                if shared and not all(node.owned[name] for node in self.nodes if node.awake()):
                    return False
            return True

        try:
            await_that(settled, "all partitions have an owner", at_most_s=90)
        except AssertionError:
            for node in self.nodes:
                self.log("not settled:", node.name, {name: sorted(of) for name, of in node.owned.items()})
            for name in self.protocols:
                self.log(f"the broker says of {name}:", self.members(name))
            raise
        self.log("settled")

    def members(self, name):
        """The members of a group and their partitions, as the broker knows them; the end of a member's id is enough."""
        (answer,) = self.broker.admin.describe_consumer_groups([self.group(name)]).values()
        of = answer.result(timeout=30)
        places = {one.member_id[-6:]: sorted(place.partition for place in one.assignment.topic_partitions) for one in of.members}
        return f"{of.state.name}, {places}"

    def watch(self):
        while not self.watching.wait(0.2):
            for node in self.nodes:
                node.look()

    def shards(self):
        """By pipeline and partition, the shards that delivered objects are of."""
        found = defaultdict(set)
        for name, lake in self.lakes.items():
            for _, _, files in os.walk(lake.path):
                for match in filter(None, map(NAME.fullmatch, files)):
                    if match["pipeline"] == name:
                        found[name, int(match["partition"])].add(match["shard"])
        return found

    def takeovers(self):
        """How often a partition got another owner, as far as objects show it."""
        return sum(len(shards) - 1 for shards in self.shards().values())

    def lag_is_gone(self):
        for node in self.nodes:
            node.must_live()
        return not any(self.lag(name) for name in self.protocols)

    def lag(self, name):
        """Records of a pipeline that are not committed, by partition."""
        places = [TopicPartition(self.topic, partition) for partition in range(self.partitions)]
        ends = self.broker.admin.list_offsets({place: OffsetSpec.latest() for place in places})
        ends = {place.partition: future.result(timeout=30).offset for place, future in ends.items()}
        asked = self.broker.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self.group(name))])
        (answer,) = [future.result(timeout=30) for future in asked.values()]
        at = {one.partition: max(one.offset, 0) for one in answer.topic_partitions}
        return {place: end - at.get(place, 0) for place, end in ends.items() if end > at.get(place, 0)}

    # What came of it.

    def report(self, verdicts):
        """The counts, as text."""
        nodes_of = {shard: node.name for node in self.nodes for shard in node.had}
        did = ", ".join(f"{count} {what}" for what, count in sorted(self.did.items()))
        lines = [f"seed {self.seed}, {time.monotonic() - self.start:.0f} s: {did}"]
        for name, verdict in verdicts.items():
            moved = 0
            for (of, _), shards in self.shards_in_order().items():
                owners = [nodes_of.get(shard) for shard in shards] if of == name else []
                moved += sum(one != other for one, other in zip(owners, owners[1:]))
            finished = sum(node.finished()[name] for node in self.nodes)
            errors = sum(len(one.values) for one in self.lakes[name].objects() if "errors/" in one.name)
            lines.append(f"{name} ({self.protocols[name]}): {verdict}")
            lines.append(
                f"    {moved} takeovers from another node, {finished} chunks of former owners found half-delivered,"
                f" {errors} records in error objects, {len(self.lakes[name].copies())} handover copies left"
            )
        return "\n".join(lines)

    def shards_in_order(self):
        """By pipeline and partition, the shards in the order of their objects' offsets."""
        found = defaultdict(dict)
        for name, lake in self.lakes.items():
            for one in sorted(lake.objects(), key=lambda one: one.start):
                found[name, one.partition][one.shard] = None
        return found

    def explain(self, verdicts):
        """Of the first things that are wrong: the objects, their owners, and what was done and logged at that time."""
        texts, history = [], (self.folder / "campaign.log").read_text().splitlines()
        for name, verdict in verdicts.items():
            objects = self.lakes[name].objects()
            for what, first in verdict.wrong().items():
                texts.append(f"=== {name}: {what}: {first}")
                shards = set(re.findall(r"k[0-9a-f]{8}p\d+s[0-9a-f]{12}", str(first)))
                for partition, offset in [(one[0], one[1]) for one in first if what in ("missing", "twice")]:
                    near = [one for one in objects if one.partition == partition and one.start - 1000 <= offset < one.end + 1000]
                    for one in sorted(near, key=lambda one: one.start):
                        at = (self.lakes[name].path / one.name).stat().st_mtime
                        texts.append(f"{time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at * 1000) % 1000:03d} {one.name}")
                        shards.add(one.shard)
                for shard in sorted(shards):
                    texts += [line for line in history if shard in line]
                    for node in self.nodes:
                        lines = [line for line in node.daemon.log.read_text(errors="replace").splitlines() if shard in line]
                        texts += [f"{node.name}: {line}" for line in lines[:20]]
        return "\n".join(texts)


class Node:
    """One hydrant, and what the watcher last saw of it."""

    def __init__(self, campaign, name):
        self.campaign, self.name = campaign, name
        self.daemon = Hydrant(campaign.folder / name, campaign.pipelines())
        self.owned = {pipeline: {} for pipeline in campaign.protocols}
        # Shards that it ever had; plans that it finished for others, in this life and in those before.
        self.had, self.now, self.before = set(), Counter(), Counter()
        self.frozen = False
        self.lock = threading.Lock()

    def spawn(self):
        self.campaign.log(f"start {self.name}")
        self.daemon.spawn()

    def kill(self):
        self.tell("kill", "kills")
        with self.lock:
            self.thaw()
            self.daemon.kill()
            self.forget_life()

    def stop(self):
        self.tell("stop", "gentle stops")
        with self.lock:
            self.daemon.stop()
            self.forget_life()

    def freeze(self):
        self.tell("freeze", "freezes")
        with self.lock:
            self.daemon.process.send_signal(signal.SIGSTOP)
            self.frozen = True

    def thaw(self):
        if self.frozen:
            self.campaign.log(f"thaw {self.name}")
            self.daemon.process.send_signal(signal.SIGCONT)
            self.frozen = False

    def forget(self):
        """Its state folder is gone."""
        self.campaign.log(f"{self.name} loses its state folder")
        self.campaign.did["state folders lost"] += 1
        shutil.rmtree(self.daemon.folder / "state", ignore_errors=True)

    def tell(self, what, counted):
        owned = {pipeline: sorted(of) for pipeline, of in self.owned.items()}
        self.campaign.log(f"{what} {self.name}, which has {owned}")
        self.campaign.did[counted] += 1

    def forget_life(self):
        self.before += self.now
        self.now = Counter()
        self.owned = {pipeline: {} for pipeline in self.owned}

    def finished(self):
        return self.before + self.now

    def awake(self):
        return self.daemon.process is not None and not self.frozen

    def must_live(self):
        if self.awake():
            code = self.daemon.process.poll()
            assert code is None, f"{self.name} ended with {code}:\n{self.daemon.log_tail()}"

    def look(self):
        """Asks it what it has, if it can answer."""
        with self.lock:
            if not self.awake():
                return
            try:
                told = self.daemon.metrics()
            except OSError:
                return
            owned = {pipeline: {} for pipeline in self.owned}
            for key, value in told.items():
                if match := SHARD.match(key):
                    owned[match[1]][int(match[3])] = match[2]
                    self.had.add(match[2])
                elif match := TAKEN_OVER.match(key):
                    self.now[match[1]] = int(value)
            for pipeline, of in owned.items():
                came = [shard for shard in of.values() if shard not in self.owned[pipeline].values()]
                went = [shard for shard in self.owned[pipeline].values() if shard not in of.values()]
                if came or went:
                    self.campaign.log(f"{self.name} {pipeline} +{came} -{went}")
            self.owned = owned


class Feed:
    """Numbered records, all the time, now and then many at once, now and then one that the split pipeline cannot place."""

    def __init__(self, campaign, rate):
        self.campaign, self.rate, self.written, self.failed = campaign, rate, 0, []
        self.stopping, self.rng = threading.Event(), random.Random(campaign.seed + 1)

    def run(self):
        client = producer(self.campaign.broker, message_timeout_ms=300_000, linger_ms=20, **{"reconnect.backoff.max.ms": 500})
        while not self.stopping.wait(0.05):
            burst = 4000 if self.rng.random() < 0.01 else 0
            for _ in range(self.rate // 20 + burst):
                send(client, self.campaign.topic, self.value(), None, self.failed)
        client.flush(300)

    def value(self):
        self.written += 1
        record = {"n": self.written, "text": "x" * self.rng.randrange(120)}
        if self.rng.random() > 0.002:
            record["kind"] = self.rng.choice(KINDS)
        return json.dumps(record).encode()


def run(broker, folder, seed, takeovers, seconds, **more):
    """One campaign: (whether all is well and there were enough takeovers, what to print)."""
    campaign = Campaign(broker, folder, seed, **more)
    verdicts = campaign.run(takeovers, seconds)
    text = campaign.report(verdicts)
    right = not any(verdict.wrong() for verdict in verdicts.values())
    if not right:
        text += "\n" + campaign.explain(verdicts)
    seen = sum(verdict.takeovers for verdict in verdicts.values())
    if seen < takeovers:
        text += f"\nonly {seen} takeovers, {takeovers} were wanted"
    return right and seen >= takeovers, text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--takeovers", type=int, default=100, help="go on until so many were seen")
    parser.add_argument("--seconds", type=float, default=300, help="of faults, at most")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--rate", type=int, default=1500, help="records per second")
    parser.add_argument("--only", nargs="+", help="these faults: kill freeze stop guest break_broker")
    parser.add_argument("--folder", type=Path, help="for everything; a temporary one, removed if all is well")
    told = parser.parse_args()
    folder = told.folder or Path(tempfile.mkdtemp(prefix="kafka-campaign-"))
    print(f"in {folder}")
    broker = Broker(folder / "broker").start()
    try:
        more = {"nodes": told.nodes, "partitions": told.partitions, "rate": told.rate, "only": told.only}
        right, text = run(broker, folder / "campaign", told.seed, told.takeovers, told.seconds, **more)
    finally:
        broker.kill()
    print(text)
    if right and told.folder is None:
        shutil.rmtree(folder)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
