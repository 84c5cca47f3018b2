//! Faults and reasons: who is to blame decides what happens next.
//!
//! A [`Fault`] stops something (a revision, a pipeline, the process); a [`Reason`] sets one record aside.

use std::{fmt, io};

/// Who is to blame, and so what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The configuration: this revision is refused.
    Config,
    /// The place records come from: the pipeline tries again, with backoff, for ever.
    Source,
    /// A transform that cannot work, for no record's reason: no memory for it, an `init` that says no, a service that is
    /// not there. Tried again, for ever.
    Transform,
    /// The place objects go to: a foreign object has our name, or the folder cannot be used; the pipeline stops. (What a
    /// sink does not take is tried again for ever, and is no fault.)
    Sink,
    /// Room on our own disk: tried again, since delivering frees some.
    Space,
    /// Our own disk: acknowledge nothing more, stop the process.
    Disk,
    /// Ourselves: stop the process, systemd starts it again.
    Bug,
}

/// Something that stops more than one record. `Display` prints one line; `{:#}` adds the causes.
#[derive(Debug)]
pub struct Fault {
    pub blame: Blame,
    pub error: anyhow::Error,
}

impl Fault {
    /// A fault with a message: lower case, the thing and its place first, values after.
    pub fn new(blame: Blame, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Fault {
        Fault { blame, error: anyhow::Error::msg(message) }
    }

    /// A fault of our own disk.
    pub fn disk(error: impl Into<anyhow::Error>) -> Fault {
        Fault { blame: Blame::Disk, error: error.into() }
    }

    /// A fault of our own disk; one that is full, or a process with all its files open, is only a matter of waiting.
    pub fn of_io(error: io::Error) -> Fault {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            || rustix::io::Errno::from_io_error(&error)
                .is_some_and(|errno| matches!(errno, rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
        Fault { blame: if full { Blame::Space } else { Blame::Disk }, error: error.into() }
    }

    /// A fault of the source.
    pub fn source(error: impl Into<anyhow::Error>) -> Fault {
        Fault { blame: Blame::Source, error: error.into() }
    }

    /// A fault of a service that a transform calls.
    pub fn transform(error: impl Into<anyhow::Error>) -> Fault {
        Fault { blame: Blame::Transform, error: error.into() }
    }

    /// A fault of the sink.
    pub fn sink(error: impl Into<anyhow::Error>) -> Fault {
        Fault { blame: Blame::Sink, error: error.into() }
    }

    /// Whether the process must end: what it would promise from now on could be broken.
    pub fn ends_process(&self) -> bool {
        matches!(self.blame, Blame::Disk | Blame::Bug | Blame::Config)
    }

    /// Whether trying again later may go well.
    pub fn time_may_mend(&self) -> bool {
        matches!(self.blame, Blame::Source | Blame::Transform | Blame::Space)
    }

    /// The same fault, with what was being done.
    pub fn context(self, doing: impl fmt::Display + Send + Sync + 'static) -> Fault {
        Fault { blame: self.blame, error: self.error.context(doing) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

/// Characters of what others say, in messages of ours.
pub const SAID_CHARS_MAX: usize = 300;

/// What others said, short and on one line.
pub fn said(text: &str) -> String {
    let words: String = text.chars().take(SAID_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    words.trim().to_owned()
}

/// The innermost cause of an error of a request, as [`said`]: the outer ones only say that it failed, and to which url.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let innermost = std::iter::successors(Some(error), |&error| error.source()).last();
    said(&innermost.unwrap_or(error).to_string())
}

/// Why a record was set aside; the name is Firehose's `error-output-type`, and so part of the error prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectedBy {
    /// A transform refused it: `processing-failed`.
    Transform,
    /// It cannot become a row of the format: `format-conversion-failed`.
    Format,
    /// Its prefix cannot be made from it: `metadata-extraction-failed`.
    Prefix,
}

impl RejectedBy {
    /// Firehose's name for it, as it stands in error prefixes.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectedBy::Transform => "processing-failed",
            RejectedBy::Format => "format-conversion-failed",
            RejectedBy::Prefix => "metadata-extraction-failed",
        }
    }
}

/// Why one record was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub by: RejectedBy,
    /// Firehose's error code where it has one, such as `DataFormatConversion.ParseError`.
    pub code: &'static str,
    /// What is wrong: the column or place, what was expected, what stood there (shortened).
    pub message: String,
}
