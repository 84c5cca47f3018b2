//! Templates: from the text of a prefix to the parts that are filled in per record and per object.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;

use super::field::{FieldPath, PartitionKeys};
use super::scan::PATHS_MAX;
use super::time::{Grain, TimeFormat, TimePart};
use super::value::VALUE_BYTES_MAX;
use super::{FOLDER_BYTES_MAX, PREFIX_BYTES_MAX, TAIL_BYTES_MAX, TEMPLATE_BYTES_MAX, TemplateError, is_file_name};
use crate::nearest::nearest;

/// Bytes of a `!{firehose:random-string}`.
pub const RANDOM_BYTES: usize = 11;

/// Longest name of a reason, in bytes: `metadata-extraction-failed`.
const REASON_BYTES_MAX: usize = 26;

/// Which of the two prefixes: what only one of them may hold is refused in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Records,
    Errors,
}

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    /// The value of field number n.
    Value(usize),
    /// The partition key of this name, which a transform gives; of several the last one counts.
    Given(String),
    /// The time in field number n.
    Event(usize, TimeFormat),
    /// The record's time of arrival.
    Arrival(TimeFormat),
    Reason,
    /// The arrival of the oldest record of the object.
    Oldest(TimeFormat),
    Random,
}

impl Part {
    /// Whether it is filled in when the object is opened, not for each record.
    pub fn is_of_object(&self) -> bool {
        matches!(self, Part::Oldest(_) | Part::Random)
    }

    fn bytes_max(&self) -> usize {
        match self {
            Part::Literal(text) => text.len(),
            Part::Value(_) | Part::Given(_) => VALUE_BYTES_MAX,
            Part::Event(_, format) | Part::Arrival(format) | Part::Oldest(format) => format.bytes_max(),
            Part::Reason => REASON_BYTES_MAX,
            Part::Random => RANDOM_BYTES,
        }
    }
}

/// A template, checked.
#[derive(Debug, Clone)]
pub struct Template {
    /// Tells templates apart, so that what was remembered for one is not used for another.
    pub id: u64,
    pub parts: Vec<Part>,
    pub fields: Vec<FieldPath>,
    pub zone: TimeZone,
    /// The most bytes that the parts of the object take.
    pub object_bytes_max: usize,
    pub warnings: Vec<String>,
}

impl Template {
    pub fn parse(text: &str, zone: &TimeZone, keys: &PartitionKeys, kind: Kind) -> Result<Template, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let message = format!("the prefix has {} bytes; at most {TEMPLATE_BYTES_MAX} are allowed", text.len());
            return Err(TemplateError::new(0, message));
        }
        let mut reader =
            Reader { keys, kind, parts: Vec::new(), fields: Vec::new(), outline: Vec::new(), grain: Grain::Day };
        reader.read(text)?;
        let Reader { parts, fields, outline, grain, .. } = reader;
        check_outline(&outline)?;
        check_lengths(&parts, kind)?;
        let object_bytes_max = parts.iter().filter(|part| part.is_of_object()).map(Part::bytes_max).sum();
        let mut warnings = Vec::new();
        if grain > Grain::Hour {
            warnings
                .push(format!("prefix `{text}`: a time part finer than an hour makes many folders and small objects"));
        }
        if outline.iter().any(|&(_, c)| c == ':') {
            warnings.push(format!("prefix `{text}`: Hadoop and Spark cannot read names with `:`"));
        }
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Template { id, parts, fields, zone: zone.clone(), object_bytes_max, warnings })
    }
}

/// What stands in the outline for text that a record chooses.
const CHOSEN: char = '\u{1}';

