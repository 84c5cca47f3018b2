//! The outbox: promises. A chunk's encoded objects as one immutable file, durable before the first upload.
//!
//! File there = promised. File gone = delivered, and the checkpoint durably says so. After a crash the same bytes go
//! out under the same names, so nothing upstream needs to be deterministic.
//!
//! ```text
//! <shard>-<start:020>-<end:020>.sealed
//! +-----------+----------------------------+---------------+-----------------------------------+
//! | HYDRSEAL1 | blocks of objects, as they | index (JSON): | length of index u64 | crc32c u32  |
//! |           | were finished, interleaved | see `Index`   | of index | HYDREND1   (20 bytes)  |
//! +-----------+----------------------------+---------------+-----------------------------------+
//! ```
//! Encoders stream into the temporary file while the chunk is open, so memory is encoder state and not the chunk; an
//! object is a list of extents. All numbers are little-endian.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, DiskFile, remove_if_there};
use crate::error::Fault;
use crate::ground::Ground;
use crate::position::{Position, Shard, ShardRange};

const MAGIC: &[u8; 9] = b"HYDRSEAL1";
const END_MAGIC: &[u8; 8] = b"HYDREND1";
const FOOTER_BYTES: u64 = 20;
/// The largest index that is read back: 100,000 objects with names of 1 KiB stay below it.
const INDEX_BYTES_MAX: u64 = 256 << 20;
/// Finished bytes are gathered up to this before they are written to the file.
const WRITE_BYTES: usize = 256 << 10;
const SUFFIX: &str = ".sealed";

/// The folder of a pipeline's promises. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    ground: Ground,
    dir: Arc<Path>,
}

impl Outbox {
    /// Opens the outbox in `dir`, creating the folder. Drafts of a dead process are removed; what is promised is made
    /// durable once more, since the dead process may not have got that far.
    pub fn open(ground: &Ground, dir: &Path) -> Result<Outbox, Fault> {
        let outbox = Outbox { ground: ground.clone(), dir: dir.into() };
        outbox.prepare().with_context(|| format!("outbox {}", dir.display())).map_err(Fault::disk)?;
        Ok(outbox)
    }

    /// The outbox in `dir` for a look with [`Outbox::pending`]: nothing is made or removed. While its owner is at work, a
    /// promise that is kept meanwhile makes that look fail: look again.
    pub fn peek(ground: &Ground, dir: &Path) -> Outbox {
        Outbox { ground: ground.clone(), dir: dir.into() }
    }

