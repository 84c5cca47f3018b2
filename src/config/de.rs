//! Reads options out of a tree, by serde: the type that is asked for decides what a scalar means.
//!
//! Where a text is wanted `123`, `no` and `1.10` are those texts; where a number is wanted a plain `123` is a number. A
//! choice (an enum) is a word, or a map with exactly one key. An error names its node and says what was expected.

use std::cell::RefCell;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::environment::{Environment, is_reference, is_secret_node};
use super::flaw::{Error, What, in_words, listed};
use super::stand_in::StandIn;
use super::tree::{Kind, Name, NodeId, Tree, shown};
use crate::inputs::Reads;
use crate::secret::Secret;

/// What all deserializers of one tree share.
pub(super) struct Context<'t> {
    pub tree: &'t Tree,
    pub environment: &'t Environment,
    /// Files that secrets were read from.
    pub reads: &'t Reads,
    /// Secrets that stand in the file themselves.
    pub literal_secrets: RefCell<Vec<NodeId>>,
}

/// Reads one node.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    context: &'t Context<'t>,
    id: NodeId,
    /// The node is a word of a choice that has options; these are read, and there are none.
    nothing: bool,
}

impl<'t> Node<'t> {
    pub fn root(context: &'t Context<'t>) -> Node<'t> {
        Node { context, id: Tree::ROOT, nothing: false }
    }

    fn kind(&self) -> &'t Kind {
        &self.context.tree.node(self.id).kind
    }

    fn below(&self, id: NodeId) -> Node<'t> {
        Node { context: self.context, id, nothing: false }
    }

    /// A plain scalar that YAML reads as nothing.
    fn is_null(&self) -> bool {
        let null = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
        self.nothing || matches!(self.kind(), Kind::Scalar { text, plain: true } if null(text))
    }

    fn stand_in(&self) -> Option<StandIn> {
        match self.kind() {
            Kind::StandIn { attempt } => Some(StandIn::new(*attempt)),
            _ => None,
        }
    }

    /// The text of a scalar, and whether it is plain.
    fn scalar(&self) -> Option<(&'t str, bool)> {
        match self.kind() {
            Kind::Scalar { text, plain } if !self.nothing && !self.is_null() => Some((text, *plain)),
            _ => None,
        }
    }

    fn wrong_type(&self, expected: impl Into<String>) -> Error {
        Error::new(What::WrongType { expected: expected.into() }).or_at(self.id, false)
    }

    /// Reads this node. A type may have its say after its visitor had it; if what is said may hold what must not be
    /// shown, it stays unsaid.
    fn read<S: DeserializeSeed<'t>>(self, seed: S) -> Result<S::Value, Error> {
        let hidden = self.context.tree.node(self.id).hidden;
        self.here(seed.deserialize(self).map_err(|error| match error {
            Error { at: None, what: What::Custom(_) } if hidden => {
                Error::new(What::WrongType { expected: "another value".into() })
            }
            _ => error,
        }))
    }

    /// Runs `visit`, and names this node in an error that names none.
    fn here<T>(&self, visited: Result<T, Error>) -> Result<T, Error> {
        visited.map_err(|error| error.or_at(self.id, false))
    }

    /// What a type says it expects is asked before it is consumed, as its own words may hold the value, which is not shown.
    fn visit<V: Visitor<'t>>(
        self,
        visitor: V,
        visit: impl FnOnce(V) -> Result<V::Value, Error>,
    ) -> Result<V::Value, Error> {
        if !self.context.tree.node(self.id).hidden {
            return self.here(visit(visitor));
        }
        let expected = in_words(&visitor);
        self.here(visit(visitor).map_err(|error| match error.what {
            What::Custom(_) | What::WrongChoice { .. } => Error { what: What::WrongType { expected }, ..error },
            _ => error,
        }))
    }

    fn visit_number<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let Some((text, _)) = self.scalar().filter(|(_, plain)| *plain) else {
            return Err(self.wrong_type(in_words(&visitor)));
        };
        match Number::parse(text) {
            Some(number) => self.visit(visitor, |visitor| number.visit(visitor)),
            None => Err(self.wrong_type(in_words(&visitor))),
        }
    }

    fn visit_list<V: Visitor<'t>>(self, visitor: V, items: &'t [NodeId]) -> Result<V::Value, Error> {
        let mut access = Items { context: self.context, items: items.iter() };
        self.here(visitor.visit_seq(&mut access))
    }

    fn visit_entries<V: Visitor<'t>>(self, visitor: V, entries: &'t [NodeId]) -> Result<V::Value, Error> {
        let mut access = Entries { context: self.context, entries: entries.iter(), value: None };
        self.here(visitor.visit_map(&mut access))
    }
}

