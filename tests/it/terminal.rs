//! What a person sees on a terminal: commands that ask a running daemon, its guard, and the log and the bar of a run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use clap::{CommandFactory, Parser};
use hydrant::cli::Cli;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::daemon::{Daemon, Home, bucket, http, pipeline, until};
use crate::support::s3::free_address;

const ROWS: &str = "parquet: { schema: { id: int64 } }";
const LINES: &str = "lines: {}";
/// No chunk of a story becomes this old.
const LONG: &str = "1h";
const SOON: &str = "200ms";

fn rows(ids: std::ops::Range<i64>) -> Vec<String> {
    ids.map(|id| format!("{{\"id\":{id}}}")).collect()
}

/// A command against a daemon: code, standard output, standard error.
fn ask(home: &Home, daemon: &Daemon, arguments: &str) -> (i32, String, String) {
    let ended = home.run(&format!("{arguments} --admin {}", daemon.admin()));
    (ended.code, ended.stdout, ended.stderr)
}

/// A request with these header lines, without a Host of its own: status, headers and body.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn status_draws_a_pipeline_in_eighty_columns() {
    let home = Home::new();
    let filter = "transforms: [{ filter: '.id != 3' }]\n";
    home.write("pipelines/click.yaml", pipeline("http: { stream: clicks }", ROWS, SOON, "url: ./out") + filter);
    let daemon = home.start("pipelines");
    daemon.put_lines("clicks", &[rows(0..9), vec!["\u{1b}[2Jno json".into()]].concat());
    daemon.delivers("click", 9);
    until("all is released", || (daemon.positions("click") == [10.0; 5]).then_some(()));
    let (code, page, wrong) = ask(&home, &daemon, "status click");
    assert_eq!((code, wrong.as_str()), (0, ""), "{page}");
    for words in [
        "healthy",
        "\nclick  running  revision 1",
        "  way       http clicks -> filter -> parquet -> ./out\n",
        "10 records\n",
        "9 rows in 2 objects\n",
        "1 rejected, 1 dropped\n",
        "  lag       0\n",
        "  released  delivered  sealed  read  tail\n",
        "        10         10      10    10    10\n",
        "\n  rejected last\n",
        "\nclicks  ",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert!(!page.contains('\u{1b}'), "neither colours for a file nor what a record would have a terminal do:\n{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");

    let (code, json, _) = ask(&home, &daemon, "status --json click");
    let told: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &told["pipelines"][0]["counts"]["records_in"]), (0, &10.into()));

    let (code, page, wrong) = ask(&home, &daemon, "status clik");
    assert_eq!((code, page.as_str()), (2, ""));
    assert_eq!(wrong, "there is no pipeline `clik`\nhint: did you mean `click`?\n");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_a_table_of_many_and_fails_for_the_one_that_is_blocked() {
    let (home, address) = (Home::new(), free_address().await);
    let lake = bucket(address, "lake/in/");
    home.write("pipelines/stuck.yaml", pipeline("http: { stream: far }", LINES, SOON, &lake));
    home.write("pipelines/well.yaml", pipeline("http: { stream: near }", LINES, SOON, "url: ./near"));
    let daemon = home.start("pipelines");
    assert_eq!(ask(&home, &daemon, "status").0, 0);
    daemon.put_lines("far", &["x"]);
    daemon.hears("the sink refuses", |_| true);
    let (code, page, _) = ask(&home, &daemon, "status");
    assert_eq!(code, 1);
    for words in [
        "in trouble",
        "\nstuck     blocked ",
        "\nwell      running ",
        "  x blocked since ",
        "no connection",
        "    hint: is the",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert_eq!(ask(&home, &daemon, "status well").0, 0, "only the one that was asked for counts");
    daemon.kill();
}

#[test]
fn a_daemon_that_does_not_answer_and_one_that_is_none_are_told_apart() {
    let home = Home::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in ["status", "reload", "reload --wait", "tap x"] {
        let ended = home.run(&format!("{command} --admin {nobody}"));
        let words = format!(
            "no daemon answers at {nobody}: Connection refused (os error 111)\n\
             hint: is it running? name its admin address with --admin\n"
        );
        assert_eq!((ended.code, ended.stderr), (1, words), "{command}");
    }
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stranger.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "SSH-2.0-OpenSSH_9\r\n"] {
            let (mut socket, _) = stranger.accept().unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).unwrap();
            socket.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in 0..2 {
        let ended = home.run(&format!("status --admin {address}"));
        let words = format!("what answers at {address} is not the admin address of a hydrant\n");
        assert!(ended.code == 1 && ended.stderr.starts_with(&words), "{ended:?}");
    }
    answering.join().unwrap();
    let wrong = home.run("status --admin 4574");
    assert!(wrong.code == 2 && wrong.stderr.contains("expected an address such as `127.0.0.1:4574`"), "{wrong:?}");
}

