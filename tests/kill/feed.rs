//! What goes in: HTTP and Firehose clients, a growing and rotated file, and the memory of what was answered.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64_simd::STANDARD as BASE64;

use crate::client::Client;
use crate::record::{self, Rng};

/// Client threads; even ones speak NDJSON over HTTP, odd ones PutRecordBatch.
pub const CLIENTS: u64 = 4;
/// Records of one request, at most.
const RECORDS_MAX: u64 = 120;
/// Lines of the followed file before it is rotated.
const LINES_MAX: u64 = 3000;
/// Between the requests of one client, and between lines of the file, at most.
const PACE_MS: u64 = 20;

/// One request: the ids `first..first + records` of one writer.
#[derive(Clone)]
pub struct Request {
    pub first: u64,
    pub records: u64,
    pub sent: Instant,
    /// When it was answered, if it was.
    pub answered: Option<Instant>,
}

impl Request {
    pub fn ids(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.records
    }
}

/// Everything that was sent, and whether to go on.
#[derive(Default)]
pub struct Feed {
    requests: Mutex<Vec<Request>>,
    file_lines: AtomicU64,
    faults: Mutex<Vec<String>>,
    /// Odd while the daemon is known to be up.
    turns: AtomicU64,
    stopped: AtomicBool,
    sleepers: (Mutex<()>, Condvar),
}

/// What became of one attempt.
enum Attempt {
    /// It was answered with 200.
    Answered,
    /// It was refused as a whole: nothing of it may be stored.
    Throttled,
    /// Nobody knows.
    Lost(String),
}

impl Feed {
    /// Sends requests until the stop. Each is sent once (HTTP), or again with the same invocation id until it is
    /// answered, as an AWS SDK does (Firehose).
    pub fn client(&self, writer: u64, port: u16, rng: &mut Rng) {
        let (mut client, mut number, mut connected_in) = (Client::new(port), 0, 0);
        while !self.is_stopped() {
            let first = record::id(writer, number);
            let request = Request { first, records: 1 + rng.below(RECORDS_MAX), sent: Instant::now(), answered: None };
            number += request.records;
            let at = self.sent(request.clone());
            let by_http = writer.is_multiple_of(2);
            let attempts = if by_http { 1 } else { u32::MAX };
            let body = if by_http { ndjson(&request) } else { put_record_batch(&request) };
            let invocation = format!("{:016x}-{:016x}", rng.next(), rng.next());
            for attempt in 1..=attempts {
                let turn = self.turns.load(Ordering::SeqCst);
                if !client.is_connected() {
                    connected_in = turn;
                }
                let tried = match by_http {
                    true => self.http(&mut client, &request, &body),
                    false => self.firehose(&mut client, &request, &body, &invocation, attempt),
                };
                match tried {
                    Attempt::Answered => {
                        self.locked()[at].answered = Some(Instant::now());
                        break;
                    }
                    Attempt::Lost(error) if turn % 2 == 1 && connected_in == turn => self.lost(turn, &error),
                    Attempt::Lost(_) | Attempt::Throttled => {}
                }
                self.pause(rng.below(50));
                if self.is_stopped() {
                    break;
                }
            }
            self.pause(rng.below(PACE_MS));
        }
    }

    /// Writes lines to `folder/app.log` until the stop, in pieces that end anywhere, and renames it from time to time.
    pub fn file(&self, folder: &Path, rng: &mut Rng) {
        let path = folder.join("app.log");
        let open = || File::options().append(true).create(true).open(&path).expect("the followed file");
        let (mut file, mut number, mut since_rotation, mut rotations) = (open(), 0, 0, 0);
        while !self.is_stopped() {
            let mut text = String::new();
            for _ in 0..=rng.below(40) {
                record::append(&mut text, record::id(record::FILE, number));
                text.push('\n');
                (number, since_rotation) = (number + 1, since_rotation + 1);
            }
            let (head, tail) = text.as_bytes().split_at(rng.below(text.len() as u64) as usize);
            file.write_all(head).expect("the followed file takes lines");
            self.pause(rng.below(PACE_MS));
            file.write_all(tail).expect("the followed file takes lines");
            self.file_lines.store(number, Ordering::SeqCst);
            if since_rotation > LINES_MAX {
                (since_rotation, rotations) = (0, rotations + 1);
                fs::rename(&path, folder.join(format!("app.log.{rotations}"))).expect("the followed file is renamed");
                file = open();
            }
            self.pause(rng.below(PACE_MS));
        }
    }

