//! Which file is which: a renamed file stays itself, a new file under an old name or inode is another one.
//!
//! Neither name nor inode is enough: names move at rotation, and a file system gives the inode of a deleted file to
//! the next one (ext4 and tmpfs at once). So a file is known by device, inode, birth time where the file system keeps
//! one, and its first KiB. While a file is shorter than that, the fingerprint covers what there was, and grows.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

/// What the file system says about which file this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub dev: u64,
    pub ino: u64,
    /// Unix nanoseconds; not every file system keeps a birth time.
    pub born_ns: Option<u64>,
}

impl Identity {
    /// The identity of the file with this metadata.
    pub fn of(metadata: &Metadata) -> Identity {
        let since = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).filter(|ns| *ns > 0);
        Identity { dev: metadata.dev(), ino: metadata.ino(), born_ns }
    }

    /// Whether both may be one file, as far as the file system knows.
    pub fn agrees(&self, other: &Identity) -> bool {
        self.dev == other.dev && self.ino == other.ino && self.births_agree(other)
    }

    /// Whether both may be one file whose file system got another device number: those of NFS, LVM and btrfs may
    /// change with a reboot. Then only an equal birth time counts.
    pub fn agrees_elsewhere(&self, other: &Identity) -> bool {
        self.ino == other.ino && self.born_ns.is_some() && self.born_ns == other.born_ns
    }

    fn births_agree(&self, other: &Identity) -> bool {
        match (self.born_ns, other.born_ns) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

/// The fingerprint: how many of the first bytes are known, and their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub bytes: usize,
    /// The first half of their SHA-256.
    pub hash: u128,
}

impl Fingerprint {
    /// How much of a file's beginning is looked at, in bytes.
    pub const BYTES_MAX: usize = 1024;

    /// The fingerprint of a file that begins with `head`.
    pub fn of(head: &[u8]) -> Fingerprint {
        let head = head.get(..Fingerprint::BYTES_MAX).unwrap_or(head);
        let digest = Sha256::digest(head);
        let hash = digest.iter().take(16).fold(0, |hash, byte| hash << 8 | u128::from(*byte));
        Fingerprint { bytes: head.len(), hash }
    }

    /// Whether a file that begins with `head` may be the one that had this fingerprint: it has not become shorter
    /// than what is known, and that is unchanged.
    pub fn matches(&self, head: &[u8]) -> bool {
        head.get(..self.bytes).is_some_and(|known| Fingerprint::of(known) == *self)
    }
}

/// The first bytes of a file, up to [`Fingerprint::BYTES_MAX`].
pub fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; Fingerprint::BYTES_MAX];
    let mut len = 0;
    while len < head.len() {
        match file.read_at(&mut head[len..], len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(len);
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_matches_the_same_file_grown_and_no_other() {
        let known = Fingerprint::of(b"one\ntwo\n");
        assert!(known.matches(b"one\ntwo\n"));
        assert!(known.matches(b"one\ntwo\nthree\n"));
        assert!(!known.matches(b"one\n"), "shorter than known");
        assert!(!known.matches(b"One\ntwo\nthree\n"));
        assert!(Fingerprint::of(b"").matches(b"anything"));
        assert_eq!(Fingerprint::of(&[b'x'; 5000]), Fingerprint::of(&[b'x'; 1024]));
    }

    #[test]
    fn a_new_device_number_is_forgiven_only_with_an_equal_birth_time() {
        let old = Identity { dev: 1, ino: 7, born_ns: Some(5) };
        assert!(Identity { dev: 2, ..old }.agrees_elsewhere(&old));
        assert!(!Identity { dev: 2, ino: 7, born_ns: None }.agrees_elsewhere(&old));
        assert!(Identity { born_ns: None, ..old }.agrees(&old));
        assert!(!Identity { born_ns: Some(6), ..old }.agrees(&old));
    }
}
