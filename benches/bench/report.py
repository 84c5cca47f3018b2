"""From runs to ratios, from ratios to targets, the gate, and the tables of the README."""

import re
import statistics
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"
BEGIN, END = "<!-- benches/run --readme: begin -->", "<!-- benches/run --readme: end -->"
WORSE = 1.5
# What a format is measured against; the first one is the gate's.
REFERENCES = {
    "parquet": ["DuckDB", "Polars", "pyarrow"],
    "gzip": ["libdeflate", "gzip", "pigz"],
    "zstd": ["zstd"],
}
BARE = "bare librdkafka"
# What was to be reached: the words for it, the ratio at most, and its name among the ratios of a kind of data.
RATIOS_TO_REACH = [
    ("file to Parquet, CPU x DuckDB", 0.5, "file to parquet: CPU x DuckDB"),
    ("file to Parquet, output x DuckDB", 1.03, "file to parquet: output x DuckDB"),
    ("file to Parquet, wall x DuckDB on two threads", 0.6, "file to parquet: wall x DuckDB, 2 threads"),
    ("HTTP, acked after fsync, to Parquet, CPU x DuckDB from a file", 0.75, "HTTP to parquet: CPU x DuckDB"),
    ("file to gzip, CPU x libdeflate", 1.15, "file to gzip: CPU x libdeflate"),
    ("file to gzip, output x libdeflate", 1.01, "file to gzip: output x libdeflate"),
]
ACKS_TO_REACH = 3.0
MEMORY_TO_REACH_MIB = 512 + 64


def summary(runs, size, best):
    """One line for several runs: the median of each figure (for the gate the best), but the worst peak of memory."""
    middle = min if best else statistics.median

    def figure(name):
        return middle(run[name] for run in runs)

    result = {
        "bytes_in": size,
        "cpu_s_per_gb": figure("cpu_s") / size * 1e9,
        "sys_s_per_gb": figure("sys_s") / size * 1e9,
        "mb_per_s": size / 1e6 / figure("wall_s"),
        "rss_mb": max(run["rss_mb"] for run in runs),
        "bytes": figure("bytes"),
        "objects": figure("objects"),
    }
    if "ack_p50_ms" in runs[0]:
        result |= {name: figure(name) for name in ("ack_p50_ms", "ack_p99_ms", "request_bytes")}
    return result


def ratios(result):
    """`clicks: file to parquet: CPU x DuckDB` and the like; below 1 is better than the reference."""
    by_name = {(each["kind"], each["work"]): each for each in result["works"]}
    found = {}
    for ours in result["works"]:
        if not ours["ours"]:
            continue
        name = f"{ours['kind']}: {ours['work']}"
        for reference in REFERENCES[ours["format"]]:
            theirs = by_name.get((ours["kind"], reference))
            if theirs:
                found[f"{name}: CPU x {reference}"] = ours["cpu_s_per_gb"] / theirs["cpu_s_per_gb"]
                found[f"{name}: output x {reference}"] = ours["bytes"] / theirs["bytes"]
        both = by_name.get((ours["kind"], "DuckDB, 2 threads"))
        if both and ours["work"] == "file to parquet":
            found[f"{name}: wall x DuckDB, 2 threads"] = both["mb_per_s"] / ours["mb_per_s"]
    for each in result["acks"]:
        found[f"{each['way']}: p99 ack x disk"] = each["ack_p99_ms"] / each["disk_p99_ms"]
        found[f"{each['way']}: p50 ack x disk"] = each["ack_p50_ms"] / each["disk_p50_ms"]
    for each in result["transforms"]:
        found[f"{each['name']}, {each['bytes']} bytes: CPU x native"] = each["x_native"]
    return found | result["kafka"]


def is_gated(name):
    """CPU and size against the first reference of the format: what a busy machine disturbs least."""
    ends = [" CPU x native", *[f" {figure} x {first}" for first, *_ in REFERENCES.values() for figure in ("CPU", "output")]]
    return name.endswith(tuple(ends)) or (is_kafka(name) and name.endswith(f" CPU x {BARE}"))


def is_kafka(name):
    """Of the round from Kafka, which not every machine can run."""
    return name.startswith("Kafka to ")


def worse(now, then):
    """The ratios that are much worse than in the baseline, or are not in it."""
    found = [(name, ratio, then.get(name, 0.0)) for name, ratio in now.items()]
    return [(name, ratio, baseline) for name, ratio, baseline in found if ratio > WORSE * baseline]


def targets(result):
    """What was to be reached, what was, and whether that is enough."""
    ratio = result["ratios"]

    def each_kind(name):
        return {key.partition(":")[0]: value for key, value in ratio.items() if key.partition(": ")[2] == name}

    lines = [(what, most, each_kind(name)) for what, most, name in RATIOS_TO_REACH] + [
        ("p99 ack at half load x the disk's own p99 fdatasync", ACKS_TO_REACH,
         {each["way"]: ratio[f"{each['way']}: p99 ack x disk"] for each in result["acks"]}),
    ]  # fmt: skip
    memory = result.get("memory")
    if memory:
        gb = memory["bytes_in"] / 1e9
        name = f"peak MiB, 10,000 prefixes, {gb:.2g} GB in"
        lines.append((name, MEMORY_TO_REACH_MIB, {"clicks": memory["rss_mb"]}))
    return [
        {"what": what, "at_most": most, "reached": reached, "good": all(value <= most for value in reached.values())}
        for what, most, reached in lines
        if reached
    ]