struct Reader<'a> {
    keys: &'a PartitionKeys,
    kind: Kind,
    parts: Vec<Part>,
    fields: Vec<FieldPath>,
    /// The shape of the evaluated prefix: each character with its offset in the template.
    outline: Vec<(usize, char)>,
    /// The finest time that a record chooses.
    grain: Grain,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) -> Result<(), TemplateError> {
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            let rest = &text[at..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                self.literal(at, c);
                at += 2;
            } else if rest.starts_with("!{") {
                let inner = closed(rest, 2, '\'').ok_or_else(|| unclosed(at))?;
                self.firehose(inner, at, at + 2)?;
                at += 2 + inner.len() + 1;
            } else if c == '{' {
                let inner = closed(rest, 1, '"').ok_or_else(|| unclosed(at))?;
                self.field(inner, at, at + 1)?;
                at += 1 + inner.len() + 1;
            } else if c == '}' {
                return Err(TemplateError::new(at, "`}` without `{`").hint("write `}}` for a brace that stays"));
            } else {
                self.literal(at, c);
                at += c.len_utf8();
            }
        }
        Ok(())
    }

    /// `{field}`, `{field:%Y}`, `{arrival:%Y}`, `{reason}`; `offset` is the brace's, `base` that of `inner`.
    fn field(&mut self, inner: &str, offset: usize, base: usize) -> Result<(), TemplateError> {
        let colon = colon(inner);
        let (name, pattern) = (inner[..colon].trim(), inner.get(colon + 1..));
        let format = pattern.map(TimeFormat::strftime).transpose().map_err(|error| error.shifted(base + colon + 1))?;
        if pattern == Some("") {
            return Err(TemplateError::new(
                base + colon,
                format!("`{{{name}:}}` needs a time pattern such as `%Y-%m-%d`"),
            ));
        }
        match (name, format, self.kind) {
            ("", _, _) => {
                Err(TemplateError::new(offset, "`{}` needs the name of a field")
                    .hint("write `{{` for a brace that stays"))
            }
            ("arrival", Some(format), _) => {
                self.time(offset, &format, true);
                self.parts.push(Part::Arrival(format));
                Ok(())
            }
            ("arrival", None, _) => Err(TemplateError::new(offset, "`{arrival}` needs a time pattern")
                .hint("`{arrival:%Y-%m-%d}` is the time of arrival; a field of that name is `{.arrival}`")),
            ("reason", None, Kind::Errors) => {
                self.parts.push(Part::Reason);
                self.outline.push((offset, 'x'));
                Ok(())
            }
            ("reason", None, Kind::Records) => {
                Err(TemplateError::new(offset, "`{reason}` is only known in the error prefix")
                    .hint("a field of that name is `{.reason}`"))
            }
            (_, _, Kind::Errors) => {
                Err(TemplateError::new(offset, format!("`{{{name}}}`: fields cannot be used in the error prefix"))
                    .hint("a record that is set aside may hold no fields; use `{reason}` and `{arrival:%Y-%m-%d}`"))
            }
            (_, format, Kind::Records) => {
                let path = FieldPath::plain(name).map_err(|error| error.shifted(base))?;
                let field = self.field_number(path, offset)?;
                match format {
                    Some(format) => {
                        self.time(offset, &format, true);
                        self.parts.push(Part::Event(field, format));
                    }
                    None => {
                        self.outline.push((offset, CHOSEN));
                        self.parts.push(Part::Value(field));
                    }
                }
                Ok(())
            }
        }
    }

    /// Firehose's `!{namespace:argument}`.
    fn firehose(&mut self, inner: &str, offset: usize, base: usize) -> Result<(), TemplateError> {
        let (namespace, argument) = inner.split_once(':').unwrap_or((inner, ""));
        let wrong = |message: String| TemplateError::new(offset, message);
        match (namespace, argument, self.kind) {
            ("timestamp", "", _) => Err(wrong("`!{timestamp:}` needs a pattern such as yyyy/MM/dd".into())),
            ("timestamp", pattern, _) => {
                let format = TimeFormat::java(pattern).map_err(|error| error.shifted(base + "timestamp:".len()))?;
                self.time(offset, &format, false);
                self.parts.push(Part::Oldest(format));
                Ok(())
            }
            ("firehose", "random-string", _) => {
                self.parts.push(Part::Random);
                self.outline.push((offset, 'x'));
                Ok(())
            }
            ("firehose", "error-output-type", Kind::Errors) => {
                self.parts.push(Part::Reason);
                self.outline.push((offset, 'x'));
                Ok(())
            }
            ("firehose", "error-output-type", Kind::Records) => {
                Err(wrong("`!{firehose:error-output-type}` is only known in the error prefix".into()))
            }
            ("partitionKey" | "partitionKeyFromQuery" | "partitionKeyFromLambda", _, Kind::Errors) => {
                Err(wrong("partition keys cannot be used in the error prefix".into()))
            }
            ("partitionKey" | "partitionKeyFromQuery" | "partitionKeyFromLambda", "", Kind::Records) => {
                Err(wrong("a partition key needs a name".into()))
            }
            (
                namespace @ ("partitionKey" | "partitionKeyFromQuery" | "partitionKeyFromLambda"),
                name,
                Kind::Records,
            ) => self.key(namespace, name, offset),
            _ => Err(wrong(format!("unknown expression `!{{{inner}}}`")).hint(
                "known are `timestamp:`, `firehose:random-string`, `firehose:error-output-type`, `partitionKey:`, \
                 `partitionKeyFromQuery:` and `partitionKeyFromLambda:`",
            )),
        }
    }

    /// A partition key: the value at its path, or what a transform gives.
    fn key(&mut self, namespace: &str, name: &str, offset: usize) -> Result<(), TemplateError> {
        let given = self.keys.given();
        let (by_query, by_function) = (namespace != "partitionKeyFromLambda", namespace != "partitionKeyFromQuery");
        match self.keys.get(name).filter(|_| by_query) {
            Some(path) => {
                let field = self.field_number(path.clone(), offset)?;
                self.parts.push(Part::Value(field));
            }
            None if (by_query && given.by_query(name)) || (by_function && given.any) => {
                self.parts.push(Part::Given(name.to_owned()));
            }
            None => return Err(undeclared(self.keys, namespace, name, offset)),
        }
        self.outline.push((offset, CHOSEN));
        Ok(())
    }

    fn field_number(&mut self, path: FieldPath, offset: usize) -> Result<usize, TemplateError> {
        if let Some(known) = self.fields.iter().position(|field| *field == path) {
            return Ok(known);
        }
        if self.fields.len() == PATHS_MAX {
            return Err(TemplateError::new(offset, format!("the prefix uses more than {PATHS_MAX} fields")));
        }
        self.fields.push(path);
        Ok(self.fields.len() - 1)
    }

    fn literal(&mut self, offset: usize, c: char) {
        self.outline.push((offset, c));
        match self.parts.last_mut() {
            Some(Part::Literal(text)) => text.push(c),
            _ => self.parts.push(Part::Literal(c.to_string())),
        }
    }

    fn time(&mut self, offset: usize, format: &TimeFormat, per_record: bool) {
        for part in format.parts() {
            match part {
                TimePart::Literal(_, text) => self.outline.extend(text.chars().map(|c| (offset, c))),
                _ => self.outline.push((offset, '0')),
            }
        }
        if per_record {
            self.grain = self.grain.max(format.grain());
        }
    }
}

