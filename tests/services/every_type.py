"""Records of every type a schema can declare: as JSON that is sent, and as the values that must come back."""

import base64
import json
import math
import random
import re
import struct
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

SCHEMA = {
    "id": "int64 not null",
    "shop": "string not null",
    "text": "string",
    "tiny": "int8",
    "small": "int16",
    "medium": "int32",
    "big": "int64",
    "utiny": "uint8",
    "usmall": "uint16",
    "umedium": "uint32",
    "ubig": "uint64",
    "single": "float32",
    "double": "float64",
    "yes": "bool",
    "at_ms": "timestamp(ms)",
    "at_us": "timestamp(us)",
    "at_berlin": "timestamp(ms, Europe/Berlin)",
    "at_local": "timestamp(us, none)",
    "day": "date",
    "clock": "time(us)",
    "price": "decimal(12,2)",
    "wide": "decimal(38,10)",
    "raw": "binary",
    "kind": "dictionary<string>",
    "tags": "list<string>",
    "matrix": "list<list<int32>>",
    "place": "struct<lat:float64,lon:float64,names:list<string>>",
    "items": "list<struct<sku:string,price:decimal(12,2),n:uint64>>",
    "counts": "map<string,int64>",
    "anything": "json",
}

# The column that keeps the keys that no column is declared for, as one JSON text.
REST = "_rest"
COLUMNS = {**SCHEMA, REST: "json"}

TEXTS = [
    "", "plain", "Grüße, 世界", "quote \" backslash \\ slash / tab \t newline \n", "\u0000 null byte", "😀 beyond the BMP",
    "null", "\u2028", "x" * 5000,
]  # fmt: skip
SINGLES = [0.0, 1.5, -2.25, 3.4028234663852886e38, 1.401298464324817e-45, 0.10000000149011612]
DOUBLES = [0.0, -0.0, 0.1, -1e-7, 1.7976931348623157e308, 5e-324, 123456789.123456789, 1 / 3]
BERLIN = ZoneInfo("Europe/Berlin")


class Number(str):
    """Digits that are sent as a JSON number, exactly as they stand here."""


def record(number, rng):
    """One record: (the bytes that are sent, the row that must come back)."""
    row = {"id": number, "shop": rng.choice(["nord", "süd", "a b/c"])}
    sent = dict(row)
    for name, type_text in SCHEMA.items():
        if name in row:
            continue
        chance = rng.random()
        if chance < 0.1:
            row[name] = None  # The key is missing.
        elif chance < 0.2:
            row[name] = sent[name] = None
        else:
            row[name], sent[name] = value(type_text, rng)
    row[REST] = None
    if rng.random() < 0.2:
        sent["undeclared"] = rng.choice([7, "x", {"deep": [None, "ü"]}])
        row[REST] = {"undeclared": sent["undeclared"]}
    keys = list(sent)
    if rng.random() < 0.3:
        rng.shuffle(keys)
    return dumps({key: sent[key] for key in keys}, rng).encode(), row


def value(kind, rng):
    """One value of a type: (as it comes back, as it is sent)."""
    if kind.startswith(("int", "uint")):
        bits = int(re.sub(r"\D", "", kind))
        low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        n = rng.choice([low, high, 0, 1, rng.randint(low, high)])
        return n, n
    if kind == "float32":
        return same(rng.choice(SINGLES))
    if kind == "float64":
        return same(rng.choice([*DOUBLES, rng.uniform(-1e6, 1e6)]))
    if kind == "bool":
        return same(rng.random() < 0.5)
    if kind in ("string", "dictionary<string>"):
        return same(rng.choice(TEXTS if kind == "string" else ["red", "green", ""]))
    if kind == "json":
        inner = rng.choice([1, "a", [1, {"b": None}], {"c": [True, 0.5], "ü": "é"}, []])
        return inner, inner
    if kind == "binary":
        data = rng.randbytes(rng.choice([0, 1, 300]))
        return data, base64.b64encode(data).decode()
    if kind.startswith("timestamp"):
        return timestamp(kind, rng)
    if kind == "date":
        day = rng.choice([date(1970, 1, 1), date(1600, 2, 29), date(9999, 12, 31), date(2026, 11, rng.randint(1, 30))])
        return day, day.isoformat()
    if kind == "time(us)":
        at = rng.choice([time(0), time(23, 59, 59, 999999), time(12, rng.randrange(60), 5, 1000)])
        return at, at.isoformat(timespec="microseconds")
    if kind.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", kind))
        most = 10**precision - 1
        unscaled = rng.choice([0, 1, -1, most, -most, rng.randint(-most, most)])
        digits = plain(unscaled, scale)
        return Decimal(digits), Number(digits) if rng.random() < 0.5 else digits
    return nested(kind, rng)


