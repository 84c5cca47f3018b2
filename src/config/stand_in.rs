//! A value for whatever is asked, to stand in for one that is wrong, so that reading goes on and finds what else is wrong.
//!
//! It never becomes part of a pipeline: where a stand-in was needed there is a problem, and so no pipeline.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Error as _, IntoDeserializer, Visitor};

use super::flaw::Error;

/// Gives some value of the type that is asked for. Types with their own opinion (a size, a name) accept one or another, so
/// there are several attempts.
#[derive(Clone, Copy)]
pub(super) struct StandIn {
    attempt: u8,
    depth: u8,
}

/// A type that refuses all attempts takes what holds it down with it: that is stood in for as a whole.
pub(super) const ATTEMPTS_MAX: u8 = 9;

/// A type may hold itself.
const DEPTH_MAX: u8 = 16;

/// Texts that types with an opinion may like.
const TEXTS: [&str; 6] = ["x", "none", "string", "1 MiB", "1s", "1"];

impl StandIn {
    pub fn new(attempt: u8) -> StandIn {
        StandIn { attempt, depth: 0 }
    }

    fn text(self) -> &'static str {
        TEXTS[usize::from(self.attempt) % TEXTS.len()]
    }

    fn below(self) -> Result<StandIn, Error> {
        match self.depth < DEPTH_MAX {
            true => Ok(StandIn { depth: self.depth + 1, ..self }),
            false => Err(Error::custom("a type holds itself")),
        }
    }
}

macro_rules! ones {
    ($($method:ident $visit:ident $one:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit($one)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for StandIn {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.attempt {
            6 => visitor.visit_u64(1),
            7 => self.deserialize_map(visitor),
            8 => self.deserialize_seq(visitor),
            _ => visitor.visit_borrowed_str(self.text()),
        }
    }

    ones! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i8 1;
        deserialize_i16 visit_i16 1;
        deserialize_i32 visit_i32 1;
        deserialize_i64 visit_i64 1;
        deserialize_u8 visit_u8 1;
        deserialize_u16 visit_u16 1;
        deserialize_u32 visit_u32 1;
        deserialize_u64 visit_u64 1;
        deserialize_f32 visit_f32 1.0;
        deserialize_f64 visit_f64 1.0;
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(de::value::SeqDeserializer::new(std::iter::empty::<()>()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { fields: [].iter(), value: self.below()? })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { fields: fields.iter(), value: self.below()? })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let word = variants.first().copied().unwrap_or_default();
        visitor.visit_enum(Word { word, options: self.below()? })
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Fields {
    fields: std::slice::Iter<'static, &'static str>,
    value: StandIn,
}

impl<'t> de::MapAccess<'t> for Fields {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        let field: StrDeserializer<'_, Error> = (*field).into_deserializer();
        seed.deserialize(field).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.value)
    }
}

struct Word {
    word: &'static str,
    options: StandIn,
}

impl<'t> de::EnumAccess<'t> for Word {
    type Error = Error;
    type Variant = Word;

    fn variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Result<(S::Value, Word), Error> {
        let word: StrDeserializer<'_, Error> = self.word.into_deserializer();
        seed.deserialize(word).map(|variant| (variant, self))
    }
}

impl<'t> de::VariantAccess<'t> for Word {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.options)
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_seq(self.options, visitor)
    }

    fn struct_variant<V: Visitor<'t>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_struct(self.options, "", fields, visitor)
    }
}
