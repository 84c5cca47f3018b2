"""Prints the row count and an order-free sum of every column of Parquet files, as JSON. Usage: sums.py FILE..."""

import json
import sys

import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet


def number(column):
    """A number that changes when a value of the column does."""
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        return number(column.cast(kind.value_type))
    if pyarrow.types.is_timestamp(kind):
        return number(column.cast(pyarrow.timestamp("ms", kind.tz)).cast("int64"))
    if pyarrow.types.is_string(kind):
        return pc.sum(pc.binary_length(column)).as_py(), len(pc.unique(column)), column.null_count
    if pyarrow.types.is_list(kind):
        return number(pc.list_flatten(column)), column.null_count
    if pyarrow.types.is_struct(kind):
        return [number(pc.struct_field(column, [i])) for i in range(kind.num_fields)]
    if pyarrow.types.is_floating(kind):
        column = column.view("int64")  # The bits: their sum does not depend on the order.
    return str(pc.sum(column).as_py())


def main(paths):
    table = pyarrow.concat_tables(pyarrow.parquet.ParquetFile(path).read() for path in paths)
    sums = {name: number(table.column(name).combine_chunks()) for name in sorted(table.column_names)}
    print(json.dumps({"rows": table.num_rows, **sums}))


main(sys.argv[1:])
