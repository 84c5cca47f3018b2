//! Dates and times as people send them, to the nanosecond.
//!
//! - A timestamp text is RFC 3339 or the same with a blank for the `T`; without a zone it is UTC:
//!   `2026-11-20T10:02:03.123456789+01:00`, `2026-11-20 10:02:03`. Seconds are needed, 60 is refused. (A prefix takes a
//!   text without a zone as a reading of a clock in the pipeline's `time_zone`.)
//! - A timestamp number counts from 1970, in the unit that its size tells: below 10^11 seconds, below 10^14 milliseconds,
//!   below 10^17 microseconds, else nanoseconds; its fraction is one of that unit. (In seconds 10^11 is the year 5138,
//!   in milliseconds March 1973.)
//! - A column can say instead how its times are written ([`TimeFormat`]).
//! - What is finer than the column is cut towards the past; what lies outside its range is refused.

use super::number::Number;
use super::wide;
use crate::encode::schema::{self, TimeFormat, Unit};

const DAY_SECONDS: i64 = 86_400;
const NANOS: i64 = 1_000_000_000;

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

/// Units since 1970 of a timestamp text as most are: `2026-11-20T10:02:03Z`, perhaps with a fraction of up to seven
/// digits, and not at the edge of what the unit can hold.
#[inline(always)]
pub fn usual_timestamp(text: &[u8], unit: Unit) -> Option<i64> {
    let (clock, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, y4, y5, y6, y7, day_tens, day_ones, b'T' | b' ', time @ ..] = clock else { return None };
    let date = wide::as_in(u64::from_le_bytes([*y0, *y1, *y2, *y3, *y4, *y5, *y6, *y7]), *b"0000-00-")?;
    let days = days_at(date, *day_tens, *day_ones)?;
    let seconds = days * DAY_SECONDS + seconds_at(*time)?;
    let nanos = match rest {
        b"Z" => 0,
        [b'.', fraction @ .., b'Z'] => {
            let (count, value) = wide::digits(wide::load_word(fraction, 0));
            if count != fraction.len() || count == 8 {
                return None;
            }
            value as i64 * NANOS_OF[count]
        }
        _ => return None,
    };
    match unit {
        Unit::Second => Some(seconds * 1_000),
        Unit::Milli => Some(seconds * 1_000 + nanos / 1_000_000),
        Unit::Micro => Some(seconds * 1_000_000 + nanos / 1_000),
        Unit::Nano => seconds.checked_mul(NANOS)?.checked_add(nanos),
    }
}

/// Nanoseconds of the last of so many digits behind the point; none at all is no fraction, and has no use.
const NANOS_OF: [i64; 8] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100];

/// Units since 1970 of a timestamp text.
pub fn timestamp(text: &[u8], unit: Unit) -> Option<i64> {
    let (days, rest) = date_at(text)?;
    let (b'T' | b't' | b' ', rest) = rest.split_first()? else { return None };
    let (nanos, rest) = time_at(rest)?;
    let seconds = days * DAY_SECONDS - offset_seconds(rest)? + nanos / NANOS;
    units(seconds, nanos % NANOS, unit)
}

/// An instant, in the column's unit; `nanos` count up from `seconds`.
fn units(seconds: i64, nanos: i64, unit: Unit) -> Option<i64> {
    let short = match unit {
        Unit::Second => seconds.checked_mul(1000),
        Unit::Milli => seconds.checked_mul(1_000).and_then(|units| units.checked_add(nanos / 1_000_000)),
        Unit::Micro => seconds.checked_mul(1_000_000).and_then(|units| units.checked_add(nanos / 1_000)),
        Unit::Nano => seconds.checked_mul(NANOS).and_then(|units| units.checked_add(nanos)),
    };
    // The last second of the range is negative and overflows half-way.
    short.or_else(|| stored(i128::from(seconds) * i128::from(NANOS) + i128::from(nanos), unit))
}

/// Units since 1970 of a timestamp number.
pub fn timestamp_number(number: &Number, unit: Unit) -> Option<i64> {
    let counted = match number.scaled(0)?.i128(false)? {
        0..100_000_000_000 => Unit::Second,
        100_000_000_000..100_000_000_000_000 => Unit::Milli,
        100_000_000_000_000..100_000_000_000_000_000 => Unit::Micro,
        _ => Unit::Nano,
    };
    stored(epoch_nanos(number, counted)?, unit)
}

/// The same of a whole number of seconds, milli- or microseconds since 1970, and not at the edge of what the unit holds.
#[inline(always)]
pub fn usual_timestamp_number(number: i64, unit: Unit) -> Option<i64> {
    let counted = match number {
        0..100_000_000_000 => Unit::Second,
        100_000_000_000..100_000_000_000_000 => Unit::Milli,
        100_000_000_000_000..100_000_000_000_000_000 => Unit::Micro,
        _ => return None,
    };
    let (from, to) = (counted.nanos(), unit.nanos());
    let units = if from >= to { number.checked_mul(from / to)? } else { number / (to / from) };
    if unit == Unit::Second { units.checked_mul(1000) } else { Some(units) }
}

/// Nanoseconds since 1970 of a number of such units, cut towards the past.
fn epoch_nanos(number: &Number, counted: Unit) -> Option<i128> {
    let scaled = number.scaled(counted.nanos().ilog10().into())?;
    let past = i128::from(number.negative && !scaled.exact);
    Some(scaled.i128(number.negative)? - past)
}

/// Units since 1970 of a text in the first of these formats that it fits; so for all below.
pub fn timestamp_as(formats: &[TimeFormat], text: &[u8], unit: Unit) -> Option<i64> {
    formats.iter().find_map(|format| match format {
        TimeFormat::Rfc3339 => timestamp(text, unit),
        TimeFormat::Epoch(counted) => stored(epoch_nanos(&Number::whole_text(text)?, *counted)?, unit),
        TimeFormat::Pattern(pattern) => {
            let (seconds, nanos) = schema::instant(pattern, text)?;
            units(seconds, nanos, unit)
        }
    })
}

