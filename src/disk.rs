//! The disk: every durable effect goes through this trait, so that a test can die at each of them.
//!
//! The rules (`DECISIONS.md`, "The disk"): a file is born whole ([`born_whole`]) or is an append-only log that
//! is synced before anyone is told. A new name counts only after [`Disk::sync_dir`] of its folder. After a failed sync the
//! bytes may be gone for good although a later sync succeeds: never sync that file again, stop.
//! All calls block; call them inside [`crate::cpu::off_async`].

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

/// The operations with durable effect, and what is needed to read back.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist yet; mode 0600. Its name is durable only after `sync_dir`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file so that whole blocks ([`Blocks`], at multiples of [`BLOCK_BYTES`]) pass between it and the
    /// memory without a copy in the page cache, where the file system can do that. All else works as ever, and every other
    /// handle sees the same bytes.
    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    /// Renames, replacing what is there; durable only after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable only after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a folder (not its folders): names with lengths in bytes, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Creates a folder and its parents, mode 0700, durably: each new entry is synced in its parent, and so is that of
    /// `dir` if it was there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that an unprivileged process may still write below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Reads and writes name their offset, so a handle has no state and may be shared.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; durable only after `sync`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all that was written durable. After an error: never again on this file.
    fn sync(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, durable on return: one disk operation where the file was written there
    /// before (a pre-created segment). After an error: never write or sync this file again.
    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(bytes, offset)?;
        self.sync()
    }

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// What a disk reads and writes as a whole, in bytes: a page, and the largest sector of common disks.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes that begin at a multiple of [`BLOCK_BYTES`] in memory, as a disk wants them that goes past the page cache.
#[derive(Debug)]
pub struct Blocks {
    /// Must not grow beyond its capacity: it would begin elsewhere, and be copied as any other bytes.
    bytes: Vec<u8>,
    start: usize,
}

impl Blocks {
    /// Nothing, with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Blocks {
        let mut bytes = Vec::<u8>::with_capacity(capacity + BLOCK_BYTES);
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        bytes.resize(start, 0);
        Blocks { bytes, start }
    }

    /// `len` zeros.
    pub fn zeroed(len: usize) -> Blocks {
        let mut blocks = Blocks::with_capacity(len);
        blocks.pad(len);
        blocks
    }

    /// To append to: what is in front of the bytes is none of them.
    pub fn end_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends so many zeros.
    pub fn pad(&mut self, zeros: usize) {
        self.bytes.resize(self.bytes.len() + zeros, 0);
    }

    /// The bytes as they can be shared.
    pub fn freeze(self) -> Bytes {
        Bytes::from(self.bytes).slice(self.start..)
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

/// Writes `dir/name` so that after a crash it is there whole or not at all, and is durable on return.
///
/// The temporary file is `dir/tmp-name`; whoever owns the folder removes `tmp-*` at start.
pub fn born_whole(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("tmp-{name}"));
    remove_if_there(disk, &temporary)?;
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Removes a file; one that is not there is fine.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads a whole file.
pub fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Makes a folder of the machine's own disk and its parents, with this mode, durably.
///
/// A folder that was there is synced in its parent too: a process that died between the two steps left it unsynced. A
/// parent that we may not read is not one in which we made it.
pub fn make_folder(dir: &Path, mode: u32) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let was_there = dir.is_dir();
    if !was_there {
        if let Some(parent) = parent {
            make_folder(parent, mode)?;
        }
        match fs::DirBuilder::new().mode(mode).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(not_a_folder(dir)),
            other => other?,
        }
    }
    match RealDisk.sync_dir(parent.unwrap_or(Path::new("."))) {
        Err(error) if was_there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

/// Something else has the name of a folder; `File exists` would not say so.
pub fn not_a_folder(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a folder", path.display()))
}

/// The machine's own disk.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(RealFile { file, uncached: None }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile { file, uncached: None }))
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let direct = OFlags::DIRECT.bits() as i32;
        // Some file systems do not know the flag.
        let uncached = OpenOptions::new().read(true).write(true).custom_flags(direct).open(path).ok();
        Ok(Arc::new(RealFile { file, uncached }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        make_folder(dir, 0o700)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The machine's own disk, of which nothing is changed: for a look at what another process owns. What would write is
/// refused, and what would make durable does nothing.
#[derive(Debug, Clone, Copy)]
pub struct ReadOnlyDisk;

fn read_only() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(read_only())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // The handle cannot write, and the kernel says so.
        Ok(Arc::new(RealFile { file: File::open(path)?, uncached: None }))
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(read_only())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}

struct RealFile {
    file: File,
    /// The same file, past the page cache.
    uncached: Option<File>,
}

impl RealFile {
    /// The way for these bytes: past the page cache if they are whole blocks. It may still refuse them (EINVAL), as a disk
    /// with larger blocks does, and has done nothing then.
    fn way(&self, bytes: &[u8], offset: u64) -> &File {
        let whole = [bytes.as_ptr().addr(), bytes.len(), offset as usize].iter().all(|n| n.is_multiple_of(BLOCK_BYTES));
        self.uncached.as_ref().filter(|_| whole).unwrap_or(&self.file)
    }

    fn is_refused(&self, way: &File, error: Errno) -> bool {
        error == Errno::INVAL && !std::ptr::eq(way, &self.file)
    }

    fn write(&self, mut bytes: &[u8], mut offset: u64, flags: ReadWriteFlags) -> io::Result<()> {
        let mut way = self.way(bytes, offset);
        while !bytes.is_empty() {
            match rustix::io::pwritev2(way, &[io::IoSlice::new(bytes)], offset, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) if self.is_refused(way, error) => way = &self.file,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        let mut way = self.way(buffer, offset);
        while read < buffer.len() {
            match rustix::io::pread(way, &mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(error) if self.is_refused(way, error) => way = &self.file,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset, ReadWriteFlags::empty())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write_durably_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(bytes, offset, ReadWriteFlags::DSYNC)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_and_odd_pieces_meet_in_one_file_whichever_way_they_take() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        RealDisk.create(&path).unwrap();
        let (uncached, plain) = (RealDisk.open_uncached(&path).unwrap(), RealDisk.open(&path).unwrap());
        let mut blocks = Blocks::zeroed(3 * BLOCK_BYTES);
        assert!(blocks.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
        blocks.fill(b'b');
        uncached.write_at(&blocks, 0).unwrap();
        plain.write_durably_at(b"odd", 4095).unwrap();
        uncached.write_durably_at(&blocks[..BLOCK_BYTES], 2 * BLOCK_BYTES as u64).unwrap();
        uncached.write_durably_at(b"end", 3 * BLOCK_BYTES as u64).unwrap();
        let expected = [&[b'b'; 4095][..], b"odd", &[b'b'; 2 * BLOCK_BYTES - 2], b"end"].concat();
        for file in [&uncached, &plain] {
            let mut all = Blocks::zeroed(4 * BLOCK_BYTES);
            let read = file.read_at(&mut all, 0).unwrap();
            assert_eq!(all.freeze().slice(..read), expected);
            let mut piece = [0; 5];
            assert_eq!((file.read_at(&mut piece, 4094).unwrap(), &piece), (5, b"boddb"));
        }
    }
}
