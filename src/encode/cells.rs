//! Cells as text: what stands in a CSV field, and inside nested values their JSON.
//!
//! A cell is spelled as JSON would have it, without quotes around a text: numbers and decimals in full, dates and times
//! as RFC 3339 with the digits of their unit, binary as it was written. What is read back is the same value.

use std::io::Write;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::schema::{BinaryText, Data, Type, Unit, Zone};

const DAY_SECONDS: i64 = 86_400;

/// How the cells of a column are spelled.
pub enum Cell {
    Text,
    /// A text that is JSON already.
    Json,
    Dictionary,
    Bool,
    Int {
        signed: bool,
        bits: u8,
    },
    Float32,
    Float64,
    Date,
    Time(Unit),
    Timestamp(Unit, Clock),
    Decimal {
        wide: bool,
        scale: u8,
    },
    Binary(BinaryText),
    List(Box<Cell>),
    Map(Box<Cell>),
    /// With each field's name as a JSON key.
    Struct(Vec<(Vec<u8>, Cell)>),
}

/// Whose clock a timestamp is read from.
pub enum Clock {
    Utc,
    Zone(TimeZone),
    /// Nobody knows: no offset is written.
    Local,
}

impl Clock {
    fn of(zone: &Zone) -> anyhow::Result<Clock> {
        match zone.as_deref() {
            None => Ok(Clock::Local),
            Some("UTC") => Ok(Clock::Utc),
            Some(name) => {
                Ok(Clock::Zone(TimeZone::get(name).with_context(|| format!("no time zone has the name {name}"))?))
            }
        }
    }

    /// Seconds east of UTC, in whole minutes as RFC 3339 writes them; none where there is no clock.
    fn offset(&self, seconds: i64) -> Option<i64> {
        match self {
            Clock::Utc => Some(0),
            Clock::Local => None,
            // Outside the years -9999 to 9999 no zone is known.
            Clock::Zone(zone) => Some(
                Timestamp::from_second(seconds)
                    .map_or(0, |instant| i64::from(zone.to_offset(instant).seconds() / 60 * 60)),
            ),
        }
    }
}

impl Cell {
    /// An error if a time zone is not known.
    pub fn new(data: &Data) -> anyhow::Result<Cell> {
        Ok(match &data.kind {
            Type::String => Cell::Text,
            Type::Json => Cell::Json,
            Type::Dictionary => Cell::Dictionary,
            Type::Bool => Cell::Bool,
            Type::Int { signed, bits } => Cell::Int { signed: *signed, bits: *bits },
            Type::Float32 => Cell::Float32,
            Type::Float64 => Cell::Float64,
            Type::Date => Cell::Date,
            Type::Time(unit) => Cell::Time(*unit),
            Type::Timestamp(unit, zone) => Cell::Timestamp(*unit, Clock::of(zone)?),
            Type::Decimal { precision, scale } => Cell::Decimal { wide: *precision > 38, scale: *scale },
            Type::Binary(text) => Cell::Binary(*text),
            Type::List(element) => Cell::List(Box::new(Cell::new(element)?)),
            Type::Map(value) => Cell::Map(Box::new(Cell::new(value)?)),
            Type::Struct(columns) => {
                let field = |column: &super::schema::Column| {
                    let mut key = Vec::new();
                    quoted(column.name.as_bytes(), &mut key);
                    key.push(b':');
                    Ok((key, Cell::new(&column.data)?))
                };
                Cell::Struct(columns.iter().map(field).collect::<anyhow::Result<_>>()?)
            }
        })
    }

