// The contract with hydrant, wit/hydrant.wit: the functions that hydrant calls. Nothing here is to be changed.
//
// Structs of the canonical ABI, little endian (a list or text is its address and its length):
//   event   72 bytes: data 0, arrival-ms 8, key 16 (there) and 20, origin 32 (there) and
//           40 (topic), 48 (partition), 56 (offset), 64 (headers)
//   pair    16 bytes: name 0, value 8         output 16 bytes: data 0, partition-keys 8
//   outcome 12 bytes: failed 0, outputs or reason 4

import { Event, Level, log, Outcome, Output } from "./hydrant";
import { init as userInit, transform } from "./transform";

const EVENT: usize = 72;
const PAIR: usize = 16;
const OUTPUT: usize = 16;
const OUTCOME: usize = 12;

// What hydrant has written and will read: it lives until the answer is copied.
const held: usize[] = [];

function hold(len: usize): usize {
  const block = heap.alloc(len + 8);
  held.push(block);
  return (block + 7) & ~7;
}

function answered(): void {
  for (let i = 0; i < held.length; i++) heap.free(held[i]);
  held.length = 0;
}

export function cabi_realloc(old: usize, oldLen: usize, _align: usize, len: usize): usize {
  const to = hold(len);
  if (oldLen > 0) memory.copy(to, old, oldLen);
  return to;
}

export function init(config: usize, len: usize): usize {
  const wrong = userInit(String.UTF8.decodeUnsafe(config, len));
  const answer = hold(OUTCOME);
  store<u8>(answer, wrong.length > 0 ? 1 : 0);
  putText(answer + 4, wrong);
  return answer;
}

export function process(events: usize, len: usize): usize {
  const outcomes = hold(len * OUTCOME);
  for (let i: usize = 0; i < len; i++) put(outcomes + i * OUTCOME, transform(new Event(events + i * EVENT)));
  const answer = hold(8);
  store<u32>(answer, outcomes);
  store<u32>(answer, len, 4);
  return answer;
}

export function cabi_post_process(_answer: usize): void {
  answered();
}

/** Where AssemblyScript throws: says why in the log, and traps. */
export function trap(message: string | null, _file: string | null, _line: u32, _column: u32): void {
  if (message !== null) log(Level.Error, message);
  unreachable();
}

function put(to: usize, outcome: Outcome): void {
  const reason = outcome.reason;
  store<u8>(to, reason === null ? 0 : 1);
  if (reason !== null) {
    putText(to + 4, reason);
    return;
  }
  const len = <usize>outcome.outputs.length;
  const outputs = hold(len * OUTPUT);
  putList(to + 4, outputs, len);
  for (let i: usize = 0; i < len; i++) putOutput(outputs + i * OUTPUT, outcome.outputs[<i32>i]);
}

function putOutput(to: usize, output: Output): void {
  putBytes(to, output.data);
  const keys = output.keys;
  putList(to + 8, 0, 0);
  if (keys === null) return;
  const names = keys.keys();
  const pairs = hold(<usize>names.length * PAIR);
  putList(to + 8, pairs, names.length);
  for (let i = 0; i < names.length; i++) {
    const pair = pairs + <usize>i * PAIR;
    putText(pair, names[i]);
    putText(pair + 8, keys.get(names[i]));
  }
}

function putText(to: usize, text: string): void {
  putBytes(to, String.UTF8.encode(text));
}

function putBytes(to: usize, bytes: ArrayBuffer): void {
  const copy = hold(bytes.byteLength);
  memory.copy(copy, changetype<usize>(bytes), bytes.byteLength);
  putList(to, copy, bytes.byteLength);
}

function putList(to: usize, at: usize, len: usize): void {
  store<u32>(to, at);
  store<u32>(to, len, 4);
}
