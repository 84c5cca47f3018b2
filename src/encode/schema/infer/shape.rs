//! What was seen of the values at one place of many records, and the type that takes all of them.
//!
//! | seen | type |
//! |---|---|
//! | `true`, `false` | `bool` |
//! | whole numbers without point or exponent, within 64 bits | `int64` |
//! | other numbers, also among whole ones up to 2^53 | `float64` |
//! | texts, all of them RFC 3339 with an offset and at most microseconds | `timestamp(us)` |
//! | texts | `string` |
//! | arrays, objects | `list`, `struct`; an object with more than [`KEYS_MAX`] keys is a `map` if its values are of one type |
//! | nothing but `null`, `[]`, `{}` | none yet |
//! | anything else: kinds that differ, numbers too large to be exact, what nests too deep | `json` |
//!
//! A value that comes later is read as its column's type reads it. A whole number that a `float64` would round is refused
//! ([`Schema::exact`](crate::encode::schema::Schema::exact)); a time finer than microseconds is cut to them, as it is for a
//! column that is declared.

use std::collections::HashMap;

use crate::encode::schema::{Column, Data, Type, Unit};

/// The most keys of one nested object that are taken for fields; beyond, they are data themselves, such as ids.
pub const KEYS_MAX: usize = 256;

/// Kinds of values, as bits.
pub mod kind {
    pub const BOOL: u16 = 1;
    pub const INT: u16 = 1 << 1;
    /// A whole number that a float64 may not hold.
    pub const BIG: u16 = 1 << 2;
    pub const FLOAT: u16 = 1 << 3;
    pub const TIME: u16 = 1 << 4;
    pub const TEXT: u16 = 1 << 5;
    pub const LIST: u16 = 1 << 6;
    pub const OBJECT: u16 = 1 << 7;
    /// What only JSON text can hold.
    pub const ODD: u16 = 1 << 8;
}

/// What was seen at one place.
#[derive(Debug, Default)]
pub struct Shape {
    kinds: u16,
    /// How often a value was there that was not null.
    pub sightings: u32,
    /// Of objects.
    pub fields: Fields,
    /// Of arrays, or of objects whose keys are data.
    pub inner: Option<Box<Shape>>,
    keys_are_data: bool,
}

/// The fields of an object, in the order in which they were first seen.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<(Box<str>, Shape)>,
    places: HashMap<Box<str>, usize>,
}

/// How objects are looked at, and what may still be remembered.
#[derive(Debug)]
pub struct Limits {
    pub case_insensitive: bool,
    /// Fields that may still be added anywhere.
    pub room: usize,
    /// Whether something was seen for the first time.
    pub news: bool,
}

impl Shape {
    /// Notes a value of this kind.
    pub fn note(&mut self, kind: u16, limits: &mut Limits) {
        limits.news |= self.kinds & kind != kind;
        self.kinds |= kind;
        self.sightings = self.sightings.saturating_add(1);
        limits.news |= self.sightings == super::NEW_FIELD_SIGHTINGS;
    }

    /// Whether values of one of these kinds were seen.
    pub fn has(&self, kinds: u16) -> bool {
        self.kinds & kinds != 0
    }

    /// The fields, if its objects are structs.
    pub fn structure(&self) -> Option<&Fields> {
        (self.has(kind::OBJECT) && !self.keys_are_data).then_some(&self.fields)
    }

    /// The elements, if there were arrays.
    pub fn elements(&self) -> Option<&Shape> {
        self.inner.as_deref().filter(|_| self.has(kind::LIST) && !self.keys_are_data)
    }

    /// The shape of an element of an array.
    pub fn element(&mut self) -> &mut Shape {
        self.inner.get_or_insert_default()
    }

