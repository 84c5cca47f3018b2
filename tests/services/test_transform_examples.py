"""Each example of transforms/ is built again from its source, and does what the module does that lies beside the source."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TRANSFORMS = Path(__file__).parents[2] / "transforms"
EXAMPLES = {
    "redact": "records.ndjson",
    "enrich": "records.ndjson",
    "split": "records.ndjson",
    "parse": "records.txt",
    "bench": "records.ndjson",
}
BUILD_TIME_MAX_S = 600


@pytest.fixture
def copy(tmp_path):
    """The sources of all transforms without what builds have left, and without the modules."""
    left = shutil.ignore_patterns("target", "node_modules", ".venv", "*.wasm")
    return shutil.copytree(TRANSFORMS, tmp_path / "transforms", ignore=left)


def hydrant(*arguments):
    """Runs a command to its good end, and returns all that it and its tools said."""
    command = [os.environ["HYDRANT"], "transform", *map(str, arguments)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_TIME_MAX_S,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{said}"
    return said


def became(said):
    """What became of the records, without times and sizes."""
    return said.split("\n\n")[0]


def test_no_example_is_left_out():
    assert sorted(EXAMPLES) == sorted(module.stem for module in TRANSFORMS.glob("*/*.wasm"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_module_built_again_does_the_same(name, copy):
    if name in ("redact", "enrich", "bench"):
        subprocess.run(["rustup", "target", "add", "wasm32-unknown-unknown"], check=True)
    records = TRANSFORMS / name / EXAMPLES[name]
    there = hydrant("test", TRANSFORMS / name, "--records", records)
    assert not (copy / name / f"{name}.wasm").exists()
    hydrant("build", copy / name)
    again = hydrant("test", copy / name, "--records", records)
    assert became(again) == became(there)
    assert "as expected in " in there and "as expected in " in again
