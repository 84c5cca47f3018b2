//! Modules from bytes to something that can be started: what loads, what is refused, and what it is granted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hydrant::transform::wasm::{Exports, Limits, Log, MODULE_BYTES_MAX, Module, Modules, State, Unfit};
use wasmtime::Store;
use wasmtime::component::Val;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../transforms/hydrant.wit");
const FULL: &str = "hydrant:transform/transformer@0.1.0#";

/// A core module of the canonical ABI with these imports and fields: memory that only grows, an `init` that does `doing` and
/// says yes, a `process` that drops all. Names of `init` and `process` begin with `prefix`.
fn text(prefix: &str, imports: &str, fields: &str, doing: &str) -> String {
    format!(
        r#"(module {imports}
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 4096))
    (func $room (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
      (local.get $at))
    (func (export "{prefix}init") (param i32 i32) (result i32) {doing} (i32.const 16))
    (func (export "{prefix}process") (param $events i32) (param $count i32) (result i32)
      (i32.store (i32.const 32)
        (call $room (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $count) (i32.const 12))))
      (i32.store (i32.const 36) (local.get $count))
      (i32.const 32))
    {fields})"#
    )
}

fn core(prefix: &str, imports: &str, fields: &str, doing: &str) -> Vec<u8> {
    wat::parse_str(text(prefix, imports, fields, doing)).unwrap()
}

/// A core module as wit-bindgen makes it: with the world of the last of these packages in it.
fn with_world(mut core: Vec<u8>, packages: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let packages: Vec<_> = packages.iter().map(|wit| resolve.push_source("test.wit", wit).unwrap()).collect();
    let world = resolve.select_world(&packages[packages.len() - 1..], None).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    core
}

fn component(core: &[u8]) -> Vec<u8> {
    ComponentEncoder::default().module(core).unwrap().encode().unwrap()
}

fn load(bytes: &[u8]) -> Result<Module, Unfit> {
    Modules::default().load(bytes)
}

fn start(module: &Module, time_max: Duration) -> (Store<State>, Exports) {
    module.instantiate(State::new(Log::new("clicks", "test.wasm"), Limits::new(64 << 20, time_max))).unwrap()
}

fn init_in(store: &mut Store<State>, exports: Exports) -> wasmtime::Result<Val> {
    let mut answer = [Val::Bool(false)];
    exports.init.call(store, &[Val::String("{}".into())], &mut answer)?;
    let [answer] = answer;
    Ok(answer)
}

/// What became of `init`, in so much time.
fn init_within(time_max: Duration, module: &[u8]) -> wasmtime::Result<Val> {
    let (mut store, exports) = start(&load(module).unwrap(), time_max);
    init_in(&mut store, exports)
}

fn init(module: &[u8]) -> wasmtime::Result<Val> {
    init_within(Duration::from_secs(60), module)
}

fn yes() -> Val {
    Val::Result(Ok(None))
}

/// Two records are dropped.
fn drops_all(module: &[u8]) {
    let (mut store, exports) = start(&load(module).unwrap(), Duration::from_secs(60));
    let event = Val::Record(vec![
        ("data".into(), Val::List(vec![Val::U8(1)])),
        ("arrival-ms".into(), Val::U64(2)),
        ("key".into(), Val::Option(None)),
        ("origin".into(), Val::Option(None)),
    ]);
    let mut answer = [Val::Bool(false)];
    exports.process.call(&mut store, &[Val::List(vec![event.clone(), event])], &mut answer).unwrap();
    let dropped = Val::Result(Ok(Some(Box::new(Val::List(Vec::new())))));
    assert_eq!(answer, [Val::List(vec![dropped.clone(), dropped])]);
}

#[test]
fn a_transform_loads_in_each_of_the_forms_that_toolchains_make() {
    let log = r#"(import "hydrant:transform/host@0.1.0" "log" (func (param i32 i32 i32)))"#;
    let short = core("", log, "", "");
    let full = core(FULL, log, "", "");
    let bindgen = with_world(full.clone(), &[WIT]);
    let ready = component(&bindgen);
    for module in [&short, &full, &bindgen, &ready] {
        assert_eq!(init(module).unwrap(), yes());
        drops_all(module);
    }
}

