//! Modules at work: every outcome, every limit, whatever a hostile module does; and what changes while records flow.

use std::fs;
use std::sync::Arc;
use std::thread::available_parallelism;

use futures::poll;
use hydrant::inputs::Reads;
use hydrant::metrics::Metrics;
use hydrant::pipeline::Transforms;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Options, Transform, Transformed, Wrong};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::{Home, files, pipeline, until};
use crate::support::transform::through;

const ACTS: &str = include_str!("wasm/acts.wat");
const SLEEPER: &str = include_str!("wasm/sleeper.wat");

/// A folder of modules.
struct Folder {
    folder: TempDir,
    modules: Modules,
}

impl Folder {
    /// With `acts.wasm` in it.
    fn new() -> Folder {
        let folder = Folder { folder: tempfile::tempdir().unwrap(), modules: Modules::default() };
        folder.put("acts.wasm", &compiled(ACTS));
        folder
    }

    /// Puts a file in its place, as whoever deploys it should.
    fn put(&self, name: &str, bytes: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    fn make(&self, options: Value) -> Result<Arc<dyn Transform>, Wrong> {
        let options: Options = serde_json::from_value(json!({ "wasm": options })).unwrap();
        options.make(&Making {
            pipeline: "p",
            folder: self.folder.path(),
            modules: &self.modules,
            reads: &Reads::new(),
        })
    }

    fn acts(&self) -> Arc<dyn Transform> {
        self.make(json!({ "module": "acts.wasm", "time_max": "200ms", "memory_max": "4 MiB", "output_max": "1 MiB" }))
            .unwrap()
    }
}

fn compiled(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

fn batch<T: AsRef<[u8]>>(records: impl IntoIterator<Item = T>) -> Batch {
    let mut batch = BatchBuilder::default();
    records.into_iter().for_each(|record| batch.push(record.as_ref(), 1000));
    batch.finish()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

fn apply(transform: &Arc<dyn Transform>, records: &[&str]) -> Transformed {
    run(transform.apply(batch(records))).unwrap()
}

fn texts(batch: &Batch) -> Vec<String> {
    batch.payloads().map(|payload| String::from_utf8_lossy(payload).into_owned()).collect()
}

/// Payload, code and reason of what was set aside.
fn aside(transformed: &Transformed) -> Vec<(String, &'static str, &str)> {
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    transformed.rejected.iter().map(|one| (text(&one.payload), one.reason.code, one.reason.message.as_str())).collect()
}

#[test]
fn a_record_goes_on_is_dropped_becomes_several_gets_a_key_or_is_refused() {
    let folder = Folder::new();
    let transformed = apply(&folder.acts(), &["a", "!d", "!mxy", "!kde", "!ewhy", "", "b"]);
    assert_eq!(texts(&transformed.batch), ["a", "xy", "xy", "!kde", "", "b"]);
    assert_eq!(aside(&transformed), [("!ewhy".to_owned(), "Wasm.Failed", "why")]);
    assert_eq!(transformed.dropped, 1);
    let keys = |row| transformed.batch.partition_keys(row).collect::<Vec<_>>();
    assert_eq!((keys(3), keys(0)), (vec![(&b"country"[..], &b"de"[..])], vec![]));
    assert!((0..6).all(|row| transformed.batch.arrival_ms(row) == 1000));
    let nothing = run(folder.acts().apply(Batch::default())).unwrap();
    assert!(nothing.batch.is_empty() && nothing.rejected.is_empty());
}

#[test]
fn whatever_one_record_does_its_neighbours_pass_and_it_has_its_reason() {
    let folder = Folder::new();
    let transform = folder.acts();
    for (act, code, reason) in [
        ("!t", "Wasm.Trap", "trap: wasm `unreachable` instruction executed"),
        ("!l", "Wasm.TimeLimit", "time limit of 200ms exceeded"),
        ("!g", "Wasm.MemoryLimit", "memory limit of 4 MiB exceeded: it wanted"),
        ("!r", "Wasm.Trap", "stack limit of 512 KiB exceeded"),
        ("!b", "Wasm.OutputLimit", "output limit of 1 MiB for a part of a batch exceeded"),
        ("!B", "Wasm.OutputLimit", "output limit of 131072 records for a part of a batch exceeded"),
        ("!n", "Wasm.WrongAnswer", "0 answers for 1 records"),
        ("!p", "Wasm.WrongAnswer", "its answer cannot be read: list pointer/length out of bounds of memory"),
        ("!e\u{fffd}", "Wasm.WrongAnswer", "a reason or a partition key in its answer is not UTF-8: "),
    ] {
        let record = act.replace('\u{fffd}', "").into_bytes();
        let record = if act.len() > 2 { [&record, &b"\xff\xfe"[..]].concat() } else { record };
        let transformed = run(transform.apply(batch([&b"a"[..], b"b", &record, b"!mc", b"d"]))).unwrap();
        assert_eq!(texts(&transformed.batch), ["a", "b", "c", "c", "d"], "{act}");
        assert_eq!(transformed.rejected.len(), 1, "{act}");
        let rejected = &transformed.rejected[0];
        assert_eq!((&rejected.payload[..], rejected.reason.code), (&record[..], code), "{:?}", rejected.reason);
        assert!(rejected.reason.message.starts_with(reason), "{act}: {}", rejected.reason.message);
    }
}

#[test]
fn the_reason_of_a_trap_is_short_whatever_its_functions_are_called() {
    let folder = Folder::new();
    // Each level names what the one before names, ten times: that is gigabytes, written out.
    let levels = ["S_", "S0_", "S1_", "S2_", "S3_", "S4_", "S5_", "S6_", "S7_"];
    let cpp = format!("_Z1f3fooIiiiiiiiiiiE{}", levels.map(|of| format!("S_I{}E", of.repeat(10))).concat());
    for (name, shown) in [
        (cpp.as_str(), "trap: wasm `unreachable` instruction executed in _Z1f3foo"),
        ("_RYFG_FGyyEvRYFF_EvRYFFEvERLB_B_B_ERLRjB_B_B_", "trap: wasm `unreachable` instruction executed in <"),
        ("_RNvCs1234_7mycrate3foo", "trap: wasm `unreachable` instruction executed in mycrate::foo"),
        (&"n".repeat(90_000), "trap: wasm `unreachable` instruction executed in nnn"),
    ] {
        let of = |word: &str| (format!("({word} $act"), format!("({word} ${name}"));
        let (func, call) = (of("func"), of("call"));
        folder.put("named.wasm", &compiled(&ACTS.replace(&func.0, &func.1).replace(&call.0, &call.1)));
        let transformed = apply(&folder.make(json!({ "module": "named.wasm" })).unwrap(), &["!t"]);
        let message = &transformed.rejected[0].reason.message;
        assert!(message.starts_with(shown) && message.len() < 1000, "{message}");
    }
}

#[test]
fn much_output_goes_on_in_pieces_and_nobody_is_set_aside_for_it() {
    let folder = Folder::new();
    let transform = folder.acts();
    // Each `!h` becomes 12 times 64 KiB, where a part of a batch may become 1 MiB, and a batch has three parts.
    let record = |row: usize| if row.is_multiple_of(100) { "!h".to_owned() } else { format!("r{row}") };
    let (mut left, mut small, mut large, mut pieces) = (batch((0..1200).map(record)), Vec::<String>::new(), 0, 0);
    while !left.is_empty() {
        let before = left.len();
        let transformed = run(transform.apply(left)).unwrap();
        assert!(transformed.rejected.is_empty(), "{:?}", aside(&transformed));
        let bytes = transformed.batch.payload_bytes();
        assert!(bytes <= (1 + available_parallelism().unwrap().get() as u64) << 20, "{bytes} bytes in one piece");
        let is_small = |payload: &&[u8]| payload.len() < 65536;
        let of_small =
            transformed.batch.payloads().filter(is_small).map(|payload| String::from_utf8_lossy(payload).into());
        let before_small = small.len();
        small.extend(of_small);
        large += transformed.batch.len() - (small.len() - before_small);
        left = transformed.left;
        assert!(left.len() < before);
        pieces += 1;
    }
    assert!(pieces > 1);
    assert_eq!(large, 12 * 12);
    assert_eq!(small, (0..1200).map(record).filter(|record| record != "!h").collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn bad_records_anywhere_in_a_large_batch_are_the_only_ones_set_aside() {
    let folder = Folder::new();
    let bad = [0, 137, 499, 500, 1499];
    let record = |row: usize| if bad.contains(&row) { "!t".to_owned() } else { format!("r{row}") };
    let transformed = run(folder.acts().apply(batch((0..1500).map(record)))).unwrap();
    assert_eq!(transformed.rejected.len(), bad.len());
    let good: Vec<_> = (0..1500).filter(|row| !bad.contains(row)).map(record).collect();
    assert_eq!(texts(&transformed.batch), good);
}

#[test]
fn an_instance_lives_long_and_not_beyond_a_failure() {
    let folder = Folder::new();
    let transform = folder.acts();
    let count = || texts(&apply(&transform, &["!c"]).batch).concat();
    assert_eq!([count(), count(), count()], ["1", "2", "3"]);
    assert_eq!(apply(&transform, &["!t"]).rejected.len(), 1);
    assert_eq!([count(), count()], ["1", "2"]);
    // What one record leaves behind is no fault of those after it.
    assert_eq!(texts(&apply(&transform, &["!x"]).batch), ["!x"]);
    assert_eq!(texts(&apply(&transform, &["a"]).batch), ["a"]);
    assert_eq!(texts(&apply(&transform, &["!x"]).batch), ["!x"]);
    assert_eq!(texts(&apply(&transform, &["a", "b"]).batch), ["a", "b"]);
}

#[test]
fn a_module_that_leaks_is_replaced_before_it_reaches_its_limit() {
    let folder = Folder::new();
    folder.put("leaky.wasm", &compiled(&ACTS.replace("\"cabi_post_process\"", "\"nothing_frees\"")));
    let transform = folder.make(json!({ "module": "leaky.wasm", "memory_max": "1 MiB" })).unwrap();
    let record = "x".repeat(1000);
    for round in 0..50 {
        let transformed = run(transform.apply(batch([&record; 100]))).unwrap();
        assert_eq!(transformed.batch.len(), 100, "{round}: {:?}", transformed.rejected.first());
    }
    // 50 times 100 KB, and some more, went through instances of less than 1 MiB: it was replaced beyond a half.
    let most = transform.memory_bytes().unwrap();
    assert!((512 << 10..768 << 10).contains(&most), "{most} bytes");
}

#[test]
fn a_guest_sees_keys_origin_and_headers_and_its_outputs_keep_them() {
    let folder = Folder::new();
    let mut read = BatchBuilder::default();
    read.push(b"!y", 1);
    read.set_topic(&"orders".into(), 7);
    read.push_known(b"!y", 5, (Some(b"key"), 41), []);
    read.push_known(b"!o", 6, (None, 42), [(&b"trace"[..], &b"\xff\x00"[..]), (b"b", b"")]);
    read.push_known(b"!kat", 7, (Some(b""), 43), []);
    read.push(b"!a", 0x0102_0304_0506_0708);
    let transformed = run(folder.acts().apply(read.finish())).unwrap();
    let out = &transformed.batch;
    let data: Vec<&[u8]> = out.payloads().collect();
    assert_eq!(data[..5], [&b"key"[..], b"orders", b"trace", b"\xff\x00", b"!kat"]);
    assert_eq!(data[5], 0x0102_0304_0506_0708_u64.to_le_bytes());
    assert_eq!(aside(&transformed).len(), 1, "a record without a key; all have a topic: {:?}", aside(&transformed));
    for row in 1..4 {
        let origin = out.origin(row).unwrap();
        assert_eq!((origin.topic, origin.partition, origin.offset), ("orders", 7, 42));
        assert_eq!(origin.headers.collect::<Vec<_>>(), [(&b"trace"[..], &b"\xff\x00"[..]), (b"b", b"")]);
    }
    assert_eq!((out.key(0), out.key(1), out.key(4)), (Some(&b"key"[..]), None, Some(&b""[..])));
    let unknown = apply(&folder.acts(), &["!o", "!y"]);
    assert_eq!(aside(&unknown), [("!o".to_owned(), "Wasm.Failed", "!o"), ("!y".to_owned(), "Wasm.Failed", "!y")]);
    assert_eq!(out.partition_keys(4).collect::<Vec<_>>(), [(&b"country"[..], &b"at"[..])]);
}

#[test]
fn several_modules_are_a_chain_and_each_has_its_config() {
    let folder = Folder::new();
    let of = |config: Value| folder.make(json!({ "module": "acts.wasm", "config": config })).unwrap();
    let chain = vec![of(json!("-1")), of(json!({ "b": 2, "a": [1] })), of(json!(null))];
    let transforms = Transforms::new("p", chain, &Metrics::new().pipeline("p"));
    let transformed = run(through(&transforms, batch(["a", "!mb", "!ewhy", "!d"]))).unwrap();
    assert_eq!(texts(&transformed.batch), ["a-1{\"a\":[1],\"b\":2}", "b{\"a\":[1],\"b\":2}", "b{\"a\":[1],\"b\":2}"]);
    assert_eq!((transformed.rejected.len(), transformed.dropped), (1, 1));
}

#[test]
fn what_cannot_run_is_refused_with_the_option_at_fault() {
    let folder = Folder::new();
    fs::create_dir(folder.folder.path().join("sub")).unwrap();
    fs::File::create(folder.folder.path().join("large.wasm")).unwrap().set_len(200 << 20).unwrap();
    let pages = ("(memory (export \"memory\") 1)", "(memory (export \"memory\") 100)");
    folder.put("large_memory.wasm", &compiled(&ACTS.replace(pages.0, pages.1)));
    let start = "(start $grow_for_ever) (func (export \"init\")";
    folder.put("start.wasm", &compiled(&ACTS.replace("(func (export \"init\")", start)));
    let acts =
        |config: &str| json!({ "module": "acts.wasm", "config": config, "time_max": "50ms", "memory_max": "1 MiB" });
    for (options, key, message) in [
        (
            acts("!ea list of fields is missing"),
            "config",
            "refused by `init` of acts.wasm: a list of fields is missing",
        ),
        (acts("!t"), "module", "does not start: trap: wasm `unreachable` instruction executed"),
        (acts("!l"), "module", "does not start: time limit of 50ms exceeded"),
        (acts("!g"), "module", "does not start: memory limit of 1 MiB exceeded: it wanted 1088 KiB"),
        (
            json!({ "module": "large_memory.wasm", "memory_max": "1 MiB" }),
            "module",
            "does not start: memory limit of 1 MiB exceeded: it wanted 6400 KiB",
        ),
        (json!({ "module": "start.wasm" }), "module", "does not start: memory limit of 256 MiB exceeded"),
        (json!({ "module": "none.wasm" }), "module", "none.wasm: No such file or directory (os error 2)"),
        (json!({ "module": "sub" }), "module", "sub is not a file"),
        (json!({ "module": "large.wasm" }), "module", "is 200 MiB large; the limit is 64 MiB"),
        (json!({ "module": "a", "memory_max": 1000 }), "memory_max", "expected 1 MiB to 4 GiB, found 1 KB"),
        (json!({ "module": "a", "time_max": "1ms" }), "time_max", "expected 50ms to 5m, found 1ms"),
        (json!({ "module": "a", "output_max": "1 GiB" }), "output_max", "expected 1 MiB to 512 MiB, found 1 GiB"),
    ] {
        let wrong = folder.make(options).err().unwrap();
        let shown = wrong.message.replace(&format!("{}/", folder.folder.path().display()), "");
        assert!(wrong.key == key && shown.starts_with(message), "{}: {shown}\nnot {key}: {message}", wrong.key);
    }
}

#[test]
fn a_guest_that_sleeps_is_woken_at_its_deadline() {
    let folder = Folder::new();
    folder.put("sleeper.wasm", &compiled(SLEEPER));
    let transform = folder.make(json!({ "module": "sleeper.wasm", "time_max": "50ms" })).unwrap();
    let transformed = apply(&transform, &["a"]);
    assert_eq!(aside(&transformed), [("a".to_owned(), "Wasm.TimeLimit", "time limit of 50ms exceeded")]);
}

#[test]
fn a_guest_that_writes_much_in_one_call_is_ended_before_all_of_it_is_written() {
    let folder = Folder::new();
    // 60 MiB of empty lines, and a last one that would be told with the reason.
    let writes = "(memory.fill (i32.const 65536) (i32.const 10) (i32.const 62914560))
        (i32.store (i32.const 62980090) (i32.const 0x21444e45))
        (i32.store (i32.const 128) (i32.const 65536)) (i32.store offset=4 (i32.const 128) (i32.const 62914560))
        (drop (call $poll (i32.const 2) (i32.const 128) (i32.const 1) (i32.const 512))) (unreachable)))";
    let writer = SLEEPER.replace("poll_oneoff", "fd_write").replace("\"memory\") 1)", "\"memory\") 1024)");
    let (begin, _) = writer.split_once("(i32.store offset=16").unwrap();
    folder.put("writer.wasm", &compiled(&format!("{begin}{writes}")));
    let transform = folder.make(json!({ "module": "writer.wasm", "time_max": "50ms" })).unwrap();
    let transformed = apply(&transform, &["a"]);
    assert_eq!(aside(&transformed), [("a".to_owned(), "Wasm.TimeLimit", "time limit of 50ms exceeded")]);
}

#[test]
fn a_stop_gets_through_to_a_batch_that_takes_long() {
    let folder = Folder::new();
    let transform = folder.acts();
    run(async {
        let mut applied = Box::pin(transform.apply(batch(["!l"; 8])));
        assert!(poll!(&mut applied).is_pending(), "after the first try it lets others go first");
        assert!(poll!(&mut applied).is_pending(), "and after the second");
    });
    assert_eq!(texts(&apply(&transform, &["a"]).batch), ["a"], "what was given up leaves nothing behind");
}

/// A module as `acts.wat`, of another version.
fn version(digit: char) -> Vec<u8> {
    let one = "(data (i32.const 80) \"1\")";
    assert!(ACTS.contains(one));
    compiled(&ACTS.replace(one, &one.replace('1', &digit.to_string())))
}

const LINES: &str = "lines: {}";
const SOON: &str = "200ms";

fn with_wasm(pipeline: String, options: &str) -> String {
    format!("{pipeline}transforms: [{{ wasm: {{ {options} }} }}]\n")
}

fn delivered(home: &Home, folder: &str) -> Vec<String> {
    let text: String = files(&home.path(folder)).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_module_of_a_pipeline_makes_prefixes_and_error_objects() {
    let home = Home::new();
    home.write("pipelines/acts.wasm", compiled(ACTS));
    let sink = "url: ./out, prefix: \"rows/country=!{partitionKey:country}/\"";
    home.write(
        "pipelines/x.yaml",
        with_wasm(pipeline("stdin: {}", LINES, SOON, sink), "module: acts.wasm, config: [1]"),
    );
    let ended = home.run_fed("run --once pipelines/x.yaml", b"!kde\n!kat\n!kde\n!t\n!ewhy\n!d\n");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(delivered(&home, "out/rows/country=de"), ["!kde", "!kde"]);
    assert_eq!(delivered(&home, "out/rows/country=at"), ["!kat"]);
    let aside = delivered(&home, "out/errors/processing-failed");
    let field =
        |line: &str, name: &str| serde_json::from_str::<Value>(line).unwrap()[name].as_str().unwrap().to_owned();
    let mut codes: Vec<_> = aside.iter().map(|line| field(line, "errorCode")).collect();
    codes.sort();
    assert_eq!(codes, ["Wasm.Failed", "Wasm.Trap"], "{aside:?}");
}

#[test]
fn a_module_of_a_running_daemon_is_replaced_and_a_broken_one_is_not_taken() {
    let home = Home::new();
    home.write("acts.wasm", version('1'));
    let text = pipeline("http: { stream: s }", LINES, SOON, "url: ./out");
    home.write("x.yaml", with_wasm(text, "module: acts.wasm"));
    let daemon = home.start("x.yaml");
    daemon.put_lines("s", &["!v"]);
    daemon.delivers("x", 1);
    home.write("acts.wasm", "oops");
    let said = daemon.hears("refused, what ran before runs on: ", |line| line["pipeline"] == "x");
    assert!(said["message"].as_str().unwrap().contains("module"), "{said}");
    daemon.put_lines("s", &["!v"]);
    daemon.delivers("x", 2);
    home.write("acts.wasm", version('2'));
    daemon.hears("running", |line| line["pipeline"] == "x" && line["revision"] != 1);
    daemon.put_lines("s", &["!v"]);
    daemon.delivers("x", 3);
    daemon.stop();
    assert_eq!(delivered(&home, "out"), ["1", "1", "2"]);
}

#[test]
fn a_module_that_loops_holds_up_its_own_pipeline_only() {
    let home = Home::new();
    home.write("pipelines/acts.wasm", compiled(ACTS));
    let with = |stream: &str| {
        let text = pipeline(&format!("http: {{ stream: {stream} }}"), LINES, SOON, &format!("url: ./{stream}"));
        with_wasm(text, "module: acts.wasm, time_max: 5m")
    };
    home.write("pipelines/loops.yaml", with("loops"));
    home.write("pipelines/well.yaml", with("well"));
    let daemon = home.start("pipelines");
    daemon.put_lines("loops", &["a", "!l", "b"]);
    let read = || daemon.metric("hydrant_records_in_total{pipeline=\"loops\"}") >= 3.0;
    until("the module has the record", || read().then_some(()));
    for round in 1..=5 {
        daemon.put_lines("well", &["c", "d"]);
        daemon.delivers("well", 2 * round);
    }
    assert_eq!(daemon.healthz().0, 200);
    assert_eq!(daemon.positions("loops")[1], 0.0, "it loops still");
    daemon.kill();
}
