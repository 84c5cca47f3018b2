//! Answers of a guest, lifted out of its memory into one buffer.
//!
//! ```text
//! answer       | failed u8 .. | outputs, or the reason: ptr, len |        12 bytes, one for each record
//! output       | data: ptr, len | partition keys: ptr, len |              16 bytes
//! key          | name: ptr, len | value: ptr, len |                       16 bytes
//! ```
//! wasmtime's own types for lists would do, with two allocations for each record; measured, that is a third of a call that
//! changes nothing. Every pointer of the guest is checked against its memory, and every byte against the store's fuel for
//! host calls, before it is copied: what many outputs have in common is counted for each of them.

use std::ops::Range;

use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentType, Lift};
use wasmtime::{Result, ValRaw, bail, format_err};

use super::guest::shortened;

/// Outputs of one call, at most.
pub const OUTPUTS_MAX: usize = 1 << 17;

const ANSWER_BYTES: usize = 12;
const OUTPUT_BYTES: usize = 16;
const KEY_BYTES: usize = 16;

/// Bytes that an output takes in our lists beside what it says.
const OUTPUT_TAKES_BYTES: usize = 40;

/// What became of the records of a call, in order.
#[derive(Debug, Default)]
pub struct Lifted {
    records: Vec<Became>,
    outputs: Vec<Ends>,
    data: Vec<u8>,
    keys: Vec<(String, String)>,
}

#[derive(Debug)]
enum Became {
    /// The outputs before this one, from those of the record before.
    Outputs(usize),
    Failed(String),
}

/// Where an output ends in the data and the keys; it begins where the one before ends.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    data: usize,
    keys: usize,
}

impl Lifted {
    /// Number of answers.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of all outputs and their keys.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.keys.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Bytes of memory that it takes beside [`bytes`](Self::bytes): reasons, and what each output and key takes here and
    /// in a batch.
    pub fn other_bytes(&self) -> usize {
        let reasons = self.records.iter().map(|record| match record {
            Became::Outputs(_) => 0,
            Became::Failed(why) => why.len(),
        });
        let lists = self.outputs.len() * OUTPUT_TAKES_BYTES + self.keys.len() * size_of::<(String, String)>();
        self.records.len() * size_of::<Became>() + lists + reasons.sum::<usize>()
    }

    /// Of each record which outputs it became, or why none.
    pub fn iter(&self) -> impl Iterator<Item = std::result::Result<Range<usize>, &str>> {
        let mut from = 0;
        self.records.iter().map(move |record| match record {
            Became::Outputs(until) => Ok(std::mem::replace(&mut from, *until)..*until),
            Became::Failed(why) => Err(why.as_str()),
        })
    }

    /// An output: its data and its partition keys.
    pub fn output(&self, index: usize) -> (&[u8], &[(String, String)]) {
        let from = index.checked_sub(1).map(|before| self.outputs[before]).unwrap_or_default();
        let until = self.outputs[index];
        (&self.data[from.data..until.data], &self.keys[from.keys..until.keys])
    }

    fn lift(cx: &mut LiftContext<'_>, pointer: usize, len: usize) -> Result<Lifted> {
        if len > OUTPUTS_MAX {
            bail!("it has {len} answers");
        }
        let records = list(cx.memory(), (pointer, len), ANSWER_BYTES, 4)?;
        let mut answers = Lifted::with_room_for(cx, records)?;
        for record in records.chunks_exact(ANSWER_BYTES) {
            let became = match record[0] {
                0 => {
                    for output in list(cx.memory(), pair(&record[4..]), OUTPUT_BYTES, 4)?.chunks_exact(OUTPUT_BYTES) {
                        answers.push(cx, output)?;
                    }
                    Became::Outputs(answers.outputs.len())
                }
                1 => Became::Failed(shortened(&string(cx, &record[4..])?)),
                other => bail!("{other} is neither ok nor err"),
            };
            answers.records.push(became);
        }
        Ok(answers)
    }