/// A number as YAML 1.2's core schema writes it.
enum Number {
    Natural(u64),
    Negative(i64),
    Float(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Number> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if let Some(hex) = text.strip_prefix("0x") {
            return u64::from_str_radix(hex, 16).ok().map(Number::Natural);
        }
        if let Some(octal) = text.strip_prefix("0o") {
            return u64::from_str_radix(octal, 8).ok().map(Number::Natural);
        }
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            return match text.strip_prefix('-') {
                Some(_) => text.parse().ok().map(Number::Negative),
                None => digits.parse().ok().map(Number::Natural),
            };
        }
        let float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        float.then(|| text.parse().ok().filter(|float: &f64| float.is_finite()).map(Number::Float)).flatten()
    }

    fn visit<'t, V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Number::Natural(number) => visitor.visit_u64(number),
            Number::Negative(number) => visitor.visit_i64(number),
            Number::Float(number) => visitor.visit_f64(number),
        }
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.stand_in() {
                Some(stand_in) => self.here(stand_in.$method(visitor)),
                None => self.visit_number(visitor),
            }
        }
    )*};
}

impl<'t> de::Deserializer<'t> for Node<'t> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(stand_in) = self.stand_in() {
            return self.here(stand_in.deserialize_any(visitor));
        }
        if self.is_null() {
            return self.visit(visitor, |visitor| visitor.visit_unit());
        }
        match self.kind() {
            Kind::Scalar { text, plain: true } => {
                self.visit(visitor, |visitor| match (parse_bool(text), Number::parse(text)) {
                    (Some(value), _) => visitor.visit_bool(value),
                    (None, Some(number)) => number.visit(visitor),
                    (None, None) => visitor.visit_borrowed_str(text),
                })
            }
            Kind::Scalar { text, plain: false } => self.visit(visitor, |visitor| visitor.visit_borrowed_str(text)),
            Kind::List(items) => self.visit_list(visitor, items),
            Kind::Map(entries) => self.visit_entries(visitor, entries),
            Kind::StandIn { attempt } => self.here(StandIn::new(*attempt).deserialize_any(visitor)),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(stand_in) = self.stand_in() {
            return self.here(stand_in.deserialize_bool(visitor));
        }
        match self.scalar().filter(|(_, plain)| *plain).and_then(|(text, _)| parse_bool(text)) {
            Some(value) => self.visit(visitor, |visitor| visitor.visit_bool(value)),
            None => Err(self.wrong_type("`true` or `false`")),
        }
    }

    fn deserialize_str<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(stand_in) = self.stand_in() {
            return self.here(stand_in.deserialize_str(visitor));
        }
        match self.scalar() {
            Some((text, _)) => self.visit(visitor, |visitor| visitor.visit_borrowed_str(text)),
            None => Err(self.wrong_type(in_words(&visitor))),
        }
    }

    fn deserialize_string<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.is_null() || self.stand_in().is_some() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.is_null() || self.stand_in().is_some() {
            true => visitor.visit_unit(),
            false => Err(self.wrong_type("nothing")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name != Secret::NAME || self.stand_in().is_some() {
            return self.here(visitor.visit_newtype_struct(self));
        }
        let Some((text, _)) = self.scalar() else {
            return Err(self.wrong_type(in_words(&visitor)));
        };
        let tree = self.context.tree;
        // What a variable brought in is a value, never a reference.
        let from_outside = tree.node(self.id).hidden && is_reference(text);
        match self.context.environment.dereference(text, self.context.reads).filter(|_| !from_outside) {
            Some(secret) => {
                let secret = secret.map_err(|why| Error::new(What::Custom(why)).or_at(self.id, false))?;
                let secret: StringDeserializer<Error> = secret.into_deserializer();
                self.here(visitor.visit_newtype_struct(secret))
            }
            None => {
                let written_here =
                    tree.written.text.get(tree.node(self.id).span.clone()).is_some_and(|t| t.contains(text));
                if is_secret_node(tree, self.id) && written_here {
                    self.context.literal_secrets.borrow_mut().push(self.id);
                }
                self.here(visitor.visit_newtype_struct(self))
            }
        }
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind() {
            Kind::StandIn { attempt } => self.here(StandIn::new(*attempt).deserialize_seq(visitor)),
            Kind::List(items) if !self.nothing => self.visit_list(visitor, items),
            _ => Err(self.wrong_type("a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.kind() {
            Kind::StandIn { attempt } => self.here(StandIn::new(*attempt).deserialize_map(visitor)),
            _ if self.is_null() => self.visit_entries(visitor, &[]),
            Kind::Map(entries) => self.visit_entries(visitor, entries),
            _ => Err(self.wrong_type("a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.kind() {
            Kind::StandIn { attempt } => self.here(StandIn::new(*attempt).deserialize_struct(name, fields, visitor)),
            _ if self.is_null() => self.visit_entries(visitor, &[]),
            Kind::Map(entries) => self.visit_entries(visitor, entries),
            _ => Err(self.wrong_type(format!("a map of {}", listed(fields)))),
        }
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let choice = match self.kind() {
            Kind::StandIn { attempt } => {
                return self.here(StandIn::new(*attempt).deserialize_enum(name, variants, visitor));
            }
            Kind::Scalar { text, .. } if !self.is_null() => Choice { node: self, word: text, options: None },
            Kind::Map(entries) => match entries.as_slice() {
                [only] => Choice { node: self, word: self.context.key(*only), options: Some(*only) },
                several => {
                    let found = several.iter().map(|id| self.context.key(*id).to_owned()).collect();
                    let at = several.get(1).copied();
                    let error = Error::new(What::WrongChoice { found, expected: variants, of: name });
                    return Err(error.or_at(at.unwrap_or(self.id), at.is_some()));
                }
            },
            _ => return Err(self.wrong_type(format!("one of {}", listed(variants)))),
        };
        self.visit(visitor, |visitor| visitor.visit_enum(choice)).map_err(|mut error| {
            if let What::WrongChoice { of, .. } = &mut error.what
                && of.is_empty()
            {
                *of = name;
            }
            error
        })
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

impl Context<'_> {
    fn key(&self, id: NodeId) -> &str {
        match &self.tree.node(id).name {
            Name::Key(key, _) => key,
            Name::Root | Name::Index(_) => "",
        }
    }
}

struct Items<'t> {
    context: &'t Context<'t>,
    items: std::slice::Iter<'t, NodeId>,
}

impl<'t> de::SeqAccess<'t> for &mut Items<'t> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(id) = self.items.next() else { return Ok(None) };
        Node { context: self.context, id: *id, nothing: false }.read(seed).map(Some)
    }
}

struct Entries<'t> {
    context: &'t Context<'t>,
    entries: std::slice::Iter<'t, NodeId>,
    value: Option<NodeId>,
}

impl<'t> de::MapAccess<'t> for &mut Entries<'t> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(id) = self.entries.next() else { return Ok(None) };
        self.value = Some(*id);
        let key: StrDeserializer<'_, Error> = self.context.key(*id).into_deserializer();
        seed.deserialize(key).map(Some).map_err(|error| error.or_at(*id, true))
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let id = self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        Node { context: self.context, id, nothing: false }.read(seed)
    }
}

