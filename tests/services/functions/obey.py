"""A function as people write them for Firehose: the blueprint's loop over base64 records, and a word per record."""

import base64
import json
import time


def handler(event, context):
    print(f"{event['invocationId']} of {event['deliveryStreamArn']}: {len(event['records'])} records")
    return {"records": [transformed(record) for record in event["records"]]}


def transformed(record):
    payload = json.loads(base64.b64decode(record["data"]))
    what = payload.get("do", "keep")
    if what == "drop":
        return {"recordId": record["recordId"], "result": "Dropped", "data": record["data"]}
    if what == "fail":
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    if what == "forget":
        return {"recordId": "another", "result": "Ok", "data": record["data"]}
    if what == "crash":
        raise KeyError("what a function did not expect")
    if what == "sleep":
        time.sleep(3600)
    if what == "grow":
        payload["grown"] = "x" * (7 << 20)
    payload["seen_at"] = record["approximateArrivalTimestamp"]
    data = base64.b64encode((json.dumps(payload) + "\n").encode()).decode()
    keys = {"country": payload["country"], "kind": payload.get("kind", "none")}
    return {"recordId": record["recordId"], "result": "Ok", "data": data, "metadata": {"partitionKeys": keys}}


def nonsense(event, context):
    """What people return by mistake: an answer for API Gateway."""
    return {"statusCode": 200, "body": json.dumps({"records": []})}
