//! Once keys: how a producer's retries of one call are known for what they are.

use sha2::{Digest, Sha256};

use crate::spool::OnceKey;

/// Bytes of a client's own name for a call; longer ones are refused, as they are no such name.
pub const CALL_BYTES_MAX: usize = 256;

/// The key of a call: who calls (`-` for nobody), the name that the client gave the call, what is called, and the
/// SHA-256 of the body. With the caller and the body in it nobody can make another's records vanish by taking their
/// call's name.
pub fn once_key(caller: &str, call: &[u8], target: &str, body_sha256: &[u8; 32]) -> OnceKey {
    let mut hash = Sha256::new();
    for part in [caller.as_bytes(), call, target.as_bytes(), body_sha256] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    OnceKey(key)
}

/// SHA-256 of a body. CPU work, about 1.5 GB/s with the processor's SHA instructions.
pub fn sha256(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let base = once_key("AKID", b"id-1", "PutRecord", &sha256(b"body"));
        assert_eq!(base, once_key("AKID", b"id-1", "PutRecord", &sha256(b"body")));
        assert_ne!(base, once_key("AKIE", b"id-1", "PutRecord", &sha256(b"body")));
        assert_ne!(base, once_key("AKID", b"id-2", "PutRecord", &sha256(b"body")));
        assert_ne!(base, once_key("AKID", b"id-1", "PutRecordBatch", &sha256(b"body")));
        assert_ne!(base, once_key("AKID", b"id-1", "PutRecord", &sha256(b"bodz")));
        assert_ne!(base, once_key("AKIDi", b"d-1", "PutRecord", &sha256(b"body")));
    }
}
