// The contract with hydrant, wit/hydrant.wit, around the two functions of transform.js. Nothing here is to be changed.
//
// event:  { data: Uint8Array, text(): string, arrivalMs: number, key?: Uint8Array, origin?: { topic, partition, offset, headers } }
// output: a string, a Uint8Array, or { data: string | Uint8Array, partitionKeys: { name: "value" } }
// For a line in the pipeline's log: import host from "hydrant:transform/host@0.1.0", then host.log("info", "text").

import { init, transform } from "./transform.js";

class Event {
  constructor({ data, arrivalMs, key, origin }) {
    this.data = data;
    this.arrivalMs = Number(arrivalMs);
    this.key = key ?? undefined;
    this.origin = origin ?? undefined;
  }

  /** The payload as text. Throws if it is not UTF-8. */
  text() {
    return decoded(this.data);
  }
}

export const transformer = {
  init(config) {
    try {
      init?.(config);
    } catch (error) {
      throw reason(error);
    }
  },

  process(events) {
    return events.map((event) => {
      try {
        const became = transform(new Event(event)) ?? [];
        return { tag: "ok", val: Array.isArray(became) ? became.map(output) : [output(became)] };
      } catch (error) {
        return { tag: "err", val: reason(error) };
      }
    });
  },
};

function output(became) {
  if (typeof became === "string") return { data: encoded(became), partitionKeys: [] };
  if (became instanceof Uint8Array) return { data: became, partitionKeys: [] };
  const { data, partitionKeys } = became;
  const keys = Object.entries(partitionKeys ?? {}).map(([name, value]) => [name, String(value)]);
  return { data: typeof data === "string" ? encoded(data) : data, partitionKeys: keys };
}

function reason(error) {
  return error instanceof Error ? error.message || error.name : String(error);
}

// QuickJS has no TextDecoder and TextEncoder. Its built-in functions are fast, its loops are not.
const BYTES_AT_ONCE = 8192;

function decoded(bytes) {
  if (globalThis.TextDecoder) return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  let text = "";
  for (let at = 0; at < bytes.length; at += BYTES_AT_ONCE) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + BYTES_AT_ONCE));
  }
  if (!/[^\x00-\x7f]/.test(text)) return text;
  try {
    return decodeURIComponent(escape(text));
  } catch {
    throw new Error("not UTF-8");
  }
}

function encoded(text) {
  if (globalThis.TextEncoder) return new TextEncoder().encode(text);
  const latin = /[^\x00-\x7f]/.test(text) ? unescape(encodeURIComponent(text)) : text;
  const bytes = new Uint8Array(latin.length);
  for (let at = 0; at < latin.length; at++) bytes[at] = latin.charCodeAt(at);
  return bytes;
}
