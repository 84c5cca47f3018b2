//! Receivers: the doors through which producers push records into streams, and the server they stand in.
//!
//! A request is read within limits, parsed into one batch, appended to its stream's spool, and answered when it is
//! durable: an answer of success is a promise. Receivers know the spool and nothing else of a record's way.
//!
//! Two doors share one port: the Firehose API ([`aws`] frames it, [`firehose`] means it) and plain HTTP ([`http`]).
//! Standard input ([`stdin`]) is the third.

pub mod aws;
pub mod body;
pub mod firehose;
pub mod http;
pub mod json;
pub mod keys;
pub mod once;
pub mod patience;
pub mod put;
pub mod records;
pub mod server;
pub mod sigv4;
pub mod stdin;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use tokio::sync::Semaphore;

pub use self::keys::{Auth, Caller, Key, check_exposure};
pub use self::server::serve;
use crate::ground::{Clock, Ground, Random};
use crate::spool::Stream;

/// An answer, held whole.
pub type Reply = Response<Full<Bytes>>;

/// Work on at most so many bytes is done where the request is: about 0.2 ms, no more than moving the other tasks to another
/// thread would cost them. Larger ones leave the async threads.
const INLINE_BYTES_MAX: usize = 512 * 1024;

/// A stream as producers see it.
#[derive(Clone)]
pub struct Door {
    pub stream: Stream,
    pub about: About,
}

/// What `DescribeDeliveryStream` tells about a stream: plain words from its pipeline, in Firehose's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// When the stream was made, Unix milliseconds.
    pub created_ms: i64,
    /// The bucket or other place of the objects; shown as `arn:aws:s3:::{bucket}`.
    pub bucket: String,
    /// As written in the pipeline.
    pub prefix: String,
    /// As written in the pipeline.
    pub error_prefix: String,
    /// `UNCOMPRESSED`, `GZIP`, `ZIP`, `Snappy` or `HADOOP_SNAPPY`: other words break SDKs that check.
    pub compression: String,
    pub buffer_mib: u64,
    pub buffer_interval_s: u64,
}

/// How the doors are kept.
#[derive(Debug, Clone)]
pub struct Options {
    pub auth: Auth,
    /// Twelve digits, part of ARNs and messages.
    pub account_id: String,
    /// Part of ARNs; signatures may name any region.
    pub region: String,
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            auth: Auth::Anonymous,
            account_id: "000000000000".into(),
            region: "us-east-1".into(),
            limits: Limits::default(),
        }
    }
}

/// What one client may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Further ones wait in the listener's backlog.
    pub connections_max: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_time_max: Duration,
    /// All header names and values together.
    pub header_bytes_max: usize,
    /// From one request of a connection to the next.
    pub idle_time_max: Duration,
    /// From the end of the headers to the end of the body.
    pub body_time_max: Duration,
    /// Between two pieces of a body.
    pub body_idle_time_max: Duration,
    /// A body as it comes, compressed or not. (4 MiB of records are 5.4 MiB in base64; the rest is for good messages.)
    pub body_bytes_max: usize,
    /// A body after decompression.
    pub inflated_bytes_max: usize,
    /// For which a client may not read its answer.
    pub write_time_max: Duration,
    /// For which a request waits for room in the byte budget.
    pub budget_wait_max: Duration,
    /// For which requests in flight may go on after the stop signal.
    pub stop_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 1024,
            header_time_max: Duration::from_secs(10),
            header_bytes_max: 16 * 1024,
            idle_time_max: Duration::from_secs(75),
            body_time_max: Duration::from_secs(60),
            body_idle_time_max: Duration::from_secs(10),
            body_bytes_max: 16 * 1024 * 1024,
            inflated_bytes_max: 64 * 1024 * 1024,
            write_time_max: Duration::from_secs(30),
            budget_wait_max: Duration::from_secs(5),
            stop_time_max: Duration::from_secs(5),
        }
    }
}

/// All that the doors share. The set of streams may change while they are open.
pub struct Doors {
    streams: RwLock<Arc<BTreeMap<String, Door>>>,
    options: Options,
    clock: Clock,
    random: Random,
    budget: Arc<Semaphore>,
}

impl Doors {
    /// No stream yet. `budget` has a permit for each [`body::PERMIT_BYTES`] bytes that requests may hold together; it
    /// should have room for several times the largest body.
    pub fn new(ground: &Ground, budget: Arc<Semaphore>, options: Options) -> Doors {
        let Ground { clock, random, .. } = ground.clone();
        Doors { streams: RwLock::default(), options, clock, random, budget }
    }

    /// From now on these streams, by name, and no others.
    pub fn set_streams(&self, streams: BTreeMap<String, Door>) {
        *self.streams.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(streams);
    }

    /// The streams of now.
    fn streams(&self) -> Arc<BTreeMap<String, Door>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stream of this name.
    fn stream(&self, name: &str) -> Option<Stream> {
        self.streams().get(name).map(|door| door.stream.clone())
    }

    fn limits(&self) -> &Limits {
        &self.options.limits
    }
}

/// Does CPU work of about `bytes` bytes, off the async threads if that is much.
fn on_cpu<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > INLINE_BYTES_MAX { crate::cpu::off_async(work) } else { work() }
}
