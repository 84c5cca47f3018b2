//! What ends a chunk.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// When objects are complete: whichever comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Encoded bytes of an object.
    pub size_bytes: u64,
    /// Time since the chunk's first record; with `aligned`, up to the next multiple of it.
    pub interval: Duration,
    /// The zone by whose clock the interval is aligned: `1h` ends chunks at the full hour.
    pub aligned: Option<TimeZone>,
}

impl Limits {
    /// How long a chunk that begins at `now_ms` (Unix milliseconds) may stay open.
    pub fn open_for(&self, now_ms: i64) -> Duration {
        let next = self.aligned.as_ref().and_then(|zone| next_multiple(now_ms, self.interval, zone));
        next.and_then(|next_ms| u64::try_from(next_ms - now_ms).ok()).map_or(self.interval, Duration::from_millis)
    }
}

/// The next time behind `now_ms` at which a clock in `zone` shows a multiple of `interval` since its midnight. `None` for
/// times that no clock shows.
fn next_multiple(now_ms: i64, interval: Duration, zone: &TimeZone) -> Option<i64> {
    let interval_ms = i64::try_from(interval.as_millis()).ok().filter(|ms| *ms > 0)?;
    let now = Timestamp::from_millisecond(now_ms).ok()?;
    if interval_ms <= HOUR_MS {
        // By the offset of now: where clocks are set back, the hour that comes twice ends twice.
        let offset_ms = i64::from(zone.to_offset(now).seconds()) * 1000;
        return Some(now_ms + interval_ms - (now_ms + offset_ms).rem_euclid(interval_ms));
    }
    let midnight = DateTime::from_parts(zone.to_datetime(now).date(), Time::midnight());
    let since_ms = zone.to_datetime(now).duration_since(midnight).as_millis();
    let until_ms = (i64::try_from(since_ms).ok()? / interval_ms + 1) * interval_ms;
    let next = midnight.checked_add(SignedDuration::from_millis(until_ms)).ok()?;
    Some(zone.to_timestamp(next).ok()?.as_millisecond()).filter(|next_ms| *next_ms > now_ms)
}

const HOUR_MS: i64 = 3_600_000;

/// What ended a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An object has reached its size, or the chunk its own.
    Size,
    /// The first record has waited long enough.
    Interval,
    /// Memory is short, or too many prefixes are open, or too many objects closed.
    Memory,
    /// The disk was full, and a smaller chunk may fit.
    Space,
    /// The source failed behind it.
    Fault,
    /// The shard has ended.
    End,
    /// A new revision waits, or the pipeline goes.
    Reload,
}

impl Cut {
    /// The cause in a word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Cut::Size => "size",
            Cut::Interval => "interval",
            Cut::Memory => "memory",
            Cut::Space => "space",
            Cut::Fault => "fault",
            Cut::End => "end",
            Cut::Reload => "reload",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_for(now: &str, interval_s: u64, zone: &str) -> Duration {
        let aligned = Some(TimeZone::get(zone).unwrap());
        let limits = Limits { size_bytes: 1, interval: Duration::from_secs(interval_s), aligned };
        limits.open_for(now.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn an_aligned_chunk_ends_at_the_full_hour_of_its_zone() {
        assert_eq!(open_for("2026-11-20T10:59:59.750Z", 3600, "UTC"), Duration::from_millis(250));
        assert_eq!(open_for("2026-11-20T11:00:00Z", 3600, "UTC"), Duration::from_secs(3600));
        assert_eq!(
            open_for("2026-11-20T10:40:00Z", 3600, "Asia/Kolkata"),
            Duration::from_secs(50 * 60),
            "at half past"
        );
        assert_eq!(open_for("2026-11-20T22:00:00Z", 86400, "Europe/Berlin"), Duration::from_secs(3600), "at midnight");
        assert_eq!(open_for("2026-11-20T11:07:00Z", 900, "UTC"), Duration::from_secs(8 * 60));
    }

    #[test]
    fn a_day_on_which_clocks_change_ends_at_its_own_midnight() {
        // 2026-10-25 has 25 hours in Berlin: its clocks go back at 01:00 UTC.
        assert_eq!(open_for("2026-10-24T22:00:00Z", 86400, "Europe/Berlin"), Duration::from_secs(25 * 3600));
        assert_eq!(open_for("2026-10-25T00:30:00Z", 3600, "Europe/Berlin"), Duration::from_secs(1800), "02:30");
        assert_eq!(open_for("2026-10-25T01:30:00Z", 3600, "Europe/Berlin"), Duration::from_secs(1800), "02:30 again");
    }

    #[test]
    fn without_alignment_the_interval_counts_from_the_first_record() {
        let limits = Limits { size_bytes: 1, interval: Duration::from_secs(60), aligned: None };
        assert_eq!(limits.open_for(1_795_217_459_999), Duration::from_secs(60));
    }
}
