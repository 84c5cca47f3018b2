//! What is tried again and again: said while anybody has the trouble, over when nobody has it any more.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::Live;

/// Something that is tried again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// In words, such as `access denied: ...`: the last that was said.
    pub message: String,
    pub hint: Option<String>,
    /// When the first of those who have it now ran into it, or those before them without a pause; Unix milliseconds.
    pub since_ms: i64,
    /// Attempts since then, of all of them.
    pub attempts: u64,
    /// How many have it: objects that are not taken, shards that cannot be read.
    #[serde(default)]
    pub waiting: u64,
    /// When the next attempt is made, where that is known; Unix milliseconds.
    #[serde(default)]
    pub next_at_ms: Option<i64>,
}

/// The trouble of all who have it.
#[derive(Default)]
pub(super) struct Troubles {
    waiting: u64,
    last: Option<Trouble>,
}

impl Troubles {
    pub(super) fn last(&self) -> Option<Trouble> {
        self.last.clone()
    }

    pub(super) fn since_ms(&self) -> Option<i64> {
        self.last.as_ref().map(|last| last.since_ms)
    }

    fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        match &mut self.last {
            Some(last) if self.waiting > 0 => last.waiting = self.waiting,
            last => *last = None,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Sink,
    Reading,
}

/// One who may run into trouble; dropped, the trouble is not his any more.
pub struct InTrouble {
    live: Live,
    of: Kind,
    in_it: AtomicBool,
}

impl InTrouble {
    pub(super) fn new(live: Live, of: Kind) -> InTrouble {
        InTrouble { live, of, in_it: AtomicBool::new(false) }
    }

    /// It went wrong, again. Times in Unix milliseconds.
    pub fn again(&self, message: &str, hint: Option<&str>, now_ms: i64, next_at_ms: Option<i64>) {
        self.live.troubles(self.of, |troubles| {
            // Under the lock: nobody sees the one without the other.
            troubles.waiting += u64::from(!self.in_it.swap(true, Ordering::Relaxed));
            let (since_ms, attempts) =
                troubles.last.as_ref().map_or((now_ms, 0), |last| (last.since_ms, last.attempts));
            troubles.last = Some(Trouble {
                message: message.to_owned(),
                hint: hint.map(str::to_owned),
                since_ms,
                attempts: attempts + 1,
                waiting: troubles.waiting,
                next_at_ms,
            });
        });
    }

    /// It went well.
    pub fn over(&self) {
        if self.in_it.load(Ordering::Relaxed) {
            self.live.troubles(self.of, |troubles| {
                if self.in_it.swap(false, Ordering::Relaxed) {
                    troubles.leave();
                }
            });
        }
    }
}

impl Drop for InTrouble {
    fn drop(&mut self) {
        self.over();
    }
}
