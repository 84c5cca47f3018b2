//! The log: for people on a terminal, JSON under systemd, always to standard error.

mod calm;

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::paint::Paint;
use crate::config::{Environment, Log, LogFormat};

/// What is logged unless told otherwise. object_store tells of each of its retries; ours are told sparingly.
const FILTER_DEFAULT: &str = "info,object_store=warn";

/// Starts logging for this process, above the progress bars, if there are any. The filter is `log.level`, else `$RUST_LOG`,
/// else `info`; the form is `log.format`, else JSON where systemd reads along (`$JOURNAL_STREAM`, see systemd.exec(5)), else
/// text: on a terminal lines for people, elsewhere the fields with times in UTC.
pub fn start(log: &Log, environment: &Environment, bars: Option<&MultiProgress>) -> Result<(), String> {
    let (filter, from) = match (&log.level, environment.get("RUST_LOG")) {
        (Some(level), _) => (level.clone(), "log level"),
        (None, Ok(level)) if !level.is_empty() => (level, "RUST_LOG"),
        (None, _) => (FILTER_DEFAULT.to_owned(), "log level"),
    };
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        format!("{from}: expected a filter such as `info` or `hydrant=debug`, found `{filter}`: {error}")
    })?;
    let under_systemd = environment.get("JOURNAL_STREAM").is_ok();
    let json = log.format.map_or(under_systemd, |format| format == LogFormat::Json);
    let above = Above(bars.cloned());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(above).with_target(false);
    let started = match (json, io::stderr().is_terminal()) {
        (true, _) => subscriber.json().flatten_event(true).try_init(),
        (false, true) => subscriber.event_format(calm::Lines::new(Paint::of_stderr())).try_init(),
        (false, false) => subscriber.with_ansi(false).try_init(),
    };
    started.map_err(|error| format!("logging is started already: {error}"))
}

/// Standard error, above the progress bars.
struct Above(Option<MultiProgress>);

impl<'w> MakeWriter<'w> for Above {
    type Writer = Lines<'w>;

    fn make_writer(&'w self) -> Lines<'w> {
        Lines(self.0.as_ref())
    }
}

/// Writes lines; each comes in one piece.
struct Lines<'w>(Option<&'w MultiProgress>);

impl Write for Lines<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let write = || io::stderr().lock().write_all(line);
        match self.0 {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
