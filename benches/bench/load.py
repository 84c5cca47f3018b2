"""Posts a file of NDJSON over 8 kept connections, 500 records a request, from one thread; prints how it went, as JSON.

Usage: load.py PORT STREAM FILE [MB_PER_S SECONDS]

Without a rate each connection sends when its last request was answered, until the file has been sent once. With one,
requests are due at fixed times, whatever the answers do, for so many seconds, from the file again and again; what is
due waits for a free connection, and its latency counts from when it was due, so that a slow answer cannot hide others.
"""

import itertools
import json
import mmap
import select
import socket
import sys
import time

import numpy

CONNECTIONS = 8
RECORDS = 500
ANSWER_MAX_S = 60
PAUSE_S = 0.05  # after a 503: the spool is full


class Connection:
    """One request at a time, without blocking."""

    def __init__(self, port, stream):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.head = (
            f"POST /streams/{stream}/records HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: "
        )

    def fileno(self):
        return self.socket.fileno()

    def begin(self, body, due):
        self.body, self.due, self.answer = body, due, b""
        self.left = [memoryview(f"{self.head}{len(body)}\r\n\r\n".encode()), body]
        self.write()

    def write(self):
        """Sends what the socket takes."""
        while self.left:
            try:
                sent = self.socket.sendmsg(self.left)
            except BlockingIOError:
                return
            while self.left and sent >= len(self.left[0]):
                sent -= len(self.left.pop(0))
            if sent:
                self.left[0] = self.left[0][sent:]

    def read(self):
        """The status and body of the answer, once it is there."""
        received = self.socket.recv(65536)
        if not received:
            sys.exit("load: the connection was closed")
        self.answer += received
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end:
            return None
        length = next(
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        )
        return (int(head.split(b" ", 2)[1]), body) if len(body) >= length else None


def main(port, stream, path, mb_per_s=0.0, seconds=0.0):
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    bodies = requests(data)
    interval_s = len(data) / len(bodies) / 1e6 / mb_per_s if mb_per_s else 0.0
    if mb_per_s:
        bodies = itertools.islice(itertools.cycle(bodies), max(1, int(seconds / interval_s)))
    idle = [Connection(port, stream) for _ in range(CONNECTIONS)]
    busy, again, latencies, records, sent_bytes, throttled = set(), [], [], 0, 0, 0
    began = time.monotonic()
    coming = ((began + number * interval_s, body) for number, body in enumerate(bodies))
    following = next(coming, None)
    while following or again or busy:
        now = time.monotonic()
        while idle and again and again[0][0] <= now:
            _, due, body = again.pop(0)
            busy.add(connection := idle.pop(0))  # in turn, or the server would close those long unused
            connection.begin(body, due)
        while idle and following and following[0] <= now:
            due, body = following
            busy.add(connection := idle.pop(0))
            connection.begin(body, due if mb_per_s else now)
            following, now = next(coming, None), time.monotonic()
        waits = [again[0][0]] if again and idle else []
        waits += [following[0]] if following and idle else []
        wait_s = max(0.0, min(waits) - now) if waits else ANSWER_MAX_S
        readable, writable, _ = select.select(busy, [each for each in busy if each.left], [], wait_s)
        if not waits and not readable and not writable:
            sys.exit(f"load: no answer for {ANSWER_MAX_S} s")
        for connection in writable:
            connection.write()
        for connection in readable:
            answer = connection.read()
            if answer is None:
                continue
            now = time.monotonic()
            busy.remove(connection)
            idle.append(connection)
            if answer[0] == 503:
                throttled += 1
                again.append((now + PAUSE_S, connection.due, connection.body))
            elif answer[0] == 200:
                latencies.append(now - connection.due)
                records += json.loads(answer[1])["records"]
                sent_bytes += len(connection.body)
            else:
                sys.exit(f"load: {answer[0]} {answer[1][:300]}")
    took = time.monotonic() - began
    p50_ms, p99_ms = (1000 * float(numpy.percentile(latencies, q)) for q in (50, 99))
    print(json.dumps({
        "seconds": took, "records": records, "mb_per_s": sent_bytes / 1e6 / took, "requests": len(latencies),
        "request_bytes": sent_bytes // len(latencies), "throttled": throttled,
        "ack_p50_ms": p50_ms, "ack_p99_ms": p99_ms,
    }))  # fmt: skip


def requests(data):
    """The bodies: each the next 500 lines."""
    ends, begin = [], 0
    for at in range(0, len(data), 1 << 26):
        ends.append(at + 1 + numpy.flatnonzero(numpy.frombuffer(data[at : at + (1 << 26)], dtype="uint8") == 10))
    ends = numpy.concatenate(ends)
    bodies = []
    for end in [*ends[RECORDS - 1 :: RECORDS].tolist(), len(data)]:
        if end > begin:
            bodies.append(data[begin:end])
        begin = end
    return bodies


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], *map(float, sys.argv[4:]))
