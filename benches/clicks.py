"""Seeded clickstream records with the fields of hydrant's demo source: the schema, and a file of them."""

import os
import random

# Column: (type as hydrant declares it, type as DuckDB does).
SCHEMA = {
    "event_time": ("timestamp(ms)", "TIMESTAMP_MS"),
    "event_id": ("string", "VARCHAR"),
    "event_type": ("string", "VARCHAR"),
    "user_id": ("string", "VARCHAR"),
    "session_id": ("string", "VARCHAR"),
    "country": ("string", "VARCHAR"),
    "url": ("string", "VARCHAR"),
    "referrer": ("string", "VARCHAR"),
    "user_agent": ("string", "VARCHAR"),
    "device": ("struct<type:string,os:string,version:string>", "STRUCT(type VARCHAR, os VARCHAR, version VARCHAR)"),
    "price": ("decimal(12,2)", "DECIMAL(12,2)"),
    "quantity": ("int32", "INTEGER"),
    "tags": ("list<string>", "VARCHAR[]"),
    "is_bot": ("bool", "BOOLEAN"),
    "latency_ms": ("float64", "DOUBLE"),
}

COUNTRIES = ["DE", "US", "FR", "GB", "IN", "BR", "JP", "PL", "NL", "ES"]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/131.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) Safari/605.1",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/130.0",
    "curl/8.10.1",
]
DEVICES = [("mobile", "iOS", "18.1"), ("mobile", "Android", "15"), ("desktop", "Windows", "11"), ("desktop", "Linux", "6.12")]
REFERRERS = ['"https://search.example/q"', '"https://news.example/front"', '""', "null"]
TAGS = ["sale", "new", "gift", "eco", "last-chance"]
EVENTS = ["page_view", "product_view", "search", "add_to_cart", "checkout", "purchase"]


def write(path, mb, seed=1):
    """Writes about `mb` million bytes of NDJSON, the same for the same seed; returns the number of records."""
    pick, number = random.Random(seed), random.Random(seed + 1).random
    records, written, aside = 0, 0, f"{path}.tmp"
    with open(aside, "w", encoding="ascii", buffering=1 << 20) as file:
        while written < mb * 1_000_000:
            time_ms = records * 7
            kind, os_name, version = DEVICES[int(number() * 4)]
            tags = ",".join(f'"{TAGS[int(number() * 5)]}"' for _ in range(int(number() * 4)))
            written += file.write(
                f'{{"event_time":"2026-11-{1 + time_ms // 86_400_000 % 28:02}T{time_ms // 3_600_000 % 24:02}:'
                f'{time_ms // 60_000 % 60:02}:{time_ms // 1000 % 60:02}.{time_ms % 1000:03}Z",'
                f'"event_id":"{pick.getrandbits(128):032x}",'
                f'"event_type":"{EVENTS[int(number() ** 2 * 6)]}","user_id":"u{int(number() * 200_000)}",'
                f'"session_id":"s{pick.getrandbits(24):06x}","country":"{COUNTRIES[int(number() ** 2 * 10)]}",'
                f'"url":"https://shop.example/p/{int(number() ** 3 * 5000)}",'
                f'"referrer":{REFERRERS[int(number() * 4)]},"user_agent":"{AGENTS[int(number() * 4)]}",'
                f'"device":{{"type":"{kind}","os":"{os_name}","version":"{version}"}},'
                f'"price":{int(number() * 20_000) / 100:.2f},"quantity":{1 + int(number() * 5)},"tags":[{tags}],'
                f'"is_bot":{"true" if number() < 0.03 else "false"},"latency_ms":{number() * 300:.3f}}}\n'
            )
            records += 1
    os.replace(aside, path)
    return records
