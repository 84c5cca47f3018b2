"""Reads one prepared topic with hydrant, the bare library and peers in turn, and reports ratios. Use benches/run --kafka."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parent.parent / "bench"))

import broker
import report
from process import HOME, Failed, script
from readers import Bare, Connect, Glue, Go, Hydrant, Telegraf, Topic, client
from works import Peer as FilePeer
from works import data

KIND, RECORD_BYTES, SEED = "orders", 200, 1
PARTITIONS, PARTITIONS_MANY = 8, 1000
RESULT = HOME / "kafka.json"
QUICK_RECORDS, RECORDS = 300_000, 1_000_000


def main():
    options = arguments()
    HOME.mkdir(parents=True, exist_ok=True)
    broker.FOLDER.mkdir(exist_ok=True)
    result = {"command": " ".join(["benches/run --kafka", *sys.argv[1:]]), **script("machine.py", HOME), "works": [],
              "rounds": options.rounds, "failed": [], "not_run": [], "ratios": {}}  # fmt: skip
    reason = broker.missing()
    if reason:
        result["not_run"].append(f"Kafka: {reason}")
        print(f"bench: no Kafka here ({reason}): its round did not run", flush=True)
    else:
        measure_all(options, result)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    if result["works"]:
        print(f"\n{table(result)}\n")
    sys.exit(1 if result["failed"] else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run --kafka", description="hydrant from Kafka, as ratios in one run")
    parser.add_argument("--quick", action="store_true", help="a short round for `benches/run --quick`")
    parser.add_argument("--records", type=int, help=f"about so many ({RECORDS}; quick {QUICK_RECORDS}), kept between runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval-s", type=int, default=5, help="of hydrant's buffer")
    parser.add_argument("--only", default="", metavar="TEXT", help="only readers whose name contains this")
    parser.add_argument("--without", metavar="TEXT", help="no readers whose name contains this")
    parser.add_argument("--no-many", action="store_true", help=f"not with {PARTITIONS_MANY} partitions too")
    parser.add_argument("--json", type=Path, default=RESULT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.records = options.records or (QUICK_RECORDS if options.quick else RECORDS)
    return options


def measure_all(options, result):
    path = data(KIND, options.records * RECORD_BYTES // 1_000_000, SEED, HOME)
    hydrants = [Hydrant(format, options.interval_s) for format in ("parquet", "gzip")]
    with broker.Broker() as running:
        topic = prepared(running, path, PARTITIONS)
        others = [] if options.quick else [
            Glue("parquet", "Polars"), Glue("gzip", "libdeflate"), Go("parquet"), Go("gzip"), Telegraf("parquet"),
            Telegraf("gzip"), Connect(),
        ]  # fmt: skip
        files = [FilePeer("DuckDB", "parquet"), FilePeer("libdeflate", "gzip")]
        measure([*files, Bare(), *hydrants, *others], topic, options, result)
        if not options.quick and not options.no_many:
            many = prepared(running, path, PARTITIONS_MANY)
            measure([Bare(), *hydrants], many, options, result)
    shutil.rmtree(HOME / "run", ignore_errors=True)


def prepared(running, path, partitions):
    """The topic with the lines of the file; filled if it is not there whole."""
    name = f"{path.stem}-{partitions}"
    topic = Topic(client(), running.address, name, KIND, path, 0, partitions)
    whole = broker.FOLDER / f"{name}.json"
    if not whole.exists():
        print(f"filling topic {name} ...", flush=True)
        whole.write_text(json.dumps(topic.ask("produce", partitions, path)))
    topic.records = json.loads(whole.read_text())["records"]
    if topic.ask("count")["records"] != topic.records:
        whole.unlink()
        raise Failed(f"topic {name} is not whole: it will be filled again")
    return topic


def measure(readers, topic, options, result):
    """All that are chosen, in turn, some rounds."""
    runs, truth = {}, {}
    for reader in readers:
        if options.only not in reader.name or (options.without and options.without in reader.name):
            continue
        reason = reader.missing() if hasattr(reader, "missing") else None
        if reason:
            result["not_run"].append(f"{reader.name}: {reason}")
        else:
            runs[reader] = []
    for number in range(options.rounds):
        for reader in list(runs):
            try:
                run = once(reader, topic, truth if number == 0 else None)
            except Failed as failure:
                del runs[reader]  # It has no figures then, and is not tried again.
                result["failed"].append(f"{reader.name}, {topic.partitions} partitions: {failure}")
                print(f"bench: {result['failed'][-1]}", flush=True)
                continue
            runs[reader].append(run)
            cpu = run["cpu_s"] / topic.bytes * 1e9
            print(f"{number + 1}: {reader.name}, {topic.partitions} partitions: {cpu:.2f} CPU s/GB, {run['wall_s']:.1f} s, "
                  f"{run['rss_mb']:.0f} MiB", flush=True)  # fmt: skip
    for reader, of in runs.items():
        if of:
            result["works"].append({
                "reader": reader.name, "format": reader.format, "ours": getattr(reader, "ours", False),
                "partitions": topic.partitions, "records": topic.records,
                "records_per_s": topic.records / min(run["wall_s"] for run in of),
                "bytes": 0, "objects": 0,
                **report.summary([{"bytes": 0, "objects": 0, **run} for run in of], topic.bytes, True),
            })  # fmt: skip
    add_ratios(result, topic.partitions)


def once(reader, topic, truth):
    """One run; with a `truth` (filled as needed), what it wrote is compared with the file, value by value."""
    folder = HOME / "run"
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(reader, FilePeer):
        return reader(topic.kind, topic.path, folder, None)
    run = reader(topic, folder)
    exact = getattr(reader, "exact", True)
    if truth is None or reader.format == "none" or (reader.format == "gzip" and not exact):
        return run
    if reader.format == "parquet":
        read = ("json", topic.kind, topic.path)
        wrote = script("check.py", *(("parquet", topic.kind) if exact else ("rows",)), folder / "out")
    else:
        read = ("lines", topic.path)
        wrote = script("check.py", "lines", folder / "out", PYTHONHASHSEED="0")
    if read[0] not in truth:
        truth[read[0]] = script("check.py", *read, PYTHONHASHSEED="0")
    wrong = [name for name, sum in truth[read[0]].items() if (exact or name == "rows") and wrote[name] != sum]
    if wrong:
        raise Failed(f"what was written is not what was read: {', '.join(wrong)}")
    return run


def add_ratios(result, partitions):
    """`Kafka to gzip, 8 partitions: CPU x libdeflate` and the like; below 1 is better than the reference."""
    works = [each for each in result["works"] if each["partitions"] == partitions]
    for ours in works:
        for theirs in works:
            if ours["ours"] and not theirs["ours"] and theirs["format"] in (ours["format"], "none", "plain"):
                name = f"{ours['reader']}, {partitions} partitions"
                result["ratios"][f"{name}: CPU x {theirs['reader']}"] = ours["cpu_s_per_gb"] / theirs["cpu_s_per_gb"]


def table(result):
    """What was measured, and hydrant's CPU as a multiple of the line's: below 1 it takes less. Where the line is the bare
    library, 1 divided by it is the share of consuming.
    """
    machine, first = result["machine"], result["works"][0] if result["works"] else {"records": 0, "bytes_in": 0}
    head = ["reader", "partitions", "records/s", "CPU s/GB", "system", "peak MiB", "MB written",
            "hydrant's CPU: Parquet", "gzip"]
    text = [
        f"`{result['command']}`, {machine['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, "
        f"load average before it {machine['load_average']:.1f}. The best of {result['rounds']} interleaved runs.",
        f"{first['records']} records, {first['bytes_in'] / 1e6:.0f} MB.",
        *[f"Failed: {failure}" for failure in result["failed"]],
        *[f"Not run: {reason}" for reason in result["not_run"]],
        "", f"| {' | '.join(head)} |", "| --- " * len(head) + "|",
    ]  # fmt: skip
    for each in result["works"]:
        name = f"**{each['reader']}**" if each["ours"] else each["reader"]
        costs = " | ".join(f"{each[name]:.2f}" for name in ("cpu_s_per_gb", "sys_s_per_gb"))
        figures = f"{each['records_per_s']:,.0f} | {costs} | {each['rss_mb']:.0f}"
        shares = [
            result["ratios"].get(f"Kafka to {format}, {each['partitions']} partitions: CPU x {each['reader']}")
            for format in ("parquet", "gzip")
        ]
        shares = " | ".join(f"{share:.2f} x" if share else "" for share in shares)
        text.append(f"| {name} | {each['partitions']} | {figures} | {each['bytes'] / 1e6:.1f} | {shares} |")
    return "\n".join(text)


if __name__ == "__main__":
    main()