    /// Ends all of the above soon.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(lock(&self.sleepers.0));
        self.sleepers.1.notify_all();
    }

    /// Requests answered, and not.
    pub fn requests(&self) -> (usize, usize) {
        let requests = self.locked();
        let answered = requests.iter().filter(|request| request.answered.is_some()).count();
        (answered, requests.len() - answered)
    }

    /// A copy of all requests so far.
    pub fn all(&self) -> Vec<Request> {
        self.locked().clone()
    }

    /// Whole lines in the file so far.
    pub fn file_lines(&self) -> u64 {
        self.file_lines.load(Ordering::SeqCst)
    }

    /// An error if some answer was none that a client may get.
    pub fn faults(&self) -> Result<(), String> {
        let faults = lock(&self.faults);
        if faults.is_empty() { Ok(()) } else { Err(format!("{} wrong answers, at first {}", faults.len(), faults[0])) }
    }

    fn http(&self, client: &mut Client, request: &Request, body: &str) -> Attempt {
        let headers = "Content-Type: application/x-ndjson\r\n";
        match client.post("/streams/clicks/records", headers, body) {
            Ok((200, answer)) if answer == format!("{{\"records\": {}}}", request.records) => Attempt::Answered,
            Ok((503, _)) => Attempt::Throttled,
            Ok(other) => self.fault("HTTP", other),
            Err(error) => Attempt::Lost(error.to_string()),
        }
    }

    fn firehose(&self, client: &mut Client, request: &Request, body: &str, invocation: &str, attempt: u32) -> Attempt {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: Firehose_20150804.PutRecordBatch\r\n\
             amz-sdk-invocation-id: {invocation}\r\n\
             amz-sdk-request: attempt={attempt}\r\n"
        );
        match client.post("/", &headers, body) {
            Ok((200, answer)) if answer.contains("\"FailedPutCount\":0") => {
                let ids = answer.matches("\"RecordId\"").count() as u64;
                if ids == request.records { Attempt::Answered } else { self.fault("PutRecordBatch", (200, answer)) }
            }
            Ok((200, answer)) if answer.contains(&format!("\"FailedPutCount\":{}", request.records)) => {
                Attempt::Throttled
            }
            Ok((500 | 503, answer)) if answer.contains("ServiceUnavailableException") => Attempt::Throttled,
            Ok(other) => self.fault("PutRecordBatch", other),
            Err(error) => Attempt::Lost(error.to_string()),
        }
    }

    fn fault(&self, who: &str, (status, answer): (u16, String)) -> Attempt {
        let answer: String = answer.chars().take(300).collect();
        lock(&self.faults).push(format!("{who}: {status} {answer}"));
        Attempt::Lost(format!("{status}"))
    }

    /// A request that was lost on a connection of this turn, in which the daemon was up all the time.
    fn lost(&self, turn: u64, error: &str) {
        if self.turns.load(Ordering::SeqCst) == turn {
            lock(&self.faults).push(format!("refused or lost while the daemon was up: {error}"));
        }
    }

    /// The daemon is up now, or is about to be killed.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    fn sent(&self, request: Request) -> usize {
        let mut requests = self.locked();
        requests.push(request);
        requests.len() - 1
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Request>> {
        lock(&self.requests)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits, or until the stop.
    fn pause(&self, ms: u64) {
        let guard = lock(&self.sleepers.0);
        let waited = self.sleepers.1.wait_timeout_while(guard, Duration::from_millis(ms), |()| !self.is_stopped());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Stops the feed when its holder ends, so that a failed test does not wait for its clients for ever.
pub struct StopOnDrop<'a>(pub &'a Feed);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ndjson(request: &Request) -> String {
    let mut body = String::new();
    for id in request.first..request.first + request.records {
        record::append(&mut body, id);
        body.push('\n');
    }
    body
}

fn put_record_batch(request: &Request) -> String {
    let mut body = "{\"DeliveryStreamName\":\"clicks\",\"Records\":[".to_owned();
    for id in request.first..request.first + request.records {
        let mut line = String::new();
        record::append(&mut line, id);
        let comma = if id == request.first { "" } else { "," };
        let _ = write!(body, "{comma}{{\"Data\":\"{}\"}}", BASE64.encode_to_string(line));
    }
    body.push_str("]}");
    body
}
