//! Where in a record a value lies: paths as jq writes them, and Firehose's partition keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::TemplateError;

/// Most steps of one path.
const STEPS_MAX: usize = 32;

/// Most partition keys (Firehose's limit).
const KEYS_MAX: usize = 50;

/// What richer jq needs.
const RICHER: &str =
    "only paths can be used here, such as `.a.b`, `.\"quoted key\"` or `.a[0]`; compute other values in a transform";

/// A path into a JSON record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl FieldPath {
    /// A path as jq writes it: `.a.b`, `."quoted key"`, `.a[0]`, `.["key"]`.
    pub fn jq(text: &str) -> Result<FieldPath, TemplateError> {
        if !text.trim_start().starts_with('.') {
            let error = TemplateError::new(0, format!("expected a path that begins with `.`, found `{}`", short(text)));
            return Err(error.hint(RICHER));
        }
        FieldPath::parse(text, |c| c.is_ascii_alphanumeric() || c == '_')
    }

    /// A path as it stands in `{...}`: the first dot may be left out, and keys may hold more characters.
    pub fn plain(text: &str) -> Result<FieldPath, TemplateError> {
        FieldPath::parse(text, |c| !(c.is_whitespace() || c.is_control() || ".[]{}()\"':|%,!".contains(c)))
    }

    /// The steps, at least one.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn parse(text: &str, in_key: impl Fn(char) -> bool) -> Result<FieldPath, TemplateError> {
        let trimmed = text.trim();
        let base = text.len() - text.trim_start().len();
        let mut steps = Vec::new();
        let mut at = usize::from(trimmed.starts_with('.'));
        loop {
            let rest = &trimmed[at..];
            let wrong = |message: String| TemplateError::new(base + at, message).hint(RICHER);
            if steps.len() == STEPS_MAX {
                return Err(wrong(format!("the path has more than {STEPS_MAX} steps")));
            }
            let (step, length) = if rest.starts_with('[') {
                bracketed(rest)
                    .ok_or_else(|| wrong(format!("expected `[0]` or `[\"key\"]`, found `{}`", short(rest))))?
            } else if rest.starts_with('"') {
                let (key, length) = quoted(rest).ok_or_else(|| wrong("the quoted key is not closed".into()))?;
                (Step::Key(key), length)
            } else {
                let length = rest.find(|c| !in_key(c)).unwrap_or(rest.len());
                if length == 0 {
                    return Err(wrong(match rest {
                        "" => "the path ends where a key is expected".into(),
                        _ => format!("expected a key, found `{}`", short(rest)),
                    }));
                }
                (Step::Key(rest[..length].to_string()), length)
            };
            steps.push(step);
            at += length;
            match trimmed.as_bytes().get(at) {
                None => return Ok(FieldPath { steps }),
                Some(b'.') => at += 1,
                Some(b'[') => {}
                Some(_) => {
                    let error =
                        TemplateError::new(base + at, format!("unexpected `{}` in a path", short(&trimmed[at..])));
                    return Err(error.hint(RICHER));
                }
            }
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let dot = if index > 0 { "." } else { "" };
            match step {
                Step::Key(key) if key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) => {
                    write!(f, "{dot}{key}")?
                }
                Step::Key(key) => write!(f, "{dot}{key:?}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// `[0]` or `["key"]`, and its length.
fn bracketed(text: &str) -> Option<(Step, usize)> {
    let inner = text.strip_prefix('[')?;
    if inner.starts_with('"') {
        let (key, length) = quoted(inner)?;
        return inner[length..].starts_with(']').then_some((Step::Key(key), length + 2));
    }
    let (digits, _) = inner.split_once(']')?;
    let index = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some((Step::Index(index), digits.len() + 2))
}

/// A JSON string at the beginning of `text`, and its length.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let key = strings.next()?.ok()?;
    Some((key, strings.byte_offset()))
}

fn short(text: &str) -> &str {
    &text[..text.char_indices().nth(24).map_or(text.len(), |(at, _)| at)]
}

/// Partition keys as written: a map of names to paths, or Firehose's whole `MetadataExtractionQuery`.
#[derive(Debug, Clone, PartialEq)]
pub enum PartitionKeysOptions {
    Map(BTreeMap<String, String>),
    Query(String),
}

impl JsonSchema for PartitionKeysOptions {
    fn schema_name() -> Cow<'static, str> {
        "PartitionKeys".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "object", "additionalProperties": { "type": "string" } },
            { "type": "string" }
        ] })
    }
}

