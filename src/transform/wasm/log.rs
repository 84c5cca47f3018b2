//! What a guest says, as lines of hydrant's log: cut, escaped and thinned out, so that it can neither flood nor forge them.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::{ComponentType, Lift};

/// Bytes of a line that are kept.
pub const LINE_BYTES_MAX: usize = 8 << 10;

/// Lines that a transform may write in each [`WINDOW`], whatever the number of its instances; others are counted.
pub const LINES_MAX: u32 = 100;

/// Bytes of lines that a transform may write in each [`WINDOW`], beside those of one line.
const BYTES_MAX: usize = 64 << 10;

/// In which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Bytes that an instance wrote last to its standard error, kept for the reason of a trap.
const TAIL_BYTES_MAX: usize = 500;

/// How much a line matters, as `hydrant.wit` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// The log of one transform. Cheap to clone: all clones share one allowance of lines.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pipeline: String,
    module: String,
    allowance: Mutex<Allowance>,
}

impl Log {
    /// For a transform of this pipeline, which runs this module.
    pub fn new(pipeline: &str, module: &str) -> Log {
        let (pipeline, module) = (pipeline.to_owned(), module.to_owned());
        Log(Arc::new(Shared { pipeline, module, allowance: Mutex::new(Allowance::new(Instant::now())) }))
    }

    /// Writes a line, unless there are too many.
    pub fn line(&self, level: Level, line: &[u8]) {
        let kept = cut(line);
        self.kept_line(level, kept, line.len() - kept.len());
    }

    /// Writes what is kept of a line, and says how many bytes are not.
    fn kept_line(&self, level: Level, kept: &[u8], more_bytes: usize) {
        if !is_heard(level) {
            return;
        }
        let allowed = self.0.allowance.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), kept.len());
        let Some(left_out) = allowed else { return };
        self.0.tell_left_out(left_out);
        self.0.tell(level, &shown(kept, more_bytes));
    }
}

impl Shared {
    fn tell(&self, level: Level, line: &str) {
        let (pipeline, module) = (&self.pipeline, &self.module);
        match level {
            Level::Debug => tracing::debug!(pipeline, module, "{line}"),
            Level::Info => tracing::info!(pipeline, module, "{line}"),
            Level::Warn => tracing::warn!(pipeline, module, "{line}"),
            Level::Error => tracing::error!(pipeline, module, "{line}"),
        }
    }

    fn tell_left_out(&self, lines: u64) {
        match lines {
            0 => {}
            1 => self.tell(Level::Warn, "1 line was left out here"),
            _ => self.tell(Level::Warn, &format!("{lines} lines were left out here")),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let left_out = self.allowance.get_mut().unwrap_or_else(PoisonError::into_inner).left_out;
        self.tell_left_out(left_out);
    }
}

fn is_heard(level: Level) -> bool {
    match level {
        Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
        Level::Info => tracing::enabled!(tracing::Level::INFO),
        Level::Warn => tracing::enabled!(tracing::Level::WARN),
        Level::Error => tracing::enabled!(tracing::Level::ERROR),
    }
}

/// Lines that may still be written.
#[derive(Debug)]
struct Allowance {
    window: Instant,
    lines: u32,
    bytes: usize,
    left_out: u64,
}

impl Allowance {
    fn new(now: Instant) -> Allowance {
        Allowance { window: now, lines: 0, bytes: 0, left_out: 0 }
    }

