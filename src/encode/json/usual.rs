//! The quick way for values as most are: plain ASCII, short, and right. What it does not take is left to `value.rs`, which
//! takes everything, and says what is wrong.

use super::column::{Node, Values};
use super::number::Short;
use super::scan::{byte_at, plain_text};
use super::value::push_int;
use super::{time, wide};
use crate::encode::schema::Type;

/// Reads the value that begins here, as most do: plain ASCII, short, and right, as the next row of `node`, and says where
/// it ends. `None`: it is another, and nothing is changed, but for bytes behind the last text.
#[inline(always)]
pub fn usual_value(bytes: &[u8], at: usize, node: &mut Node) -> Option<usize> {
    // As people write JSON, there is a blank behind the colon or comma.
    let at = at + usize::from(byte_at(bytes, at) == b' ');
    let byte = byte_at(bytes, at);
    let end = match (&node.data.kind, &mut node.values) {
        (Type::String, Values::Bytes(texts)) if byte == b'"' => texts.push_plain(bytes, at + 1)? + 1,
        (Type::Int { .. }, values) => {
            let number = Short::parse(bytes, at)?;
            push_int(values, number.whole()?).ok()?;
            at + number.len
        }
        (Type::Float64, Values::F64(cells)) => {
            let number = Short::parse(bytes, at)?;
            cells.push(number.f64()?);
            at + number.len
        }
        (Type::Float32, Values::F32(cells)) => {
            let number = Short::parse(bytes, at)?;
            cells.push(number.f32()?);
            at + number.len
        }
        (Type::Timestamp(unit, _), Values::I64(cells)) if byte != b'"' && node.formats.is_empty() => {
            let number = Short::parse(bytes, at)?;
            cells.push(time::usual_timestamp_number(number.whole()?, *unit)?);
            at + number.len
        }
        (Type::Decimal { precision, scale }, Values::I128(cells)) => {
            let number = Short::parse(bytes, at)?;
            cells.push(number.scaled(*precision, *scale)?.into());
            at + number.len
        }
        (Type::Bool, Values::Bool(bits)) => {
            let word = wide::load_word(bytes, at);
            let value = word & 0xffff_ffff == u64::from(u32::from_le_bytes(*b"true"));
            if !value && word & 0xff_ffff_ffff != u64::from_le_bytes(*b"false\0\0\0") {
                return None;
            }
            bits.push(value);
            at + 5 - usize::from(value)
        }
        (Type::Timestamp(unit, _), Values::I64(cells)) if byte == b'"' && node.formats.is_empty() => {
            let text = plain_text(bytes, at)?;
            cells.push(time::usual_timestamp(text, *unit)?);
            at + text.len() + 2
        }
        (Type::Dictionary, Values::Dictionary(dictionary)) if byte == b'"' => dictionary.push_short(bytes, at + 1)? + 1,
        _ => return None,
    };
    node.push_valid();
    Some(end)
}
