"""Prints the machine and the versions of all that runs, as JSON. Usage: machine.py FOLDER, of the measured disk."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path


def machine(folder):
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory_kb = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory_kb[1]) / 1e6),
        "kernel": platform.release(),
        "disk": disk(folder),
        "load_average": os.getloadavg()[0],
    }


def disk(folder):
    """The file system under a folder and its device, as the kernel names them."""
    number = os.stat(folder).st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == f"{os.major(number)}:{os.minor(number)}":
            kind, device = fields[fields.index("-") + 1 :][:2]
            return f"{kind} on {device}"
    return "unknown"


def versions():
    names = {"DuckDB": "duckdb", "Polars": "polars", "pyarrow": "pyarrow", "libdeflate (deflate of PyPI)": "deflate",
             "zstd (zstandard of PyPI)": "zstandard"}  # fmt: skip
    found = {name: importlib.metadata.version(package) for name, package in names.items()}
    for program in ("gzip", "pigz"):
        if shutil.which(program):
            found[program] = first_line(program, "--version").split()[-1]
    return {"hydrant": os.environ["HYDRANT_COMMIT"], **found}


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0] if done.returncode == 0 else ""


if __name__ == "__main__":
    print(json.dumps({"machine": machine(sys.argv[1]), "versions": versions()}))
