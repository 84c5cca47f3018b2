//! The transforms of a way, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::budget::Budget;
use crate::error::{Fault, Reason};
use crate::live::tap::{Stage, Taps};
use crate::metrics::PipelineMetrics;
use crate::position::Position;
use crate::record::Batch;
use crate::source::gather::Gather;
use crate::source::{Read, Reader};
use crate::transform::{BYTES_MAX, RECORDS_MAX, Transform, Transformed};

/// The transforms of a pipeline, in their order.
pub struct Transforms {
    chain: Arc<[Arc<dyn Transform>]>,
    pipeline: String,
    metrics: PipelineMetrics,
    /// As the first of them that is paid by the call wants it.
    gather: Option<Gather>,
    /// Whether every record of the last batch was set aside.
    all_failed: AtomicBool,
}

impl Transforms {
    /// These, of this pipeline.
    pub fn new(pipeline: &str, chain: Vec<Arc<dyn Transform>>, metrics: &PipelineMetrics) -> Transforms {
        Transforms {
            gather: chain.iter().find_map(|transform| transform.gather()),
            chain: chain.into(),
            pipeline: pipeline.to_owned(),
            metrics: metrics.clone(),
            all_failed: AtomicBool::new(false),
        }
    }

    /// A reader of what becomes of `reader`'s records; one that gathers, if one of them is paid by the call. `at_once`:
    /// its first records have waited to be gathered before.
    pub fn reader(&self, reader: Box<dyn Reader>, budget: &Budget, at_once: bool) -> Transforming<'_> {
        let reader = match self.gather {
            Some(gather) => gather.reader(reader, budget.hold(), at_once),
            None => reader,
        };
        Transforming { reader, transforms: self, under_way: None }
    }

    /// Lets go what they have kept ready and nobody has used for long.
    pub fn let_go_idle(&self) {
        self.chain.iter().for_each(|transform| transform.let_go_idle());
    }

    /// Them in words, such as `wasm redact.wasm`, in their order.
    pub fn shown(&self) -> Vec<String> {
        self.chain.iter().map(|transform| transform.shown()).collect()
    }

    /// A transform cannot work now: whoever reads the records again says so.
    fn say_waiting(&self) {
        self.all_failed.store(true, Ordering::Relaxed);
        self.metrics.transforms_failing.set(1);
    }

    /// Says so when transforms begin to set everything aside, and when that is over.
    fn judge(&self, done: &UnderWay) {
        if done.records == 0 {
            return;
        }
        let all_fail = done.rejected >= done.records && done.passed == 0;
        if self.all_failed.swap(all_fail, Ordering::Relaxed) == all_fail {
            return;
        }
        self.metrics.transforms_failing.set(i64::from(all_fail));
        match done.why.as_ref().filter(|_| all_fail) {
            Some(Reason { message, .. }) => {
                tracing::error!(pipeline = self.pipeline, reason = message, "transforms set every record aside");
            }
            None => tracing::info!(pipeline = self.pipeline, "transforms let records through again"),
        }
    }
}

/// Reads a shard, and takes what it reads through the transforms.
pub struct Transforming<'t> {
    reader: Box<dyn Reader>,
    transforms: &'t Transforms,
    under_way: Option<UnderWay>,
}

/// What became of the records of one read, or of some of them.
pub struct Piece {
    pub transformed: Transformed,
    /// The position behind the whole read.
    pub end: Position,
    /// Whether the read is complete with it. Until then a chunk cannot end.
    pub is_last: bool,
}

impl Transforming<'_> {
    /// Where the next read begins.
    pub fn position(&self) -> Position {
        self.reader.position()
    }

    /// The end of what can be read now, as far as known.
    pub fn tail(&self) -> Position {
        self.reader.tail()
    }

    /// What is still owed to those who handed records over; see [`Reader::owed`].
    pub fn owed(&self) -> Option<Position> {
        self.reader.owed()
    }

    /// Whether records of a read are on their way through the transforms: it is not complete.
    pub fn is_amid_a_read(&self) -> bool {
        self.under_way.is_some()
    }

    /// What became of the next records; `None`: the shard has ended for good.
    ///
    /// Cancel-safe: what a transform was at work on is given to it again. After a fault the shard is to be opened anew.
    pub async fn next(&mut self) -> Result<Option<Piece>, Fault> {
        let taps = self.transforms.metrics.live.taps();
        let under_way = match &mut self.under_way {
            Some(under_way) => under_way,
            None => {
                let Some(Read { batch, end }) = self.reader.next().await? else { return Ok(None) };
                self.transforms.metrics.read(batch.len() as u64, batch.payload_bytes());
                taps.pass(Stage::Source, &batch);
                self.under_way.insert(UnderWay::new(self.transforms.chain.clone(), batch, end))
            }
        };
        let transformed = under_way.next(taps).await.inspect_err(|_| self.transforms.say_waiting())?;
        let (end, is_last) = (under_way.end.clone(), under_way.todo.is_empty());
        if is_last && let Some(done) = self.under_way.take() {
            self.transforms.judge(&done);
        }
        Ok(Some(Piece { transformed, end, is_last }))
    }
}

/// A read on its way through the transforms.
struct UnderWay {
    end: Position,
    chain: Arc<[Arc<dyn Transform>]>,
    /// Batches, and how many transforms they have been through; the last comes next.
    todo: Vec<(usize, Batch)>,
    /// What was set aside and dropped since the last piece.
    aside: Transformed,
    records: usize,
    passed: usize,
    rejected: usize,
    why: Option<Reason>,
}

impl UnderWay {
    fn new(chain: Arc<[Arc<dyn Transform>]>, batch: Batch, end: Position) -> UnderWay {
        let records = batch.len();
        let aside = Transformed::default();
        let mut under_way =
            UnderWay { end, chain, todo: Vec::new(), aside, records, passed: 0, rejected: 0, why: None };
        under_way.put(0, batch);
        under_way
    }

    /// What the next records have become at the end of the chain. Each batch goes all the way before the next one sets out,
    /// so that there is never more than one of each transform's outputs.
    async fn next(&mut self, taps: &Taps) -> Result<Transformed, Fault> {
        while let Some((stage, batch)) = self.todo.last() {
            let stage = *stage;
            let Some(transform) = self.chain.get(stage) else {
                let batch = self.todo.pop().map(|(_, batch)| batch).unwrap_or_default();
                self.passed += batch.len();
                taps.pass(Stage::Format, &batch);
                return Ok(Transformed { batch, ..std::mem::take(&mut self.aside) });
            };
            let records = batch.len();
            let Transformed { batch, rejected, dropped, left } = transform.apply(batch.clone()).await?;
            assert!(left.len() < records, "a transform takes one record at least");
            taps.pass(Stage::Transform(stage), &batch);
            self.todo.pop();
            self.rejected += rejected.len();
            if self.why.is_none() {
                self.why = rejected.first().map(|first| first.reason.clone());
            }
            self.aside.rejected.extend(rejected);
            self.aside.dropped += dropped;
            self.put(stage, left);
            self.put(stage + 1, batch);
        }
        Ok(std::mem::take(&mut self.aside))
    }

    fn put(&mut self, stage: usize, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        let as_it_is = self.chain.get(stage).is_none_or(|transform| transform.gather().is_some());
        let (records_max, bytes_max) = if as_it_is { (usize::MAX, u64::MAX) } else { (RECORDS_MAX, BYTES_MAX) };
        let pieces = batch.pieces(records_max, bytes_max);
        self.todo.extend(pieces.into_iter().rev().map(|piece| (stage, piece)));
    }
}
