//! Where a file's writer writes to, and its owner reads from.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes on their way out of the writer; clones are the same pipe.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Pipe {
    /// Gives what is in it to `out`.
    pub fn drain(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = out.write_all(&held);
        // A column comes at once and may be large; its memory is not needed until the next row group.
        *held = Vec::new();
        result
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
