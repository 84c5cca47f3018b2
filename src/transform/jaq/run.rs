//! Runs a program over records.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use jaq_core::data::HasLut;
use jaq_core::{Ctx, DataT, Exn, Lut, Vars};
use jaq_json::Map;

use super::compile::Program;
use super::json::{self, NotJson};
use super::meter::{self, Limit, Limits};
use super::value::{Value, array, object};
use crate::cpu::{off_async, spread};
use crate::record::Batch;

/// Records that a core takes at once.
const PART_RECORDS: usize = 256;

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
            for output in self.filter.id.run((Ctx::<Json>::new(Data::new(&self.filter.lut), variables), record)) {
                output.map_err(message).and_then(&mut each).map_err(Failure::Program)?;
            }
            Ok(())
        });
        done.unwrap_or_else(|limit| Err(Failure::Program(limit_message(limit, limits))))
    }
}

/// Does `work` to all rows, on all idle cores, off the async threads; the results are in order.
pub fn over<T: Send>(batch: &Batch, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let starts = (0..batch.len()).step_by(PART_RECORDS);
    let mut parts: Vec<_> = starts.map(|start| (start..batch.len().min(start + PART_RECORDS), None)).collect();
    off_async(|| spread(parts.iter_mut(), |(rows, done)| *done = Some(work(rows.clone()))));
    parts.into_iter().filter_map(|(_, done)| done).collect()
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
/// that it has suspended, this is where both are counted.
pub struct Data<'a>(&'a Lut<Json>);

impl<'a> Data<'a> {
    fn new(lut: &'a Lut<Json>) -> Data<'a> {
        meter::enter();
        Data(lut)
    }
}

impl Clone for Data<'_> {
    fn clone(&self) -> Self {
        Data::new(self.0)
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
        self.0
    }
}
