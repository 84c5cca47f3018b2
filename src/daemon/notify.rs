//! What systemd is told, where it listens: ready, reloading, stopping, that we live, and a line for `systemctl status`.
//!
//! ```text
//! READY=1 STATUS=3 pipelines run    WATCHDOG=1 STATUS=...    RELOADING=1 MONOTONIC_USEC=n    READY=1    STOPPING=1
//! ```
//! The watchdog is not fed by a thread that always lives. [`Heart::due`] is awaited by the loop that supervises the
//! pipelines, and a beat is a task of the runtime that draws the whole view, and so takes every lock that a pipeline could
//! hold for ever. A loop that hangs, workers that are all stuck or a lock that is never let go: no beat, and systemd ends us.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

use crate::status::Admin;
use crate::status::view::{PipelineView, State, View};

/// How often the line of `systemctl status` is drawn.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Beats in the time that systemd waits for one.
const BEATS_PER_TIMEOUT: u32 = 3;
/// Characters of what is wrong that the line has room for.
const TROUBLE_CHARS_MAX: usize = 160;

/// Pipelines run and doors are open; also when a reload is done, however it went.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Files are looked at because somebody asked; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd cannot be told"),
    }
}

/// No more is taken in; what is under way is brought to an end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping: what is under way is brought to an end")]);
}

/// Tells systemd at intervals that we live, and what we do.
pub struct Heart {
    /// `None`: nobody listens.
    beats: Option<Interval>,
    watched: bool,
    under_way: Option<JoinHandle<()>>,
}

