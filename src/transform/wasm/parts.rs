//! A batch in parts, and the search for the records at fault.
//!
//! A part goes to a guest whole. If the guest fails, the part is tried again by halves, on fresh instances, down to single
//! records; those that fail alone are set aside with the reason, and all others pass. The search is bounded:
//! - A smaller part has less time, in proportion, but never less than a second (or `time_max`, if that is less).
//! - All tries of one part have three times `time_max` (and at least ten seconds) together. What is undecided then is set
//!   aside together, and says so.
//! - A module that fails everything is not searched for ever: after [`FAILED_WHOLE_MAX`] parts in a row of which no record
//!   passed, a few records of a failing part are tried alone first, and if each of them fails too, so does the part. One
//!   that passes ends that.
//!
//! What guests have answered is kept until the parts before are done, and [`Kept`] counts it: once it is enough, no try is
//! begun any more, and the rows from the first that has no answer on are left for another time.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::guest::{Answered, Failure, TIME_LIMIT};
use crate::error::Fault;
use crate::record::Batch;
use crate::units::Interval;

/// Records and payload bytes of a part, at most; a larger record is a part of its own. Measured: from ten records on the
/// cost of a call does not matter, and so much stays in the processor's cache.
const PART_RECORDS_MAX: usize = 500;
const PART_BYTES_MAX: usize = 1 << 20;

/// What a small part has at least, if `time_max` is not less.
const TIME_MIN: Interval = Interval::from_secs(1);
/// The search has so many times `time_max`, and at least this long.
const SEARCH_TIMES: u64 = 3;
const SEARCH_TIME_MIN: Interval = Interval::from_secs(10);

/// After so many parts in a row of which no record passed, so many records are tried before the whole part is.
const FAILED_WHOLE_MAX: u32 = 3;
const PROBES: usize = 8;

/// Gives records to a guest.
pub trait Guests {
    /// One try; to be on an instance that has seen no record, if `fresh`.
    fn call(&self, rows: Range<usize>, time: Interval, fresh: bool) -> Result<Tried, Fault>;
}

/// What came of a try.
pub struct Tried {
    pub outcome: Result<Answered, Failure>,
    /// Whether its instance had seen no record before.
    pub fresh: bool,
    /// Without what it takes to make an instance.
    pub took: Duration,
}

/// Bytes that the answers for a batch take by now, and how many are enough.
#[derive(Debug)]
pub struct Kept {
    bytes: AtomicUsize,
    enough: usize,
}

/// Parts in a row of which no record passed.
#[derive(Debug, Default)]
pub struct FailedWhole(AtomicU32);

/// A part of a batch, on its way to an answer for each record.
#[derive(Debug)]
pub struct Part {
    /// What is to be tried; the last comes next.
    todo: Vec<Todo>,
    done: Vec<Done>,
    time_max: Interval,
    len: usize,
    is_first: bool,
    searched: Duration,
}

/// Rows, and what became of them.
#[derive(Debug)]
pub struct Done {
    pub rows: Range<usize>,
    /// A failure is that of each of them.
    pub outcome: Result<Answered, Failure>,
}

#[derive(Debug)]
enum Todo {
    Whole(Range<usize>),
    /// A piece of a part that failed so.
    Again(Range<usize>, Failure),
    /// These of its rows are to be tried alone.
    Probe(Range<usize>, Failure, Vec<usize>),
}

/// The parts of a batch, in order.
pub fn split(batch: &Batch, time_max: Interval) -> Vec<Part> {
    let mut parts = Vec::with_capacity(batch.len() / PART_RECORDS_MAX + 1);
    let (mut start, mut bytes) = (0, 0);
    for row in 0..batch.len() {
        let of_row = batch.payload(row).len();
        if row > start && (row - start == PART_RECORDS_MAX || bytes + of_row > PART_BYTES_MAX) {
            parts.push(Part::new(start..row, time_max));
            (start, bytes) = (row, 0);
        }
        bytes += of_row;
    }
    if start < batch.len() {
        parts.push(Part::new(start..batch.len(), time_max));
    }
    parts
}

impl Part {
    fn new(rows: Range<usize>, time_max: Interval) -> Part {
        let (len, is_first) = (rows.len(), rows.start == 0);
        Part { todo: vec![Todo::Whole(rows)], done: Vec::new(), time_max, len, is_first, searched: Duration::ZERO }
    }

    /// Whether nothing is to be tried any more.
    pub fn is_done(&self) -> bool {
        self.todo.is_empty()
    }

    /// What became of its first rows, in order: of all, if it is done.
    pub fn done(self) -> Vec<Done> {
        self.done
    }

