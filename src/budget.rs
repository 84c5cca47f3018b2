//! The process budget: how many bytes may be in memory at once.
//!
//! Half of it is for bytes on their way in or out (request bodies, uploads): those wait for room, and what holds room never
//! waits for the other half, so nothing can lock up. The other half is for encoders: they never wait; when it is used up,
//! a chunk is cut.

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
    passing: Arc<Semaphore>,
    passing_steps: usize,
    held: AtomicUsize,
    holders: AtomicUsize,
    held_bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes`, at least 1 MiB.
    pub fn new(bytes: usize) -> Budget {
        let half = bytes.max(1 << 20) / 2;
        let passing_steps = (half / STEP_BYTES).min(Semaphore::MAX_PERMITS);
        Budget(Arc::new(Inside {
            passing: Arc::new(Semaphore::new(passing_steps)),
            passing_steps,
            held: AtomicUsize::new(0),
            holders: AtomicUsize::new(0),
            held_bytes_max: half,
        }))
    }

    /// Waits for room for `bytes` that pass through; the room comes back when the permit is dropped. More than the whole
    /// half counts as the whole half. Cancel-safe; first come, first served.
    pub async fn pass(&self, bytes: usize) -> Passing {
        let steps = bytes.div_ceil(STEP_BYTES).clamp(1, self.0.passing_steps);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        match self.0.passing.clone().acquire_many_owned(steps).await {
            Ok(permit) => Passing { _permit: Some(permit) },
            Err(_closed) => Passing { _permit: None },
        }
    }

    /// The room for what passes, one permit for each [`STEP_BYTES`]: for those who take it step by step.
    pub fn passing(&self) -> Arc<Semaphore> {
        self.0.passing.clone()
    }

    /// Bytes that pass through now.
    pub fn passing_bytes(&self) -> usize {
        (self.0.passing_steps - self.0.passing.available_permits()) * STEP_BYTES
    }

    /// Bytes that encoders hold now.
    pub fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// An account for one chunk's encoders.
    pub fn hold(&self) -> Held {
        self.0.holders.fetch_add(1, Ordering::Relaxed);
        Held { budget: self.clone(), bytes: 0 }
    }
}

/// Room for bytes that pass through.
#[derive(Debug)]
pub struct Passing {
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

    /// Whether memory is short and this holder has at least its even share of it.
    pub fn is_too_much(&self) -> bool {
        let inside = &self.budget.0;
        let (held, holders) = (inside.held.load(Ordering::Relaxed), inside.holders.load(Ordering::Relaxed));
        held > inside.held_bytes_max && self.bytes >= held / holders.max(1)
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
        assert_eq!(budget.held_bytes(), 100);
    }

    #[tokio::test]
    async fn what_passes_waits_for_room_and_more_than_everything_still_passes() {
        let budget = Budget::new(2 << 20);
        let all = budget.pass(usize::MAX).await;
        assert_eq!(budget.passing_bytes(), 1 << 20);
        let mut next = std::pin::pin!(budget.pass(1));
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(all);
        next.await;
    }
}
