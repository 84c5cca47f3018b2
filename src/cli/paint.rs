//! What is written to a terminal: colours where they are wanted, numbers as people read them, and nothing that a terminal
//! would obey.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal};

use console::Term;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Columns where there is no terminal to ask.
const COLUMNS_DEFAULT: usize = 80;

/// Whether and how to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    coloured: bool,
}

/// What a text is to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Bold,
    Dim,
    Good,
    Warning,
    Bad,
}

impl Paint {
    /// For standard output: coloured on a terminal, unless `NO_COLOR` (no-color.org) is set.
    pub fn of_stdout() -> Paint {
        Paint { coloured: io::stdout().is_terminal() && wants_colour() }
    }

    /// For standard error.
    pub fn of_stderr() -> Paint {
        Paint { coloured: io::stderr().is_terminal() && wants_colour() }
    }

    /// Never coloured.
    pub const PLAIN: Paint = Paint { coloured: false };

    /// Whether it colours.
    pub fn is_coloured(self) -> bool {
        self.coloured
    }

    /// The text in this ink.
    pub fn ink(self, ink: Ink, text: impl fmt::Display) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Warning => "33",
            Ink::Bad => "31",
        };
        match self.coloured {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Columns of the terminal at standard output; `None`: there is none.
pub fn columns_of_stdout() -> Option<usize> {
    columns(&Term::stdout())
}

/// Columns of the terminal at standard error; `None`: there is none.
pub fn columns_of_stderr() -> Option<usize> {
    columns(&Term::stderr())
}

fn columns(term: &Term) -> Option<usize> {
    let known = || term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0);
    term.is_term().then(|| known().unwrap_or(COLUMNS_DEFAULT))
}

/// A text from elsewhere without what a terminal would obey: control characters are escaped. Lines stay.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_obeyed(c) {
            true => plain.extend(c.escape_default()),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// JSON without what a terminal would obey, and with the same meaning: inside of its texts, where all of it stands, such
/// characters may be written as `\uXXXX` (RFC 8259, section 7).
pub fn plain_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_obeyed) {
        return Cow::Borrowed(json);
    }
    let mut plain = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match is_obeyed(c) && !matches!(c, '\t' | '\r') {
            true => plain += &format!("\\u{:04x}", u32::from(c)),
            false => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Whether a terminal may do something else with it than to show it.
fn is_obeyed(c: char) -> bool {
    c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text on one line of at most so many characters.
pub fn short(text: &str, chars_max: usize) -> String {
    let line = plain(text).replace('\n', " ");
    match line.chars().count() > chars_max {
        true => line.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
        false => line,
    }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0 B`, `999 B`, `1.5 KiB`, `34.0 MiB`: three digits or more.
pub fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// A count of so many: `1 object`, `2 objects`.
pub fn of(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `5s`, `4m`, `3h12m`, `12d`: a length of time in milliseconds, as exact as one wants to know it.
pub fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        (..10, _, _) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// `12:04:05` in the time zone of this machine, of Unix milliseconds.
pub fn clock(ms: i64) -> String {
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0, 1023, 1024, 1536, 1_048_575, 34 << 20, u64::MAX];
        let words = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "34.0 MiB", "16.0 EiB"];
        assert_eq!(sizes.map(bytes), words);
        let ages = [-5, 59_999, 60_000, 3_600_000, 90_000_000, 864_000_000];
        assert_eq!(ages.map(age), ["0s", "59s", "1m00s", "1h00m", "1d1h", "10d"]);
        assert_eq!((of(1, "object"), of(1000, "object")), ("1 object".into(), "1,000 objects".into()));
    }

    #[test]
    fn nothing_from_elsewhere_is_obeyed_by_a_terminal() {
        assert_eq!(plain("a\x1b[2Jb\u{9b}c\r\u{202e}d\né"), "a\\u{1b}[2Jb\\u{9b}c\\r\\u{202e}d\né");
        assert_eq!(plain_json("{\"a\": \"\u{9b}2J\u{202e}é\"}\n"), "{\"a\": \"\\u009b2J\\u202eé\"}\n");
        assert_eq!(short("one\ntwo three", 8), "one two…");
        assert_eq!(short("one", 3), "one");
    }
}
