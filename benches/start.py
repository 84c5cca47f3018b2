#!/usr/bin/env python3
"""What a start and doing nothing cost: time to ready, CPU, memory, threads and files of N idle pipelines.

    benches/start.py target/release/hydrant 100 [SECONDS] [FOLDER]

Starts three times on the same state (the first makes it, the others recover it) below FOLDER [default: a temporary one; of
/dev/shm it shows what is left without a disk's syncs], and then once more to look on for SECONDS [default: 30].
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PIPELINE = """\
source: {{ firehose: {{ stream: s{number} }} }}
format: {{ lines: {{}} }}
buffer: {{ size: 8 MiB, interval: 60s }}
sink: {{ object_store: {{ url: ./out/p{number} }} }}
"""
START_SECONDS_MAX = 120


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status(pid, key):
    with open(f"/proc/{pid}/status") as lines:
        return int(re.search(rf"^{key}:\s+(\d+)", lines.read(), re.M)[1])


def start(binary, home):
    command = [binary, "run", "p", "--state", "state", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "json"]
    with open(f"{home}/log", "w") as log:
        process = subprocess.Popen(command, cwd=home, stderr=log)
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        with open(f"{home}/log") as log:
            said = log.read()
        if ready := re.search(r'"ready_ms":"?(\d+)', said):
            return process, int(ready[1])
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"never ready:\n{said[-2000:]}")
        time.sleep(0.01)


def main():
    binary, pipelines = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 30
    home = tempfile.mkdtemp(prefix="hydrant-start", dir=sys.argv[4] if len(sys.argv) > 4 else None)
    os.mkdir(f"{home}/p")
    for number in range(pipelines):
        with open(f"{home}/p/p{number}.yaml", "w") as file:
            file.write(PIPELINE.format(number=number))
    try:
        for kind in ["first start", "second start", "third start"]:
            process, ready_ms = start(binary, home)
            pid, cpu = process.pid, cpu_seconds(process.pid)
            files = len(os.listdir(f"/proc/{pid}/fd"))
            print(f"{kind}: ready after {ready_ms} ms, {cpu:.2f} s CPU, {status(pid, 'VmRSS') / 1024:.1f} MiB resident, "
                  f"{status(pid, 'Threads')} threads, {files} files")
            process.send_signal(signal.SIGTERM)
            process.wait()
        process, _ = start(binary, home)
        time.sleep(2)
        cpu = cpu_seconds(process.pid)
        time.sleep(seconds)
        used = cpu_seconds(process.pid) - cpu
        print(f"idle: {used:.2f} s CPU in {seconds:.0f} s ({100 * used / seconds:.2f} % of a core), "
              f"{status(process.pid, 'VmRSS') / 1024:.1f} MiB resident")
        process.send_signal(signal.SIGTERM)
        process.wait()
    finally:
        shutil.rmtree(home)


main()
