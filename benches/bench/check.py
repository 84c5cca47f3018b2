"""Says what was written, so that two outputs can be compared whatever the order of their rows; prints it as JSON.

Usage: check.py parquet KIND FOLDER, check.py json KIND FILE, check.py lines FOLDER_OR_FILE, or, for its rows alone,
check.py rows FOLDER

Columns, as DuckDB reads them from Parquet or from the input: the number of rows, for each column the sum of the 64-bit
hashes of its values, and the sum of the hashes of whole rows: a value that is wrong, missing, double or in another row
changes one of them. Lines: their number and the sum of their hashes.
"""

import gzip
import json
import sys
from pathlib import Path

from kinds import KINDS, duckdb_type


def parquet(kind, folder):
    return columns(kind, f"read_parquet('{folder}/**/*.parquet', hive_partitioning = false)")


def rows(folder):
    import duckdb

    return {"rows": duckdb.connect().execute(f"SELECT count(*) FROM read_parquet('{folder}/**/*.parquet')").fetchone()[0]}


def json_lines(kind, path):
    types = ", ".join(f"{name}: '{duckdb_type(of)}'" for name, of in KINDS[kind].items())
    return columns(kind, f"read_json('{path}', format = 'newline_delimited', columns = {{{types}}})")


def columns(kind, table):
    import duckdb

    values = {
        name: f'epoch_ms("{name}")' if of == "timestamp(ms)" else f'"{name}"::{duckdb_type(of)}'
        for name, of in KINDS[kind].items()
    }
    sums = ", ".join(f'sum(hash({value})::HUGEINT) AS "{name}"' for name, value in values.items())
    db = duckdb.connect()
    db.execute("SET enable_progress_bar = false")
    rows = db.execute(
        f"SELECT count(*), sum(hash({', '.join(values.values())})::HUGEINT), {sums} FROM {table}"
    ).fetchone()
    return {
        "rows": rows[0],
        "row sum": str(rows[1]),
        **{name: str(of) for name, of in zip(values, rows[2:], strict=True)},
    }


def lines(path):
    path = Path(path)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    rows = total = 0
    for file in files:
        for line in opened(file):
            rows += 1
            total += hash(line)
    return {"rows": rows, "row sum": str(total)}


def opened(file):
    if file.suffix == ".gz":
        return gzip.open(file)
    if file.suffix == ".zst":
        import io

        import zstandard

        return io.BufferedReader(zstandard.open(file, "rb", dctx=zstandard.ZstdDecompressor()))
    return open(file, "rb")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(json.dumps({"parquet": parquet, "json": json_lines, "lines": lines, "rows": rows}[what](*rest)))
