;; `wasi_snapshot_preview1` as far as hydrant grants it, for core modules: C, Go, Zig, Rust's wasm32-wasip1.
;;
;; The adapter of the WASI authors asks the module for memory before the module is initialised, and so cannot serve Go, whose
;; allocator does not work then and takes all memory that it did not ask for itself. This one has no state and no memory.
;; preview1.wasm is this file as binary; a test says so, and writes it when HYDRANT_BLESS is set.
;;
;; Numbers: errno 8 badf, 52 nosys, 70 spipe. File descriptors: 0, 1, 2.
(module
  (import "env" "memory" (memory 0))
  (import "hydrant:preview1/host@0.1.0" "write" (func $write (param i32 i32 i32)))
  (import "hydrant:preview1/host@0.1.0" "random" (func $random (result i64)))
  (import "hydrant:preview1/host@0.1.0" "now" (func $now (param i32) (result i64)))
  (import "hydrant:preview1/host@0.1.0" "sleep" (func $sleep (param i64)))
  (import "hydrant:preview1/host@0.1.0" "exit" (func $exit (param i32)))

  ;; What is granted to nobody, and what has nothing to do.
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_allocate") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_datasync") (param i32) (result i32) (i32.const 8))
  (func (export "fd_fdstat_set_rights") (param i32 i64 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_pread") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_get") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_pwrite") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_readdir") (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_renumber") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_sync") (param i32) (result i32) (i32.const 8))
  (func (export "path_create_directory") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "path_readlink") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_remove_directory") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_rename") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "path_unlink_file") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_shutdown") (param i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 70))
  (func (export "fd_tell") (param i32 i32) (result i32) (i32.const 70))
  (func (export "proc_raise") (param i32) (result i32) (i32.const 52))
  (func (export "args_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "environ_get") (param i32 i32) (result i32) (i32.const 0))
  (func (export "fd_close") (param i32) (result i32) (i32.const 0))
  (func (export "fd_fdstat_set_flags") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sched_yield") (result i32) (i32.const 0))

  (func $nothing (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $nothing))
  (export "environ_sizes_get" (func $nothing))

  (func $time (param $clock i32) (result i64)
    (call $now (i32.ne (local.get $clock) (i32.const 0))))

  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $to i32) (result i32)
    (i64.store (local.get $to) (call $time (local.get $clock)))
    (i32.const 0))

  (func (export "clock_res_get") (param $clock i32) (param $to i32) (result i32)
    (i64.store (local.get $to) (i64.const 1))
    (i32.const 0))

  (func (export "proc_exit") (param $code i32)
    (call $exit (local.get $code))
    (unreachable))

  (func (export "random_get") (param $at i32) (param $len i32) (result i32)
    (local $random i64)
    (block $done
      (loop $next
        (br_if $done (i32.lt_u (local.get $len) (i32.const 8)))
        (i64.store (local.get $at) (call $random))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $len (i32.sub (local.get $len) (i32.const 8)))
        (br $next)))
    (local.set $random (call $random))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $len)))
        (i64.store8 (local.get $at) (local.get $random))
        (local.set $random (i64.shr_u (local.get $random) (i64.const 8)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $len (i32.sub (local.get $len) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; A character device: libc then writes whole lines.
  (func (export "fd_fdstat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $to) (i64.const 2))
    ;; Rights to read, to write, and to poll.
    (i64.store offset=8 (local.get $to) (i64.const 0x08000042))
    (i64.store offset=16 (local.get $to) (i64.const 0))
    (i32.const 0))

  (func (export "fd_filestat_get") (param $fd i32) (param $to i32) (result i32)
    (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return (i32.const 8))))
    (i64.store (local.get $to) (i64.const 0))
    (i64.store offset=8 (local.get $to) (i64.const 0))
    (i64.store offset=16 (local.get $to) (i64.const 2))
    (i64.store offset=24 (local.get $to) (i64.const 1))
    (i64.store offset=32 (local.get $to) (i64.const 0))
    (i64.store offset=40 (local.get $to) (i64.const 0))
    (i64.store offset=48 (local.get $to) (i64.const 0))
    (i64.store offset=56 (local.get $to) (i64.const 0))
    (i32.const 0))

  ;; Standard input has ended.
  (func (export "fd_read") (param $fd i32) (param $pieces i32) (param $count i32) (param $read i32) (result i32)
    (if (local.get $fd) (then (return (i32.const 8))))
    (i32.store (local.get $read) (i32.const 0))
    (i32.const 0))

  (func (export "fd_write") (param $fd i32) (param $pieces i32) (param $count i32) (param $written i32) (result i32)
    (local $all i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1)) (then (return (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (call $write (local.get $fd) (i32.load (local.get $pieces)) (i32.load offset=4 (local.get $pieces)))
        (local.set $all (i32.add (local.get $all) (i32.load offset=4 (local.get $pieces))))
        (local.set $pieces (i32.add (local.get $pieces) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (i32.store (local.get $written) (local.get $all))
    (i32.const 0))

  ;; How long a subscription (48 bytes: userdata 0, tag 8, clock 16, timeout 24, flags 40) has to wait: a file is ready.
  (func $remaining (param $sub i32) (result i64)
    (local $timeout i64) (local $time i64)
    (if (i32.load8_u offset=8 (local.get $sub)) (then (return (i64.const 0))))
    (local.set $timeout (i64.load offset=24 (local.get $sub)))
    (if (i32.eqz (i32.and (i32.load16_u offset=40 (local.get $sub)) (i32.const 1)))
      (then (return (local.get $timeout))))
    (local.set $time (call $time (i32.load offset=16 (local.get $sub))))
    (select (i64.const 0) (i64.sub (local.get $timeout) (local.get $time))
      (i64.le_u (local.get $timeout) (local.get $time))))

  ;; Sleeps until the first is ready, and gives it; of several that are ready only one, the others when they are asked for again.
  ;; An event has 32 bytes: userdata 0, errno 8, type 10, bytes 16, flags 24.
  (func (export "poll_oneoff") (param $subs i32) (param $events i32) (param $count i32) (param $ready i32) (result i32)
    (local $first i32) (local $least i64) (local $wait i64)
    (if (i32.eqz (local.get $count)) (then (return (i32.const 28))))
    (local.set $least (i64.const -1))
    (loop $next
      (local.set $wait (call $remaining (local.get $subs)))
      (if (i32.or (i64.lt_u (local.get $wait) (local.get $least)) (i32.eqz (local.get $first)))
        (then
          (local.set $least (local.get $wait))
          (local.set $first (local.get $subs))))
      (local.set $subs (i32.add (local.get $subs) (i32.const 48)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count)))
    (if (i64.ne (local.get $least) (i64.const 0)) (then (call $sleep (local.get $least))))
    (i64.store (local.get $events) (i64.load (local.get $first)))
    (i64.store offset=8 (local.get $events) (i64.const 0))
    (i32.store8 offset=10 (local.get $events) (i32.load8_u offset=8 (local.get $first)))
    (i64.store offset=16 (local.get $events) (i64.const 0))
    (i64.store offset=24 (local.get $events) (i64.const 0))
    (i32.store (local.get $ready) (i32.const 1))
    (i32.const 0)))
