//! Runs a program over records.

use std::fmt;
use std::rc::Rc;

use jaq_core::data::HasLut;
use jaq_core::{Ctx, DataT, Exn, Lut, Vars};
use jaq_json::Map;

use super::compile::Program;
use super::json::{self, NotJson};
use super::meter::{self, Limit, Limits};
use super::value::{Value, array, object};
use crate::record::Batch;

/// Longest reason of a program's failure, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// The variables of programs: what is known of a record beside its payload.
pub const VARIABLES: [&str; 7] = ["$arrival", "$key", "$topic", "$partition", "$offset", "$headers", "$ENV"];

/// Why a record has no outputs.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    NotJson(NotJson),
    /// The program's own words, or which limit it met.
    Program(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotJson(error) => write!(f, "the record is not JSON: {error}"),
            Failure::Program(message) => f.write_str(message),
        }
    }
}

impl Program {
    /// Runs it over record `row`, and gives each output to `each`, which may end it with a failure. Nothing of what was
    /// given counts if there is one.
    pub fn run(
        &self,
        batch: &Batch,
        row: usize,
        limits: Limits,
        mut each: impl FnMut(Value) -> Result<(), String>,
    ) -> Result<(), Failure> {
        let done = meter::within(limits, || {
            let record = json::read(batch.payload(row)).map_err(Failure::NotJson)?;
            let variables = Vars::new(self.variables.iter().map(|name| variable(name, batch, row)));
            let context = Ctx::<Json>::new(Data::new(&self.filter.lut, self.labels), variables);
            for output in self.filter.id.run((context, record)) {
                output.map_err(message).and_then(&mut each).map_err(Failure::Program)?;
            }
            Ok(())
        });
        done.unwrap_or_else(|limit| Err(Failure::Program(limit_message(limit, limits))))
    }
}

fn message(exception: Exn<'_, Value>) -> String {
    let text = match exception.get_err().map(jaq_core::Error::into_val) {
        Ok(Value::Str(text)) => text.as_str().to_owned(),
        Ok(other) => format!("error {other}"),
        Err(_) => "`halt` was called".to_owned(),
    };
    match text.len() > MESSAGE_BYTES_MAX {
        true => format!("{}…", &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)]),
        false => text,
    }
}

fn limit_message(limit: Limit, limits: Limits) -> String {
    match limit {
        Limit::Time => format!("the program takes longer than {}", limits.time_max),
        Limit::Memory => format!("the program needs more memory than {}", limits.memory_max),
        Limit::Steps(most) => format!("the program takes more than {most} steps for one record"),
        Limit::Calls => format!("the program has more than {} calls under way", meter::CONTEXTS_MAX),
        Limit::Recursion => "the program calls itself too often".into(),
        Limit::Depth => format!("a value is nested deeper than {}", meter::DEPTH_MAX),
        Limit::Panic => "the interpreter failed in this program".into(),
    }
}

fn variable(name: &str, batch: &Batch, row: usize) -> Value {
    let origin = batch.origin(row);
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
    let whole = |number: u64| Value::Num(jaq_json::Num::from_integral(number));
    let value = match name {
        "$arrival" => Some(Value::Num(jaq_json::Num::from_integral(batch.arrival_ms(row)))),
        "$key" => batch.key(row).map(text),
        "$topic" => origin.map(|origin| Value::from(origin.topic.to_owned())),
        "$partition" => origin.map(|origin| whole(origin.partition.into())),
        "$offset" => origin.map(|origin| whole(origin.offset)),
        "$headers" => origin.map(|origin| {
            let pair =
                |(name, value)| object([pair("name", text(name)), pair("value", text(value))].into_iter().collect());
            array(origin.headers.map(pair).collect())
        }),
        _ => Some(object(Map::default())),
    };
    value.unwrap_or_default()
}

fn pair(name: &str, value: Value) -> (Rc<String>, Value) {
    (Rc::new(name.to_owned()), value)
}

/// What the interpreter works on.
#[derive(Debug)]
pub struct Json;

impl DataT for Json {
    type V<'a> = Value;
    type Data<'a> = Data<'a>;
}

/// The interpreter's way to the terms of the program: as it goes it for each term, and holds one of these in each call
/// that it has suspended, this is where both are counted. It clones one before it puts a variable, a closure or an index
/// on a list; only labels it puts there without.
pub struct Data<'a> {
    lut: &'a Lut<Json>,
    labels: bool,
}

impl<'a> Data<'a> {
    fn new(lut: &'a Lut<Json>, labels: bool) -> Data<'a> {
        meter::enter();
        Data { lut, labels }
    }
}

impl Clone for Data<'_> {
    fn clone(&self) -> Self {
        Data::new(self.lut, self.labels)
    }
}

impl Drop for Data<'_> {
    fn drop(&mut self) {
        meter::leave();
    }
}

impl<'a> HasLut<'a, Json> for Data<'a> {
    fn lut(&self) -> &'a Lut<Json> {
        meter::step();
        if self.labels {
            meter::node();
        }
        self.lut
    }
}
