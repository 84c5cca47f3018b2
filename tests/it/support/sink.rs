//! Puts of bytes in memory.

use std::io;

use bytes::Bytes;
use hydrant::sink::{ObjectSink, Put, PutError, Trouble, Upload};

/// Puts `body` under `name`; `trouble` hears of attempts that failed.
pub async fn put(
    sink: &ObjectSink,
    name: &str,
    body: &[u8],
    trouble: impl Fn(&Trouble) + Send + Sync,
) -> Result<Put, PutError> {
    let read = |offset: u64, len: usize| -> io::Result<Bytes> {
        Ok(Bytes::copy_from_slice(&body[offset as usize..offset as usize + len]))
    };
    let upload = Upload { name, len: body.len() as u64, crc32c: crc32c::crc32c(body), read: &read };
    sink.put(&upload, &trouble).await
}

/// For puts that must go well at once.
pub fn no_trouble(trouble: &Trouble) {
    panic!("{trouble:?}");
}
