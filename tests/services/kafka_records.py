"""What is in a topic and what was delivered of it: made, read by another client, compared record by record."""

import base64
import gzip
import json
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field

import confluent_kafka
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from objects import body, keys

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
NAME = re.compile(
    r"(?P<prefix>(?:[^/]*/)*)(?P<pipeline>[^/]+)-(?P<shard>k(?P<topic>[0-9a-f]{8})(?:p(?P<partition>\d+)|m)s[0-9a-f]{12})"
    r"-(?P<start>\d{16})-(?P<end>\d{16})(?:-p\d+)?(?P<extension>(?:\.[a-z0-9]+)+)"
)


def make_topic(broker, name, partitions=1, **settings):
    """A new topic, which keeps its records; settings by their names, with `_` for `.`."""
    settings = {"retention_ms": -1, **settings}
    config = {key.replace("_", "."): str(value) for key, value in settings.items()}
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
    done(broker.admin.create_topics([new], operation_timeout=30))


def add_partitions(broker, name, total):
    done(broker.admin.create_partitions([NewPartitions(name, total)], operation_timeout=30))


def drop_topic(broker, name):
    done(broker.admin.delete_topics([name], operation_timeout=30))


def drop_records(broker, name, partition, before):
    """Removes all records of a partition before an offset, as retention does."""
    done(broker.admin.delete_records([TopicPartition(name, partition, before)]))


def done(futures):
    for future in futures.values():
        future.result(timeout=30)


