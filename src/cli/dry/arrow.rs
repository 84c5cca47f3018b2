//! Rows of a Parquet object as JSON, in the types that a reader sees: times as RFC 3339, decimals as texts, bytes in base64.

use std::io;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, StructArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value, json};

/// All rows.
pub fn rows(object: Bytes) -> io::Result<Vec<Value>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object).and_then(|builder| builder.build());
    let mut rows = Vec::new();
    for batch in reader.map_err(io::Error::other)? {
        let batch: ArrayRef = Arc::new(StructArray::from(batch.map_err(io::Error::other)?));
        rows.extend((0..batch.len()).map(|row| cell(&batch, row)));
    }
    Ok(rows)
}

/// The columns of a Parquet object as its readers see them: names and types.
pub fn columns(object: Bytes) -> io::Result<Vec<(String, String)>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(object).map_err(io::Error::other)?;
    let columns = builder.parquet_schema().root_schema().get_fields().iter().map(|field| {
        let mut text = Vec::new();
        parquet::schema::printer::print_schema(&mut text, field);
        let text = String::from_utf8_lossy(&text).replace('\n', " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // The name stands before it already.
        let text = text.trim_end_matches(';').replacen(&format!(" {}", field.name()), "", 1);
        (field.name().to_owned(), text)
    });
    Ok(columns.collect())
}

fn cell(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int8 => json!(array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => json!(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(array.as_string::<i64>().value(row)),
        DataType::Binary => base64(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => base64(array.as_binary::<i64>().value(row)),
        DataType::Decimal128(_, scale) => {
            decimal(&array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale)
        }
        DataType::Decimal256(_, scale) => {
            decimal(&array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale)
        }
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time32(TimeUnit::Second) => {
            time(i64::from(array.as_primitive::<Time32SecondType>().value(row)) * 1_000_000_000)
        }
        DataType::Time32(_) => time(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000_000),
        DataType::Time64(TimeUnit::Microsecond) => {
            time(array.as_primitive::<Time64MicrosecondType>().value(row) * 1_000)
        }
        DataType::Time64(_) => time(array.as_primitive::<Time64NanosecondType>().value(row)),
        DataType::Timestamp(unit, zone) => {
            let (value, per_second) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
                TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
            };
            timestamp(value, per_second, zone.is_some())
        }
        DataType::Dictionary(..) => {
            // Keys of any width; of all rows they would be made anew for each row.
            let one = array.slice(row, 1);
            let dictionary = one.as_any_dictionary();
            let key = dictionary.normalized_keys().first().copied().unwrap_or_default();
            cell(dictionary.values(), key)
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().value(row));
            let entries = entries.as_struct();
            let pair = |at: usize| (text(&cell(entries.column(0), at)), cell(entries.column(1), at));
            Value::Object((0..entries.len()).map(pair).collect())
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let named = fields.iter().zip(columns.columns());
            Value::Object(named.map(|(field, column)| (field.name().clone(), cell(column, row))).collect::<Map<_, _>>())
        }
        other => json!(format!("a value of type {other}")),
    }
}

fn list(items: &ArrayRef) -> Value {
    Value::Array((0..items.len()).map(|at| cell(items, at)).collect())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn base64(bytes: &[u8]) -> Value {
    json!(base64_simd::STANDARD.encode_to_string(bytes))
}

/// `1250` at scale 2 as `12.50`.
fn decimal(digits: &str, scale: i8) -> Value {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let scale = usize::try_from(scale).unwrap_or(0);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    json!(format!("{sign}{whole}{point}{fraction}"))
}

fn date(days: i32) -> Value {
    let date = Date::constant(1970, 1, 1).checked_add(SignedDuration::from_hours(i64::from(days) * 24));
    date.map_or_else(|_| json!(days), |date| json!(date.to_string()))
}

fn time(nanos: i64) -> Value {
    let time = Time::midnight().checked_add(SignedDuration::from_nanos(nanos));
    time.map_or_else(|_| json!(nanos), |time| json!(time.to_string()))
}

/// With `Z` where the column is one of instants, and without where it is one of local times.
fn timestamp(value: i64, per_second: i64, instant: bool) -> Value {
    let nanos = i128::from(value) * i128::from(1_000_000_000 / per_second);
    let Ok(at) = Timestamp::from_nanosecond(nanos) else { return json!(value) };
    let digits = match per_second {
        1 => 0,
        1_000 => 3,
        1_000_000 => 6,
        _ => 9,
    };
    let shown = format!("{at:.digits$}");
    json!(if instant { shown.as_str() } else { shown.trim_end_matches('Z') })
}
