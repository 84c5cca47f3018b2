//! Where blocking work leaves the async threads.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs CPU or disk work here and now without holding up other tasks.
///
/// On a multi-thread runtime the other tasks of this thread move to another one first; on a single-thread runtime
/// (tests, which want one order of events) and outside any runtime it simply runs. It is synchronous, so nothing
/// can cancel it half-way.
pub fn off_async<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
