//! Sinks: where sealed objects go. A put is repeated until it is done, and doing it twice is doing it once.

pub mod aws;
mod local;
pub mod object_store;
mod options;
mod trouble;

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Blame, Fault};

pub use object_store::{Listed, ListedKind, Look, ObjectSink};
pub use options::{Options, OptionsError, Text, retry};

/// One sealed object, to be read piece by piece from where it lies.
pub struct Upload<'a> {
    /// As `naming` made it: a relative path, never encoded again.
    pub name: &'a str,
    /// Length in bytes.
    pub len: u64,
    /// CRC-32C of all bytes.
    pub crc32c: u32,
    /// Reads `len` bytes at an offset, all of them; blocking. May be called again for the same place.
    pub read: &'a (dyn Fn(u64, usize) -> io::Result<Bytes> + Send + Sync),
}

/// How a put ended well: the object is there, durable, with these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// This call stored it.
    Stored,
    /// It was there already (an earlier attempt had come through) and is the same.
    AlreadyThere,
}

/// Why a put will never end well.
#[derive(Debug)]
pub enum PutError {
    /// Another object has this name. It was neither overwritten nor removed; what it is follows in words.
    Foreign { location: String, found: String },
    /// The sealed bytes could not be read from our own disk, or are not what was sealed.
    Disk(io::Error),
    /// No store takes this name: our own mistake.
    Name { name: String, error: String },
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Foreign { location, found } => {
                write!(f, "{location}: a foreign object has this name ({found}); it is left untouched")
            }
            PutError::Disk(error) => write!(f, "outbox: {error}"),
            PutError::Name { name, error } => write!(f, "object name `{name}`: {error}"),
        }
    }
}

impl std::error::Error for PutError {}

impl From<PutError> for Fault {
    fn from(error: PutError) -> Fault {
        let blame = match &error {
            PutError::Foreign { .. } => Blame::Sink,
            PutError::Disk(_) => Blame::Disk,
            PutError::Name { .. } => Blame::Bug,
        };
        Fault { blame, error: error.into() }
    }
}

/// Why a put is being tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Attempts so far, counted from 1.
    pub attempt: u32,
    /// Time since the first attempt began.
    pub since: Duration,
    /// Time until the next.
    pub next: Duration,
    /// What the store answered, in words: lower case, the place first.
    pub message: String,
    /// What an operator can do.
    pub hint: Option<&'static str>,
}
