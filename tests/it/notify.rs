//! What systemd is told by the real binary: ready after a good load, alive, reloading, stopping.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::daemon::{Home, http, pipeline};

/// What systemd would pass as `WatchdogSec=`, in microseconds.
const WATCHDOG: &str = "600000";

struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(home: &Home) -> Systemd {
        let socket = UnixDatagram::bind(home.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        Systemd(socket)
    }

    /// The next message.
    fn hears(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("hydrant says something");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// The first message with `line` that comes from now on.
    fn hears_line(&self, line: &str) -> String {
        loop {
            let message = self.hears();
            if message.lines().any(|known| known == line) {
                return message;
            }
        }
    }

    /// All that was said and not heard.
    fn backlog(&self) -> Vec<String> {
        self.0.set_nonblocking(true).unwrap();
        let mut message = [0; 4096];
        let mut messages = Vec::new();
        while let Ok(length) = self.0.recv(&mut message) {
            messages.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        self.0.set_nonblocking(false).unwrap();
        messages
    }
}

#[test]
fn systemd_hears_that_it_is_ready_lives_reloads_and_stops() {
    let home = Home::new();
    home.write("p/clicks.yaml", pipeline("firehose: { stream: clicks }", "lines: {}", "1h", "url: ./out"));
    let systemd = Systemd::listen(&home);
    let socket = home.path("notify").display().to_string();
    let daemon = home.start_through("p", &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", WATCHDOG)], &[]);
    assert_eq!(systemd.hears().lines().next(), Some("READY=1"), "first of all");
    let alive = systemd.hears_line("WATCHDOG=1");
    assert!(alive.lines().any(|line| line == "STATUS=1 pipeline runs, 0 records/s in"), "{alive}");
    for _ in 0..3 {
        systemd.hears_line("WATCHDOG=1");
    }

    daemon.signal(Signal::STOP);
    systemd.backlog();
    systemd.0.set_read_timeout(Some(Duration::from_micros(WATCHDOG.parse().unwrap()))).unwrap();
    let silence = systemd.0.recv(&mut [0; 4096]);
    assert!(silence.is_err(), "a process that hangs says that it lives");
    systemd.0.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    daemon.signal(Signal::CONT);
    systemd.hears_line("WATCHDOG=1");

    let (status, answer) = http(daemon.admin(), "POST /api/reload", "x-hydrant: 1\r\n", b"");
    assert_eq!(status, 200, "{answer}");
    let reloading = systemd.hears_line("RELOADING=1");
    let when = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("and when");
    assert!(when.parse::<u64>().unwrap() > 0);
    systemd.hears_line("READY=1");
    daemon.stop();
    systemd.hears_line("STOPPING=1");
    assert!(!systemd.backlog().iter().any(|message| message.contains("READY=1")), "nothing is ready any more");
}

#[test]
fn systemd_is_told_nothing_of_a_start_that_failed() {
    let home = Home::new();
    home.write("p/clicks.yaml", "source: { firehose: { streem: clicks } }\n");
    let systemd = Systemd::listen(&home);
    let socket = home.path("notify").display().to_string();
    let ended = home.run_with("run p/clicks.yaml --state state", &[("NOTIFY_SOCKET", &socket)]);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert_eq!(systemd.backlog(), [] as [&str; 0]);
}
