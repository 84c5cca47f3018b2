"""Who reads the topic: the bare client, hydrant, a script of libraries, and daemons of other makers."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from broker import FOLDER, jars
from kinds import KINDS
from process import HERE as BENCH
from process import HOME, Daemon, Failed, ended, free_port, measured, start
from works import EXTENSIONS, FORMATS

HERE = Path(__file__).parent
TELEGRAF = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
# All that this binary has: a complete one takes an hour to build.
TELEGRAF_PARTS = "custom,inputs.kafka_consumer,outputs.file,outputs.parquet,parsers.json,parsers.value,serializers.json"


class Topic:
    """What is read: a topic with the lines of a file."""

    def __init__(self, client, address, name, kind, path, records, partitions):
        self.client, self.address, self.name, self.kind, self.path = client, address, name, kind, path
        self.records, self.partitions, self.bytes = records, partitions, path.stat().st_size

    def ask(self, verb, *more):
        """Runs the client on it; what it prints, as JSON."""
        process = start([self.client, verb, self.address, self.name, *map(str, more)], stdout=subprocess.PIPE)
        printed = process.stdout.read()
        if process.wait() != 0:
            raise Failed(f"client {verb} {self.name} ended with {process.returncode}; see {HOME / 'log'}")
        return json.loads(printed) if printed else None


class Bare:
    """librdkafka alone: what it costs to have each record."""

    name, format, ours = "bare librdkafka", "none", False

    def missing(self):
        return None

    def __call__(self, topic, folder):
        began = time.monotonic()
        process = start([topic.client, "consume", topic.address, topic.name], stdout=subprocess.PIPE)
        seen = json.loads(process.stdout.read() or "{}")
        cost = {**ended(process), "wall_s": time.monotonic() - began}
        if seen.get("records") != topic.records:
            raise Failed(f"the bare client saw {seen} instead of {topic.records} records")
        return cost


class Hydrant:
    """To the last commit of its group, which follows the last object, and the end of the process."""

    ours = True

    def __init__(self, format, interval_s):
        self.format, self.name, self.interval_s = format, f"Kafka to {format}", interval_s

    def missing(self):
        return None

    def __call__(self, topic, folder):
        (folder / "out").mkdir(parents=True)
        schema = ", ".join(f'{name}: "{of}"' for name, of in KINDS[topic.kind].items())
        pipeline, group = folder / "bench.yaml", f"hydrant-{time.time_ns()}"
        pipeline.write_text(
            f'source: {{ kafka: {{ brokers: ["{topic.address}"], topics: [{topic.name}], group: {group}, '
            "start: earliest } }\n"
            f"format: {{ {FORMATS[self.format].format(schema=schema)} }}\n"
            f"buffer: {{ size: 128 MiB, interval: {self.interval_s}s }}\n"
            f'sink: {{ object_store: {{ url: "file://{folder}/out/", prefix: "all/" }} }}\n'
        )
        began = time.monotonic()
        with Daemon([os.environ["HYDRANT"], "run", pipeline, "--state", folder / "state"]) as daemon:
            topic.ask("await", group)
            wall_s = time.monotonic() - began
        # What it remembers of its group: readers pass over it.
        shutil.rmtree(folder / "out/_hydrant", ignore_errors=True)
        return {**daemon.cost, "wall_s": wall_s, **written(folder, EXTENSIONS[self.format])}


class Glue:
    """A script around confluent-kafka (glue.py)."""

    ours = False

    def __init__(self, format, library):
        self.format, self.name = format, f"confluent-kafka + {library}"

    def missing(self):
        return None

    def __call__(self, topic, folder):
        (folder / "out").mkdir(parents=True)
        command = [sys.executable, HERE / "glue.py", self.format, topic.address, topic.name, topic.records, topic.kind]
        path = os.pathsep.join([str(BENCH)])
        process = start([*map(str, command), folder / "out"], stdout=subprocess.PIPE,
                        env={**os.environ, "POLARS_MAX_THREADS": "1", "PYTHONPATH": path})  # fmt: skip
        printed = process.stdout.read()
        if process.wait() != 0:
            raise Failed(f"{self.name} ended with {process.returncode}; see {HOME / 'log'}")
        return {**json.loads(printed), **written(folder, EXTENSIONS[self.format])}


class Go:
    """The libraries of Redpanda Connect and Bento without their frameworks (go/main.go)."""

    ours = False
    program = FOLDER / "go/bin/peer"

    def __init__(self, format):
        self.format, self.name = format, f"franz-go to {format}"
        # Its Parquet has decimals as floats, as those two would write them.
        self.exact = format == "gzip"

    def missing(self):
        if not shutil.which("go"):
            return "go is not there"
        built = start(["go", "build", "-o", self.program, "."], cwd=HERE / "go").wait() == 0
        return None if built else f"it could not be built; see {HOME / 'log'}"

    def __call__(self, topic, folder):
        (folder / "out").mkdir(parents=True)
        group = f"go-{time.time_ns()}"
        command = [self.program, self.format, topic.address, topic.name, group, str(topic.records), folder / "out"]
        return {**measured(command), **written(folder, EXTENSIONS[self.format])}


class Peer:
    """A daemon of another maker, to the moment when its output is complete, and its end."""

    ours, exact = False, False
    ends_with = (0, 143, -signal.SIGTERM)

    def __call__(self, topic, folder):
        (folder / "out").mkdir(parents=True)
        group = f"{self.name.split()[0].lower()}-{time.time_ns()}"
        began = time.monotonic()
        process = start(self.command(topic, folder, group))
        try:
            self.until_done(topic, folder, group, process)
        except Failed:
            process.kill()
            process.wait()
            raise
        wall_s = time.monotonic() - began
        process.terminate()
        cost = ended(process, self.ends_with)
        return {**cost, "wall_s": wall_s, **written(folder, None)}

    def until_done(self, topic, folder, group, process):
        """Until its group has committed all."""
        topic.ask("await", group)


class Telegraf(Peer):
    """Of InfluxData, in Go: the one with both formats that the Go proxy has.

    Its JSON is batches with each record as a text in them (its templates refuse what a queue has given), its Parquet is not
    compressed and has decimals as floats: only the rows of the latter can be compared.
    """

    def __init__(self, format):
        self.format, self.name = format, f"Telegraf to {format}"

    def missing(self):
        program = FOLDER / "go/bin/telegraf"
        if program.exists():
            return None
        if not shutil.which("go"):
            return "go is not there"
        print("building Telegraf, once: some minutes", flush=True)
        environment = {**os.environ, "GOBIN": str(program.parent), "CGO_ENABLED": "0"}
        command = ["go", "install", "-tags", TELEGRAF_PARTS, "-ldflags", "-s -w", TELEGRAF]
        return None if start(command, env=environment).wait() == 0 else f"it could not be built; see {HOME / 'log'}"

    def command(self, topic, folder, group):
        if self.format == "gzip":
            parser = 'data_format = "value"\n  data_type = "string"\n'
            output = (
                f'[[outputs.file]]\n  files = ["{folder}/out/lines.gz"]\n  data_format = "json"\n'
                '  use_batch_format = true\n  compression_algorithm = "gzip"\n'
            )
        else:
            columns = KINDS[topic.kind].items()
            strings = [name for name, of in columns if of in ("string", "bool")]
            time_field = next(name for name, of in columns if of == "timestamp(ms)")
            parser = (
                f'data_format = "json"\n  json_string_fields = {json.dumps(strings)}\n'
                f'  json_time_key = "{time_field}"\n  json_time_format = "2006-01-02T15:04:05.000Z07:00"\n'
            )
            output = f'[[outputs.parquet]]\n  directory = "{folder}/out"\n'
        config = folder / "telegraf.conf"
        config.write_text(
            '[agent]\n  interval = "1s"\n  flush_interval = "1s"\n  metric_batch_size = 50000\n'
            "  metric_buffer_limit = 500000\n  omit_hostname = true\n  skip_processors_after_aggregators = true\n"
            f'[[inputs.kafka_consumer]]\n  brokers = ["{topic.address}"]\n  topics = ["{topic.name}"]\n'
            f'  kafka_version = "3.6.0"\n  consumer_group = "{group}"\n  offset = "oldest"\n'
            f"  max_undelivered_messages = 200000\n  {parser}{output}"
        )
        return [FOLDER / "go/bin/telegraf", "--config", config, "--quiet"]


class Connect(Peer):
    """Kafka Connect with its own file sink, one task, strings as they are: without a format or compression, and no fsync.

    What any of its connectors (S3, ...) has to do first.
    """

    name, format, exact = "Kafka Connect to plain lines", "plain", True

    def missing(self):
        try:
            jars(HERE / "connect.xml", "connect")
        except Failed as failure:
            return str(failure)
        return None

    def command(self, topic, folder, group):
        worker, sink = folder / "worker.properties", folder / "sink.properties"
        converter = "org.apache.kafka.connect.storage.StringConverter"
        worker.write_text(
            f"bootstrap.servers={topic.address}\nkey.converter={converter}\nvalue.converter={converter}\n"
            f"offset.storage.file.filename={folder}/offsets\noffset.flush.interval.ms=1000\n"
            f"listeners=http://127.0.0.1:{free_port()}\nplugin.discovery=service_load\n"
        )
        sink.write_text(
            f"name={group}\nconnector.class=org.apache.kafka.connect.file.FileStreamSinkConnector\ntasks.max=1\n"
            f"file={folder}/out/lines\ntopics={topic.name}\n"
        )
        main, path = "org.apache.kafka.connect.cli.ConnectStandalone", f"{jars(HERE / 'connect.xml', 'connect')}/*"
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", path, main, worker, sink]

    def until_done(self, topic, folder, group, process):
        topic.ask("await", f"connect-{group}")


def written(folder, extension):
    """Bytes and number of the objects; another file among them is a failure."""
    sizes = []
    for file in (folder / "out").rglob("*"):
        if file.is_file():
            if extension and not file.name.endswith(extension):
                raise Failed(f"{file.relative_to(folder)} was written")
            sizes.append(file.stat().st_size)
    return {"bytes": sum(sizes), "objects": len(sizes)}


@functools.cache
def client():
    """The bare client, built beside hydrant: `cargo bench` says where it lies."""
    if "KAFKA_CLIENT" in os.environ:
        return os.environ["KAFKA_CLIENT"]
    command = ["cargo", "bench", "--quiet", "--bench", "kafka", "--no-run", "--message-format", "json"]
    process = start(command, stdout=subprocess.PIPE)
    said = [json.loads(line) for line in process.stdout]
    if process.wait() != 0:
        raise Failed(f"the bare client could not be built; see {HOME / 'log'}")
    # hydrant itself is built with it.
    return next(each["executable"] for each in said if each.get("executable") and each["target"]["name"] == "kafka")
