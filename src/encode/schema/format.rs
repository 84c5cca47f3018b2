//! How dates and times are written in records, where a column says so.
//!
//! ```yaml
//! event_time: { type: timestamp(ms), format: epoch_s }
//! seen:       { type: timestamp(ms), format: ["%d/%b/%Y:%H:%M:%S %z", rfc3339] }   # tried in this order
//! day:        { type: date, format: "%Y%m%d" }
//! ```
//!
//! - `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`: a number since 1970, also in quotes, with its fraction. For
//!   timestamps, and for dates (the day in UTC).
//! - `rfc3339`: as without a format, but texts only. For timestamps.
//! - What has a `%` is a pattern of strptime (jiff's), for texts and for numbers as they are written (`20261120`). For
//!   timestamps, dates and times of day. Without a zone in it, a timestamp is UTC; without a time, it is midnight.
//!
//! A format counts for all dates and times inside the column's type; other ways to write them are then refused.

use std::fmt;
use std::sync::Arc;

use jiff::civil;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Data, Type, Unit};
use crate::nearest::nearest;

/// One way to write a date or time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeFormat {
    Rfc3339,
    /// A number of these since 1970.
    Epoch(Unit),
    /// A pattern of strptime that was checked.
    Pattern(Arc<str>),
}

const NAMES: [(&str, TimeFormat); 5] = [
    ("rfc3339", TimeFormat::Rfc3339),
    ("epoch_s", TimeFormat::Epoch(Unit::Second)),
    ("epoch_ms", TimeFormat::Epoch(Unit::Milli)),
    ("epoch_us", TimeFormat::Epoch(Unit::Micro)),
    ("epoch_ns", TimeFormat::Epoch(Unit::Nano)),
];

/// Formats as written: a text or a list of texts.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Written {
    One(String),
    Several(Vec<String>),
}

impl TimeFormat {
    /// A format for the dates and times in `data`; an error says what it lacks for them.
    pub fn new(text: &str, data: &Data) -> Result<TimeFormat, String> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, format)| format.clone());
        let format = match named {
            Some(format) => format,
            None if text.contains('%') => TimeFormat::Pattern(text.into()),
            None => return Err(unknown(text)),
        };
        let mut kinds = Vec::new();
        times_in(&data.kind, &mut kinds);
        if kinds.is_empty() {
            return Err(format!("format {text:?}: {data} has no date or time that it could be of"));
        }
        kinds.into_iter().try_for_each(|kind| format.suits(kind))?;
        Ok(format)
    }

    fn suits(&self, kind: &Type) -> Result<(), String> {
        let fits = match (self, kind) {
            (TimeFormat::Pattern(pattern), _) => return check(pattern, kind),
            (TimeFormat::Epoch(_), kind) => !matches!(kind, Type::Time(_)),
            (TimeFormat::Rfc3339, kind) => matches!(kind, Type::Timestamp(..)),
        };
        if fits {
            return Ok(());
        }
        Err(format!("format {self} is none for {kind}\nhint: write a pattern, such as {:?}", example(kind)))
    }
}

/// The instant that a text says by a pattern: seconds since 1970, and nanoseconds up from there.
pub fn instant(pattern: &str, text: &[u8]) -> Option<(i64, i64)> {
    let parts = parse(pattern, text)?;
    let instant = match parts.to_timestamp() {
        Ok(instant) => instant,
        Err(_) if parts.offset().is_some() || parts.iana_time_zone().is_some() => parts.to_zoned().ok()?.timestamp(),
        Err(_) => parts.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    let nanos = instant.as_nanosecond();
    Some((i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?, i64::try_from(nanos.rem_euclid(1_000_000_000)).ok()?))
}

/// The day that a text says by a pattern, in days since 1970.
pub fn day(pattern: &str, text: &[u8]) -> Option<i32> {
    let date = parse(pattern, text)?.to_date().ok()?;
    let days = date.duration_since(civil::date(1970, 1, 1)).as_secs() / 86_400;
    i32::try_from(days).ok()
}

/// The time of day that a text says by a pattern, in nanoseconds since midnight.
pub fn time_of_day(pattern: &str, text: &[u8]) -> Option<i64> {
    let parts = parse(pattern, text)?;
    parts.hour()?;
    let time = parts.to_time().ok()?;
    i64::try_from(time.duration_since(civil::Time::midnight()).as_nanos()).ok()
}

/// The parts that a text tells. A leap second, which jiff takes for the second before it, is refused: no value is changed
/// silently.
fn parse(pattern: &str, text: &[u8]) -> Option<BrokenDownTime> {
    let parts = BrokenDownTime::parse(pattern, text).ok()?;
    if parts.second() == Some(59) {
        let told = |parts: &BrokenDownTime| (parts.to_datetime().ok(), parts.to_time().ok(), parts.to_timestamp().ok());
        for at in memchr::memmem::find_iter(text, b"60") {
            let mut before = text.to_vec();
            before[at..at + 2].copy_from_slice(b"59");
            if BrokenDownTime::parse(pattern, &before).is_ok_and(|other| told(&other) == told(&parts)) {
                return None;
            }
        }
    }
    Some(parts)
}

/// That a pattern is one, and tells what the type needs: what it writes of an instant, it has to read back.
fn check(pattern: &str, kind: &Type) -> Result<(), String> {
    let wrong = |why: &str| format!("format {pattern:?}: {why}\nhint: a pattern for {kind} is {:?}", example(kind));
    let sample =
        civil::date(2026, 11, 20).at(12, 34, 56, 0).to_zoned(TimeZone::UTC).map_err(|e| wrong(&e.to_string()))?;
    let text = strtime::format(pattern, &sample).map_err(|error| wrong(&error.to_string()))?;
    let (days, text) = (20_777, text.as_bytes());
    let (reads, what) = match kind {
        Type::Timestamp(..) => {
            let day_of = |(seconds, _): (i64, i64)| seconds.div_euclid(86_400) == days;
            (instant(pattern, text).is_some_and(day_of), "does not tell the day, or not in a way that can be read back")
        }
        Type::Date => {
            (day(pattern, text).is_some_and(|day| i64::from(day) == days), "does not tell year, month and day")
        }
        _ => (time_of_day(pattern, text).is_some(), "does not tell the hour"),
    };
    if reads { Ok(()) } else { Err(wrong(what)) }
}

fn times_in<'t>(kind: &'t Type, found: &mut Vec<&'t Type>) {
    match kind {
        Type::Timestamp(..) | Type::Date | Type::Time(_) => found.push(kind),
        Type::List(inner) | Type::Map(inner) => times_in(&inner.kind, found),
        Type::Struct(columns) => columns.iter().for_each(|column| times_in(&column.data.kind, found)),
        _ => {}
    }
}

