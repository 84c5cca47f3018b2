"""boto3 and the AWS CLI put records, and what they put is in the store, once."""

import json
import os
import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from hydrant import KEY, await_that, credentials, s3_sink
from objects import Lake
from proxy import Proxy


@pytest.fixture
def clicks(hydrant, bucket):
    """A daemon with one stream, `clicks`, whose records are stored as lines; only KEY may write."""
    return hydrant({"clicks": pipeline("clicks", bucket)}, settings=credentials()).start()


@pytest.fixture
def lake(s3, bucket, tmp_path):
    return Lake(s3, bucket, tmp_path)


def pipeline(stream, bucket, interval="500ms"):
    return {
        "source": {"firehose": {"stream": stream}},
        "format": {"lines": {}},
        "buffer": {"size": "4 MiB", "interval": interval},
        "sink": s3_sink(bucket, "clicks/"),
    }


def put_batch(client, payloads, stream="clicks"):
    answer = client.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": data} for data in payloads])
    assert answer["FailedPutCount"] == 0
    ids = [response["RecordId"] for response in answer["RequestResponses"]]
    assert len(set(ids)) == len(payloads), "one record id each"
    return ids


def refused(call, code, status):
    with pytest.raises(ClientError) as error:
        call()
    assert error.value.response["Error"]["Code"] == code
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    return error.value


def test_records_of_many_threads_are_stored_once_and_byte_for_byte(clicks, lake):
    client = clicks.firehose()

    def thread(number):
        rng = random.Random(number)
        for batch in range(6):
            # Every byte but the newline, which would make two lines of one record; the name makes it unique.
            payloads = [
                b"%d-%d-%d:" % (number, batch, i) + rng.randbytes(rng.randrange(400)).replace(b"\n", b"")
                for i in range(500)
            ]
            put_batch(client, payloads)
            one = b"one of thread %d after batch %d" % (number, batch)
            answer = client.put_record(DeliveryStreamName="clicks", Record={"Data": one})
            assert answer["RecordId"] and answer["Encrypted"] is False
            yield from [*payloads, one]

    with ThreadPoolExecutor(8) as pool:
        sent = [payload for payloads in pool.map(lambda number: list(thread(number)), range(8)) for payload in payloads]
    assert len(sent) == 8 * 6 * 501
    await_that(lambda: len(lake.lines()) >= len(sent), "all records are delivered")
    assert sorted(lake.lines()) == sorted(sent)
    clicks.stop()
    assert sorted(lake.lines()) == sorted(sent)


def test_empty_data_and_newlines_are_kept_as_they_are(clicks, lake):
    payloads = [b"first", b"", b"two\nlines", b"ends with one\n", b"\x00\xff\xfe", b"last"]
    put_batch(clicks.firehose(), payloads)
    clicks.firehose().put_record(DeliveryStreamName="clicks", Record={"Data": b""})
    whole = b"".join(payload + b"\n" for payload in [*payloads, b""])
    await_that(lambda: sum(map(len, lake.fetch().values())) >= len(whole), "all bytes are delivered")
    assert b"".join(lake.fetch()[key] for key in sorted(lake.fetch())) == whole


def test_wrong_keys_and_unsigned_calls_are_refused_and_store_nothing(clicks, lake):
    def put(client):
        return client.put_record(DeliveryStreamName="clicks", Record={"Data": b"intruder"})

    refused(lambda: put(clicks.firehose(key=("AKIANOBODY", KEY[1]))), "UnrecognizedClientException", 400)
    refused(lambda: put(clicks.firehose(key=(KEY[0], "wrong"))), "InvalidSignatureException", 400)
    refused(lambda: clicks.firehose(key=(KEY[0], "wrong")).list_delivery_streams(), "InvalidSignatureException", 400)

    unsigned = boto3.client(
        "firehose", endpoint_url=clicks.url, region_name="eu-central-1", config=Config(signature_version=UNSIGNED)
    )
    refused(lambda: put(unsigned), "MissingAuthenticationTokenException", 400)
    assert put(clicks.firehose())["RecordId"], "the right key goes through"
    await_that(lake.lines, "the right one is delivered")
    clicks.stop()
    assert lake.lines() == [b"intruder"]