    /// Appends the text of a cell that is not null.
    pub fn text(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        match self {
            Cell::Text | Cell::Json => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
            Cell::Dictionary => {
                let dictionary = array.as_dictionary::<Int32Type>();
                let key = dictionary.keys().value(row) as usize;
                out.extend_from_slice(dictionary.values().as_string::<i32>().value(key).as_bytes());
            }
            Cell::Bool => {
                let word: &[u8] = if array.as_boolean().value(row) { b"true" } else { b"false" };
                out.extend_from_slice(word);
            }
            Cell::Int { signed, bits } => int(*signed, *bits, array, row, out),
            Cell::Float32 => put(out, format_args!("{:?}", value::<Float32Type>(array, row))),
            Cell::Float64 => put(out, format_args!("{:?}", value::<Float64Type>(array, row))),
            Cell::Date => date(value::<Date32Type>(array, row).into(), out),
            Cell::Time(unit) => {
                let units = match unit {
                    Unit::Second | Unit::Milli => value::<Time32MillisecondType>(array, row).into(),
                    Unit::Micro => value::<Time64MicrosecondType>(array, row),
                    Unit::Nano => value::<Time64NanosecondType>(array, row),
                };
                let (seconds, fraction) = split(units, *unit);
                time(seconds, out);
                put_fraction(fraction, *unit, out);
            }
            Cell::Timestamp(unit, clock) => {
                let units = match unit {
                    Unit::Second | Unit::Milli => value::<TimestampMillisecondType>(array, row),
                    Unit::Micro => value::<TimestampMicrosecondType>(array, row),
                    Unit::Nano => value::<TimestampNanosecondType>(array, row),
                };
                timestamp(units, *unit, clock, out);
            }
            Cell::Decimal { wide, scale } => decimal(*wide, (*scale).into(), array, row, out),
            Cell::Binary(text) => binary(*text, array.as_binary::<i32>().value(row), out),
            Cell::List(_) | Cell::Map(_) | Cell::Struct(_) => self.json(array, row, out),
        }
    }

    /// Appends the JSON of a cell.
    fn json(&self, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
        if array.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match self {
            Cell::List(element) => {
                let list = array.as_list::<i32>();
                out.push(b'[');
                for (index, at) in span(list.value_offsets(), row).enumerate() {
                    comma(index, out);
                    element.json(list.values(), at, out);
                }
                out.push(b']');
            }
            Cell::Map(inside) => {
                let map = array.as_map();
                let keys = map.keys().as_string::<i32>();
                out.push(b'{');
                for (index, at) in span(map.value_offsets(), row).enumerate() {
                    comma(index, out);
                    quoted(keys.value(at).as_bytes(), out);
                    out.push(b':');
                    inside.json(map.values(), at, out);
                }
                out.push(b'}');
            }
            Cell::Struct(fields) => {
                let columns = array.as_struct().columns();
                out.push(b'{');
                for (index, ((key, cell), column)) in fields.iter().zip(columns).enumerate() {
                    comma(index, out);
                    out.extend_from_slice(key);
                    cell.json(column, row, out);
                }
                out.push(b'}');
            }
            Cell::Text | Cell::Dictionary | Cell::Date | Cell::Time(_) | Cell::Timestamp(..) | Cell::Binary(_) => {
                let start = out.len();
                self.text(array, row, out);
                if let Some(text) = out.get(start..).filter(|text| !text.iter().any(|byte| must_escape(*byte))) {
                    let len = text.len();
                    out.push(b'"');
                    out.push(b'"');
                    out.copy_within(start..start + len, start + 1);
                    out[start] = b'"';
                } else {
                    let text = out.split_off(start);
                    quoted(&text, out);
                }
            }
            Cell::Json | Cell::Bool | Cell::Int { .. } | Cell::Float32 | Cell::Float64 | Cell::Decimal { .. } => {
                self.text(array, row, out);
            }
        }
    }
}

