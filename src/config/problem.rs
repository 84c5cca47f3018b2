//! Problems: everything that is wrong in what was written, each with its place, and how they are printed.
//!
//! ```text
//! pipelines/x.yaml:12:5: unknown key `compresion` in `format.parquet`
//!   12 |     compresion: zstd
//!      |     ^^^^^^^^^^
//!   hint: did you mean `compression`?
//!
//! 1 problem
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::secret::is_secret_key;

/// One problem list holds at most this many; what comes after is counted, not kept.
const PROBLEMS_MAX: usize = 100;

/// Of a long source line this many characters are shown.
const EXCERPT_CHARS_MAX: usize = 100;

/// A file as somebody wrote it.
#[derive(Debug)]
pub struct Written {
    /// As the user named it.
    pub path: String,
    /// Its text, without a byte order mark.
    pub text: String,
    /// Bytes that are never printed, once they are known: literal secrets.
    hidden: OnceLock<Vec<Range<usize>>>,
}

impl Written {
    /// A file with no secrets known.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Written {
        Written { path: path.into(), text: text.into(), hidden: OnceLock::new() }
    }

    /// From now on these bytes are masked wherever a line is printed. To be told once, of all of them.
    pub(super) fn hide(&self, spans: Vec<Range<usize>>) {
        let told_before = self.hidden.set(spans).is_err();
        assert!(!told_before, "what is hidden in a file is known once");
    }

    /// Where masked bytes lie, of those in one line. In a file that is no YAML, and so has no keys, that is all behind
    /// what looks like the key of a secret.
    fn hidden_in(&self, line: Range<usize>) -> Vec<Range<usize>> {
        if let Some(hidden) = self.hidden.get() {
            return hidden.iter().filter(|span| span.start < line.end && line.start < span.end).cloned().collect();
        }
        let text = &self.text[line.clone()];
        let key_end = text.match_indices(':').map(|(colon, _)| colon).find(|colon| {
            let word = text[..*colon].rsplit([' ', '\t', '{', ',']).next().unwrap_or_default();
            is_secret_key(word.trim_matches(['"', '\'']))
        });
        key_end.map(|colon| line.start + colon + 1..line.end).into_iter().collect()
    }

    /// Line and column of a byte, both from 1; columns count characters.
    fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = self.text.floor_char_boundary(byte);
        let before = &self.text[..byte];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// Where something stands: a file, and if known the bytes of it.
#[derive(Debug, Clone)]
pub struct Place {
    written: Arc<Written>,
    span: Option<Range<usize>>,
    /// Where the text of a scalar begins, if its bytes stand in the file as they are.
    text_start: Option<usize>,
    /// What stands here is known to be wrong already, so that no more is to be said about it.
    settled: bool,
    /// What stands here may be secret: messages about it must not repeat it.
    hidden: bool,
}

impl Place {
    /// A whole file.
    pub fn file(path: impl Into<String>) -> Place {
        Place::of_file(Arc::new(Written::new(path, "")))
    }

    /// A whole file that was read.
    pub fn of_file(written: Arc<Written>) -> Place {
        Place { written, span: None, text_start: None, settled: false, hidden: false }
    }

    /// Some bytes of a file.
    pub fn of_span(written: Arc<Written>, span: Range<usize>) -> Place {
        Place { span: Some(span), ..Place::of_file(written) }
    }

    /// The same place, told where the bytes of its text begin and whether that text must not be printed.
    pub(super) fn with_text(self, text_start: Option<usize>, hidden: bool) -> Place {
        Place { text_start, hidden, ..self }
    }

    /// The same place, told whether what stands there is known to be wrong already.
    pub(super) fn settled(self, settled: bool) -> Place {
        Place { settled, ..self }
    }

    /// `len` bytes at `offset` inside the text that stands here; the whole place where the text is not written as it is
    /// (escapes, several lines, variables).
    pub fn at(&self, offset: usize, len: usize) -> Place {
        let span = self.text_start.map(|start| start + offset..start + offset + len).or_else(|| self.span.clone());
        Place { span, ..self.clone() }
    }

