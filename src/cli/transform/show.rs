//! What became of records, as lines for people that can also be compared.
//!
//! ```text
//! 1 ok      {"id":1}
//! 2 dropped
//! 3 ok      {"id":3,"part":"a"}  customer=7
//! 3 ok      {"id":3,"part":"b"}  customer=7
//! 4 failed  no field `level`
//! ```

use std::fmt::{self, Write};
use std::time::Duration;

use crate::record::Batch;
use crate::transform::{Rejected, Transformed};

/// Lines that say what became of record `number`, each with its end.
pub fn lines(number: usize, became: &Transformed) -> String {
    let mut lines = String::new();
    let mut line = |word: &str, rest: &dyn fmt::Display| {
        let line = format!("{number} {word:<7} {rest}");
        lines.push_str(line.trim_end_matches(' '));
        lines.push('\n');
    };
    (0..became.batch.len()).for_each(|row| line("ok", &Output(&became.batch, row)));
    (0..became.dropped).for_each(|_| line("dropped", &""));
    became.rejected.iter().for_each(|rejected| line("failed", &Failed(rejected)));
    lines
}

/// A record that goes on, with its partition keys.
struct Output<'b>(&'b Batch, usize);

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self.0.payload(self.1)))?;
        for (number, (name, value)) in self.0.partition_keys(self.1).enumerate() {
            f.write_str(if number == 0 { "  " } else { " " })?;
            write!(f, "{}={}", text(name), text(value))?;
        }
        Ok(())
    }
}

/// Why a record failed; what the transform said itself stands without the code.
struct Failed<'r>(&'r Rejected);

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = &self.0.reason;
        match reason.code {
            SAID_SO => f.write_str(&text(reason.message.as_bytes())),
            code => write!(f, "{code}: {}", text(reason.message.as_bytes())),
        }
    }
}

/// The code of a record that the transform itself has set aside.
pub const SAID_SO: &str = "Wasm.Failed";

/// Bytes as one line: UTF-8 as it is, but control characters and all other bytes escaped.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c.is_control() {
                true => text.extend(c.escape_default()),
                false => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// So many bytes, for people.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A time, with about three digits.
pub fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match nanos {
        ..1e3 => (nanos, "ns"),
        ..1e6 => (nanos / 1e3, "us"),
        ..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_is_one_line() {
        assert_eq!(text("größer \"x\"".as_bytes()), "größer \"x\"");
        assert_eq!(text(b"a\nb\t\0\xff\xc3"), "a\\nb\\t\\u{0}\\xff\\xc3");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!((bytes(12), bytes(1025), bytes(3 << 20)), ("12 bytes".into(), "2 KiB".into(), "3.0 MiB".into()));
        let shown = |nanos| duration(Duration::from_nanos(nanos));
        assert_eq!(
            [shown(270), shown(2_117), shown(41_470_000), shown(9_400_000_000)],
            ["270 ns", "2.12 us", "41.5 ms", "9.40 s"]
        );
    }
}
