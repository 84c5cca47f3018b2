//! Gathers the small reads of a shard into larger ones, for a transform that is paid by the call.
//!
//! ```text
//! inner reads   |..|...|.|  (nothing now)   |.....|.....|.....|     |.|   (nothing for the interval)
//! handed on     |........|                  |.................|     |.|
//!                size_bytes reached          size_bytes_most         interval
//! ```
//! What is held counts as memory of encoders, until the next read is asked for: when that is short, less is gathered.
//! The promise: it is a reader like any other. What it holds has not moved its position, so nothing is lost when it is
//! dropped, and a read that was cancelled goes on with what is gathered.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::{Read, Reader};
use crate::budget;
use crate::error::Fault;
use crate::position::Position;
use crate::record::Batch;

/// Records that are handed on at once, about: they cost memory however small they are.
pub const RECORDS_MOST: usize = 1 << 16;

/// When gathered records are handed on: at the first of these, and at once when the shard ends or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// Payload bytes that are enough if no more can be read now.
    pub size_bytes: u64,
    /// Payload bytes that are enough even if there is more; or twice as many bytes of memory.
    pub size_bytes_most: u64,
    /// How long the first of them waits. With none, what can be read now is gathered.
    pub interval: Duration,
}

impl Gather {
    /// A reader that hands on in larger pieces what `inner` reads. `at_once`: the first time records do not wait for the
    /// interval, as they have done so before a fault.
    pub fn reader(self, inner: Box<dyn Reader>, account: budget::Held, at_once: bool) -> Box<dyn Reader> {
        let position = inner.position();
        let interval = if at_once { Duration::ZERO } else { self.interval };
        Box::new(Gathering { inner, gather: self, interval, position, held: None, over: None, account })
    }
}

struct Gathering {
    inner: Box<dyn Reader>,
    gather: Gather,
    /// How long the first of what is held waits; `gather`'s, but for the first time.
    interval: Duration,
    /// Where what is held begins.
    position: Position,
    held: Option<Held>,
    /// What the inner reader answered behind what is held: its end, or a fault.
    over: Option<Result<Option<Read>, Fault>>,
    /// The memory of what is held, and of what was handed on last.
    account: budget::Held,
}

struct Held {
    batches: Vec<Batch>,
    records: usize,
    bytes: u64,
    memory_bytes: usize,
    end: Position,
    deadline: Instant,
}

impl Gathering {
    fn hold(&mut self, read: Read) {
        let Read { batch, end } = read;
        let deadline = Instant::now() + self.interval;
        let held = self.held.get_or_insert_with(|| Held {
            batches: Vec::new(),
            records: 0,
            bytes: 0,
            memory_bytes: 0,
            end: end.clone(),
            deadline,
        });
        held.records += batch.len();
        held.bytes += batch.payload_bytes();
        held.memory_bytes += batch.memory();
        held.batches.push(batch);
        held.end = end;
        self.account.set(held.memory_bytes);
    }

    /// Whether no more is to be read before what is held is handed on. A gap of the log waits for nobody.
    fn is_full(&self) -> bool {
        let Some(held) = &self.held else { return self.over.is_some() };
        let memory_bytes_most = usize::try_from(self.gather.size_bytes_most.saturating_mul(2)).unwrap_or(usize::MAX);
        self.over.is_some()
            || held.records == 0
            || held.records >= RECORDS_MOST
            || held.bytes >= self.gather.size_bytes_most
            || held.memory_bytes >= memory_bytes_most
            || self.account.is_too_much()
            // Reads that never wait would not let the clock have its say.
            || !self.interval.is_zero() && held.deadline <= Instant::now()
    }
}

#[async_trait]
impl Reader for Gathering {
    fn position(&self) -> Position {
        self.position.clone()
    }

    fn tail(&self) -> Position {
        self.inner.tail()
    }

