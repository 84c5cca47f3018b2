//! Prefixes: evaluated per record into a partition, and completed when the partition's object is opened.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use crate::error::{Reason, RejectedBy};
use crate::ground::Random;
use crate::record::Pairs;

use super::field::PartitionKeys;
use super::moment::Moment;
use super::scan::{Found, Frames};
use super::template::{Kind, Part, RANDOM_BYTES, Template};
use super::time::{Grain, TimeFormat};
use super::{FOLDER_BYTES_MAX, PREFIX_BYTES_MAX, TemplateError, is_file_name, value};

/// Firehose's error code for a record whose partition cannot be made.
const CODE: &str = "DynamicPartitioning.MetadataExtractionFailed";

/// Stands in a partition where a part of the object comes; no value holds it, as control characters are encoded.
const OF_OBJECT: &str = "\u{1}";

/// Where objects of records go.
#[derive(Debug, Clone)]
pub struct Prefix {
    template: Template,
}

/// Where objects of rejected records go.
#[derive(Debug, Clone)]
pub struct ErrorPrefix {
    template: Template,
}

/// What evaluating one prefix keeps from record to record, so that a record costs no allocation.
#[derive(Debug, Default)]
pub struct Scratch {
    frames: Frames,
    /// Whose minutes these are; 0: nobody's yet.
    template: u64,
    /// Per part: the minute last written, and as what.
    minutes: Vec<(i64, String)>,
}

/// Offsets have whole minutes from 1973 on (Liberia was last): before, no minute is remembered. In seconds.
const WHOLE_MINUTES_SINCE: i64 = 94_694_400;

impl Prefix {
    /// Compiles a template: text, `{field}`, `{field:%Y-%m-%d}`, `{arrival:%H}`, `{{`, and Firehose's `!{timestamp:..}`,
    /// `!{firehose:random-string}`, `!{partitionKey:..}`, `!{partitionKeyFromQuery:..}`, `!{partitionKeyFromLambda:..}`.
    /// Times are read off a clock in `zone`.
    pub fn parse(text: &str, zone: &TimeZone, keys: &PartitionKeys) -> Result<Prefix, TemplateError> {
        Template::parse(text, zone, keys, Kind::Records).map(|template| Prefix { template })
    }

    /// Whether records can go to different partitions. If not, `partition` need not be called: `resolve` does with "".
    pub fn is_per_record(&self) -> bool {
        self.template.is_per_record()
    }

