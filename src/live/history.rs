//! The last minute of a pipeline: its counts, looked at once a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Samples that are kept: a minute's.
pub const HISTORY_MAX: usize = 60;
/// Over how long what comes in is measured: long enough to be calm, short enough to be live.
const IN_OVER: Duration = Duration::from_secs(5);

/// What a pipeline has counted since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub records_in: u64,
    pub bytes_in: u64,
    pub records_out: u64,
    pub bytes_out: u64,
    pub objects_out: u64,
    pub rejected: u64,
    pub dropped: u64,
}

/// Per second: what comes in over the last five seconds, what goes out (it does so chunk by chunk) over the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub records_in: f64,
    pub bytes_in: f64,
    pub records_out: f64,
    pub bytes_out: f64,
    pub rejected: f64,
    pub dropped: f64,
}

/// Counts with when they were looked at, the oldest first.
#[derive(Default)]
pub(super) struct History(VecDeque<(Instant, Counts)>);

impl History {
    pub(super) fn push(&mut self, at: Instant, counts: Counts) {
        while self.0.len() >= HISTORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at, counts));
    }

    pub(super) fn counts(&self) -> Vec<Counts> {
        self.0.iter().map(|(_, counts)| *counts).collect()
    }

    pub(super) fn rates(&self) -> Rates {
        let (Some(oldest), Some(newest)) = (self.0.front(), self.0.back()) else { return Rates::default() };
        let is_recent = |(at, _): &&(Instant, Counts)| newest.0.saturating_duration_since(*at) <= IN_OVER;
        let recent = self.0.iter().find(is_recent).unwrap_or(newest);
        let per_second = |since: &(Instant, Counts), of: fn(&Counts) -> u64| {
            let seconds = newest.0.saturating_duration_since(since.0).as_secs_f64();
            if seconds > 0.0 { of(&newest.1).saturating_sub(of(&since.1)) as f64 / seconds } else { 0.0 }
        };
        Rates {
            records_in: per_second(recent, |counts| counts.records_in),
            bytes_in: per_second(recent, |counts| counts.bytes_in),
            records_out: per_second(oldest, |counts| counts.records_out),
            bytes_out: per_second(oldest, |counts| counts.bytes_out),
            rejected: per_second(recent, |counts| counts.rejected),
            dropped: per_second(recent, |counts| counts.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_measured_over_seconds_and_what_goes_over_the_minute() {
        let (mut history, start) = (History::default(), Instant::now());
        assert_eq!(history.rates(), Rates::default());
        // A hundred a second for 90 seconds, then a silence of three; one object of 3,000 rows each half a minute.
        for second in 0..=93u64 {
            let counts =
                Counts { records_in: 100 * second.min(90), records_out: 3000 * (second / 30), ..Counts::default() };
            history.push(start + Duration::from_secs(second), counts);
        }
        assert_eq!(history.counts().len(), HISTORY_MAX);
        let rates = history.rates();
        assert_eq!(rates.records_in, 100.0 * 2.0 / 5.0);
        assert_eq!(rates.records_out, 3000.0 * 2.0 / 59.0);
    }
}