fn undeclared(keys: &PartitionKeys, namespace: &str, name: &str, offset: usize) -> TemplateError {
    let declared = keys.get(name).is_some() || keys.given().by_query(name);
    if namespace == "partitionKeyFromLambda" {
        let error =
            TemplateError::new(offset, format!("no `lambda` or `wasm` transform can give partition key `{name}`"));
        return match declared {
            true => error.hint(format!("this one comes from a query: `!{{partitionKeyFromQuery:{name}}}`")),
            false => error.hint("add one to `transforms`"),
        };
    }
    let known = keys.all_names();
    let error = TemplateError::new(offset, format!("partition key `{name}` is not declared"));
    let near = nearest(name, known.iter().copied());
    error.hint(match (near, known.as_slice()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) if keys.given().any => {
            format!("what a `lambda` or `wasm` transform gives is `!{{partitionKey:{name}}}`")
        }
        (None, []) => {
            format!("declare it: `partition_keys: {{ {name}: \".{name}\" }}`, or add a transform that gives it")
        }
        (None, known) => format!("declared are {}", known.join(", ")),
    })
}

/// What lies between `from` and the closing brace, which does not count within `quote`s.
fn closed(text: &str, from: usize, quote: char) -> Option<&str> {
    let mut in_quotes = false;
    let end = text[from..].find(|c: char| {
        in_quotes ^= c == quote;
        c == '}' && !in_quotes
    })?;
    Some(&text[from..from + end])
}