    /// What is legal and yet unwise, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.template.warnings
    }

    /// Writes the record's partition to `out`: what tells its objects from those of other partitions, to be completed
    /// by [`Prefix::resolve`]. `keys` are those that transforms gave it. After an error `out` holds nothing of use.
    pub fn partition(
        &self,
        payload: &[u8],
        arrival_ms: i64,
        keys: Pairs<'_>,
        scratch: &mut Scratch,
        out: &mut String,
    ) -> Result<(), Reason> {
        out.clear();
        let json = match self.template.fields.is_empty() {
            true => "",
            false => self.scan(payload, scratch)?,
        };
        self.template.minutes(scratch);
        for (index, part) in self.template.parts.iter().enumerate() {
            match part {
                Part::Value(field) => self.push_value(*field, scratch.frames.found(json, *field), out)?,
                Part::Given(name) => push_given(name, keys, out)?,
                Part::Event(field, format) => {
                    let moment = self.event_time(*field, scratch.frames.found(json, *field))?;
                    self.template.push_time(format, &moment, &mut scratch.minutes[index], out);
                }
                part => self.template.push_part(part, None, arrival_ms, &mut scratch.minutes[index], out),
            }
        }
        self.check(out)
    }

    /// The prefix of an object of this partition, whose oldest record arrived at `oldest_arrival_ms`.
    pub fn resolve(&self, partition: &str, oldest_arrival_ms: i64, random: &Random) -> String {
        self.template.resolve(partition, oldest_arrival_ms, random)
    }

    fn scan<'a>(&self, payload: &'a [u8], scratch: &mut Scratch) -> Result<&'a str, Reason> {
        let json = simdutf8::compat::from_utf8(payload).map_err(|error| {
            reason(format!("Non JSON record provided: invalid UTF-8 at byte {}", error.valid_up_to()))
        })?;
        match scratch.frames.scan(json, &self.template.fields) {
            Ok(()) => Ok(json),
            Err(error) => Err(reason(format!("Non JSON record provided: {} at byte {}", error.message, error.at))),
        }
    }

    fn push_value(&self, field: usize, found: Found<'_>, out: &mut String) -> Result<(), Reason> {
        let filled = match found {
            Found::Text(text) => match text.unescaped() {
                Some(text) => value::push(out, &text),
                None => return Err(self.unfit(field, "holds a wrong escape")),
            },
            Found::Bool(truth) => value::push(out, if truth { "true" } else { "false" }),
            Found::Number(number) => match number_text(number) {
                Some(text) => value::push(out, &text),
                None => return Err(self.unfit(field, "is a number out of range")),
            },
            other => return Err(self.unfit(field, missing(other))),
        };
        if filled { Ok(()) } else { Err(self.unfit(field, "is an empty string")) }
    }

    fn event_time(&self, field: usize, found: Found<'_>) -> Result<Moment, Reason> {
        let moment = match found {
            Found::Text(text) => text.unescaped().and_then(|text| Moment::of_text(&text)),
            Found::Number(number) => Moment::of_number(number),
            Found::Bool(_) => None,
            other => return Err(self.unfit(field, missing(other))),
        };
        moment.ok_or_else(|| {
            let shown: String = match found {
                Found::Text(text) => text.unescaped().unwrap_or_default().chars().take(40).collect(),
                Found::Number(number) => number.chars().take(40).collect(),
                other => format!("{other:?}"),
            };
            self.unfit(
                field,
                &format!("is not a time (RFC 3339, yyyy-MM-dd HH:mm:ss, or a number counting from 1970): {shown:?}"),
            )
        })
    }

    /// That the whole is short enough, and no folder passes for an object.
    fn check(&self, partition: &str) -> Result<(), Reason> {
        let slack = self.template.object_bytes_max;
        if partition.len() + slack > PREFIX_BYTES_MAX {
            let message = format!("prefix: {} bytes are more than {PREFIX_BYTES_MAX}", partition.len() + slack);
            return Err(reason(message));
        }
        for folder in partition.split('/') {
            let bytes = folder.len() + if folder.contains(OF_OBJECT) { slack } else { 0 };
            if bytes > FOLDER_BYTES_MAX {
                return Err(reason(format!("prefix: a folder of {bytes} bytes is longer than {FOLDER_BYTES_MAX}")));
            }
            if is_file_name(folder) {
                return Err(reason(format!("prefix: folder `{folder}` reads as the name of an object")));
            }
        }
        Ok(())
    }

    fn unfit(&self, field: usize, what: &str) -> Reason {
        reason(format!("prefix: field `{}` {what}", self.template.fields[field]))
    }
}

impl ErrorPrefix {
    /// Compiles a template: text, `{reason}`, `{arrival:%H}`, and Firehose's `!{timestamp:..}`,
    /// `!{firehose:error-output-type}`, `!{firehose:random-string}`. It holds no fields, so it fits every record.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<ErrorPrefix, TemplateError> {
        Template::parse(text, zone, &PartitionKeys::default(), Kind::Errors).map(|template| ErrorPrefix { template })
    }

    /// What is legal and yet unwise, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.template.warnings
    }

    /// What the names of all error objects begin with: the prefix up to its first time or random text, for each reason that
    /// comes before that.
    pub fn beginnings(&self) -> Vec<String> {
        let mut all = vec![String::new()];
        for part in &self.template.parts {
            match part {
                Part::Literal(text) => all.iter_mut().for_each(|beginning| beginning.push_str(text)),
                Part::Reason => {
                    let by = [RejectedBy::Transform, RejectedBy::Format, RejectedBy::Prefix];
                    let each = |beginning: &String| by.map(|by| format!("{beginning}{}", by.as_str()));
                    all = all.iter().flat_map(each).collect();
                }
                _ => break,
            }
        }
        all
    }

    /// Writes the partition of a record that was set aside to `out`.
    pub fn partition(&self, by: RejectedBy, arrival_ms: i64, scratch: &mut Scratch, out: &mut String) {
        out.clear();
        self.template.minutes(scratch);
        for (part, minute) in self.template.parts.iter().zip(&mut scratch.minutes) {
            self.template.push_part(part, Some(by), arrival_ms, minute, out);
        }
    }

    /// The prefix of an object of this partition, whose oldest record arrived at `oldest_arrival_ms`.
    pub fn resolve(&self, partition: &str, oldest_arrival_ms: i64, random: &Random) -> String {
        self.template.resolve(partition, oldest_arrival_ms, random)
    }
}

impl Template {
    /// Makes the scratch fit this template: one that is new, or was used with another, begins afresh.
    fn minutes(&self, scratch: &mut Scratch) {
        if scratch.template != self.id {
            scratch.template = self.id;
            scratch.minutes.clear();
            scratch.minutes.resize(self.parts.len(), (i64::MIN, String::new()));
        }
    }

