"""A real Python function behind a real emulator of Lambda's Invoke API.

    hydrant --Invoke--> cargo-lambda's emulator <--Runtime API-- shim <-- awslambdaric (AWS's runtime) + functions/NAME.py

AWS_LAMBDA_RIE=/path/to/aws-lambda-rie puts AWS's own emulator in the place of cargo-lambda's.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hydrant import await_that, die_with_parent, free_port

FUNCTIONS = Path(__file__).parent / "functions"


class Function:
    """Serves `handler`, such as `obey.handler`, under `name`, with so many runtimes; killed by `stop`."""

    def __init__(self, folder, handler, runtimes=1):
        self.folder, self.handler, self.runtimes = folder, handler, runtimes
        # AWS's emulator serves one function, and under this name only.
        self.name = "function"
        self.port = free_port()
        self.processes = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        if rie := os.environ.get("AWS_LAMBDA_RIE"):
            command = [rie, "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"]
            command += ["--runtime-api-address", f"127.0.0.1:{free_port()}", *self.runtime()]
            self.run(command, FUNCTIONS, self.environment(None))
        else:
            self.run(self.emulator(), self.folder / "package", dict(os.environ))
        await_that(self.listens, "the emulator listens")
        if not os.environ.get("AWS_LAMBDA_RIE"):
            shim = Shim(self.port)
            for _ in range(self.runtimes):
                self.run(self.runtime(), FUNCTIONS, self.environment(f"127.0.0.1:{shim.port}/.rt/{self.name}"))
        return self

    def emulator(self):
        """cargo-lambda wants a package with a binary of the function's name, and never builds it."""
        package = self.folder / "package"
        (package / "src").mkdir(parents=True, exist_ok=True)
        (package / "src/main.rs").write_text("fn main() {}\n")
        (package / "Cargo.toml").write_text(
            f'[package]\nname = "{self.name}"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
        )
        command = [shutil.which("cargo-lambda"), "lambda", "watch", "--only-lambda-apis"]
        return command + ["--invoke-address", "127.0.0.1", "--invoke-port", str(self.port)]

    def runtime(self):
        return [sys.executable, "-m", "awslambdaric", self.handler]

    def environment(self, runtime_api):
        names = {
            "_HANDLER": self.handler,
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/function",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
        }
        if runtime_api:
            names["AWS_LAMBDA_RUNTIME_API"] = runtime_api
        return {**os.environ, **names}

    def run(self, command, folder, environment):
        with open(self.folder / "log", "ab") as log:
            self.processes.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                    start_new_session=True,
                )
            )

    def listens(self):
        assert self.processes[0].poll() is None, f"the emulator ended:\n{self.log()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes = []

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


class Shim:
    """Passes the Runtime API on, and says what kind of content an event is: AWS's runtime crashes without, and
    cargo-lambda does not say it."""

    def __init__(self, to_port):
        class Passing(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.passed_on(None)

            def do_POST(self):
                self.passed_on(self.rfile.read(int(self.headers["content-length"] or 0)))

            def passed_on(self, body):
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                request = urllib.request.Request(f"http://127.0.0.1:{to_port}{self.path}", body, headers)
                try:
                    answer = urllib.request.urlopen(request)
                except urllib.error.HTTPError as error:
                    answer = error
                except OSError:
                    self.close_connection = True
                    return
                with answer:
                    content = answer.read()
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        if name.lower().startswith("lambda-runtime-"):
                            self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
