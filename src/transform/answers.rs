//! Collects what becomes of a batch's records.

use crate::error::{Reason, RejectedBy};
use crate::record::{Batch, BatchBuilder};

use super::{Invoked, Rejected, Transformed};

/// What became of records of one batch so far. Each record is answered once: with outputs, dropped, or rejected.
#[derive(Debug, Default)]
pub struct Answers {
    out: BatchBuilder,
    rejected: Vec<Rejected>,
    dropped: u64,
}

impl Answers {
    /// Room for what becomes of this batch, if that is about as much.
    pub fn with_room_for(batch: &Batch) -> Answers {
        let bytes = usize::try_from(batch.payload_bytes()).unwrap_or(0);
        Answers { out: BatchBuilder::with_capacity(batch.len(), bytes), ..Answers::default() }
    }

    /// Record `row` becomes this, among others perhaps, with these partition keys beside those that it has.
    pub fn push(&mut self, batch: &Batch, row: usize, payload: &[u8], keys: &[(&str, &str)]) {
        self.out.push_from(batch, row, payload, keys);
    }

    /// A record is left out.
    pub fn drop_one(&mut self) {
        self.dropped += 1;
    }

    /// Record `row` is set aside.
    pub fn reject(&mut self, batch: &Batch, row: usize, reason: Reason) {
        self.rejected.push(Rejected::new(batch.share(row), batch.arrival_ms(row), reason));
    }

    /// Record `row` is set aside by a transform.
    pub fn fail(&mut self, batch: &Batch, row: usize, code: &'static str, message: impl Into<String>) {
        self.reject(batch, row, Reason { by: RejectedBy::Transform, code, message: message.into() });
    }

    /// Record `row` is set aside after a function was called.
    pub fn fail_after(
        &mut self,
        batch: &Batch,
        row: usize,
        invoked: &Invoked,
        code: &'static str,
        message: impl Into<String>,
    ) {
        let reason = Reason { by: RejectedBy::Transform, code, message: message.into() };
        let rejected = Rejected::new(batch.share(row), batch.arrival_ms(row), reason);
        self.rejected.push(Rejected { invoked: Some(invoked.clone()), ..rejected });
    }

    /// Payload bytes of outputs so far.
    pub fn bytes(&self) -> usize {
        self.out.bytes()
    }

    /// Outputs so far.
    pub fn outputs(&self) -> usize {
        self.out.len()
    }

    /// All of it.
    pub fn finish(self) -> Transformed {
        Transformed { batch: self.out.finish(), rejected: self.rejected, dropped: self.dropped, left: Batch::default() }
    }
}
