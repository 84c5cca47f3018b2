"""Drops records of one level, and hides e-mail addresses."""

import json  # all imports belong here, at the top: a module has no files to import from later

drop_level = "debug"


def init(config: str):
    """Once, before any record, with the `config` of the pipeline file: JSON, or an empty text. Raise, and the pipeline
    does not start."""
    global drop_level
    if config:
        drop_level = json.loads(config).get("drop_level", drop_level)


def transform(event):
    """One record: `event.data` (bytes), `event.arrival_ms`, `event.key`, `event.origin`. Return what it becomes: None (it is
    dropped), a str, bytes, a list of them. Raise, and it is set aside with that reason."""
    record = json.loads(event.data)
    if "level" not in record:
        raise ValueError("no field `level`")
    if record["level"] == drop_level:
        return None
    if "email" in record:
        record["email"] = "***"
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)
