"""Posts a file of NDJSON over 8 kept connections, 500 records a request, each sent when the last one was answered.

Usage: load.py PORT STREAM FILE. Prints the seconds from the first request to the last answer, and the records.
"""

import http.client
import itertools
import json
import sys
import threading
import time

CONNECTIONS = 8
RECORDS = 500


def main(port, stream, path):
    with open(path, "rb") as file:
        lines = iter(file.readline, b"")
        bodies = list(iter(lambda: b"".join(itertools.islice(lines, RECORDS)), b""))
    bodies.reverse()
    lock, answered, failures = threading.Lock(), [], []

    def connection():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not failures:
            with lock:
                if not bodies:
                    return
                body = bodies.pop()
            try:
                client.request("POST", f"/streams/{stream}/records", body, {"Content-Type": "application/x-ndjson"})
                answer = client.getresponse()
                text = answer.read()
            except OSError as error:
                failures.append(error)
                return
            if answer.status == 200:
                answered.append(json.loads(text)["records"])
            elif answer.status == 503:  # The spool is full: slow down and send the same again.
                with lock:
                    bodies.append(body)
                time.sleep(0.05)
            else:
                failures.append((answer.status, text[:300]))

    threads = [threading.Thread(target=connection) for _ in range(CONNECTIONS)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - started
    if failures:
        sys.exit(f"load: {failures[0]}")
    print(json.dumps({"seconds": seconds, "records": sum(answered)}))


main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
