//! `hydrant transform` and what `check` says about modules, as those who write them see it.

use std::fs;

use crate::support::daemon::{Ended, Home, pipeline};

/// Records that begin with `d` are dropped, those with `f` fail, those with `t` trap; all others stay as they are, those with
/// `k` with a partition key. A config that begins with `n` is refused.
const SORTER: &str = r#"(module
  (memory (export "memory") 2)
  (global $at (mut i32) (i32.const 65536))
  (data (i32.const 1024) "begins with f") (data (i32.const 1040) "no such config")
  (data (i32.const 1060) "kind") (data (i32.const 1064) "k")
  (data (i32.const 1072) "\24\04\00\00\04\00\00\00\28\04\00\00\01\00\00\00")
  (func $take (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $start i32)
    (local.set $start (i32.and (i32.add (global.get $at) (i32.const 7)) (i32.const -8)))
    (global.set $at (i32.add (local.get $start) (local.get 3)))
    (loop $grow (if (i32.gt_u (global.get $at) (i32.mul (memory.size) (i32.const 65536)))
      (then (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable)) (br $grow))))
    (local.get $start))
  (func $answer (param $to i32) (param $failed i32) (param $at i32) (param $len i32)
    (i32.store8 (local.get $to) (local.get $failed))
    (i32.store offset=4 (local.get $to) (local.get $at)) (i32.store offset=8 (local.get $to) (local.get $len)))
  (func (export "init") (param $config i32) (param $len i32) (result i32)
    (if (i32.and (local.get $len) (i32.eq (i32.load8_u (local.get $config)) (i32.const 110)))
      (then (call $answer (i32.const 16) (i32.const 1) (i32.const 1040) (i32.const 14))))
    (i32.const 16))
  (func (export "process") (param $event i32) (param $n i32) (result i32) (local $to i32) (local $c i32) (local $out i32)
    (local.set $to (call $take (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $n) (i32.const 12))))
    (i32.store (i32.const 32) (local.get $to)) (i32.store (i32.const 36) (local.get $n))
    (block $end (loop $next
      (br_if $end (i32.eqz (local.get $n)))
      (local.set $c (i32.load8_u (i32.load (local.get $event))))
      (if (i32.eq (local.get $c) (i32.const 116)) (then unreachable))
      (if (i32.eq (local.get $c) (i32.const 100))
        (then (call $answer (local.get $to) (i32.const 0) (i32.const 0) (i32.const 0)))
        (else (if (i32.eq (local.get $c) (i32.const 102))
          (then (call $answer (local.get $to) (i32.const 1) (i32.const 1024) (i32.const 13)))
          (else
            (local.set $out (call $take (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16)))
            (i64.store (local.get $out) (i64.load (local.get $event)))
            (i32.store offset=8 (local.get $out) (i32.const 1072))
            (i32.store offset=12 (local.get $out) (i32.eq (local.get $c) (i32.const 107)))
            (call $answer (local.get $to) (i32.const 0) (local.get $out) (i32.const 1))))))
      (local.set $event (i32.add (local.get $event) (i32.const 72)))
      (local.set $to (i32.add (local.get $to) (i32.const 12)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
    (i32.const 32))
  (func (export "cabi_post_process") (param i32) (global.set $at (i32.const 65536))))"#;

const RECORDS: &str = "other\ndrop me\nfail me\nkeep me\n\ngr\u{f6}\u{df}er \x01\n";

const BECAME: &str = "1 ok      other\n2 dropped\n3 failed  begins with f\n4 ok      keep me  kind=k\n5 ok      gr\u{f6}\u{df}er \\u{1}\n";

const MANIFEST: &str = "build: cp sorter.in sorter.wasm\nmodule: sorter.wasm\n";

/// A home with a folder `sorter` as `new` would write it, its module built.
fn home() -> Home {
    let home = Home::new();
    let module = wat::parse_str(SORTER).unwrap();
    home.write("sorter/transform.yaml", MANIFEST);
    home.write("sorter/sorter.in", &module);
    home.write("sorter/sorter.wasm", &module);
    home.write("sorter/records.ndjson", RECORDS);
    home
}

/// Code, output up to the line of numbers (which differ from run to run), and standard error.
fn ended(home: &Home, arguments: &str) -> (i32, String, String) {
    let Ended { code, stdout, stderr } = home.run(arguments);
    let numbers = |line: &&str| line.contains(" per record, ") || line.contains("loaded in");
    let stdout = stdout.lines().filter(|line| !numbers(line)).collect::<Vec<_>>().join("\n");
    (code, stdout, stderr)
}

#[test]
fn new_writes_a_folder_for_each_language_and_says_what_is_next() {
    let home = Home::new();
    for language in ["rust", "python", "javascript", "go", "c", "assemblyscript"] {
        let name = format!("in-{language}");
        let done = home.run(&format!("transform new {name} --lang {language}"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        let next = format!("next:\n  hydrant transform build {name}\n  hydrant transform test {name}\n");
        assert!(done.stdout.ends_with(&next), "{}", done.stdout);
        for file in
            ["transform.yaml", "README.md", ".gitignore", "records.ndjson", "records.expected", "wit/hydrant.wit"]
        {
            assert!(home.path(&format!("{name}/{file}")).is_file(), "{name} has no {file}");
        }
        let early = home.run(&format!("transform test {name}"));
        assert_eq!(early.code, 1);
        let hint = format!(": no such file\nhint: build it first: hydrant transform build {name}\n");
        assert!(early.stderr.ends_with(&hint), "the manifest reads, and its module is not there yet: {}", early.stderr);
    }
    let below = home.run("transform new deep/er/one --lang c");
    assert_eq!(below.code, 0);
    assert!(fs::read_to_string(home.path("deep/er/one/transform.yaml")).unwrap().contains("\nmodule: one.wasm\n"));
}

#[test]
fn new_refuses_what_would_not_end_well() {
    let home = Home::new();
    home.write("there/file", "mine");
    let refused = |arguments: &str| {
        let ended = home.run(arguments);
        (ended.code, ended.stderr)
    };
    let not_empty = "there: the folder is not empty\nhint: choose another name\n".to_owned();
    assert_eq!(refused("transform new there --lang rust"), (1, not_empty));
    assert_eq!(home.files("there").len(), 1, "and leaves it alone");
    let name = "`Redact` cannot name a transform: it begins with no lower-case letter\n\
                hint: lower-case letters, digits, `-` and `_`, and a letter first, such as `redact-emails`\n";
    assert_eq!(refused("transform new Redact --lang rust"), (2, name.to_owned()));
    let (code, words) = refused("transform new redact --lang pyhton");
    assert_eq!(code, 2);
    assert!(words.contains("a similar value exists: 'python'"), "{words}");
    assert!(words.contains("[possible values: rust, python, javascript, go, c, assemblyscript]"), "{words}");
    assert_eq!(refused("transform new redact").0, 2);
    assert!(!home.path("redact").exists() && !home.path("Redact").exists());
}

#[test]
fn a_test_shows_what_became_of_each_record_and_blesses_and_compares_it() {
    let home = home();
    let totals = "5 records: 3 out, 1 dropped, 1 failed";
    let first = ended(&home, "transform test sorter");
    let nothing = "nothing to compare with: --bless writes sorter/records.expected";
    assert_eq!(first, (0, format!("{BECAME}\n{totals}\n{nothing}"), String::new()));
    let blessed = ended(&home, "transform test sorter --bless");
    assert_eq!(blessed.0, 0);
    assert_eq!(fs::read_to_string(home.path("sorter/records.expected")).unwrap(), BECAME);
    let again = ended(&home, "transform test sorter");
    assert_eq!(again, (0, format!("{BECAME}\n{totals}\nas expected in sorter/records.expected"), String::new()));
    home.write("sorter/records.expected", BECAME.replace("2 dropped\n", "").replace("keep", "kept"));
    let differs = ended(&home, "transform test sorter");
    let words = "not as expected in sorter/records.expected (- expected, + became):\n\
                 + 2 dropped\n- 4 ok      kept me  kind=k\n+ 4 ok      keep me  kind=k\n\
                 hint: if this is right, --bless makes it what is expected\n";
    assert_eq!((differs.0, differs.2.as_str()), (1, words));
}

#[test]
fn a_module_alone_is_tested_with_records_and_config_of_the_command_line() {
    let home = home();
    home.write("mine.txt", "trap here\r\nwell\n");
    let done = ended(&home, "transform test sorter/sorter.wasm --records mine.txt");
    assert_eq!(done.0, 0, "{}", done.2);
    let mut lines = done.1.lines();
    let trapped = lines.next().unwrap();
    assert!(trapped.starts_with("1 failed  Wasm.Trap: "), "{trapped}");
    assert_eq!(lines.next(), Some("2 ok      well"));
    assert!(done.1.contains("2 records: 1 out, 0 dropped, 1 failed"));
    let refused = ended(&home, "transform test sorter --config \"nothing\"");
    assert_eq!((refused.0, refused.1.as_str()), (1, ""));
    assert!(refused.2.contains("sorter/sorter.wasm: ") && refused.2.contains("no such config"), "{}", refused.2);
    home.write("config.json", "{\"fine\": true}");
    assert_eq!(ended(&home, "transform test sorter --config @config.json").0, 0);
    let no_json = ended(&home, "transform test sorter --config nothing");
    assert_eq!(no_json.0, 2);
    assert!(no_json.2.starts_with("--config: not JSON: "), "{}", no_json.2);
    assert!(no_json.2.ends_with("\nhint: a text stands in double quotes: --config '\"text\"'\n"), "{}", no_json.2);
}

#[test]
fn what_is_missing_for_a_test_is_named() {
    let home = home();
    let words = |arguments: &str, code: i32| {
        let (ended, _, stderr) = ended(&home, arguments);
        assert_eq!(ended, code, "{stderr}");
        stderr
    };
    let hint = "hint: sample records: --records FILE, one a line\n";
    assert_eq!(words("transform test sorter --records gone", 1), format!("gone: no such file\n{hint}"));
    home.write("empty", "\n\n");
    assert_eq!(words("transform test sorter --records empty", 1), "empty: no records\nhint: each line is one\n");
    assert_eq!(words("transform test gone.wasm", 1), "gone.wasm: no such file\n");
    home.write("folder/file", "");
    let folder = "folder: no transform.yaml, so this is no folder of a transform\n\
                  hint: `hydrant transform new NAME --lang LANGUAGE` writes one\n";
    assert_eq!(words("transform test folder", 1), folder);
    home.write("wrong/transform.yaml", "build: make\nmodul: a.wasm\n");
    let wrong = words("transform test wrong", 78);
    assert!(wrong.starts_with("wrong/transform.yaml:2:1: "), "{wrong}");
    assert!(wrong.contains("`module`"), "{wrong}");
    home.write("text.wasm", "fn main() {}");
    let text = words("transform test text.wasm --records sorter/records.ndjson", 1);
    assert!(text.starts_with("text.wasm: ") && text.contains("hydrant transform new"), "{text}");
}

#[test]
fn build_runs_the_command_of_the_folder_once_its_setup_is_made() {
    let home = home();
    fs::remove_file(home.path("sorter/sorter.wasm")).unwrap();
    home.write("sorter/transform.yaml", format!("setup: {{ makes: tool, run: echo >> tool }}\n{MANIFEST}"));
    for lines in ["$ echo >> tool\n$ cp sorter.in sorter.wasm", "$ cp sorter.in sorter.wasm"] {
        assert_eq!(ended(&home, "transform build sorter"), (0, lines.to_owned(), String::new()));
        assert_eq!(fs::read(home.path("sorter/tool")).unwrap(), b"\n", "the setup is made once");
    }
    home.write("sorter/transform.yaml", "build: exit 7\nmodule: sorter.wasm\n");
    let failed = ended(&home, "transform build sorter");
    assert_eq!((failed.0, failed.2.as_str()), (1, "sorter: the build failed with exit status: 7\n"));
    home.write("sorter/transform.yaml", "build: \"true\"\nmodule: elsewhere.wasm\n");
    let elsewhere = "sorter/elsewhere.wasm: not there, although the build went well\n\
                     hint: `module` in transform.yaml says where the build leaves it\n";
    let failed = ended(&home, "transform build sorter");
    assert_eq!((failed.0, failed.2.as_str()), (1, elsewhere));
    home.write("sorter/transform.yaml", "build: \"true\"\nmodule: sorter.in\nconfig: nothing\n");
    let refused = ended(&home, "transform build sorter");
    assert_eq!(refused.0, 1);
    assert!(refused.2.contains("no such config"), "what a build leaves must start: {}", refused.2);
}

#[test]
fn check_starts_modules_and_points_at_what_is_wrong_with_them() {
    let home = home();
    let with = |wasm: &str| {
        let rest = pipeline("demo: { rate: 0, records: 10 }", "lines: {}", "1s", "url: ./out");
        home.write("sorted.yaml", format!("transforms:\n  - wasm: {wasm}\n{rest}"));
        home.run("check sorted.yaml")
    };
    let right = with("{ module: sorter/sorter.wasm }");
    assert_eq!((right.code, right.stderr.as_str()), (0, ""));
    let refused = with("{ module: sorter/sorter.wasm, config: nothing }");
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.starts_with("sorted.yaml:2:"), "{}", refused.stderr);
    assert!(refused.stderr.contains("no such config"), "{}", refused.stderr);
    let gone = with("{ module: gone.wasm }");
    assert_eq!(gone.code, 78);
    assert!(gone.stderr.contains("gone.wasm"), "{}", gone.stderr);
    home.write("text.wasm", "fn main() {}");
    let text = with("{ module: text.wasm }");
    assert_eq!(text.code, 78);
    assert!(text.stderr.contains("hydrant transform new"), "{}", text.stderr);
    let unknown = with("{ modul: sorter/sorter.wasm }");
    assert_eq!(unknown.code, 78);
    assert!(unknown.stderr.contains("`module`"), "{}", unknown.stderr);
    assert!(home.files("out").is_empty() && !home.path("data").exists(), "a check writes nothing");
}
