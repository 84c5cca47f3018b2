"""Firehose to Parquet in S3: every value of every type comes back in DuckDB and in pyarrow; lines come back too."""

import gzip

import pytest

import every_type
from hydrant import await_that, credentials, s3_sink
from objects import Lake, body, keys

RECORDS = 4000
SEED = 20261120


@pytest.fixture
def lake(s3, bucket, tmp_path):
    return Lake(s3, bucket, tmp_path)


def pipeline(bucket, format, size="128 KiB", **sink):
    return {
        "source": {"firehose": {"stream": "everything"}},
        "format": format,
        "buffer": {"size": size, "interval": "700ms"},
        "sink": s3_sink(bucket, "lake/", **sink),
    }


def put_all(daemon, payloads):
    client = daemon.firehose()
    for start in range(0, len(payloads), 400):
        records = [{"Data": data} for data in payloads[start : start + 400]]
        assert client.put_record_batch(DeliveryStreamName="everything", Records=records)["FailedPutCount"] == 0


def compare(rows, expected, reader):
    """Every value of every row; the first few differences, if there are any."""
    rows = sorted(rows, key=lambda row: row["id"])
    assert [row["id"] for row in rows] == [row["id"] for row in expected], f"{reader}: each record once"
    different = []
    for row, expect in zip(rows, expected, strict=True):
        assert list(row) == list(every_type.COLUMNS), f"{reader}: the columns as declared"
        got, want = every_type.canonical_row(row), every_type.expected_row(expect)
        different += [
            f"{reader}: record {expect['id']}, {name} {kind}: {got[name]!r}, not {want[name]!r}"
            for name, kind in every_type.COLUMNS.items()
            if got[name] != want[name]
        ]
    assert not different, f"{len(different)} values differ:\n" + "\n".join(different[:20])


SORTED = {"sort_by": ["shop", {"column": "at_us", "descending": True, "nulls_first": True}]}
BLOOM = {"bloom_filters": ["id", "text", "price", "place.lat", "tags"]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "snappy"},
        {"compression": "gzip"},
        {"compression": "lz4"},
        {"compression": "none"},
        {"writer_version": 1},
        {"writer_version": 1, "compression": "snappy", **SORTED},
        {"encodings": "plain_dictionary", **BLOOM},
        {"page_bytes": "8 KiB", **SORTED, **BLOOM},
    ],
    ids=str,
)
def test_every_value_of_every_type_is_read_back_by_duckdb_and_pyarrow(hydrant, bucket, lake, options):
    # Enough for each shop's objects that encodings are chosen from the data.
    records = every_type.records(RECORDS, SEED)
    format = {"parquet": {"schema": every_type.SCHEMA, **options}}
    prefix = "shop={shop}/day={arrival:%Y-%m-%d}/"
    daemon = hydrant(
        {"everything": pipeline(bucket, format, size="16 MiB", prefix=prefix)}, settings=credentials()
    ).start()
    put_all(daemon, [data for data, _ in records])
    await_that(lambda: lake.rows() + len(lake.rejected()) >= len(records), "all is delivered")
    daemon.stop()
    assert [record["lastErrorMessage"] for record in lake.rejected()] == []
    expected = [row for _, row in records]
    compare(lake.by_pyarrow(), expected, "pyarrow")
    compare(lake.by_duckdb(), expected, "DuckDB")
    shops = {key.split("shop=")[1].split("/")[0] for key in lake.fetch()}
    assert len(shops) == 3, f"one prefix for each shop: {shops}"
    assert all(key.startswith("lake/shop=") and key.endswith(".parquet") for key in lake.fetch())


def test_a_wrong_record_is_set_aside_byte_for_byte_and_stops_no_neighbour(hydrant, bucket, lake):
    good = every_type.records(200, SEED)
    wrong = [
        b"not json",
        b'{"id": 1, "shop": "x"',
        b'{"id": "twelve", "shop": "x"}',
        b'{"shop": "no id"}',
        b'{"id": 1}',
        b'{"id": 9223372036854775808, "shop": "x"}',
        b'{"id": 1, "shop": "x", "utiny": 256}',
        b'{"id": 1, "shop": "x", "price": 0.001}',
        b'{"id": 1, "shop": "x", "at_ms": "yesterday"}',
        b'{"id": 1, "shop": "x", "day": "2026-02-30"}',
        b'{"id": 1, "shop": "x", "raw": "&&&"}',
        b'{"id": 1, "shop": "\xff\xfe"}',
        b"[" * 100_000,
        b"",
    ]
    format = {"parquet": {"schema": every_type.SCHEMA}}
    daemon = hydrant({"everything": pipeline(bucket, format)}, settings=credentials()).start()
    mixed = [data for data, _ in good]
    for at, data in enumerate(wrong):
        mixed.insert(at * 11, data)
    put_all(daemon, mixed)
    await_that(lambda: lake.rows() + len(lake.rejected()) >= len(mixed), "all is delivered")
    daemon.stop()
    compare(lake.by_pyarrow(), [row for _, row in good], "pyarrow")
    assert sorted(record["raw"] for record in lake.rejected()) == sorted(wrong)
    for record in lake.rejected():
        assert record["lastErrorCode"] and record["lastErrorMessage"], record


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_lines_come_back_as_they_were_sent(hydrant, bucket, lake, s3, compression):
    records = every_type.records(1500, SEED + 1)
    daemon = hydrant(
        {"everything": pipeline(bucket, {"lines": {"compression": compression}})}, settings=credentials()
    ).start()
    put_all(daemon, [data for data, _ in records])
    await_that(lambda: len(lake.lines()) >= len(records), "all is delivered")
    daemon.stop()
    assert sorted(lake.lines()) == sorted(data for data, _ in records)
    ending = {"none": ".ndjson", "gzip": ".ndjson.gz", "zstd": ".ndjson.zst"}[compression]
    names = keys(s3, bucket)
    assert names and all(name.startswith("lake/") and name.endswith(ending) for name in names), names
    if compression == "gzip":
        assert gzip.decompress(body(s3, bucket, names[0])).endswith(b"}\n")