    /// Room for what these records became, if it is not too much.
    fn with_room_for(cx: &mut LiftContext<'_>, records: &[u8]) -> Result<Lifted> {
        let (mut outputs, mut bytes) = (0, 0);
        for record in records.chunks_exact(ANSWER_BYTES).filter(|record| record[0] == 0) {
            let of_record = list(cx.memory(), pair(&record[4..]), OUTPUT_BYTES, 4)?;
            outputs += of_record.len() / OUTPUT_BYTES;
            if outputs > OUTPUTS_MAX {
                return Err(TooManyOutputs.into());
            }
            bytes += of_record.chunks_exact(OUTPUT_BYTES).map(|output| pair(output).1).sum::<usize>();
        }
        cx.consume_fuel(bytes)?;
        Ok(Lifted {
            records: Vec::with_capacity(records.len() / ANSWER_BYTES),
            outputs: Vec::with_capacity(outputs),
            data: Vec::with_capacity(bytes),
            keys: Vec::new(),
        })
    }

    fn push(&mut self, cx: &mut LiftContext<'_>, output: &[u8]) -> Result<()> {
        self.data.extend_from_slice(list(cx.memory(), pair(output), 1, 1)?);
        let keys = list(cx.memory(), pair(&output[8..]), KEY_BYTES, 4)?;
        cx.consume_fuel_array(keys.len() / KEY_BYTES, size_of::<(String, String)>())?;
        for key in keys.chunks_exact(KEY_BYTES) {
            self.keys.push((string(cx, key)?, string(cx, &key[8..])?));
        }
        self.outputs.push(Ends { data: self.data.len(), keys: self.keys.len() });
        Ok(())
    }

    /// As many answers, all of which drop their record.
    #[cfg(test)]
    pub fn that_drop(records: usize) -> Lifted {
        Lifted { records: (0..records).map(|_| Became::Outputs(0)).collect(), ..Lifted::default() }
    }
}

/// A guest answered with more than [`OUTPUTS_MAX`] outputs.
#[derive(Debug)]
pub struct TooManyOutputs;

impl std::error::Error for TooManyOutputs {}

impl std::fmt::Display for TooManyOutputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "output limit of {OUTPUTS_MAX} records for a part of a batch exceeded")
    }
}

/// Pointer and length, as they lie in memory.
fn pair(bytes: &[u8]) -> (usize, usize) {
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    (number(0), number(4))
}

/// The bytes of a list whose items have this size and alignment.
fn list(memory: &[u8], (pointer, len): (usize, usize), size: usize, align: usize) -> Result<&[u8]> {
    if !pointer.is_multiple_of(align) {
        bail!("list pointer is not aligned");
    }
    let end = len.checked_mul(size).and_then(|bytes| pointer.checked_add(bytes));
    let bytes = end.and_then(|end| memory.get(pointer..end));
    bytes.ok_or_else(|| format_err!("list pointer/length out of bounds of memory"))
}

fn string(cx: &mut LiftContext<'_>, bytes: &[u8]) -> Result<String> {
    String::linear_lift_from_memory(cx, InterfaceType::String, &bytes[..8])
}

/// The shape that the answers have, for wasmtime to check against the component's.
type Shape = Vec<std::result::Result<Vec<Output>, String>>;

#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "only its shape is used")]
struct Output {
    data: Vec<u8>,
    #[component(name = "partition-keys")]
    partition_keys: Vec<(String, String)>,
}

const _: () = {
    assert!(<std::result::Result<Vec<Output>, String> as ComponentType>::SIZE32 == ANSWER_BYTES);
    assert!(<Output as ComponentType>::SIZE32 == OUTPUT_BYTES);
    assert!(<(String, String) as ComponentType>::SIZE32 == KEY_BYTES);
};

// SAFETY: as wasmtime's own `WasmList`: a list is two core values, pointer and length, both flat and in memory, and the
// type is checked as that of the list it is.
unsafe impl ComponentType for Lifted {
    type Lower = [ValRaw; 2];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::POINTER_PAIR;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        Shape::typecheck(ty, types)
    }
}

// SAFETY: nothing but safe code reads the guest's memory, and checks each pointer.
unsafe impl Lift for Lifted {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, _: InterfaceType, flat: &[ValRaw; 2]) -> Result<Lifted> {
        Lifted::lift(cx, flat[0].get_u32() as usize, flat[1].get_u32() as usize)
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, _: InterfaceType, bytes: &[u8]) -> Result<Lifted> {
        let (pointer, len) = pair(bytes);
        Lifted::lift(cx, pointer, len)
    }
}
