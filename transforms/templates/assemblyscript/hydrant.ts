// What transform.ts works with: records, what becomes of them, and the log. Nothing here is to be changed.

/** Levels of lines in the pipeline's log. */
export const enum Level {
  Debug,
  Info,
  Warn,
  Error,
}

// @ts-ignore: decorator
@external("hydrant:transform/host@0.1.0", "log")
declare function hostLog(level: u32, message: usize, len: usize): void;

/** Writes a line to the pipeline's log. */
export function log(level: Level, message: string): void {
  const bytes = String.UTF8.encode(message);
  hostLog(level, changetype<usize>(bytes), bytes.byteLength);
}

/** A record on its way. It is read from hydrant's memory when asked, and only while it is being transformed. */
export class Event {
  constructor(private at: usize) {}

  /** The payload as text. */
  text(): string {
    return String.UTF8.decodeUnsafe(load<u32>(this.at), load<u32>(this.at, 4));
  }

  /** The payload as bytes. */
  bytes(): Uint8Array {
    return copied(this.at);
  }

  /** When hydrant received it, in milliseconds since the Unix epoch. */
  get arrivalMs(): u64 {
    return load<u64>(this.at, 8);
  }

  /** Its key, where the source has keys. */
  key(): Uint8Array | null {
    return load<u8>(this.at, 16) ? copied(this.at + 20) : null;
  }

  /** Its topic, where the source knows topics. */
  topic(): string | null {
    if (!load<u8>(this.at, 32)) return null;
    return String.UTF8.decodeUnsafe(load<u32>(this.at, 40), load<u32>(this.at, 44));
  }

  /** Its partition, where there is a topic. */
  get partition(): u32 {
    return load<u8>(this.at, 32) ? load<u32>(this.at, 48) : 0;
  }

  /** Its offset, where there is a topic. */
  get offset(): u64 {
    return load<u8>(this.at, 32) ? load<u64>(this.at, 56) : 0;
  }

  /** The last header of this name, where there is one. */
  header(name: string): Uint8Array | null {
    if (!load<u8>(this.at, 32)) return null;
    const headers: usize = load<u32>(this.at, 64);
    for (let i: usize = load<u32>(this.at, 68); i > 0; i--) {
      const pair = headers + (i - 1) * 16;
      if (String.UTF8.decodeUnsafe(load<u32>(pair), load<u32>(pair, 4)) == name) return copied(pair + 8);
    }
    return null;
  }
}

function copied(list: usize): Uint8Array {
  const len = load<u32>(list, 4);
  const bytes = new Uint8Array(len);
  memory.copy(bytes.dataStart, load<u32>(list), len);
  return bytes;
}

/** One of the records that a record becomes. */
export class Output {
  constructor(
    public data: ArrayBuffer,
    public keys: Map<string, string> | null,
  ) {}
}

/** What becomes of a record. */
export class Outcome {
  reason: string | null = null;
  outputs: Output[] = [];

  /** It is left out. */
  static dropped(): Outcome {
    return new Outcome();
  }

  /** It is set aside with this reason. */
  static failed(reason: string): Outcome {
    const outcome = new Outcome();
    outcome.reason = reason;
    return outcome;
  }

  /** It becomes this; `.and(..)` adds more. */
  static text(text: string, partitionKeys: Map<string, string> | null = null): Outcome {
    return new Outcome().and(text, partitionKeys);
  }

  /** And this. */
  and(text: string, partitionKeys: Map<string, string> | null = null): Outcome {
    this.outputs.push(new Output(String.UTF8.encode(text), partitionKeys));
    return this;
  }

  /** And these bytes. */
  andBytes(bytes: Uint8Array, partitionKeys: Map<string, string> | null = null): Outcome {
    const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    this.outputs.push(new Output(data, partitionKeys));
    return this;
  }
}

