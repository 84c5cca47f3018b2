//! Where blocking work leaves the async threads, and how it spreads over cores that are idle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, available_parallelism};

use tokio::runtime::{Handle, RuntimeFlavor};

/// How much a helper gives way to other threads, in steps of `nice(2)`.
const HELPER_NICE: i32 = 10;

/// Threads that work on a core now.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Runs CPU or disk work here and now without holding up other tasks.
///
/// On a multi-thread runtime the other tasks of this thread move to another one first; on a single-thread runtime
/// (tests, which want one order of events) and outside any runtime it simply runs. It is synchronous, so nothing
/// can cancel it half-way.
pub fn off_async<T>(work: impl FnOnce() -> T) -> T {
    let _busy = Busy::one_more();
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Runs blocking work on a thread of its own, of which there may be many at the same time; for work that is done rarely,
/// as threads that have come so go again. On a single-thread runtime it simply runs. Dropped, the work goes on unheard.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is on its way down.
            Err(_) => std::future::pending().await,
        },
        _ => work(),
    }
}

/// Does `work` to every item, on this thread and on cores that are idle, and returns when all is done. Items are begun
/// in order; an item should be worth a tenth of a millisecond, or a thread costs more than it gives.
pub fn spread<T: Send>(
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(T) + Sync,
) {
    let items = items.into_iter();
    let helpers: Vec<Busy> = (1..items.len()).map_while(|_| Busy::on_an_idle_core()).collect();
    if helpers.is_empty() {
        return items.for_each(work);
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let all = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    thread::scope(|scope| {
        for helper in helpers {
            let all = &all;
            // A thread that cannot be had is no fault: the others do its part.
            let _ = thread::Builder::new().name("spread".into()).spawn_scoped(scope, move || {
                let _busy = helper;
                // On Linux for this thread alone: whoever waits for an answer comes first. That it cannot be said is no fault.
                let _ = rustix::process::nice(HELPER_NICE);
                all();
            });
        }
        all();
    });
}

/// Does long work on a thread of its own that gives way to all others, and returns when it is done.
pub fn give_way<T: Send>(work: impl Fn() -> T + Sync) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("give way".into()).spawn_scoped(scope, || {
            // As in `spread`.
            let _ = rustix::process::nice(HELPER_NICE);
            work()
        });
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => work(),
        }
    })
}

/// How many cores are idle now, beside the one that asks.
pub fn idle_cores() -> usize {
    cores().saturating_sub(BUSY.load(Ordering::Relaxed).max(1))
}

/// How many cores there are.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// A thread at work, counted for as long as this lives.
struct Busy;

impl Busy {
    fn one_more() -> Busy {
        BUSY.fetch_add(1, Ordering::Relaxed);
        Busy
    }

    fn on_an_idle_core() -> Option<Busy> {
        let idle = |busy: usize| (busy.max(1) < cores()).then_some(busy + 1);
        BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, idle).ok().map(|_| Busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for count in [0, 1, 2, 3, 100] {
            let mut items = vec![0; count];
            spread(items.iter_mut(), |item| *item += 1);
            assert_eq!(items, vec![1; count]);
        }
    }

    #[test]
    #[should_panic]
    fn a_panic_in_an_item_is_not_swallowed() {
        spread([1, 2, 3], |item| assert_ne!(item, 2));
    }
}
