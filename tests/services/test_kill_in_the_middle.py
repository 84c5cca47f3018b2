"""kill -9 while records go to S3, again and again: each is in the bucket exactly once."""

import random
import threading

from botocore.exceptions import BotoCoreError, ClientError

import every_type
from hydrant import await_that, credentials, s3_sink
from objects import Lake

KILLS = 6


def test_after_kills_in_the_middle_each_record_is_in_the_store_once(hydrant, bucket, s3, tmp_path):
    rng = random.Random(7)
    records = every_type.records(6000, 7)
    pipeline = {
        "source": {"firehose": {"stream": "everything"}},
        "format": {"parquet": {"schema": every_type.SCHEMA}},
        "buffer": {"size": "64 KiB", "interval": "300ms"},
        "sink": s3_sink(bucket, "lake/", prefix="shop={shop}/"),
    }
    daemon = hydrant({"everything": pipeline}, settings=credentials()).start()
    # The SDK's retries carry one invocation id; between calls nothing is sent twice, so that what is there twice is
    # hydrant's fault.
    client = daemon.firehose(retries={"mode": "standard", "max_attempts": 40})
    acked, unknown, killing = [], [], threading.Event()

    def feed():
        for start in range(0, len(records), 40):
            part = records[start : start + 40]
            try:
                batch = [{"Data": data} for data, _ in part]
                answer = client.put_record_batch(DeliveryStreamName="everything", Records=batch)
                assert answer["FailedPutCount"] == 0
                acked.extend(row["id"] for _, row in part)
            except (BotoCoreError, ClientError):
                unknown.extend(row["id"] for _, row in part)
            killing.wait(0.02)

    feeder = threading.Thread(target=feed)
    feeder.start()
    for _ in range(KILLS):
        killing.wait(rng.uniform(0.1, 1.2))
        daemon.kill()
        daemon.start()
    feeder.join()
    lake = Lake(s3, bucket, tmp_path)

    def delivered():
        return {row["id"] for row in lake.by_pyarrow()} >= set(acked)

    await_that(delivered, "all acked records are delivered")
    daemon.stop()
    ids = sorted(row["id"] for row in lake.by_duckdb())
    assert len(ids) == len(set(ids)), "nothing is there twice"
    assert set(acked) <= set(ids), "nothing acked is missing"
    assert set(ids) <= set(acked) | set(unknown), "nothing else is there"
    assert len(acked) > len(records) // 2, "most of it went through"
    expected = {row["id"]: every_type.expected_row(row) for _, row in records}
    for row in lake.by_pyarrow():
        assert every_type.canonical_row(row) == expected[row["id"]]
