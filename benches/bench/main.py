"""Runs the ways through hydrant and the peers in turn, checks what they wrote, and reports ratios. Use benches/run."""

import argparse
import json
import shutil
import sys
from pathlib import Path

import report
from kinds import FILE_KINDS
from process import HERE, HOME, Failed, measured, script, start
from works import PEERS, WAYS, acks, data, lines

BASELINE = Path(__file__).parent.parent / "baseline.json"
RESULT = HOME / "result.json"  # Of a full run; quick.json and part.json lie beside it.
# Ways that are gone with every kind of data; the others with clicks alone.
EVERY = ["file to parquet", "HTTP to parquet", "file to gzip"]
QUICK_EVERY = ["file to parquet"]
QUICK_CLICKS = ["HTTP to parquet", "file to gzip", "HTTP to gzip", "file to zstd", "file to parquet, 100 prefixes"]
QUICK_PEERS = ["DuckDB", "libdeflate", "zstd"]
LOAD_S = 15


def main():
    options = arguments()
    if options.readme:
        return report.into_readme(json.loads(RESULT.read_text()))
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "log").write_bytes(b"")
    result = {
        "command": " ".join(["benches/run", *sys.argv[1:]]),
        **script("machine.py", HOME),
        "rounds": options.rounds,
        "best_of": options.quick,
        "kinds": {},
        "works": [],
        "acks": [],
        "transforms": [],
        "kafka": {},
        "failed": [],
        "not_run": [peer.name for peer in PEERS if not there(peer)],
    }
    for kind in options.kinds:
        measure(kind, options, result)
    for way in [] if options.quick else chosen("clicks", options):
        if way.source == "HTTP" and way.prefixes == 1 and "clicks" in options.kinds:
            at_half_load(way, options, result)
    if options.memory_mb:
        in_memory(options, result)
    if not options.only and (options.without or "-") not in "transforms":
        transforms(result)
    if options.quick and not options.only and (options.without or "-") not in "kafka":
        kafka(options, result)
    shutil.rmtree(HOME / "run", ignore_errors=True)
    result["ratios"] = report.ratios(result)
    result["targets"] = report.targets(result)
    part = options.only or options.without or len(options.kinds) < len(FILE_KINDS)
    into = RESULT.with_name("quick.json" if options.quick else "part.json" if part else RESULT.name)
    into.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{report.markdown(result)}\n")
    ratios = {name: round(ratio, 3) for name, ratio in result["ratios"].items() if report.is_gated(name)}
    if options.baseline and not result["failed"]:
        before = json.loads(BASELINE.read_text()) if not result["kafka"] else {}
        kept = {name: ratio for name, ratio in before.items() if report.is_kafka(name)}
        BASELINE.write_text(json.dumps({**ratios, **kept}, indent=1) + "\n")
        print(f"bench: {len(ratios)} ratios are the baseline now")
    worse = report.worse(ratios, json.loads(BASELINE.read_text())) if options.quick and not options.baseline else []
    for name, now, then in worse:
        print(f"bench: {name} is {now:.2f}, in the baseline {then:.2f}")
    if options.quick and not options.baseline and not worse and not result["failed"]:
        print(f"bench: none of {len(ratios)} ratios is more than {report.WORSE} times that of the baseline")
    sys.exit(1 if worse or result["failed"] else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="benches/run", description="hydrant beside its peers, as ratios in one run")
    parser.add_argument(
        "--quick", action="store_true", help="a minute: fails if a ratio is much worse than the baseline"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="with --quick: the result becomes benches/baseline.json"
    )
    parser.add_argument("--readme", action="store_true", help="only put the last full result into README.md")
    parser.add_argument("--mb", type=int, help="million bytes of each kind of data (256; quick 64)")
    parser.add_argument("--memory-mb", type=int, default=0, help="once more through 10,000 prefixes, with so much")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=FILE_KINDS, default=FILE_KINDS)
    parser.add_argument("--only", default="", metavar="TEXT", help="only ways whose name contains this")
    parser.add_argument("--without", metavar="TEXT", help="no ways whose name contains this")
    options = parser.parse_args()
    options.mb = options.mb or (64 if options.quick else 256)
    if options.baseline and not options.quick:
        parser.error("--baseline goes with --quick")
    return options


def chosen(kind, options):
    """The ways for a kind of data."""
    every = QUICK_EVERY if options.quick else EVERY
    more = QUICK_CLICKS if options.quick else [way.name for way in WAYS]
    return [
        way
        for way in WAYS
        if (way.name in every or (kind == "clicks" and way.name in more))
        and options.only in way.name
        and not (options.without and options.without in way.name)
    ]


