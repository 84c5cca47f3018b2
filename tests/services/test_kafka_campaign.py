"""The campaign of faults, for a while: a hundred takeovers, and each record is delivered once."""

from kafka_campaign import run

TAKEOVERS, SECONDS_MAX = 100, 240


def test_a_hundred_takeovers_lose_and_double_nothing(broker, tmp_path):
    right, text = run(broker, tmp_path / "campaign", 7, TAKEOVERS, SECONDS_MAX)
    print(text)
    assert right, text
