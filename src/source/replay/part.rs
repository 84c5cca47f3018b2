//! A part of a log as a shard of its own: records `from..to` of one whose positions are numbers of records, as a spool's are.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::error::{Blame, Fault};
use crate::position::{Position, Shard};
use crate::source::{Read, Reader, Source};

/// Records `from..to` of another source's log, read as another shard.
pub struct PartSource {
    inner: Box<dyn Source>,
    log: Shard,
    shard: Shard,
    from: u64,
    to: u64,
    /// Whether the log is told what is delivered; not, where that would let others' records go.
    releases: bool,
    given: AtomicBool,
}

impl PartSource {
    /// Records `from..to` of `log`, which `inner` gives, as `shard`.
    pub fn new(
        inner: Box<dyn Source>,
        (log, shard): (Shard, Shard),
        (from, to): (u64, u64),
        releases: bool,
    ) -> PartSource {
        PartSource { inner, log, shard, from, to, releases, given: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Source for PartSource {
    async fn next_shard(&self) -> Result<Option<Shard>, Fault> {
        let first = !self.given.swap(true, Ordering::Relaxed);
        Ok(first.then(|| self.shard.clone()))
    }

    async fn open(&self, shard: &Shard, from: Option<&Position>) -> Result<Box<dyn Reader>, Fault> {
        let start = Position::from(self.from);
        let from = from.unwrap_or(&start);
        if *shard != self.shard || *from < start || *from > self.to.into() {
            return Err(Fault::new(Blame::Disk, format!("replay: {shard} from {from} is not of this plan")));
        }
        if *from == self.to.into() {
            return Ok(Box::new(PartReader { inner: None, to: self.to }));
        }
        let inner = self.inner.open(&self.log, Some(from)).await?;
        Ok(Box::new(PartReader { inner: Some(inner), to: self.to }))
    }

    async fn release(&self, _shard: &Shard, upto: &Position) -> Result<(), Fault> {
        match self.releases {
            true => self.inner.release(&self.log, upto).await,
            false => Ok(()),
        }
    }
}

struct PartReader {
    /// None: all of it was read before.
    inner: Option<Box<dyn Reader>>,
    to: u64,
}

#[async_trait]
impl Reader for PartReader {
    fn position(&self) -> Position {
        let to = Position::from(self.to);
        self.inner.as_ref().map_or(to.clone(), |inner| inner.position().min(to))
    }

    fn tail(&self) -> Position {
        self.to.into()
    }

    async fn next(&mut self) -> Result<Option<Read>, Fault> {
        let to = Position::from(self.to);
        let Some(inner) = self.inner.as_mut().filter(|inner| inner.position() < to) else { return Ok(None) };
        let Some(Read { batch, end }) = inner.next().await? else { return Ok(None) };
        if end <= to {
            return Ok(Some(Read { batch, end }));
        }
        // The last record has the number before the end.
        let beyond = end.as_u64().unwrap_or(u64::MAX).saturating_sub(self.to);
        let kept = (batch.len() as u64).saturating_sub(beyond);
        let rows: Vec<u32> = (0..u32::try_from(kept).unwrap_or(u32::MAX)).collect();
        Ok(Some(Read { batch: batch.select(&rows), end: to }))
    }
}