#[test]
fn what_a_core_module_does_after_an_answer_and_before_all_is_done() {
    let fields = |prefix: &str| {
        format!(
            r#"(func (export "cabi_post_{prefix}init") (param i32) (i32.store8 (i32.const 16) (i32.const 1)))
               (func (export "_initialize") (i32.store (i32.const 40) (i32.const 7)))"#
        )
    };
    let doing = "(if (i32.ne (i32.load (i32.const 40)) (i32.const 7)) (then (unreachable)))";
    for prefix in ["", FULL] {
        let module = load(&core(prefix, "", &fields(prefix), doing)).unwrap();
        let (mut store, exports) = start(&module, Duration::from_secs(60));
        assert_eq!(init_in(&mut store, exports).unwrap(), yes());
        let no = Val::Result(Err(Some(Box::new(Val::String(String::new())))));
        assert_eq!(init_in(&mut store, exports).unwrap(), no);
    }
}

#[test]
fn a_later_patch_of_the_contract_loads_and_another_version_is_refused_by_name() {
    let grown = |version: &str, host: &str, more: &str| {
        let wit = WIT.replace("@0.1.0", &format!("@{version}"));
        let wit = wit.replacen("log: func", &format!("{host}\n  log: func"), 1);
        wit.replacen("export transformer;", &format!("export transformer;{more}"), 1)
    };
    let prefix = |version: &str| FULL.replace("0.1.0", version);
    let flush = r#"(func (export "hydrant:transform/flusher@0.1.7#flush"))"#;
    let flusher = "\n export flusher;\n}\ninterface flusher { flush: func();";
    let wit = grown("0.1.7", "count: func(name: string);", flusher);
    let log = r#"(import "hydrant:transform/host@0.1.7" "log" (func (param i32 i32 i32)))"#;
    let module = with_world(core(&prefix("0.1.7"), log, flush, ""), &[&wit]);
    drops_all(&module);
    drops_all(&component(&module));
    drops_all(&core(&prefix("0.1.7"), log, "", ""));

    let count = r#"(import "hydrant:transform/host@0.1.7" "count" (func (param i32 i32)))"#;
    for asking in [with_world(core(&prefix("0.1.7"), count, flush, ""), &[&wit]), core(&prefix("0.1.7"), count, "", "")]
    {
        let unfit = load(&asking).unwrap_err();
        assert!(unfit.message.contains("hydrant:transform/host@0.1.7` `count`"), "{unfit:?}");
    }

    let module = core(&prefix("0.2.0"), "", "", "");
    let carried = with_world(module.clone(), &[&grown("0.2.0", "", "")]);
    for other in [component(&carried), carried, module] {
        let unfit = load(&other).unwrap_err();
        let expected = "is made for `hydrant:transform/transformer@0.2.0`; this hydrant speaks 0.1.0 and what is compatible with it";
        assert_eq!(unfit.message, expected);
    }
}

#[test]
fn a_type_whose_text_is_megabytes_is_cut() {
    let many = |of: &str| format!("tuple<{}>", vec![of; 100].join(", "));
    let types = format!("record r {{ {}: bool }} type a = {}; type b = {};", "x".repeat(1000), many("r"), many("a"));
    let wit = WIT.replace("arrival-ms: u64", "arrival-ms: b").replacen(
        "interface transformer {",
        &format!("interface transformer {{ {types}"),
        1,
    );
    let unfit = load(&with_world(core(FULL, "", "", ""), &[&wit])).unwrap_err();
    assert!(unfit.message.starts_with("exports `process` with another type: it is `func(events: list<"), "{unfit:?}");
    assert!(unfit.message.len() < 4096, "{} bytes", unfit.message.len());
}

