"""The disk alone: writes blocks one behind the other and syncs each; prints how long each fdatasync took, as JSON.

Usage: disk.py FOLDER BLOCK_BYTES SECONDS. The file is written once before, so that a sync has no metadata to write: the
least that the disk can take.
"""

import json
import os
import random
import sys
import time

FILE_BYTES = 64 << 20


def main(folder, block_bytes, seconds):
    path = os.path.join(folder, "disk")
    block = random.Random(1).randbytes(block_bytes)
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(FILE_BYTES >> 20):
        os.write(file, bytes(1 << 20))
    os.fsync(file)
    took, at, began = [], 0, time.monotonic()
    while time.monotonic() - began < seconds:
        if at + block_bytes > FILE_BYTES:
            at = 0
        one = time.monotonic()
        os.pwrite(file, block, at)
        os.fdatasync(file)
        took.append(time.monotonic() - one)
        at += block_bytes
    os.close(file)
    os.unlink(path)
    print(json.dumps([1000 * each for each in took]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