def test_an_unknown_stream_is_a_resource_not_found_exception(clicks):
    client = clicks.firehose()
    for call in (
        lambda: client.put_record(DeliveryStreamName="nowhere", Record={"Data": b"x"}),
        lambda: client.put_record_batch(DeliveryStreamName="nowhere", Records=[{"Data": b"x"}]),
        lambda: client.describe_delivery_stream(DeliveryStreamName="nowhere"),
    ):
        with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
            call()
        assert error.value.response["Error"]["Message"] == "Firehose nowhere under account 000000000000 not found."


def test_limits_are_those_of_firehose(clicks, lake):
    client = clicks.firehose()
    batch = lambda payloads: client.put_record_batch(
        DeliveryStreamName="clicks", Records=[{"Data": data} for data in payloads]
    )
    error = refused(lambda: batch([b"x"] * 501), "ValidationException", 400)
    assert "Member must have length less than or equal to 500" in str(error)
    error = refused(lambda: batch([b"x" * 1_000_000] * 4 + [b"y" * 200_000]), "InvalidArgumentException", 400)
    assert "Records size exceeds 4 MB limit" in str(error)
    error = refused(lambda: batch([b"a", b"b", b"x" * 1_024_001]), "ValidationException", 400)
    assert "'records.3.member.data'" in str(error)
    assert "Member must have length less than or equal to 1024000" in str(error)
    one = {"Data": b"x" * 1_024_001}
    refused(lambda: client.put_record(DeliveryStreamName="clicks", Record=one), "ValidationException", 400)
    largest = [bytes([97 + i]) * 1_000_000 for i in range(4)] + [b"z" * (4 * 1024 * 1024 - 4_000_000)]
    put_batch(client, largest)
    put_batch(client, [b"w" * 1_024_000])
    await_that(lambda: len(lake.lines()) >= 6, "what the limits allow is delivered")
    clicks.stop()
    assert sorted(lake.lines()) == sorted([*largest, b"w" * 1_024_000]), "and nothing of what was refused"


def test_streams_can_be_described_and_listed(hydrant, bucket):
    streams = [f"stream-{n:02}" for n in range(12)]
    daemon = hydrant({name: pipeline(name, bucket, "60s") for name in streams}, settings=credentials()).start()
    client = daemon.firehose()
    about = client.describe_delivery_stream(DeliveryStreamName="stream-03")["DeliveryStreamDescription"]
    assert about["DeliveryStreamName"] == "stream-03"
    assert about["DeliveryStreamStatus"] == "ACTIVE"
    assert about["DeliveryStreamType"] == "DirectPut"
    assert about["DeliveryStreamARN"].endswith(":deliverystream/stream-03")
    assert about["HasMoreDestinations"] is False
    [destination] = about["Destinations"]
    assert destination["ExtendedS3DestinationDescription"]["BucketARN"] == f"arn:aws:s3:::{bucket}"
    assert destination["ExtendedS3DestinationDescription"]["BufferingHints"] == {"SizeInMBs": 4, "IntervalInSeconds": 60}
    assert about["CreateTimestamp"].year >= 2026
    first = client.list_delivery_streams()
    assert first["DeliveryStreamNames"] == streams[:10] and first["HasMoreDeliveryStreams"] is True
    rest = client.list_delivery_streams(ExclusiveStartDeliveryStreamName=streams[9], Limit=10)
    assert rest["DeliveryStreamNames"] == streams[10:] and rest["HasMoreDeliveryStreams"] is False
    assert client.list_delivery_streams(DeliveryStreamType="MSKAsSource")["DeliveryStreamNames"] == []


