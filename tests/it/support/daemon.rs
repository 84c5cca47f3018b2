//! The real binary in a folder of its own: its files, its lives, and what it says.
//!
//! Every wait is for a condition; [`PATIENCE`] only ends tests that fail. A daemon picks its own ports and logs them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::s3::{ACCESS_KEY, SECRET_KEY};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition that tells nobody is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What every daemon of a story is started with.
const FLAGS: &str = "--listen 127.0.0.1:0 --admin 127.0.0.1:0 --log json";

/// The folder in which the binary runs: relative paths lie here.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    /// A folder in memory, where there is one: for stories of very many files, whose syncs would take minutes.
    pub fn in_memory() -> Home {
        Home(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    /// All files below a folder that need not be there, with their lengths.
    pub fn files(&self, folder: &str) -> BTreeMap<PathBuf, u64> {
        // One that is removed meanwhile is not there.
        let with_length = |path: PathBuf| Some((path.clone(), fs::metadata(path).ok()?.len()));
        files(&self.path(folder)).into_iter().filter_map(with_length).collect()
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &str) -> Ended {
        self.run_fed(arguments, b"")
    }

    /// Runs a command to its end with this as its standard input.
    pub fn run_fed(&self, arguments: &str, input: &[u8]) -> Ended {
        let mut life = Life::begin(self.command(arguments));
        life.child.stdin.take().unwrap().write_all(input).unwrap();
        let code = life.wait().code().expect("no signal ended it");
        life.ended(code)
    }

    /// Runs a command to its end that reads this file as its standard input.
    pub fn run_reading(&self, arguments: &str, input: File) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(input);
        let mut life = Life::begin(command);
        let code = life.wait().code().expect("no signal ended it");
        life.ended(code)
    }

    /// Runs a command to its end with these variables.
    pub fn run_with(&self, arguments: &str, variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied());
        let mut life = Life::begin(command);
        let code = life.wait().code().expect("no signal ended it");
        life.ended(code)
    }

    /// As [`Home::start`], with these variables, through another command that becomes the daemon (none: directly).
    pub fn start_through(&self, arguments: &str, variables: &[(&str, &str)], through: &[&str]) -> Daemon {
        let mut command = self.command(&format!("run {arguments} --state state {FLAGS}"));
        if let Some((program, first)) = through.split_first() {
            let mut outer = Command::new(program);
            outer.args(first).arg(command.get_program()).args(command.get_args()).current_dir(self.0.path());
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => outer.env(name, value),
                    None => outer.env_remove(name),
                };
            }
            outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command = outer;
        }
        command.envs(variables.iter().copied());
        let daemon = Daemon { life: Life::begin(command) };
        daemon.hears("ready", |_| true);
        daemon
    }

    /// Starts `hydrant run` on these paths and flags with the state of `state/`; ready when this returns.
    pub fn start(&self, arguments: &str) -> Daemon {
        self.start_with(arguments, FLAGS)
    }

    /// The same with other flags.
    pub fn start_with(&self, arguments: &str, flags: &str) -> Daemon {
        let life = Life::begin(self.command(&format!("run {arguments} --state state {flags}")));
        let daemon = Daemon { life };
        daemon.hears("ready", |_| true);
        daemon
    }

    fn command(&self, arguments: &str) -> Command {
        let binary = std::env::var_os("HYDRANT").unwrap_or_else(|| env!("CARGO_BIN_EXE_hydrant").into());
        let mut command = Command::new(binary);
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        for name in ["RUST_LOG", "STATE_DIRECTORY", "JOURNAL_STREAM", "HYDRANT_ADMIN"] {
            command.env_remove(name);
        }
        command.env("LAKE_SECRET", SECRET_KEY).env("XDG_CACHE_HOME", self.path("cache"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A pipeline file.
pub fn pipeline(source: &str, format: &str, interval: &str, sink: &str) -> String {
    format!(
        "source: {{ {source} }}\nformat: {{ {format} }}\nbuffer: {{ size: 8 MiB, interval: {interval} }}\n\
         sink: {{ object_store: {{ {sink} }} }}\n"
    )
}

/// The sink of a pipeline file: a bucket of the S3 server at `address`.
pub fn bucket(address: SocketAddr, bucket_and_path: &str) -> String {
    format!(
        "url: \"s3://{bucket_and_path}\", options: {{ endpoint: \"http://{address}\", allow_http: true, \
         region: us-east-1, access_key_id: {ACCESS_KEY}, secret_access_key: \"env:LAKE_SECRET\" }}"
    )
}

/// All files below a folder that need not be there, sorted; without what object_store is still writing (`name#1`).
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.to_string_lossy().contains('#') => {}
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    /// Without the times of log lines.
    pub stderr: String,
}

/// A process; killed when dropped.
struct Life {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    said: Arc<Said>,
}

/// Lines of standard error.
#[derive(Default)]
struct Said {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Life {
    fn begin(mut command: Command) -> Life {
        let mut child = command.spawn().unwrap();
        let (stderr, mut stdout) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let said = Arc::new(Said::default());
        let hearing = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                hearing.lines.lock().unwrap().0.push(line.unwrap());
                hearing.more.notify_all();
            }
            hearing.lines.lock().unwrap().1 = true;
            hearing.more.notify_all();
        });
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        Life { child, stdout: Some(stdout), said }
    }

    fn wait(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }

    fn ended(mut self, code: i32) -> Ended {
        let stdout = self.stdout.take().unwrap().join().unwrap();
        let silent = self.said.more.wait_while(self.said.lines.lock().unwrap(), |(_, closed)| !*closed).unwrap();
        let without_time = |line: &String| match line.split_once("Z ") {
            Some((time, rest)) if time.starts_with("20") => format!("{}\n", rest.trim_start()),
            _ => format!("{line}\n"),
        };
        let stderr = silent.0.iter().map(without_time).collect();
        drop(silent);
        Ended { code, stdout, stderr }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One life of the daemon.
pub struct Daemon {
    life: Life,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.life.child.id()
    }

    /// All that it has said so far.
    pub fn log(&self) -> String {
        self.life.said.lines.lock().unwrap().0.join("\n")
    }

    /// Waits for a line of the log whose message begins with `message` and that `fits`.
    pub fn hears(&self, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.hears_in(message, |lines| lines.iter().find(|line| fits(line)).cloned())
    }

    /// Waits until a pipeline has said that it delivered so many rows, rejected ones included.
    pub fn delivers(&self, pipeline: &str, rows: u64) {
        self.hears_in("delivered", |lines| {
            let ours = lines.iter().filter(|line| line["pipeline"] == pipeline);
            (ours.map(|line| line["rows"].as_u64().unwrap()).sum::<u64>() >= rows).then_some(())
        });
    }

    fn hears_in<T>(&self, message: &str, found: impl Fn(&[Value]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.life.said.lines.lock().unwrap();
        loop {
            let lines = said.0.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let fitting = lines.filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)));
            if let Some(found) = found(&fitting.collect::<Vec<_>>()) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!said.1 && !left.is_zero(), "never said: {message}\n{}", said.0.join("\n"));
            said = self.life.said.more.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Where data is received.
    pub fn data(&self) -> SocketAddr {
        self.hears("receiving", |_| true)["address"].as_str().unwrap().parse().unwrap()
    }

    /// Where health and metrics are served.
    pub fn admin(&self) -> SocketAddr {
        self.hears("serving", |_| true)["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn healthz(&self) -> (u16, String) {
        http(self.admin(), "GET /healthz", "", b"")
    }

    pub fn metrics(&self) -> String {
        let (status, page) = http(self.admin(), "GET /metrics", "", b"");
        assert_eq!(status, 200);
        page
    }

    /// The value of a series, such as `hydrant_sink_blocked{pipeline="x"}`.
    pub fn metric(&self, series: &str) -> f64 {
        let page = self.metrics();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in\n{page}")).parse().unwrap()
    }

    /// The five positions of a pipeline's one shard, in the order in which they must be.
    pub fn positions(&self, pipeline: &str) -> [f64; 5] {
        let (page, of) = (self.metrics(), format!("hydrant_position{{pipeline=\"{pipeline}\","));
        ["released", "delivered", "sealed", "read", "tail"].map(|name| {
            let named = format!("position=\"{name}\"}} ");
            let values = page.lines().filter(|line| line.starts_with(&of)).filter_map(|line| line.split_once(&named));
            let values: Vec<f64> = values.map(|(_, value)| value.parse().unwrap()).collect();
            assert_eq!(values.len(), 1, "{pipeline} {name} in\n{page}");
            values[0]
        })
    }

    /// Lines by HTTP: all of them are durable when this returns.
    pub fn put_lines(&self, stream: &str, records: &[impl AsRef<[u8]>]) {
        let records: Vec<&[u8]> = records.iter().map(AsRef::as_ref).collect();
        let path = format!("POST /streams/{stream}/records");
        let answer = http(self.data(), &path, "Content-Type: application/x-ndjson\r\n", &records.join(&b'\n'));
        assert_eq!(answer, (200, format!("{{\"records\": {}}}", records.len())));
    }

    /// PutRecordBatch without a signature: all records are durable when this returns.
    pub fn put_batch(&self, stream: &str, records: &[impl AsRef<[u8]>]) {
        let encoded =
            |record: &dyn AsRef<[u8]>| json!({"Data": base64_simd::STANDARD.encode_to_string(record.as_ref())});
        let records: Vec<Value> = records.iter().map(|record| encoded(record)).collect();
        let call = json!({"DeliveryStreamName": stream, "Records": records});
        let headers = "X-Amz-Target: Firehose_20150804.PutRecordBatch\r\nContent-Type: application/x-amz-json-1.1\r\n";
        let (status, answer) = http(self.data(), "POST /", headers, call.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["FailedPutCount"], 0);
        assert_eq!(answer["RequestResponses"].as_array().unwrap().len(), records.len());
    }

    /// Writes to its standard input, which stays open.
    pub fn feed(&mut self, text: &str) {
        self.life.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// `POST /api/reload`: the status and what became of it.
    pub fn reload(&self) -> (u16, Value) {
        let (status, body) = http(self.admin(), "POST /api/reload", "x-hydrant: 1\r\n", b"");
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    /// A pipeline in the answer of `/api/status`; null if it is not there.
    pub fn seen(&self, pipeline: &str) -> Value {
        let (status, body) = http(self.admin(), "GET /api/status", "", b"");
        assert_eq!(status, 200, "{body}");
        let view: Value = serde_json::from_str(&body).unwrap();
        let pipelines = view["pipelines"].as_array().unwrap();
        pipelines.iter().find(|seen| seen["name"] == pipeline).cloned().unwrap_or_default()
    }

    /// Waits until a pipeline runs its revision of this number.
    pub fn runs(&self, pipeline: &str, number: u64) {
        until(&format!("{pipeline} runs revision {number}"), || {
            let seen = self.seen(pipeline);
            (seen["revision"]["number"] == number && seen["state"] == "running").then_some(())
        });
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.life.child), signal).unwrap();
    }

    /// SIGTERM; it leaves with 0.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.life.child), Signal::TERM).unwrap();
        let status = self.life.wait();
        assert_eq!(status.code(), Some(0), "{status}\n{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.life.child.kill().unwrap();
        self.life.wait();
    }
}

/// Waits for a condition that tells nobody when it comes true.
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// One request on a connection of its own: the status and the body of the answer.
pub fn http(address: SocketAddr, what: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    connection.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
