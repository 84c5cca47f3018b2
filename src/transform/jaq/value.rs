//! The values that programs work on: JSON, counted as it grows ([`super::meter`]).
//!
//! jaq's own values would do but for hostile records: `"x" * .n` takes all memory, `.a | fromjson` of a hundred thousand
//! brackets overflows the stack, and either ends the process.

use std::cmp::Ordering;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

use jaq_core::path::Opt;
use jaq_core::val::Range;
use jaq_core::{Exn, ValR, ValX};
use jaq_json::{Map, Num};

use super::json;
use super::meter;

/// What a value costs in what holds it, in bytes.
pub(super) const SLOT_BYTES: usize = 32;

/// Bytes of a value in an error's message.
const SHOWN_BYTES_MAX: usize = 60;

pub type Error = jaq_core::Error<Value>;

/// A JSON value.
#[derive(Debug, Clone, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Num(Num),
    Str(Rc<String>),
    Arr(Rc<Nest<Vec<Value>>>),
    Obj(Rc<Nest<Map<Rc<String>, Value>>>),
}

/// What holds values, and how deep it goes at most: an array of numbers 1.
#[derive(Debug, Clone)]
pub struct Nest<T> {
    pub of: T,
    pub(super) depth: u8,
}

/// An array of these.
pub fn array(items: Vec<Value>) -> Value {
    meter::charge(items.len() * SLOT_BYTES);
    let depth = depth_over(items.iter());
    Value::Arr(Rc::new(Nest { of: items, depth }))
}

/// An object of these.
pub fn object(map: Map<Rc<String>, Value>) -> Value {
    meter::charge((map.len() + 1) * 2 * SLOT_BYTES);
    let depth = depth_over(map.values());
    Value::Obj(Rc::new(Nest { of: map, depth }))
}

/// The depth of what holds these. A depth is not less when something is taken out: it is counted anew before it matters.
pub(super) fn depth_over<'v>(items: impl Iterator<Item = &'v Value> + Clone) -> u8 {
    let most = items.clone().map(Value::depth).max().unwrap_or(0);
    let most = if most < meter::DEPTH_MAX { most } else { items.map(Value::depth_counted).max().unwrap_or(0) };
    meter::deeper(most)
}

/// What has room for values, in slots.
pub trait Counted: Clone {
    fn slots(&self) -> usize;
}

impl Counted for Vec<Value> {
    fn slots(&self) -> usize {
        self.len()
    }
}

impl Counted for Map<Rc<String>, Value> {
    fn slots(&self) -> usize {
        2 * self.len()
    }
}

impl<T: Counted> Nest<T> {
    /// It alone, to change: a copy if others hold it too.
    pub(super) fn alone(this: &mut Rc<Nest<T>>) -> &mut Nest<T> {
        if Rc::get_mut(this).is_none() {
            meter::charge(this.of.slots() * SLOT_BYTES);
        }
        Rc::make_mut(this)
    }

    /// What is in it; a copy if others hold it too.
    pub(super) fn take(this: Rc<Nest<T>>) -> T {
        Rc::try_unwrap(this).map(|nest| nest.of).unwrap_or_else(|shared| {
            meter::charge(shared.of.slots() * SLOT_BYTES);
            shared.of.clone()
        })
    }
}

impl Value {
    pub(super) fn depth(&self) -> u8 {
        match self {
            Value::Arr(array) => array.depth,
            Value::Obj(object) => object.depth,
            _ => 0,
        }
    }

    fn depth_counted(&self) -> u8 {
        meter::step();
        match self {
            Value::Arr(array) => 1 + array.of.iter().map(Value::depth_counted).max().unwrap_or(0),
            Value::Obj(object) => 1 + object.of.values().map(Value::depth_counted).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// As compact JSON within a program; a number that JSON has no word for is null.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        match json::write_any(&mut out, self, meter::bytes_left()) {
            Ok(()) => meter::charge(out.len()),
            Err(_) => meter::charge(usize::MAX),
        }
        out
    }

    fn as_index(&self) -> Option<i64> {
        match self {
            Value::Num(Num::Int(index)) => i64::try_from(*index).ok(),
            Value::Num(_) => {
                jaq_std::ValT::as_f64(self).filter(|real| real.is_finite()).map(|real| real.floor() as i64)
            }
            _ => None,
        }
    }

