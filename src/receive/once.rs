//! Once keys: how a producer's retries of one call are known for what they are.

use sha2::{Digest, Sha256};
use twox_hash::XxHash3_128;

use crate::spool::OnceKey;

/// Bytes of a client's own name for a call; longer ones are refused, as they are no such name.
pub const CALL_BYTES_MAX: usize = 256;

/// The key of a call: who calls (`-` for nobody), the name that the client gave the call, what is called, and a hash of
/// the body. With the caller and the body in it nobody can make another's records vanish by taking their call's name.
pub fn once_key(caller: &str, call: &[u8], target: &str, body_hash: &[u8]) -> OnceKey {
    let mut hash = Sha256::new();
    for part in [caller.as_bytes(), call, target.as_bytes(), body_hash] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    OnceKey(key)
}

/// A hash that tells the bodies of one caller's equally named calls apart: XXH3, 128 bits. CPU work, 20 GB/s and more.
///
/// It withstands accidents, not an enemy, and need not: whoever is able to choose two bodies of one hash under one name
/// and one caller loses a record of their own. Frames keep keys, so it must be the same for ever, as XXH3 is.
pub fn body_hash(body: &[u8]) -> [u8; 16] {
    XxHash3_128::oneshot(body).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let base = once_key("AKID", b"id-1", "PutRecord", &body_hash(b"body"));
        assert_eq!(base, once_key("AKID", b"id-1", "PutRecord", &body_hash(b"body")));
        assert_ne!(base, once_key("AKIE", b"id-1", "PutRecord", &body_hash(b"body")));
        assert_ne!(base, once_key("AKID", b"id-2", "PutRecord", &body_hash(b"body")));
        assert_ne!(base, once_key("AKID", b"id-1", "PutRecordBatch", &body_hash(b"body")));
        assert_ne!(base, once_key("AKID", b"id-1", "PutRecord", &body_hash(b"bodz")));
        assert_ne!(base, once_key("AKIDi", b"d-1", "PutRecord", &body_hash(b"body")));
    }

    #[test]
    fn a_body_has_the_same_hash_in_every_version() {
        // XXH3_128bits of nothing, from the reference implementation.
        assert_eq!(u128::from_le_bytes(body_hash(b"")), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