    /// Whether a line of so many bytes may be written now, and if so, how many were left out before it.
    fn take(&mut self, now: Instant, bytes: usize) -> Option<u64> {
        if now.duration_since(self.window) >= WINDOW {
            (self.window, self.lines, self.bytes) = (now, 0, 0);
        }
        if self.lines == LINES_MAX || self.bytes >= BYTES_MAX {
            self.left_out += 1;
            return None;
        }
        (self.lines, self.bytes) = (self.lines + 1, self.bytes + bytes);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// As much of a line as is kept: it ends with a whole character.
fn cut(line: &[u8]) -> &[u8] {
    if line.len() <= LINE_BYTES_MAX {
        return line;
    }
    let begins = |at: &usize| line.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    let end = (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(begins).unwrap_or(LINE_BYTES_MAX);
    line.get(..end).unwrap_or(line)
}

/// A line as it may stand in a log: one line, without control characters.
fn shown(kept: &[u8], more_bytes: usize) -> String {
    let mut shown = String::with_capacity(kept.len());
    for chunk in kept.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\t' => shown.push(c),
                // Ends of lines, and what turns letters round.
                '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => shown.extend(c.escape_unicode()),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.extend(c.escape_unicode()),
                c if c.is_control() => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        if !chunk.invalid().is_empty() {
            shown.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if more_bytes > 0 {
        let _ = write!(shown, "... ({more_bytes} bytes more)");
    }
    shown
}

/// Standard output or error of an instance, cut into lines of its log.
#[derive(Debug)]
pub struct Lines {
    log: Log,
    level: Level,
    /// Of a line that has not ended, at most one byte more than is kept.
    begun: Vec<u8>,
    /// How long that line is by now.
    begun_bytes: usize,
    tail: Vec<u8>,
}

impl Lines {
    /// Nothing written yet; lines will have this level.
    pub fn new(log: &Log, level: Level) -> Lines {
        Lines { log: log.clone(), level, begun: Vec::new(), begun_bytes: 0, tail: Vec::new() }
    }

    /// Writes on: a line is logged when it ends.
    pub fn write(&mut self, bytes: &[u8]) {
        self.remember(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = (LINE_BYTES_MAX + 1).saturating_sub(self.begun.len()).min(text.len());
            self.begun.extend_from_slice(&text[..room]);
            self.begun_bytes += text.len();
            if text.len() < piece.len() {
                self.end_line();
            }
        }
    }

    /// The last bytes written, as text.
    pub fn tail(&self) -> String {
        let from = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        let tail = &self.tail[from..];
        let whole = tail.iter().position(|byte| byte & 0xc0 != 0x80).unwrap_or(tail.len());
        String::from_utf8_lossy(&tail[whole..]).trim_end().to_owned()
    }

    fn remember(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        if self.tail.len() + last.len() > 4 * TAIL_BYTES_MAX {
            self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES_MAX));
        }
        self.tail.extend_from_slice(last);
    }

    fn end_line(&mut self) {
        let line = self.begun.strip_suffix(b"\r").unwrap_or(&self.begun);
        if !line.is_empty() {
            let kept = cut(line);
            let more_bytes = self.begun_bytes.saturating_sub(kept.len());
            self.log.kept_line(self.level, kept, if kept.len() < line.len() { more_bytes } else { 0 });
        }
        self.begun.clear();
        self.begun_bytes = 0;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.end_line();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What is logged at level info and above while `work` runs.
    fn logged(work: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::INFO)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_says_who_wrote_it_and_cannot_forge_another() {
        let text = logged(|| {
            let log = Log::new("clicks", "redact.wasm");
            log.line(Level::Debug, b"not heard");
            log.line(Level::Error, "ä\tb\n ERROR forged\x1b[31m\u{2028}\u{9b}\u{202e}".as_bytes());
            log.line(Level::Info, b"\xff\xfe");
        });
        let expected = "ERROR ä\tb\\n ERROR forged\\u{1b}[31m\\u{2028}\\u{9b}\\u{202e} pipeline=\"clicks\" module=\"redact.wasm\"\n \
            INFO \u{fffd}\u{fffd} pipeline=\"clicks\" module=\"redact.wasm\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let line = [b"a".as_slice(), "ä".repeat(LINE_BYTES_MAX).as_bytes()].concat();
        let kept = cut(&line);
        assert_eq!(kept.len(), LINE_BYTES_MAX - 1);
        assert!(shown(kept, line.len() - kept.len()).ends_with("ä... (8194 bytes more)"));
        assert_eq!(cut(&line[..LINE_BYTES_MAX]).len(), LINE_BYTES_MAX);
    }

    #[test]
    fn many_lines_are_thinned_out_with_a_count_for_all_instances_together() {
        let text = logged(|| {
            let log = Log::new("clicks", "redact.wasm");
            let again = log.clone();
            for _ in 0..100 * LINES_MAX {
                log.line(Level::Info, b"first");
                again.line(Level::Info, b"second");
            }
        });
        assert!(text.lines().count() < 100 * LINES_MAX as usize);
        assert!(text.contains(" lines were left out here"), "{text}");

        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let taken = (0..LINES_MAX + 5).filter(|_| allowance.take(begin, 10).is_some()).count();
        assert_eq!(taken, LINES_MAX as usize);
        assert_eq!(allowance.take(begin + WINDOW / 2, 10), None);
        assert_eq!(allowance.take(begin + WINDOW, 10), Some(6));
        assert_eq!(allowance.take(begin + WINDOW, BYTES_MAX), Some(0));
        assert_eq!(allowance.take(begin + WINDOW, 0), None, "long lines count for more");
    }

    #[test]
    fn output_becomes_lines_however_it_is_cut_into_pieces() {
        let text = logged(|| {
            let mut lines = Lines::new(&Log::new("clicks", "redact.wasm"), Level::Info);
            for piece in ["one", " line\r\ntwo\n\n", "thr", "ee"] {
                lines.write(piece.as_bytes());
            }
            lines.write(&vec![b'x'; 3 * LINE_BYTES_MAX]);
            assert!(lines.begun.len() <= LINE_BYTES_MAX + 1);
        });
        let shown: Vec<_> = text.lines().map(|line| line.split(" pipeline=").next().unwrap()).collect();
        assert_eq!(shown[..2], [" INFO one line", " INFO two"]);
        assert_eq!(shown.len(), 3);
        assert!(
            shown[2].starts_with(" INFO threexxx") && shown[2].ends_with("x... (16389 bytes more)"),
            "{}",
            shown[2]
        );
    }

    #[test]
    fn the_end_of_what_was_written_is_kept_from_a_whole_character_on() {
        let mut lines = Lines::new(&Log::new("clicks", "redact.wasm"), Level::Warn);
        assert_eq!(lines.tail(), "");
        for _ in 0..1000 {
            lines.write("äö".as_bytes());
        }
        lines.write(b"!\n");
        assert_eq!(lines.tail(), format!("ö{}!", "äö".repeat(124)));
        assert!(lines.tail.len() <= 4 * TAIL_BYTES_MAX);
    }
}