#[test]
fn a_process_of_another_type_is_refused_with_both_types() {
    let wit = WIT.replace("arrival-ms: u64", "arrival-ms: s64");
    let unfit = load(&with_world(core(FULL, "", "", ""), &[&wit])).unwrap_err();
    assert!(unfit.message.starts_with(
        "exports `process` with another type: it is `func(events: list<record { data: list<u8>, arrival-ms: s64"
    ));
    assert!(unfit.message.contains("; expected `func(events: list<record { data: list<u8>, arrival-ms: u64"));
}

#[test]
fn a_component_that_is_no_transform_is_refused_with_what_it_has() {
    let refused = |text: &str| load(&wat::parse_str(text).unwrap()).unwrap_err();
    let unfit = refused("(component)");
    assert_eq!(unfit.message, "exports nothing; expected `hydrant:transform/transformer@0.1.0`");
    let unfit = refused(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
    assert_eq!(unfit.message, "exports `wasi:cli/run@0.2.0`; expected `hydrant:transform/transformer@0.1.0`");
    assert!(unfit.hint.unwrap().contains("main function"));
    let unfit = refused(r#"(component (import "acme:db/query@1.0.0" (instance)))"#);
    assert_eq!(unfit.message, "imports `acme:db/query@1.0.0`, which nobody gives it");
    let unfit = refused(
        r#"(component (component $c) (instance $i (instantiate $c)) (export "hydrant:transform/transformer@0.1.0" (instance $i)))"#,
    );
    assert!(unfit.message.contains("without `init`; expected `func(config: string)"), "{unfit:?}");
}

#[test]
fn a_core_module_that_is_no_transform_is_refused_with_what_it_lacks() {
    let refused = |text: &str| load(&wat::parse_str(text).unwrap()).unwrap_err();
    let whole = text("", "", "", "");
    for (text, message, hint) in [
        ("(module)".to_owned(), "exports nothing; expected `init` and `process`", "canonical ABI"),
        (
            r#"(module (func (export "main")))"#.to_owned(),
            "exports `main`; expected `init` and `process`",
            "canonical ABI",
        ),
        (whole.replace(r#"(export "memory")"#, ""), "exports no `memory`", "canonical ABI"),
        (
            whole.replace("cabi_realloc", "malloc"),
            "exports no `cabi_realloc`; it exports `memory`, `malloc`",
            "canonical ABI",
        ),
        (whole.replace(r#""init""#, r#""start""#), "exports no `init`; it exports", "canonical ABI"),
        (
            r#"(module (memory (export "memory") 1) (func (export "process") (param i64) (result f32) unreachable)
                (func (export "init") (param i32 i32) (result i32) unreachable))"#
                .to_owned(),
            "exports `process` as (i64) -> (f32); expected (i32, i32) -> (i32)",
            "canonical ABI",
        ),
        (
            r#"(module (memory (export "memory") 1) (global (export "process") i32 (i32.const 1))
                (func (export "init") (param i32 i32) (result i32) unreachable))"#
                .to_owned(),
            "exports `process` as no function; expected",
            "canonical ABI",
        ),
        (import(&whole, "env", "abort"), "imports `env` `abort`, which nobody gives it", "--use abort="),
        (import(&whole, "env", "strlen"), "imports `env` `strlen`, which nobody gives it", "link all"),
        (import(&whole, "__wbindgen_placeholder__", "x"), "imports `__wbindgen_placeholder__` `x`", "wit-bindgen"),
        (import(&whole, "acme", "x"), "imports `acme` `x`, which nobody gives it", "wasi_snapshot_preview1"),
        (import(&whole, "hydrant:transform/host@0.1.0", "count"), "`count`; hydrant gives `log`", ""),
        (
            import(&whole, "hydrant:transform/host@0.2.0", "log"),
            "is made for `hydrant:transform/host@0.2.0`",
            "hydrant.wit",
        ),
        (
            import(&whole, "wasi_snapshot_preview1", "fork"),
            "imports `wasi_snapshot_preview1` `fork`, which is no function of it",
            "",
        ),
        (whole.replace(r#""memory") 2"#, r#""memory") 2 2 shared"#), "cannot be compiled: ", ""),
    ] {
        let unfit = refused(&text);
        assert!(unfit.message.contains(message), "{message}: {unfit:?}");
        assert!(unfit.hint.as_deref().unwrap_or_default().contains(hint), "{message}: {unfit:?}");
    }
}

fn import(module: &str, from: &str, name: &str) -> String {
    module.replacen("(module", &format!(r#"(module (import "{from}" "{name}" (func))"#), 1)
}

#[test]
fn what_is_no_webassembly_is_called_by_its_name() {
    let said = |bytes: &[u8]| load(bytes).unwrap_err();
    assert_eq!(said(b"").message, "is empty");
    assert_eq!(said(b"\x7fELF\x02\x01\x01").message, "is a program of this machine (ELF), not WebAssembly");
    assert_eq!(said(b"\x1f\x8b\x08").message, "is compressed, not WebAssembly");
    assert_eq!(said(b"  (module)").message, "is WebAssembly text, not the binary format");
    assert_eq!(
        said(b"export function process(e) {\n}").message,
        "is a text, not WebAssembly: it begins with `export function process(e) {`"
    );
    assert_eq!(said(b"\xff\xfe\xfd\xfc\xfb").message, "is not WebAssembly: it begins with [ff, fe, fd, fc]");
    assert_eq!(said(b"\0asm\x09\0\0\0").message, "is WebAssembly of an unknown version ([09, 00, 00, 00])");
    let unfit = said(&vec![0; MODULE_BYTES_MAX as usize + 1]);
    assert!(unfit.message.ends_with("the limit is 64 MiB"), "{unfit:?}");
}

#[test]
fn a_module_cut_short_anywhere_says_so() {
    let core = core("", "", "", "");
    for whole in [component(&with_world(wat::parse_str(text(FULL, "", "", "")).unwrap(), &[WIT])), core] {
        for end in 1..whole.len() {
            match load(&whole[..end]) {
                // What follows is a custom section (id 0), which may as well be absent.
                Ok(_) => assert_eq!(whole[end], 0, "{end} of {} bytes load", whole.len()),
                Err(unfit) => {
                    let known = ["ends in the middle, after", "exports ", "is damaged: ", "cannot be "];
                    assert!(known.iter().any(|known| unfit.message.starts_with(known)), "{end}: {unfit:?}");
                }
            }
        }
        let unfit = load(&whole[..whole.len() / 2]).unwrap_err();
        assert!(unfit.message.starts_with("ends in the middle, after"), "{unfit:?}");
    }
}

/// As much of WASI as a module here asks for.
const WASI: [&str; 4] = [
    "package wasi:io@0.2.6;
     interface error { resource error; }
     interface poll { resource pollable { block: func(); } }
     interface streams {
       use error.{error};
       variant stream-error { last-operation-failed(error), closed }
       resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
     }",
    "package wasi:clocks@0.2.6;
     interface monotonic-clock { use wasi:io/poll@0.2.6.{pollable}; subscribe-duration: func(when: u64) -> pollable; }
     interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }",
    "package wasi:random@0.2.6; interface random { get-random-bytes: func(len: u64) -> list<u8>; }",
    "package wasi:cli@0.2.6;
     interface exit { exit: func(status: result); }
     interface stderr { use wasi:io/streams@0.2.6.{output-stream}; get-stderr: func() -> output-stream; }",
];

const SOCKETS: &str =
    "package wasi:sockets@0.2.6; interface instance-network { resource network; instance-network: func() -> network; }";

/// A module that imports these functions of WASI and uses them in `init`.
fn with_wasi(imports: &str, doing: &str) -> Vec<u8> {
    let world = "import wasi:clocks/monotonic-clock@0.2.6; import wasi:clocks/wall-clock@0.2.6; import wasi:random/random@0.2.6;
        import wasi:cli/exit@0.2.6; import wasi:cli/stderr@0.2.6; import wasi:sockets/instance-network@0.2.6;";
    let wit = WIT.replacen("import host;", &format!("import host; {world}"), 1);
    with_world(core(FULL, imports, "", doing), &[&WASI[..], &[SOCKETS, &wit]].concat())
}

#[test]
fn a_guest_has_a_clock_and_randomness_and_what_it_writes_is_kept_for_the_reason() {
    let clock = r#"(import "wasi:clocks/wall-clock@0.2.6" "now" (func $now (param i32)))"#;
    let no_time = "(call $now (i32.const 64)) (if (i64.lt_u (i64.load (i32.const 64)) (i64.const 1700000000)) (then unreachable))";
    assert_eq!(init(&with_wasi(clock, no_time)).unwrap(), yes());

    let random = r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#;
    let some = "(call $random (i64.const 16) (i32.const 64))
        (if (i64.eqz (i64.load (i32.load (i32.const 64)))) (then unreachable))";
    assert_eq!(init(&with_wasi(random, some)).unwrap(), yes());
    let much = "(call $random (i64.const 4294967296) (i32.const 64))";
    let error = init(&with_wasi(random, much)).unwrap_err();
    let error = error.root_cause().to_string();
    assert_eq!(error, "asks for 4294967296 random bytes at once; 1048576 are allowed");

    let stderr = r#"(import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
        (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush" (func $write (param i32 i32 i32 i32)))"#;
    let writes = r#"(i64.store (i32.const 64) (i64.const 0x6f206e65706f6863))
        (call $write (call $stderr) (i32.const 64) (i32.const 8) (i32.const 80))"#;
    let (mut store, exports) = start(&load(&with_wasi(stderr, writes)).unwrap(), Duration::from_secs(60));
    assert_eq!(init_in(&mut store, exports).unwrap(), yes());
    assert_eq!(store.data().wasi.stderr_tail(), "chopen o");
}

#[test]
fn a_guest_sleeps_no_longer_than_its_call_may_take() {
    let imports = r#"(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $in (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#;
    let sleep = |nanoseconds: &str| with_wasi(imports, &format!("(call $block (call $in (i64.const {nanoseconds})))"));
    assert_eq!(init(&sleep("1000000")).unwrap(), yes());
    for long in ["3600000000000", "-1"] {
        let error = init_within(Duration::from_millis(20), &sleep(long)).unwrap_err();
        assert!(error.root_cause().to_string().starts_with("time limit of "), "{error:?}");
    }
}

#[test]
fn a_guest_that_asks_for_what_is_not_granted_traps_and_is_told_its_name() {
    let imports = r#"(import "wasi:sockets/instance-network@0.2.6" "instance-network" (func $network (result i32)))"#;
    assert_eq!(init(&with_wasi(imports, "")).unwrap(), yes());
    let error = init(&with_wasi(imports, "(drop (call $network))")).unwrap_err();
    let expected = "hydrant grants a transform no `wasi:sockets/instance-network@0.2.6#instance-network`: it has a clock, \
        randomness and a log";
    assert_eq!(error.root_cause().to_string(), expected);

    let imports = r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#;
    let error = init(&with_wasi(imports, "(call $exit (i32.const 1))")).unwrap_err();
    assert_eq!(error.root_cause().to_string(), "the guest ended itself with exit code 1");
}

#[test]
fn a_module_of_the_older_wasi_has_the_same_and_no_more() {
    let wasi = |name: &str, params: &str| {
        format!(r#"(import "wasi_snapshot_preview1" "{name}" (func $call (param {params}) (result i32)))"#)
    };
    let doing = |name: &str, params: &str, doing: &str| core("", &wasi(name, params), "", doing);
    let errno = |call: &str, expected: u32| format!("(if (i32.ne {call} (i32.const {expected})) (then unreachable))");

    let time = "(drop (call $call (i32.const 0) (i64.const 0) (i32.const 64)))
        (if (i64.lt_u (i64.load (i32.const 64)) (i64.const 1700000000000000000)) (then unreachable))";
    assert_eq!(init(&doing("clock_time_get", "i32 i64 i32", time)).unwrap(), yes());

    // Eleven bytes are random, and those beside them as they were.
    let random = "(drop (call $call (i32.const 65) (i32.const 11)))
        (if (i64.eqz (i64.load (i32.const 68))) (then unreachable))
        (if (i32.or (i32.load8_u (i32.const 64)) (i32.load8_u (i32.const 76))) (then unreachable))";
    assert_eq!(init(&doing("random_get", "i32 i32", random)).unwrap(), yes());

    let path_open =
        "(call $call (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0)
        (i32.const 0) (i32.const 80))";
    let params = "i32 i32 i32 i32 i32 i64 i64 i32 i32";
    assert_eq!(init(&doing("path_open", params, &errno(path_open, 8))).unwrap(), yes());

    let writes = r#"(i64.store (i32.const 64) (i64.const 0x6f206e65706f6863))
        (i64.store (i32.const 80) (i64.const 0x0000000300000040))
        (i64.store (i32.const 88) (i64.const 0x0000000500000043))
        (drop (call $call (i32.const 2) (i32.const 80) (i32.const 2) (i32.const 96)))
        (if (i32.ne (i32.load (i32.const 96)) (i32.const 8)) (then unreachable))"#;
    let (mut store, exports) =
        start(&load(&doing("fd_write", "i32 i32 i32 i32", writes)).unwrap(), Duration::from_secs(60));
    assert_eq!(init_in(&mut store, exports).unwrap(), yes());
    assert_eq!(store.data().wasi.stderr_tail(), "chopen o");

    // Two clocks: it wakes for the second, which comes first; a time that has passed does not wait.
    let sleep = |first: i64, second: i64, absolute: u32| {
        format!(
            "(i64.store (i32.const 128) (i64.const 11)) (i64.store (i32.const 152) (i64.const {first}))
             (i64.store (i32.const 176) (i64.const 22)) (i64.store (i32.const 200) (i64.const {second}))
             (i32.store16 (i32.const 216) (i32.const {absolute}))
             {} (if (i64.ne (i64.load (i32.const 256)) (i64.const 22)) (then unreachable))",
            errno("(call $call (i32.const 128) (i32.const 256) (i32.const 2) (i32.const 320))", 0)
        )
    };
    for (first, second, absolute) in [(-1, 1_000_000, 0), (3_600_000_000_000, 1, 1)] {
        assert_eq!(init(&doing("poll_oneoff", "i32 i32 i32 i32", &sleep(first, second, absolute))).unwrap(), yes());
    }
    let long = doing("poll_oneoff", "i32 i32 i32 i32", &sleep(-1, 3_600_000_000_000, 0));
    let error = init_within(Duration::from_millis(20), &long).unwrap_err();
    assert!(error.root_cause().to_string().starts_with("time limit of "), "{error:?}");
}

/// The one file in a folder.
fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn what_was_compiled_is_kept_used_again_and_replaced_when_it_is_damaged_or_foreign() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("state/modules");
    let module = core("", "", "", "");
    let fresh = |module: &[u8]| Modules::new(Some(kept.clone())).load(module).unwrap();
    let works = |module: &Module| {
        let (mut store, exports) = start(module, Duration::from_secs(60));
        assert_eq!(init_in(&mut store, exports).unwrap(), yes());
    };
    works(&fresh(&module));
    let path = only_file(&kept);
    let whole = fs::read(&path).unwrap();

    // One that is used is marked as used, and not written again.
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let age = || File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    age();
    works(&fresh(&module));
    assert!(fs::metadata(&path).unwrap().modified().unwrap() > old);
    assert_eq!(fs::read(&path).unwrap(), whole);

    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let other = tempfile::tempdir().unwrap();
    Modules::new(Some(other.path().into())).load(&core("", "", "", "(nop)")).unwrap();
    let foreign = fs::read(only_file(other.path())).unwrap();
    for bad in [&damaged[..], &whole[..whole.len() - 7], b"", &foreign] {
        fs::write(&path, bad).unwrap();
        works(&fresh(&module));
        assert_eq!(fs::read(only_file(&kept)).unwrap(), whole);
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_no_reason_not_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("modules");
    fs::write(&kept, "a file").unwrap();
    let module = Modules::new(Some(kept)).load(&core("", "", "", "")).unwrap();
    let (mut store, exports) = start(&module, Duration::from_secs(60));
    assert_eq!(init_in(&mut store, exports).unwrap(), yes());
}