    fn push_part(
        &self,
        part: &Part,
        by: Option<RejectedBy>,
        arrival_ms: i64,
        minute: &mut (i64, String),
        out: &mut String,
    ) {
        match part {
            Part::Literal(text) => out.push_str(text),
            Part::Arrival(format) => self.push_time(format, &Moment::of_millis(arrival_ms), minute, out),
            Part::Reason => out.push_str(by.map_or("", RejectedBy::as_str)),
            Part::Oldest(_) | Part::Random => out.push_str(OF_OBJECT),
            Part::Value(_) | Part::Given(_) | Part::Event(..) => {
                unreachable!("parts of the record are pushed by their caller")
            }
        }
    }

    /// Appends a time; within the minute of the last one it is the same text.
    fn push_time(&self, format: &TimeFormat, moment: &Moment, last: &mut (i64, String), out: &mut String) {
        let minute = match moment {
            Moment::At(at) if at.as_second() >= WHOLE_MINUTES_SINCE && format.grain() <= Grain::Minute => {
                at.as_second() / 60
            }
            _ => return format.write(moment, &self.zone, out),
        };
        if last.0 != minute {
            last.1.clear();
            format.write(moment, &self.zone, &mut last.1);
            last.0 = minute;
        }
        out.push_str(&last.1);
    }

    fn is_per_record(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)) && !part.is_of_object())
    }

    fn resolve(&self, partition: &str, oldest_arrival_ms: i64, random: &Random) -> String {
        if partition.is_empty() && !self.is_per_record() {
            let text = |part: &Part| match part {
                Part::Literal(text) => text.clone(),
                _ => OF_OBJECT.to_string(),
            };
            let whole: String = self.parts.iter().map(text).collect();
            return self.fill(&whole, oldest_arrival_ms, random);
        }
        self.fill(partition, oldest_arrival_ms, random)
    }

    fn fill(&self, partition: &str, oldest_arrival_ms: i64, random: &Random) -> String {
        let mut parts = self.parts.iter().filter(|part| part.is_of_object());
        let mut out = String::with_capacity(partition.len() + self.object_bytes_max);
        for (index, text) in partition.split(OF_OBJECT).enumerate() {
            if index > 0 {
                match parts.next() {
                    Some(Part::Oldest(format)) => {
                        format.write(&Moment::of_millis(oldest_arrival_ms), &self.zone, &mut out)
                    }
                    _ => push_random(&mut out, random),
                }
            }
            out.push_str(text);
        }
        assert!(parts.next().is_none(), "the partition was made by this prefix");
        out
    }
}

/// The value of a partition key that transforms gave the record; of several the last.
fn push_given(name: &str, keys: Pairs<'_>, out: &mut String) -> Result<(), Reason> {
    let value = keys.filter(|(key, _)| *key == name.as_bytes()).last().map(|(_, value)| value);
    let value = value.ok_or_else(|| reason(format!("prefix: no transform gave the partition key `{name}`")))?;
    let unfit = |what: &str| reason(format!("prefix: the partition key `{name}` {what}"));
    let value = std::str::from_utf8(value).map_err(|_| unfit("is no UTF-8"))?;
    if value::push(out, value) { Ok(()) } else { Err(unfit("is an empty text")) }
}

/// 11 of `A-Z a-z 0-9`, as Firehose's.
fn push_random(out: &mut String, random: &Random) {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bits = u128::from(random.u64()) << 64 | u128::from(random.u64());
    for _ in 0..RANDOM_BYTES {
        out.push(char::from(ALPHABET[(bits % 62) as usize]));
        bits /= 62;
    }
}

/// A JSON number as it stands in names: digits as they are; of those with a point or exponent whole ones as whole
/// numbers, others in the shortest form that reads back. `None`: out of range.
pub fn number_text(number: &str) -> Option<Cow<'_, str>> {
    if number.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Some(Cow::Borrowed(if number == "-0" { "0" } else { number }));
    }
    let real = number.parse::<f64>().ok().filter(|real| real.is_finite())?;
    Some(Cow::Owned(match real.fract() == 0.0 && real.abs() < 9e15 {
        true => format!("{}", real as i64),
        false => format!("{real:?}"),
    }))
}

fn missing(found: Found<'_>) -> &'static str {
    match found {
        Found::Null => "is null",
        Found::Object => "is an object",
        Found::Array => "is an array",
        _ => "is missing",
    }
}

fn reason(message: String) -> Reason {
    Reason { by: RejectedBy::Prefix, code: CODE, message }
}

#[cfg(test)]
mod tests;
