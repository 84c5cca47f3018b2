//! The doors: a real server on loopback over a real spool, and clients that behave, misbehave and attack.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use hydrant::disk::RealDisk;
use hydrant::ground::{Clock, Ground, Random};
use hydrant::position::Position;
use hydrant::receive::{About, Auth, Door, Doors, Key, Limits, Options, serve, sigv4, stdin};
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
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
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

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_batch_are_stored_in_order_and_told_apart() {
    let house = House::open().await;
    let (status, answer) = house.call("PutRecordBatch", batch([b"one".as_slice(), b"", b"\xff\x00"])).await;
    assert_eq!(status, 200);
    assert_eq!((&answer["FailedPutCount"], &answer["Encrypted"]), (&json!(0), &json!(false)));
    let ids: Vec<&str> = answer["RequestResponses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["RecordId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    let (status, answer) = house.call("PutRecord", one("four")).await;
    assert_eq!(status, 200);
    assert!(answer["RecordId"].as_str().unwrap() > ids[2] && answer["Encrypted"] == json!(false));
    assert_eq!(house.payloads("clicks", 4).await, [b"one".as_slice(), b"", b"\xff\x00", b"four"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_retry_is_stored_once_and_gets_the_same_record_ids() {
    let house = House::open().await;
    let put = |invocation: &'static str, body: String| {
        let request = house.client.post(format!("http://{}/", house.address));
        let request = request.header("x-amz-target", "Firehose_20150804.PutRecordBatch");
        answer_of(request.header("amz-sdk-invocation-id", invocation).body(body))
    };
    let first = put("call-1", batch(["a", "b"])).await;
    assert_eq!(put("call-1", batch(["a", "b"])).await, first);
    let other_body = put("call-1", batch(["c"])).await;
    let other_call = put("call-2", batch(["a", "b"])).await;
    assert!(other_body != first && other_call != first);
    assert_eq!(house.payloads("clicks", 5).await, [b"a", b"b", b"c", b"a", b"b"]);
    for _ in 0..2 {
        assert_eq!(house.post(&[("idempotency-key", "k")], "d").await, (200, json!({"records": 1})));
    }
    house.lives_with(6).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firehose_limits_are_answered_in_aws_words_and_nothing_is_stored() {
    let house = House::open().await;
    let body = batch(vec!["x"; 501]);
    assert_eq!(
        house.call_fails("PutRecordBatch", body).await,
        "400 ValidationException: 1 validation error detected: Value '[…]' at 'records' failed to satisfy constraint: \
         Member must have length less than or equal to 500"
    );
    assert_eq!(
        house.call_fails("PutRecordBatch", batch([vec![b'x'; 1_024_001]])).await,
        "400 ValidationException: 1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 \
         cap=1024001]' at 'records.1.member.data' failed to satisfy constraint: Member must have length less than or \
         equal to 1024000"
    );
    let over = batch([
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; 240_001],
    ]);
    assert_eq!(
        house.call_fails("PutRecordBatch", over).await,
        "400 InvalidArgumentException: Records size exceeds 4 MB limit"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("clicks", "nope")).await,
        "400 ResourceNotFoundException: Firehose nope under account 000000000000 not found."
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("clicks", "a b")).await,
        "400 ValidationException: 1 validation error detected: Value 'a b' at 'deliveryStreamName' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("eA==", "eA=")).await,
        "400 SerializationException: record.data is not valid base64"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x")[..40].to_owned()).await,
        "400 SerializationException: invalid JSON: the text ends too early at byte 40"
    );
    assert_eq!(
        house.call_fails("PutRecord", "[".repeat(100_000)).await,
        "400 SerializationException: invalid JSON: expected `{` at byte 0"
    );
    assert_eq!(
        house.call_fails("PutRecord", b"{\"\xff\"".to_vec()).await,
        "400 SerializationException: the body is not UTF-8"
    );
    assert_eq!(
        house.call_fails("CreateDeliveryStream", "{}").await,
        "400 UnknownOperationException: hydrant does not know this operation"
    );
    assert_eq!(
        house.call_fails("PutRecordBatch", vec![b' '; 16 * MIB + 1]).await,
        "413 RequestEntityTooLargeException: body exceeds 16777216 bytes"
    );
    assert_eq!(house.call("PutRecordBatch", batch(vec!["y"; 500])).await.0, 200);
    assert_eq!(house.call("PutRecord", one(vec![b'y'; 1_024_000])).await.0, 200);
    house.lives_with(501).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_described_and_listed() {
    let house = House::open().await;
    let (status, answer) = house.call("DescribeDeliveryStream", r#"{"DeliveryStreamName":"clicks","Limit":1}"#).await;
    assert_eq!(status, 200);
    let stream = &answer["DeliveryStreamDescription"];
    assert_eq!(stream["DeliveryStreamARN"], "arn:aws:firehose:us-east-1:000000000000:deliverystream/clicks");
    assert_eq!(stream["DeliveryStreamStatus"], "ACTIVE");
    assert_eq!(stream["CreateTimestamp"], 1_795_176_000.5);
    let destination = &stream["Destinations"][0];
    for description in ["S3DestinationDescription", "ExtendedS3DestinationDescription"] {
        let hints = json!({"SizeInMBs": 128, "IntervalInSeconds": 60});
        assert_eq!(destination[description]["BufferingHints"], hints);
        assert_eq!(destination[description]["CompressionFormat"], "GZIP");
    }
    assert_eq!(
        house.call_fails("DescribeDeliveryStream", r#"{"DeliveryStreamName":"nope"}"#).await,
        "400 ResourceNotFoundException: Firehose nope under account 000000000000 not found."
    );
    let names = |names: &[&str], more: bool| json!({"DeliveryStreamNames": names, "HasMoreDeliveryStreams": more});
    for (input, answer) in [
        (r#"{}"#, names(&["clicks", "logs"], false)),
        (r#"{"Limit":1}"#, names(&["clicks"], true)),
        (r#"{"ExclusiveStartDeliveryStreamName":"clicks"}"#, names(&["logs"], false)),
        (r#"{"ExclusiveStartDeliveryStreamName":"d"}"#, names(&["logs"], false)),
        (r#"{"DeliveryStreamType":"KinesisStreamAsSource"}"#, names(&[], false)),
    ] {
        assert_eq!(house.call("ListDeliveryStreams", input).await, (200, answer), "{input}");
    }
    assert_eq!(
        house.call_fails("ListDeliveryStreams", r#"{"Limit":10001}"#).await,
        "400 ValidationException: 1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: \
         Member must have value less than or equal to 10000"
    );
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_answers_slow_down_and_forgets_nothing() {
    let tight = spool::Options { segment_bytes: MIB as u64, spool_bytes_max: 2 * MIB as u64, ..roomy() };
    let house = House::new(Options::default(), tight).await;
    let payload = vec![b'x'; 200_000];
    let mut stored = 0;
    let refused = loop {
        let (status, answer) = house.call("PutRecord", one(&payload)).await;
        if status != 200 {
            break (status, answer);
        }
        stored += 1;
        assert!(stored < 100, "the quota holds");
    };
    let slow_down = json!({"__type": "ServiceUnavailableException", "message": "Slow down."});
    assert_eq!(refused, (500, slow_down.clone()));
    assert_eq!(house.call("PutRecordBatch", batch([&payload, &payload])).await, (500, slow_down));
    let (status, answer) = house.post(&[("content-type", "text/plain")], payload.clone()).await;
    assert_eq!(
        (status, answer),
        (503, json!({"error": "stream clicks is full", "hint": "slow down and send the same again"}))
    );
    assert!(stored > 0);
    assert_eq!(house.payloads("clicks", stored).await, vec![payload; stored]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stream_is_unavailable_and_its_neighbour_is_not() {
    let house = House::open().await;
    house.streams["clicks"].stop().await;
    assert_eq!(
        house.call_fails("PutRecord", one("x")).await,
        "500 ServiceUnavailableException: The stream takes no records at the moment. Try again."
    );
    assert_eq!(house.post_fails(&[], "x").await, "503 stream clicks takes no records at the moment");
    assert_eq!(house.post_to("/streams/logs/records", &[], "x").await, (200, json!({"records": 1})));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_takes_lines_and_json_compressed_or_not() {
    let house = House::open().await;
    let zstd = zstd::stream::encode_all(&b"f\r\ng"[..], 3).unwrap();
    let posts: [(&[(&str, &str)], Vec<u8>, usize); 8] = [
        (&[("content-type", "application/x-ndjson")], b"{\"a\":1}\n\n[broken\r\n".into(), 2),
        (&[("content-type", "application/json; charset=utf-8")], b"[{\"b\" : 1.0},\n2, \"x\"]".into(), 3),
        (&[("content-type", "application/json")], b"{\"c\":\n1}".into(), 1),
        (&[("content-type", "application/x-www-form-urlencoded")], b"{\"d\":1}{\"e\":2}".into(), 2),
        (&[("content-encoding", "zstd")], zstd, 2),
        (&[("content-encoding", "gzip"), ("content-type", "application/json")], gzip(b"[\"h\"]"), 1),
        (&[("content-type", "application/json")], b"[]".into(), 0),
        (&[], b"".into(), 0),
    ];
    for (headers, body, count) in posts {
        assert_eq!(house.post(headers, body).await, (200, json!({ "records": count })), "{headers:?}");
    }
    let expected: [&[u8]; 11] = [
        b"{\"a\":1}",
        b"[broken",
        b"{\"b\" : 1.0}",
        b"2",
        b"\"x\"",
        b"{\"c\":\n1}",
        b"{\"d\":1}",
        b"{\"e\":2}",
        b"f",
        b"g",
        b"\"h\"",
    ];
    assert_eq!(house.payloads("clicks", 11).await, expected);
    house.lives_with(11).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_refuses_with_a_reason_and_the_daemon_lives() {
    let house = House::open().await;
    let json_type = ("content-type", "application/json");
    let refused = |body: Vec<u8>| house.post_fails(std::slice::from_ref(&json_type), body);
    assert_eq!(
        refused(b"[{\"a\":1},\n{\"b\" 2}]".into()).await,
        "400 invalid JSON: expected `:` at line 2 column 6 (byte 15)"
    );
    assert_eq!(
        refused("[".repeat(100_000).into()).await,
        "400 invalid JSON: nesting deeper than 128 at line 1 column 130 (byte 129)"
    );
    assert_eq!(
        refused("{\"a\":".repeat(100_000).into()).await,
        "400 invalid JSON: nesting deeper than 128 at line 1 column 641 (byte 640)"
    );
    assert_eq!(refused(b"[\"\xff\"]".into()).await, "400 invalid JSON: not UTF-8 at byte 2");
    assert_eq!(refused(vec![b' '; 16 * MIB + 1]).await, "413 body exceeds 16777216 bytes");
    let gzipped = [("content-encoding", "gzip")];
    let bomb = gzip(&vec![0; MIB]).repeat(1024);
    assert_eq!(house.post_fails(&gzipped, bomb).await, "413 decompressed body exceeds 67108864 bytes");
    assert_eq!(
        house.post_fails(&gzipped, gzip(&vec![0; 4 * MIB])).await,
        "413 body grows more than 200-fold when decompressed"
    );
    assert!(house.post_fails(&gzipped, "not gzip").await.starts_with("400 body is not valid gzip: "));
    assert_eq!(house.post_fails(&[("content-encoding", "br")], "x").await, "415 content encoding br is not supported");
    assert_eq!(
        house.post_fails(&[("content-type", "image/png")], "x").await,
        "415 content type image/png is not supported"
    );
    let (status, answer) = house.post_to("/streams/nope/records", &[], "x").await;
    let hint = "a stream is made by a pipeline whose source names it";
    assert_eq!((status, answer), (404, json!({"error": "stream nope not found", "hint": hint})));
    let (status, answer) = house.post_to("/nowhere", &[], "x").await;
    assert_eq!((status, &answer["error"]), (404, &json!("path /nowhere not found")));
    let get = house.client.get(format!("http://{}/streams/clicks/records", house.address));
    assert_eq!(answer_of(get).await.0, 405);
    let (status, answer) = house.post(&[("x-large", &"x".repeat(16 * 1024))], "x").await;
    assert_eq!((status, answer), (431, json!({"error": "headers exceed 16384 bytes"})));
    house.lives_with(0).await;
    house.stop().await;
}

/// Credentials for `clicks` only, and for everything.
fn locked() -> Options {
    let clicks = Some(["clicks".to_owned()].into());
    let keys = vec![
        Key { id: "AKCLICKS".into(), secret: "canary-1".into(), streams: clicks },
        Key { id: "AKALL".into(), secret: "canary-2".into(), streams: None },
    ];
    Options { auth: Auth::Keys(keys), ..Options::default() }
}

/// A PutRecord signed as an SDK does it.
fn signed(house: &House, id: &str, secret: &str, body: &str) -> reqwest::RequestBuilder {
    let (date, target, host) = ("20261120T120000Z", "Firehose_20150804.PutRecord", house.address.to_string());
    let canonical = format!(
        "POST\n/\n\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}\n\nhost;x-amz-date;x-amz-target\n{}",
        sigv4::hex(&hydrant::receive::once::sha256(body.as_bytes()))
    );
    let scope = "20261120/eu-west-1/firehose/aws4_request";
    let hash = sigv4::hex(&hydrant::receive::once::sha256(canonical.as_bytes()));
    let key = sigv4::signing_key(secret, "20261120", "eu-west-1", "firehose");
    let signature = sigv4::hex(&sigv4::hmac(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}")));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}"
    );
    let request = house.client.post(format!("http://{host}/")).header("x-amz-target", target);
    request.header("x-amz-date", date).header("authorization", authorization).body(body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_credentials_only_their_holders_come_in_and_only_where_they_may() {
    let house = House::new(locked(), roomy()).await;
    let refusal = |request| async {
        let (status, answer) = answer_of(request).await;
        format!("{status} {}: {}", answer["__type"].as_str().unwrap(), answer["message"].as_str().unwrap())
    };
    assert_eq!(answer_of(signed(&house, "AKCLICKS", "canary-1", &one("a"))).await.0, 200);
    assert_eq!(answer_of(signed(&house, "AKALL", "canary-2", &one("b"))).await.0, 200);
    assert_eq!(
        refusal(signed(&house, "AKCLICKS", "canary-1", &one("x").replace("clicks", "logs"))).await,
        "400 AccessDeniedException: User: arn:aws:iam::000000000000:user/AKCLICKS is not authorized to perform: \
         firehose:PutRecord on resource: arn:aws:firehose:us-east-1:000000000000:deliverystream/logs because no \
         identity-based policy allows the firehose:PutRecord action"
    );
    assert_eq!(
        refusal(signed(&house, "AKNOBODY", "canary-1", &one("x"))).await,
        "400 UnrecognizedClientException: The security token included in the request is invalid."
    );
    assert_eq!(
        refusal(signed(&house, "AKALL", "canary-1", &one("x"))).await,
        "400 InvalidSignatureException: The request signature we calculated does not match the signature you provided. \
         Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x")).await,
        "400 MissingAuthenticationTokenException: Missing Authentication Token"
    );
    let basic = |text: &str| format!("Basic {}", STANDARD.encode_to_string(text));
    let with = |text: &'static str| [("authorization", basic(text))];
    let [(name, good)] = with("AKCLICKS:canary-1");
    assert_eq!(house.post(&[(name, &good)], "c").await, (200, json!({"records": 1})));
    let (status, answer) = house.post_to("/streams/logs/records", &[(name, &good)], "x").await;
    assert_eq!((status, &answer["error"]), (403, &json!("key AKCLICKS may not write to stream logs")));
    for wrong in ["AKCLICKS:canary-2", "AKCLICKS:", "AKNOBODY:canary-1", "AKCLICKS"] {
        assert_eq!(house.post_fails(&[(name, &basic(wrong))], "x").await, "401 wrong access key or secret", "{wrong}");
    }
    assert_eq!(house.post_fails(&[], "x").await, "401 no credentials in the request");
    assert_eq!(house.payloads("clicks", 3).await, [b"a", b"b", b"c"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_cut_and_others_served() {
    let limits = Limits {
        header_time_max: Duration::from_millis(100),
        idle_time_max: Duration::from_millis(100),
        body_idle_time_max: Duration::from_millis(100),
        ..Limits::default()
    };
    let house = House::with_limits(limits).await;
    // Each of these ends only because the server closes the connection.
    assert_eq!(raw(house.address, b"").await, "");
    assert_eq!(raw(house.address, b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\n").await, "");
    assert_eq!(raw(house.address, b"PRI * HTTP/2.0\r\n\r\n").await, "");
    let slow_body = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
    let answer = raw(house.address, slow_body).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with("{\"error\": \"body came too slowly\"}"), "{answer}");
    let idle = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nall";
    let answer = raw(house.address, idle).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"records\": 1}"), "{answer}");
    house.lives_with(1).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_wait_for_a_place() {
    let house = House::with_limits(Limits { connections_max: 2, ..Limits::default() }).await;
    let mut first = TcpStream::connect(house.address).await.unwrap();
    let _second = TcpStream::connect(house.address).await.unwrap();
    let request =
        b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx";
    // An answer on the first shows that both places are taken when the third comes.
    first.write_all(&request[..20]).await.unwrap();
    let address = house.address;
    let third = tokio::spawn(async move { raw(address, request).await });
    first.write_all(&request[20..]).await.unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(first);
    let answer = third.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_what_is_in_flight_and_takes_no_more() {
    let house = House::open().await;
    let mut idle = TcpStream::connect(house.address).await.unwrap();
    let mut busy = TcpStream::connect(house.address).await.unwrap();
    let head = b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    busy.write_all(head).await.unwrap();
    let mut word = [0; 25];
    busy.read_exact(&mut word).await.unwrap(); // the server is at the body now
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    house.stop.cancel();
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.unwrap_or_default();
    assert_eq!(nothing, b"");
    busy.write_all(b"last").await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"records\": 1}"), "{answer}");
    let House { served, address, .. } = &house;
    assert!(!served.is_finished() || TcpStream::connect(address).await.is_err());
    assert_eq!(house.payloads("clicks", 1).await, [b"last"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_only_so_long_for_a_client_that_does_not_go_on() {
    let house = House::with_limits(Limits { stop_time_max: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stuck = TcpStream::connect(house.address).await.unwrap();
    stuck.write_all(b"POST /streams/clicks/records HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx").await.unwrap();
    house.stop().await; // returns
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_are_served_too() {
    let house = House::open().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let posts = (0..300).map(|number| {
        let request = client.post(format!("http://{}/streams/clicks/records", house.address));
        answer_of(request.body(format!("{number}")))
    });
    for (status, answer) in futures::future::join_all(posts).await {
        assert_eq!((status, answer), (200, json!({"records": 1})));
    }
    house.lives_with(300).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_stored_line_by_line_and_its_end_ends_the_stream() {
    let house = House::open().await;
    let stream = house.streams["clicks"].clone();
    let (mut producer, consumer) = tokio::io::duplex(1000);
    let clock = Clock::new(|| NOW_MS);
    let running = tokio::spawn(async move { stdin::run(consumer, &stream, &clock, CancellationToken::new()).await });
    for number in 0..5000 {
        producer.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
    }
    producer.write_all(b"no end").await.unwrap();
    drop(producer);
    assert_eq!(running.await.unwrap().unwrap(), stdin::Summary { records: 5001, too_long: 0 });
    let payloads = house.payloads("clicks", 5001).await;
    let wrong = (0..5000).find(|number| payloads[*number] != format!("line {number}").into_bytes());
    assert_eq!(wrong, None);
    assert_eq!(payloads[5000], b"no end");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pipe_keeps_what_was_whole() {
    let house = House::open().await;
    let stream = house.streams["clicks"].clone();
    let (mut producer, consumer) = tokio::io::duplex(1000);
    let stop = CancellationToken::new();
    let (clock, stopped) = (Clock::new(|| NOW_MS), stop.clone());
    let running = tokio::spawn(async move { stdin::run(consumer, &stream, &clock, stopped).await });
    producer.write_all(b"one\ntwo\nha").await.unwrap();
    assert_eq!(house.payloads("clicks", 2).await, [b"one", b"two"]);
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap(), stdin::Summary { records: 2, too_long: 0 });
    house.lives_with(2).await;
    house.stop().await;
}
