"""Apache Kafka for the bench: one broker in KRaft mode on loopback, that keeps its topics from run to run.

The broker of the service tests begins anew in every run and ends sessions fast; this one shares its jars with that one (Maven
Central, tests/services/kafka/pom.xml), and nothing else.
"""

import re
import shutil
import subprocess
import time

from process import HERE, HOME, Failed, free_port, start

POM = HERE.parent.parent / "tests/services/kafka/pom.xml"
FOLDER = HOME / "kafka"
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
START_MAX_S = 60
STOP_MAX_S = 60


def missing():
    """Why there can be no broker here; None if there can."""
    for program in ("java", "mvn"):
        if not shutil.which(program):
            return f"{program} is not there"
    if not POM.exists():
        return f"{POM.name} of the service tests is not there"
    try:
        jars(POM, "jars")
    except Failed as failure:
        return str(failure)
    return None


def jars(pom, name):
    """The jars that a pom.xml asks for, in a folder that Maven filled; again when the pom changes."""
    folder = FOLDER / name
    there = folder / "pom.xml"
    if not there.exists() or there.read_bytes() != pom.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        command = ["mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "--file", pom, plugin]
        done = start([*command, f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]).wait()
        if done != 0:
            raise Failed(f"mvn could not fetch what {pom.parent.name}/{pom.name} asks for; see {HOME / 'log'}")
        there.write_bytes(pom.read_bytes())
    return folder


class Broker:
    """With `with`: running, and stopped in the end. `address` is where clients begin."""

    def __init__(self):
        self.properties = FOLDER / "server.properties"
        self.process = None
        if not self.properties.exists():
            self.make()
        self.address = re.search(r"^advertised.listeners=PLAINTEXT://(.*)$", self.properties.read_text(), re.M)[1]

    def make(self):
        """Its settings and empty folders. The ports are kept: its controller remembers its own."""
        port, controller = free_port(), free_port()
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": FOLDER / "data",
            "log.retention.ms": -1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
        }
        shutil.rmtree(FOLDER / "data", ignore_errors=True)
        aside = self.properties.with_suffix(".tmp")
        aside.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        command = self.java("kafka.tools.StorageTool", "format", "--config", aside, "--cluster-id", CLUSTER, "--standalone")
        if start(command).wait() != 0:
            raise Failed(f"no storage for the broker; see {HOME / 'log'}")
        aside.rename(self.properties)

    def java(self, main, *arguments):
        said = f"-Dlog4j2.configurationFile={POM.with_name('log4j2.properties')}"
        return ["java", "-Xmx1g", "-XX:+UseSerialGC", said, "-cp", f"{jars(POM, 'jars')}/*", main, *map(str, arguments)]

    def __enter__(self):
        with open(FOLDER / "log", "wb") as log:
            self.process = start(self.java("kafka.Kafka", self.properties), stdout=log)
        deadline = time.monotonic() + START_MAX_S
        while b"Kafka Server started" not in (FOLDER / "log").read_bytes():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the broker did not start; see {FOLDER / 'log'}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
