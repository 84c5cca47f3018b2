"""TCP proxies that let requests through, and lose answers or hold some back."""

import socket
import threading


class Proxy:
    """Forwards requests; of the next `answers_lost` it waits for the answer, keeps it in `lost`, and hangs up instead.

    `before_loss`, if set, is called after such an answer was read and before the client is hung up on.
    """

    def __init__(self, to_port, answers_lost=0):
        self.to_port, self.answers_lost = to_port, answers_lost
        self.before_loss = None
        self.requests = 0
        self.lost = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, client.makefile("rb") as reader:
            while request := message(reader):
                self.requests += 1
                with socket.create_connection(("127.0.0.1", self.to_port)) as server, server.makefile("rb") as answers:
                    server.sendall(request)
                    answer = message(answers)
                if self.answers_lost > 0:
                    self.answers_lost -= 1
                    self.lost.append(answer)
                    if self.before_loss:
                        self.before_loss()
                    return
                client.sendall(answer)


class Gate(Proxy):
    """Forwards all requests, but of those that `counts` counts only the first `passes`; the others wait for ever.

    `waiting` is set when one does. It is for clients that are killed then.
    """

    def __init__(self, to_port, passes, counts):
        self.passes, self.counts = passes, counts
        self.waiting, self.lock = threading.Event(), threading.Lock()
        super().__init__(to_port)

    def serve(self, client):
        try:
            self.pass_on(client)
        except ConnectionError:
            # The client was killed.
            pass

    def pass_on(self, client):
        with client, client.makefile("rb") as reader:
            while request := message(reader):
                if self.counts(request):
                    with self.lock:
                        self.passes -= 1
                        is_held = self.passes < 0
                    if is_held:
                        self.waiting.set()
                        reader.read()
                        return
                with socket.create_connection(("127.0.0.1", self.to_port)) as server, server.makefile("rb") as answers:
                    server.sendall(request)
                    client.sendall(message(answers, is_head_only=request.startswith(b"HEAD ")))


def message(reader, is_head_only=False):
    """One HTTP message with a Content-Length, as bytes; empty at the end of the connection."""
    head, length = b"", 0
    while line := reader.readline():
        head += line
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        if line == b"\r\n":
            return head if is_head_only else head + reader.read(length)
    return b""