def there(peer):
    """Whether a peer can run here: libraries are installed by benches/run, programs may be missing."""
    return peer.name not in ("gzip", "pigz") or shutil.which(peer.name) is not None


def measure(kind, options, result):
    """All ways and peers for a kind of data, in turn, some rounds."""
    path = data(kind, options.mb, options.seed, HOME)
    ways = chosen(kind, options)
    formats = {way.format for way in ways}
    peers = [
        peer
        for peer in PEERS
        if peer.format in formats and there(peer) and (not options.quick or peer.name in QUICK_PEERS)
    ]
    if not ways:
        return
    truth = {}
    result["kinds"][kind] = {"bytes": path.stat().st_size, "records": lines(path)}
    runs = {work.name: [] for work in [*peers, *ways]}
    for number in range(options.rounds):
        for work in [*peers, *ways]:
            if work.name not in runs:
                continue
            try:
                run = once(work, kind, path, options, truth if number == 0 else None)
            except Failed as failure:
                del runs[work.name]  # It has no figures then, and is not tried again.
                result["failed"].append(f"{kind}: {work.name}: {failure}")
                continue
            runs[work.name].append(run)
            cpu = run["cpu_s"] / path.stat().st_size * 1e9
            print(f"{number + 1}: {kind}: {work.name}: {cpu:.2f} CPU s/GB, {run['wall_s']:.1f} s", flush=True)
    for work in [*ways, *peers]:
        if work.name in runs:
            result["works"].append({
                "kind": kind, "work": work.name, "format": work.format, "ours": work in ways,
                **report.summary(runs[work.name], path.stat().st_size, options.quick),
            })  # fmt: skip


def once(work, kind, path, options, truth):
    """One run; with a `truth` (of this file; filled as needed), what it wrote is compared with it, value by value."""
    folder = HOME / "run"
    shutil.rmtree(folder, ignore_errors=True)
    run = work(kind, path, folder, 3 if options.quick else 10)
    if truth is None:
        return run
    if work.format == "parquet":
        read, wrote = ("json", kind, path), script("check.py", "parquet", kind, folder / "out")
    else:
        read, wrote = ("lines", path), script("check.py", "lines", folder / "out", PYTHONHASHSEED="0")
    if read[0] not in truth:
        truth[read[0]] = script("check.py", *read, PYTHONHASHSEED="0")
    wrong = [name for name, sum in truth[read[0]].items() if wrote[name] != sum]
    if wrong:
        raise Failed(f"what was written is not what was read: {', '.join(wrong)}")
    return run


def transforms(result):
    """Transforms beside the same functions in native Rust: benches/transforms.rs, which takes its own rounds."""
    path = HOME / "transforms.json"
    try:
        measured(["cargo", "bench", "--quiet", "--bench", "transforms", "--", "--json", str(path)])
    except Failed as failure:
        result["failed"].append(f"transforms: {failure}")
        return
    result["transforms"] = json.loads(path.read_text())


def kafka(options, result):
    """A short round from Kafka, in a process of its own: what it started ends with it."""
    path = HOME / "kafka-quick.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, HERE.parent / "kafka/main.py", "--quick", "--rounds", str(options.rounds), "--json", path]
    code = start(command, stdout=None).wait()
    if not path.exists():
        result["failed"].append(f"Kafka: ended with {code}; see {HOME / 'log'}")
        return
    found = json.loads(path.read_text())
    result["kafka"] = found["ratios"]
    result["failed"] += found["failed"]
    result["not_run"] += found["not_run"]


def at_half_load(way, options, result):
    """Answers at half of the load that the way took in the rounds before."""
    most = next((each for each in result["works"] if (each["kind"], each["work"]) == ("clicks", way.name)), None)
    if most is None:
        return
    shutil.rmtree(HOME / "run", ignore_errors=True)
    try:
        found = acks(
            way, "clicks", data("clicks", options.mb, options.seed, HOME), HOME / "run", most["mb_per_s"] / 2, LOAD_S
        )
        result["acks"].append({"way": way.name, "saturated": most, **found})
    except Failed as failure:
        result["failed"].append(f"{way.name} at half load: {failure}")


def in_memory(options, result):
    """Once, with much more data than fits into the budget: the peak memory with 10,000 prefixes."""
    (way,) = (way for way in WAYS if way.name == "file to parquet, 10000 prefixes")
    path = data("clicks", options.memory_mb, options.seed, HOME)
    try:
        run = once(way, "clicks", path, options, {})
        result["memory"] = {"way": way.name, **report.summary([run], path.stat().st_size, False)}
    except Failed as failure:
        result["failed"].append(f"{way.name}, {options.memory_mb} MB: {failure}")
    path.unlink()


if __name__ == "__main__":
    main()