#[test]
fn reload_asks_and_with_wait_tells_what_became_of_it() {
    let home = Home::new();
    home.write("click.yaml", pipeline("http: { stream: clicks }", LINES, SOON, "url: ./out"));
    let daemon = home.start("click.yaml");
    assert_eq!(ask(&home, &daemon, "reload"), (0, String::new(), String::new()));
    let (code, _, wrong) = ask(&home, &daemon, "reload --wait");
    assert_eq!((code, wrong.as_str()), (0, ""));
    daemon.stop();
}

#[test]
fn a_reload_that_is_refused_ends_with_78_and_says_where() {
    let home = Home::new();
    let right = pipeline("http: { stream: clicks }", LINES, SOON, "url: ./out");
    home.write("pipelines/click.yaml", &right);
    let daemon = home.start("pipelines");
    home.write("pipelines/click.yaml", right.replace("lines:", "linez:"));
    home.write("pipelines/new.yaml", "source: { http: { stream: news } }\n");
    let (code, said, wrong) = ask(&home, &daemon, "reload --wait");
    assert_eq!((code, said.as_str()), (78, "click  refused: see below\nnew    refused: see below\n"), "{wrong}");
    assert!(wrong.contains("pipelines/click.yaml:2:") && wrong.contains("did you mean `lines`?"), "{wrong}");
    assert!(wrong.contains("pipelines/new.yaml"), "{wrong}");

    let (code, page, _) = ask(&home, &daemon, "status click");
    assert_eq!(code, 1);
    for words in ["\nclick  refused  revision 1 ", " is refused since ", "; revision 1 goes on:\n", "/click.yaml:2:"] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    let (code, page, _) = ask(&home, &daemon, "status new");
    assert_eq!(code, 1);
    assert!(
        page.contains("\nnew  waiting  no revision yet\n") && page.contains("its file is refused since "),
        "{page}"
    );
    assert!(!page.contains("->"), "there is no way to draw:\n{page}");
    let (code, _, wrong) = ask(&home, &daemon, "tap new");
    let words = "pipeline new has never run\nhint: `hydrant status new` says what is wrong with it\n";
    assert_eq!((code, wrong.as_str()), (1, words));

    home.write("pipelines/click.yaml", &right);
    std::fs::remove_file(home.path("pipelines/new.yaml")).unwrap();
    let (code, said, wrong) = ask(&home, &daemon, "reload --wait");
    assert_eq!((code, wrong.as_str()), (0, ""), "{said}");
    assert!(said.contains("click  unchanged\n"), "{said}");
    daemon.stop();
}

