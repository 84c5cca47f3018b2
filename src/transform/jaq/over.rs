//! Runs programs over batches: on all idle cores, on stacks that bear them, and no longer than a stop can wait.
//!
//! The interpreter keeps variables, closures and paths in lists whose drop calls itself once per node, and a program can
//! make such a list as long as it runs. So programs run on threads with a stack of [`STACK_BYTES`], and may take only so
//! many steps, each of which makes a node at most, that the longest list fits ([`meter`]). It is address space: memory is
//! what is touched of it, which is next to nothing but for such lists.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::meter;
use crate::cpu::{off_async, spread};
use crate::error::{Blame, Fault};
use crate::record::{Batch, Pairs};

/// Records that a core takes at once.
const PART_RECORDS: usize = 256;

/// After so long no further record of a batch is begun: what is left waits until others had their turn.
const BATCH_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes that the records of a batch may become before no further one is begun.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

/// The stack of a thread that runs programs; less where address space is short.
pub const STACK_BYTES: usize = 1 << 30;
const STACK_BYTES_MIN: usize = 1 << 26;

/// What became of the first rows of a batch.
#[derive(Debug)]
pub struct Done<P> {
    /// In order.
    pub parts: Vec<P>,
    /// How many rows.
    pub rows: usize,
    /// The other rows.
    pub left: Batch,
}

/// Does `each` to rows of a batch in order, one at least; it gives how many bytes it keeps of the row.
///
/// An error is that no thread can be had.
pub fn over<P: Default + Send>(batch: &Batch, each: impl Fn(&mut P, usize) -> usize + Sync) -> Result<Done<P>, Fault> {
    let (begun, bytes) = (Instant::now(), AtomicUsize::new(0));
    let enough =
        |row: usize| row > 0 && (bytes.load(Ordering::Relaxed) >= BATCH_BYTES_MAX || begun.elapsed() >= BATCH_TIME_MAX);
    let part = |rows: Range<usize>| {
        let (mut part, mut count) = (P::default(), 0);
        for row in rows.take_while(|row| !enough(*row)) {
            bytes.fetch_add(each(&mut part, row), Ordering::Relaxed);
            count += 1;
        }
        (part, count)
    };
    let starts = (0..batch.len()).step_by(PART_RECORDS);
    let mut parts: Vec<_> = starts.map(|start| (start..batch.len().min(start + PART_RECORDS), None)).collect();
    off_async(|| {
        spread(parts.iter_mut(), |(rows, done)| {
            if !enough(rows.start) {
                *done = on_large_stack(|| part(rows.clone()));
            }
        });
    });
    let mut done = Done { parts: Vec::with_capacity(parts.len()), rows: 0, left: Batch::default() };
    for (rows, part) in parts {
        let Some((part, count)) = part else { break };
        done.parts.push(part);
        done.rows += count;
        if count < rows.len() {
            break;
        }
    }
    if done.rows == 0 && !batch.is_empty() {
        return Err(Fault::new(Blame::Transform, "the machine has no room for a thread that runs the program"));
    }
    if done.rows < batch.len() {
        let rows: Vec<u32> = (done.rows as u32..batch.len() as u32).collect();
        done.left = batch.select(&rows);
    }
    Ok(done)
}

/// Bytes that each output of a record takes over from it: key, headers, earlier partition keys.
pub fn inherited_bytes(batch: &Batch, row: usize) -> usize {
    let of_pairs = |pairs: Pairs| pairs.map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
    let headers = batch.origin(row).map_or(0, |origin| of_pairs(origin.headers));
    batch.key(row).map_or(0, <[u8]>::len) + headers + of_pairs(batch.partition_keys(row))
}

/// Does it on a thread with a stack for long lists, if such a thread can be had.
pub fn on_large_stack<T: Send>(work: impl Fn() -> T + Sync) -> Option<T> {
    let work = &work;
    thread::scope(|scope| {
        let on = |bytes: usize| {
            let thread = thread::Builder::new().name("jq".into()).stack_size(bytes);
            thread.spawn_scoped(scope, move || {
                meter::stack_is(bytes);
                work()
            })
        };
        let thread = on(STACK_BYTES).or_else(|_| on(STACK_BYTES_MIN)).ok()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
