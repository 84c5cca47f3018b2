//! The transforms of a way, one after the other; they can be replaced between two batches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::Fault;
use crate::metrics::PipelineMetrics;
use crate::record::Batch;
use crate::transform::{RECORDS_MAX, Transform, Transformed};

/// The transforms of a pipeline, in their order.
pub struct Transforms {
    chain: RwLock<Arc<[Arc<dyn Transform>]>>,
    pipeline: String,
    metrics: PipelineMetrics,
    /// Whether every record of the last batch was set aside.
    all_failed: AtomicBool,
}

impl Transforms {
    /// These, of this pipeline.
    pub fn new(pipeline: &str, chain: Vec<Arc<dyn Transform>>, metrics: &PipelineMetrics) -> Transforms {
        Transforms {
            chain: RwLock::new(chain.into()),
            pipeline: pipeline.to_owned(),
            metrics: metrics.clone(),
            all_failed: AtomicBool::new(false),
        }
    }

    /// A batch in pieces as transforms take them.
    pub fn pieces(&self, batch: Batch) -> Vec<Batch> {
        batch.pieces(if self.chain().is_empty() { usize::MAX } else { RECORDS_MAX })
    }

    /// Takes a batch through all of them. May be cancelled: then its records are to be read again.
    pub async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let records = batch.len();
        let mut so_far = Transformed { batch, ..Transformed::default() };
        for transform in self.chain().iter() {
            if so_far.batch.is_empty() {
                break;
            }
            let mut next = transform.apply(so_far.batch).await?;
            next.rejected.splice(0..0, so_far.rejected);
            next.dropped += so_far.dropped;
            so_far = next;
        }
        if records > 0 {
            self.judge(records, &so_far);
        }
        Ok(so_far)
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
