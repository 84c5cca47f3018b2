;; Sleeps for an hour, in the host, for each call: by poll_oneoff of WASI preview 1, with one subscription to the monotonic clock.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32)
    (global.get $free)
    (global.set $free (i32.and (i32.add (global.get $free) (i32.add (local.get $len) (i32.const 15))) (i32.const -16))))
  (func (export "init") (param i32 i32) (result i32) (i32.const 32))
  (func (export "process") (param i32 i32) (result i32)
    (i32.store offset=16 (i32.const 128) (i32.const 1))
    (i64.store offset=24 (i32.const 128) (i64.const 3600000000000))
    (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 512)))
    (unreachable)))
