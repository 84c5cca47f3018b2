//! Time in names: strftime and Java patterns, both compiled once into the same parts.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::TemplateError;
use super::moment::Moment;

/// A time pattern, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat {
    parts: Vec<TimePart>,
}

/// A text that stands for itself, or a field of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePart {
    /// With the byte offset in the pattern where it begins.
    Literal(usize, String),
    /// Zero-padded to this many digits.
    Number(Number, usize),
    /// The first so many digits of the second's fraction.
    Fraction(usize),
    Name(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    Year,
    YearOfCentury,
    Month,
    Day,
    DayOfYear,
    Hour,
    HourOfHalf,
    Minute,
    Second,
    Nanosecond,
    IsoYear,
    IsoWeek,
    Weekday,
    WeekdayFromSunday,
    Epoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Month,
    MonthShort,
    Weekday,
    WeekdayShort,
    HalfOfDay,
    Zone,
    Offset,
}

/// How finely a pattern cuts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grain {
    Day,
    Hour,
    Minute,
    Second,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl TimeFormat {
    /// A strftime pattern: `%Y %y %m %d %j %H %I %M %S %f %3f %L %p %b %B %a %A %G %V %u %w %s %z %Z %F %%`, and `%-d`
    /// for no padding.
    pub fn strftime(text: &str) -> Result<TimeFormat, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text.char_indices();
        while let Some((offset, c)) = rest.next() {
            if c != '%' {
                push_literal(&mut parts, offset, c);
                continue;
            }
            let mut letter = rest.next().map(|(_, c)| c);
            let (mut unpadded, mut digits) = (false, None);
            match letter {
                Some('-') => (unpadded, letter) = (true, rest.next().map(|(_, c)| c)),
                Some(c @ '1'..='9') => (digits, letter) = (c.to_digit(10), rest.next().map(|(_, c)| c)),
                _ => {}
            }
            let width = |width| if unpadded { 1 } else { width };
            match (letter, digits) {
                (Some('f'), Some(digits)) => parts.push(TimePart::Fraction(digits as usize)),
                (Some('F'), None) => {
                    parts.push(TimePart::Number(Number::Year, 4));
                    push_literal(&mut parts, offset, '-');
                    parts.push(TimePart::Number(Number::Month, 2));
                    push_literal(&mut parts, offset, '-');
                    parts.push(TimePart::Number(Number::Day, 2));
                }
                (Some('%'), None) => push_literal(&mut parts, offset, '%'),
                (Some(c), None) => match strftime_letter(c, width) {
                    Some(part) => parts.push(part),
                    None => return Err(unknown_strftime(offset, c)),
                },
                (Some(c), Some(_)) => return Err(unknown_strftime(offset, c)),
                (None, _) => return Err(TemplateError::new(offset, "`%` at the end of a time pattern needs a letter")),
            }
        }
        Ok(TimeFormat { parts })
    }

    /// A pattern of Java's `DateTimeFormatter`, as in Firehose: `y u M L d D H h m s S n a E e z Z x X`, text in single quotes.
    pub fn java(text: &str) -> Result<TimeFormat, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((offset, c)) = rest.next() {
            if c == '\'' {
                quoted(&mut parts, offset, &mut rest)?;
            } else if c.is_ascii_alphabetic() {
                let mut count = 1;
                while rest.next_if(|(_, next)| *next == c).is_some() {
                    count += 1;
                }
                parts.push(java_letter(c, count).ok_or_else(|| unknown_java(offset, c, count))?);
            } else if matches!(c, '{' | '}' | '[' | ']' | '#') {
                let message = format!("`{c}` is reserved in a Java time pattern");
                return Err(TemplateError::new(offset, message).hint(format!("write it in quotes: `'{c}'`")));
            } else {
                push_literal(&mut parts, offset, c);
            }
        }
        Ok(TimeFormat { parts })
    }

    /// The parts in order, for the checks of a template.
    pub fn parts(&self) -> &[TimePart] {
        &self.parts
    }

    /// How finely this pattern cuts time.
    pub fn grain(&self) -> Grain {
        let grain = |part: &TimePart| match part {
            TimePart::Fraction(_) | TimePart::Number(Number::Second | Number::Nanosecond | Number::Epoch, _) => {
                Grain::Second
            }
            TimePart::Number(Number::Minute, _) => Grain::Minute,
            TimePart::Number(Number::Hour | Number::HourOfHalf, _) | TimePart::Name(Name::HalfOfDay) => Grain::Hour,
            _ => Grain::Day,
        };
        self.parts.iter().map(grain).max().unwrap_or(Grain::Day)
    }

    /// The most bytes that it can give.
    pub fn bytes_max(&self) -> usize {
        let bytes = |part: &TimePart| match part {
            TimePart::Literal(_, text) => text.len(),
            TimePart::Number(Number::Epoch, width) => 13.max(*width),
            TimePart::Number(Number::Nanosecond, width) => 9.max(*width),
            TimePart::Number(_, width) => 5.max(*width),
            TimePart::Fraction(digits) => *digits,
            TimePart::Name(_) => 9,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// Appends `moment` as it is read off a clock in `zone`.
    pub fn write(&self, moment: &Moment, zone: &TimeZone, out: &mut String) {
        let civil = match moment {
            Moment::At(at) => zone.to_offset(*at).to_datetime(*at),
            Moment::Wall(civil) => *civil,
        };
        for part in &self.parts {
            match part {
                TimePart::Literal(_, text) => out.push_str(text),
                TimePart::Number(Number::Epoch, width) => {
                    push_number(out, instant(moment, zone).as_second(), *width);
                }
                TimePart::Number(number, width) => push_number(out, number.of(&civil), *width),
                TimePart::Fraction(digits) => {
                    let fraction = u64::from(civil.subsec_nanosecond().unsigned_abs());
                    let cut = fraction / 10u64.pow(9 - *digits as u32);
                    push_number(out, cut as i64, *digits);
                }
                TimePart::Name(name) => name.push(out, &civil, moment, zone),
            }
        }
    }
}

/// The instant of a moment; a reading that a change of clocks made double or skipped is resolved as RFC 5545 says.
fn instant(moment: &Moment, zone: &TimeZone) -> Timestamp {
    match moment {
        Moment::At(at) => *at,
        Moment::Wall(civil) => {
            zone.to_timestamp(*civil).unwrap_or(if civil.year() < 0 { Timestamp::MIN } else { Timestamp::MAX })
        }
    }
}

impl Number {
    fn of(self, civil: &DateTime) -> i64 {
        match self {
            Number::Year => i64::from(civil.year()),
            Number::YearOfCentury => i64::from(civil.year().rem_euclid(100)),
            Number::Month => i64::from(civil.month()),
            Number::Day => i64::from(civil.day()),
            Number::DayOfYear => i64::from(civil.day_of_year()),
            Number::Hour => i64::from(civil.hour()),
            Number::HourOfHalf => i64::from((civil.hour() + 11) % 12 + 1),
            Number::Minute => i64::from(civil.minute()),
            Number::Second => i64::from(civil.second()),
            Number::Nanosecond => i64::from(civil.subsec_nanosecond()),
            Number::IsoYear => i64::from(civil.date().iso_week_date().year()),
            Number::IsoWeek => i64::from(civil.date().iso_week_date().week()),
            Number::Weekday => i64::from(civil.weekday().to_monday_one_offset()),
            Number::WeekdayFromSunday => i64::from(civil.weekday().to_sunday_zero_offset()),
            Number::Epoch => unreachable!("an epoch needs an instant and is written by its caller"),
        }
    }
}

impl Name {
    fn push(self, out: &mut String, civil: &DateTime, moment: &Moment, zone: &TimeZone) {
        let month = usize::from(civil.month().unsigned_abs()) - 1;
        let weekday = usize::from(civil.weekday().to_monday_zero_offset().unsigned_abs());
        match self {
            Name::Month => out.push_str(MONTHS[month]),
            Name::MonthShort => out.push_str(&MONTHS[month][..3]),
            Name::Weekday => out.push_str(WEEKDAYS[weekday]),
            Name::WeekdayShort => out.push_str(&WEEKDAYS[weekday][..3]),
            Name::HalfOfDay => out.push_str(if civil.hour() < 12 { "AM" } else { "PM" }),
            Name::Zone => out.push_str(zone.to_offset_info(instant(moment, zone)).abbreviation()),
            Name::Offset => {
                let minutes = zone.to_offset(instant(moment, zone)).seconds() / 60;
                out.push(if minutes < 0 { '-' } else { '+' });
                push_number(out, i64::from(minutes.abs() / 60), 2);
                push_number(out, i64::from(minutes.abs() % 60), 2);
            }
        }
    }
}

fn push_number(out: &mut String, number: i64, width: usize) {
    let sign = if number < 0 { "-" } else { "" };
    let written = write!(out, "{sign}{:0width$}", number.unsigned_abs());
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

fn push_literal(parts: &mut Vec<TimePart>, offset: usize, c: char) {
    match parts.last_mut() {
        Some(TimePart::Literal(_, text)) => text.push(c),
        _ => parts.push(TimePart::Literal(offset, c.to_string())),
    }
}

fn strftime_letter(letter: char, width: impl Fn(usize) -> usize) -> Option<TimePart> {
    Some(match letter {
        'Y' => TimePart::Number(Number::Year, width(4)),
        'y' => TimePart::Number(Number::YearOfCentury, width(2)),
        'm' => TimePart::Number(Number::Month, width(2)),
        'd' => TimePart::Number(Number::Day, width(2)),
        'j' => TimePart::Number(Number::DayOfYear, width(3)),
        'H' => TimePart::Number(Number::Hour, width(2)),
        'I' => TimePart::Number(Number::HourOfHalf, width(2)),
        'M' => TimePart::Number(Number::Minute, width(2)),
        'S' => TimePart::Number(Number::Second, width(2)),
        'f' => TimePart::Fraction(9),
        'L' => TimePart::Fraction(3),
        'G' => TimePart::Number(Number::IsoYear, width(4)),
        'V' => TimePart::Number(Number::IsoWeek, width(2)),
        'u' => TimePart::Number(Number::Weekday, 1),
        'w' => TimePart::Number(Number::WeekdayFromSunday, 1),
        's' => TimePart::Number(Number::Epoch, 1),
        'p' => TimePart::Name(Name::HalfOfDay),
        'b' => TimePart::Name(Name::MonthShort),
        'B' => TimePart::Name(Name::Month),
        'a' => TimePart::Name(Name::WeekdayShort),
        'A' => TimePart::Name(Name::Weekday),
        'z' => TimePart::Name(Name::Offset),
        'Z' => TimePart::Name(Name::Zone),
        _ => return None,
    })
}

fn unknown_strftime(offset: usize, letter: char) -> TemplateError {
    TemplateError::new(offset, format!("time pattern: unknown letter `%{letter}`"))
        .hint("known are `%Y %m %d %H %M %S %y %j %I %p %b %B %a %A %G %V %u %w %s %z %Z %F %3f %%`")
}

/// Java's letters, as its documentation lists them; one letter more or less changes the form.
fn java_letter(letter: char, count: usize) -> Option<TimePart> {
    let number = |number, most: usize| (count <= most).then_some(TimePart::Number(number, count));
    match (letter, count) {
        ('y' | 'u', 2) => Some(TimePart::Number(Number::YearOfCentury, 2)),
        ('y' | 'u', _) => number(Number::Year, 9),
        ('M' | 'L', 3) => Some(TimePart::Name(Name::MonthShort)),
        ('M' | 'L', 4) => Some(TimePart::Name(Name::Month)),
        ('M' | 'L', _) => number(Number::Month, 2),
        ('d', _) => number(Number::Day, 2),
        ('D', _) => number(Number::DayOfYear, 3),
        ('H', _) => number(Number::Hour, 2),
        ('h', _) => number(Number::HourOfHalf, 2),
        ('m', _) => number(Number::Minute, 2),
        ('s', _) => number(Number::Second, 2),
        ('S', 1..=9) => Some(TimePart::Fraction(count)),
        ('n', _) => number(Number::Nanosecond, 9),
        ('a', 1) => Some(TimePart::Name(Name::HalfOfDay)),
        ('E', 1..=3) => Some(TimePart::Name(Name::WeekdayShort)),
        ('E', 4) => Some(TimePart::Name(Name::Weekday)),
        ('z', 1..=3) => Some(TimePart::Name(Name::Zone)),
        ('Z', 1..=3) | ('x', 2 | 4) => Some(TimePart::Name(Name::Offset)),
        _ => None,
    }
}

fn unknown_java(offset: usize, letter: char, count: usize) -> TemplateError {
    let run = letter.to_string().repeat(count.min(12));
    let error = TemplateError::new(offset, format!("time pattern: `{run}` is not supported"));
    match letter {
        'Y' => error.hint("`Y` is the year of a week; the year is `yyyy`"),
        'w' | 'W' => {
            error.hint("weeks begin on different days in different countries; ISO weeks are `{arrival:%G-W%V}`")
        }
        _ => error.hint(format!("supported are `y u M d D H h m s S n a E z Z`; write text in quotes: `'{letter}'`")),
    }
}

/// The rest of a quoted text; two quotes are one, inside and outside of quotes.
fn quoted(
    parts: &mut Vec<TimePart>,
    offset: usize,
    rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
) -> Result<(), TemplateError> {
    if rest.next_if(|(_, c)| *c == '\'').is_some() {
        push_literal(parts, offset, '\'');
        return Ok(());
    }
    while let Some((at, c)) = rest.next() {
        if c != '\'' || rest.next_if(|(_, next)| *next == '\'').is_some() {
            push_literal(parts, at, c);
        } else {
            return Ok(());
        }
    }
    Err(TemplateError::new(offset, "time pattern: the quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: &TimeFormat, at: &str, zone: &str) -> String {
        let mut out = String::new();
        format.write(&Moment::At(at.parse().unwrap()), &TimeZone::get(zone).unwrap(), &mut out);
        out
    }

    fn strftime(pattern: &str, at: &str, zone: &str) -> String {
        text(&TimeFormat::strftime(pattern).unwrap(), at, zone)
    }

    fn java(pattern: &str, at: &str, zone: &str) -> String {
        text(&TimeFormat::java(pattern).unwrap(), at, zone)
    }

    #[test]
    fn strftime_letters_mean_what_they_mean_everywhere() {
        let at = "2026-03-05T14:07:09.012345678Z";
        for (pattern, expected) in [
            ("%Y/%m/%d/%H/%M/%S", "2026/03/05/14/07/09"),
            ("%F", "2026-03-05"),
            ("%y %j %I%p", "26 064 02PM"),
            ("%-m-%-d-%-H", "3-5-14"),
            ("%b %B %a %A", "Mar March Thu Thursday"),
            ("%G-W%V-%u %w", "2026-W10-4 4"),
            ("%3f %6f %f %L", "012 012345 012345678 012"),
            ("%s", "1772719629"),
            ("%z %Z", "+0000 UTC"),
            ("100%%", "100%"),
        ] {
            assert_eq!(strftime(pattern, at, "UTC"), expected, "{pattern}");
        }
    }

    #[test]
    fn java_letters_mean_what_firehose_makes_of_them() {
        let at = "2026-03-05T14:07:09.012345678Z";
        for (pattern, expected) in [
            ("yyyy/MM/dd/HH/", "2026/03/05/14/"),
            ("'year='yyyy'/month='MM", "year=2026/month=03"),
            ("y-M-d H:m:s", "2026-3-5 14:7:9"),
            ("yy DDD hh a", "26 064 02 PM"),
            ("MMM MMMM E EEEE", "Mar March Thu Thursday"),
            ("ss.SSS n", "09.012 12345678"),
            ("''HH'o''clock'", "'14o'clock"),
            ("z Z", "UTC +0000"),
        ] {
            assert_eq!(java(pattern, at, "UTC"), expected, "{pattern}");
        }
    }

    #[test]
    fn the_clocks_of_a_zone_change_when_they_do() {
        let berlin = |at| strftime("%Y-%m-%d %H %z %Z", at, "Europe/Berlin");
        assert_eq!(berlin("2026-03-29T00:59:59Z"), "2026-03-29 01 +0100 CET");
        assert_eq!(berlin("2026-03-29T01:00:00Z"), "2026-03-29 03 +0200 CEST");
        assert_eq!(berlin("2026-10-25T00:30:00Z"), "2026-10-25 02 +0200 CEST");
        assert_eq!(berlin("2026-10-25T01:30:00Z"), "2026-10-25 02 +0100 CET");
        assert_eq!(strftime("%F %H%M", "2026-11-20T23:30:00Z", "Asia/Kathmandu"), "2026-11-21 0515");
        assert_eq!(strftime("%z", "2026-11-20T23:30:00Z", "America/St_Johns"), "-0330");
    }

    #[test]
    fn a_wall_clock_reading_stays_as_it_was_written() {
        let format = TimeFormat::strftime("%F %H %s").unwrap();
        let mut out = String::new();
        format.write(
            &Moment::of_text("2026-11-20 23:30:00").unwrap(),
            &TimeZone::get("America/New_York").unwrap(),
            &mut out,
        );
        assert_eq!(out, "2026-11-20 23 1795235400");
    }

    #[test]
    fn unknown_letters_are_named() {
        let of = |error: TemplateError| (error.offset, error.message);
        assert_eq!(of(TimeFormat::strftime("%Y-%Q").unwrap_err()), (3, "time pattern: unknown letter `%Q`".into()));
        assert_eq!(
            of(TimeFormat::strftime("%").unwrap_err()),
            (0, "`%` at the end of a time pattern needs a letter".into())
        );
        assert_eq!(of(TimeFormat::java("yyyy/qq").unwrap_err()), (5, "time pattern: `qq` is not supported".into()));
        assert_eq!(of(TimeFormat::java("yyyy'").unwrap_err()), (4, "time pattern: the quote is not closed".into()));
        assert!(TimeFormat::java("YYYY").unwrap_err().hint.unwrap().contains("yyyy"));
        assert!(TimeFormat::java("dddd").is_err() && TimeFormat::java("[yyyy]").is_err());
    }

    #[test]
    fn no_time_is_longer_than_announced() {
        for pattern in ["%Y%m%d%H%M%S%f", "%B %A %Z %z %p", "%s", "%j", "%G%V%u%w%y"] {
            let format = TimeFormat::strftime(pattern).unwrap();
            for at in ["-009998-01-02T00:00:00Z", "9999-09-22T12:00:00Z", "2026-09-30T12:00:00.999999999Z"] {
                assert!(text(&format, at, "Asia/Kathmandu").len() <= format.bytes_max(), "{pattern} {at}");
            }
        }
    }
}