    /// The value at this index or key, if there is one.
    pub fn get(&self, index: &Value) -> Result<Option<Value>, Error> {
        Ok(match (self, index) {
            (Value::Null, Value::Str(_) | Value::Num(_) | Value::Null) => None,
            (Value::Obj(object), Value::Str(key)) => object.of.get(key).cloned(),
            (Value::Arr(array), Value::Num(_)) => {
                index.as_index().and_then(|index| position(index, array.of.len())).map(|at| array.of[at].clone())
            }
            (Value::Arr(_), Value::Arr(wanted)) => {
                let found = self.positions_in_array(&wanted.of);
                Some(found.into_iter().map(Value::from).collect())
            }
            (Value::Null | Value::Arr(_) | Value::Str(_), Value::Obj(range)) => {
                let bound = |name: &str| range.of.get(&Rc::new(name.to_owned()));
                return jaq_core::ValT::range(self.clone(), bound("start")..bound("end")).map(Some);
            }
            _ => return Err(Error::index(self.clone(), index.clone())),
        })
    }

    /// Where `wanted` stands in this array, as a run of items.
    pub fn positions_in_array(&self, wanted: &[Value]) -> Vec<usize> {
        let Value::Arr(array) = self else { return Vec::new() };
        if wanted.is_empty() {
            return Vec::new();
        }
        let runs = array.of.windows(wanted.len()).enumerate();
        runs.filter(|(_, run)| *run == wanted).map(|(at, _)| at).collect()
    }
}

fn position(index: i64, length: usize) -> Option<usize> {
    let from_end = if index < 0 { i64::try_from(length).ok()? } else { 0 };
    usize::try_from(index.checked_add(from_end)?).ok().filter(|at| *at < length)
}

/// Where a range begins and ends in what has this length.
fn bounds(range: Range<&Value>, length: usize) -> Result<(usize, usize), Error> {
    let bound = |bound: Option<&Value>, default: usize| match bound {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let index = value.as_index().ok_or_else(|| Error::typ(value.clone(), "start or end of a range"))?;
            let index = if index < 0 { index.saturating_add(length as i64).max(0) } else { index };
            Ok(usize::try_from(index).unwrap_or(length).min(length))
        }
    };
    let (start, end) = (bound(range.start, 0)?, bound(range.end, length)?);
    Ok((start, end.max(start)))
}

impl jaq_core::ValT for Value {
    fn from_num(text: &str) -> ValR<Value> {
        Ok(Value::Num(json::literal(text)))
    }

    fn from_map<I: IntoIterator<Item = (Value, Value)>>(pairs: I) -> ValR<Value> {
        let mut map = Map::default();
        for (key, value) in pairs {
            meter::charge(2 * SLOT_BYTES);
            let Value::Str(key) = key else { return Err(Error::typ(key, "the key of an object")) };
            map.insert(key, value);
        }
        Ok(object(map))
    }

