;; A transform that does what its records say, good or bad. A record that begins with `!` names an act; any other goes on as
;; it is, with the config behind it. A bare core module: `init`, `process` and `cabi_realloc`, by the canonical ABI.
;;
;; event    data ptr 0, len 4 | arrival 8 | key: is 16, ptr 20, len 24 | origin: is 32, topic 40, 44, partition 48,
;;          offset 56, headers 64, 68                                                              72 bytes
;; header   name 0, 4 | value 8, 12                                                                16 bytes
;; output   data ptr 0, len 4 | partition keys ptr 8, len 12                                       16 bytes
;; outcome  failed 0 | outputs or reason: ptr 4, len 8                                             12 bytes
(module
  (memory (export "memory") 1)
  (data (i32.const 64) "country")
  (data (i32.const 80) "1")
  ;; The next free byte, where it was after init, the config, records seen, whether it is broken for good.
  (global $free (mut i32) (i32.const 1024))
  (global $base (mut i32) (i32.const 1024))
  (global $config (mut i32) (i32.const 0))
  (global $config_len (mut i32) (i32.const 0))
  (global $seen (mut i32) (i32.const 0))
  (global $broken (mut i32) (i32.const 0))
  (global $missing (mut i32) (i32.const 0))

  (func $alloc (param $len i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (if (i32.gt_u (local.get $end) (i32.shl (memory.size) (i32.const 16)))
      (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
              (i32.shr_u (i32.sub (local.get $end) (i32.shl (memory.size) (i32.const 16))) (i32.const 16)))))
          (then (unreachable)))))
    (global.set $free (local.get $end))
    (local.get $at))

  (func (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32)
    (call $alloc (local.get $len)))

  (func (export "cabi_post_process") (param i32)
    (global.set $free (global.get $base)))

  (func $recurse (param i32) (result i32)
    (i32.add (i32.const 1) (call $recurse (i32.add (local.get 0) (call $recurse (local.get 0))))))

  (func $loop_for_ever (loop (br 0)))

  (func $grow_for_ever (loop (br_if 0 (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) (unreachable))

  (func (export "init") (param $config i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 32) (i32.const 0))
    (if (i32.and (i32.gt_u (local.get $len) (i32.const 1)) (i32.eq (i32.load8_u (local.get $config)) (i32.const 0x21)))
      (then
        (if (i32.eq (i32.load8_u offset=1 (local.get $config)) (i32.const 0x74)) (then (unreachable)))          ;; !t
        (if (i32.eq (i32.load8_u offset=1 (local.get $config)) (i32.const 0x6c)) (then (call $loop_for_ever)))  ;; !l
        (if (i32.eq (i32.load8_u offset=1 (local.get $config)) (i32.const 0x67)) (then (call $grow_for_ever)))  ;; !g
        (i32.store8 (i32.const 32) (i32.const 1))                                                               ;; !e
        (i32.store (i32.const 36) (i32.add (local.get $config) (i32.const 2)))
        (i32.store (i32.const 40) (i32.sub (local.get $len) (i32.const 2)))))
    (global.set $config (local.get $config))
    (global.set $config_len (local.get $len))
    (global.set $base (global.get $free))
    (i32.const 32))

  ;; Makes `n` outputs that all have these bytes the answer at `outcome`; gives the first.
  (func $answer (param $outcome i32) (param $n i32) (param $data i32) (param $len i32) (result i32)
    (local $outputs i32) (local $at i32)
    (local.set $outputs (call $alloc (i32.mul (local.get $n) (i32.const 16))))
    (local.set $at (local.get $outputs))
    (i32.store8 (local.get $outcome) (i32.const 0))
    (i32.store offset=4 (local.get $outcome) (local.get $outputs))
    (i32.store offset=8 (local.get $outcome) (local.get $n))
    (if (local.get $n)
      (then
        (loop $next
          (i32.store (local.get $at) (local.get $data))
          (i32.store offset=4 (local.get $at) (local.get $len))
          (i32.store offset=8 (local.get $at) (i32.const 0))
          (i32.store offset=12 (local.get $at) (i32.const 0))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
    (local.get $outputs))

  (func $fail (param $outcome i32) (param $why i32) (param $len i32)
    (i32.store8 (local.get $outcome) (i32.const 1))
    (i32.store offset=4 (local.get $outcome) (local.get $why))
    (i32.store offset=8 (local.get $outcome) (local.get $len)))

  (func $plain (param $outcome i32) (param $data i32) (param $len i32)
    (local $copy i32)
    (if (global.get $config_len)
      (then
        (local.set $copy (call $alloc (i32.add (local.get $len) (global.get $config_len))))
        (memory.copy (local.get $copy) (local.get $data) (local.get $len))
        (memory.copy (i32.add (local.get $copy) (local.get $len)) (global.get $config) (global.get $config_len))
        (local.set $data (local.get $copy))
        (local.set $len (i32.add (local.get $len) (global.get $config_len)))))
    (drop (call $answer (local.get $outcome) (i32.const 1) (local.get $data) (local.get $len))))

  (func $act (param $event i32) (param $outcome i32)
    (local $data i32) (local $len i32) (local $act i32) (local $rest i32) (local $rest_len i32) (local $output i32)
    (local.set $data (i32.load (local.get $event)))
    (local.set $len (i32.load offset=4 (local.get $event)))
    (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
    (if (i32.or (i32.lt_u (local.get $len) (i32.const 2)) (i32.ne (i32.load8_u (local.get $data)) (i32.const 0x21)))
      (then (call $plain (local.get $outcome) (local.get $data) (local.get $len)) (return)))
    (local.set $act (i32.load8_u offset=1 (local.get $data)))
    (local.set $rest (i32.add (local.get $data) (i32.const 2)))
    (local.set $rest_len (i32.sub (local.get $len) (i32.const 2)))
    ;; !t trap, !l loop, !g grow, !r recurse
    (if (i32.eq (local.get $act) (i32.const 0x74)) (then (unreachable)))
    (if (i32.eq (local.get $act) (i32.const 0x6c)) (then (call $loop_for_ever)))
    (if (i32.eq (local.get $act) (i32.const 0x67)) (then (call $grow_for_ever)))
    (if (i32.eq (local.get $act) (i32.const 0x72)) (then (drop (call $recurse (i32.const 1)))))
    ;; !d drop, !m many: the rest, twice
    (if (i32.eq (local.get $act) (i32.const 0x64))
      (then (drop (call $answer (local.get $outcome) (i32.const 0) (i32.const 0) (i32.const 0))) (return)))
    (if (i32.eq (local.get $act) (i32.const 0x6d))
      (then (drop (call $answer (local.get $outcome) (i32.const 2) (local.get $rest) (local.get $rest_len))) (return)))
    ;; !k as it is, with the partition key country=rest
    (if (i32.eq (local.get $act) (i32.const 0x6b))
      (then
        (local.set $output (call $answer (local.get $outcome) (i32.const 1) (local.get $data) (local.get $len)))
        (i32.store offset=8 (local.get $output) (call $alloc (i32.const 16)))
        (i32.store offset=12 (local.get $output) (i32.const 1))
        (local.set $output (i32.load offset=8 (local.get $output)))
        (i32.store (local.get $output) (i32.const 64))
        (i32.store offset=4 (local.get $output) (i32.const 7))
        (i32.store offset=8 (local.get $output) (local.get $rest))
        (i32.store offset=12 (local.get $output) (local.get $rest_len))
        (return)))
    ;; !e an error with the rest as its reason
    (if (i32.eq (local.get $act) (i32.const 0x65))
      (then (call $fail (local.get $outcome) (local.get $rest) (local.get $rest_len)) (return)))
    ;; !n an answer too few; this one as it is
    (if (i32.eq (local.get $act) (i32.const 0x6e)) (then (global.set $missing (i32.const 1))))
    ;; !b much output: 100 000 times all of the first page; !B many outputs
    (if (i32.eq (local.get $act) (i32.const 0x62))
      (then
        (drop (call $answer (local.get $outcome) (i32.const 100000) (i32.const 0) (i32.const 65536))) (return)))
    (if (i32.eq (local.get $act) (i32.const 0x42))
      (then
        (drop (call $answer (local.get $outcome) (i32.const 131073) (i32.const 0) (i32.const 0))) (return)))
    ;; !h 12 times all of the first page
    (if (i32.eq (local.get $act) (i32.const 0x68))
      (then (drop (call $answer (local.get $outcome) (i32.const 12) (i32.const 0) (i32.const 65536))) (return)))
    ;; !p bytes that lie outside of its memory
    (if (i32.eq (local.get $act) (i32.const 0x70))
      (then (drop (call $answer (local.get $outcome) (i32.const 1) (i32.const -16) (i32.const 32))) (return)))
    ;; !x breaks the instance for good; this one goes on
    (if (i32.eq (local.get $act) (i32.const 0x78)) (then (global.set $broken (i32.const 1))))
    ;; !c how many records this instance has seen, as a digit
    (if (i32.eq (local.get $act) (i32.const 0x63))
      (then
        (local.set $output (call $alloc (i32.const 1)))
        (i32.store8 (local.get $output) (i32.add (i32.const 0x30) (i32.rem_u (global.get $seen) (i32.const 10))))
        (drop (call $answer (local.get $outcome) (i32.const 1) (local.get $output) (i32.const 1)))
        (return)))
    ;; !y its key; an error if it has none
    (if (i32.eq (local.get $act) (i32.const 0x79))
      (then
        (if (i32.load8_u offset=16 (local.get $event))
          (then
            (drop (call $answer (local.get $outcome) (i32.const 1)
              (i32.load offset=20 (local.get $event)) (i32.load offset=24 (local.get $event)))))
          (else (call $fail (local.get $outcome) (local.get $data) (local.get $len))))
        (return)))
    ;; !o its topic, and name and value of its first header; an error if it has none, a trap for partition 7 and offset 42
    (if (i32.eq (local.get $act) (i32.const 0x6f))
      (then
        (if (i32.load8_u offset=32 (local.get $event))
          (then
            (if (i32.ne (i32.load offset=48 (local.get $event)) (i32.const 7)) (then (unreachable)))
            (if (i64.ne (i64.load offset=56 (local.get $event)) (i64.const 42)) (then (unreachable)))
            (local.set $output (call $answer (local.get $outcome) (i32.const 3)
              (i32.load offset=40 (local.get $event)) (i32.load offset=44 (local.get $event))))
            (memory.copy (i32.add (local.get $output) (i32.const 16)) (i32.load offset=64 (local.get $event)) (i32.const 8))
            (memory.copy (i32.add (local.get $output) (i32.const 32))
              (i32.add (i32.const 8) (i32.load offset=64 (local.get $event))) (i32.const 8)))
          (else (call $fail (local.get $outcome) (local.get $data) (local.get $len))))
        (return)))
    ;; !v the version of this module
    (if (i32.eq (local.get $act) (i32.const 0x76))
      (then (drop (call $answer (local.get $outcome) (i32.const 1) (i32.const 80) (i32.const 1))) (return)))
    ;; !a when it arrived, as 8 bytes
    (if (i32.eq (local.get $act) (i32.const 0x61))
      (then
        (drop (call $answer (local.get $outcome) (i32.const 1)
          (i32.add (local.get $event) (i32.const 8)) (i32.const 8)))
        (return)))
    (call $plain (local.get $outcome) (local.get $data) (local.get $len)))

  (func (export "process") (param $events i32) (param $n i32) (result i32)
    (local $outcome i32) (local $left i32)
    (if (global.get $broken) (then (unreachable)))
    (local.set $outcome (call $alloc (i32.mul (local.get $n) (i32.const 12))))
    (i32.store (i32.const 16) (local.get $outcome))
    (local.set $left (local.get $n))
    (if (local.get $n)
      (then
        (loop $next
          (call $act (local.get $events) (local.get $outcome))
          (local.set $events (i32.add (local.get $events) (i32.const 72)))
          (local.set $outcome (i32.add (local.get $outcome) (i32.const 12)))
          (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
    (i32.store (i32.const 20) (i32.sub (local.get $n) (global.get $missing)))
    (global.set $missing (i32.const 0))
    (i32.const 16)))
