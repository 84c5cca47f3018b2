"""Starts what is measured, and says what it cost.

This process stays small, and so must all that it imports: a child's peak RSS begins with that of its parent.
"""

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
HOME = HERE.parent.parent / "target" / "bench"
WAIT_MAX_S = 900
running = []


class Failed(Exception):
    """One piece of work did not end as it should; the others go on."""


def start(command, **options):
    """Starts a command that does not outlive this process; it prints into target/bench/log, unless told otherwise."""
    with open(HOME / "log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, **{"stdout": log, **options})
    running[:] = [each for each in running if each.returncode is None] + [process]
    return process


@atexit.register
def stop():
    """However this process ends, what it started does too; SIGTERM is made an ordinary end."""
    for process in running:
        if process.returncode is None:
            process.kill()
            process.wait()


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def ended(process, good=(0,)):
    """Waits for the end, with one of the `good` codes: CPU seconds (all, and of the system) and peak RSS of this process alone."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in good:
        raise Failed(f"{process.args[0]} ended with {process.returncode}; see {HOME / 'log'}")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "sys_s": usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024}


def measured(command, **options):
    """Runs a command to its end."""
    began = time.monotonic()
    process = start(command, **options)
    return {**ended(process), "wall_s": time.monotonic() - began}


def script(name, *arguments, **environment):
    """Runs one of the scripts beside this one in a process of its own; what it prints, as JSON."""
    process = start([sys.executable, HERE / name, *map(str, arguments)], stdout=subprocess.PIPE,
                    env={**os.environ, **environment})  # fmt: skip
    printed = process.stdout.read()
    if process.wait() != 0:
        raise Failed(f"{name} {' '.join(map(str, arguments[:2]))} ended with {process.returncode}; see {HOME / 'log'}")
    return json.loads(printed) if printed else None


class Daemon:
    """hydrant behind a free port; `with` waits until it is ready, and stops it; then `cost` says what it took."""

    def __init__(self, command):
        self.port, self.admin = free_port(), free_port()
        addresses = ["--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{self.admin}"]
        self.process = start([*command, *addresses])
        self.cost = None

    def __enter__(self):
        self.await_that(lambda: fetch(self.admin, "/healthz"), "ready", 0.01)
        return self

    def __exit__(self, failure, *_):
        if failure:
            self.process.kill()
            self.process.wait()
        else:
            self.process.send_signal(signal.SIGTERM)
            self.cost = ended(self.process)

    def await_delivery(self, records):
        """Until /metrics says that so many records are in delivered objects."""
        pattern = re.compile(r"^hydrant_records_out_total\{[^}]*\} (\d+)", re.MULTILINE)

        def delivered():
            found = pattern.search(fetch(self.admin, "/metrics") or "")
            return found and int(found[1]) >= records

        self.await_that(delivered, f"done with {records} records", 0.1)

    def await_that(self, condition, what, pause_s):
        deadline = time.monotonic() + WAIT_MAX_S
        while not condition():
            if self.process.poll() is not None:
                raise Failed(f"hydrant ended with {self.process.returncode} before it was {what}; see {HOME / 'log'}")
            if time.monotonic() > deadline:
                raise Failed(f"hydrant was not {what} after {WAIT_MAX_S} s; see {HOME / 'log'}")
            time.sleep(pause_s)


def fetch(port, path):
    """The body of a 200; None if there is none. By hand, as Python's client alone takes as much memory as hydrant."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).decode().partition("\r\n\r\n")
            return body if head.split(" ", 2)[1] == "200" else None
    except OSError:
        return None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
