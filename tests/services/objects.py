"""What lies in a bucket, and the ways to read it."""

import base64
import gzip
import json

import duckdb
import pyarrow.parquet
import zstandard


def keys(s3, bucket, prefix=""):
    """The names of all objects below `prefix`."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def body(s3, bucket, key):
    """The bytes of an object."""
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


class Lake:
    """The objects of one bucket, each fetched once: a delivered object never changes."""

    def __init__(self, s3, bucket, folder):
        self.s3, self.bucket, self.folder = s3, bucket, folder
        self.bodies = {}

    def fetch(self):
        """All objects as a dict from name to bytes."""
        for key in keys(self.s3, self.bucket):
            if key not in self.bodies:
                self.bodies[key] = body(self.s3, self.bucket, key)
        return self.bodies

    def lines(self):
        """The lines of all objects but error objects, decompressed by what their names end in."""
        bodies = {key: data for key, data in self.fetch().items() if not is_error(key)}
        return [line for key, data in bodies.items() for line in split(decompress(key, data))]

    def rows(self):
        """Rows of all Parquet objects, by their footers."""
        return sum(self.table(key).num_rows for key in self.fetch() if key.endswith(".parquet"))

    def table(self, key):
        """A Parquet object as pyarrow reads it."""
        return pyarrow.parquet.ParquetFile(self.file(key)).read()

    def file(self, key):
        """An object as a file on disk."""
        path = self.folder / key.replace("/", "|")
        if not path.exists():
            path.write_bytes(self.bodies[key])
        return path

    def by_pyarrow(self):
        """All rows as dicts, read by pyarrow."""
        return [row for key in self.fetch() if key.endswith(".parquet") for row in self.table(key).to_pylist()]

    def by_duckdb(self):
        """All rows as dicts, read by DuckDB."""
        rows = []
        with duckdb.connect() as connection:
            for key in self.fetch():
                if key.endswith(".parquet"):
                    answer = connection.execute(
                        "SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(self.file(key))]
                    )
                    names = [column[0] for column in answer.description]
                    rows += [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
        return rows

    def rejected(self):
        """The error records below errors/, each with its bytes under `raw`."""
        records = []
        for key, data in self.fetch().items():
            if is_error(key):
                for line in split(data):
                    record = json.loads(line)
                    record["raw"] = base64.b64decode(record["rawData"], validate=True)
                    records.append(record)
        return records


def is_error(key):
    """Whether it lies below the default error prefix."""
    return "errors/" in key


def decompress(key, data):
    if key.endswith(".gz"):
        return gzip.decompress(data)
    if key.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read()
    return data


def split(data):
    assert data.endswith(b"\n"), "an object ends with a whole line"
    return data[:-1].split(b"\n")
