"""One piece of work as a peer does it; prints CPU seconds, wall seconds and peak RSS as JSON.

Usage: peers.py PEER KIND FILE OUT_FOLDER. What its interpreter and library cost to start is not counted.
"""

import json
import os
import resource
import sys
import time

from kinds import KINDS, arrow_type, duckdb_type, polars_columns

ZSTD_LEVEL = 3
LINES_LEVEL = 5  # hydrant's own default
BLOCK_BYTES = 1 << 20  # of lines, compressed as one member or frame: as hydrant does it


def duckdb_on(threads):
    def prepare(kind, path, out):
        import duckdb

        db = duckdb.connect()
        db.execute(f"SET threads = {threads}; SET enable_progress_bar = false")
        columns = ", ".join(f"{name}: '{duckdb_type(of)}'" for name, of in KINDS[kind].items())
        query = (
            f"COPY (SELECT * FROM read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})) "
            f"TO '{out}/duckdb.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {ZSTD_LEVEL})"
        )
        return lambda: db.execute(query)

    return prepare


def polars(kind, path, out):
    """Streaming, on one thread (POLARS_MAX_THREADS, set by the caller)."""
    import polars as pl

    assert pl.thread_pool_size() == 1
    schema, casts = polars_columns(kind)
    rows = pl.scan_ndjson(path, schema=schema).with_columns(casts)
    return lambda: rows.sink_parquet(f"{out}/polars.parquet", compression="zstd", compression_level=ZSTD_LEVEL)


def arrow(kind, path, out):
    """pyarrow on one thread: its JSON reader has no other way to a file than a table."""
    import pyarrow
    from pyarrow import json as reader
    from pyarrow import parquet

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    schema = pyarrow.schema([(name, arrow_type(of)) for name, of in KINDS[kind].items()])
    parse = reader.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = reader.ReadOptions(use_threads=False, block_size=16 << 20)

    def work():
        table = reader.read_json(path, read_options=read, parse_options=parse)
        parquet.write_table(table, f"{out}/pyarrow.parquet", compression="zstd", compression_level=ZSTD_LEVEL)

    return work


def libdeflate(_, path, out):
    """Blocks of 1 MiB, each a gzip member."""
    import deflate

    return lambda: blocks(path, f"{out}/libdeflate.gz", lambda block: deflate.gzip_compress(block, LINES_LEVEL))


def zstd(_, path, out):
    """Blocks of 1 MiB, each a frame."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return lambda: blocks(path, f"{out}/zstd.zst", compressor.compress)


def blocks(path, into, compress):
    with open(path, "rb", buffering=0) as data, open(into, "wb", buffering=0) as file:
        while block := data.read(BLOCK_BYTES):
            file.write(compress(block))


PEERS = {
    "DuckDB": duckdb_on(1),
    "DuckDB, 2 threads": duckdb_on(2),
    "Polars": polars,
    "pyarrow": arrow,
    "libdeflate": libdeflate,
    "zstd": zstd,
}


def main(peer, kind, path, out):
    work = PEERS[peer](kind, path, out)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    work()
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    sys_s = after.ru_stime - before.ru_stime
    print(json.dumps({
        "cpu_s": after.ru_utime - before.ru_utime + sys_s, "sys_s": sys_s, "wall_s": wall_s,
        "rss_mb": after.ru_maxrss / 1024,
    }))  # fmt: skip
    sys.stdout.flush()
    os._exit(0)  # What a library does to end is not counted either.


if __name__ == "__main__":
    main(*sys.argv[1:])
