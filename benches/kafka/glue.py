"""What one would write by hand: confluent-kafka (librdkafka too) and a good library, a file at a time; prints its cost as JSON.

Usage: glue.py FORMAT ADDRESS TOPIC RECORDS KIND OUT_FOLDER. Parquet by Polars, gzip lines by libdeflate. It commits once a
file is written, so that a crash gives records twice; what interpreter and imports cost is not counted.
"""

import json
import os
import resource
import sys
import time

from kinds import polars_columns
from peers import BLOCK_BYTES, LINES_LEVEL, ZSTD_LEVEL

FILE_BYTES = 128 << 20
RECORDS_AT_ONCE = 10_000


def parquet(kind, out):
    import polars as pl

    assert pl.thread_pool_size() == 1
    schema, casts = polars_columns(kind)

    def write(number, payloads):
        rows = pl.read_ndjson(b"\n".join(payloads), schema=schema).with_columns(casts)
        rows.write_parquet(f"{out}/{number}.parquet", compression="zstd", compression_level=ZSTD_LEVEL)

    return write


def gzip(_, out):
    import deflate

    def write(number, payloads):
        lines = memoryview(b"\n".join([*payloads, b""]))
        with open(f"{out}/{number}.ndjson.gz", "wb", buffering=0) as file:
            for at in range(0, len(lines), BLOCK_BYTES):
                file.write(deflate.gzip_compress(lines[at : at + BLOCK_BYTES], LINES_LEVEL))

    return write


def read(address, topic, records, write):
    from confluent_kafka import Consumer

    settings = {"group.id": f"glue-{time.time_ns()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": address, **settings})
    consumer.subscribe([topic])
    payloads, size, seen, files = [], 0, 0, 0
    while seen < records:
        for record in consumer.consume(min(RECORDS_AT_ONCE, records - seen), 10.0):
            assert not record.error(), record.error()
            value = record.value()
            payloads.append(value)
            size += len(value)
            seen += 1
        if size >= FILE_BYTES or seen == records:
            write(files, payloads)
            consumer.commit(asynchronous=False)
            payloads, size, files = [], 0, files + 1


def main(format, address, topic, records, kind, out):
    import confluent_kafka  # noqa: F401

    write = {"parquet": parquet, "gzip": gzip}[format](kind, out)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    read(address, topic, int(records), write)
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    sys_s = after.ru_stime - before.ru_stime
    cpu_s = after.ru_utime - before.ru_utime + sys_s
    print(json.dumps({"cpu_s": cpu_s, "sys_s": sys_s, "wall_s": wall_s, "rss_mb": after.ru_maxrss / 1024}))
    sys.stdout.flush()
    os._exit(0)  # What a library does to end is not counted either.


if __name__ == "__main__":
    main(*sys.argv[1:])
