//! From a record's value to a moment: what counts as a time.

use jiff::Timestamp;
use jiff::civil::DateTime;

/// A moment, as far as the value says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// An instant: the value had an offset, or counts from 1970.
    At(Timestamp),
    /// A reading of a clock on a wall, without offset: taken as one in the pipeline's time zone, as a prefix is made of
    /// such readings. (A column takes the same text as UTC.)
    Wall(DateTime),
}

/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 64;

impl Moment {
    /// An RFC 3339 text (`T` or blank, any precision), or `yyyy-MM-dd[ HH:mm[:ss[.f]]]` without offset.
    pub fn of_text(text: &str) -> Option<Moment> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let clock = text.as_bytes().get(10..).unwrap_or_default();
        match clock.iter().any(|b| matches!(b, b'Z' | b'z' | b'+' | b'-')) {
            true => text.parse().ok().map(Moment::At),
            false => text.parse().ok().map(Moment::Wall),
        }
    }

    /// A JSON number, counting from 1970: seconds below 10^11 (the year 5138), then milliseconds, from 10^14
    /// microseconds, from 10^17 nanoseconds. Fractions count.
    pub fn of_number(text: &str) -> Option<Moment> {
        let nanoseconds = match text.parse::<i64>() {
            Ok(whole) => i128::from(whole) * nanoseconds_per_unit(whole.unsigned_abs() as f64),
            Err(_) => {
                let number = text.parse::<f64>().ok().filter(|number| number.abs() < 1e19)?;
                (number * nanoseconds_per_unit(number.abs()) as f64).floor() as i128
            }
        };
        Timestamp::from_nanosecond(nanoseconds).ok().map(Moment::At)
    }

    /// Unix milliseconds; what lies beyond the years -9999 and 9999 is brought to the nearer end.
    pub fn of_millis(milliseconds: i64) -> Moment {
        let end = if milliseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Moment::At(Timestamp::from_millisecond(milliseconds).unwrap_or(end))
    }
}

fn nanoseconds_per_unit(magnitude: f64) -> i128 {
    match magnitude {
        m if m < 1e11 => 1_000_000_000,
        m if m < 1e14 => 1_000_000,
        m if m < 1e17 => 1_000,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Moment> {
        Some(Moment::At(text.parse().unwrap()))
    }

    #[test]
    fn times_with_an_offset_are_instants() {
        let expected = at("2026-11-20T23:30:00Z");
        for text in [
            "2026-11-20T23:30:00Z",
            "2026-11-20 23:30:00z",
            "2026-11-21T00:30:00.000+01:00",
            "2026-11-20T18:30:00-05:00",
        ] {
            assert_eq!(Moment::of_text(text), expected, "{text}");
        }
    }

    #[test]
    fn times_without_offset_are_readings_of_a_clock() {
        for text in ["2026-11-20 23:30:00", "2026-11-20T23:30", "2026-11-20T23:30:00.000"] {
            let Some(Moment::Wall(wall)) = Moment::of_text(text) else { panic!("{text}") };
            assert_eq!(wall.to_string(), "2026-11-20T23:30:00");
        }
        assert!(matches!(Moment::of_text("2026-11-20"), Some(Moment::Wall(_))));
    }

    #[test]
    fn numbers_count_in_the_unit_their_size_tells() {
        let expected = at("2023-11-14T22:13:20Z");
        for number in [
            "1700000000",
            "1700000000000",
            "1700000000000000",
            "1700000000000000000",
            "1700000000.0",
            "1.7e9",
            "1.7e12",
        ] {
            assert_eq!(Moment::of_number(number), expected, "{number}");
        }
        assert_eq!(Moment::of_number("1700000000.5"), at("2023-11-14T22:13:20.5Z"));
        assert_eq!(Moment::of_number("-1"), at("1969-12-31T23:59:59Z"));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "20.11.2026",
            "2026-13-01",
            "2026-02-30 00:00:00",
            "2026-11-20T25:00:00Z",
            &"2".repeat(100),
        ] {
            assert_eq!(Moment::of_text(text), None, "{text}");
        }
        for number in ["1e300", "99999999999999999999", "-99999999999999999999"] {
            assert_eq!(Moment::of_number(number), None, "{number}");
        }
        assert_eq!(Moment::of_millis(i64::MAX), Moment::At(Timestamp::MAX));
        assert_eq!(Moment::of_millis(i64::MIN), Moment::At(Timestamp::MIN));
    }
}
