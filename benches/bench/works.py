"""What is measured: hydrant, from a file or HTTP to Parquet or lines, with few or many prefixes; and its peers."""

import os
import sys
import zlib

from kinds import KINDS
from process import HERE, Daemon, Failed, measured, script, start

FORMATS = {
    "parquet": "parquet: {{ compression: {{ zstd: 3 }}, on_unknown: drop, schema: {{ {schema} }} }}",
    "gzip": "lines: {{ compression: gzip }}",
    "zstd": "lines: {{ compression: {{ zstd: 3 }} }}",
}
EXTENSIONS = {"parquet": ".parquet", "gzip": ".ndjson.gz", "zstd": ".ndjson.zst"}
# As many prefixes as the field has values.
PREFIXES = {1: "all/", 100: "campaign={campaign}/", 10_000: "tenant={tenant}/"}
DISK_S = 3


class Way:
    """One way through hydrant; called with the kind, its file and an empty folder, it goes it once."""

    def __init__(self, source, format, prefixes=1):
        self.source, self.format, self.prefixes = source, format, prefixes
        self.name = f"{source} to {format}" + (f", {prefixes} prefixes" if prefixes > 1 else "")

    def __call__(self, kind, path, folder, interval_s):
        # A file ends by itself; an interval would cut it by the clock, and so by how busy the machine is.
        command = self.command(kind, path, folder, interval_s if self.source == "HTTP" else 3600)
        result = self.from_file(command) if self.source == "file" else self.from_http(command, path)
        return {**result, **self.written(folder)}

    def from_file(self, command):
        """To the end of the process."""
        return measured([*command, "--once", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])

    def from_http(self, command, path):
        """CPU to the delivery of the last record and the end of the process; wall time to the last answer."""
        with Daemon(command) as daemon:
            sent = script("load.py", daemon.port, "bench", path)
            daemon.await_delivery(sent["records"])
        return {**daemon.cost, "wall_s": sent["seconds"], **sent}

    def command(self, kind, path, folder, interval_s):
        """The command line of a pipeline into `folder`/out."""
        (folder / "out").mkdir(parents=True)
        schema = ", ".join(f'{name}: "{of}"' for name, of in KINDS[kind].items())
        source = "http: { stream: bench }" if self.source == "HTTP" else f'file: {{ path: "{path}", follow: false }}'
        pipeline = folder / "bench.yaml"
        pipeline.write_text(
            f"source: {{ {source} }}\n"
            f"format: {{ {FORMATS[self.format].format(schema=schema)} }}\n"
            f"buffer: {{ size: 128 MiB, interval: {interval_s}s }}\n"
            f'sink: {{ object_store: {{ url: "file://{folder}/out/", prefix: "{PREFIXES[self.prefixes]}" }} }}\n'
        )
        return [os.environ["HYDRANT"], "run", pipeline, "--state", folder / "state"]

    def written(self, folder):
        """Bytes and number of the objects; an error object is a failure."""
        sizes = []
        for file in (folder / "out").rglob("*"):
            if file.is_file():
                if not file.name.endswith(EXTENSIONS[self.format]):
                    raise Failed(f"{self.name} wrote {file.relative_to(folder)}")
                sizes.append(file.stat().st_size)
        return {"bytes": sum(sizes), "objects": len(sizes)}


WAYS = [
    Way("file", "parquet"),
    Way("HTTP", "parquet"),
    Way("file", "gzip"),
    Way("HTTP", "gzip"),
    Way("file", "zstd"),
    Way("file", "parquet", 100),
    Way("file", "parquet", 10_000),
    Way("HTTP", "parquet", 100),
    Way("HTTP", "parquet", 10_000),
]


class Peer:
    """A library that does the same, in one process (peers.py)."""

    def __init__(self, name, format):
        self.name, self.format = name, format

    def __call__(self, kind, path, folder, _):
        out = folder / "out"
        out.mkdir(parents=True)
        result = script("peers.py", self.name, kind, path, out, POLARS_MAX_THREADS="1")
        return {**result, "bytes": sum(file.stat().st_size for file in out.iterdir()), "objects": 1}


class Program(Peer):
    """A program that packs a file onto its standard output."""

    def __call__(self, kind, path, folder, _):
        into = folder / "out" / f"{self.name}.gz"
        into.parent.mkdir(parents=True)
        with open(into, "wb") as file:
            result = measured([self.name, "-6", "-c", path], stdout=file)
        return {**result, "bytes": into.stat().st_size, "objects": 1}


PEERS = [
    Peer("DuckDB", "parquet"),
    Peer("DuckDB, 2 threads", "parquet"),
    Peer("Polars", "parquet"),
    Peer("pyarrow", "parquet"),
    Peer("libdeflate", "gzip"),
    Program("gzip", "gzip"),
    Program("pigz", "gzip"),
    Peer("zstd", "zstd"),
]


def acks(way, kind, path, folder, mb_per_s, seconds):
    """Answers at a steady load, and the disk alone before and after it, with blocks as large as the requests."""
    folder.mkdir(parents=True)
    block_bytes = int(path.stat().st_size / lines(path) * 500)
    disk = script("disk.py", folder, block_bytes, DISK_S)
    with Daemon(way.command(kind, path, folder, 10)) as daemon:
        sent = script("load.py", daemon.port, "bench", path, mb_per_s, seconds)
        daemon.await_delivery(sent["records"])
    disk += script("disk.py", folder, block_bytes, DISK_S)
    disk.sort()
    return {
        **sent,
        "offered_mb_per_s": mb_per_s,
        "disk_per_s": 1000 * len(disk) / sum(disk),
        "disk_p50_ms": disk[len(disk) // 2],
        "disk_p99_ms": disk[len(disk) * 99 // 100],
    }


def lines(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def data(kind, mb, seed, home):
    """The file of a kind, a size and a seed; made if it is not there, and read once, so that it lies in memory."""
    maker = zlib.crc32((HERE / "data.py").read_bytes())
    path = home / "data" / f"{kind}-{mb}-{seed}-{maker:08x}.ndjson"
    if not path.exists():
        print(f"making {mb} MB of {kind} ...", flush=True)
        path.parent.mkdir(exist_ok=True)
        process = start([sys.executable, HERE / "data.py", kind, str(mb * 1_000_000), str(seed), path])
        if process.wait() != 0:
            raise Failed(f"data of kind {kind} could not be made; see {home / 'log'}")
    lines(path)
    return path