    /// Its line, counted from 1; nothing for a whole file.
    pub(super) fn line(&self) -> Option<usize> {
        self.span.as_ref().map(|span| self.written.line_column(span.start).0)
    }

    /// Whether messages about what stands here must not repeat it (it came from a variable, or is a secret).
    pub fn hidden(&self) -> bool {
        self.hidden
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    pub place: Place,
    /// Lower case, the thing first, values after.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that is wrong, in the order of files and lines, whatever order it was found in.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    problems: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// None so far.
    pub fn new() -> Problems {
        Problems::default()
    }

    /// Adds one. A message may bring its own hint, on a second line after `hint: `. Says nothing about a place that is
    /// wrong already, and repeats nothing that is hidden.
    pub fn push(&mut self, place: Place, message: impl Into<String>, hint: Option<String>) {
        if place.settled {
            return;
        }
        if self.problems.len() == PROBLEMS_MAX {
            self.more += 1;
            return;
        }
        let message = match place.hidden {
            true => "what is written here is not right; it is not shown, as it may be secret".to_owned(),
            false => message.into(),
        };
        let (message, own_hint) = match message.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        let hint = hint.or(own_hint).filter(|_| !place.hidden);
        self.problems.push(Problem { place, message, hint });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether no more are kept.
    pub fn is_full(&self) -> bool {
        self.problems.len() == PROBLEMS_MAX
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Takes over those of another list.
    pub fn extend(&mut self, others: Problems) {
        self.more += others.more;
        for problem in others.problems {
            match self.problems.len() < PROBLEMS_MAX {
                true => self.problems.push(problem),
                false => self.more += 1,
            }
        }
    }

    /// Nothing wrong: the value; else all that is wrong.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    /// The problems in the order in which they are printed.
    fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.problems.iter().collect();
        let key = |problem: &&Problem| {
            let start = problem.place.span.as_ref().map(|span| span.start);
            (problem.place.written.path.clone(), start, problem.message.clone())
        };
        sorted.sort_by_cached_key(key);
        sorted
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            writeln!(f, "{problem}")?;
        }
        let warnings_only = self.problems.iter().all(|problem| problem.message.starts_with("warning: "));
        let word = if warnings_only { "warning" } else { "problem" };
        match self.len() {
            1 => write!(f, "1 {word}"),
            n if self.more > 0 => write!(f, "{n} {word}s, of which the first {PROBLEMS_MAX} are shown"),
            n => write!(f, "{n} {word}s"),
        }
    }
}

/// Without the final count: `path:line:column: message`, the line with a caret, the hint; each line ends.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = &self.place.written;
        match &self.place.span {
            Some(span) => {
                let (line, column) = written.line_column(span.start);
                writeln!(f, "{}:{line}:{column}: {}", plain(&written.path), plain(&self.message))?;
                excerpt(f, written, span, line)?;
            }
            None => writeln!(f, "{}: {}", plain(&written.path), plain(&self.message))?,
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  hint: {}", plain(hint)),
            None => Ok(()),
        }
    }
}

