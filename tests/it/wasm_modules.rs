//! Modules from bytes to something that can be started: what loads, what is refused, and how.

use std::time::Duration;

use hydrant::transform::wasm::{Exports, Limits, Log, Module, Modules, State, Unfit};
use wasmtime::Store;
use wasmtime::component::Val;

/// A module of the canonical ABI: memory that only grows, `init` that says yes, `process` that drops all.
const DROPS_ALL: &str = r#"
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
    (func $init (export "init") (param i32 i32) (result i32) (i32.const 16))
    (func $process (export "process") (param $events i32) (param $count i32) (result i32)
      (i32.store (i32.const 32)
        (call $room (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $count) (i32.const 12))))
      (i32.store (i32.const 36) (local.get $count))
      (i32.const 32))
"#;

/// A core module: these imports and fields, and [`DROPS_ALL`].
fn core(imports: &str, more: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {imports} {DROPS_ALL} {more})")).unwrap()
}

fn load(bytes: &[u8]) -> Result<Module, Unfit> {
    Modules::default().load(bytes)
}

fn start(module: &Module) -> wasmtime::Result<(Store<State>, Exports)> {
    let limits = Limits::new(64 << 20, Duration::from_secs(10));
    module.instantiate(State::new(Log::new("clicks", "test.wasm"), limits))
}

fn init(module: &Module) -> wasmtime::Result<Val> {
    let (mut store, exports) = start(module)?;
    let mut answer = [Val::Bool(false)];
    exports.init.call(&mut store, &[Val::String("{}".into())], &mut answer)?;
    let [answer] = answer;
    Ok(answer)
}

#[test]
fn a_bare_core_module_becomes_a_component_and_starts() {
    let module = load(&core("", "")).unwrap();
    assert_eq!(init(&module).unwrap(), Val::Result(Ok(None)));
    let (mut store, exports) = start(&module).unwrap();
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