/// Where the elements of row `row` lie.
pub fn span(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// The value of a row, of an array that has this type.
#[inline]
pub fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    array.as_primitive::<T>().value(row)
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a vector takes all that is written");
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => put(out, format_args!("\\u{byte:04x}")),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

fn int(signed: bool, bits: u8, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    match (signed, bits) {
        (true, 8) => put(out, format_args!("{}", value::<Int8Type>(array, row))),
        (true, 16) => put(out, format_args!("{}", value::<Int16Type>(array, row))),
        (true, 32) => put(out, format_args!("{}", value::<Int32Type>(array, row))),
        (true, _) => put(out, format_args!("{}", value::<Int64Type>(array, row))),
        (false, 8) => put(out, format_args!("{}", value::<UInt8Type>(array, row))),
        (false, 16) => put(out, format_args!("{}", value::<UInt16Type>(array, row))),
        (false, 32) => put(out, format_args!("{}", value::<UInt32Type>(array, row))),
        (false, _) => put(out, format_args!("{}", value::<UInt64Type>(array, row))),
    }
}

fn decimal(wide: bool, scale: usize, array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    let digits_min = scale + 1;
    if wide {
        let text = value::<Decimal256Type>(array, row).to_string();
        let digits = text.trim_start_matches('-');
        let minus = if digits.len() < text.len() { "-" } else { "" };
        put(out, format_args!("{minus}{digits:0>digits_min$}"));
    } else {
        let value = value::<Decimal128Type>(array, row);
        let minus = if value < 0 { "-" } else { "" };
        put(out, format_args!("{minus}{:0>digits_min$}", value.unsigned_abs()));
    }
    if scale > 0 {
        out.insert(out.len() - scale, b'.');
    }
}

fn binary(text: BinaryText, bytes: &[u8], out: &mut Vec<u8>) {
    match text {
        BinaryText::Utf8 => out.extend_from_slice(bytes),
        BinaryText::Base64 => base64_simd::STANDARD.encode_append(bytes, out),
        BinaryText::Hex => bytes.iter().for_each(|byte| put(out, format_args!("{byte:02x}"))),
    }
}

/// Whole seconds, and units of the rest.
fn split(units: i64, unit: Unit) -> (i64, i64) {
    // Seconds are stored in milliseconds.
    let per_second = 1_000_000_000 / if unit == Unit::Second { Unit::Milli } else { unit }.nanos();
    (units.div_euclid(per_second), units.rem_euclid(per_second))
}

fn put_fraction(fraction: i64, unit: Unit, out: &mut Vec<u8>) {
    match unit {
        Unit::Second => {}
        Unit::Milli => put(out, format_args!(".{fraction:03}")),
        Unit::Micro => put(out, format_args!(".{fraction:06}")),
        Unit::Nano => put(out, format_args!(".{fraction:09}")),
    }
}

fn timestamp(units: i64, unit: Unit, clock: &Clock, out: &mut Vec<u8>) {
    let (seconds, fraction) = split(units, unit);
    let offset = clock.offset(seconds);
    let shown = seconds + offset.unwrap_or(0);
    date(shown.div_euclid(DAY_SECONDS), out);
    out.push(b'T');
    time(shown.rem_euclid(DAY_SECONDS), out);
    put_fraction(fraction, unit, out);
    match (clock, offset) {
        (_, None) => {}
        (Clock::Utc, _) => out.push(b'Z'),
        (_, Some(offset)) => {
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
            put(out, format_args!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
    }
}

fn time(seconds: i64, out: &mut Vec<u8>) {
    put(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
}

/// `yyyy-MM-dd`; years that need it have a sign and more digits (ISO 8601, expanded).
fn date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    match year {
        0..=9999 => put(out, format_args!("{year:04}-{month:02}-{day:02}")),
        _ => put(out, format_args!("{year:+07}-{month:02}-{day:02}")),
    }
}

/// Year, month and day of a count of days since 1970 (proleptic Gregorian). The year is counted from March, so that the
/// leap day is its last; 146,097 days are 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (20_777, "2026-11-20"),
            (-719_528, "0000-01-01"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+010000-01-01"),
            (-719_529, "-000001-12-31"),
        ] {
            let mut out = Vec::new();
            date(days, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_time_is_shown_on_the_clock_of_its_zone() {
        let shown = |zone: Option<&str>, units, unit| {
            let mut out = Vec::new();
            timestamp(units, unit, &Clock::of(&zone.map(Into::into)).unwrap(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(Some("UTC"), 1, Unit::Milli), "1970-01-01T00:00:00.001Z");
        assert_eq!(shown(Some("UTC"), -1, Unit::Nano), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(shown(None, 1_000, Unit::Second), "1970-01-01T00:00:01");
        assert_eq!(
            shown(Some("Europe/Berlin"), 1_784_500_000_000_000, Unit::Micro),
            "2026-07-20T00:26:40.000000+02:00"
        );
        assert_eq!(shown(Some("America/St_Johns"), 0, Unit::Milli), "1969-12-31T20:30:00.000-03:30");
        assert_eq!(shown(Some("UTC"), i64::MAX, Unit::Milli), "+292278994-08-17T07:12:55.807Z");
        assert!(Clock::of(&Some("Mars/Base".into())).is_err());
    }

    #[test]
    fn texts_are_escaped_where_json_demands_it() {
        let mut out = Vec::new();
        quoted("é\"\\\n\u{1f}".as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"é\\\"\\\\\\u000a\\u001f\"");
    }
}