fn unclosed(offset: usize) -> TemplateError {
    TemplateError::new(offset, "the brace is not closed").hint("write `{{` for a brace that stays")
}

/// The first colon outside of double quotes, or the end.
fn colon(text: &str) -> usize {
    let mut in_quotes = false;
    let found = text.find(|c: char| {
        in_quotes ^= c == '"';
        c == ':' && !in_quotes
    });
    found.unwrap_or(text.len())
}

/// What no value of a record can change: the shape must be that of a relative path whose tail no record chooses.
fn check_outline(outline: &[(usize, char)]) -> Result<(), TemplateError> {
    let mut folders = outline.split(|&(_, c)| c == '/').peekable();
    let mut at = 0;
    while let Some(folder) = folders.next() {
        let is_tail = folders.peek().is_none();
        let offset = outline.get(at).or(outline.last()).map_or(0, |&(offset, _)| offset);
        let text: String = folder.iter().map(|&(_, c)| c).collect();
        if let Some(&(offset, c)) = folder.iter().find(|&&(_, c)| c != CHOSEN && (c.is_control() || c == '\\')) {
            return Err(TemplateError::new(offset, format!("{c:?} cannot stand in a name")));
        }
        match text.as_str() {
            "" if at == 0 && !is_tail => {
                return Err(TemplateError::new(0, "the prefix begins with `/`")
                    .hint("names begin below the sink's url: leave the first `/` out"));
            }
            "" if !is_tail => return Err(TemplateError::new(offset, "`//` makes a folder without a name")),
            "." | ".." => return Err(TemplateError::new(offset, format!("`{text}` cannot be a folder of a name"))),
            "_hydrant" if at == 0 => return Err(TemplateError::new(0, "`_hydrant` is hydrant's own folder")),
            _ if is_file_name(&text) => {
                return Err(TemplateError::new(offset, format!("`{text}` reads as the name of an object")));
            }
            _ if is_tail && text.contains(CHOSEN) => {
                let offset = folder.iter().find(|&&(_, c)| c == CHOSEN).map_or(offset, |&(offset, _)| offset);
                let error = TemplateError::new(offset, "a field's value may not reach into the file name");
                return Err(error.hint("end the prefix with `/`"));
            }
            _ => {}
        }
        at += folder.len() + 1;
    }
    Ok(())
}

/// That a prefix fits if its records' values do.
fn check_lengths(parts: &[Part], kind: Kind) -> Result<(), TemplateError> {
    let values_count = kind == Kind::Errors;
    let (mut all, mut folder, mut longest) = (0, 0, 0);
    for part in parts {
        match part {
            Part::Value(_) | Part::Given(_) if !values_count => {}
            Part::Literal(text) => {
                all += text.len();
                let mut pieces = text.split('/');
                folder += pieces.next().map_or(0, str::len);
                longest = longest.max(folder);
                for piece in pieces {
                    folder = piece.len();
                    longest = longest.max(folder);
                }
            }
            part => {
                all += part.bytes_max();
                folder += part.bytes_max();
                longest = longest.max(folder);
            }
        }
    }
    if all > PREFIX_BYTES_MAX {
        return Err(TemplateError::new(
            0,
            format!("the prefix can become {all} bytes long; at most {PREFIX_BYTES_MAX} are allowed"),
        ));
    }
    if longest > FOLDER_BYTES_MAX {
        let message =
            format!("a folder of the prefix can become {longest} bytes long; at most {FOLDER_BYTES_MAX} are allowed");
        return Err(TemplateError::new(0, message));
    }
    if folder > TAIL_BYTES_MAX {
        let message = format!("{folder} bytes behind the last `/` of the prefix; at most {TAIL_BYTES_MAX} are allowed");
        return Err(TemplateError::new(0, message).hint("end the prefix with `/`"));
    }
    Ok(())
}
