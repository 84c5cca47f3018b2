//! Dates and times as people send them, to the nanosecond.
//!
//! - A timestamp text is RFC 3339 or the same with a blank for the `T`; without a zone it is UTC:
//!   `2026-11-20T10:02:03.123456789+01:00`, `2026-11-20 10:02:03`. Seconds are needed, 60 is refused. (A prefix takes a
//!   text without a zone as a reading of a clock in the pipeline's `time_zone`.)
//! - A timestamp number counts from 1970, in the unit that its size tells: below 10^11 seconds, below 10^14 milliseconds,
//!   below 10^17 microseconds, else nanoseconds; its fraction is one of that unit. (In seconds 10^11 is the year 5138,
//!   in milliseconds March 1973.)
//! - What is finer than the column is cut towards the past; what lies outside its range is refused.

use super::number::Number;
use crate::encode::schema::Unit;

const DAY_SECONDS: i64 = 86_400;
const NANOS: i128 = 1_000_000_000;

/// Days since 1970 of `yyyy-MM-dd`, a day that exists (proleptic Gregorian).
pub fn date(text: &[u8]) -> Option<i32> {
    let (days, rest) = date_at(text)?;
    rest.is_empty().then_some(i32::try_from(days).ok()?)
}

/// Units since midnight of `HH:mm:ss[.fraction]`.
pub fn time(text: &[u8], unit: Unit) -> Option<i64> {
    let (nanos, rest) = time_at(text)?;
    rest.is_empty().then_some(nanos / unit.nanos())
}

/// Units since 1970 of a timestamp text.
pub fn timestamp(text: &[u8], unit: Unit) -> Option<i64> {
    let (days, rest) = date_at(text)?;
    let rest = rest.strip_prefix(b"T").or(rest.strip_prefix(b"t")).or(rest.strip_prefix(b" "))?;
    let (nanos, rest) = time_at(rest)?;
    let seconds = days * DAY_SECONDS - offset_seconds(rest)?;
    stored(i128::from(seconds) * NANOS + i128::from(nanos), unit)
}

/// Units since 1970 of a timestamp number.
pub fn timestamp_number(number: &Number, unit: Unit) -> Option<i64> {
    let nanos_scale = match number.scaled(0)?.i128(false)? {
        0..100_000_000_000 => 9,
        100_000_000_000..100_000_000_000_000 => 6,
        100_000_000_000_000..100_000_000_000_000_000 => 3,
        _ => 0,
    };
    let scaled = number.scaled(nanos_scale)?;
    let nanos = scaled.i128(number.negative)?;
    let past = i128::from(number.negative && !scaled.exact);
    stored(nanos - past, unit)
}

/// In the column's unit; seconds are kept in milliseconds, as Parquet has no seconds.
fn stored(nanos: i128, unit: Unit) -> Option<i64> {
    let units = i64::try_from(nanos.div_euclid(i128::from(unit.nanos()))).ok()?;
    if unit == Unit::Second { units.checked_mul(1000) } else { Some(units) }
}

fn date_at(text: &[u8]) -> Option<(i64, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let exists = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    exists.then(|| (days_since_1970(year, month, day), rest))
}