    /// Whether something became of its first row.
    pub fn has_begun(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether a try may be begun. The first part of a batch goes on until it has something to give, so that the batch
    /// gets shorter.
    pub fn may_go_on(&self, kept: &Kept) -> bool {
        !self.is_done() && (!kept.is_enough() || self.is_first && !self.has_begun())
    }

    /// Makes the next try.
    pub fn step(&mut self, guests: &impl Guests, failed_whole: &FailedWhole, kept: &Kept) -> Result<(), Fault> {
        if let Some(todo) = self.todo.pop() {
            let done_before = self.done.len();
            self.attempt(todo, guests, failed_whole)?;
            let answered = self.done[done_before..].iter().filter_map(|done| done.outcome.as_ref().ok());
            kept.add(answered.map(|answered| answered.bytes).sum());
            // A few records that fail say nothing of the module.
            let failed = self.done.iter().all(|done| done.outcome.is_err());
            if self.is_done() && (!failed || self.len > PROBES) {
                failed_whole.count(failed);
            }
        }
        Ok(())
    }

    fn attempt(&mut self, todo: Todo, guests: &impl Guests, failed_whole: &FailedWhole) -> Result<(), Fault> {
        match todo {
            Todo::Whole(rows) => {
                let Tried { outcome, fresh, .. } = guests.call(rows.clone(), self.time_max, false)?;
                match outcome {
                    Ok(answered) => self.done.push(Done { rows, outcome: Ok(answered) }),
                    // Where time was short, it may have been the machine's: that is asked again.
                    Err(failure) if rows.len() == 1 && fresh && failure.code != TIME_LIMIT => self.fail(rows, failure),
                    Err(failure) if rows.len() > PROBES && failed_whole.is_enough() => {
                        let probes = failed_whole.probes(&rows);
                        self.todo.push(Todo::Probe(rows, failure, probes));
                    }
                    Err(failure) => self.halve(rows, failure),
                }
            }
            Todo::Again(rows, failure) => {
                let Some(time) = self.time_for(rows.len()) else {
                    self.fail_together(rows, failure, "there was no time to find out which is at fault");
                    return Ok(());
                };
                let Tried { outcome, took, .. } = guests.call(rows.clone(), time, true)?;
                self.searched += took;
                match outcome {
                    Ok(answered) => self.done.push(Done { rows, outcome: Ok(answered) }),
                    Err(mut failure) if rows.len() == 1 => {
                        if failure.code == TIME_LIMIT && time < self.time_max {
                            failure.message += &format!(", the share of one record where a part has {}", self.time_max);
                        }
                        self.fail(rows, failure);
                    }
                    Err(failure) => self.halve(rows, failure),
                }
            }
            Todo::Probe(rows, failure, mut probes) => {
                let (Some(row), Some(time)) = (probes.pop(), self.time_for(1)) else {
                    self.fail_together(rows, failure, "the parts before failed too, and some of these alone");
                    return Ok(());
                };
                let Tried { outcome, took, .. } = guests.call(row..row + 1, time, true)?;
                self.searched += took;
                match outcome {
                    Ok(_) => self.halve(rows, failure),
                    Err(_) => self.todo.push(Todo::Probe(rows, failure, probes)),
                }
            }
        }
        Ok(())
    }

    /// How long a piece of the part may take; `None` once the time of the search is over.
    fn time_for(&self, len: usize) -> Option<Interval> {
        let least = TIME_MIN.min(self.time_max);
        let share = Interval::from_millis(self.time_max.millis() * len as u64 / self.len as u64);
        let all = SEARCH_TIME_MIN.max(Interval::from_millis(self.time_max.millis() * SEARCH_TIMES));
        let left = all.duration().saturating_sub(self.searched);
        (left >= least.duration()).then(|| share.max(least))
    }

    /// Both halves again; a single row as it is.
    fn halve(&mut self, rows: Range<usize>, failure: Failure) {
        let middle = rows.start + rows.len() / 2;
        if middle > rows.start {
            self.todo.push(Todo::Again(middle..rows.end, failure.clone()));
            self.todo.push(Todo::Again(rows.start..middle, failure));
        } else {
            self.todo.push(Todo::Again(rows, failure));
        }
    }

    fn fail(&mut self, rows: Range<usize>, failure: Failure) {
        self.done.push(Done { rows, outcome: Err(failure) });
    }

    fn fail_together(&mut self, rows: Range<usize>, failure: Failure, why: &str) {
        let message = match rows.len() {
            1 => failure.message,
            n => format!("{}; set aside with {} records beside it: {why}", failure.message, n - 1),
        };
        self.fail(rows, Failure { message, ..failure });
    }
}

impl Kept {
    /// Nothing yet.
    pub fn new(enough: usize) -> Kept {
        Kept { bytes: AtomicUsize::new(0), enough }
    }

