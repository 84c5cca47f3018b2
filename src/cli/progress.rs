//! The progress bar of `hydrant run --once`, below the log, where standard error is a terminal.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::complain;
use super::paint::{Ink, Paint, age, bytes, columns_of_stderr, count, of};
use crate::status::Admin;
use crate::status::view::{Counts, View};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Over about how long the rate is measured.
const RATE_OVER: Duration = Duration::from_secs(3);
/// Columns of the bar itself.
const BAR_COLUMNS: usize = 24;

/// A bar that is not begun yet.
pub struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// One, if anybody looks.
    pub fn where_seen() -> Option<Progress> {
        let draws = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        draws.then(|| Progress { bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()) })
    }

    /// What the log has to write above of.
    pub fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Follows a daemon until the runtime that this is called in ends, or the bar is dropped.
    pub fn follow(&self, admin: Arc<dyn Admin>) -> Bar {
        let bar = self.bars.add(ProgressBar::new(1));
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        let (shown, asked, began) = (bar.clone(), admin.clone(), Instant::now());
        let task = tokio::spawn(async move {
            let mut pace = Pace::new(began);
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                let columns = columns_of_stderr().unwrap_or(80);
                let now = Counted::of(&admin.view(), admin.read_of());
                shown.set_message(pace.line(Instant::now(), now, columns, Paint::of_stderr()));
                shown.tick();
            }
        });
        Bar { bar, task, admin: asked, began }
    }
}

/// A bar that is shown; it goes when this is dropped.
pub struct Bar {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
    admin: Arc<dyn Admin>,
    began: Instant,
}

impl Bar {
    /// Puts what was done in its place.
    pub fn end(self) {
        let Counted { records_in, records_out, objects_out, .. } = Counted::of(&self.admin.view(), None);
        let took = match self.began.elapsed() {
            took if took < Duration::from_secs(60) => format!("{:.1}s", took.as_secs_f64()),
            took => age(took.as_millis() as i64),
        };
        drop(self);
        complain(format_args!(
            "{} read, {} in {} delivered, {took}",
            of(records_in, "record"),
            of(records_out, "row"),
            of(objects_out, "object")
        ));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// What a look sees.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Counted {
    records_in: u64,
    records_out: u64,
    objects_out: u64,
    /// Bytes read of bytes known, of files.
    read_of: Option<(u64, u64)>,
}

impl Counted {
    fn of(view: &View, read_of: Option<(u64, u64)>) -> Counted {
        let sum = |of: fn(&Counts) -> u64| view.pipelines.iter().map(|pipeline| of(&pipeline.counts)).sum();
        Counted {
            records_in: sum(|counts| counts.records_in),
            records_out: sum(|counts| counts.records_out),
            objects_out: sum(|counts| counts.objects_out),
            read_of,
        }
    }
}

/// How fast it goes: an average in which what is long ago weighs little.
struct Pace {
    began: Instant,
    at: Instant,
    before: Counted,
    records_per_second: f64,
    bytes_per_second: f64,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { began: now, at: now, before: Counted::default(), records_per_second: 0.0, bytes_per_second: 0.0 }
    }

    /// The line of a look.
    fn line(&mut self, at: Instant, now: Counted, columns: usize, paint: Paint) -> String {
        let passed = at.saturating_duration_since(self.at).as_secs_f64();
        if passed > 0.0 {
            // At the beginning the average is over what there is.
            let over = RATE_OVER.as_secs_f64().min(at.saturating_duration_since(self.began).as_secs_f64());
            let weight = (passed / over).min(1.0);
            let mean = |before: &mut f64, gained: u64| *before += (gained as f64 / passed - *before) * weight;
            let bytes_of = |counted: Counted| counted.read_of.map_or(0, |(read, _)| read);
            mean(&mut self.records_per_second, now.records_in.saturating_sub(self.before.records_in));
            mean(&mut self.bytes_per_second, bytes_of(now).saturating_sub(bytes_of(self.before)));
            (self.at, self.before) = (at, now);
        }
        let rate = format!("{}/s", count(self.records_per_second.round() as u64));
        let elapsed = age(at.saturating_duration_since(self.began).as_millis() as i64);
        let delivered = format!("{} in {}", of(now.records_out, "row"), of(now.objects_out, "object"));
        let parts = match now.read_of {
            Some((read, known)) if known > 0 => {
                let share = read as f64 / known as f64;
                let left = match known.saturating_sub(read) {
                    0 => "delivering".to_owned(),
                    rest if self.bytes_per_second >= 1.0 => {
                        format!("{} left", age((rest as f64 / self.bytes_per_second * 1000.0) as i64))
                    }
                    _ => "waiting".to_owned(),
                };
                let per_cent = format!("{:3} %", (share * 100.0) as u64);
                vec![bar(share, paint), per_cent, left, format!("{} of {}", bytes(read), bytes(known)), rate, delivered]
            }
            _ => vec![of(now.records_in, "record"), rate, elapsed, delivered],
        };
        fitting(&parts, columns, paint)
    }
}

fn bar(share: f64, paint: Paint) -> String {
    let full = ((share.clamp(0.0, 1.0) * BAR_COLUMNS as f64).round() as usize).min(BAR_COLUMNS);
    paint.ink(Ink::Good, "█".repeat(full)) + &paint.ink(Ink::Dim, "░".repeat(BAR_COLUMNS - full))
}

/// As many of the parts, from the first, as fit into a line.
fn fitting(parts: &[String], columns: usize, paint: Paint) -> String {
    let mut line = String::new();
    let mut taken = 0;
    for part in parts {
        let invisible = if paint.is_coloured() { part.matches('\x1b').count() * 4 } else { 0 };
        let width = part.chars().count().saturating_sub(invisible) + if line.is_empty() { 0 } else { 2 };
        if taken + width >= columns {
            break;
        }
        if !line.is_empty() {
            line.push_str("  ");
        }
        line.push_str(part);
        taken += width;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(records: u64, read_of: Option<(u64, u64)>) -> Counted {
        Counted { records_in: records, records_out: records / 2, objects_out: 1, read_of }
    }

    #[test]
    fn files_have_a_share_and_a_time_left() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut line = String::new();
        for second in 1..=10 {
            let now = counted(second * 1000, Some((second << 20, 40 << 20)));
            line = pace.line(start + Duration::from_secs(second), now, 100, Paint::PLAIN);
        }
        assert_eq!(
            line,
            "██████░░░░░░░░░░░░░░░░░░   25 %  30s left  10.0 MiB of 40.0 MiB  1,000/s  5,000 rows in 1 object"
        );
        let done =
            pace.line(start + Duration::from_secs(11), counted(40_000, Some((40 << 20, 40 << 20))), 46, Paint::PLAIN);
        assert_eq!(done, "████████████████████████  100 %  delivering", "as much as fits");
    }

    #[test]
    fn other_sources_have_a_rate_and_no_end() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let line = pace.line(start + Duration::from_secs(2), counted(5000, None), 80, Paint::PLAIN);
        assert!(line.starts_with("5,000 records  ") && line.ends_with("/s  2s  2,500 rows in 1 object"), "{line}");
    }
}