impl<'de> Deserialize<'de> for PartitionKeysOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PartitionKeysOptions, D::Error> {
        struct MapOrQuery;
        impl<'de> Visitor<'de> for MapOrQuery {
            type Value = PartitionKeysOptions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to paths such as `customer: .customer_id`, or a query as Firehose has it")
            }

            fn visit_str<E>(self, query: &str) -> Result<PartitionKeysOptions, E> {
                Ok(PartitionKeysOptions::Query(query.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PartitionKeysOptions, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(PartitionKeysOptions::Map)
            }
        }
        deserializer.deserialize_any(MapOrQuery)
    }
}

/// The partition keys that transforms give records, as far as that is known without records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenKeys {
    /// Names that queries (`metadata_extraction`) are known to give.
    pub queried: Vec<String>,
    /// Whether a query gives names that its text does not tell.
    pub any_queried: bool,
    /// Whether there is a transform (`wasm`, `lambda`) that may give any.
    pub any: bool,
}

impl GivenKeys {
    /// Those of both.
    pub fn and(mut self, other: GivenKeys) -> GivenKeys {
        self.queried.extend(other.queried);
        GivenKeys { any_queried: self.any_queried || other.any_queried, any: self.any || other.any, ..self }
    }

    /// Whether a query gives a key of this name, as far as that is known.
    pub fn by_query(&self, name: &str) -> bool {
        self.any_queried || self.queried.iter().any(|queried| queried == name)
    }
}

/// The partition keys that a prefix can name: those of paths, and those that transforms give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionKeys {
    keys: BTreeMap<String, FieldPath>,
    given: GivenKeys,
}

impl PartitionKeys {
    /// The same, and those that transforms give.
    pub fn with_given(self, given: GivenKeys) -> PartitionKeys {
        PartitionKeys { given, ..self }
    }

    /// Those that transforms give.
    pub fn given(&self) -> &GivenKeys {
        &self.given
    }

    /// The keys as they will be used. An error's offset counts in the path or query at fault.
    pub fn new(options: &PartitionKeysOptions) -> Result<PartitionKeys, TemplateError> {
        let keys = match options {
            PartitionKeysOptions::Query(query) => PartitionKeys::query(query)?,
            PartitionKeysOptions::Map(map) => {
                let mut keys = BTreeMap::new();
                for (name, path) in map {
                    let path = FieldPath::jq(path).map_err(|error| TemplateError {
                        message: format!("partition key `{name}`: {}", error.message),
                        ..error
                    })?;
                    keys.insert(name.clone(), path);
                }
                keys
            }
        };
        match keys.len() {
            0..=KEYS_MAX => Ok(PartitionKeys { keys, given: GivenKeys::default() }),
            many => Err(TemplateError::new(0, format!("{many} partition keys are more than {KEYS_MAX}"))),
        }
    }

    /// The path of a key.
    pub fn get(&self, name: &str) -> Option<&FieldPath> {
        self.keys.get(name)
    }

