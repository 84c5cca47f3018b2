//! Starts that are refused, each with the exact words that an operator reads, and a check that leaves no trace.

use std::fs;
use std::net::TcpListener;

use crate::support::daemon::{Home, pipeline};

const ENDING: &str = "demo: { rate: 0, records: 10 }";
const ROWS: &str = "parquet: { schema: { event_id: string } }";

fn home() -> Home {
    let home = Home::new();
    home.write("demo.yaml", pipeline(ENDING, ROWS, "1s", "url: ./out"));
    home.write("clicks.yaml", pipeline("firehose: { stream: clicks }", ROWS, "1s", "url: ./out"));
    home
}

/// Code and standard error of a command that printed nothing else.
fn refused(home: &Home, arguments: &str) -> (i32, String) {
    let ended = home.run(arguments);
    assert_eq!(ended.stdout, "");
    // What was said before it failed is no error.
    let errors = ended.stderr.lines().skip_while(|line| line.starts_with("INFO "));
    (ended.code, errors.map(|line| format!("{line}\n")).collect())
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_helps() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let words = |flag: &str| {
        format!(
            "ERROR {address}: Address already in use (os error 98)\n\
             hint: choose another address with {flag}, such as {flag} 127.0.0.1:0\n"
        )
    };
    let data = refused(&home, &format!("run clicks.yaml --listen {address} --admin 127.0.0.1:0"));
    assert_eq!(data, (78, words("--listen")));
    let admin = refused(&home, &format!("run demo.yaml --admin {address}"));
    assert_eq!(admin, (78, words("--admin")));
}

#[test]
fn a_state_folder_in_use_names_the_process_that_has_it() {
    let home = home();
    let daemon = home.start("clicks.yaml");
    let words = format!(
        "ERROR state folder state: in use by process {}\n\
         hint: stop that one, or name another folder with --state DIR\n",
        daemon.pid()
    );
    assert_eq!(refused(&home, "run demo.yaml --once --state state"), (78, words));
    daemon.kill();
    let after = home.run("run demo.yaml --once --state state");
    assert_eq!(after.code, 0, "a dead process has nothing: {after:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let home = home();
    home.write("file", "no folder");
    let words = |state: &str| {
        format!(
            "ERROR state folder {state}: file is not a folder\n\
             hint: name a folder that can be written with --state DIR\n"
        )
    };
    for state in ["file", "file/x", "file/x/y"] {
        assert_eq!(refused(&home, &format!("run demo.yaml --once --state {state}")), (78, words(state)));
    }
    for sink in ["file", "file/x"] {
        home.write("demo.yaml", pipeline(ENDING, ROWS, "1s", &format!("url: ./{sink}")));
        let words = format!("ERROR pipeline demo: sink folder ./{sink}: ./file is not a folder\n");
        let (code, said) = refused(&home, "run demo.yaml --once");
        assert!(code == 1 && said.ends_with(&words), "{code}: {said}");
    }
    assert_eq!(fs::read_to_string(home.path("file")).unwrap(), "no folder");
}

#[test]
fn an_address_that_the_network_reaches_needs_credentials_or_the_word_anonymous() {
    let words = "\
--listen: listen address 0.0.0.0:0 can be reached from the network and no credentials are configured
  hint: give `credentials` in hydrant.yaml (`--config`), or spell out `--anonymous`

1 problem
";
    let home = home();
    assert_eq!(refused(&home, "run clicks.yaml --listen 0.0.0.0:0"), (78, words.to_owned()));
    assert!(!home.path("data").exists(), "refused before anything was made");
}

#[test]
fn a_check_opens_no_port_and_writes_nothing() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    home.write("hydrant.yaml", format!("listen: \"{address}\"\nadmin: \"{address}\"\nstate: state\n"));
    let before = home.files(".");
    let checked = home.run("check clicks.yaml demo.yaml --config hydrant.yaml");
    let words = "clicks: firehose clicks -> parquet -> ./out\ndemo: demo -> parquet -> ./out\n";
    assert_eq!((checked.code, checked.stdout.as_str(), checked.stderr.as_str()), (0, words, ""));
    assert_eq!(home.files("."), before, "no file");
    let folders = fs::read_dir(home.path(".")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 0, "and no folder");
}
