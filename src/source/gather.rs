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
