//! What was written last, still in memory: a reader that keeps up needs no disk.
//!
//! An extent is one group as it lies in its segment. It goes when every reader took it, or when newer ones need its room:
//! who lags reads from the disk. Only durable groups come here, so nothing is read before its time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::spool::segment::Segment;

/// Bytes of the groups that one stream keeps in memory, and all streams of the process together.
pub const RECENT_BYTES_MAX: usize = 8 << 20;
pub const RECENT_ALL_BYTES_MAX: usize = 64 << 20;

/// What knowing an extent costs, and what its buffer may be larger than its frames, in bytes.
const EXTENT_BYTES: usize = 16 << 10;
/// Below, frames are copied into a buffer of their own size, so that a small group does not hold a large one.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// What all streams keep.
static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The frames of one group, records `first..end`, as they lie in the segment from byte `at` on.
#[derive(Debug, Clone)]
pub struct Extent {
    pub segment: Arc<Segment>,
    pub at: u64,
    pub first: u64,
    pub end: u64,
    pub frames: Bytes,
}

impl Extent {
    fn cost(&self) -> usize {
        match self.frames.len() < COPIED_BYTES_MAX {
            true => self.frames.len() + size_of::<Extent>(),
            false => self.frames.len() + EXTENT_BYTES,
        }
    }
}

/// The extents of one stream, oldest first, each with the number of readers that did not take it yet.
#[derive(Debug, Default)]
pub struct Recent {
    extents: VecDeque<(Extent, usize)>,
    bytes: usize,
}

impl Recent {
    /// Keeps an extent for this many readers. Extents come in the order of their records.
    pub fn keep(&mut self, mut extent: Extent, readers: usize) {
        if readers == 0 {
            return;
        }
        if extent.frames.len() < COPIED_BYTES_MAX {
            extent.frames = Bytes::copy_from_slice(&extent.frames);
        }
        self.bytes += extent.cost();
        ALL_BYTES.fetch_add(extent.cost(), Ordering::Relaxed);
        self.extents.push_back((extent, readers));
        while self.bytes > RECENT_BYTES_MAX || ALL_BYTES.load(Ordering::Relaxed) > RECENT_ALL_BYTES_MAX {
            let Some((oldest, _)) = self.extents.pop_front() else { break };
            self.gone(&oldest);
        }
    }

    /// The extent that holds record `number`; the last reader takes it away.
    pub fn take(&mut self, number: u64) -> Option<Extent> {
        let index = self.extents.partition_point(|(extent, _)| extent.end <= number);
        let (extent, readers) = self.extents.get_mut(index).filter(|(extent, _)| extent.first <= number)?;
        *readers -= 1;
        if *readers > 0 {
            return Some(extent.clone());
        }
        let (extent, _) = self.extents.remove(index)?;
        self.gone(&extent);
        Some(extent)
    }

    fn gone(&mut self, extent: &Extent) {
        self.bytes -= extent.cost();
        ALL_BYTES.fetch_sub(extent.cost(), Ordering::Relaxed);
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        ALL_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::frame::Salt;
    use crate::spool::segment::Header;

    fn extent(first: u64, bytes: usize) -> Extent {
        let header = Header { incarnation: 1, id: 1, base: 0, salt: Salt(1), arrival_ms: 0 };
        let segment = Arc::new(Segment::new(&header, 0, 0));
        Extent { segment, at: 64, first, end: first + 10, frames: vec![0; bytes].into() }
    }

    #[test]
    fn an_extent_goes_with_its_last_reader() {
        let mut recent = Recent::default();
        recent.keep(extent(0, 100), 2);
        recent.keep(extent(10, 100), 2);
        assert_eq!(recent.take(13).map(|extent| extent.first), Some(10));
        assert_eq!(recent.take(10).map(|extent| extent.first), Some(10));
        assert!(recent.take(10).is_none() && recent.take(20).is_none());
        assert_eq!((recent.bytes, recent.take(9).is_some()), (extent(0, 100).cost(), true));
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_bytes_and_nobody_reads_nothing_stays() {
        let mut recent = Recent::default();
        recent.keep(extent(0, RECENT_BYTES_MAX), 1);
        recent.keep(extent(10, 1), 1);
        assert!(recent.take(0).is_none() && recent.take(10).is_some());
        recent.keep(extent(20, RECENT_BYTES_MAX + 1), 1);
        recent.keep(extent(30, 1), 0);
        assert_eq!((recent.bytes, recent.extents.len()), (0, 0));
    }
}
