"""A Python function written for Firehose, behind an emulator of Lambda, transforms what boto3 puts."""

import json
from collections import Counter

import pytest

from function import Function
from hydrant import await_that, s3_sink
from objects import Lake


@pytest.fixture
def function(tmp_path):
    """`function(handler, ...)` makes one that is not started yet; all are stopped when the test ends."""
    made = []

    def make(handler="obey.handler", **options):
        made.append(Function(tmp_path / f"function-{len(made)}", handler, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        print(f"--- the last of the function:\n{one.log()[-2000:]}" if (one.folder / "log").exists() else "")


@pytest.fixture
def lake(s3, bucket, tmp_path):
    return Lake(s3, bucket, tmp_path)


def pipeline(function, bucket, **more):
    """What a stream of Firehose with this function is here."""
    options = {"function": function.name, "endpoint": function.endpoint, "skip_signature": True, **more}
    options.setdefault("buffer", {"interval": "300ms"})
    return {
        "source": {"firehose": {"stream": "clicks"}},
        "transforms": [{"lambda": options}],
        # The function ends its records with a line end itself, as is usual with Firehose.
        "format": {"lines": {"delimiter": "none"}},
        "buffer": {"size": "4 MiB", "interval": "300ms"},
        "sink": s3_sink(
            bucket,
            "clicks/",
            prefix="country=!{partitionKeyFromLambda:country}/kind=!{partitionKeyFromLambda:kind}/",
        ),
        "errors": {"prefix": "errors/!{firehose:error-output-type}/"},
    }


def put(daemon, records):
    client = daemon.firehose()
    for start in range(0, len(records), 500):
        data = [{"Data": json.dumps(record).encode()} for record in records[start : start + 500]]
        assert client.put_record_batch(DeliveryStreamName="clicks", Records=data)["FailedPutCount"] == 0


def rejected(lake, count):
    """The error records, once there are so many."""
    await_that(lambda: len(lake.rejected()) >= count, f"{count} records are set aside")
    return lake.rejected()


def test_a_function_of_firehose_moves_over_unchanged(hydrant, function, bucket, lake):
    obey = function().start()
    daemon = hydrant({"clicks": pipeline(obey, bucket)}).start()
    what = ["keep", "drop", "fail", "keep", "forget"]
    records = [{"n": n, "country": ["de", "at"][n % 2], "do": what[n % 5]} for n in range(1000)]
    put(daemon, records)
    await_that(lambda: len(lake.lines()) >= 400 and len(lake.rejected()) >= 400, "all is delivered")
    daemon.stop()

    for country in ["de", "at"]:
        folder = f"clicks/country={country}/kind=none/"
        lines = [line for key, data in sorted(lake.fetch().items()) if key.startswith(folder) for line in data.splitlines()]
        found = [json.loads(line) for line in lines]
        kept = [record for record in records if record["do"] == "keep" and record["country"] == country]
        assert [one["n"] for one in found] == [record["n"] for record in kept], "each once, in order"
        assert all(one["seen_at"] > 1_700_000_000_000 for one in found)
    codes = Counter((json.loads(one["raw"])["do"], one["errorCode"], one["errorMessage"]) for one in lake.rejected())
    missing = "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids."
    assert codes == {
        ("fail", "Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record"): 200,
        ("forget", "Lambda.MissingRecordId", missing): 200,
    }
    arn = "arn:aws:lambda:eu-central-1:000000000000:function:function"
    assert {(one["attemptsMade"], one["lambdaARN"]) for one in lake.rejected()} == {(1, arn)}
    assert all(key.startswith(("clicks/country=", "clicks/errors/processing-failed/")) for key in lake.fetch())


def test_what_a_function_does_wrong_has_firehoses_names(hydrant, function, bucket, lake):
    # A call that was given up keeps its runtime: there is one for each.
    obey = function(runtimes=8).start()
    options = {"retries": 1, "timeout": "1s"}
    daemon = hydrant({"clicks": pipeline(obey, bucket, **options)}).start()
    for number, (what, code) in enumerate(
        [
            ("crash", "Lambda.FunctionError"),
            ("sleep", "Lambda.FunctionRequestTimedOut"),
            ("grow", "Lambda.FunctionError"),
        ]
    ):
        put(daemon, [{"do": what, "country": "de"}])
        last = rejected(lake, number + 1)[-1]
        assert (json.loads(last["raw"])["do"], last["errorCode"], last["attemptsMade"]) == (what, code, 2)
    put(daemon, [{"n": 1, "country": "de", "kind": "a b"}])
    await_that(lambda: lake.lines(), "the function goes on")
    daemon.stop()
    assert "KeyError: 'what a function did not expect'" in daemon.log.read_text()


def test_an_answer_for_something_else_is_not_asked_for_again(hydrant, function, bucket, lake):
    nonsense = function("obey.nonsense").start()
    daemon = hydrant({"clicks": pipeline(nonsense, bucket)}).start()
    put(daemon, [{"n": 1}, {"n": 2}])
    answers = {(one["errorCode"], one["attemptsMade"]) for one in rejected(lake, 2)}
    assert answers == {("Lambda.JsonProcessingException", 1)}
    daemon.stop()


def test_a_function_that_is_down_is_waited_for_and_kills_double_nothing(hydrant, function, bucket, lake):
    obey = function(runtimes=5)
    daemon = hydrant({"clicks": pipeline(obey, bucket, retries=0, buffer={"size": "200 KB", "interval": "300ms"})})
    daemon.start()
    records = [{"n": n, "country": "de", "pad": "x" * 300} for n in range(6000)]
    put(daemon, records[:3000])
    said = "a transform cannot work: trying again"
    await_that(lambda: said in daemon.log.read_text(), "it says what it waits for")
    daemon.kill()
    daemon.start()
    obey.start()
    put(daemon, records[3000:])
    await_that(lambda: lake.lines(), "some are delivered")
    daemon.kill()
    daemon.start()
    await_that(lambda: len(lake.lines()) >= len(records), "all are delivered")
    daemon.stop()
    assert [json.loads(line)["n"] for line in lake.lines()] == [record["n"] for record in records], "each once, in order"
    assert lake.rejected() == []
