//! The transforms of a way, one after the other; they can be replaced between two batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Fault;
use crate::metrics::PipelineMetrics;
use crate::record::Batch;
use crate::source::Reader;
use crate::source::gather::Gather;
use crate::transform::{RECORDS_MAX, Transform, Transformed};

/// The transforms of a pipeline, in their order.
pub struct Transforms {
    chain: RwLock<Arc<[Arc<dyn Transform>]>>,
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
            chain: RwLock::new(chain.into()),
            pipeline: pipeline.to_owned(),
            metrics: metrics.clone(),
            all_failed: AtomicBool::new(false),
        }
    }

    /// The reader as they want it: one that gathers, if one of them is paid by the call.
    pub fn reader(&self, reader: Box<dyn Reader>) -> Box<dyn Reader> {
        match self.gather {
            Some(gather) => gather.reader(reader),
            None => reader,
        }
    }

    /// A batch in pieces to be taken through one after the other; what was gathered stays together.
    pub fn pieces(&self, batch: Batch) -> Vec<Batch> {
        let as_it_is = self.gather.is_some() || self.chain().is_empty();
        batch.pieces(if as_it_is { usize::MAX } else { RECORDS_MAX })
    }

    /// Takes a batch through all of them. May be cancelled: then its records are to be read again.
    pub async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let records = batch.len();
        let mut so_far = Transformed { batch, ..Transformed::default() };
        for transform in self.chain().iter() {
            if so_far.batch.is_empty() {
                break;
            }
            let next = apply_one(&**transform, so_far.batch).await;
            let mut next = next.inspect_err(|_| self.wait())?;
            next.rejected.splice(0..0, so_far.rejected);
            next.dropped += so_far.dropped;
            so_far = next;
        }
        if records > 0 {
            self.judge(records, &so_far);
        }
        Ok(so_far)
    }

    /// A transform cannot be had: whoever reads the records again says so.
    fn wait(&self) {
        self.all_failed.store(true, Ordering::Relaxed);
        self.metrics.transforms_failing.set(1);
    }

    /// Says so when transforms begin to set everything aside, and when that is over.
    fn judge(&self, records: usize, transformed: &Transformed) {
        let all_fail = transformed.rejected.len() >= records && transformed.batch.is_empty();
        if self.all_failed.swap(all_fail, Ordering::Relaxed) == all_fail {
            return;
        }
        self.metrics.transforms_failing.set(i64::from(all_fail));
        match transformed.rejected.first().filter(|_| all_fail) {
            Some(first) => {
                let reason = first.reason.message.as_str();
                tracing::error!(pipeline = self.pipeline, reason, "transforms set every record aside");
            }
            None => tracing::info!(pipeline = self.pipeline, "transforms let records through again"),
        }
    }

    /// Puts new ones in the place of those whose files have changed, for the batches that come. One that cannot be had
    /// leaves the old one. Blocks; nobody waits for it.
    pub fn renew(&self) {
        let chain = self.chain();
        let renewed: Vec<_> = chain.iter().map(|transform| (transform, transform.renewed())).collect();
        if renewed.iter().all(|(_, renewed)| matches!(renewed, Ok(None))) {
            return;
        }
        let next = renewed.into_iter().map(|(old, renewed)| match renewed {
            Ok(None) => old.clone(),
            Ok(Some(new)) => {
                tracing::info!(pipeline = self.pipeline, transform = new.shown(), "changed: in use from now on");
                new
            }
            Err(fault) => {
                let error = format!("{:#}", fault.error);
                tracing::error!(
                    pipeline = self.pipeline,
                    transform = old.shown(),
                    error,
                    "changed: the old one goes on"
                );
                old.clone()
            }
        });
        let next = next.collect();
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn chain(&self) -> Arc<[Arc<dyn Transform>]> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes a batch of any size through one of them.
async fn apply_one(transform: &dyn Transform, batch: Batch) -> Result<Transformed, Fault> {
    let records_max = if transform.gather().is_some() { usize::MAX } else { RECORDS_MAX };
    if batch.len() <= records_max {
        return transform.apply(batch).await;
    }
    let (mut all, mut batches) = (Transformed::default(), Vec::new());
    for piece in batch.pieces(records_max) {
        let next = transform.apply(piece).await?;
        batches.push(next.batch);
        all.rejected.extend(next.rejected);
        all.dropped += next.dropped;
    }
    Ok(Transformed { batch: Batch::join(batches), ..all })
}