#[test]
fn a_tap_sees_the_next_revision_and_ends_with_its_pipeline() {
    let home = Home::new();
    let before = pipeline("http: { stream: clicks }", LINES, LONG, "url: ./out");
    home.write("pipelines/click.yaml", &before);
    home.write("pipelines/other.yaml", pipeline("http: { stream: others }", LINES, LONG, "url: ./other"));
    let daemon = home.start("pipelines");
    let mut tap = Running::tap(&home, &daemon, "click.source");
    daemon.put_lines("clicks", &["a"]);
    assert!(tap.line().ends_with("  a"));
    home.write("pipelines/click.yaml", before.replace(LONG, "2h"));
    let (code, _, wrong) = ask(&home, &daemon, "reload --wait");
    assert_eq!(code, 0, "{wrong}");
    daemon.put_lines("clicks", &["b"]);
    assert!(tap.line().ends_with("  b"));
    std::fs::remove_file(home.path("pipelines/click.yaml")).unwrap();
    assert_eq!(ask(&home, &daemon, "reload --wait").0, 0);
    assert_eq!((tap.aside().as_str(), tap.code()), ("pipeline click has gone", Some(0)));
    daemon.stop();
}

#[test]
fn long_names_leave_a_table_in_its_columns() {
    let home = Home::new();
    for end in ["a", "b"] {
        let name = "long-".repeat(11) + end;
        let source = format!("http: {{ stream: {name} }}");
        home.write(&format!("pipelines/{name}.yaml"), pipeline(&source, LINES, LONG, "url: ./out"));
    }
    let daemon = home.start("pipelines");
    let (code, page, _) = ask(&home, &daemon, "status");
    assert_eq!(code, 0, "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("long-")).count(), 4, "{page}");
    daemon.stop();
}

/// A command that goes on until it is told to end.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    fn start(home: &Home, daemon: &Daemon, arguments: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(arguments.split(' ')).current_dir(home.path("")).env("HYDRANT_ADMIN", daemon.admin().to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running { child, stdout: BufReader::new(stdout), stderr: BufReader::new(stderr) }
    }

    /// A tap that is open.
    fn tap(home: &Home, daemon: &Daemon, arguments: &str) -> Running {
        let mut running = Running::start(home, daemon, &format!("tap {arguments}"));
        assert_eq!(running.aside(), "looking; ctrl-C ends it");
        running
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn aside(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn taps_show_records_at_each_stage_of_their_way() {
    let home = Home::new();
    let transforms = "transforms: [{ jq: '.id += 1' }, { filter: '.id != 3' }]\n";
    home.write("click.v1.yaml", pipeline("http: { stream: clicks }", ROWS, SOON, "url: ./out") + transforms);
    let daemon = home.start("click.v1.yaml");
    let stages = ["source", "1", "filter", "format", "rejected", "delivered"];
    // Four at a time are all that a pipeline has.
    for stages in stages.chunks(3) {
        let mut taps: Vec<_> =
            stages.iter().map(|stage| Running::tap(&home, &daemon, &format!("click.v1.{stage} --json"))).collect();
        daemon.put_lines("clicks", &["{\"id\":1}", "{\"id\":2}", "{\"id\":\"x\"}", "{\"id\":4}"]);
        for (stage, tap) in stages.iter().zip(&mut taps) {
            match *stage {
                "rejected" => {
                    let line = tap.json();
                    assert_eq!((&line["text"], &line["payload"]["id"]), (&Value::Null, &"x".into()), "{line}");
                    assert_eq!(line["reason"], "processing-failed", "{line}");
                    assert!(line["message"].as_str().is_some_and(|message| !message.is_empty()), "{line}");
                }
                "delivered" => {
                    let line = tap.json();
                    assert!(line["object"].as_str().unwrap().starts_with("./out/"), "{line}");
                    assert!(line["rows"].as_u64() > Some(0) && line["bytes"].as_u64() > Some(0), "{line}");
                }
                stage => {
                    let expected: &[i64] = match stage {
                        "source" => &[1, 2],
                        "1" => &[2, 3, 5],
                        _ => &[2, 5],
                    };
                    for id in expected {
                        let line = tap.json();
                        assert_eq!((&line["payload"]["id"], &line["stage"]), (&(*id).into(), &stage.into()), "{line}");
                        assert!(line["arrival_ms"].as_i64() > Some(1_600_000_000_000), "{line}");
                    }
                }
            }
        }
    }
    daemon.stop();
}

#[test]
fn a_tap_ends_at_its_limit_and_says_what_it_left_out() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", LINES, LONG, "url: ./out"));
    let daemon = home.start("x.yaml");
    let mut tap = Running::tap(&home, &daemon, "x.source --rate 2 --limit 2");
    daemon.put_lines("clicks", &["\u{1b}]0;title\u{7}", "b", "c", "{\"d\":1}"]);
    let shown = tap.line();
    assert!(shown.ends_with("  \\u{1b}]0;title\\u{7}"), "a terminal is told nothing: {shown:?}");
    assert!(tap.line().ends_with("  c"), "evenly spread");
    assert_eq!(tap.code(), Some(0));
    assert_eq!(tap.aside(), "2 of 4 records passed unseen (at most 2 in a second are shown)");
    for (target, wrong) in [
        ("y", "there is no pipeline `y`\nhint: it is one of x\n"),
        ("x.sorce", "there is no stage `sorce`\nhint: did you mean `source`?\n"),
        ("x.1", "there is no transform\nhint: what the source gives is the stage `source`\n"),
    ] {
        let (code, _, said) = ask(&home, &daemon, &format!("tap {target}"));
        assert_eq!((code, said.as_str()), (2, wrong), "{target}");
    }
    daemon.stop();
}

#[test]
fn clients_that_go_or_do_not_read_hold_up_nothing_and_make_room() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", LINES, SOON, "url: ./out"));
    let daemon = home.start("x.yaml");
    let ask = "GET /api/tap?pipeline=x&stage=source&rate=10000 HTTP/1.1\r\nHost: localhost\r\nx-hydrant: 1\r\n\r\n";
    let hanging = || {
        let mut socket = TcpStream::connect(daemon.admin()).unwrap();
        socket.write_all(ask.as_bytes()).unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).unwrap();
        (socket, String::from_utf8(answer.to_vec()).unwrap())
    };
    let mut silent: Vec<_> = (0..4).map(|_| hanging()).collect();
    assert!(silent.iter().all(|(_, answer)| answer == "HTTP/1.1 200"));
    let refused = raw(daemon.admin(), &ask.replace("x-hydrant", "connection: close\r\nx-hydrant"));
    assert!(
        refused.starts_with("HTTP/1.1 429 ") && refused.ends_with("has 4 taps open already\nhint: close one of them\n"),
        "{refused}"
    );
    // Much more than any socket holds: nobody reads it.
    let record = "r".repeat(50_000);
    for _ in 0..40 {
        daemon.put_lines("clicks", &vec![record.as_str(); 20]);
    }
    daemon.delivers("x", 800);
    silent.truncate(3);
    until("one that went has made room", || hanging().1.ends_with("200").then_some(()));
    let mut bound = TcpStream::connect(daemon.admin()).unwrap();
    bound.write_all(b"POST /api/reload HTTP/1.1\r\n").unwrap();
    daemon.stop();
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", LINES, LONG, "url: ./out"));
    let daemon = home.start("x.yaml");
    // More than there are places.
    let silent: Vec<_> = (0..80).map(|_| TcpStream::connect(daemon.admin()).unwrap()).collect();
    assert_eq!(daemon.healthz(), (200, "ok\n".into()));
    drop(silent);
    daemon.stop();
}