impl Heart {
    /// As `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` ask for it.
    pub fn of_systemd() -> Heart {
        let timeout = sd_notify::watchdog_enabled();
        let every = timeout.map_or(STATUS_INTERVAL, |timeout| (timeout / BEATS_PER_TIMEOUT).min(STATUS_INTERVAL));
        let beats = std::env::var_os("NOTIFY_SOCKET").filter(|_| !every.is_zero()).map(|_| {
            let mut beats = tokio::time::interval(every);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        Heart { beats, watched: timeout.is_some(), under_way: None }
    }

    /// Waits until a beat is due, at once the first time; for ever where nobody listens. Cancel-safe.
    pub async fn due(&mut self) {
        match &mut self.beats {
            Some(beats) => _ = beats.tick().await,
            None => std::future::pending().await,
        }
    }

    /// Begins a beat; none while the one before it is not done.
    pub fn beat(&mut self, admin: Arc<dyn Admin>) {
        if self.under_way.as_ref().is_some_and(|beat| !beat.is_finished()) {
            return;
        }
        let watched = self.watched;
        self.under_way = Some(tokio::spawn(async move {
            let line = line(&admin.view());
            match watched {
                true => tell(&[NotifyState::Watchdog, NotifyState::Status(&line)]),
                false => tell(&[NotifyState::Status(&line)]),
            }
        }));
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// What a person wants to read: how many pipelines run, how fast, and the first thing that is wrong.
fn line(view: &View) -> String {
    let all = view.pipelines.len();
    let run = view.pipelines.iter().filter(|pipeline| pipeline.state == State::Running).count();
    let per_second: f64 = view.pipelines.iter().map(|pipeline| pipeline.rates.records_in).sum();
    let mut line = match (run, all) {
        (_, 0) => "no pipelines".to_owned(),
        (1, 1) => "1 pipeline runs".to_owned(),
        (run, all) if run == all => format!("{all} pipelines run"),
        (run, all) => format!("{run} of {all} pipelines run"),
    };
    if all > 0 {
        line += &format!(", {per_second:.0} records/s in");
    }
    let mut troubles: Vec<String> = view.pipelines.iter().filter_map(trouble).collect();
    if troubles.is_empty() {
        // What is said of the house repeats what is said of its pipelines.
        troubles.clone_from(&view.ills);
    }
    if let Some(first) = troubles.first() {
        // One line, whatever was in it.
        let first: String = first.lines().next().unwrap_or_default().chars().take(TROUBLE_CHARS_MAX).collect();
        line += &format!("; {first}");
    }
    if troubles.len() > 1 {
        line += &format!(" (and {} more)", troubles.len() - 1);
    }
    line
}

/// What is wrong with a pipeline, the worst first.
fn trouble(pipeline: &PipelineView) -> Option<String> {
    let name = &pipeline.name;
    let why = pipeline.why.as_deref().unwrap_or("see the log");
    match pipeline.state {
        State::Stopped => return Some(format!("{name} has stopped: {why}")),
        State::Waiting => return Some(format!("{name} waits: {why}")),
        State::Running | State::Draining | State::Done => {}
    }
    if let Some(trouble) = &pipeline.sink_trouble {
        return Some(format!("{name}: the sink is blocked: {}", trouble.message));
    }
    if let Some(trouble) = &pipeline.reading_trouble {
        return Some(format!("{name} cannot read: {}", trouble.message));
    }
    if let Some(pending) = &pipeline.pending {
        return Some(format!("{name}: a new revision was refused: {}", pending.problems));
    }
    pipeline.transforms_failing.then(|| format!("{name}: its transforms set every record aside"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn running(name: &str) -> Value {
        json!({
            "name": name, "file": "x.yaml", "state": "running", "why": null, "pending": null,
            "way": { "source": "demo", "stream": null, "transforms": [], "format": "lines", "sink": "./out" },
            "revision": { "number": 1, "hash": "", "since_ms": 0 },
            "counts": {
                "records_in": 0, "bytes_in": 0, "records_out": 0, "bytes_out": 0, "objects_out": 0, "rejected": 0,
                "dropped": 0
            },
            "rates": {
                "records_in": 12.4, "bytes_in": 0.0, "records_out": 0.0, "bytes_out": 0.0, "rejected": 0.0, "dropped": 0.0
            },
            "shards": [], "lag_records": null, "open": null, "outbox_bytes": 0, "outbox_bytes_max": 0,
            "delivered": [], "rejected": [], "sink_trouble": null, "reading_trouble": null,
            "transforms_failing": false, "history": []
        })
    }

    fn with(name: &str, changed: Value) -> Value {
        let mut pipeline = running(name);
        for (key, value) in changed.as_object().unwrap() {
            assert!(pipeline[key] != *value, "{key} is so anyway");
            pipeline[key] = value.clone();
        }
        pipeline
    }

    fn line_of(ills: &[&str], pipelines: &[Value]) -> String {
        let view = json!({
            "version": "0", "started_ms": 0, "now_ms": 0, "ills": ills, "memory": { "used_bytes": 0, "budget_bytes": 1 },
            "pipelines": pipelines, "streams": [], "without_file": []
        });
        line(&serde_json::from_value(view).unwrap())
    }

    #[test]
    fn the_line_says_how_many_run_how_fast_and_what_is_wrong_first() {
        let blocked = json!({ "message": "access denied: no\nmore", "hint": null, "since_ms": 0, "attempts": 3 });
        let pending = json!({ "hash": "", "since_ms": 0, "problems": "x.yaml:3:1: unknown key `a`" });
        for (expected, ills, pipelines) in [
            ("no pipelines", &[] as &[&str], &[] as &[Value]),
            ("1 pipeline runs, 12 records/s in", &[], &[running("a")]),
            ("2 pipelines run, 25 records/s in", &[], &[running("a"), running("b")]),
            (
                "1 of 2 pipelines run, 25 records/s in; b has stopped: disk",
                &["pipeline b has stopped: disk"],
                &[running("a"), with("b", json!({ "state": "stopped", "why": "disk" }))],
            ),
            (
                "2 pipelines run, 25 records/s in; a: the sink is blocked: access denied: no (and 1 more)",
                &[],
                &[with("a", json!({ "sink_trouble": blocked })), with("b", json!({ "pending": pending }))],
            ),
            ("1 pipeline runs, 12 records/s in; the demo ended", &["the demo ended"], &[running("a")]),
        ] {
            assert_eq!(line_of(ills, pipelines), expected);
        }
    }

    #[test]
    fn the_line_stays_one_short_line_whatever_is_wrong() {
        let why = format!("{}\nsecond", "ä".repeat(10_000));
        let line = line_of(&[], &[with("a", json!({ "state": "waiting", "why": why }))]);
        assert_eq!(line.lines().count(), 1);
        assert!(line.chars().count() < TROUBLE_CHARS_MAX + 80, "{line}");
    }
}