/// One word of a choice, and the node of its options if there are any.
struct Choice<'t> {
    node: Node<'t>,
    word: &'t str,
    options: Option<NodeId>,
}

impl<'t> Choice<'t> {
    fn options(&self) -> Node<'t> {
        match self.options {
            Some(id) => self.node.below(id),
            None => Node { nothing: true, ..self.node },
        }
    }
}

impl<'t> de::EnumAccess<'t> for Choice<'t> {
    type Error = Error;
    type Variant = Choice<'t>;

    fn variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Result<(S::Value, Choice<'t>), Error> {
        let word: StrDeserializer<'_, Error> = self.word.into_deserializer();
        let (node, key) = (self.options.unwrap_or(self.node.id), self.options.is_some());
        let variant = seed.deserialize(word).map_err(|error| error.or_at(node, key))?;
        Ok((variant, self))
    }
}

impl<'t> de::VariantAccess<'t> for Choice<'t> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.options() {
            options if options.is_null() || options.stand_in().is_some() => Ok(()),
            options if options.context.tree.children(options.id).is_empty() && options.scalar().is_none() => Ok(()),
            options => Err(options.wrong_type(format!("no options, as `{}` has none", shown(self.word)))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'t>>(self, seed: S) -> Result<S::Value, Error> {
        self.options().read(seed)
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_seq(self.options(), visitor)
    }

    fn struct_variant<V: Visitor<'t>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_struct(self.options(), "", fields, visitor)
    }
}