#[test]
fn the_admin_address_is_guarded() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", ROWS, LONG, "url: ./out"));
    let daemon = home.start("x.yaml");
    let answer = |request: &str| raw(daemon.admin(), &format!("{request}Connection: close\r\n\r\n"));
    let rebound = answer("GET /api/status HTTP/1.1\r\nHost: evil.example\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403 ") && rebound.contains("\nhint: ask for localhost"), "{rebound}");
    let unmeant = answer("POST /api/reload HTTP/1.1\r\nHost: localhost\r\n");
    assert!(
        unmeant.starts_with("HTTP/1.1 403 ") && unmeant.contains("\nhint: send the header `x-hydrant: 1`"),
        "{unmeant}"
    );
    let preflight = "OPTIONS /api/reload HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
                     Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-hydrant\r\n";
    for answer in
        [answer(preflight), answer("GET /api/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n")]
    {
        assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nx-content-type-options: nosniff\r\n"), "{answer}");
    }
    let long =
        format!("POST /api/reload HTTP/1.1\r\nHost: localhost\r\nx-hydrant: 1\r\nContent-Length: {}\r\n\r\n", 2 << 20);
    let mut socket = TcpStream::connect(daemon.admin()).unwrap();
    socket.write_all(long.as_bytes()).unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    daemon.stop();
}

