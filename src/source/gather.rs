//! Gathers the small reads of a shard into larger ones, for a transform that is paid by the call.
//!
//! ```text
//! inner reads   |..|...|.|  (nothing now)   |.....|.....|.....|     |.|   (nothing for the interval)
//! handed on     |........|                  |.................|     |.|
//!                size_bytes reached          size_bytes_most         interval
//! ```
//! The promise: it is a reader like any other. What it holds has not moved its position, so nothing is lost when it is
//! dropped, and a read that was cancelled goes on with what is gathered.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::{Read, Reader};
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
    /// Payload bytes that are enough even if there is more.
    pub size_bytes_most: u64,
    /// How long the first of them waits.
    pub interval: Duration,
}

impl Gather {
    /// A reader that hands on in larger pieces what `inner` reads.
    pub fn reader(self, inner: Box<dyn Reader>) -> Box<dyn Reader> {
        let position = inner.position();
        Box::new(Gathering { inner, gather: self, position, held: None, over: None })
    }
}

struct Gathering {
    inner: Box<dyn Reader>,
    gather: Gather,
    /// Where what is held begins.
    position: Position,
    held: Option<Held>,
    /// What the inner reader answered behind what is held: its end, or a fault.
    over: Option<Result<Option<Read>, Fault>>,
}

struct Held {
    batches: Vec<Batch>,
    records: usize,
    bytes: u64,
    end: Position,
    deadline: Instant,
}

impl Gathering {
    fn hold(&mut self, read: Read) {
        let Read { batch, end } = read;
        let deadline = Instant::now() + self.gather.interval;
        let held = self.held.get_or_insert_with(|| Held {
            batches: Vec::new(),
            records: 0,
            bytes: 0,
            end: end.clone(),
            deadline,
        });
        held.records += batch.len();
        held.bytes += batch.payload_bytes();
        held.batches.push(batch);
        held.end = end;
    }

    /// Whether no more is to be read before what is held is handed on. A gap of the log waits for nobody.
    fn is_full(&self) -> bool {
        let full = |held: &Held| {
            held.records == 0 || held.records >= RECORDS_MOST || held.bytes >= self.gather.size_bytes_most
        };
        self.over.is_some() || self.held.as_ref().is_some_and(full)
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

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
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
    use crate::error::Blame;
    use crate::record::BatchBuilder;

    /// Reads what a test sends: a number of records of ten bytes, or a fault. Its end is the end of the shard.
    struct Sent {
        given: mpsc::UnboundedReceiver<Result<u64, Fault>>,
        position: u64,
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
            (0..records).for_each(|n| batch.push(format!("{:010}", self.position + n).as_bytes(), 0));
            self.position += records.max(1);
            Ok(Some(Read { batch: batch.finish(), end: self.position.into() }))
        }
    }

    type Sender = mpsc::UnboundedSender<Result<u64, Fault>>;

    const INTERVAL: Duration = Duration::from_secs(60);

    /// Ten records are enough, thirty at most.
    fn gathering() -> (Sender, Box<dyn Reader>) {
        let (sender, given) = mpsc::unbounded_channel();
        let gather = Gather { size_bytes: 100, size_bytes_most: 300, interval: INTERVAL };
        (sender, gather.reader(Box::new(Sent { given, position: 0 })))
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
        let (sender, given) = mpsc::unbounded_channel();
        let gather = Gather { size_bytes: u64::MAX, size_bytes_most: u64::MAX, interval: INTERVAL };
        let mut reader = gather.reader(Box::new(Sent { given, position: 0 }));
        (0..3).for_each(|_| sender.send(Ok(RECORDS_MOST as u64 / 2)).unwrap());
        let began = Instant::now();
        assert_eq!(next(&mut *reader).await.0, RECORDS_MOST);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
