//! The bytes of one file: plain ones read at an offset, compressed ones in order.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use flate2::read::MultiGzDecoder;

use super::identity::{Identity, read_head};
use super::registry::Entry;
use super::scan::inodes_of;

/// How much is read at once, in bytes: about one batch.
pub const BLOCK_BYTES: usize = 1 << 20;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames, windows up to 128 MiB (zstd's own default limit).
    Zstd,
}

impl Packing {
    /// Told by the magic number, or by the extension where there is none, so that a damaged `x.gz` is an error and
    /// not a text.
    pub fn of(path: &Path, head: &[u8]) -> Packing {
        match (head, path.extension().and_then(|extension| extension.to_str())) {
            ([0x1f, 0x8b, ..], _) => Packing::Gzip,
            ([0x28, 0xb5, 0x2f, 0xfd, ..], _) => Packing::Zstd,
            (_, Some("gz")) => Packing::Gzip,
            (_, Some("zst")) => Packing::Zstd,
            _ => Packing::None,
        }
    }
}

/// An open file, counted.
pub struct Held {
    file: File,
    count: Arc<AtomicUsize>,
}

impl Held {
    fn new(file: File, count: &Arc<AtomicUsize>) -> Held {
        count.fetch_add(1, Ordering::Relaxed);
        Held { file, count: count.clone() }
    }

    /// Appends about `want` bytes (at least one) from `offset` on, in one system call; answers how many, 0 at the end.
    pub fn append_to(&self, buffer: &mut Vec<u8>, offset: u64, want: usize) -> io::Result<usize> {
        buffer.reserve(want.max(1));
        loop {
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(buffer), offset) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Opens the file of an entry where it was last seen, or wherever in that folder it is now; also gives its head.
/// `None`: it is in neither place.
pub fn open_entry(entry: &Entry, count: &Arc<AtomicUsize>) -> io::Result<Option<(Held, Vec<u8>)>> {
    if let Some(found) = open_if_same(entry, &entry.path, count)? {
        return Ok(Some(found));
    }
    let moved = entry.path.parent().and_then(|folder| inodes_of(folder).remove(&entry.identity.ino));
    moved.map_or(Ok(None), |path| open_if_same(entry, &path, count))
}

fn open_if_same(entry: &Entry, path: &Path, count: &Arc<AtomicUsize>) -> io::Result<Option<(Held, Vec<u8>)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let head = read_head(&file)?;
    let is_it = entry.is(&Identity::of(&file.metadata()?), &head);
    Ok(is_it.then(|| (Held::new(file, count), head)))
}

/// Whether the path still leads to the entry's file, with this size: nothing to open.
pub fn is_still(entry: &Entry, size: u64) -> bool {
    fs::metadata(&entry.path)
        .is_ok_and(|metadata| metadata.len() == size && entry.identity.agrees(&Identity::of(&metadata)))
}

/// Compressed bytes, unpacked in order.
pub struct Unpacker {
    bytes: Box<dyn io::Read + Send>,
    failed: Option<(io::ErrorKind, String)>,
    taken: Arc<AtomicU64>,
}

impl Unpacker {
    /// Unpacks the first `size` bytes of `file`. `packing` is not `None`.
    pub fn new(file: Held, size: u64, packing: Packing) -> io::Result<Unpacker> {
        let taken = Arc::<AtomicU64>::default();
        let from_start = FromStart { file, offset: 0, taken: taken.clone() };
        let reader = io::BufReader::with_capacity(BLOCK_BYTES / 8, from_start.take(size));
        let bytes: Box<dyn io::Read + Send> = match packing {
            Packing::None => Box::new(reader),
            Packing::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        };
        Ok(Unpacker { bytes, failed: None, taken })
    }

    /// Compressed bytes that were taken from the file.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Appends up to `want` bytes; answers how many, 0 at the end. What came before an error is good and comes first;
    /// after an error every call fails.
    pub fn append_to(&mut self, buffer: &mut Vec<u8>, want: usize) -> io::Result<usize> {
        if self.failed.is_none() {
            let old = buffer.len();
            buffer.reserve(want);
            let result = self.bytes.by_ref().take(want as u64).read_to_end(buffer);
            self.failed = result.err().map(|error| (error.kind(), error.to_string()));
            let read = buffer.len() - old;
            if read > 0 || self.failed.is_none() {
                return Ok(read);
            }
        }
        let (kind, message) = self.failed.clone().unwrap_or((io::ErrorKind::Other, String::new()));
        Err(io::Error::new(kind, message))
    }
}

/// Reads a file from its beginning, with an offset of its own.
struct FromStart {
    file: Held,
    offset: u64,
    taken: Arc<AtomicU64>,
}

impl io::Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        self.taken.store(self.offset, Ordering::Relaxed);
        Ok(read)
    }
}