/// The line in which `span` begins and carets below it; a long line is cut around the place, secrets are masked.
fn excerpt(f: &mut fmt::Formatter<'_>, written: &Written, span: &Range<usize>, line: usize) -> fmt::Result {
    let text = &written.text;
    let start = text.floor_char_boundary(span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let hidden = written.hidden_in(line_start..line_end);
    let chars: Vec<(usize, char)> = text[line_start..line_end].trim_end_matches('\r').char_indices().collect();
    let column = chars.iter().take_while(|(at, _)| line_start + at < start).count();
    let carets = chars[column..].iter().take_while(|(at, _)| line_start + at < span.end).count().max(1);
    let first = if chars.len() <= EXCERPT_CHARS_MAX { 0 } else { column.saturating_sub(EXCERPT_CHARS_MAX / 2) };
    let last = chars.len().min(first + EXCERPT_CHARS_MAX);
    let before = if first > 0 { "…" } else { "" };
    let after = if last < chars.len() { "…" } else { "" };
    let is_hidden = |at: usize| hidden.iter().any(|span| span.contains(&(line_start + at)));
    let show = |(at, c): &(usize, char)| if is_hidden(*at) { '*' } else { printable(*c) };
    let code: String = chars[first..last].iter().map(show).collect();
    let gutter = " ".repeat(line.to_string().len());
    let indent = " ".repeat(before.chars().count() + column - first);
    let carets = "^".repeat(carets.min(last.saturating_sub(column).max(1)));
    writeln!(f, "  {line} | {before}{code}{after}")?;
    writeln!(f, "  {gutter} | {indent}{carets}")
}

/// A text on one line, in which nothing commands the terminal.
fn plain(text: &str) -> String {
    text.chars().map(printable).collect()
}

/// The character, or a blank or mark in place of one that would command the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
        {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Arc<Written> {
        Arc::new(Written::new("x.yaml", text))
    }

    fn shown(text: &str, span: Range<usize>) -> String {
        Problem { place: Place::of_span(written(text), span), message: "wrong".into(), hint: None }.to_string()
    }

    #[test]
    fn problems_are_printed_by_file_and_line_whenever_they_were_found() {
        let file = written("a: 1\nb: 2\n");
        let mut problems = Problems::new();
        problems.push(Place::of_span(file.clone(), 8..9), "second", None);
        problems.push(Place::of_span(file.clone(), 0..1), "first", Some("try".into()));
        problems.push(Place::file("w.yaml"), "not there", None);
        let expected = "\
w.yaml: not there

x.yaml:1:1: first
  1 | a: 1
    | ^
  hint: try

x.yaml:2:4: second
  2 | b: 2
    |    ^

3 problems";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn a_caret_stands_below_its_character_whatever_comes_before() {
        assert_eq!(shown("größe: ß\r\n", 9..11), "x.yaml:1:8: wrong\n  1 | größe: ß\n    |        ^\n");
        assert_eq!(shown("\tx", 1..2), "x.yaml:1:2: wrong\n  1 |  x\n    |  ^\n");
        assert_eq!(shown("a", 1..1), "x.yaml:1:2: wrong\n  1 | a\n    |  ^\n");
        assert_eq!(shown("", 0..0), "x.yaml:1:1: wrong\n  1 | \n    | ^\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}!{}", "a".repeat(1000), "b".repeat(1000));
        let shown = shown(&text, 1000..1001);
        let expected = format!("  1 | …{}!{}…\n    | {}^\n", "a".repeat(50), "b".repeat(49), " ".repeat(51));
        assert_eq!(shown, format!("x.yaml:1:1001: wrong\n{expected}"));
    }

    #[test]
    fn nothing_printed_commands_the_terminal() {
        assert_eq!(shown("a\u{1b}[31m", 0..1), "x.yaml:1:1: wrong\n  1 | a\u{fffd}[31m\n    | ^\n");
        assert_eq!(plain("a\nb\u{202e}c"), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_literal_secret_is_masked() {
        let file = written("secret: hunter2, x: 1");
        let problem = Problem { place: Place::of_span(file.clone(), 17..18), message: "wrong".into(), hint: None };
        assert_eq!(problem.to_string(), "x.yaml:1:18: wrong\n  1 | secret:**************\n    |                  ^\n");
        file.hide(Vec::from_iter(std::iter::once(8..15)));
        assert_eq!(problem.to_string(), "x.yaml:1:18: wrong\n  1 | secret: *******, x: 1\n    |                  ^\n");
    }

    #[test]
    fn more_problems_than_anyone_reads_are_counted() {
        let mut problems = Problems::new();
        for _ in 0..250 {
            problems.push(Place::file("x.yaml"), "wrong", None);
        }
        assert!(problems.to_string().ends_with("\n250 problems, of which the first 100 are shown"));
    }
}