#[test]
fn an_admin_address_for_the_network_tells_and_does_nothing_from_afar() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", ROWS, SOON, "url: ./out"));
    home.write("hydrant.yaml", "admin: 0.0.0.0:0\n");
    home.write("open.yaml", "admin: 0.0.0.0:0\nadmin_anonymous: true\n");
    for (settings, act) in [("hydrant.yaml", "403"), ("open.yaml", "200")] {
        let daemon = home.start_with(&format!("x.yaml --config {settings}"), "--listen 127.0.0.1:0 --log json");
        daemon.put_lines("clicks", &["no json"]);
        daemon.delivers("x", 1);
        let port = daemon.admin().port();
        let near = SocketAddr::from(([127, 0, 0, 1], port));
        let (status, told) = http(near, "GET /api/status", "", b"");
        assert!(status == 200 && told.contains("\"sample\":\"no json\""), "on the machine itself: {told}");
        // By a name that leads here, as anybody on the network asks.
        let afar = |what: &str| {
            let request =
                format!("{what} HTTP/1.1\r\nHost: lake.example:{port}\r\nx-hydrant: 1\r\nConnection: close\r\n\r\n");
            raw(near, &request)
        };
        let told = afar("GET /api/status");
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        assert_eq!(told.contains("\"sample\":\"no json\""), act == "200", "{told}");
        let answer = afar("POST /api/reload");
        assert!(answer.starts_with(&format!("HTTP/1.1 {act} ")), "{answer}");
        daemon.stop();
    }
}

/// What a program in a terminal of 100 columns writes, all of it.
fn on_terminal(home: &Home, environment: &str, arguments: &str) -> (i32, String) {
    let binary = env!("CARGO_BIN_EXE_hydrant");
    let inside = format!("stty cols 100 rows 30; {environment} exec {binary} {arguments}");
    let ended = Command::new("script")
        .args(["-qec", &inside, "/dev/null"])
        .env("TERM", "xterm-256color")
        .env("TZ", "UTC")
        .env_remove("NO_COLOR")
        .env_remove("JOURNAL_STREAM")
        .env_remove("RUST_LOG")
        .current_dir(home.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stdout).unwrap())
}

