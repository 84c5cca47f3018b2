"""The contract with hydrant, wit/hydrant.wit, around the two functions of transform.py. Nothing here is to be changed."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.exports.transformer import Output

import transform


class Transformer(exports.Transformer):
    def init(self, config):
        try:
            transform.init(config)
        except Exception as error:
            raise Err(reason(error)) from None

    def process(self, events):
        return [outcome(event) for event in events]


def outcome(event):
    try:
        became = transform.transform(event)
        if became is None:
            became = []
        elif not isinstance(became, list):
            became = [became]
        return Ok([output(one) for one in became])
    except Exception as error:
        return Err(reason(error))


def output(became):
    """A str, bytes, or a tuple of one of them and a dict of partition keys."""
    data, keys = became if isinstance(became, tuple) else (became, {})
    data = data.encode() if isinstance(data, str) else data
    return Output(data, [(name, str(value)) for name, value in keys.items()])


def reason(error):
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