fn time_at(text: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = text.split_first_chunk::<8>()?;
    if time[2] != b':' || time[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = (hour * 60 + minute) * 60 + second;
    let (nanos, rest) = fraction_at(rest)?;
    Some((seconds * 1_000_000_000 + nanos, rest))
}

/// Nanoseconds of `.123`, or none if there is no point; digits beyond the ninth are cut.
fn fraction_at(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(fraction) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let len = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = fraction.split_at(len);
    let kept = &fraction[..len.min(9)];
    (len > 0).then_some(())?;
    Some((digits(kept)? * 10i64.pow(9 - kept.len() as u32), rest))
}

/// Seconds east of UTC of `Z`, `+hh:mm`, `+hhmm`, `+hh`, or nothing at all, which is UTC.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text.split_first() {
        None => return Some(0),
        Some((b'Z' | b'z', rest)) => return rest.is_empty().then_some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) => return None,
    };
    let (hours, rest) = rest.split_first_chunk::<2>()?;
    let minutes = rest.strip_prefix(b":").unwrap_or(rest);
    let (hours, minutes) = match (rest.len(), minutes.len()) {
        (0, 0) => (digits(hours)?, 0),
        (_, 2) => (digits(hours)?, digits(minutes)?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        timestamp(text.as_bytes(), Unit::Nano)
    }

    #[test]
    fn texts_of_one_instant_agree() {
        let instant = 1_763_632_923_123_000_000;
        for text in [
            "2025-11-20T10:02:03.123Z",
            "2025-11-20t10:02:03.123000z",
            "2025-11-20 10:02:03.123",
            "2025-11-20T10:02:03.123000000999",
            "2025-11-20T11:32:03.123+01:30",
            "2025-11-20T02:02:03.123-0800",
            "2025-11-20 02:02:03.123-08",
            "2025-11-21T00:02:03.123+14:00",
        ] {
            assert_eq!(nanos(text), Some(instant), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_a_timestamp_is_refused() {
        for text in [
            "",
            "2025-11-20",
            "2025-11-20T10:02",
            "2025-11-20T10:02:03.",
            "2025-11-20T10:02:03,5",
            "2025-11-31T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-00-01T00:00:00Z",
            "2025-11-20T24:00:00Z",
            "2025-11-20T23:59:60Z",
            "2025-11-20T10:02:03ZZ",
            "2025-11-20T10:02:03 Z",
            "2025-11-20T10:02:03+1",
            "2025-11-20T10:02:03+24:00",
            "2025-11-20T10:02:03+01:0",
            "2025-11-20T10:02:03+",
            "20251120T100203Z",
            "+2025-11-20T10:02:03Z",
            " 2025-11-20T10:02:03Z",
            "2025-11-20T10:02:03Europe",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
        assert!(timestamp(b"9999-12-31T23:59:59Z", Unit::Micro).is_some());
        assert_eq!(date(b"2024-02-29"), Some(19_782));
        assert_eq!(date(b"2023-02-29"), None);
        assert_eq!(date(b"2023-02-28T"), None);
        assert_eq!(time(b"23:59:59.999999999", Unit::Milli), Some(86_399_999));
        assert_eq!(time(b"24:00:00", Unit::Milli), None);
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let millis = |text: &str| timestamp_number(&Number::whole_text(text.as_bytes()).unwrap(), Unit::Milli);
        for text in ["1763632923.123", "1763632923123", "1763632923123456", "1763632923123456789", "1.763632923123e9"] {
            assert_eq!(millis(text), Some(1_763_632_923_123), "{text}");
        }
        assert_eq!(millis("0"), Some(0));
        assert_eq!(millis("99999999999"), Some(99_999_999_999_000));
        assert_eq!(millis("100000000000"), Some(100_000_000_000));
        assert_eq!(millis("-1.0001"), Some(-1001));
        assert_eq!(millis("-0.0000000000001"), Some(-1));
        assert_eq!(millis("1e30"), None);
        let seconds = |text: &str| timestamp_number(&Number::whole_text(text.as_bytes()).unwrap(), Unit::Second);
        assert_eq!(seconds("1763632923.9"), Some(1_763_632_923_000));
        assert_eq!(seconds("-0.5"), Some(-1000));
    }

    proptest! {
        #[test]
        fn every_instant_is_what_jiff_says(seconds in -62_135_596_800i64..253_402_207_200, nanos in 0i32..1_000_000_000, minutes in -1439i64..1440) {
            let instant = jiff::Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::from_nanos(nanos.into());
            let local = instant.checked_add(jiff::SignedDuration::from_mins(minutes));
            prop_assume!(local.is_ok());
            let shown = local.unwrap().to_string();
            prop_assume!(shown.len() >= 20 && shown.as_bytes()[0].is_ascii_digit());
            let sign = if minutes < 0 { '-' } else { '+' };
            let text = format!("{}{sign}{:02}:{:02}", shown.trim_end_matches('Z'), minutes.abs() / 60, minutes.abs() % 60);
            prop_assert_eq!(timestamp(text.as_bytes(), Unit::Micro), Some(instant.as_microsecond()
                - i64::from(instant.as_nanosecond() % 1000 != 0 && instant.as_nanosecond() < 0)), "{}", text);
        }
    }
}
