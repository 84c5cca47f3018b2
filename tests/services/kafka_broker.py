"""Apache Kafka itself, one broker in KRaft mode on loopback: started, stopped, killed, restarted on what it had.

    PLAINTEXT       no questions                        SASL_PLAINTEXT  PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
    SSL             asks for a client's certificate     SASL_SSL        the same mechanisms, behind TLS

Its jars come from Maven Central by kafka/pom.xml, once, into target/services. Session time-outs are short, and nothing waits
for more members of a group, so that stories about takeovers take seconds.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hydrant import await_that, die_with_parent, free_port

HERE = Path(__file__).resolve().parent / "kafka"
PASSWORD = "open sesame; 'quoted'"
USERS = {"PLAIN": "plain-user", "SCRAM-SHA-256": "scram-user", "SCRAM-SHA-512": "scram-user"}
# Of both protocols of groups; the classic one's members ask for theirs (`session.timeout.ms`), down to this.
SESSION_MS = 3000


def jars():
    """The folder with the jars, filled by Maven if they are not there, or others are wanted now."""
    folder = Path(os.environ.get("KAFKA_JARS") or HERE.parents[2] / "target/services/kafka")
    wanted, there = (HERE / "pom.xml").read_bytes(), folder / "pom.xml"
    if not there.exists() or there.read_bytes() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        command = ["mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "--file", HERE / "pom.xml"]
        command += ["org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"]
        command += [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"mvn could not fetch Kafka:\n{done.stdout}{done.stderr}"
        there.write_bytes(wanted)
    return folder


def java(main, *arguments, memory="64m", properties=()):
    """The command line of one of Kafka's classes."""
    command = ["java", f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    command += [f"-D{name}={value}" for name, value in properties]
    return command + ["-cp", f"{jars()}/*", main, *map(str, arguments)]


class Broker:
    """One broker and controller with its data below `folder`. It keeps its ports for life."""

    def __init__(self, folder, **settings):
        self.folder, self.log, self.process = folder, folder / "log", None
        folder.mkdir(parents=True)
        self.ports = {name: free_port() for name in ["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL", "CONTROLLER"]}
        self.certificates = Certificates(folder / "certificates")
        self.properties = folder / "server.properties"
        self.properties.write_text("".join(f"{key}={value}\n" for key, value in {**self.settings(), **settings}.items()))
        scram = [f"--add-scram={kind}=[name={USERS[kind]},password={PASSWORD}]" for kind in USERS if "SCRAM" in kind]
        identity = ["--cluster-id", "5L6g3nShT-eMCtK--X86sw", "--standalone"]
        command = java("kafka.tools.StorageTool", "format", "--config", self.properties, *identity, *scram)
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"no storage for the broker:\n{done.stdout}{done.stderr}"

    @property
    def address(self):
        """Where it listens without any security."""
        return self.at("PLAINTEXT")

    def at(self, listener):
        return f"127.0.0.1:{self.ports[listener]}"

    def settings(self):
        """Its server.properties."""
        listeners = ",".join(f"{name}://{self.at(name)}" for name in self.ports)
        certificates = self.certificates
        jaas = {
            "plain": "plain.PlainLoginModule",
            "scram-sha-256": "scram.ScramLoginModule",
            "scram-sha-512": "scram.ScramLoginModule",
            "oauthbearer": "oauthbearer.OAuthBearerLoginModule",
        }
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": self.at("CONTROLLER"),
            "listeners": listeners,
            "advertised.listeners": ",".join(f"{name}://{self.at(name)}" for name in self.ports if name != "CONTROLLER"),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT," + ",".join(
                f"{name}:{name}" for name in self.ports if name != "CONTROLLER"
            ),
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "message.max.bytes": 16 << 20,
            # Small, and at once.
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 2 << 20,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "log.retention.check.interval.ms": 500,
            "log.initial.task.delay.ms": 500,
            "controlled.shutdown.enable": "false",
            # A broker that was killed may come back only when the controller has given up its former life.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 200,
            "controller.quorum.election.timeout.ms": 200,
            "controller.quorum.fetch.timeout.ms": 300,
            "controller.quorum.election.backoff.max.ms": 100,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "group.consumer.min.session.timeout.ms": 1000,
            "group.consumer.session.timeout.ms": SESSION_MS,
            "group.consumer.min.heartbeat.interval.ms": 100,
            "group.consumer.heartbeat.interval.ms": 300,
            # Certificates.
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": certificates.keystore("broker"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": certificates.ca,
            "listener.name.ssl.ssl.client.auth": "required",
            # Tokens are signed by whoever has the key of kafka_tokens.py; the broker reads its public half from a file.
            "sasl.oauthbearer.jwks.endpoint.url": (self.folder / "jwks.json").as_uri(),
            "sasl.oauthbearer.expected.audience": "kafka",
            "sasl.oauthbearer.expected.issuer": "https://tokens.test",
        }
        for listener in ["sasl_plaintext", "sasl_ssl"]:
            of = f"listener.name.{listener}"
            settings[f"{of}.sasl.enabled.mechanisms"] = ",".join(name.upper() for name in jaas)
            for mechanism, module in jaas.items():
                words = f"org.apache.kafka.common.security.{module} required"
                if mechanism == "plain":
                    words += f' user_{USERS["PLAIN"]}="{PASSWORD}"'
                settings[f"{of}.{mechanism}.sasl.jaas.config"] = words + ";"
            settings[f"{of}.oauthbearer.sasl.server.callback.handler.class"] = (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
            )
        return settings

    def start(self):
        """Starts it on what is there, and waits until it answers."""
        jwks = (self.folder / "jwks.json").as_uri()
        allowed = [
            ("log4j2.configurationFile", HERE / "log4j2.properties"),
            ("org.apache.kafka.sasl.oauthbearer.allowed.urls", jwks),
            ("org.apache.kafka.sasl.oauthbearer.allowed.files", self.folder / "jwks.json"),
        ]
        command = java("kafka.Kafka", self.properties, memory="512m", properties=allowed)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        await_that(self.answers, "the broker answers", at_most_s=120)
        return self

    def answers(self):
        """Whether it has told where its broker is: then it takes part in everything."""
        code = self.process.poll()
        assert code is None, f"the broker ended with {code}:\n{self.log_tail()}"
        try:
            return self.admin().list_topics(timeout=2).brokers
        except KafkaException:
            return False

    def admin(self):
        """A client for what is not records."""
        return AdminClient({"bootstrap.servers": self.address, "log_level": 0})

    def kill(self):
        """SIGKILL, if it lives."""
        self.end(signal.SIGKILL)

    def stop(self):
        """SIGTERM: it writes all, and leaves."""
        self.end(signal.SIGTERM)

    def end(self, how):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=60)
            self.process = None

    def log_tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:]) if self.log.exists() else ""


class Certificates:
    """An authority of our own, and keys it has signed: the broker's, and a client's."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        new = ["req", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj"]
        openssl(*new, "/CN=tests of hydrant", "-x509", "-keyout", folder / "ca.key", "-out", self.ca)
        for name in ["broker", "client"]:
            openssl(*new, f"/CN={name}", "-keyout", self.key(name), "-out", folder / f"{name}.csr")
            names = folder / "names"
            names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            sign = ["x509", "-req", "-days", "2", "-CA", self.ca, "-CAkey", folder / "ca.key", "-CAcreateserial"]
            openssl(*sign, "-in", folder / f"{name}.csr", "-extfile", names, "-out", self.certificate(name))

    def key(self, name):
        return self.folder / f"{name}.key"

    def certificate(self, name):
        return self.folder / f"{name}.pem"

    def keystore(self, name):
        """Key and certificate in one file, as Java's PEM store has them."""
        both = self.folder / f"{name}.both.pem"
        both.write_text(self.key(name).read_text() + self.certificate(name).read_text())
        return both


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, f"openssl {arguments[0]}:\n{done.stderr}"
