"""Firehose to Avro, CSV and JSON arrays in S3: every value comes back in fastavro, DuckDB and the json module."""

import base64
import gzip
import io
import json
from datetime import datetime
from decimal import Decimal

import duckdb
import fastavro
import pytest

import every_type
from hydrant import await_that, credentials
from objects import Lake, decompress
from test_every_type import SEED, compare, pipeline, put_all

RECORDS = 1500
# Avro has no uint64; what it has instead holds the same numbers.
AVRO_SCHEMA = every_type.SCHEMA | {
    "ubig": "decimal(20,0)",
    "items": "list<struct<sku:string,price:decimal(12,2),n:decimal(20,0)>>",
}


@pytest.fixture
def lake(s3, bucket, tmp_path):
    return Lake(s3, bucket, tmp_path)


def deliver(hydrant, bucket, lake, format, payloads, rows):
    """Sends the payloads, waits until `rows(bodies)` counts as many, and gives the bodies."""
    daemon = hydrant({"everything": pipeline(bucket, format)}, settings=credentials()).start()
    put_all(daemon, payloads)
    await_that(lambda: rows(lake.fetch()) >= len(payloads), "all is delivered")
    daemon.stop()
    assert lake.rejected() == []
    return lake.fetch()


@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_every_value_of_every_type_is_read_back_by_fastavro(hydrant, bucket, lake, compression):
    records = every_type.records(RECORDS, SEED)

    def rows(bodies):
        return [row for body in bodies.values() for row in fastavro.reader(io.BytesIO(body))]

    format = {"avro": {"compression": compression, "schema": AVRO_SCHEMA}}
    payloads = [data for data, _ in records]
    bodies = deliver(hydrant, bucket, lake, format, payloads, lambda bodies: len(rows(bodies)))
    assert all(name.endswith(".avro") for name in bodies)
    compare(rows(bodies), [row for _, row in records], "fastavro")


def test_csv_is_read_back_by_duckdb(hydrant, bucket, lake):
    records = every_type.records(RECORDS, SEED + 2)

    def rows(bodies):
        found = []
        for key in bodies:
            query = "SELECT * FROM read_csv(?, all_varchar = true, hive_partitioning = false, nullstr = '\\N', header = true,\
                delim = ',', quote = '\"', escape = '\"')"
            plain = lake.folder / "plain.csv"
            plain.write_bytes(decompress(key, bodies[key]))
            answer = duckdb.execute(query, [str(plain)])
            names = [column[0] for column in answer.description]
            found += [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        return found

    format = {"csv": {"compression": "gzip", "null_text": "\\N", "schema": every_type.SCHEMA}}
    payloads = [data for data, _ in records]
    bodies = deliver(hydrant, bucket, lake, format, payloads, lambda bodies: len(rows(bodies)))
    assert all(name.endswith(".csv.gz") for name in bodies)
    found = sorted(rows(bodies), key=lambda row: int(row["id"]))
    for row, (_, expected) in zip(found, records, strict=True):
        assert list(row) == list(every_type.COLUMNS)
        for name, kind in every_type.COLUMNS.items():
            got = None if row[name] is None else meant(row[name], kind.removesuffix(" not null"))
            assert got is UNSURE or got == expected[name], f"record {expected['id']}, {name} {kind}: {row[name]!r}"


UNSURE = object()


def meant(text, kind):
    """The value that a field of this type spells; UNSURE for those that JSON itself spells in two ways."""
    if kind in ("string", "dictionary<string>"):
        return text
    if kind.startswith(("int", "uint")):
        return int(text)
    if kind == "float64":
        return float(text)
    if kind.startswith("decimal"):
        return Decimal(text)
    if kind == "bool":
        return {"true": True, "false": False}[text]
    if kind.startswith("timestamp"):
        return datetime.fromisoformat(text)
    if kind == "binary":
        return base64.b64decode(text, validate=True)
    if kind in ("json", "list<string>", "list<list<int32>>", "map<string,int64>"):
        return json.loads(text)
    return UNSURE


def test_json_arrays_hold_every_record_as_it_was_sent(hydrant, bucket, lake):
    records = every_type.records(RECORDS, SEED + 3)

    def arrays(bodies):
        return [json.loads(gzip.decompress(body)) for body in bodies.values()]

    format = {"json_array": {"compression": "gzip"}}
    payloads = [data for data, _ in records]
    bodies = deliver(hydrant, bucket, lake, format, payloads, lambda bodies: sum(map(len, arrays(bodies))))
    assert all(name.endswith(".json.gz") for name in bodies)
    found = sorted((record for array in arrays(bodies) for record in array), key=lambda record: record["id"])
    assert found == [json.loads(payload) for payload in payloads]
