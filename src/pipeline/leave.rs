//! How a pipeline is told to go: on to the end, for a new revision, or at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

/// What a pipeline is told; each is more urgent than the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Leave {
    /// It runs on.
    Stay,
    /// Its file is gone: what is owed to producers is read and delivered, for as long as it takes, and then it ends.
    Drain,
    /// A new revision waits: open chunks are ended and promised, and what that takes too long for is read again by it.
    Cut,
    /// The process ends: open chunks are dropped and read again at the next start.
    Stop,
}

/// Tells a pipeline how to leave. It can be told something more urgent later, never less. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<Inside>);

/// Wakes waiters always in the same order (which a watch channel does not), so that a simulated history repeats.
#[derive(Debug, Default)]
struct Inside {
    told: AtomicU8,
    changed: Notify,
}

impl Leaving {
    /// Nobody is told anything yet.
    pub fn new() -> Leaving {
        Leaving::default()
    }

    /// From now on at least this.
    pub fn tell(&self, leave: Leave) {
        self.0.told.fetch_max(leave as u8, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }

    /// Whether it was told this, or something more urgent.
    pub fn is(&self, leave: Leave) -> bool {
        self.0.told.load(Ordering::Acquire) >= leave as u8
    }

    /// Waits until it is told this, or something more urgent. Cancel-safe.
    pub async fn until(&self, leave: Leave) {
        loop {
            // Before the look, so that a word in between wakes it.
            let changed = self.0.changed.notified();
            if self.is(leave) {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_told_can_become_more_urgent_and_never_less() {
        let leaving = Leaving::new();
        let mut cut = std::pin::pin!(leaving.until(Leave::Cut));
        assert!(futures::poll!(cut.as_mut()).is_pending());
        leaving.tell(Leave::Drain);
        assert!(futures::poll!(cut.as_mut()).is_pending());
        leaving.tell(Leave::Stop);
        leaving.tell(Leave::Drain);
        cut.await;
        assert!(leaving.is(Leave::Stop));
    }
}
