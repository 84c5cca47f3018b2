//! Log lines for people: one calm line per event, its columns one below the other.
//!
//! ```text
//! 12:04:05  clickstream  delivered     12,000 rows    3.4 MiB  s3://lake/clickstream/dt=../..  and 2 more
//! 12:04:07  clickstream  WARN the sink refuses an object: ..: no connection  attempt=4
//!                        hint: is the endpoint right, and reachable from here?
//! ```

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::paint::{Ink, Paint, bytes, clock, count, of, plain};

/// Names longer than this stand out of their column.
const NAME_CHARS_MAX: usize = 24;

/// The form of a line.
pub struct Lines {
    paint: Paint,
    /// The longest name of a pipeline so far.
    name_chars: AtomicUsize,
}

impl Lines {
    /// Coloured or not.
    pub fn new(paint: Paint) -> Lines {
        Lines { paint, name_chars: AtomicUsize::new(0) }
    }

    fn write(&self, level: Level, fields: Fields, now_ms: i64, line: &mut dyn fmt::Write) -> fmt::Result {
        let paint = self.paint;
        let name = plain(&fields.pipeline).into_owned();
        let chars = name.chars().count().min(NAME_CHARS_MAX);
        let width = self.name_chars.fetch_max(chars, Ordering::Relaxed).max(chars);
        let indent = " ".repeat(10 + if width > 0 { width + 2 } else { 0 });
        write!(line, "{}  ", paint.ink(Ink::Dim, clock(now_ms)))?;
        if width > 0 {
            write!(line, "{}  ", paint.ink(Ink::Bold, format_args!("{name:width$}")))?;
        }
        match level {
            Level::ERROR => write!(line, "{} ", paint.ink(Ink::Bad, "ERROR"))?,
            Level::WARN => write!(line, "{} ", paint.ink(Ink::Warning, "WARN"))?,
            Level::INFO => {}
            level => write!(line, "{} ", paint.ink(Ink::Dim, level))?,
        }
        let message = plain(&fields.message).replace('\n', &format!("\n{indent}"));
        match fields.delivered() {
            Some(Delivered { rows, bytes: size, objects, first }) => {
                let (rows, size) = (of(rows, "row"), bytes(size));
                write!(line, "{message}  {rows:>14}  {size:>10}")?;
                match (first, objects) {
                    (None, _) => {}
                    (Some(first), ..=1) => write!(line, "  {}", plain(first))?,
                    (Some(first), _) => {
                        let more = paint.ink(Ink::Dim, format_args!("and {} more", count(objects - 1)));
                        write!(line, "  {}  {more}", plain(first))?;
                    }
                }
            }
            None => {
                line.write_str(&message)?;
                for (name, value) in &fields.others {
                    let value = plain(value).replace('\n', &format!("\n{indent}"));
                    write!(line, "  {}{value}", paint.ink(Ink::Dim, format_args!("{name}=")))?;
                }
            }
        }
        line.write_char('\n')?;
        match &fields.hint {
            Some(hint) => writeln!(line, "{indent}hint: {}", plain(hint)),
            None => Ok(()),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.write(*event.metadata().level(), fields, i64::try_from(now_ms).unwrap_or(i64::MAX), &mut writer)
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    pipeline: String,
    hint: Option<String>,
    others: Vec<(&'static str, String)>,
}

/// What a delivery says.
struct Delivered<'f> {
    rows: u64,
    bytes: u64,
    objects: u64,
    first: Option<&'f str>,
}

impl Fields {
    fn delivered(&self) -> Option<Delivered<'_>> {
        let of = |wanted: &str| self.others.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        let number = |name| of(name)?.parse().ok();
        let first = of("first").or_else(|| of("object"));
        let (rows, bytes) = (number("rows")?, number("bytes")?);
        (self.message == "delivered").then_some(Delivered {
            rows,
            bytes,
            objects: number("objects").unwrap_or(1),
            first,
        })
    }

    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "pipeline" => self.pipeline = value,
            "hint" => self.hint = Some(value),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(message: &str, pipeline: &str, others: &[(&'static str, &str)]) -> Fields {
        let others = others.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Fields { message: message.into(), pipeline: pipeline.into(), hint: None, others }
    }

    /// The lines behind their time.
    fn written(lines: &Lines, level: Level, fields: Fields) -> String {
        let mut line = String::new();
        lines.write(level, fields, 0, &mut line).unwrap();
        line[10..].to_owned()
    }

    #[test]
    fn deliveries_stand_one_below_the_other() {
        let lines = Lines::new(Paint::PLAIN);
        let delivered = |pipeline, rows, bytes, objects, first| {
            let others = [("rows", rows), ("bytes", bytes), ("objects", objects), ("first", first)];
            written(&lines, Level::INFO, fields("delivered", pipeline, &others))
        };
        assert_eq!(
            delivered("click", "12000", "3565158", "3", "./a"),
            "click  delivered     12,000 rows     3.4 MiB  ./a  and 2 more\n"
        );
        assert_eq!(delivered("orders", "1", "20", "1", "./b"), "orders  delivered           1 row        20 B  ./b\n");
        assert_eq!(delivered("click", "1", "20", "1", "./c"), "click   delivered           1 row        20 B  ./c\n");
        assert_eq!(
            written(&lines, Level::INFO, fields("ready", "", &[("ready_ms", "12")])),
            "        ready  ready_ms=12\n"
        );
    }

    #[test]
    fn trouble_is_marked_and_nothing_is_obeyed_by_the_terminal() {
        let lines = Lines::new(Paint::PLAIN);
        let mut warning = fields("refused: \x1b[2J", "p", &[("attempt", "4")]);
        warning.hint = Some("ask".into());
        assert_eq!(
            written(&lines, Level::WARN, warning),
            "p  WARN refused: \\u{1b}[2J  attempt=4\n             hint: ask\n"
        );
    }
}
