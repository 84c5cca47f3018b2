//! jq, for the transforms that need no code: compiled once, run over records within limits, with errors that have a place.
//!
//! The promise: whatever the program is, and whatever the record, a record that is too much is set aside, and the process
//! and the other records go on. Time, memory, recursion and nesting are counted while a program runs ([`meter`]); it sees
//! one record, no files, no environment, and not the machine's time zone.
//!
//! Numbers that a program does not touch keep their text (`1.10`, `12345678901234567890`). Whole numbers are exact at any
//! size; all others are calculated with as 64-bit floats. Objects keep the order of their keys.

mod arithmetic;
mod compile;
mod json;
mod meter;
mod natives;
mod over;
mod run;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::units::Interval;

pub use compile::Program;
pub use json::{Unwritten, write};
pub use meter::Limits;
pub use over::{BATCH_BYTES_MAX, inherited_bytes, over};
pub use run::Failure;
pub use value::Value;

/// How long a program may take for one record.
pub const TIME_MAX: Interval = Interval::from_secs(1);

/// The schema of options that are the text of a program alone, or a map of these.
pub fn text_or_map_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let map = generator.subschema_for::<T>();
    json_schema!({ "anyOf": [{ "type": "string" }, map] })
}

/// Reads options that are the text of a program alone, or a map.
pub fn text_or_map<'de, D: Deserializer<'de>, T: Deserialize<'de> + From<String>>(
    deserializer: D,
    expected: &'static str,
) -> Result<T, D::Error> {
    struct TextOrMap<T>(&'static str, PhantomData<T>);
    impl<'de, T: Deserialize<'de> + From<String>> Visitor<'de> for TextOrMap<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E>(self, text: &str) -> Result<T, E> {
            Ok(T::from(text.to_owned()))
        }

        fn visit_bool<E>(self, truth: bool) -> Result<T, E> {
            Ok(T::from(truth.to_string()))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(TextOrMap(expected, PhantomData))
}
