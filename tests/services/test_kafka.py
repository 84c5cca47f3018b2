"""Hydrant in consumer groups of a real Kafka: what is delivered is the topic, whoever had it and whatever happened to them."""

import json
import os
import random
import re
import socket
import struct
import subprocess
import threading
import urllib.request

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions

from hydrant import await_that, free_port, s3_sink
from kafka_broker import PASSWORD, USERS, java
from kafka_records import (
    CODECS,
    Bucket,
    Folder,
    Object,
    Record,
    add_partitions,
    compare,
    drop_records,
    drop_topic,
    kcat,
    make_topic,
    produce,
    produce_transactions,
    producer,
    read_topic,
    send,
)
from kafka_tokens import CLIENT, SECRET
from proxy import Gate

PROTOCOLS = ["classic", "consumer"]
# New partitions and a broker that is back are noticed so soon, and members that are gone; for those of the consumer
# protocol the broker says when.
QUICK = {"topic.metadata.refresh.interval.ms": "500", "reconnect.backoff.max.ms": "500"}
SESSION = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "300"}


@pytest.fixture
def topic(request):
    """A name of the test's own; it is no topic yet."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")


@pytest.fixture
def lake(tmp_path):
    """A folder sink."""
    return Folder(tmp_path / "lake")


def pipeline(broker, topics, sink, client=None, **more):
    """From topics to gzip lines. `sink` is a folder or a sink; keys that a pipeline has go there, others to `kafka`."""
    here = {key: more.pop(key) for key in ["transforms", "buffer", "errors"] if key in more}
    prefix = more.pop("prefix", None)
    if isinstance(sink, Folder):
        sink = {"object_store": {"url": str(sink.path)}}
    if prefix:
        sink["object_store"]["prefix"] = prefix
    kafka = {"brokers": [broker.address], "topics": topics if isinstance(topics, list) else [topics]}
    kafka |= {"group": f"group-{kafka['topics'][0].strip('^.*')}", "start": "earliest", **more}
    session = {} if more.get("protocol") == "consumer" else SESSION
    kafka["client"] = QUICK | session | (client or {})
    return {
        "source": {"kafka": kafka},
        **here,
        "format": {"lines": {"compression": "gzip"}},
        "buffer": here.get("buffer") or {"size": "64 KiB", "interval": "300ms"},
        "sink": sink,
    }


def numbered(start, end, text="x"):
    """Values that all differ."""
    return [json.dumps({"n": n, "kind": "abcd"[n % 4], "text": text * (n % 50)}).encode() for n in range(start, end)]


def delivered(broker, topics, lake, at_most_s=60, **expected):
    """Waits until no record of the topics is missing, and holds all objects against them."""
    records = [record for topic in ([topics] if isinstance(topics, str) else topics) for record in read_topic(broker, topic)]
    try:
        await_that(lambda: not compare(records, lake.objects()).missing, "all is delivered", at_most_s)
    finally:
        verdict = compare(records, lake.objects())
        print(verdict)
    assert verdict.wrong() == {}, str(verdict)
    return verdict


def metric(daemon, name, **labels):
    """The sum of a metric over all labels but these."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [value for key, value in daemon.metrics().items() if key.split("{")[0] == name and all(w in key for w in wanted)]
    return sum(found)


def says(daemon, *words):
    """The first line of its log in which all of these stand (regular expressions)."""
    for line in daemon.log.read_text(errors="replace").splitlines():
        if all(re.search(word, line) for word in words):
            return line
    return None


class Feeder:
    """Writes numbered values all the time, until it is told to stop."""

    def __init__(self, broker, topic, per_round=50):
        self.broker, self.topic, self.per_round = broker, topic, per_round
        self.stopping, self.written, self.failed = threading.Event(), 0, []
        self.thread = threading.Thread(target=self.feed, daemon=True)
        self.thread.start()

    def feed(self):
        client = producer(self.broker)
        while not self.stopping.wait(0.02):
            for value in numbered(self.written, self.written + self.per_round):
                send(client, self.topic, value, None, self.failed)
            self.written += self.per_round
        client.flush(60)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        assert self.failed == []


def test_the_comparison_notices_what_it_is_for():
    records = [Record("t", n % 2, n // 2, None, b"%d" % n, (), 0) for n in range(12)]

    def one(partition, start, end, shard, values):
        return Object(f"p-{shard}", "p", "k", partition, shard, start, end, tuple(values))

    whole = one(0, 0, 6, "a", [b"0", b"2", b"4", b"6", b"8", b"10"])
    first, second = one(1, 0, 3, "b", [b"1", b"3", b"5"]), one(1, 3, 6, "c", [b"7", b"9", b"11"])
    good = compare(records, [whole, first, second])
    assert (good.wrong(), good.takeovers) == ({}, 1)
    assert set(compare(records, [whole, first]).wrong()) == {"missing"}
    late = one(1, 2, 6, "d", [b"5", b"7", b"9", b"11"])
    assert set(compare(records, [whole, first, late]).wrong()) == {"twice", "overlapping"}
    assert set(compare(records, [whole, first, one(1, 3, 6, "e", [b"7", b"11", b"9"])]).wrong()) == {"misplaced"}
    assert set(compare(records, [whole, first, one(1, 3, 5, "e", [b"7", b"9", b"11"])]).wrong()) == {"misplaced"}
    assert set(compare(records, [whole, first, one(1, 3, 7, "e", [b"7", b"9", b"11", b"x"])]).wrong()) == {"foreign"}


def test_objects_hold_what_the_topic_holds(broker, topic, hydrant, bucket, s3):
    make_topic(broker, topic, 4)
    number = 0
    for codec in CODECS:
        values = []
        for n in range(number, number + 400):
            headers = [("trace", b"%d" % n), ("trace", b"again"), ("empty", b"")] if n % 3 else None
            key = b"key-%d" % (n % 17) if n % 5 else None
            values.append((key, json.dumps({"n": n, "codec": codec}).encode(), headers, 1_700_000_000_000 + n))
        produce(broker, topic, values, compression_type=codec)
        produce(broker, topic, [(b"key-%d" % n, None, None, 0) for n in range(10)])
        number += 400
    batches = [(numbered(number + 100 * n, number + 100 * (n + 1)), n % 2 == 0) for n in range(6)]
    produce_transactions(broker, topic, batches, name=topic)
    kcat(broker, "-P", "-t", topic, "-K", "|", "-H", "from=kcat", "-z", "lz4", input=b'kcat|{"n":-1}\nkcat|{"n":-2}\n')

    seen = ". + {key: $key, topic: $topic, partition: $partition, offset: $offset, headers: $headers, at: $arrival}"
    prefix = "topic={topic}/partition={partition}/"
    pipelines = {
        "plain": pipeline(broker, topic, s3_sink(bucket, "plain/"), group="plain"),
        "seen": pipeline(broker, topic, s3_sink(bucket, "seen/"), group="seen", transforms=[{"jq": seen}], prefix=prefix),
        "kept": pipeline(broker, topic, s3_sink(bucket, "kept/"), group="kept", tombstones="keep"),
        "all": pipeline(broker, topic, s3_sink(bucket, "all/"), group="all", isolation="read_uncommitted"),
    }
    daemon = hydrant(pipelines).start()
    records = read_topic(broker, topic)
    with_value = [record for record in records if record.value is not None]
    assert (len(records), len(with_value)) == (5 * 410 + 302, 5 * 400 + 302)
    bucket_now = Bucket(s3, bucket)

    def of(name):
        return [one for one in bucket_now.objects() if one.pipeline == name]

    def values(name):
        return [value for one in of(name) for value in one.values]

    await_that(lambda: not compare(records, of("plain")).missing, "plain has all")
    await_that(lambda: len(values("seen")) >= len(with_value), "seen has all")
    await_that(lambda: len(values("kept")) >= len(records), "kept has all")
    await_that(lambda: len(values("all")) >= len(with_value) + 300, "all has all")
    assert metric(daemon, "hydrant_kafka_tombstones_total", pipeline="plain") == 50
    daemon.stop()

    assert compare(records, of("plain")).wrong() == {}
    by_place = {(record.partition, record.offset): record for record in with_value}
    for one in of("seen"):
        for value in one.values:
            row = json.loads(value)
            record = by_place.pop((row["partition"], row["offset"]))
            assert one.name.startswith(f"seen/topic={topic}/partition={record.partition}/")
            assert row["topic"] == topic
            assert row["key"] == (record.key.decode() if record.key is not None else None)
            headers = [{"name": name, "value": value.decode()} for name, value in record.headers]
            assert row["headers"] == headers
            assert row["at"] == record.timestamp_ms
            assert json.loads(record.value).items() <= row.items()
    assert by_place == {}, "each record is seen once"
    assert sorted(values("kept")) == sorted(record.value or b"" for record in records)
    aborted = [value for values, commit in batches if not commit for value in values]
    assert sorted(values("all")) == sorted([record.value for record in with_value] + aborted)


@pytest.mark.parametrize("merge", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nodes_of_a_group_come_and_go_and_each_record_is_there_once(broker, topic, hydrant, lake, protocol, merge):
    make_topic(broker, topic, 6)
    feeder = Feeder(broker, topic)
    nodes = [hydrant({"share": pipeline(broker, topic, lake, protocol=protocol, merge=merge)}) for _ in range(3)]

    def owned(*wanted):
        return [int(metric(node, "hydrant_kafka_partitions")) for node in nodes if node.process] == list(wanted)

    nodes[0].start()
    await_that(lambda: owned(6), "one node has all partitions")
    await_that(lake.objects, "it delivers")
    nodes[1].start()
    await_that(lambda: owned(3, 3), "two share them")
    nodes[2].start()
    await_that(lambda: owned(2, 2, 2), "three share them")
    so_far = len(lake.objects())
    await_that(lambda: len(lake.objects()) > so_far + 6, "they deliver")
    nodes[1].stop()
    await_that(lambda: owned(3, 3), "two share them again")
    nodes[0].kill()
    await_that(lambda: owned(6), "the last one has them all")
    feeder.stop()
    verdict = delivered(broker, topic, lake)
    assert verdict.takeovers >= (3 if merge else 6)
    nodes[2].stop()


def test_a_node_without_a_state_folder_goes_on_where_another_was_killed_amid_a_chunk(broker, topic, hydrant, bucket, s3):
    make_topic(broker, topic, 2)
    feeder, store = Feeder(broker, topic), Bucket(s3, bucket)
    # A chunk has eight objects here.
    extraction = {"metadata_extraction": {"query": "{part: (.n % 8 | tostring)}"}}
    prefix = "part=!{partitionKeyFromQuery:part}/"

    def node(endpoint):
        sink = s3_sink(bucket, "lake/")
        sink["object_store"]["options"]["aws_endpoint"] = endpoint
        return hydrant({"takeover": pipeline(broker, topic, sink, transforms=[extraction], prefix=prefix)}).start()

    def is_object_put(request):
        return request.startswith(b"PUT ") and b"_hydrant" not in request.split(b"\r\n")[0]

    port = int(os.environ["S3_ENDPOINT"].rsplit(":", 1)[1])
    for puts in [3, 13, 21]:
        with Gate(port, puts, is_object_put) as gate:
            one = node(f"http://127.0.0.1:{gate.port}")
            assert gate.waiting.wait(60), "a chunk is half delivered"
            one.kill()
    feeder.stop()
    last = node(os.environ["S3_ENDPOINT"])
    delivered(broker, topic, store)
    assert metric(last, "hydrant_kafka_plans_taken_over_total") > 0
    last.stop()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broker_that_restarts_or_is_away_is_waited_for(broker, topic, hydrant, lake, protocol):
    make_topic(broker, topic, 2)
    node = hydrant({"wait": pipeline(broker, topic, lake, protocol=protocol)}).start()
    produce(broker, topic, numbered(0, 500))
    delivered(broker, topic, lake)
    broker.stop()
    await_that(lambda: says(node, "WARN|ERROR", "wait", re.escape(broker.address)), "it says that the broker is away")
    broker.start()
    produce(broker, topic, numbered(500, 1000))
    delivered(broker, topic, lake)
    produce(broker, topic, numbered(1000, 2000))
    broker.kill()
    broker.start()
    produce(broker, topic, numbered(2000, 2500))
    delivered(broker, topic, lake)
    broker.stop()
    node.stop()
    broker.start()


def test_added_partitions_and_new_topics_of_a_pattern_are_read(broker, topic, hydrant, lake):
    names = [f"{topic}-{n}" for n in range(3)]
    make_topic(broker, names[0], 1)
    produce(broker, names[0], numbered(0, 200))
    node = hydrant({"pattern": pipeline(broker, f"^{topic}-.*", lake)}).start()
    delivered(broker, names[0], lake)
    add_partitions(broker, names[0], 3)
    produce(broker, names[0], numbered(200, 300), partition=2)
    produce(broker, names[0], numbered(300, 400), partition=1)
    delivered(broker, names[0], lake)
    make_topic(broker, names[1], 2)
    produce(broker, names[1], numbered(400, 600))
    delivered(broker, names[:2], lake)
    make_topic(broker, f"other-{topic}", 1)
    produce(broker, f"other-{topic}", numbered(600, 700))
    make_topic(broker, names[2], 1)
    produce(broker, names[2], numbered(700, 800))
    delivered(broker, names, lake)
    node.stop()
    assert lake.copies() == [], "handover copies are gone when they are not needed"


def test_a_topic_that_is_made_again_is_another_one(broker, topic, hydrant, lake):
    make_topic(broker, topic, 2)
    node = hydrant({"again": pipeline(broker, topic, lake)}).start()
    produce(broker, topic, numbered(0, 500))
    delivered(broker, topic, lake)
    before = read_topic(broker, topic)
    drop_topic(broker, topic)
    make_topic(broker, topic, 2)
    produce(broker, topic, numbered(500, 800))
    records = before + read_topic(broker, topic)
    await_that(lambda: not compare(records, lake.objects()).missing, "the new one is delivered too")
    # Its offsets begin anew, so that names of both say the same ranges: their shards differ.
    wrong = compare(records, lake.objects()).wrong()
    assert wrong.keys() <= {"overlapping"}, wrong
    node.stop()


def test_what_cannot_be_read_is_said_and_other_pipelines_run_on(broker, topic, hydrant, tmp_path):
    good, nobody = Folder(tmp_path / "good"), free_port()
    lakes = {}

    def to(name):
        lakes[name] = Folder(tmp_path / name)
        return lakes[name]

    make_topic(broker, topic, 1)
    sasl = {"plain": {"username": USERS["PLAIN"], "password": "wrong"}}
    settings = {"bootstrap.servers": broker.address, "group.id": "eager", "partition.assignment.strategy": "range"}
    eager, leaving = Consumer(settings | {"enable.auto.commit": False, "log_level": 0}), threading.Event()
    eager.subscribe([topic])
    await_that(lambda: eager.poll(0.1) or eager.assignment(), "somebody else has the group")
    keeper = threading.Thread(target=lambda: await_that(lambda: eager.poll(0.1) or leaving.is_set(), "it ends", 300), daemon=True)
    keeper.start()
    leave_other = join_as(broker, "other", "connect")
    pipelines = {
        "good": pipeline(broker, topic, good, group="good"),
        "port": pipeline(broker, topic, to("port")),
        "password": pipeline(broker, topic, to("password"), tls=False, sasl=sasl),
        "eager": pipeline(broker, topic, to("eager"), group="eager", protocol="classic"),
        "other": pipeline(broker, topic, to("other"), group="other", protocol="classic"),
    }
    pipelines["port"]["source"]["kafka"]["brokers"] = [f"127.0.0.1:{nobody}"]
    pipelines["password"]["source"]["kafka"]["brokers"] = [broker.at("SASL_PLAINTEXT")]
    node = hydrant(pipelines).start()
    produce(broker, topic, numbered(0, 500))
    delivered(broker, topic, good)
    await_that(lambda: says(node, "port", str(nobody)), "it says where nobody listens")
    await_that(lambda: says(node, "password", "(?i)authentication|credential|password"), "it says that the password is wrong")
    await_that(lambda: says(node, "eager", "(?i)protocol|assign"), "it says that the group goes another way")
    await_that(lambda: says(node, "other", "(?i)protocol"), "it says that the group is for something else")
    # What can heal does.
    leaving.set()
    keeper.join()
    eager.close()
    leave_other()
    delivered(broker, topic, lakes["eager"])
    delivered(broker, topic, lakes["other"])
    produce(broker, topic, numbered(600, 700))
    delivered(broker, topic, good)
    node.stop()
    said = [line for line in node.log.read_text().splitlines() if 'pipeline="port"' in line]
    assert len(said) < 50, f"once in a while is enough: {len(said)} lines"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_topic_that_is_not_there_is_said_and_waited_for(broker, topic, hydrant, lake, protocol):
    node = hydrant({"early": pipeline(broker, topic, lake, protocol=protocol)}).start()
    await_that(lambda: says(node, "WARN|ERROR", "early", topic), "it says that there is no such topic")
    make_topic(broker, topic, 1)
    produce(broker, topic, numbered(0, 100))
    delivered(broker, topic, lake)
    node.stop()


def join_as(broker, group, protocol_type):
    """Joins a group as a member of another kind, as Kafka Connect's workers are: by hand. Returns what makes it leave."""

    def text(value):
        return struct.pack(">h", len(value)) + value.encode()

    def ask(api, version, body):
        with socket.create_connection(("127.0.0.1", broker.ports["PLAINTEXT"])) as connection, connection.makefile("rb") as answers:
            request = struct.pack(">hhi", api, version, 1) + text("by-hand") + body
            connection.sendall(struct.pack(">i", len(request)) + request)
            return answers.read(struct.unpack(">i", answers.read(4))[0])[4:]

    timeouts = struct.pack(">ii", 300_000, 300_000)
    protocols = struct.pack(">i", 1) + text("by-hand") + struct.pack(">i", 0)
    # JoinGroup: throttle time, error, generation, protocol, leader, member.
    answer = ask(11, 2, text(group) + timeouts + text("") + text(protocol_type) + protocols)
    error, at = struct.unpack_from(">h", answer, 4)[0], 10
    assert error == 0, f"JoinGroup: error {error}"
    for _ in range(2):
        at += 2 + struct.unpack_from(">h", answer, at)[0]
    member = answer[at + 2 : at + 2 + struct.unpack_from(">h", answer, at)[0]].decode()
    return lambda: ask(13, 1, text(group) + text(member))


@pytest.mark.parametrize("over", ["fetch", "memory"])
def test_a_message_over_the_limits_of_fetches_or_memory_is_read(broker, topic, hydrant, lake, over):
    # Digits do not repeat: what is fetched is as large as what is read.
    large, client, settings = (9 << 20, {"max.partition.fetch.bytes": "100000"}, None)
    if over == "memory":
        large, client, settings = (24 << 20, {}, {"memory": "64 MiB"})
    make_topic(broker, topic, 1, max_message_bytes=32 << 20)
    text = random.Random(7).randbytes(large // 2).hex()
    values = numbered(0, 100) + [json.dumps({"n": -1, "text": text}).encode()] + numbered(100, 200)
    produce(broker, topic, values, message_max_bytes=32 << 20)
    node = hydrant({"large": pipeline(broker, topic, lake, client=client)}, settings=settings).start()
    delivered(broker, topic, lake)
    node.stop()


def test_an_answer_over_what_a_client_takes_is_said_with_what_to_do(broker, topic, hydrant, lake):
    make_topic(broker, topic, 1, max_message_bytes=32 << 20)
    values = numbered(0, 100) + [json.dumps({"n": -1, "text": "y" * (3 << 20)}).encode()]
    produce(broker, topic, values, message_max_bytes=32 << 20)
    client = {"receive.message.max.bytes": "1100000", "fetch.max.bytes": "1000000"}
    node = hydrant({"large": pipeline(broker, topic, lake, client=client)}).start()
    await_that(lambda: says(node, "large", "receive.message.max.bytes"), "it names what to raise")
    node.stop()
    node = hydrant({"large": pipeline(broker, topic, lake)}).start()
    delivered(broker, topic, lake)
    node.stop()


@pytest.mark.parametrize("way", ["certificate", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_it_is_let_in(broker, topic, hydrant, lake, tmp_path, way):
    make_topic(broker, topic, 1)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "secret").write_text(SECRET)
    produce(broker, topic, numbered(0, 100))
    certificates, tokens = broker.certificates, broker.tokens
    ca = {"ca": str(certificates.ca)}
    if way == "certificate":
        of_client = {"certificate": str(certificates.certificate("client")), "key": f"file:{certificates.key('client')}"}
        listener, security = "SSL", {"tls": ca | of_client}
    elif way == "OAUTHBEARER":
        oauth = {"url": tokens.url, "client_id": CLIENT, "client_secret": f"file:{tmp_path}/secret"}
        listener, security = "SASL_SSL", {"tls": ca, "sasl": {"oauthbearer": oauth}}
    else:
        kind = way.lower().replace("-", "_")
        listener = "SASL_PLAINTEXT" if way == "SCRAM-SHA-256" else "SASL_SSL"
        tls = False if listener == "SASL_PLAINTEXT" else ca
        security = {"tls": tls, "sasl": {kind: {"username": USERS[way], "password": f"file:{tmp_path}/password"}}}
    one = pipeline(broker, topic, lake, **security)
    one["source"]["kafka"]["brokers"] = [broker.at(listener)]
    node = hydrant({"secure": one}).start()
    delivered(broker, topic, lake)
    node.stop()
    assert PASSWORD not in node.log.read_text() and SECRET not in node.log.read_text()


def test_offsets_that_an_operator_resets_are_read_again_from_there(broker, topic, hydrant, lake):
    make_topic(broker, topic, 1)
    produce(broker, topic, numbered(0, 100))
    node = hydrant({"reset": pipeline(broker, topic, lake)}).start()
    delivered(broker, topic, lake)
    node.stop()
    offsets_of(broker, f"group-{topic}", "--execute", "--topic", topic, "--reset-offsets", "--to-offset", 40)
    node.start()
    await_that(lambda: len([value for one in lake.objects() for value in one.values]) >= 160, "some are there again")
    node.stop()
    produce(broker, topic, numbered(100, 200))
    offsets_of(broker, f"group-{topic}", "--execute", "--topic", topic, "--reset-offsets", "--to-offset", 150)
    node.start()
    wanted = sorted(numbered(0, 100) + numbered(40, 100) + numbered(150, 200))
    await_that(lambda: sorted(value for one in lake.objects() for value in one.values) == wanted, "from the offset on")
    node.stop()


def test_reading_begins_at_a_time(broker, topic, hydrant, lake):
    make_topic(broker, topic, 2)
    begin_ms = 1_700_000_000_000
    values = [(None, value, None, begin_ms + n) for n, value in enumerate(numbered(0, 100))]
    produce(broker, topic, values, partition=0)
    # Of this one all is older, and what is yet to come counts.
    produce(broker, topic, values[:10], partition=1)
    node = hydrant({"since": pipeline(broker, topic, lake, start="2023-11-14T22:13:20.050Z")}).start()
    await_that(lambda: metric(node, "hydrant_kafka_partitions") == 2 and lake.objects(), "it reads")
    produce(broker, topic, numbered(100, 120), partition=1)
    wanted = sorted(numbered(50, 120))
    await_that(lambda: sorted(value for one in lake.objects() for value in one.values) == wanted, "what is as young or younger")
    node.stop()


def test_what_transactions_leave_behind_is_passed_and_nothing_is_missed_when_it_is_gone(broker, topic, hydrant, lake):
    make_topic(broker, topic, 1)
    # A mark lies behind each of them: the end is 102.
    produce_transactions(broker, topic, [(numbered(0, 50), True), (numbered(50, 100), False)], name=topic)
    node = hydrant({"marks": pipeline(broker, topic, lake)}).start()
    delivered(broker, topic, lake)
    await_that(lambda: committed(broker, f"group-{topic}", topic) == {0: 102}, "the group knows that all is read")
    node.kill()
    drop_records(broker, topic, 0, 102)
    node.start()
    produce_transactions(broker, topic, [(numbered(100, 150), True)], name=topic)
    wanted = sorted(numbered(0, 50) + numbered(100, 150))
    await_that(lambda: sorted(value for one in lake.objects() for value in one.values) == wanted, "what came then")
    assert metric(node, "hydrant_kafka_found_total") == 0, "nothing is found missing"
    node.stop()


def committed(broker, group, topic):
    """By partition, the offset that a group has committed."""
    asked = broker.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    (answer,) = [future.result(timeout=30) for future in asked.values()]
    return {one.partition: one.offset for one in answer.topic_partitions if one.topic == topic}


def test_records_that_are_gone_before_they_are_read_stop_their_partition_or_are_counted(broker, topic, hydrant, lake):
    make_topic(broker, topic, 2)
    one = pipeline(broker, topic, lake)
    node = hydrant({"lost": one}).start()
    produce(broker, topic, numbered(0, 100), partition=0)
    produce(broker, topic, numbered(100, 200), partition=1)
    delivered(broker, topic, lake)
    before = read_topic(broker, topic)
    node.stop()
    produce(broker, topic, numbered(200, 300), partition=0)
    produce(broker, topic, numbered(300, 400), partition=1)
    drop_records(broker, topic, 0, 150)
    after = read_topic(broker, topic)
    records = {(one.partition, one.offset): one for one in before + after}.values()

    def all_of(partition):
        return lambda: not compare([one for one in records if one.partition == partition], of(partition)).missing

    def of(partition):
        return [one for one in lake.objects() if one.partition == partition]

    node.start()
    await_that(lambda: says(node, "lost", topic, "100", "150"), "it says what is gone")
    await_that(all_of(1), "the other partition is read on")
    assert not [one for one in of(0) if one.end > 100], "this one is not"
    node.stop()
    go_on = hydrant({"lost": pipeline(broker, topic, lake, on_lost="go_on")}).start()
    await_that(all_of(0), "it goes on with what there is")
    assert metric(go_on, "hydrant_kafka_lost_total") == 50
    go_on.stop()
    verdict = compare(records, lake.objects())
    assert verdict.wrong() == {}, str(verdict)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_with_a_name_that_restarts_moves_no_partitions(broker, topic, hydrant, lake, protocol):
    make_topic(broker, topic, 4)
    produce(broker, topic, numbered(0, 400))
    # Long enough for a restart on a busy machine.
    client = {"session.timeout.ms": "30000"} if protocol == "classic" else {}
    nodes = [
        hydrant({"named": pipeline(broker, topic, lake, client, protocol=protocol, instance=f"node-{n}")}).start()
        for n in range(2)
    ]
    await_that(lambda: [metric(node, "hydrant_kafka_partitions") for node in nodes] == [2, 2], "they share the partitions")
    delivered(broker, topic, lake)
    so_far = metric(nodes[1], "hydrant_kafka_rebalances_total")
    nodes[0].stop()
    nodes[0].start()
    await_that(lambda: metric(nodes[0], "hydrant_kafka_partitions") == 2, "it has its partitions again")
    produce(broker, topic, numbered(400, 800))
    delivered(broker, topic, lake)
    assert metric(nodes[1], "hydrant_kafka_rebalances_total") == so_far
    for node in nodes:
        node.stop()


def test_a_topic_made_again_at_once_and_with_more_records_is_read_from_its_beginning(broker, topic, hydrant, lake):
    make_topic(broker, topic, 2)
    node = hydrant({"again": pipeline(broker, topic, lake, start="latest")}).start()
    await_that(lambda: metric(node, "hydrant_kafka_partitions") == 2, "it reads")
    for partition in range(2):
        produce(broker, topic, numbered(1000 * partition, 1000 * partition + 100), partition=partition)
    before = read_topic(broker, topic)
    await_that(lambda: not compare(before, lake.objects()).missing, "the old one is delivered")
    drop_topic(broker, topic)
    make_topic(broker, topic, 2)
    for partition in range(2):
        produce(broker, topic, numbered(5000 + 1000 * partition, 5500 + 1000 * partition), partition=partition)
    after = read_topic(broker, topic)
    await_that(lambda: says(node, "again", topic, "made again"), "it says so")
    await_that(lambda: not compare(before + after, lake.objects()).missing, "the new one is delivered from its beginning")
    assert metric(node, "hydrant_kafka_found_total", what="topic_made_again") >= 2
    produce(broker, topic, numbered(9000, 9100))
    after = read_topic(broker, topic)
    await_that(lambda: not compare(before + after, lake.objects()).missing, "and read on")
    node.stop()


def test_offsets_that_are_deleted_stop_the_group_until_they_are_set_again(broker, topic, hydrant, lake):
    make_topic(broker, topic, 2)
    node = hydrant({"erased": pipeline(broker, topic, lake)}).start()
    produce(broker, topic, numbered(0, 100), partition=0)
    produce(broker, topic, numbered(100, 200), partition=1)
    delivered(broker, topic, lake)
    node.stop()
    offsets_of(broker, f"group-{topic}", "--delete-offsets", "--topic", f"{topic}:0")
    produce(broker, topic, numbered(200, 300), partition=1)
    produce(broker, topic, numbered(300, 400), partition=0)
    node.start()
    records = [one for one in read_topic(broker, topic) if one.partition == 1]
    await_that(lambda: not compare(records, lake.objects()).missing, "the other partition is read on")
    await_that(lambda: says(node, "ERROR", "erased", f"{topic}/0", "offset is gone"), "it says what is gone")
    assert metric(node, "hydrant_kafka_halted") == 1
    node.stop()
    offsets_of(broker, f"group-{topic}", "--execute", "--topic", f"{topic}:0", "--reset-offsets", "--to-offset", 100)
    node.start()
    delivered(broker, topic, lake)
    assert says(node, "INFO", f"{topic}/0", "offset 100 was not committed by hydrant")
    add_partitions(broker, topic, 3)
    produce(broker, topic, numbered(400, 450), partition=2)
    delivered(broker, topic, lake)
    assert says(node, "INFO", f"{topic}/2", "was added")
    node.stop()


def offsets_of(broker, group, *how):
    """What kafka-consumer-groups.sh does with a group's offsets."""
    command = ["--bootstrap-server", broker.address, "--group", group, *how]
    main = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    done = subprocess.run(java(main, *command), capture_output=True, text=True)
    assert done.returncode == 0 and "Error" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_node_shows_who_owns_what(broker, topic, hydrant, lake, protocol):
    make_topic(broker, topic, 4)
    nodes = [hydrant({"group": pipeline(broker, topic, lake, protocol=protocol)}).start() for _ in range(3)]

    def seen(node):
        with urllib.request.urlopen(f"http://127.0.0.1:{node.admin}/api/status", timeout=5) as answer:
            return json.load(answer)["pipelines"][0].get("kafka") or {}

    def complete(node):
        members = seen(node).get("members") or []
        here = [one for one in members if one["here"]]
        return len(members) == 3 and len(here) == 1 and sum(one["owned"] for one in members) == 4 and here[0]["owned"] > 0

    for node in nodes:
        await_that(lambda: complete(node), f"it shows all members: {seen(node)}")
    for node in nodes:
        node.stop()
