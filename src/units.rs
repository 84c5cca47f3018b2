//! Sizes and intervals as people write them: `128 MiB`, `60s`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::nearest::nearest;

/// A number of bytes, written as `128 MiB`, `5MB`, `64KiB` or a bare number of bytes; units in any case.
///
/// As in IEC 80000-13: KiB, MiB, GiB, TiB are powers of 1024, and KB, MB, GB, TB powers of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// This many bytes.
    pub const fn from_bytes(bytes: u64) -> Size {
        Size(bytes)
    }

    /// This many KiB (1024 bytes). Panics on overflow, at compile time in a constant.
    pub const fn from_kib(kib: u64) -> Size {
        Size(kib * 1024)
    }

    /// This many MiB (1024 KiB). Panics on overflow, at compile time in a constant.
    pub const fn from_mib(mib: u64) -> Size {
        Size(mib * 1024 * 1024)
    }

    /// This many GiB (1024 MiB). Panics on overflow, at compile time in a constant.
    pub const fn from_gib(gib: u64) -> Size {
        Size(gib * 1024 * 1024 * 1024)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A length of time, written as `60s`, `500ms`, `5m`, `1h` or `1h30m`, to the millisecond.
///
/// A bare number is refused: nobody can tell whether 60 are seconds or milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u64);

impl Interval {
    /// This many milliseconds.
    pub const fn from_millis(ms: u64) -> Interval {
        Interval(ms)
    }

    /// This many seconds. Panics on overflow, at compile time in a constant.
    pub const fn from_secs(secs: u64) -> Interval {
        Interval(secs * 1000)
    }

    /// In milliseconds.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

/// Why a text is no size or interval: what was expected, what stood there, and on a second line after `hint: ` the
/// nearest right thing where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError(String);

impl UnitError {
    fn new(expected: &str, found: &str, hint: Option<String>) -> UnitError {
        let found: String = found.chars().take(FOUND_CHARS_MAX).collect();
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        UnitError(format!("expected {expected}, found `{found}`{hint}"))
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Size, UnitError> {
        let wrong = |hint| UnitError::new(SIZE, text, hint);
        let (number, unit) = split_number(text.trim()).ok_or_else(|| wrong(None))?;
        let (name, factor) = match SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some(known) => *known,
            None if unit.is_empty() => ("B", 1),
            None => return Err(wrong(size_unit_meant(unit).map(|unit| format!("did you mean `{number} {unit}`?")))),
        };
        let bytes = match number.split_once('.') {
            None => number.parse().ok().and_then(|number: u64| number.checked_mul(factor)),
            Some(_) => return Err(wrong(whole_size(number, name).map(|size| format!("write `{size}`")))),
        };
        bytes.map(Size).ok_or_else(|| wrong(Some("more than 16 EiB is more than 64 bits can count".into())))
    }
}

impl FromStr for Interval {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Interval, UnitError> {
        let wrong = |hint| UnitError::new(INTERVAL, text, hint);
        let mut rest = text.trim();
        let (mut total, mut smaller_than) = (0u64, u64::MAX);
        loop {
            let (number, after) = split_number(rest).ok_or_else(|| wrong(None))?;
            let unit_len = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_len);
            let alone = smaller_than == u64::MAX && after.is_empty();
            let Some((_, factor)) = INTERVAL_UNITS.iter().find(|(name, _)| *name == unit) else {
                let meant = alone.then(|| interval_unit_meant(unit)).flatten();
                return Err(wrong(meant.map(|unit| match after.is_empty() && rest.ends_with(number) {
                    true => format!("write `{number}{unit}`"),
                    false => format!("did you mean `{number}{unit}`?"),
                })));
            };
            if *factor >= smaller_than {
                return Err(wrong(Some("write each unit once, the largest first: `1h30m`".into())));
            }
            smaller_than = *factor;
            let Ok(whole) = number.parse::<u64>() else {
                return Err(wrong(Some("write whole numbers: `1500ms`, `1h30m`".into())));
            };
            total = whole
                .checked_mul(*factor)
                .and_then(|ms| total.checked_add(ms))
                .ok_or_else(|| wrong(Some("that is longer than 64 bits of milliseconds can count".into())))?;
            rest = after.trim_start();
            if rest.is_empty() {
                return Ok(Interval(total));
            }
        }
    }
}

/// The largest unit that counts it in whole numbers: `128 MiB`, `5 MB`, `1001 B`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*factor);
        let (name, factor) = SIZE_UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

/// The largest units first, without a space: `1h30m`, `500ms`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, factor) in INTERVAL_UNITS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct Sizes;
        impl Visitor<'_> for Sizes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom(UnitError::new(SIZE, &bytes.to_string(), None)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Sizes)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
        struct Intervals;
        impl Visitor<'_> for Intervals {
            type Value = Interval;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(INTERVAL)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Interval, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Intervals)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `128 MiB`, or a number of bytes.
impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^\\s*[0-9]+\\s*(([KkMmGgTt][Ii]?)?[Bb])?\\s*$";
        json_schema!({ "type": ["string", "integer"], "minimum": 0, "pattern": pattern, "x-type": "size" })
    }
}

/// `60s`, `1h30m`.
impl JsonSchema for Interval {
    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^{INTERVAL_PATTERN}$"), "x-type": "interval" })
    }
}

/// An interval as a regular expression has it.
pub const INTERVAL_PATTERN: &str = "\\s*([0-9]+\\s*(h|m|s|ms)\\s*)+";

