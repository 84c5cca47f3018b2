//! The doors: a real server on loopback over a real spool, and clients that behave, misbehave and attack.

mod firehose;
mod http;
mod server;
mod stdin;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use hydrant::disk::RealDisk;
use hydrant::ground::{Clock, Ground, Random};
use hydrant::position::Position;
use hydrant::receive::{About, Auth, Door, Doors, Key, Limits, Options, serve, sigv4};
use hydrant::source::Source;
use hydrant::spool::{self, Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// 2026-11-20T12:00:00Z
const NOW_MS: i64 = 1_795_176_000_000;

const MIB: usize = 1024 * 1024;

/// A server with the streams `clicks` and `logs`.
struct House {
    address: SocketAddr,
    streams: BTreeMap<String, Stream>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    budget: Arc<Semaphore>,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl House {
    async fn new(options: Options, spool: spool::Options) -> House {
        let ground = Ground { disk: Arc::new(RealDisk), clock: Clock::new(|| NOW_MS), random: Random::real() };
        let folder = tempfile::tempdir().unwrap();
        let mut streams = BTreeMap::new();
        for name in ["clicks", "logs"] {
            let stream = Stream::open(&ground, &folder.path().join(name), name, &spool).await.unwrap();
            streams.insert(name.to_owned(), stream);
        }
        let budget = Arc::new(Semaphore::new(512 * 1024));
        let doors = Arc::new(Doors::new(&ground, budget.clone(), options));
        doors.set_streams(streams.iter().map(|(name, stream)| (name.clone(), door(stream))).collect());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, doors, stop.clone()));
        // reqwest is built without a TLS provider of its own; another test may have installed ours already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        House { address, streams, stop, served, budget, client, _folder: folder }
    }

    async fn open() -> House {
        House::new(Options::default(), roomy()).await
    }

    async fn with_limits(limits: Limits) -> House {
        House::new(Options { limits, ..Options::default() }, roomy()).await
    }

    /// An AWS call: status and body.
    async fn call(&self, operation: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let target = format!("Firehose_20150804.{operation}");
        let request = self.client.post(format!("http://{}/", self.address)).header("x-amz-target", target);
        answer_of(request.header("content-type", "application/x-amz-json-1.1").body(body)).await
    }

    /// An AWS call that fails: `status kind: message`.
    async fn call_fails(&self, operation: &str, body: impl Into<reqwest::Body>) -> String {
        let (status, answer) = self.call(operation, body).await;
        format!("{status} {}: {}", answer["__type"].as_str().unwrap(), answer["message"].as_str().unwrap())
    }

    /// Records by plain HTTP: status and body.
    async fn post(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.post_to("/streams/clicks/records", headers, body).await
    }

    async fn post_to(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
        let mut request = self.client.post(format!("http://{}{path}", self.address)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer_of(request).await
    }

    /// Records by plain HTTP that are refused: `status error`.
    async fn post_fails(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> String {
        let (status, answer) = self.post(headers, body).await;
        format!("{status} {}", answer["error"].as_str().unwrap())
    }

    /// All payloads of a stream up to `count`, read from the spool.
    async fn payloads(&self, stream: &str, count: usize) -> Vec<Vec<u8>> {
        let stream = &self.streams[stream];
        let source = stream.source("test");
        let mut reader = source.open(stream.shard(), Some(&Position::from(0))).await.unwrap();
        let mut payloads = Vec::new();
        while payloads.len() < count {
            let read = reader.next().await.unwrap().expect("the stream goes on");
            payloads.extend(read.batch.payloads().map(<[u8]>::to_vec));
        }
        payloads
    }

    /// Whatever happened before, the next producer is served, nothing stray was stored, and no byte of memory is held.
    async fn lives_with(&self, stored: usize) {
        let (status, _) = self.post(&[("content-type", "text/plain")], "still here").await;
        assert_eq!(status, 200);
        let payloads = self.payloads("clicks", stored + 1).await;
        assert_eq!(payloads.len(), stored + 1);
        assert_eq!(payloads.last().unwrap(), b"still here");
        assert_eq!(self.budget.available_permits(), 512 * 1024);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap();
        for stream in self.streams.values() {
            stream.stop().await;
        }
    }
}

fn door(stream: &Stream) -> Door {
    let about = About {
        created_ms: 1_795_176_000_500,
        bucket: "lake".into(),
        prefix: "clicks/".into(),
        error_prefix: "errors/".into(),
        compression: "GZIP".into(),
        buffer_mib: 128,
        buffer_interval_s: 60,
    };
    Door { stream: stream.clone(), about }
}

fn roomy() -> spool::Options {
    spool::Options {
        segment_bytes: 64 * MIB as u64,
        spool_bytes_max: 1024 * MIB as u64,
        free_bytes_min: 0,
        ..spool::Options::default()
    }
}

async fn answer_of(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

/// The body of a PutRecordBatch to `clicks`.
fn batch<T: AsRef<[u8]>>(payloads: impl IntoIterator<Item = T>) -> String {
    let data = |payload: T| format!("{{\"Data\":\"{}\"}}", STANDARD.encode_to_string(payload));
    let records: Vec<String> = payloads.into_iter().map(data).collect();
    format!("{{\"DeliveryStreamName\":\"clicks\",\"Records\":[{}]}}", records.join(","))
}

fn one(payload: impl AsRef<[u8]>) -> String {
    let data = STANDARD.encode_to_string(payload);
    format!("{{\"DeliveryStreamName\":\"clicks\",\"Record\":{{\"Data\":\"{data}\"}}}}")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends raw bytes and gives what comes back until the server closes.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may close before all is sent; what it said is what counts.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