    fn key_values(self) -> Box<dyn Iterator<Item = Result<(Value, Value), Error>>> {
        meter::step();
        match self {
            Value::Arr(array) => {
                let items = Nest::take(array).into_iter().enumerate();
                Box::new(items.map(|(index, item)| Ok((Value::from(index), item))))
            }
            Value::Obj(object) => {
                Box::new(Nest::take(object).into_iter().map(|(key, item)| Ok((Value::Str(key), item))))
            }
            other => Box::new(std::iter::once(Err(Error::typ(other, "array or object")))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Value>>> {
        meter::step();
        match self {
            Value::Arr(array) => Box::new(Nest::take(array).into_iter().map(Ok)),
            Value::Obj(object) => Box::new(Nest::take(object).into_iter().map(|(_, item)| Ok(item))),
            other => Box::new(std::iter::once(Err(Error::typ(other, "array or object")))),
        }
    }

    fn index(self, index: &Value) -> ValR<Value> {
        self.get(index).map(|found| found.unwrap_or(Value::Null))
    }

    fn range(self, range: Range<&Value>) -> ValR<Value> {
        match self {
            Value::Null => Ok(Value::Null),
            Value::Arr(array) => {
                let (start, end) = bounds(range, array.of.len())?;
                Ok(array.of[start..end].iter().cloned().collect())
            }
            Value::Str(text) => {
                meter::work(text.len());
                let (start, end) = bounds(range, text.chars().count())?;
                let at = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
                Ok(Value::from(text[at(start)..at(end)].to_owned()))
            }
            other => Err(Error::typ(other, "array or text")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Value>>>(self, opt: Opt, f: impl Fn(Value) -> I) -> ValX<'a, Value> {
        meter::step();
        match self {
            Value::Arr(array) => Nest::take(array).into_iter().flat_map(f).collect(),
            Value::Obj(from) => {
                let pairs = Nest::take(from).into_iter();
                let pairs = pairs.filter_map(|(key, item)| f(item).next().map(|item| Ok((key, item?))));
                pairs.collect::<Result<_, Exn<_>>>().map(object)
            }
            other => opt.fail(other, |other| Exn::from(Error::typ(other, "array or object"))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Value>>>(
        self,
        index: &Value,
        opt: Opt,
        f: impl Fn(Value) -> I,
    ) -> ValX<'a, Value> {
        meter::step();
        match (self, index) {
            (Value::Null, Value::Str(_)) => object(Map::default()).map_index(index, opt, f),
            (Value::Null, Value::Num(_)) => array(Vec::new()).map_index(index, opt, f),
            (value @ (Value::Null | Value::Arr(_)), Value::Obj(range)) => {
                let bound = |name: &str| range.of.get(&Rc::new(name.to_owned()));
                value.map_range(bound("start")..bound("end"), opt, f)
            }
            (Value::Obj(mut object), Value::Str(key)) => {
                let nest = Nest::alone(&mut object);
                let old = nest.of.get_mut(key).map(std::mem::take).unwrap_or_default();
                match f(old).next().transpose()? {
                    Some(new) => {
                        nest.depth = nest.depth.max(depth_over(std::iter::once(&new)));
                        if nest.of.insert(key.clone(), new).is_none() {
                            meter::charge(2 * SLOT_BYTES);
                        }
                    }
                    None => {
                        meter::charge(nest.of.len() / SLOT_BYTES);
                        nest.of.shift_remove(key);
                    }
                }
                Ok(Value::Obj(object))
            }
            (Value::Arr(mut array), Value::Num(_)) => {
                let length = array.of.len();
                let index = index.as_index().unwrap_or(i64::MAX);
                let at = match usize::try_from(index).ok().or_else(|| position(index, length)) {
                    Some(at) => at,
                    None => {
                        let error = |_| {
                            Exn::from(Error::str(format_args!("there is no index {index} in an array of {length}")))
                        };
                        return opt.fail(Value::Arr(array), error);
                    }
                };
                let nest = Nest::alone(&mut array);
                let old = nest.of.get_mut(at).map(std::mem::take).unwrap_or_default();
                match f(old).next().transpose()? {
                    Some(new) => {
                        nest.depth = nest.depth.max(depth_over(std::iter::once(&new)));
                        if at >= length {
                            meter::charge((at - length + 1).saturating_mul(SLOT_BYTES));
                            nest.of.resize(at + 1, Value::Null);
                        }
                        nest.of[at] = new;
                    }
                    None if at < length => drop(nest.of.remove(at)),
                    None => {}
                }
                Ok(Value::Arr(array))
            }
            (value, _) => opt.fail(value, |value| Exn::from(Error::index(value, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Value>>>(
        self,
        range: Range<&Value>,
        opt: Opt,
        f: impl Fn(Value) -> I,
    ) -> ValX<'a, Value> {
        let mut items = match self {
            Value::Null => Vec::new(),
            Value::Arr(array) => Nest::take(array),
            other => return opt.fail(other, |other| Exn::from(Error::typ(other, "array"))),
        };
        let (start, end) = bounds(range, items.len()).map_err(Exn::from)?;
        let new = match f(items[start..end].iter().cloned().collect()).next().transpose()? {
            Some(Value::Arr(new)) => Nest::take(new),
            None => Vec::new(),
            Some(other) => return Err(Exn::from(Error::typ(other, "array"))),
        };
        items.splice(start..end, new);
        Ok(array(items))
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Value::Null | Value::Bool(false))
    }

    fn into_string(self) -> Value {
        match self {
            Value::Str(_) => self,
            other => Value::Str(Rc::new(other.to_json())),
        }
    }
}

impl jaq_std::ValT for Value {
    fn into_seq<S: FromIterator<Value>>(self) -> Result<S, Value> {
        meter::step();
        match self {
            Value::Arr(array) => Ok(Nest::take(array).into_iter().collect()),
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Value::Num(Num::Int(_) | Num::BigInt(_)))
    }

    fn as_isize(&self) -> Option<isize> {
        match self {
            Value::Num(number) => number.as_isize(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Num(Num::Int(whole)) => Some(*whole as f64),
            Value::Num(Num::Float(real)) => Some(*real),
            Value::Num(number) => number.to_string().parse().ok(),
            _ => None,
        }
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Value::Str(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Str(text) => {
                meter::work(text.len());
                Some(text.as_bytes())
            }
            _ => None,
        }
    }

    fn as_sub_str(&self, sub: &[u8]) -> Value {
        Value::from(String::from_utf8_lossy(sub).into_owned())
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Value {
        Value::from(String::from_utf8_lossy(bytes.as_ref()).into_owned())
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

impl From<isize> for Value {
    fn from(whole: isize) -> Value {
        Value::Num(Num::Int(whole))
    }
}

impl From<usize> for Value {
    fn from(whole: usize) -> Value {
        Value::Num(Num::from_integral(whole))
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Value {
        Value::Num(Num::Float(real))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        meter::charge(text.len() + SLOT_BYTES);
        Value::Str(Rc::new(text))
    }
}

impl From<Range<Value>> for Value {
    fn from(range: Range<Value>) -> Value {
        let bounds = [("start", range.start), ("end", range.end)];
        let bounds = bounds.into_iter().filter_map(|(name, bound)| Some((Rc::new(name.to_owned()), bound?)));
        object(bounds.collect())
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Value {
        let mut items = Vec::new();
        for value in values {
            meter::charge(SLOT_BYTES);
            items.push(value);
        }
        array(items)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        meter::step();
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Num(a), Value::Num(b)) => a == b,
            (Value::Str(a), Value::Str(b)) => {
                meter::work(a.len().min(b.len()));
                a == b
            }
            (Value::Arr(a), Value::Arr(b)) => a.of == b.of,
            (Value::Obj(a), Value::Obj(b)) => {
                a.of.len() == b.of.len() && a.of.iter().all(|(key, item)| b.of.get(key) == Some(item))
            }
            _ => false,
        }
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Value) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As jq sorts: null, false, true, numbers, texts, arrays, objects by their keys and then their values.
impl Ord for Value {
    fn cmp(&self, other: &Value) -> Ordering {
        meter::step();
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Num(a), Value::Num(b)) => a.cmp(b),
            (Value::Str(a), Value::Str(b)) => {
                meter::work(a.len().min(b.len()));
                a.cmp(b)
            }
            (Value::Arr(a), Value::Arr(b)) => a.of.cmp(&b.of),
            (Value::Obj(a), Value::Obj(b)) => {
                let (a, b) = (sorted(&a.of), sorted(&b.of));
                let keys = a.iter().map(|(key, _)| key).cmp(b.iter().map(|(key, _)| key));
                keys.then_with(|| a.iter().map(|(_, item)| item).cmp(b.iter().map(|(_, item)| item)))
            }
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

fn sorted<K: Ord + Hash, V>(map: &Map<K, V>) -> Vec<(&K, &V)> {
    meter::work(map.len() * SLOT_BYTES);
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Num(_) => 2,
            Value::Str(_) => 3,
            Value::Arr(_) => 4,
            Value::Obj(_) => 5,
        }
    }
}

/// For messages: the beginning of its JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        match json::write(&mut out, self, SHOWN_BYTES_MAX) {
            Ok(()) => f.write_str(&out),
            Err(json::Unwritten::NotFinite) => f.write_str("a number that is not finite"),
            Err(json::Unwritten::TooLong) => {
                f.write_str(&out[..out.floor_char_boundary(SHOWN_BYTES_MAX)])?;
                f.write_str("…")
            }
        }
    }
}
