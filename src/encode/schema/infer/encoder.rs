//! The encoders of a format that infers its schema: one that waits for a schema, and one that watches what is rejected.

use std::io::{self, Write};
use std::sync::Arc;

use super::{Locked, Shared};
use crate::encode::{About, Encoder};
use crate::error::Reason;
use crate::record::{Batch, BatchBuilder};

/// How large held records become, in per cent, by all experience.
const USUAL_PERCENT: u64 = 16;

/// Encodes with a version that is known, and shows what it rejects to the format.
pub struct Watching {
    shared: Arc<Shared>,
    version: u32,
    inner: Box<dyn Encoder>,
}

impl Watching {
    /// An encoder of this version.
    pub fn new(shared: Arc<Shared>, locked: &Locked) -> Watching {
        Watching { shared, version: locked.version, inner: locked.format.encoder() }
    }
}

impl Encoder for Watching {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let rejected = self.inner.push(batch, rows, out)?;
        if !rejected.is_empty() {
            self.shared.rejected(batch, &rejected);
        }
        Ok(rejected)
    }

    fn version(&self) -> u64 {
        self.version.into()
    }

    fn rows(&self) -> u64 {
        self.inner.rows()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.inner.flush(out)
    }

    fn finish(self: Box<Self>, about: &About, out: &mut dyn Write) -> io::Result<()> {
        self.inner.finish(about, out)
    }
}

/// Holds its records until the schema is locked, at the latest by its own end. Each of them is part of the sample, and so
/// fits what is locked.
pub struct Sampling {
    shared: Arc<Shared>,
    held: BatchBuilder,
    locked: Option<Watching>,
}

impl Sampling {
    /// An encoder that has no schema yet.
    pub fn new(shared: Arc<Shared>) -> Sampling {
        Sampling { shared, held: BatchBuilder::default(), locked: None }
    }

    /// Encodes with what is locked from now on, what is held first.
    fn lock(&mut self, out: &mut dyn Write) -> io::Result<&mut Watching> {
        let shared = self.shared.clone();
        if self.locked.is_none() {
            let locked = shared.lock(&mut shared.state())?;
            let mut encoder = Watching::new(shared, &locked);
            let held = std::mem::take(&mut self.held).finish();
            let rows: Vec<u32> = (0..u32::try_from(held.len()).map_err(io::Error::other)?).collect();
            if let Some((_, reason)) = encoder.inner.push(&held, &rows, out)?.first() {
                let message =
                    format!("a record of the sample does not fit the schema inferred from it: {}", reason.message);
                return Err(io::Error::other(message));
            }
            self.locked = Some(encoder);
        }
        self.locked.as_mut().ok_or_else(|| io::ErrorKind::Other.into())
    }
}

impl Encoder for Sampling {
    fn push(&mut self, batch: &Batch, rows: &[u32], out: &mut dyn Write) -> io::Result<Vec<(u32, Reason)>> {
        let mut rejected = Vec::new();
        let mut taken = 0;
        if self.locked.is_none() {
            let shared = self.shared.clone();
            let mut state = shared.state();
            while taken < rows.len() && state.locked.is_none() && !shared.sample_is_complete(&state) {
                let row = rows[taken] as usize;
                match shared.sample(&mut state, batch.payload(row)) {
                    Ok(()) => self.held.push(batch.payload(row), batch.arrival_ms(row)),
                    Err(reason) => rejected.push((rows[taken], reason)),
                }
                taken += 1;
            }
            if state.locked.is_none() && !shared.sample_is_complete(&state) {
                return Ok(rejected);
            }
        }
        rejected.extend(self.lock(out)?.push(batch, &rows[taken..], out)?);
        Ok(rejected)
    }

    fn version(&self) -> u64 {
        self.locked.as_ref().map_or(u64::MAX, Watching::version)
    }

    fn rows(&self) -> u64 {
        self.locked.as_ref().map_or(self.held.len() as u64, Watching::rows)
    }

    fn size(&self) -> u64 {
        self.locked.as_ref().map_or(self.held.bytes() as u64 * USUAL_PERCENT / 100, Watching::size)
    }

    fn memory(&self) -> usize {
        self.locked.as_ref().map_or(2 * self.held.bytes(), Watching::memory)
    }

    fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.rows() {
            0 => Ok(()),
            _ => self.lock(out)?.flush(out),
        }
    }

    fn finish(mut self: Box<Self>, about: &About, out: &mut dyn Write) -> io::Result<()> {
        if self.rows() > 0 {
            self.lock(out)?;
        }
        match self.locked {
            Some(encoder) => Box::new(encoder).finish(about, out),
            // Nothing that is an object.
            None => Ok(()),
        }
    }
}
