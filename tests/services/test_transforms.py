"""Every template is written, built and tested from nothing, with tools from the registries, as the guide says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs/transforms.md"
BUILD_TIME_MAX_S = 600

# The files that a change of one word turns into another transform.
YOURS = {
    "rust": "src/lib.rs",
    "python": "transform.py",
    "javascript": "transform.js",
    "go": "transform.go",
    "c": "transform.c",
    "assemblyscript": "transform.ts",
}


@pytest.fixture
def path():
    """The PATH of a user who has installed hydrant."""
    return os.path.dirname(os.path.abspath(os.environ["HYDRANT"])) + os.pathsep + os.environ["PATH"]


def sh(command, folder, path):
    """Runs a command line, and returns (exit code, all that was said)."""
    # Rust's own folder for builds would move the module, as it would for a user who has set it.
    environment = {name: value for name, value in os.environ.items() if name != "CARGO_TARGET_DIR"}
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=folder,
        env={**environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_TIME_MAX_S,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def well(command, folder, path):
    code, said = sh(command, folder, path)
    assert code == 0, f"{command}: exit code {code}\n{said}"
    return said


def needs_wasm_target(folder, path):
    """Fails with the reason if this Rust cannot have the target; rustup adds it where it is missing."""
    code, said = sh("rustup target add wasm32-unknown-unknown", folder, path)
    assert code == 0, f"Rust has no target wasm32-unknown-unknown here, and rustup cannot fetch it:\n{said}"


@pytest.mark.parametrize("language", ["javascript", "go", "c", "assemblyscript"])
def test_a_template_builds_and_does_what_it_says(language, tmp_path, path):
    well(f"hydrant transform new mine --lang {language}", tmp_path, path)
    built = well("hydrant transform build mine", tmp_path, path)
    assert "compiled and started in" in built
    said = well("hydrant transform test mine", tmp_path, path)
    assert "5 records: 3 out, 1 dropped, 1 failed\n" in said
    assert said.endswith("as expected in mine/records.expected\n")
    a_change_is_seen(language, tmp_path, path)
    a_refusal_is_told(tmp_path, path)


def a_change_is_seen(language, folder, path, name="mine"):
    """What the user writes is what runs: another word for hidden addresses, a second build, and a diff."""
    yours = folder / name / YOURS[language]
    yours.write_text(yours.read_text().replace("***", "hidden"))
    well(f"hydrant transform build {name}", folder, path)
    code, said = sh(f"hydrant transform test {name}", folder, path)
    assert code == 1 and '\n- 1 ok      {"email":"***",' in said and '\n+ 1 ok      {"email":"hidden",' in said, said


def a_refusal_is_told(folder, path, name="mine"):
    """A config that is no JSON is refused: by a template's own words, or where it has none by a trap."""
    code, said = sh(f"""hydrant transform test {name} --config '"no JSON"'""", folder, path)
    assert code == 1 and "per record" not in said, said


@pytest.mark.parametrize("language", ["rust", "python"])
def test_the_guide_does_what_it_says(language, tmp_path, path):
    if language == "rust":
        needs_wasm_target(tmp_path, path)
    chapter = GUIDE.read_text().split(f"## Five minutes: {language.capitalize()}\n")[1].split("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)
    assert commands
    said = "".join(well(command, tmp_path, path) for command in commands)
    shown = re.findall(r"```text\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    assert shown in said
    name = {"rust": "my-first", "python": "my-second"}[language]
    assert f"as expected in {name}/records.expected\n" in said
    if language == "rust":
        objects = sorted(Path(tmp_path, "out").rglob("*.*"))
        records = [line for file in objects if "errors" not in file.parts for line in file.read_text().splitlines()]
        assert len(records) == 3 and all("@" not in line for line in records)
        [failed] = [file for file in objects if "errors" in file.parts and file.is_file()]
        assert "no field `level`" in failed.read_text()
    a_change_is_seen(language, tmp_path, path, name)
    a_refusal_is_told(tmp_path, path, name)
