"""VS Code's YAML extension with our schema: yaml-language-server, which it runs, is asked over its own protocol."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SERVER = "yaml-language-server@1.18.0"
ROOT = Path(__file__).parents[2]

PIPELINE = """\
source:
  demo: { rate: 5 }
format:
  lines: {}
buffer:
  size: 1 MiB
  interval: 60s
sink:
  object_store:
    url: ./data
"""


class Editor:
    """A server that has one file open."""

    def __init__(self, binary, schema, folder):
        self.process = subprocess.Popen(
            ["node", binary, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.asked = 0
        self.uri = (folder / "clicks.yaml").as_uri()
        self.settings = {
            "yaml": {
                "schemas": {schema.as_uri(): "*.yaml"},
                "schemaStore": {"enable": False},
                "validate": True,
                "hover": True,
                "completion": True,
            }
        }
        self.ask("initialize", {"processId": None, "rootUri": folder.as_uri(), "capabilities": {}})
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": self.settings})

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method, params):
        self.send({"method": method, "params": params})

    def ask(self, method, params):
        self.asked += 1
        self.send({"id": self.asked, "method": method, "params": params})
        number = self.asked
        return self.until(lambda message: message.get("id") == number and "method" not in message)["result"]

    def until(self, wanted):
        while True:
            length = 0
            while line := self.process.stdout.readline().strip():
                name, value = line.split(b": ")
                if name == b"Content-Length":
                    length = int(value)
            assert length, "the server has ended"
            message = json.loads(self.process.stdout.read(length))
            if message.get("method") == "workspace/configuration":
                items = message["params"]["items"]
                self.send({"id": message["id"], "result": [self.settings.get(item.get("section")) for item in items]})
            elif "method" in message and "id" in message:
                self.send({"id": message["id"], "result": None})
            if wanted(message):
                return message

    def open(self, text):
        """Opens the file as this text, and returns what is wrong with it."""
        document = {"uri": self.uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        told = self.until(lambda message: message.get("method") == "textDocument/publishDiagnostics")
        return [(one["range"]["start"]["line"] + 1, one["message"]) for one in told["params"]["diagnostics"]]

    def complete(self, line, column):
        position = {"line": line - 1, "character": column}
        answer = self.ask("textDocument/completion", {"textDocument": {"uri": self.uri}, "position": position})
        return {item["label"] for item in answer["items"]}

    def hover(self, line, column):
        position = {"line": line - 1, "character": column}
        answer = self.ask("textDocument/hover", {"textDocument": {"uri": self.uri}, "position": position})
        return answer["contents"]["value"].replace("\\", "")


@pytest.fixture(scope="module")
def server():
    """The pinned server, installed below target/ once."""
    home = ROOT / "target/services/editor"
    home.mkdir(parents=True, exist_ok=True)
    binary = home / "node_modules/yaml-language-server/bin/yaml-language-server"
    if not binary.exists():
        install = ["npm", "install", "--no-audit", "--no-fund", "--silent", SERVER]
        subprocess.run(install, cwd=home, check=True, timeout=300)
    return binary


@pytest.fixture
def editor(server, tmp_path):
    schema = tmp_path / "pipeline.schema.json"
    schema.write_bytes(subprocess.check_output([os.environ["HYDRANT"], "schema", "json-schema"]))
    editor = Editor(server, schema, tmp_path)
    with editor.process:
        yield editor
        editor.process.kill()


def test_a_right_pipeline_has_no_marks(editor):
    assert editor.open(PIPELINE) == []


def test_sources_are_completed(editor):
    editor.open("source:\n  ")
    assert editor.complete(2, 2) >= {"demo", "file", "firehose", "http", "stdin"}


def test_keys_are_completed(editor):
    editor.open("source:\n  stdin: {}\nbuffer:\n  ")
    assert editor.complete(4, 2) >= {"size", "interval"}


def test_words_of_an_option_are_completed(editor):
    editor.open("format:\n  parquet:\n    on_unknown: \n")
    assert editor.complete(3, 16) >= {"keep", "drop", "reject"}


def test_a_key_says_what_it_means(editor):
    editor.open(PIPELINE)
    assert "Encoded bytes of the largest object." in editor.hover(6, 4)
    assert "made-up clickstream" in editor.hover(2, 4)


def test_a_wrong_key_is_marked_where_it_stands(editor):
    marks = editor.open(PIPELINE.replace("  size:", "  siez:"))
    assert [line for line, _ in marks] == [6], marks
    assert "siez" in marks[0][1]


def test_a_wrong_value_is_marked_where_it_stands(editor):
    marks = editor.open(PIPELINE.replace("60s", "60 apples"))
    assert [line for line, _ in marks] == [7], marks