fn example(kind: &Type) -> &'static str {
    match kind {
        Type::Date => "%Y-%m-%d",
        Type::Time(_) => "%H:%M:%S",
        _ => "%Y-%m-%d %H:%M:%S%.f",
    }
}

fn unknown(text: &str) -> String {
    let names = NAMES.map(|(name, _)| name);
    let hint = match nearest(text, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("write one of {}, or a pattern such as \"%d/%b/%Y:%H:%M:%S %z\"", names.join(", ")),
    };
    format!("unknown format {text:?}\nhint: {hint}")
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let TimeFormat::Pattern(pattern) = self {
            return f.write_str(pattern);
        }
        let name = NAMES.iter().find(|(_, format)| format == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str, kind: &str) -> Result<TimeFormat, String> {
        TimeFormat::new(text, &Data::parse(kind).unwrap())
    }

    #[test]
    fn a_format_is_checked_against_the_type_before_any_record_comes() {
        for (text, kind) in [
            ("rfc3339", "timestamp(ms)"),
            ("epoch_us", "list<timestamp(s)>"),
            ("epoch_ms", "date"),
            ("%d/%b/%Y:%H:%M:%S %z", "timestamp(ms)"),
            ("%s", "timestamp(ms)"),
            ("%Y-%m-%d", "timestamp(ms)"),
            ("%y%j", "date"),
            ("%I:%M %p", "time(ms)"),
            ("%Y-%m-%dT%H:%M:%S%.f[%Q]", "struct<a:int, b:map<string,timestamp(ns)>>"),
        ] {
            assert_eq!(format(text, kind).map(|format| format.to_string()), Ok(text.to_owned()), "{text} for {kind}");
        }
        for (text, kind, message) in [
            ("epoc_s", "timestamp(ms)", "unknown format \"epoc_s\"\nhint: did you mean `epoch_s`?"),
            (
                "iso",
                "date",
                "unknown format \"iso\"\nhint: write one of rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns, or a pattern such as \"%d/%b/%Y:%H:%M:%S %z\"",
            ),
            ("epoch_s", "string", "format \"epoch_s\": string has no date or time that it could be of"),
            ("epoch_s", "time(ms)", "format epoch_s is none for time(ms)\nhint: write a pattern, such as \"%H:%M:%S\""),
            ("rfc3339", "list<date>", "format rfc3339 is none for date\nhint: write a pattern, such as \"%Y-%m-%d\""),
            (
                "%H:%M",
                "timestamp(ms)",
                "format \"%H:%M\": does not tell the day, or not in a way that can be read back\nhint: a pattern for timestamp(ms) is \"%Y-%m-%d %H:%M:%S%.f\"",
            ),
            (
                "%m-%d",
                "date",
                "format \"%m-%d\": does not tell year, month and day\nhint: a pattern for date is \"%Y-%m-%d\"",
            ),
            ("%Y", "time(us)", "format \"%Y\": does not tell the hour\nhint: a pattern for time(us) is \"%H:%M:%S\""),
        ] {
            assert_eq!(format(text, kind), Err(message.to_owned()), "{text} for {kind}");
        }
        let message = format("%Y-%K", "date").unwrap_err();
        assert!(message.starts_with("format \"%Y-%K\": ") && message.contains("hint: "), "{message}");
    }

    #[test]
    fn a_pattern_reads_instants_days_and_times() {
        assert_eq!(instant("%d/%b/%Y:%H:%M:%S %z", b"20/Nov/2026:13:34:56 +0100"), Some((1_795_178_096, 0)));
        assert_eq!(instant("%Y-%m-%d %H:%M:%S%.f", b"1969-12-31 23:59:59.25"), Some((-1, 250_000_000)));
        assert_eq!(instant("%Y-%m-%d", b"2026-11-20"), Some((20_777 * 86_400, 0)));
        assert_eq!(instant("%s", b"1795178096"), Some((1_795_178_096, 0)));
        assert_eq!(day("%Y%m%d", b"19691231"), Some(-1));
        assert_eq!(time_of_day("%I:%M %p", b"01:02 PM"), Some(46_920_000_000_000));
        assert_eq!(instant("%Y-%m-%d %H:%M:%S", b"1960-01-01 00:60:59"), None);
        assert!(instant("%Y-%m-%d %H:%M:%S", b"1960-01-01 00:00:59").is_some());
        assert_eq!(instant("%Y-%m-%d %H:%M:%S", b"2016-12-31 23:59:60"), None);
        for wrong in ["20/Nov/2026", "31/Nov/2026:13:34:56 +0100", "20/Nov/2026:13:34:56 +0100 ", ""] {
            assert_eq!(instant("%d/%b/%Y:%H:%M:%S %z", wrong.as_bytes()), None, "{wrong}");
        }
    }
}