    fn owed(&self) -> Option<Position> {
        self.inner.owed()
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        if self.held.is_none() {
            self.account.set(0);
        }
        while !self.is_full() {
            let enough = self.held.as_ref().map(|held| (held.bytes >= self.gather.size_bytes, held.deadline));
            let handed_on = async {
                match enough {
                    None => std::future::pending().await,
                    Some((true, _)) => {}
                    Some((false, deadline)) => sleep_until(deadline).await,
                }
            };
            tokio::select! {
                biased;
                read = self.inner.next() => match read {
                    Ok(Some(read)) => self.hold(read),
                    over => self.over = Some(over),
                },
                () = handed_on => break,
            }
        }
        match self.held.take() {
            Some(held) => {
                self.position = held.end.clone();
                self.interval = self.gather.interval;
                Ok(Some(Read { batch: Batch::join(held.batches), end: held.end }))
            }
            None => self.over.take().unwrap_or(Ok(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::budget::Budget;
    use crate::error::Blame;
    use crate::record::BatchBuilder;

    /// Reads what a test sends: a number of records, or a fault. Its end is the end of the shard.
    struct Sent {
        given: mpsc::UnboundedReceiver<Result<u64, Fault>>,
        position: u64,
        payload_bytes: usize,
    }

    #[async_trait]
    impl Reader for Sent {
        fn position(&self) -> Position {
            self.position.into()
        }

        fn tail(&self) -> Position {
            (self.position + self.given.len() as u64).into()
        }

        async fn next(&mut self) -> Result<Option<Read>, Fault> {
            let Some(records) = self.given.recv().await.transpose()? else { return Ok(None) };
            let mut batch = BatchBuilder::default();
            (0..records).for_each(|n| {
                batch.push(format!("{:0width$}", self.position + n, width = self.payload_bytes).as_bytes(), 0)
            });
            self.position += records.max(1);
            Ok(Some(Read { batch: batch.finish(), end: self.position.into() }))
        }
    }

    type Sender = mpsc::UnboundedSender<Result<u64, Fault>>;

    const INTERVAL: Duration = Duration::from_secs(60);

    /// Ten records are enough, thirty at most.
    fn gathering() -> (Sender, Box<dyn Reader>) {
        let gather = Gather { size_bytes: 1000, size_bytes_most: 3000, interval: INTERVAL };
        gathering_of(100, gather, &Budget::new(usize::MAX), false)
    }

    fn gathering_of(payload_bytes: usize, gather: Gather, budget: &Budget, at_once: bool) -> (Sender, Box<dyn Reader>) {
        let (sender, given) = mpsc::unbounded_channel();
        let sent = Box::new(Sent { given, position: 0, payload_bytes });
        (sender, gather.reader(sent, budget.hold(), at_once))
    }

    /// How many records are handed on, and where they end.
    async fn next(reader: &mut dyn Reader) -> (usize, Position) {
        let read = reader.next().await.unwrap().unwrap();
        assert_eq!(reader.position(), read.end);
        let numbers = read.batch.payloads().map(|payload| str::from_utf8(payload).unwrap().parse::<u64>().unwrap());
        assert!(numbers.collect::<Vec<_>>().windows(2).all(|two| two[0] + 1 == two[1]), "in order");
        (read.batch.len(), read.end)
    }

    #[tokio::test(start_paused = true)]
    async fn enough_is_handed_on_when_there_is_no_more_and_at_most_so_much() {
        let (sender, mut reader) = gathering();
        let began = Instant::now();
        sender.send(Ok(4)).unwrap();
        sender.send(Ok(5)).unwrap();
        assert!(reader.next().now_or_never().is_none(), "nine are not enough");
        assert_eq!(reader.position(), Position::from(0), "nothing has moved");
        sender.send(Ok(3)).unwrap();
        assert_eq!(next(&mut *reader).await, (12, 12.into()));
        (0..8).for_each(|_| sender.send(Ok(8)).unwrap());
        assert_eq!(next(&mut *reader).await, (32, 44.into()), "the read that makes it full is whole");
        assert_eq!(next(&mut *reader).await, (32, 76.into()));
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_record_waits_for_the_interval_at_most() {
        let (sender, mut reader) = gathering();
        let began = Instant::now();
        sender.send(Ok(1)).unwrap();
        assert!(reader.next().now_or_never().is_none());
        tokio::time::advance(INTERVAL / 2).await;
        sender.send(Ok(1)).unwrap();
        assert!(reader.next().now_or_never().is_none(), "a read that was cancelled goes on");
        assert_eq!(next(&mut *reader).await, (2, 2.into()));
        assert_eq!(began.elapsed().as_secs(), INTERVAL.as_secs(), "from the first on, not from the second");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_a_fault_and_a_gap_wait_for_nobody() {
        let (sender, mut reader) = gathering();
        let began = Instant::now();
        sender.send(Ok(0)).unwrap();
        assert_eq!(next(&mut *reader).await, (0, 1.into()), "a gap");
        sender.send(Ok(2)).unwrap();
        sender.send(Err(Fault::new(Blame::Source, "gone"))).unwrap();
        assert_eq!(next(&mut *reader).await, (2, 3.into()), "what was good comes first");
        assert_eq!(reader.next().await.unwrap_err().to_string(), "gone");
        sender.send(Ok(2)).unwrap();
        drop(sender);
        assert_eq!(next(&mut *reader).await, (2, 5.into()));
        for _ in 0..2 {
            assert!(reader.next().await.unwrap().is_none(), "the end stays the end");
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn records_without_bytes_are_handed_on_too() {
        let gather = Gather { size_bytes: u64::MAX, size_bytes_most: u64::MAX, interval: INTERVAL };
        let (sender, mut reader) = gathering_of(1, gather, &Budget::new(usize::MAX), false);
        (0..3).for_each(|_| sender.send(Ok(RECORDS_MOST as u64 / 2)).unwrap());
        let began = Instant::now();
        assert_eq!(next(&mut *reader).await.0, RECORDS_MOST);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn small_records_count_as_the_memory_they_take() {
        let gather = Gather { size_bytes: 1000, size_bytes_most: 1000, interval: INTERVAL };
        let (sender, mut reader) = gathering_of(4, gather, &Budget::new(usize::MAX), false);
        (0..20).for_each(|_| sender.send(Ok(10)).unwrap());
        assert_eq!(next(&mut *reader).await.0, 100, "each takes 4 bytes, and 16 beside them");
    }

    #[tokio::test(start_paused = true)]
    async fn when_memory_is_short_less_is_gathered() {
        let budget = Budget::new(1 << 20);
        let gather = Gather { size_bytes: 1 << 20, size_bytes_most: 1 << 20, interval: INTERVAL };
        let (sender, mut reader) = gathering_of(100, gather, &budget, false);
        (0..20).for_each(|_| sender.send(Ok(1000)).unwrap());
        let began = Instant::now();
        let (records, _) = next(&mut *reader).await;
        assert_eq!(records, 5000, "half a mebibyte is for encoders");
        assert_eq!(budget.in_use().encoders, 5000 * 116, "they count for as long as the transform has them");
        let mut small = budget.hold();
        small.set(1 << 19);
        assert_eq!(next(&mut *reader).await.0, 3000, "an even share of it, beside another");
        drop(reader);
        assert_eq!(budget.in_use().encoders, 1 << 19);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_before_a_fault_does_not_wait_again() {
        let gather = Gather { size_bytes: 1000, size_bytes_most: 3000, interval: INTERVAL };
        let (sender, mut reader) = gathering_of(100, gather, &Budget::new(usize::MAX), true);
        let began = Instant::now();
        (0..3).for_each(|_| sender.send(Ok(1)).unwrap());
        assert_eq!(next(&mut *reader).await.0, 3, "all that is there");
        assert_eq!(began.elapsed(), Duration::ZERO);
        sender.send(Ok(1)).unwrap();
        assert_eq!(next(&mut *reader).await.0, 1);
        assert_eq!(began.elapsed().as_secs(), INTERVAL.as_secs(), "only the first time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_in_between_takes_nothing_and_the_clock_counts_on() {
        let (sender, mut reader) = gathering();
        sender.send(Ok(3)).unwrap();
        assert!(reader.next().now_or_never().is_none(), "a chunk's interval is over");
        tokio::time::advance(INTERVAL * 2).await;
        (0..9).for_each(|_| sender.send(Ok(1)).unwrap());
        assert_eq!(next(&mut *reader).await, (3, 3.into()), "its own is over as well");
        assert_eq!(next(&mut *reader).await.0, 9);
    }
}