def producer(broker, **more):
    """One that writes nothing twice."""
    settings = {"bootstrap.servers": broker.address, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
    return Producer({**settings, **{key.replace("_", "."): value for key, value in more.items()}})


def produce(broker, topic, values, partition=None, **more):
    """Writes the values and waits until the broker has them all. A value is bytes, or (key, value, headers, timestamp in ms)."""
    client, failed = producer(broker, **more), []
    for value in values:
        send(client, topic, value, partition, failed)
    client.flush(60)
    assert not failed and len(client) == 0, f"not written: {failed[:3]}, {len(client)} left"


def produce_transactions(broker, topic, batches, name="transactions", **more):
    """Writes each (values, commit) of the batches in a transaction, which is committed or aborted."""
    client, failed = producer(broker, transactional_id=name, **more), []
    client.init_transactions(60)
    for values, commit in batches:
        client.begin_transaction()
        for value in values:
            send(client, topic, value, None, failed)
        client.flush(60)
        (client.commit_transaction if commit else client.abort_transaction)(60)
    assert not failed, f"not written: {failed[:3]}"


def send(client, topic, value, partition, failed):
    def told(error, _):
        if error:
            failed.append(error)

    key, value, headers, timestamp = value if isinstance(value, tuple) else (None, value, None, 0)
    more = {} if partition is None else {"partition": partition}
    while True:
        try:
            client.produce(topic, value, key, headers=headers, timestamp=timestamp, on_delivery=told, **more)
            client.poll(0)
            return
        except BufferError:
            client.poll(0.1)


def kcat(broker, *arguments, input=b""):
    """The other outside client: what it printed."""
    command = ["kcat", "-b", broker.address, *map(str, arguments)]
    return subprocess.run(command, input=input, capture_output=True, check=True, timeout=120).stdout


@dataclass(frozen=True)
class Record:
    """One record as the topic holds it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple
    timestamp_ms: int


def read_topic(broker, topic):
    """All that read_committed shows of a topic, by a client that is no member of any group."""
    settings = {
        "bootstrap.servers": broker.address,
        "group.id": "outside",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": 32 << 20,
        "log_level": 0,
    }
    client, records = Consumer(settings), []
    try:
        left = set(client.list_topics(topic, timeout=30).topics[topic].partitions)
        client.assign([TopicPartition(topic, partition, confluent_kafka.OFFSET_BEGINNING) for partition in left])
        while left:
            for message in client.consume(10_000, timeout=1):
                if message.error() is None:
                    headers = tuple(message.headers() or [])
                    at = (message.topic(), message.partition(), message.offset())
                    records.append(Record(*at, message.key(), message.value(), headers, message.timestamp()[1]))
                elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise KafkaException(message.error())
    finally:
        client.close()
    return records


@dataclass(frozen=True)
class Object:
    """A delivered object by its name, and the records in it."""

    name: str
    pipeline: str
    # The first digits of the topic's id, and the partition with them, what the shard is a part of; of several: none.
    topic: str
    partition: int | None
    shard: str
    start: int
    end: int
    values: tuple

    @classmethod
    def of(cls, name, data):
        match = NAME.fullmatch(name)
        start, end = int(match["start"]), int(match["end"])
        partition, values = match["partition"] and int(match["partition"]), tuple(values_of(name, data))
        return cls(name, match["pipeline"], match["topic"], partition, match["shard"], start, end, values)


def is_object(name):
    """Whether this is the name of an object of a Kafka pipeline; handover copies and what stores keep for themselves are not."""
    return NAME.fullmatch(name) is not None and not name.startswith("_hydrant/")


def values_of(name, data):
    """The records of an object of lines, plain or gzip, or of rejected ones: their bytes."""
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    assert data == b"" or data.endswith(b"\n"), f"{name} ends within a line"
    lines = data.split(b"\n")[:-1]
    if "errors/" in name:
        return [base64.b64decode(json.loads(line)["rawData"], validate=True) for line in lines]
    return lines


class Folder:
    """A folder sink and what was delivered into it, each object read once: a delivered one never changes."""

    def __init__(self, path):
        self.path, self.known = path, {}
        path.mkdir(parents=True, exist_ok=True)

    def objects(self):
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            if name not in self.known and is_object(name):
                self.known[name] = Object.of(name, path.read_bytes())
        return list(self.known.values())

    def copies(self):
        """The handover copies that lie in it."""
        return [path.name for path in self.path.glob("_hydrant/handover/*/*") if path.suffix == ".sealed"]


class Bucket:
    """The same of a bucket."""

    def __init__(self, s3, name):
        self.s3, self.name, self.known = s3, name, {}

    def objects(self):
        for key in keys(self.s3, self.name):
            if key not in self.known and is_object(key):
                self.known[key] = Object.of(key, body(self.s3, self.name, key))
        return list(self.known.values())


@dataclass
class Verdict:
    """What is wrong with a delivery; nothing, if all lists are empty."""

    records: int = 0
    objects: int = 0
    # Owners that a partition had, beyond its first: by the shards in names.
    takeovers: int = 0
    missing: list = field(default_factory=list)
    twice: list = field(default_factory=list)
    foreign: list = field(default_factory=list)
    overlapping: list = field(default_factory=list)
    misplaced: list = field(default_factory=list)

    def wrong(self):
        """The names of the lists that are not empty, with the first of each."""
        lists = ["missing", "twice", "foreign", "overlapping", "misplaced"]
        return {name: getattr(self, name)[:5] for name in lists if getattr(self, name)}

    def __str__(self):
        lists = ["missing", "twice", "foreign", "overlapping", "misplaced"]
        counts = ", ".join(f"{len(getattr(self, name))} {name}" for name in lists)
        return f"{self.records} records in {self.objects} objects, {self.takeovers} takeovers: {counts}"


def compare(records, objects):
    """Holds the objects of one pipeline against the records of its topics, whose values all differ.

    Each record with a value is in exactly one object; an object holds, in order, only records whose offsets lie in the
    range that its name says; and ranges of a partition do not overlap, whoever's shard they were. (Where partitions were
    merged, the ranges are a shard's own counts.)
    """
    where = {one.value: one for one in records if one.value is not None}
    assert len(where) == sum(one.value is not None for one in records), "a story writes no value twice"
    verdict = Verdict(records=len(where), objects=len(objects))
    found, ranges, shards = defaultdict(list), defaultdict(set), defaultdict(set)
    for one in objects:
        merged = one.partition is None
        ranges[one.topic, one.shard if merged else one.partition].add((one.start, one.end, one.shard))
        shards[one.topic, one.partition].add(one.shard)
        last = defaultdict(lambda: -1)
        for value in one.values:
            record = where.get(value)
            if record is None:
                verdict.foreign.append((one.name, value[:200]))
                continue
            found[value].append(one.name)
            inside = merged or (record.partition == one.partition and one.start <= record.offset < one.end)
            place = record.topic, record.partition
            if not inside or record.offset <= last[place]:
                verdict.misplaced.append((one.name, record.partition, record.offset, last[place]))
            last[place] = record.offset
    verdict.missing = [(one.partition, one.offset) for one in where.values() if one.value not in found]
    twice = [(where[value], names) for value, names in found.items() if len(names) > 1]
    verdict.twice = sorted((one.partition, one.offset, names) for one, names in twice)
    verdict.takeovers = sum(len(of) - 1 for of in shards.values())
    for partition, of in ranges.items():
        in_order = sorted(of)
        for first, second in zip(in_order, in_order[1:]):
            if second[0] < first[1]:
                verdict.overlapping.append((*partition, first, second))
    return verdict
