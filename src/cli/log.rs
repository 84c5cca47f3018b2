//! The log: for people on a terminal, JSON under systemd, always to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Environment, Log, LogFormat};

/// What is logged unless told otherwise. object_store tells of each of its retries; ours are told sparingly.
const FILTER_DEFAULT: &str = "info,object_store=warn";

/// Starts logging for this process. The filter is `log.level`, else `$RUST_LOG`, else `info`; the form is `log.format`,
/// else JSON where systemd reads along (`$JOURNAL_STREAM`, see systemd.exec(5)), else text.
pub fn start(log: &Log, environment: &Environment) -> Result<(), String> {
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
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let started = match json {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| format!("logging is started already: {error}"))
}