    fn prepare(&self) -> anyhow::Result<()> {
        let disk = &*self.ground.disk;
        disk.create_dir(&self.dir)?;
        let mut is_owed = false;
        for (name, _) in disk.list(&self.dir)? {
            is_owed |= name.ends_with(SUFFIX);
            if name.starts_with("tmp-") {
                disk.remove(&self.dir.join(name))?;
            }
        }
        // Of an empty one there is nothing that must not be forgotten.
        if is_owed {
            disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// All promises, by shard and in order of their ranges, which are checked not to overlap.
    pub fn pending(&self) -> Result<BTreeMap<Shard, Vec<Sealed>>, Fault> {
        self.read_pending().with_context(|| format!("outbox {}", self.dir.display())).map_err(Fault::disk)
    }

    fn read_pending(&self) -> anyhow::Result<BTreeMap<Shard, Vec<Sealed>>> {
        let mut pending: BTreeMap<Shard, Vec<Sealed>> = BTreeMap::new();
        for (name, len) in self.ground.disk.list(&self.dir)? {
            if !name.ends_with(SUFFIX) {
                continue;
            }
            let sealed = Sealed::read_back(&*self.ground.disk, &self.dir.join(&name), len).with_context(|| {
                format!(
                    "{name} cannot be trusted\nhint: the disk changed bytes of a promise; restore the file from a copy"
                )
            })?;
            pending.entry(sealed.range().shard.clone()).or_default().push(sealed);
        }
        for chunks in pending.values_mut() {
            chunks.sort_by(|a, b| a.range().start.cmp(&b.range().start));
            for pair in chunks.windows(2) {
                let (earlier, later) = (pair[0].range(), pair[1].range());
                if earlier.end > later.start {
                    bail!("promises overlap: {earlier} and {later}");
                }
            }
        }
        Ok(pending)
    }

    /// Begins a chunk that starts at `start`. Nothing is promised before [`Draft::seal`].
    pub fn draft(&self, shard: &Shard, start: &Position) -> io::Result<Draft> {
        let path = self.dir.join(format!("tmp-{shard}-{start}"));
        remove_if_there(&*self.ground.disk, &path)?;
        let file = self.ground.disk.create(&path)?;
        let buffer = MAGIC.to_vec();
        let extents = Vec::new();
        Ok(Draft {
            outbox: self.clone(),
            path,
            file,
            buffer,
            written: 0,
            extents,
            shard: shard.clone(),
            start: start.clone(),
            sealed: false,
        })
    }

    /// Takes in the promise of `range` that another node has made, piece by piece. Until [`Arriving::seal`] it is nothing.
    pub fn arriving(&self, range: &ShardRange) -> io::Result<Arriving> {
        let path = self.dir.join(format!("tmp-{}-{}-arriving", range.shard, range.start));
        remove_if_there(&*self.ground.disk, &path)?;
        let file = self.ground.disk.create(&path)?;
        Ok(Arriving { outbox: self.clone(), path, file, range: range.clone(), written: 0, sealed: false })
    }

    /// Removes a kept promise. Only after the checkpoint has durably passed its range. Twice is once.
    pub fn remove(&self, range: &ShardRange) -> Result<(), Fault> {
        let path = self.dir.join(file_name(range));
        remove_if_there(&*self.ground.disk, &path)
            .with_context(|| format!("outbox: removing {}", path.display()))
            .map_err(Fault::disk)
    }
}

fn file_name(range: &ShardRange) -> String {
    format!("{}-{:0>20}-{:0>20}{SUFFIX}", range.shard, range.start.as_str(), range.end.as_str())
}

/// A chunk being made: a temporary file that its objects stream into, removed when the draft is dropped.
pub struct Draft {
    outbox: Outbox,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    /// By object, in the order of their bytes.
    extents: Vec<(Vec<Extent>, u32)>,
    shard: Shard,
    start: Position,
    sealed: bool,
}

/// One object of a [`Draft`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftObject(usize);

impl Draft {
    /// Where the chunk starts.
    pub fn start(&self) -> &Position {
        &self.start
    }

    /// Where a temporary file of the same chunk may lie: a start removes what is left of it.
    pub fn path_beside(&self) -> PathBuf {
        self.outbox.dir.join(format!("tmp-{}-{}-parked", self.shard, self.start))
    }

    /// Adds an object without bytes.
    pub fn object(&mut self) -> DraftObject {
        self.extents.push((Vec::new(), 0));
        DraftObject(self.extents.len() - 1)
    }

    /// Bytes of all objects so far.
    pub fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Where the bytes of `object` go. Blocking.
    pub fn writer(&mut self, object: DraftObject) -> impl Write + '_ {
        ObjectWriter { draft: self, object }
    }

    fn append(&mut self, object: DraftObject, bytes: &[u8]) -> io::Result<()> {
        let offset = self.bytes();
        let (extents, checksum) = &mut self.extents[object.0];
        match extents.last_mut() {
            Some(last) if last.offset + last.len == offset => last.len += bytes.len() as u64,
            _ => extents.push(Extent { offset, len: bytes.len() as u64 }),
        }
        *checksum = crc32c::crc32c_append(*checksum, bytes);
        if self.buffer.len() + bytes.len() >= WRITE_BYTES {
            self.flush()?;
            if bytes.len() >= WRITE_BYTES {
                self.file.write_at(bytes, self.written)?;
                self.written += bytes.len() as u64;
                return Ok(());
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Promises the chunk: when this returns, its objects will be delivered, whatever happens. Objects that are not
    /// `named` are left out. Blocking.
    pub fn seal(mut self, end: &Position, sink: &str, named: Vec<Named>) -> io::Result<Sealed> {
        assert!(*end > self.start, "a chunk is not empty");
        let range = ShardRange { shard: self.shard.clone(), start: self.start.clone(), end: end.clone() };
        let mut objects = Vec::with_capacity(named.len());
        for Named { object, name, rows } in named {
            let (extents, crc32c) = std::mem::take(&mut self.extents[object.0]);
            let len = extents.iter().map(|extent| extent.len).sum();
            objects.push(SealedObject { name, rows, len, crc32c, extents });
        }
        let index = Index {
            shard: range.shard.to_string(),
            start: range.start.to_string(),
            end: range.end.to_string(),
            sink: sink.to_owned(),
            objects,
        };
        let text = serde_json::to_vec(&index)?;
        assert!(text.len() as u64 <= INDEX_BYTES_MAX, "the prefixes of a chunk are limited");
        self.buffer.extend_from_slice(&text);
        self.buffer.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(&crc32c::crc32c(&text).to_le_bytes());
        self.buffer.extend_from_slice(END_MAGIC);
        self.flush()?;
        self.file.sync()?;
        let disk = &*self.outbox.ground.disk;
        disk.rename(&self.path, &self.outbox.dir.join(file_name(&range)))?;
        self.sealed = true;
        // From here on the name may be durable: whatever the error, the range must not be cut again by this process.
        disk.sync_dir(&self.outbox.dir).map_err(io::Error::other)?;
        Ok(Sealed(Arc::new(Inside { range, index, file: self.file.clone(), file_bytes: self.written })))
    }
}

impl Drop for Draft {
    /// A draft that is not sealed gives its space back; a failure to do so is mended by the next start.
    fn drop(&mut self) {
        if !self.sealed {
            let _ = remove_if_there(&*self.outbox.ground.disk, &self.path);
        }
    }
}

struct ObjectWriter<'a> {
    draft: &'a mut Draft,
    object: DraftObject,
}

impl Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.draft.append(self.object, bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A promise of another node on its way here: a temporary file, removed when this is dropped.
pub struct Arriving {
    outbox: Outbox,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    range: ShardRange,
    written: u64,
    sealed: bool,
}

impl Arriving {
    /// The next bytes of its file. Blocking.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// It is all there: makes it a promise of ours, durably. Fails if it is damaged, or of another range. Blocking.
    pub fn seal(mut self) -> Result<Sealed, Fault> {
        let name = file_name(&self.range);
        self.settle(&name).with_context(|| format!("outbox: {name} as another node made it")).map_err(Fault::disk)
    }

    fn settle(&mut self, name: &str) -> anyhow::Result<Sealed> {
        let disk = &*self.outbox.ground.disk;
        self.file.sync()?;
        let path = self.outbox.dir.join(name);
        disk.rename(&self.path, &path)?;
        self.sealed = true;
        disk.sync_dir(&self.outbox.dir)?;
        let sealed = Sealed::read_back(disk, &path, self.written);
        if sealed.is_err() {
            remove_if_there(disk, &path)?;
        }
        sealed
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.sealed {
            let _ = remove_if_there(&*self.outbox.ground.disk, &self.path);
        }
    }
}

/// What an object of a draft will be called in the store, and how many rows it has.
#[derive(Debug)]
pub struct Named {
    pub object: DraftObject,
    /// Below the sink's root.
    pub name: String,
    pub rows: u64,
}

/// A promise: a range of a shard, and the objects that it became. Cheap to clone.
#[derive(Clone)]
pub struct Sealed(Arc<Inside>);

struct Inside {
    range: ShardRange,
    index: Index,
    file: Arc<dyn DiskFile>,
    file_bytes: u64,
}

/// The last part of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Index {
    shard: String,
    start: String,
    end: String,
    sink: String,
    objects: Vec<SealedObject>,
}

/// One object of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedObject {
    /// Below the sink's root.
    pub name: String,
    pub rows: u64,
    /// In bytes.
    pub len: u64,
    pub crc32c: u32,
    extents: Vec<Extent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Extent {
    offset: u64,
    len: u64,
}

impl Sealed {
    /// The range whose records the objects hold.
    pub fn range(&self) -> &ShardRange {
        &self.0.range
    }

    /// The sink it was promised to, as its URL without secrets.
    pub fn sink(&self) -> &str {
        &self.0.index.sink
    }

    /// Its objects; none if every record was dropped.
    pub fn objects(&self) -> &[SealedObject] {
        &self.0.index.objects
    }

    /// Bytes on our disk.
    pub fn file_bytes(&self) -> u64 {
        self.0.file_bytes
    }

    /// Reads exactly `len` bytes at `offset` of the whole file: what is handed over to another node. Blocking.
    pub fn read_file(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        read_exactly(&*self.0.file, offset, len as u64).map(Bytes::from)
    }

    /// CRC-32C of the whole file. Blocking: reads it.
    pub fn file_crc32c(&self) -> io::Result<u32> {
        let (mut at, mut crc) = (0, 0);
        while at < self.file_bytes() {
            let len = (self.file_bytes() - at).min(WRITE_BYTES as u64);
            crc = crc32c::crc32c_append(crc, &self.read_file(at, len as usize)?);
            at += len;
        }
        Ok(crc)
    }

    /// Reads up to `len` bytes of an object at `offset`; fewer only at its end. Blocking.
    pub fn read(&self, object: &SealedObject, mut offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(len);
        for extent in &object.extents {
            if offset >= extent.len {
                offset -= extent.len;
                continue;
            }
            let want = (len - bytes.len()).min(usize::try_from(extent.len - offset).unwrap_or(usize::MAX));
            let had = bytes.len();
            bytes.resize(had + want, 0);
            if self.0.file.read_at(&mut bytes[had..], extent.offset + offset)? != want {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset = 0;
            if bytes.len() == len {
                break;
            }
        }
        Ok(bytes.into())
    }

    fn read_back(disk: &dyn Disk, path: &Path, len: u64) -> anyhow::Result<Sealed> {
        let file = disk.open(path)?;
        let footer_at = len.checked_sub(FOOTER_BYTES).ok_or_else(|| anyhow!("too short"))?;
        let footer = read_exactly(&*file, footer_at, FOOTER_BYTES)?;
        let (index_len, rest) = footer.split_first_chunk::<8>().ok_or_else(|| anyhow!("no footer"))?;
        let (index_crc, magic) = rest.split_first_chunk::<4>().ok_or_else(|| anyhow!("no footer"))?;
        if magic != END_MAGIC {
            bail!("no footer");
        }
        let index_len = u64::from_le_bytes(*index_len);
        if index_len > INDEX_BYTES_MAX || index_len > footer_at {
            bail!("index of {index_len} bytes");
        }
        let index_at = footer_at - index_len;
        let text = read_exactly(&*file, index_at, index_len)?;
        if crc32c::crc32c(&text) != u32::from_le_bytes(*index_crc) {
            bail!("index checksum differs");
        }
        let index: Index = serde_json::from_slice(&text).context("index")?;
        for object in &index.objects {
            let sum = object.extents.iter().try_fold(0u64, |sum, e| {
                let inside = e.offset.checked_add(e.len).is_some_and(|end| end <= index_at);
                sum.checked_add(e.len).filter(|_| inside)
            });
            if sum != Some(object.len) {
                bail!("object {} lies outside the file", object.name);
            }
        }
        let range = ShardRange {
            shard: Shard::new(&index.shard).ok_or_else(|| anyhow!("shard {:?}", index.shard))?,
            start: Position::parse(&index.start).ok_or_else(|| anyhow!("position {:?}", index.start))?,
            end: Position::parse(&index.end).ok_or_else(|| anyhow!("position {:?}", index.end))?,
        };
        if path.file_name().is_none_or(|name| name != file_name(&range).as_str()) {
            bail!("holds {range}, which is not its name");
        }
        Ok(Sealed(Arc::new(Inside { range, index, file, file_bytes: len })))
    }
}

fn read_exactly(file: &dyn DiskFile, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    match file.read_at(&mut bytes, offset)? {
        read if read == bytes.len() => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        Shard::new("5ea1").unwrap()
    }

    fn sealed(dir: &Path) -> (Outbox, Sealed) {
        let outbox = Outbox::open(&Ground::real(), dir).unwrap();
        let mut draft = outbox.draft(&shard(), &Position::from(3)).unwrap();
        let (a, b) = (draft.object(), draft.object());
        draft.writer(a).write_all(b"first ").unwrap();
        draft.writer(b).write_all(b"other").unwrap();
        draft.writer(a).write_all(&vec![b'x'; WRITE_BYTES]).unwrap();
        draft.writer(a).write_all(b" last").unwrap();
        let named =
            vec![Named { object: a, name: "p/a".into(), rows: 2 }, Named { object: b, name: "p/b".into(), rows: 1 }];
        let sealed = draft.seal(&Position::from(9), "file:///lake", named).unwrap();
        (outbox, sealed)
    }

    #[test]
    fn a_promise_reads_back_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (_, promised) = sealed(dir.path());
        let outbox = Outbox::open(&Ground::real(), dir.path()).unwrap();
        let pending = outbox.pending().unwrap();
        let found = &pending[&shard()][0];
        assert_eq!(found.range(), promised.range());
        assert_eq!(found.objects(), promised.objects());
        let a = &found.objects()[0];
        let bytes = found.read(a, 0, a.len as usize).unwrap();
        assert!(bytes.starts_with(b"first xxx") && bytes.ends_with(b"xxx last"));
        assert_eq!(crc32c::crc32c(&bytes), a.crc32c);
        let middle = found.read(a, 4, WRITE_BYTES).unwrap();
        assert_eq!(middle, bytes.slice(4..4 + WRITE_BYTES));
        assert_eq!(found.read(&found.objects()[1], 0, 100).unwrap(), "other");
        outbox.remove(found.range()).unwrap();
        outbox.remove(found.range()).unwrap();
        assert!(outbox.pending().unwrap().is_empty());
    }

    #[test]
    fn a_promise_of_another_node_arrives_whole_or_not_at_all() {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, promised) = sealed(there.path());
        let whole = promised.read_file(0, promised.file_bytes() as usize).unwrap();
        assert_eq!(crc32c::crc32c(&whole), promised.file_crc32c().unwrap());
        let outbox = Outbox::open(&Ground::real(), here.path()).unwrap();
        let arrive = |bytes: &[u8]| {
            let mut arriving = outbox.arriving(promised.range()).unwrap();
            bytes.chunks(1000).for_each(|piece| arriving.append(piece).unwrap());
            arriving.seal()
        };
        let arrived = arrive(&whole).unwrap();
        assert_eq!((arrived.range(), arrived.objects()), (promised.range(), promised.objects()));
        let a = &arrived.objects()[0];
        assert_eq!(arrived.read(a, 0, a.len as usize).unwrap(), promised.read(a, 0, a.len as usize).unwrap());
        outbox.remove(promised.range()).unwrap();
        drop(outbox.arriving(promised.range()).unwrap());
        assert!(arrive(&whole[..whole.len() - 1]).is_err());
        assert!(outbox.pending().unwrap().is_empty(), "what is damaged is no promise");
    }

    #[test]
    fn a_draft_is_no_promise() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&Ground::real(), dir.path()).unwrap();
        drop(outbox.draft(&shard(), &Position::from(0)).unwrap());
        let outbox = Outbox::open(&Ground::real(), dir.path()).unwrap();
        assert!(outbox.pending().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_promise_with_one_byte_changed_in_its_index_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (outbox, promised) = sealed(dir.path());
        let path = dir.path().join(file_name(promised.range()));
        let good = std::fs::read(&path).unwrap();
        for at in good.len() - 100..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            std::fs::write(&path, &bad).unwrap();
            let fault = outbox.pending().err().expect("a changed index is refused");
            assert!(format!("{:#}", fault.error).contains("5ea1-00000000000000000003"), "{fault}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(outbox.pending().is_err());
    }
}
