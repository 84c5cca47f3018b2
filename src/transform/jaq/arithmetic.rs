//! What `+ - * / %` make of values.

use std::collections::BTreeSet;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::rc::Rc;

use jaq_core::ValR;
use jaq_core::ops::Math;
use jaq_json::{Map, Num};

use super::meter;
use super::value::{Error, Nest, SLOT_BYTES, Value, array, depth_over};

/// Longest product of whole numbers, in bits.
const NUMBER_BITS_MAX: u64 = 8192;

impl Add for Value {
    type Output = ValR<Value>;

    fn add(self, other: Value) -> ValR<Value> {
        meter::step();
        match (self, other) {
            (Value::Null, other) | (other, Value::Null) => Ok(other),
            (Value::Num(a), Value::Num(b)) => Ok(Value::Num(a + b)),
            (Value::Str(mut a), Value::Str(b)) => {
                let copied = if Rc::get_mut(&mut a).is_none() { a.len() } else { 0 };
                meter::charge(copied + b.len());
                Rc::make_mut(&mut a).push_str(&b);
                Ok(Value::Str(a))
            }
            (Value::Arr(mut a), Value::Arr(b)) => {
                meter::charge(b.of.len() * SLOT_BYTES);
                let nest = Nest::alone(&mut a);
                nest.depth = nest.depth.max(b.depth);
                nest.of.extend(b.of.iter().cloned());
                Ok(Value::Arr(a))
            }
            (Value::Obj(mut a), Value::Obj(b)) => {
                meter::charge(b.of.len() * 2 * SLOT_BYTES);
                let nest = Nest::alone(&mut a);
                nest.depth = nest.depth.max(b.depth);
                nest.of.extend(b.of.iter().map(|(key, item)| (key.clone(), item.clone())));
                Ok(Value::Obj(a))
            }
            (a, b) => Err(Error::math(a, Math::Add, b)),
        }
    }
}

impl Sub for Value {
    type Output = ValR<Value>;

    fn sub(self, other: Value) -> ValR<Value> {
        meter::step();
        match (self, other) {
            (Value::Num(a), Value::Num(b)) => Ok(Value::Num(a - b)),
            (Value::Arr(a), Value::Arr(b)) => {
                let without: BTreeSet<&Value> = b.of.iter().collect();
                Ok(Nest::take(a).into_iter().filter(|item| !without.contains(item)).collect())
            }
            (a, b) => Err(Error::math(a, Math::Sub, b)),
        }
    }
}

impl Mul for Value {
    type Output = ValR<Value>;

    fn mul(self, other: Value) -> ValR<Value> {
        meter::step();
        match (self, other) {
            (Value::Num(a), Value::Num(b)) if bits(&a) + bits(&b) > NUMBER_BITS_MAX => {
                Err(Error::str("the product of these numbers is too long"))
            }
            (Value::Num(a), Value::Num(b)) => Ok(Value::Num(a * b)),
            (Value::Str(text), count @ Value::Num(_)) | (count @ Value::Num(_), Value::Str(text)) => {
                let count = jaq_std::ValT::as_f64(&count).unwrap_or(0.0);
                // As jq has it: nothing, or at least once.
                if count.is_nan() || count <= 0.0 {
                    return Ok(Value::Null);
                }
                let count = (count as usize).max(1);
                meter::charge(text.len().saturating_mul(count));
                Ok(Value::Str(Rc::new(text.repeat(count))))
            }
            (Value::Obj(a), Value::Obj(b)) => Ok(Value::Obj(merged(a, &b))),
            (a, b) => Err(Error::math(a, Math::Mul, b)),
        }
    }
}

fn bits(number: &Num) -> u64 {
    match number {
        Num::BigInt(whole) => whole.bits(),
        _ => 64,
    }
}

type Object = Rc<Nest<Map<Rc<String>, Value>>>;

fn merged(mut a: Object, b: &Object) -> Object {
    meter::charge(b.of.len() * 2 * SLOT_BYTES);
    let nest = Nest::alone(&mut a);
    for (key, item) in &b.of {
        let old = nest.of.get_mut(key).map(std::mem::take);
        let new = match (old, item) {
            (Some(Value::Obj(old)), Value::Obj(item)) => Value::Obj(merged(old, item)),
            _ => item.clone(),
        };
        nest.depth = nest.depth.max(depth_over(std::iter::once(&new)));
        nest.of.insert(key.clone(), new);
    }
    a
}

impl Div for Value {
    type Output = ValR<Value>;

    fn div(self, other: Value) -> ValR<Value> {
        meter::step();
        match (self, other) {
            (Value::Num(a), Value::Num(b)) => Ok(Value::Num(a / b)),
            (Value::Str(text), Value::Str(_)) if text.is_empty() => Ok(array(Vec::new())),
            (Value::Str(text), Value::Str(by)) if by.is_empty() => {
                Ok(text.chars().map(|c| Value::from(c.to_string())).collect())
            }
            (Value::Str(text), Value::Str(by)) => {
                Ok(text.split(by.as_str()).map(|piece| Value::from(piece.to_owned())).collect())
            }
            (a, b) => Err(Error::math(a, Math::Div, b)),
        }
    }
}

impl Rem for Value {
    type Output = ValR<Value>;

    fn rem(self, other: Value) -> ValR<Value> {
        meter::step();
        match (self, other) {
            (Value::Num(a), Value::Num(b)) if b != Num::Int(0) => Ok(Value::Num(a % b)),
            (a, b) => Err(Error::math(a, Math::Rem, b)),
        }
    }
}

impl Neg for Value {
    type Output = ValR<Value>;

    fn neg(self) -> ValR<Value> {
        match self {
            Value::Num(number) => {
                if let Num::Dec(text) = &number {
                    meter::charge(text.len() + SLOT_BYTES);
                }
                Ok(Value::Num(-number))
            }
            other => Err(Error::typ(other, "number")),
        }
    }
}