def nested(kind, rng):
    inner = kind[kind.index("<") + 1 : -1]
    if kind.startswith("list"):
        pairs = [(None, None) if rng.random() < 0.2 else value(inner, rng) for _ in range(rng.choice([0, 1, 3]))]
        return [back for back, _ in pairs], [sent for _, sent in pairs]
    if kind.startswith("map"):
        inner = inner.split(",", 1)[1]
        pairs = {key: value(inner, rng) for key in rng.sample(["a", "b", "", "ü"], rng.randrange(4))}
        return {key: back for key, (back, _) in pairs.items()}, {key: sent for key, (_, sent) in pairs.items()}
    back, sent = {}, {}
    for field in fields(inner):
        name, type_text = field.split(":", 1)
        chance = rng.random()
        back[name] = None
        if chance < 0.1:
            continue
        if chance < 0.2:
            sent[name] = None
        else:
            back[name], sent[name] = value(type_text, rng)
    return back, sent


def timestamp(kind, rng):
    unit_us = 1000 if "(ms" in kind else 1
    us = rng.choice([0, -1, 1_763_600_000_123_456, rng.randrange(-(10**15), 4 * 10**15)])
    us -= us % unit_us
    instant = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
    if "none" in kind:
        local = instant.replace(tzinfo=None)
        return local, local.isoformat(timespec="microseconds")
    if us > 10**14 and rng.random() < 0.2:
        return instant, Number(plain(us, 3))  # In milliseconds, with a fraction.
    zone = rng.choice([timezone.utc, BERLIN, timezone(timedelta(hours=-9, minutes=-30))])
    if zone is BERLIN and us < 0:
        zone = timezone.utc  # Berlin's old offsets have seconds, which RFC 3339 cannot say.
    text = instant.astimezone(zone).isoformat(timespec="microseconds")
    return instant, text.replace("+00:00", "Z")


def fields(text):
    """The fields of a struct: at the commas outside of brackets."""
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += (char in "<(") - (char in ">)")
        if char == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def plain(unscaled, scale):
    """`unscaled / 10**scale` in digits, without an exponent."""
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if unscaled < 0 else text


def same(inner):
    return inner, inner


def dumps(sent, rng):
    """JSON as different producers write it: with and without blanks, escaped or not, exact numbers as they stand."""
    marked = json.dumps(mark(sent), ensure_ascii=rng.random() < 0.5, separators=rng.choice([(",", ":"), (", ", ": ")]))
    return re.sub(r'"@@([-0-9.]+)@@"', r"\1", marked)


def mark(inner):
    if isinstance(inner, Number):
        return f"@@{inner}@@"
    if isinstance(inner, dict):
        return {key: mark(value) for key, value in inner.items()}
    return [mark(value) for value in inner] if isinstance(inner, list) else inner


def canonical(inner, kind=None):
    """A value as any reader gives it, in the form that `record` predicts."""
    if kind == "json" and inner is not None:
        return ("json", canonical(json.loads(inner)))
    if isinstance(inner, datetime) and inner.tzinfo is not None:
        return inner.astimezone(timezone.utc)
    if isinstance(inner, float):
        return ("float", struct.pack("<d", inner)) if not math.isnan(inner) else "nan"
    if kind and kind.startswith("map") and isinstance(inner, list):
        return dict(inner)
    if isinstance(inner, (bytearray, memoryview)):
        return bytes(inner)
    if isinstance(inner, dict):
        return {key: canonical(value) for key, value in inner.items()}
    if isinstance(inner, list):
        return [canonical(value) for value in inner]
    return inner


def canonical_row(row):
    return {name: canonical(row[name], kind) for name, kind in COLUMNS.items()}


def expected_row(row):
    return {
        name: ("json", canonical(row[name])) if kind == "json" and row[name] is not None else canonical(row[name])
        for name, kind in COLUMNS.items()
    }


def records(count, seed):
    """`count` records from a seed."""
    rng = random.Random(seed)
    return [record(number, rng) for number in range(count)]