    /// The names that have paths, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// All names that are known, sorted.
    pub fn all_names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.names().chain(self.given.queried.iter().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// `{customer_id:.customer_id, "t": .type.device}`
    fn query(text: &str) -> Result<BTreeMap<String, FieldPath>, TemplateError> {
        let trimmed = text.trim();
        let wrong = |offset, message: String| TemplateError::new(offset, message).hint(RICHER);
        let inner = trimmed
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or_else(|| wrong(0, "expected `{name: .path, ...}`".into()))?;
        let mut base = text.len() - text.trim_start().len() + 1;
        let mut keys = BTreeMap::new();
        for pair in split_outside_quotes(inner, b',') {
            let colon = split_outside_quotes(pair, b':').next().map_or(0, str::len);
            let (name, path) = pair.split_at(colon);
            let path = path
                .strip_prefix(':')
                .ok_or_else(|| wrong(base, format!("expected `name: .path`, found `{}`", short(pair.trim()))))?;
            let name = match quoted(name.trim()) {
                Some((name, _)) => name,
                None => name.trim().to_string(),
            };
            if name.is_empty() || name.contains(['{', '}', ':', '(', ')', '"']) {
                return Err(wrong(base, format!("`{}` is not a name of a partition key", short(&name))));
            }
            let path = FieldPath::jq(path).map_err(|error| error.shifted(base + colon + 1))?;
            if keys.insert(name.clone(), path).is_some() {
                return Err(wrong(base, format!("partition key `{name}` is there twice")));
            }
            base += pair.len() + 1;
        }
        Ok(keys)
    }
}

/// Splits at `separator` where it is not within a quoted string.
fn split_outside_quotes(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut in_quotes, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_quotes => escaped = true,
            '"' => in_quotes = !in_quotes,
            _ => return !in_quotes && c == char::from(separator),
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<PartitionKeys, TemplateError> {
        PartitionKeys::new(&PartitionKeysOptions::Query(text.into()))
    }

    #[test]
    fn paths_are_read_as_jq_reads_them() {
        let key = |key: &str| Step::Key(key.into());
        assert_eq!(FieldPath::jq(".a.b").unwrap().steps(), [key("a"), key("b")]);
        assert_eq!(FieldPath::jq(" .\"x.y\".b[10] ").unwrap().steps(), [key("x.y"), key("b"), Step::Index(10)]);
        assert_eq!(FieldPath::jq(".[\"a b\"]").unwrap().steps(), [key("a b")]);
        assert_eq!(FieldPath::plain("a.b-c.d[0].e").unwrap().to_string(), "a.b-c.d[0].e");
        assert_eq!(FieldPath::plain(".arrival").unwrap().steps(), [key("arrival")]);
        assert_eq!(FieldPath::jq(".\"x.y\"").unwrap().to_string(), "\"x.y\"");
    }

    #[test]
    fn richer_jq_is_refused_and_says_where() {
        for (text, offset) in [
            ("a", 0),
            (".", 1),
            (".a.", 3),
            (".a|.b", 2),
            (".a // \"x\"", 2),
            (".a-b", 2),
            (".a[-1]", 2),
            (".a[]", 2),
            ("(.ts|strftime(\"%Y\"))", 0),
            (".a?", 2),
            (".\"a", 1),
        ] {
            let error = FieldPath::jq(text).unwrap_err();
            assert_eq!(error.offset, offset, "{text}: {error}");
            assert!(error.hint.unwrap().contains("transform"), "{text}");
        }
    }

    #[test]
    fn a_firehose_query_moves_over_unchanged() {
        let keys = query("{customer_id:.customer_id, \"t\" : .type.device,\n x:.\"a,b:c\"}").unwrap();
        assert_eq!(keys.names().collect::<Vec<_>>(), ["customer_id", "t", "x"]);
        assert_eq!(keys.get("t").unwrap().to_string(), "type.device");
        assert_eq!(keys.get("x").unwrap().steps(), [Step::Key("a,b:c".into())]);
        for (wrong, offset) in
            [("customer:.x", 0), ("{a}", 1), ("{a:.b,a:.c}", 6), ("{a:.b|tostring}", 5), ("{}", 1), ("{a:(.b)}", 3)]
        {
            assert_eq!(query(wrong).unwrap_err().offset, offset, "{wrong}");
        }
    }
}