    /// Whether no more is to be had for now.
    pub fn is_enough(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.enough
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl FailedWhole {
    fn is_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FAILED_WHOLE_MAX
    }

    /// Rows spread over these. They lie elsewhere in each part, or a pattern in the records could meet them all.
    fn probes(&self, rows: &Range<usize>) -> Vec<usize> {
        let between = rows.len() / PROBES;
        let mut hasher = DefaultHasher::new();
        (rows.start, self.0.load(Ordering::Relaxed)).hash(&mut hasher);
        let shift = hasher.finish() as usize % between;
        (0..PROBES).map(|n| rows.start + n * between + shift).collect()
    }

    fn count(&self, failed: bool) {
        match failed {
            true => {
                _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |parts| Some(parts.saturating_add(1)))
            }
            false => self.0.store(0, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::record::BatchBuilder;
    use crate::transform::wasm::lift::Lifted;

    /// Fails if a bad row is among those it is given; calls of it are counted, and take their time if they fail.
    struct Fake {
        bad: fn(usize) -> bool,
        slow: bool,
        code: &'static str,
        /// Whether every instance is fresh.
        fresh: bool,
        calls: RefCell<Vec<(Range<usize>, Interval, bool)>>,
    }

    impl Fake {
        fn new(bad: fn(usize) -> bool, slow: bool) -> Fake {
            Fake { bad, slow, code: "Wasm.Trap", fresh: false, calls: RefCell::default() }
        }
    }

    impl Guests for Fake {
        fn call(&self, rows: Range<usize>, time: Interval, fresh: bool) -> Result<Tried, Fault> {
            self.calls.borrow_mut().push((rows.clone(), time, fresh));
            let outcome = match rows.clone().any(self.bad) {
                true => Err(Failure { code: self.code, message: "bad".into() }),
                false => Ok(Answered { answers: Lifted::that_drop(rows.len()), bytes: rows.len() }),
            };
            let took = if self.slow && outcome.is_err() { time.duration() } else { Duration::ZERO };
            Ok(Tried { outcome, fresh: fresh || self.fresh, took })
        }
    }

    const TIME: Interval = Interval::from_secs(10);

    fn batch(records: usize, bytes: usize) -> Batch {
        let mut batch = BatchBuilder::default();
        (0..records).for_each(|_| batch.push(&vec![b'x'; bytes], 0));
        batch.finish()
    }

    /// The failed ranges of one part, and their messages, after it is checked that all rows are answered in order.
    fn failed(part: &mut Part, fake: &Fake, failed_whole: &FailedWhole) -> Vec<(Range<usize>, String)> {
        while !part.is_done() {
            part.step(fake, failed_whole, &Kept::new(usize::MAX)).unwrap();
        }
        let done = std::mem::take(&mut part.done);
        let rows: Vec<usize> = done.iter().flat_map(|done| done.rows.clone()).collect();
        assert!(rows.iter().copied().eq(rows[0]..rows[0] + rows.len()), "each row once, in order: {rows:?}");
        done.into_iter().filter_map(|done| Some((done.rows, done.outcome.err()?.message))).collect()
    }

    fn one_part(records: usize) -> Part {
        let mut parts = split(&batch(records, 1), TIME);
        assert_eq!(parts.len(), 1);
        parts.remove(0)
    }

    #[test]
    fn a_batch_is_cut_by_records_and_bytes_and_a_large_record_is_alone() {
        let sizes = |batch: Batch| -> Vec<Range<usize>> {
            let whole = |part: Part| match part.todo.into_iter().next() {
                Some(Todo::Whole(rows)) => rows,
                other => panic!("{other:?}"),
            };
            split(&batch, TIME).into_iter().map(whole).collect()
        };
        assert!(sizes(batch(0, 0)).is_empty());
        assert_eq!(sizes(batch(1001, 1)), [0..500, 500..1000, 1000..1001]);
        assert_eq!(sizes(batch(5, 512 << 10)), [0..2, 2..4, 4..5]);
        assert_eq!(sizes(batch(3, 2 << 20)), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn one_bad_record_of_500_is_found_in_19_calls_and_on_a_fresh_instance() {
        let (fake, failed_whole) = (Fake::new(|row| row == 137, false), FailedWhole::default());
        assert_eq!(failed(&mut one_part(500), &fake, &failed_whole), [(137..138, "bad".to_owned())]);
        let calls = fake.calls.into_inner();
        assert_eq!(calls.len(), 19);
        assert!(calls.iter().skip(1).all(|(_, _, fresh)| *fresh));
        assert!(calls.iter().any(|(rows, ..)| *rows == (137..138)), "it has failed alone");
    }

    #[test]
    fn a_record_alone_is_tried_again_where_nothing_was_before_it() {
        let (fake, failed_whole) = (Fake::new(|_| true, false), FailedWhole::default());
        assert_eq!(failed(&mut one_part(1), &fake, &failed_whole).len(), 1);
        assert_eq!(fake.calls.into_inner(), [(0..1, TIME, false), (0..1, TIME, true)]);
    }

    #[test]
    fn smaller_parts_have_less_time_and_all_of_them_three_times_the_limit() {
        let (fake, failed_whole) = (Fake::new(|row| row == 3, true), FailedWhole::default());
        let one = failed(&mut one_part(500), &fake, &failed_whole);
        assert_eq!(one, [(3..4, "bad".to_owned())], "there is time for one record that loops");
        let times: Vec<u64> = fake.calls.borrow().iter().map(|(_, time, _)| time.millis()).collect();
        assert_eq!(times[..5], [10_000, 5_000, 2_500, 1_240, 1_000], "{times:?}");

        let fake = Fake::new(|_| true, true);
        let all = failed(&mut one_part(500), &fake, &failed_whole);
        let searched: u64 = fake.calls.borrow().iter().skip(1).map(|(_, time, _)| time.millis()).sum();
        assert!((29_000..=30_000 + 1_000).contains(&searched), "{searched} ms");
        let (rows, message) = all.last().unwrap();
        assert_eq!(rows.len(), 250);
        let why = "there was no time to find out which is at fault";
        assert_eq!(*message, format!("bad; set aside with 249 records beside it: {why}"));
    }

    #[test]
    fn once_enough_is_kept_only_the_first_part_goes_on_until_it_has_something() {
        let (fake, failed_whole) = (Fake::new(|row| row == 0, false), FailedWhole::default());
        let mut parts = split(&batch(1500, 1), TIME);
        let kept = Kept::new(500);
        assert!(parts.iter().all(|part| part.may_go_on(&kept)));
        parts[1].step(&fake, &failed_whole, &kept).unwrap();
        let may_go_on = |parts: &[Part]| parts.iter().map(|part| part.may_go_on(&kept)).collect::<Vec<_>>();
        assert_eq!(may_go_on(&parts), [true, false, false]);
        while parts[0].may_go_on(&kept) {
            parts[0].step(&fake, &failed_whole, &kept).unwrap();
        }
        let done: Vec<usize> = parts[0].done.iter().flat_map(|done| done.rows.clone()).collect();
        assert_eq!(done, [0], "it gets shorter");
        assert!(!parts[0].is_done());
    }

    #[test]
    fn a_record_alone_that_took_too_long_is_asked_again_on_a_fresh_instance_too() {
        let (mut fake, failed_whole) = (Fake::new(|_| true, false), FailedWhole::default());
        fake.code = TIME_LIMIT;
        fake.fresh = true;
        assert_eq!(failed(&mut one_part(1), &fake, &failed_whole).len(), 1);
        assert_eq!(fake.calls.borrow().len(), 2);
        fake.code = "Wasm.Trap";
        assert_eq!(failed(&mut one_part(1), &fake, &failed_whole).len(), 1);
        assert_eq!(fake.calls.borrow().len(), 3, "a trap is sure at once");
    }

    #[test]
    fn bad_records_that_come_alone_say_nothing_of_the_module() {
        let (fake, failed_whole) = (Fake::new(|_| true, false), FailedWhole::default());
        for _ in 0..10 {
            failed(&mut one_part(PROBES), &fake, &failed_whole);
        }
        assert!(!failed_whole.is_enough());
    }

    #[test]
    fn probes_lie_elsewhere_in_each_part() {
        let failed_whole = FailedWhole::default();
        let places: Vec<_> = (0..8).map(|part| failed_whole.probes(&(part * 500..part * 500 + 500))).collect();
        for (part, probes) in places.iter().enumerate() {
            assert!(probes.is_sorted() && probes.iter().all(|row| row / 500 == part), "{probes:?}");
        }
        assert!(places.iter().any(|probes| probes[0] % 500 != places[0][0]));
    }

    #[test]
    fn a_module_that_fails_everything_is_not_searched_for_ever() {
        let (fake, failed_whole) = (Fake::new(|_| true, false), FailedWhole::default());
        let calls_for = |fake: &Fake| {
            let before = fake.calls.borrow().len();
            let failed = failed(&mut one_part(500), fake, &failed_whole);
            (failed.len(), fake.calls.borrow().len() - before)
        };
        for _ in 0..FAILED_WHOLE_MAX {
            assert_eq!(calls_for(&fake), (500, 999));
        }
        assert_eq!(calls_for(&fake), (1, 1 + PROBES));
        let mended = Fake::new(|row| row / 62 != 4, false);
        assert_eq!(calls_for(&mended).0, 500 - 62, "one of the probes passed: all are tried");
        assert!(calls_for(&fake).1 > 100, "and so are those after it");
    }
}
