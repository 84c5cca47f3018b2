"""Runs the ways and the reference, checks that all wrote the same rows, and prints the table. Use benches/run."""

import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import clicks

HERE = Path(__file__).parent
HOME = HERE.parent / "target" / "bench"
DELIVERY_MAX_S = 600


def main(mb, runs):
    HOME.mkdir(parents=True, exist_ok=True)
    data = HOME / f"clicks-{mb}.ndjson"
    if not data.exists():
        print(f"making {mb} MB of clickstream ...", flush=True)
        clicks.write(data, mb)
    gb = data.stat().st_size / 1e9
    ways = {"hydrant, file": from_file, "hydrant, HTTP": from_http, "DuckDB, file": by_duckdb}
    results = {name: [] for name in ways}
    sums = {}
    for run in range(runs):
        for name, way in ways.items():
            folder = HOME / "run"
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "out").mkdir(parents=True)
            result = way(data, folder)
            objects = sorted((folder / "out").rglob("*.parquet"))
            result["bytes"] = sum(path.stat().st_size for path in objects)
            sums[name] = summary(objects)
            if sums[name] != sums["hydrant, file"]:
                sys.exit(f"bench: {name} wrote other rows: {sums[name]}, and hydrant, file {sums['hydrant, file']}")
            results[name].append(result)
            cpu = result["cpu_s"] / gb
            print(f"run {run + 1}: {name}: {cpu:.2f} CPU s/GB, {result['wall_s']:.1f} s wall", flush=True)
    shutil.rmtree(HOME / "run", ignore_errors=True)
    table(results, gb, next(iter(sums.values()))["rows"])


def table(results, gb, rows):
    load = os.getloadavg()[0]
    print(f"\n{gb * 1000:.0f} MB, {rows} records of {gb * 1e9 / rows:.0f} bytes; Parquet, zstd 3; {os.cpu_count()} cores")
    print(f"median of {len(results['DuckDB, file'])} interleaved runs; load average at the end {load:.1f}\n")
    median = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()
    }
    reference = median["DuckDB, file"]
    print("| way | CPU s/GB | of it system | x DuckDB | MB/s wall | peak RSS MB | output MB | x DuckDB |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in median.items():
        print(
            f"| {name} | {run['cpu_s'] / gb:.2f} | {run['sys_s'] / gb:.2f} | {run['cpu_s'] / reference['cpu_s']:.2f} "
            f"| {gb * 1000 / run['wall_s']:.0f} | {run['rss_mb']:.0f} | {run['bytes'] / 1e6:.1f} "
            f"| {run['bytes'] / reference['bytes']:.3f} |"
        )


def from_file(data, folder):
    """`hydrant run --once` over the file; the whole process counts."""
    source = f'file: {{ path: "{data}", follow: false }}'
    return measured(hydrant(folder, source, "1h", "--once"))


def from_http(data, folder):
    """A daemon that answers each request after the fsync; counted to the delivery of the last record and its end."""
    port, admin = free_port(), free_port()
    addresses = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    process = start(hydrant(folder, "http: { stream: bench }", "5s", *addresses))
    try:
        await_that(lambda: fetch(admin, "/healthz"), process, "ready")
        load = subprocess.run(
            [sys.executable, HERE / "load.py", str(port), "bench", data], stdout=subprocess.PIPE, check=True
        )
        sent = json.loads(load.stdout)
        await_that(lambda: delivered(admin) >= sent["records"], process, "all delivered")
        process.send_signal(signal.SIGTERM)
    except BaseException:
        process.kill()
        raise
    return {**waited(process), "wall_s": sent["seconds"]}


def by_duckdb(data, folder):
    """DuckDB on one thread; what its interpreter and library cost to start is not counted."""
    columns = ", ".join(f"{name}: '{types[1]}'" for name, types in clicks.SCHEMA.items())
    query = (
        f"COPY (SELECT * FROM read_json('{data}', format = 'newline_delimited', columns = {{{columns}}})) "
        f"TO '{folder / 'out' / 'duckdb.parquet'}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)"
    )
    script = (
        "import duckdb, resource, sys, time\n"
        "db = duckdb.connect()\n"
        "db.execute('SET threads = 1; SET enable_progress_bar = false')\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(usage.ru_utime + usage.ru_stime, time.monotonic(), flush=True)\n"
        "db.execute(sys.argv[1])\n"
    )
    result = measured([sys.executable, "-c", script, query], stdout=subprocess.PIPE)
    cpu_s, began = map(float, result.pop("printed").split())
    return {**result, "cpu_s": result["cpu_s"] - cpu_s, "wall_s": time.monotonic() - began}


def hydrant(folder, source, interval, *more):
    """The command line of a pipeline from `source` to Parquet below `folder`."""
    schema = ", ".join(f'{name}: "{types[0]}"' for name, types in clicks.SCHEMA.items())
    pipeline = folder / "bench.yaml"
    pipeline.write_text(
        f"source: {{ {source} }}\n"
        f"format: {{ parquet: {{ compression: zstd, on_unknown: drop, schema: {{ {schema} }} }} }}\n"
        f"buffer: {{ size: 128 MiB, interval: {interval} }}\n"
        f'sink: {{ object_store: {{ url: "file://{folder}/out/" }} }}\n'
    )
    if "--listen" not in more:
        more += ("--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}")
    return [os.environ["HYDRANT"], "run", pipeline, "--state", folder / "state", *more]


def start(command, **options):
    with open(HOME / "log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, **{"stdout": log, **options})


def measured(command, **options):
    """Runs a command to its end."""
    started = time.monotonic()
    process = start(command, **options)
    printed = process.stdout.read() if process.stdout else b""
    result = {**waited(process), "wall_s": time.monotonic() - started}
    return {**result, "printed": printed} if printed else result


def waited(process):
    """Waits for the end: CPU seconds (user and system) and peak RSS of the process."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"bench: {process.args[0]} ended with {process.returncode}; see {HOME / 'log'}")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "sys_s": usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024}


def delivered(admin):
    """Rows in delivered objects, as /metrics says."""
    found = re.search(r'^hydrant_records_out_total\{[^}]*\} (\d+)', fetch(admin, "/metrics") or "", re.MULTILINE)
    return int(found[1]) if found else 0


def fetch(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def await_that(condition, process, what):
    deadline = time.monotonic() + DELIVERY_MAX_S
    while not condition():
        if process.poll() is not None:
            sys.exit(f"bench: hydrant ended with {process.returncode} before it was {what}; see {HOME / 'log'}")
        if time.monotonic() > deadline:
            sys.exit(f"bench: not {what} after {DELIVERY_MAX_S} s; see {HOME / 'log'}")
        time.sleep(0.02)


def summary(objects):
    """Rows and a sum of every column, in a process of its own: this one stays small, as RSS figures begin with it."""
    done = subprocess.run([sys.executable, HERE / "sums.py", *objects], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