#[test]
fn a_run_once_has_a_bar_on_a_terminal_and_none_in_a_file() {
    let home = Home::new();
    home.write("in.ndjson", rows(0..200_000).join("\n") + "\n");
    home.write("load.yaml", pipeline("file: { path: in.ndjson }", ROWS, LONG, "url: ./out"));
    let run = "run load.yaml --once --state";
    let (code, screen) = on_terminal(&home, "", &format!("{run} state/a"));
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains('█') && screen.contains(" % "), "a bar: {screen:?}");
    assert!(screen.contains(" of 2.6 MiB"), "bytes of bytes: {screen:?}");
    let delivered = screen.lines().find(|line| line.contains("  delivered  ")).expect(&screen);
    assert!(delivered.contains("200,000 rows") && delivered.contains("./out/"), "{delivered:?}");
    assert!(screen.contains("\u{1b}[1mload\u{1b}[0m"), "coloured: {screen:?}");
    let (_, after) = screen.rsplit_once("\u{1b}[2K").unwrap();
    assert!(
        after.starts_with("200,000 records read, 200,000 rows in 1 object delivered, "),
        "the bar goes: {screen:?}"
    );

    let (_, plain) = on_terminal(&home, "NO_COLOR=1", &format!("{run} state/b"));
    assert!(
        plain.contains('█') && !plain.contains("\u{1b}[1m") && !plain.contains("\u{1b}[3"),
        "no colours: {plain:?}"
    );

    let file = home.run(&format!("{run} state/c"));
    assert_eq!(file.code, 0);
    assert!(!file.stderr.contains('█') && !file.stderr.contains('\u{1b}'), "{}", file.stderr);
    assert!(file.stderr.contains("INFO delivered pipeline=\"load\" rows=200000 "), "{}", file.stderr);
}

#[test]
fn a_run_without_an_end_has_calm_lines_and_no_bar() {
    let home = Home::new();
    home.write("made.yaml", pipeline("demo: { rate: 0, records: 2000 }", "lines: {}", LONG, "url: ./out"));
    let (code, screen) = on_terminal(&home, "", "run made.yaml --once --state state");
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(" records  ") && !screen.contains('█'), "a rate without an end: {screen:?}");
    let done = screen.lines().last().unwrap();
    assert!(done.contains("2,000 records read, 2,000 rows in 1 object delivered, "), "{done:?}");
}

#[test]
fn status_is_watched_until_ctrl_c() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: clicks }", LINES, LONG, "url: ./out"));
    let daemon = home.start("x.yaml");
    let mut watching = Running::start(&home, &daemon, "status --watch");
    for _ in 0..2 {
        while !watching.line().starts_with("hydrant ") {}
    }
    kill_process(Pid::from_child(&watching.child), Signal::INT).unwrap();
    assert_eq!(watching.code(), None, "ended by the signal");
    daemon.stop();
}

/// A command line as a shell splits it, without what it redirects.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split(['>', '|']).next().unwrap_or_default().split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn each_command_has_an_example_that_its_own_parser_takes() {
    fn walk(command: &clap::Command, way: &str, wrong: &mut Vec<String>) {
        let name = format!("{way}{}", command.get_name());
        let help = command.clone().render_long_help().to_string();
        let is_group = command.has_subcommands() && !way.is_empty();
        let examples = help.split_once("Example:\n").or_else(|| help.split_once("Examples:\n"));
        match examples {
            None if is_group => {}
            None => wrong.push(format!("{name}: no example")),
            Some((_, examples)) => {
                let lines = examples.lines().take_while(|line| line.starts_with("  ")).map(str::trim);
                for line in lines.flat_map(|line| line.split("&&")) {
                    let (command, _input) = line.split_once(" < ").unwrap_or((line, ""));
                    if let Err(error) = Cli::try_parse_from(words(command)) {
                        wrong.push(format!("{name}: `{}`: {error}", line.trim()));
                    }
                }
            }
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            walk(inner, &format!("{name} "), wrong);
        }
    }
    let mut wrong = Vec::new();
    let mut command = Cli::command();
    command.build();
    walk(&command, "", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shells_complete_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&format!("completion {shell}"));
        assert_eq!(script.code, 0);
        for command in ["run", "check", "status", "reload", "tap"] {
            assert!(script.stdout.contains(command), "{shell} {command}");
        }
    }
    home.write("hydrant.bash", home.run("completion bash").stdout);
    let complete = "source hydrant.bash; COMP_WORDS=(hydrant sta); COMP_CWORD=1; _hydrant hydrant sta hydrant; echo ${COMPREPLY[@]}";
    let completed = Command::new("bash").args(["-c", complete]).current_dir(home.path("")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), "status", "{completed:?}");
}