def markdown(result, brief=False):
    """The tables, and above them where and how it was measured; `brief`: of the peers only the first has lines."""
    text = [preamble(result)]
    for format, title in {"parquet": "Parquet, zstd 3", "gzip": "Lines, gzip 5", "zstd": "Lines, zstd 3"}.items():
        text += work_table(result, format, title, brief)
    text += ack_table(result)
    text += transform_table(result)
    if result["failed"]:
        text += ["", "Failed, and so without figures:", "", *[f"- {failure}" for failure in result["failed"]]]
    if not result["best_of"]:
        text += target_table(result)
    return "\n".join(text)


def preamble(result):
    machine, middle = result["machine"], "best" if result["best_of"] else "median"
    data = ", ".join(
        f"{kind} ({each['bytes'] / 1e6:.0f} MB, {each['bytes'] / each['records']:.0f} bytes a record)"
        for kind, each in result["kinds"].items()
    )
    return "\n".join([
        f"`{result['command']}`, {machine['date']}: {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gb']} GB, Linux {machine['kernel']},",
        f"{machine['disk']}, load average before it {machine['load_average']:.1f}. The {middle} of {result['rounds']} "
        f"interleaved runs; peak memory is the worst.",
        f"Data: {data}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in result['versions'].items())}.",
        *[f"{name} is not there and was not run." for name in result["not_run"]],
    ])  # fmt: skip


def work_table(result, format, title, brief):
    works = [each for each in result["works"] if each["format"] == format]
    if not works:
        return []
    present = {each["work"] for each in works}
    references = [name for name in REFERENCES[format] if name in present]
    head = [title, "CPU s/GB", *[f"x {name}" for name in references], "MB/s", "peak MiB", "output MB",
            f"x {references[0]}", "objects"]  # fmt: skip
    table = ["", f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for each in works:
        if brief and not each["ours"] and each["work"] != references[0]:
            continue
        of = {other["work"]: other for other in works if other["kind"] == each["kind"]}
        cells = [f"{each['kind']}: {each['work'] if not each['ours'] else '**' + each['work'] + '**'}"]
        cells.append(f"{each['cpu_s_per_gb']:.2f}")
        cells += [times(each["cpu_s_per_gb"], of, name, "cpu_s_per_gb") for name in references]
        cells += [f"{each['mb_per_s']:.0f}", f"{each['rss_mb']:.0f}", f"{each['bytes'] / 1e6:.1f}"]
        cells += [times(each["bytes"], of, references[0], "bytes"), f"{each['objects']:.0f}"]
        table.append(f"| {' | '.join(cells)} |")
    return table


def ack_table(result):
    if not result["acks"]:
        return []
    head = ["answers, each after its fsync", "load", "MB/s", "p50 ms", "p99 ms", "disk syncs/s", "p50 ms", "p99 ms"]
    table = ["", f"| {' | '.join(head)} | p99 x disk |", "| --- " * 9 + "|"]
    for each in result["acks"]:
        most, ratio = each["saturated"], result["ratios"][f"{each['way']}: p99 ack x disk"]
        for load, now, disk in [
            ("as much as it takes", most, " | | |"),
            ("half of that", each, f"{each['disk_per_s']:.0f} | {each['disk_p50_ms']:.1f} | {each['disk_p99_ms']:.1f} "
                                   f"| {ratio:.2f}"),
        ]:  # fmt: skip
            figures = f"{now['mb_per_s']:.0f} | {now['ack_p50_ms']:.1f} | {now['ack_p99_ms']:.1f}"
            table.append(f"| {each['way']} | {load} | {figures} | {disk} |")
    return table


def transform_table(result):
    if not result["transforms"]:
        return []
    head = ["WASM, all limits on, batches of 500", "bytes", "CPU ns/record", "MB/s", "native Rust", "x native"]
    table = ["", f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for each in result["transforms"]:
        figures = f"{each['bytes']} | {each['ns']:.0f} | {each['bytes'] / each['ns'] * 1e3:.0f} | {each['native_ns']:.0f}"
        table.append(f"| {each['name']} | {figures} | {each['x_native']:.2f} |")
    return table


def target_table(result):
    table = ["", "| target | at most | reached | |", "| --- | --- | --- | --- |"]
    for line in result["targets"]:
        reached = ", ".join(f"{name} {short(value)}" for name, value in line["reached"].items())
        table.append(f"| {line['what']} | {short(line['at_most'])} | {reached} | {'yes' if line['good'] else 'no'} |")
    return table


def times(value, of, name, figure):
    return f"{value / of[name][figure]:.2f}" if name in of else ""


def short(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def into_readme(result):
    """Between the two marks."""
    text = README.read_text()
    found = re.search(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", text, re.DOTALL)
    if not found:
        raise SystemExit(f"bench: {README} has no place for the result")
    README.write_text(f"{text[: found.start()]}{BEGIN}\n\n{markdown(result, brief=True)}\n\n{END}{text[found.end() :]}")