    /// The shape of a field of a nested object; `None` if it cannot be remembered, and the object is JSON.
    pub fn field(&mut self, key: &str, limits: &mut Limits) -> Option<&mut Shape> {
        if !self.keys_are_data && self.fields.place(key, limits).is_none() && self.fields.list.len() >= KEYS_MAX {
            self.keys_are_data = true;
            let mut all = Shape::default();
            for (_, field) in std::mem::take(&mut self.fields).list {
                all.merge(field, limits);
            }
            match self.inner.take() {
                // Both arrays and objects: JSON already.
                Some(_) => self.kinds |= kind::ODD,
                None => self.inner = Some(Box::new(all)),
            }
        }
        if self.keys_are_data {
            return Some(self.element());
        }
        if super::super::check_name(key).is_err() {
            self.kinds |= kind::ODD;
            return None;
        }
        let found = self.fields.find_or_add(key, usize::MAX, limits);
        if found.is_none() {
            self.kinds |= kind::ODD;
        }
        found
    }

    /// Takes over what another place has seen.
    fn merge(&mut self, other: Shape, limits: &mut Limits) {
        self.kinds |= other.kinds;
        self.sightings = self.sightings.saturating_add(other.sightings);
        if let Some(inner) = other.inner {
            self.element().merge(*inner, limits);
        }
        self.keys_are_data |= other.keys_are_data;
        for (key, shape) in other.fields.list {
            match self.field(&key, limits) {
                Some(field) => field.merge(shape, limits),
                None => self.kinds |= kind::ODD,
            }
        }
    }

    /// The type that takes all values seen; `None`: nothing was seen that tells one. With `settle` there is always one.
    pub fn data(&self, settle: bool) -> Option<Data> {
        use kind::*;
        const WHOLE: u16 = INT | BIG;
        const TEXTS: u16 = TIME | TEXT;
        let exact = self.kinds & BIG == 0;
        let kind = match self.kinds {
            0 => None,
            BOOL => Some(Type::Bool),
            kinds if kinds & !WHOLE == 0 => Some(Type::Int { signed: true, bits: 64 }),
            kinds if kinds & !(INT | FLOAT) == 0 && exact => Some(Type::Float64),
            TIME => Some(Type::Timestamp(Unit::Micro, Some("UTC".into()))),
            kinds if kinds & !TEXTS == 0 => Some(Type::String),
            LIST => self.inner.as_ref().and_then(|inner| inner.data(settle)).map(|data| Type::List(Box::new(data))),
            OBJECT if self.keys_are_data => match self.inner.as_ref().and_then(|inner| inner.data(settle)) {
                Some(data) if data.kind != Type::Json => Some(Type::Map(Box::new(data))),
                _ => Some(Type::Json),
            },
            OBJECT => Some(self.fields.columns(settle)).filter(|columns| !columns.is_empty()).map(Type::Struct),
            _ => Some(Type::Json),
        };
        let kind = kind.or(settle.then_some(Type::Json))?;
        Some(Data { kind, nullable: true })
    }
}

impl Fields {
    fn place(&self, key: &str, limits: &Limits) -> Option<usize> {
        let place = match limits.case_insensitive && key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.places.get(key.to_ascii_lowercase().as_str()),
            false => self.places.get(key),
        };
        place.copied()
    }

    /// The field of a key; a new one if there are fewer than `most`, and room. `None` if there is none.
    pub fn find_or_add(&mut self, key: &str, most: usize, limits: &mut Limits) -> Option<&mut Shape> {
        let place = match self.place(key, limits) {
            Some(place) => place,
            None if self.list.len() < most && limits.room > 0 => {
                limits.room -= 1;
                limits.news = true;
                let folded = if limits.case_insensitive { key.to_ascii_lowercase() } else { key.to_owned() };
                self.places.insert(folded.into(), self.list.len());
                self.list.push((key.into(), Shape::default()));
                self.list.len() - 1
            }
            None => return None,
        };
        self.list.get_mut(place).map(|(_, shape)| shape)
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Shape)> {
        self.list.iter().map(|(key, shape)| (&**key, shape))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The columns that these fields are, without those that have no type yet, unless all are to `settle`.
    pub fn columns(&self, settle: bool) -> Vec<Column> {
        let column = |(name, shape): (&str, &Shape)| Column::of(name, shape.data(settle)?).ok();
        self.iter().filter_map(column).collect()
    }
}