/// Days since 1970.
pub fn date_as(formats: &[TimeFormat], text: &[u8]) -> Option<i32> {
    formats.iter().find_map(|format| match format {
        TimeFormat::Rfc3339 => None,
        TimeFormat::Epoch(counted) => {
            let nanos = epoch_nanos(&Number::whole_text(text)?, *counted)?;
            i32::try_from(nanos.div_euclid(i128::from(DAY_SECONDS * NANOS))).ok()
        }
        TimeFormat::Pattern(pattern) => schema::day(pattern, text),
    })
}

/// Units since midnight.
pub fn time_as(formats: &[TimeFormat], text: &[u8], unit: Unit) -> Option<i64> {
    formats.iter().find_map(|format| match format {
        TimeFormat::Pattern(pattern) => Some(schema::time_of_day(pattern, text)? / unit.nanos()),
        TimeFormat::Rfc3339 | TimeFormat::Epoch(_) => None,
    })
}

/// In the column's unit; seconds are kept in milliseconds, as Parquet has no seconds.
fn stored(nanos: i128, unit: Unit) -> Option<i64> {
    let units = i64::try_from(nanos.div_euclid(i128::from(unit.nanos()))).ok()?;
    if unit == Unit::Second { units.checked_mul(1000) } else { Some(units) }
}

fn date_at(text: &[u8]) -> Option<(i64, &[u8])> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let values = wide::as_in(wide::load_word(date, 0), *b"0000-00-")?;
    Some((days_at(values, date[8], date[9])?, rest))
}

/// Days since 1970, of the digits of `yyyy-MM-` as values and the two characters behind.
#[inline(always)]
fn days_at(values: u64, tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8).to_le_bytes();
    let (year, month) = (i64::from(pairs[0]) * 100 + i64::from(pairs[2]), i64::from(pairs[5]));
    let day = i64::from(tens) * 10 + i64::from(ones);
    let exists = tens < 10
        && ones < 10
        && (1..=12).contains(&month)
        && day >= 1
        && (day <= 28 || day <= days_in_month(year, month));
    exists.then(|| days_since_1970(year, month, day))
}

/// Seconds since midnight of `HH:mm:ss`.
#[inline(always)]
fn seconds_at(time: [u8; 8]) -> Option<i64> {
    let values = wide::as_in(u64::from_le_bytes(time), *b"00:00:00")?;
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8).to_le_bytes();
    let (hour, minute, second) = (i64::from(pairs[0]), i64::from(pairs[3]), i64::from(pairs[6]));
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 60 + minute) * 60 + second)
}

fn time_at(text: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = text.split_first_chunk::<8>()?;
    let seconds = seconds_at(*time)?;
    let (nanos, rest) = fraction_at(rest)?;
    Some((seconds * NANOS + nanos, rest))
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
#[inline]
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
        assert_eq!(nanos("1677-09-21T00:12:43.145224192Z"), Some(i64::MIN));
        assert_eq!(nanos("1677-09-21T00:12:43.145224191Z"), None);
        assert_eq!(nanos("2262-04-11T23:47:16.854775807Z"), Some(i64::MAX));
        assert_eq!(nanos("2262-04-11T23:47:16.854775808Z"), None);
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
        for number in
            [0, 1, 99_999_999_999, 100_000_000_000, 99_999_999_999_999, 100_000_000_000_000, 99_999_999_999_999_999]
        {
            let text = number.to_string();
            let long = Number::whole_text(text.as_bytes()).unwrap();
            for unit in [Unit::Second, Unit::Milli, Unit::Micro, Unit::Nano] {
                assert_eq!(usual_timestamp_number(number, unit), timestamp_number(&long, unit), "{number}");
            }
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
        fn the_usual_way_reads_what_the_long_way_reads(text in "[12][0-9]{3}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,9})?(Z|z|\\+01:00)?.?") {
            let usual = usual_timestamp(text.as_bytes(), Unit::Micro);
            prop_assert!(usual.is_none() || usual == timestamp(text.as_bytes(), Unit::Micro), "{}", text);
        }

        #[test]
        fn every_instant_is_what_jiff_says(seconds in -62_135_596_800i64..253_402_207_200, nanos in 0i32..1_000_000_000, minutes in -1439i64..1440) {
            let instant = jiff::Timestamp::new(seconds, 0).unwrap() + jiff::SignedDuration::from_nanos(nanos.into());
            let local = instant.checked_add(jiff::SignedDuration::from_mins(minutes));
            prop_assume!(local.is_ok());
            let shown = local.unwrap().to_string();
            prop_assume!(shown.len() >= 20 && shown.as_bytes()[0].is_ascii_digit());
            let sign = if minutes < 0 { '-' } else { '+' };
            let text = format!("{}{sign}{:02}:{:02}", shown.trim_end_matches('Z'), minutes.abs() / 60, minutes.abs() % 60);
            let utc = format!("{}Z", shown.trim_end_matches('Z'));
            for unit in [Unit::Second, Unit::Milli, Unit::Micro, Unit::Nano] {
                if let Some(usual) = usual_timestamp(utc.as_bytes(), unit) {
                    prop_assert_eq!(Some(usual), timestamp(utc.as_bytes(), unit), "{}", utc);
                }
            }
            prop_assert_eq!(timestamp(text.as_bytes(), Unit::Micro), Some(instant.as_microsecond()
                - i64::from(instant.as_nanosecond() % 1000 != 0 && instant.as_nanosecond() < 0)), "{}", text);
        }
    }
}
