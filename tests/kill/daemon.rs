//! The real binary: its folder, its start, and the ways it is made to stop.

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;

/// How often a condition is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Folder and ports, the same for every life of the daemon.
pub struct Home {
    folder: TempDir,
    pub listen: u16,
    pub admin: u16,
}

impl Home {
    pub fn new() -> Home {
        let folder = tempfile::Builder::new().prefix("hydrant-kill-").tempdir().expect("a folder for the test");
        let home = Home { folder, listen: free_port(), admin: free_port() };
        for name in ["in", "out"] {
            fs::create_dir(home.path().join(name)).expect("a folder for the test");
        }
        home
    }

    /// Where the followed file grows.
    pub fn input(&self) -> PathBuf {
        self.path().join("in")
    }

    /// The store.
    pub fn output(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Starts the daemon on the same state as before; it may not be ready yet.
    pub fn start(&self) -> Daemon {
        let log = File::options().append(true).create(true).open(self.path().join("log")).expect("a log file");
        let binary = env::var_os("HYDRANT").unwrap_or_else(|| env!("CARGO_BIN_EXE_hydrant").into());
        let child = Command::new(binary)
            .arg("run")
            .arg(self.path().join("pipelines"))
            .arg("--state")
            .arg(self.path().join("state"))
            .args(["--listen", &format!("127.0.0.1:{}", self.listen)])
            .args(["--admin", &format!("127.0.0.1:{}", self.admin)])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        Daemon { child, admin: self.admin }
    }

    /// The last 60 lines that the daemon has said.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Leaves the folder for whoever looks into a failure.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Everything lies here.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// One life of the daemon. Dropped alive, it is killed.
pub struct Daemon {
    child: Child,
    admin: u16,
}

impl Daemon {
    /// Lets it live for a while; an error if it ends by itself.
    pub fn live(&mut self, time: Duration) -> Result<(), String> {
        match self.ends_within(time) {
            None => Ok(()),
            Some(status) => Err(format!("the daemon ended by itself: {status}")),
        }
    }

    /// Waits until it says that it is healthy.
    pub fn ready(&mut self, at_most: Duration) -> Result<(), String> {
        let deadline = Instant::now() + at_most;
        while !self.is_ready() {
            self.live(LOOK_AGAIN)?;
            if Instant::now() > deadline {
                return Err(format!("the daemon is not ready after {at_most:?}"));
            }
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM: it must leave with exit code 0. Before it is ready, the signal itself may also have ended it.
    pub fn terminate(mut self, at_most: Duration) -> Result<(), String> {
        let was_ready = self.is_ready();
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::TERM).map_err(|error| format!("SIGTERM: {error}"))?;
        match self.ends_within(at_most) {
            None => Err(format!("still there {at_most:?} after SIGTERM")),
            Some(status) if status.success() => Ok(()),
            Some(status) if !was_ready && status.signal() == Some(Signal::TERM.as_raw()) => Ok(()),
            Some(status) => Err(format!("left with {status} after SIGTERM")),
        }
    }

    fn is_ready(&self) -> bool {
        Client::new(self.admin).get("/healthz").is_ok_and(|(status, _)| status == 200)
    }

    fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                return Some(status);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            std::thread::park_timeout(left.min(LOOK_AGAIN));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}