/// Reads a [`Size`] into a number of bytes: `#[serde(deserialize_with = "crate::units::bytes")]`.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Size::deserialize(deserializer).map(Size::bytes)
}

/// What messages say was expected.
const SIZE: &str = "a size such as `128 MiB`";
const INTERVAL: &str = "an interval such as `60s`";

/// A wrong text is shown up to here.
const FOUND_CHARS_MAX: usize = 60;

/// Largest first; where two could write a size, the binary one stands first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// In milliseconds, largest first.
const INTERVAL_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The number in front (digits, perhaps with a point) and what follows it; `None` where there is none.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then(|| (number, rest.trim_start()))
}

fn size_unit_meant(unit: &str) -> Option<&'static str> {
    let lower = unit.to_lowercase();
    let by_letter = match lower.as_str() {
        "k" | "ki" => Some("KiB"),
        "m" | "mi" => Some("MiB"),
        "g" | "gi" => Some("GiB"),
        "t" | "ti" => Some("TiB"),
        "byte" | "bytes" => Some("B"),
        _ => None,
    };
    let near = || nearest(unit, SIZE_UNITS.map(|(name, _)| name)).filter(|_| interval_unit_meant(unit).is_none());
    by_letter.or_else(near)
}

fn interval_unit_meant(unit: &str) -> Option<&'static str> {
    match unit.to_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    }
}

/// `1.5 GiB` as the whole number of a smaller unit that it is, if it is one.
fn whole_size(number: &str, unit: &str) -> Option<Size> {
    let (whole, fraction) = number.split_once('.')?;
    let factor = u128::from(SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1);
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(factor)?;
    scaled.is_multiple_of(scale).then(|| u64::try_from(scaled / scale).ok().map(Size)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size_error(text: &str) -> String {
        text.parse::<Size>().unwrap_err().to_string()
    }

    fn interval_error(text: &str) -> String {
        text.parse::<Interval>().unwrap_err().to_string()
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("128 MiB", 128 << 20),
            ("5MB", 5_000_000),
            ("64KiB", 64 << 10),
            ("1000", 1000),
            ("0", 0),
            (" 2 gib ", 2 << 30),
            ("10 GB", 10_000_000_000),
            ("1 TiB", 1 << 40),
            ("7 b", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn a_wrong_size_is_told_the_nearest_right_one() {
        let expected = "expected a size such as `128 MiB`, found";
        assert_eq!(size_error("128 MiBs"), format!("{expected} `128 MiBs`\nhint: did you mean `128 MiB`?"));
        assert_eq!(size_error("128M"), format!("{expected} `128M`\nhint: did you mean `128 MiB`?"));
        assert_eq!(size_error("1.5 GiB"), format!("{expected} `1.5 GiB`\nhint: write `1536 MiB`"));
        assert_eq!(size_error("60s"), format!("{expected} `60s`"));
        assert_eq!(size_error("500ms"), format!("{expected} `500ms`"));
        assert_eq!(size_error("large"), format!("{expected} `large`"));
        assert_eq!(size_error("-1 MiB"), format!("{expected} `-1 MiB`"));
        assert_eq!(size_error(""), format!("{expected} ``"));
        let too_large = "99999999999 GiB";
        assert_eq!(
            size_error(too_large),
            format!("{expected} `{too_large}`\nhint: more than 16 EiB is more than 64 bits can count")
        );
    }

    #[test]
    fn intervals_are_read_as_people_write_them() {
        for (text, ms) in [
            ("60s", 60_000),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1h 30m 5s 7ms", 5_405_007),
            ("60 s", 60_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Interval(ms)), "{text}");
        }
    }

    #[test]
    fn a_wrong_interval_is_told_the_nearest_right_one() {
        let expected = "expected an interval such as `60s`, found";
        assert_eq!(interval_error("60"), format!("{expected} `60`\nhint: write `60s`"));
        assert_eq!(interval_error("60 seconds"), format!("{expected} `60 seconds`\nhint: did you mean `60s`?"));
        assert_eq!(interval_error("5 Min"), format!("{expected} `5 Min`\nhint: did you mean `5m`?"));
        assert_eq!(interval_error("5 MiB"), format!("{expected} `5 MiB`"));
        assert_eq!(interval_error("soon"), format!("{expected} `soon`"));
        assert_eq!(interval_error("1.5h"), format!("{expected} `1.5h`\nhint: write whole numbers: `1500ms`, `1h30m`"));
        let order = "write each unit once, the largest first: `1h30m`";
        assert_eq!(interval_error("30m1h"), format!("{expected} `30m1h`\nhint: {order}"));
        assert_eq!(interval_error("1h1h"), format!("{expected} `1h1h`\nhint: {order}"));
    }

    #[test]
    fn json_gives_sizes_as_numbers_or_text_and_intervals_as_text_only() {
        assert_eq!(serde_json::from_str::<Size>("1024").unwrap(), Size::from_kib(1));
        assert_eq!(serde_json::from_str::<Size>("\"1 KiB\"").unwrap(), Size::from_kib(1));
        assert_eq!(serde_json::from_str::<Interval>("\"60s\"").unwrap(), Interval::from_secs(60));
        assert!(serde_json::from_str::<Interval>("60").unwrap_err().to_string().contains("write `60s`"));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(number: u64) {
            prop_assert_eq!(Size(number).to_string().parse(), Ok(Size(number)));
            prop_assert_eq!(Interval(number).to_string().parse(), Ok(Interval(number)));
        }

        #[test]
        fn no_text_upsets_the_readers(text: String) {
            let _ = (text.parse::<Size>(), text.parse::<Interval>());
        }
    }
}
