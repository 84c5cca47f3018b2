"""Fixtures of the service tests: a bucket, a broker of Kafka, and daemons that never outlive their test."""

import os
import uuid

import boto3
import pytest
from botocore.config import Config

from hydrant import Hydrant
from kafka_broker import Broker


@pytest.fixture
def s3():
    """A client of the S3 server that tests/services/run has started."""
    return boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        aws_access_key_id="store",
        aws_secret_access_key="store-secret",
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture
def bucket(s3):
    """An empty bucket of the test's own."""
    name = f"lake-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    return name


@pytest.fixture(scope="session")
def the_broker(tmp_path_factory):
    """The broker of all stories, from the first one that wants it."""
    made = Broker(tmp_path_factory.mktemp("kafka") / "broker")
    yield made.start()
    made.kill()
    made.tokens.close()


@pytest.fixture
def broker(the_broker):
    """The broker, running. A story may stop it, kill it, and start it again."""
    if the_broker.process is None:
        the_broker.start()
    assert the_broker.answers()
    return the_broker


@pytest.fixture
def hydrant(tmp_path, request):
    """`hydrant(pipelines, ...)` makes a daemon below tmp_path; all are killed when the test ends."""
    made = []

    def make(pipelines, **options):
        daemon = Hydrant(tmp_path / f"hydrant-{len(made)}", pipelines, **options)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.kill()
    call = getattr(request.node, "outcome_of_call", None)
    if call is None or call.failed:
        for daemon in made:
            print(f"--- the last of {daemon.log}:\n{daemon.log_tail()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call":
        item.outcome_of_call = report
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed here: {report.longrepr}"
    return report


def pytest_sessionfinish(session):
    """Leaves the counts for the last line of tests/services/run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    passed = len(reporter.stats.get("passed", []))
    failed = len(reporter.stats.get("failed", [])) + len(reporter.stats.get("error", []))
    with open(os.environ["SERVICES_COUNTS"], "w", encoding="ascii") as counts:
        counts.write(f"{passed} {failed}\n")
