"""curl posts NDJSON, compressed and not; a pipe goes to S3 with --once."""

import gzip
import json
import subprocess

import pytest

from hydrant import KEY, await_that, credentials, die_with_parent, s3_sink
from objects import Lake


@pytest.fixture
def lake(s3, bucket, tmp_path):
    return Lake(s3, bucket, tmp_path)


def pipeline(source, bucket):
    return {
        "source": source,
        "format": {"parquet": {"schema": {"id": "int64 not null", "name": "string"}}},
        "buffer": {"size": "1 MiB", "interval": "400ms"},
        "sink": s3_sink(bucket, "lake/"),
    }


def lines(start, end):
    return b"".join(json.dumps({"id": n, "name": f"récord {n}"}).encode() + b"\n" for n in range(start, end))


def curl(daemon, body, *options, stream="clicks"):
    """Posts `body`; returns (status, answer)."""
    command = ["curl", "--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"]
    command += ["--data-binary", "@-", *options, f"{daemon.url}/streams/{stream}/records"]
    done = subprocess.run(command, input=body, capture_output=True, check=True)
    answer, status = done.stdout.rsplit(b"\n", 1)
    return int(status), json.loads(answer)


def test_curl_posts_lines_arrays_and_gzip(hydrant, bucket, lake):
    daemon = hydrant({"clicks": pipeline({"http": {"stream": "clicks"}}, bucket)}).start()
    ndjson = ["--header", "Content-Type: application/x-ndjson"]
    assert curl(daemon, lines(0, 10), *ndjson) == (200, {"records": 10})
    zipped = gzip.compress(lines(10, 30_010))
    assert curl(daemon, zipped, *ndjson, "--header", "Content-Encoding: gzip") == (200, {"records": 30_000})
    array = json.dumps([{"id": 30_010, "name": "a"}, {"id": 30_011, "name": None}]).encode()
    as_json = ["--header", "Content-Type: application/json"]
    assert curl(daemon, array, *as_json) == (200, {"records": 2})
    assert curl(daemon, b'{"id": 30012, "name": "one"}', *as_json) == (200, {"records": 1})
    assert curl(daemon, b"x", *ndjson, stream="nowhere")[0] == 404
    status, answer = curl(daemon, zipped[:-20], *ndjson, "--header", "Content-Encoding: gzip")
    assert status == 400 and "error" in answer
    await_that(lambda: lake.rows() >= 30_013, "all is delivered")
    daemon.stop()
    rows = sorted(lake.by_duckdb(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(30_013))
    assert all(row["name"] == f"récord {row['id']}" for row in rows[:30_010])
    assert [row["name"] for row in rows[30_010:]] == ["a", None, "one"]


def test_with_credentials_curl_needs_them(hydrant, bucket, lake):
    daemon = hydrant({"clicks": pipeline({"http": {"stream": "clicks"}}, bucket)}, settings=credentials()).start()
    assert curl(daemon, lines(0, 1))[0] == 401
    assert curl(daemon, lines(0, 1), "--user", f"{KEY[0]}:wrong")[0] == 401
    assert curl(daemon, lines(1, 2), "--user", ":".join(KEY)) == (200, {"records": 1})
    await_that(lake.fetch, "the right one is delivered")
    daemon.stop()
    assert [row["id"] for row in lake.by_pyarrow()] == [1]


def test_a_pipe_is_delivered_and_the_process_ends(hydrant, bucket, lake):
    daemon = hydrant({"pipe": pipeline({"stdin": {}}, bucket)})
    sent = lines(0, 50_000) + b'{"id": 50000, "name": "without a newline"}'
    done = subprocess.run(
        daemon.command("--once"), input=sent, capture_output=True, timeout=120, preexec_fn=die_with_parent
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert sorted(row["id"] for row in lake.by_duckdb()) == list(range(50_001))
    assert lake.rejected() == []