def test_a_retry_of_the_sdk_after_a_lost_answer_is_stored_once(clicks, lake):
    with Proxy(clicks.listen, answers_lost=1) as proxy:
        client = clicks.firehose(port=proxy.port, retries={"mode": "standard", "max_attempts": 3})
        answer = client.put_record(DeliveryStreamName="clicks", Record={"Data": b"only once"})
        assert answer["ResponseMetadata"]["RetryAttempts"] == 1
        assert proxy.requests == 2, "the first answer was lost, and the SDK has sent the call again"
        assert len(proxy.lost) == 1 and b"RecordId" in proxy.lost[0]
        assert answer["RecordId"].encode() in proxy.lost[0], "the retry names the record that is there"
        proxy.answers_lost = 1
        ids = put_batch(client, [b"batch %d" % n for n in range(500)])
        assert proxy.requests == 4 and ids[0].encode() in proxy.lost[1]
    # Another call with the same bytes is another record.
    clicks.firehose().put_record(DeliveryStreamName="clicks", Record={"Data": b"only once"})
    sent = [b"only once", *(b"batch %d" % n for n in range(500)), b"only once"]
    await_that(lambda: len(lake.lines()) >= len(sent), "all is delivered")
    clicks.stop()
    assert sorted(lake.lines()) == sorted(sent)


def test_a_retry_of_the_sdk_across_a_kill_is_stored_once(clicks, lake):
    answered, restarted = threading.Event(), threading.Event()

    def wait_for_the_restart():
        answered.set()
        restarted.wait(60)

    with Proxy(clicks.listen, answers_lost=1) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.before_loss = wait_for_the_restart
        client = clicks.firehose(port=proxy.port, retries={"mode": "standard", "max_attempts": 3})
        putting = pool.submit(put_batch, client, [b"survivor %d" % n for n in range(100)])
        assert answered.wait(60)
        clicks.kill()
        clicks.start()
        restarted.set()
        ids = putting.result()
        assert proxy.requests == 2 and ids[0].encode() in proxy.lost[0]
    await_that(lambda: len(lake.lines()) >= 100, "all is delivered")
    clicks.stop()
    assert sorted(lake.lines()) == sorted(b"survivor %d" % n for n in range(100))


def aws(daemon, *arguments, key=KEY):
    """Runs the AWS CLI; returns (exit code, what it printed, what it complained about)."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}
    command = ["aws", "--endpoint-url", daemon.url, "--region", "eu-central-1", "--output", "json", "firehose"]
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_aws_cli_puts_describes_and_lists(clicks, lake, tmp_path):
    code, out, err = aws(clicks, "put-record", "--delivery-stream-name", "clicks", "--record", "Data=hello")
    assert code == 0, err
    assert json.loads(out)["RecordId"]
    batch = tmp_path / "batch.json"
    batch.write_text(json.dumps([{"Data": f"from a file {n}"} for n in range(3)]))
    code, out, err = aws(
        clicks, "put-record-batch", "--delivery-stream-name", "clicks", "--records", f"file://{batch}"
    )
    assert code == 0, err
    assert json.loads(out)["FailedPutCount"] == 0 and len(json.loads(out)["RequestResponses"]) == 3
    code, out, err = aws(clicks, "describe-delivery-stream", "--delivery-stream-name", "clicks")
    assert code == 0, err
    assert json.loads(out)["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"
    code, out, err = aws(clicks, "list-delivery-streams")
    assert code == 0, err
    assert json.loads(out) == {"DeliveryStreamNames": ["clicks"], "HasMoreDeliveryStreams": False}
    code, out, err = aws(clicks, "put-record", "--delivery-stream-name", "nowhere", "--record", "Data=x")
    assert code != 0 and "(ResourceNotFoundException)" in err
    code, out, err = aws(clicks, "list-delivery-streams", key=(KEY[0], "wrong"))
    assert code != 0 and "(InvalidSignatureException)" in err
    await_that(lambda: len(lake.lines()) >= 4, "all is delivered")
    assert lake.lines() == [b"hello", *(b"from a file %d" % n for n in range(3))]
