//! A segment created in advance: zeros on the disk, so that writing a group over them is one disk operation.
//!
//! The zeros go past the page cache: it would only hold them until they are overwritten.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cpu::off_async;
use crate::disk::{Blocks, Disk, DiskFile, remove_if_there};

/// Bytes written at once: small, so that a group commit next to it hardly waits.
const STEP_BYTES: usize = 1 << 20;

/// The name until a segment gets its own; removed at start like every `tmp-*`.
const NAME: &str = "tmp-next";

/// A file of zeros, durable but for its name.
pub struct Prepared {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub bytes: u64,
}

/// Writes a file of `bytes` zeros into `dir`, step by step; other tasks run between the steps. Nothing depends on it: on
/// an error the file is removed and segments grow as they are written.
pub async fn prepare(disk: Arc<dyn Disk>, dir: PathBuf, bytes: u64, free_bytes_min: u64) -> io::Result<Prepared> {
    let path = dir.join(NAME);
    let zeroed = zero(&*disk, &dir, &path, bytes, free_bytes_min).await;
    if zeroed.is_err() {
        off_async(|| remove_if_there(&*disk, &path))?;
    }
    Ok(Prepared { file: zeroed?, path, bytes })
}

async fn zero(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    bytes: u64,
    free_bytes_min: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    let file = off_async(|| {
        // Room for this one and for the outbox, which must go on when the disk fills.
        if disk.free_bytes(dir)? < free_bytes_min.saturating_add(2 * bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        remove_if_there(disk, path)?;
        disk.create(path)?;
        disk.open_uncached(path)
    })?;
    let zeros = Blocks::zeroed(STEP_BYTES);
    for at in (0..bytes).step_by(STEP_BYTES) {
        let step = (bytes - at).min(STEP_BYTES as u64) as usize;
        off_async(|| file.write_at(&zeros[..step], at))?;
        tokio::task::yield_now().await;
    }
    off_async(|| file.sync())?;
    Ok(file)
}
