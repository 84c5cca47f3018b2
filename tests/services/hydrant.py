"""The real binary in a folder of its own: pipelines, state, log, ports, and ways to start and stop it."""

import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config

KEY = ("AKIAHYDRANTTEST", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")


def s3_sink(bucket, folder, **more):
    """The `sink:` of a pipeline that writes to the S3 server."""
    options = {
        "aws_endpoint": os.environ["S3_ENDPOINT"],
        "aws_allow_http": "true",
        "aws_region": "eu-central-1",
        "aws_access_key_id": "store",
        "aws_secret_access_key": "store-secret",
    }
    return {"object_store": {"url": f"s3://{bucket}/{folder}", "options": options, **more}}


def await_that(condition, what, at_most_s=60):
    """Asks again and again until `condition()` is true, and returns what it answered."""
    deadline = time.monotonic() + at_most_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {at_most_s} s: {what}"
        time.sleep(0.05)


class Hydrant:
    """`pipelines` maps names to dicts; `settings` becomes hydrant.yaml."""

    def __init__(self, folder, pipelines, settings=None):
        self.folder = folder
        self.log = folder / "log"
        self.listen = free_port()
        self.admin = free_port()
        self.process = None
        (folder / "pipelines").mkdir(parents=True)
        for name, pipeline in pipelines.items():
            (folder / "pipelines" / f"{name}.yaml").write_text(yaml(pipeline))
        self.config = None
        if settings is not None:
            self.config = folder / "hydrant.yaml"
            self.config.write_text(yaml(settings))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listen}"

    def command(self, *more):
        """The command line that runs all pipelines."""
        command = [os.environ["HYDRANT"], "run", str(self.folder / "pipelines"), "--state", str(self.folder / "state")]
        command += ["--listen", f"127.0.0.1:{self.listen}", "--admin", f"127.0.0.1:{self.admin}"]
        if self.config:
            command += ["--config", str(self.config)]
        return command + list(more)

    def start(self):
        """Starts it on the state that is there, and waits until it says that it is healthy."""
        self.spawn()
        await_that(self.is_ready, "hydrant is ready")
        return self

    def spawn(self):
        """Starts it, and waits for nothing."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent
            )

    def is_ready(self):
        code = self.process.poll()
        assert code is None, f"hydrant ended with {code}:\n{self.log_tail()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/healthz", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def metrics(self):
        """What it counts: `name{labels}` to number."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}

    def kill(self):
        """SIGKILL, if it lives."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        """SIGTERM; it must leave with exit code 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.process = None
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log_tail()}"

    def firehose(self, key=KEY, port=None, **config):
        """A boto3 client of it."""
        return boto3.client(
            "firehose",
            endpoint_url=f"http://127.0.0.1:{port or self.listen}",
            region_name="eu-central-1",
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            config=Config(max_pool_connections=16, **config),
        )

    def log_tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:]) if self.log.exists() else ""


def credentials():
    """The hydrant.yaml that lets in who signs with KEY."""
    return {"credentials": [{"access_key_id": KEY[0], "secret_access_key": KEY[1]}]}


def yaml(value, indent=0):
    """A dict as YAML in block style, texts in double quotes: as JSON is YAML, no library is needed."""
    import json

    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines.append(" " * indent + f"{key}:\n" + yaml(inner, indent + 2))
        else:
            lines.append(" " * indent + f"{key}: {json.dumps(inner)}\n")
    return "".join(lines)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def die_with_parent():
    """Asks the kernel to kill this process when the thread that started it ends (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
