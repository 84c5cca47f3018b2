//! The process budget: how many bytes may be in memory at once.
//!
//! A quarter is for requests on their way in, a quarter for objects on their way out: both wait for room, and neither for
//! the other, so that a store that hangs cannot keep producers out. Half is for encoders: they never wait; when it is
//! used up, what they hold goes to our disk, or a chunk is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in steps of this size, so that the count fits a semaphore.
pub const STEP_BYTES: usize = 1 << 10;

/// Bytes that may be in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inside>);

#[derive(Debug)]
struct Inside {
    requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    /// Of requests, and of uploads.
    steps: usize,
    held: AtomicUsize,
    holders: AtomicUsize,
    held_bytes_max: usize,
}

/// How many bytes are in memory now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    pub requests: usize,
    pub uploads: usize,
    pub encoders: usize,
}

impl Budget {
    /// A budget of `bytes`, at least 1 MiB.
    pub fn new(bytes: usize) -> Budget {
        let bytes = bytes.max(1 << 20);
        let steps = (bytes / 4 / STEP_BYTES).min(Semaphore::MAX_PERMITS);
        Budget(Arc::new(Inside {
            requests: Arc::new(Semaphore::new(steps)),
            uploads: Arc::new(Semaphore::new(steps)),
            steps,
            held: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            held_bytes_max: bytes / 2,
        }))
    }

    /// The room for requests, one permit for each [`STEP_BYTES`]: receivers take it step by step.
    pub fn requests(&self) -> Arc<Semaphore> {
        self.0.requests.clone()
    }

    /// Waits for room for an upload that holds `bytes` in memory; the room comes back when the permit is dropped. More
    /// than there is counts as all there is. Cancel-safe; first come, first served.
    pub async fn upload(&self, bytes: usize) -> Uploading {
        let steps = bytes.div_ceil(STEP_BYTES).clamp(1, self.0.steps);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        Uploading { _permit: self.0.uploads.clone().acquire_many_owned(steps).await.ok() }
    }

    /// An account for one chunk's encoders.
    pub fn hold(&self) -> Held {
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        Held { budget: self.clone(), bytes: 0 }
    }

    /// The part of the budget that is for encoders, in bytes.
    pub fn encoder_bytes(&self) -> usize {
        self.0.held_bytes_max
    }

    /// How many bytes may be in memory, in all.
    pub fn bytes(&self) -> usize {
        2 * self.0.steps * STEP_BYTES + self.0.held_bytes_max
    }

    /// How many bytes are in memory now.
    pub fn in_use(&self) -> InUse {
        let taken = |room: &Semaphore| (self.0.steps - room.available_permits().min(self.0.steps)) * STEP_BYTES;
        let encoders = self.0.held.load(Ordering::Relaxed);
        InUse { requests: taken(&self.0.requests), uploads: taken(&self.0.uploads), encoders }
    }
}

/// Room for the bytes of an upload.
#[derive(Debug)]
pub struct Uploading {
    _permit: Option<OwnedSemaphorePermit>,
}

/// What one chunk's encoders hold.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Held {
    /// Says how many bytes are held now.
    pub fn set(&mut self, bytes: usize) {
        let held = &self.budget.0.held;
        if bytes >= self.bytes {
            held.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }

    /// Whether memory is short and this holder has at least its even share of what there is.
    pub fn is_too_much(&self) -> bool {
        let inside = &self.budget.0;
        let (held, holders) = (inside.held.load(Ordering::Relaxed), inside.holders.load(Ordering::Relaxed));
        held > inside.held_bytes_max && self.bytes >= inside.held_bytes_max / holders.max(1)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
        self.budget.0.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_holder_is_the_one_that_has_too_much() {
        let budget = Budget::new(2 << 20);
        let (mut small, mut large) = (budget.hold(), budget.hold());
        small.set(100);
        large.set(1 << 20);
        assert!(large.is_too_much() && !small.is_too_much());
        drop(large);
        assert_eq!(budget.in_use().encoders, 100);
    }

    #[tokio::test]
    async fn uploads_wait_for_each_other_and_never_for_requests() {
        let budget = Budget::new(4 << 20);
        let all = budget.upload(usize::MAX).await;
        assert_eq!(budget.in_use(), InUse { requests: 0, uploads: 1 << 20, encoders: 0 });
        let mut next = std::pin::pin!(budget.upload(1));
        assert!(futures::poll!(next.as_mut()).is_pending());
        assert!(budget.requests().try_acquire_many(1024).is_ok());
        drop(all);
        next.await;
    }
}
