//! Names: the only place where object names are made, and parsed back.
//!
//! ```text
//! dt=2026-11-20/country=de/clickstream-7f3a9c-0000000000000000-0000000000004096-p01.parquet
//! '------- prefix --------' '-pipeline-''shard-' '----- start ---' '----- end -----''part''ext-'
//! ```
//! The promise: a name says which range of which shard lies in the object, and a record (hostile or not) can only
//! choose among the prefixes that the template allows. It cannot leave them, make a name that a store refuses, or make
//! one that reads as another pipeline's object. That rests on four rules:
//!
//! - a record's value, or a partition key that a transform gave it, is encoded into a small alphabet without `/` and
//!   control characters and has at most [`VALUE_BYTES_MAX`] bytes;
//! - the file name, behind the last `/`, holds nothing that a record chose;
//! - no folder may look like an object's file name ([`is_file_name`]);
//! - the shard's id in the file name is unique for ever.

mod field;
mod moment;
mod prefix;
mod scan;
mod template;
mod time;
mod value;

use std::fmt;

use crate::position::{Position, Shard, ShardRange};

pub use field::{FieldPath, GivenKeys, PartitionKeys, PartitionKeysOptions};
pub use jiff::tz::TimeZone;
pub use prefix::{ErrorPrefix, Prefix, Scratch, number_text};
pub use value::VALUE_BYTES_MAX;

/// Prefix of a pipeline that names none: a Hive partition per day of arrival. (Firehose's is `yyyy/MM/dd/HH/`; query
/// engines find `dt=` by themselves, and a folder an hour is too many for most streams.)
pub const DEFAULT_PREFIX: &str = "dt={arrival:%Y-%m-%d}/";

/// Error prefix of a pipeline that names none.
pub const DEFAULT_ERROR_PREFIX: &str = "errors/{reason}/dt={arrival:%Y-%m-%d}/";

/// Longest prefix as written, in bytes (Firehose's limit).
pub const TEMPLATE_BYTES_MAX: usize = 1024;

/// Longest prefix as evaluated, in bytes (Firehose's limit).
pub const PREFIX_BYTES_MAX: usize = 512;

/// Longest folder name, in bytes: what Linux file systems take.
pub const FOLDER_BYTES_MAX: usize = 255;

/// Longest text between the last `/` of a prefix and the pipeline's name, in bytes, so that the file name fits.
pub const TAIL_BYTES_MAX: usize = 80;

/// Longest pipeline name, in bytes.
pub const PIPELINE_BYTES_MAX: usize = 64;

/// Longest extension with its dots, in bytes.
pub const EXTENSION_BYTES_MAX: usize = 32;

/// Digits that a position is padded to, so that a listing is in order (a longer one stays longer).
const POSITION_DIGITS: usize = 16;

/// hydrant's own folder in a sink, which readers pass over; no prefix leads there.
pub const OWN_FOLDER: &str = "_hydrant/";

/// What is wrong with a template, at which byte of it, and what to do, where that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset in the text that was parsed.
    pub offset: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl TemplateError {
    fn new(offset: usize, message: impl Into<String>) -> TemplateError {
        TemplateError { offset, message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> TemplateError {
        TemplateError { hint: Some(hint.into()), ..self }
    }

    /// The same error in a text in which the parsed one begins at `by`.
    fn shifted(self, by: usize) -> TemplateError {
        TemplateError { offset: self.offset + by, ..self }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.offset + 1, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TemplateError {}

/// A time zone by its IANA name (`UTC`, `Europe/Berlin`), from the data built into this binary.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("time zone `{name}` is not an IANA name such as `UTC` or `Europe/Berlin`"))
}

/// Whether a pipeline may have this name: 1 to [`PIPELINE_BYTES_MAX`] of `A-Z a-z 0-9 . _ -`, first a letter or digit.
pub fn is_pipeline_name(name: &str) -> bool {
    (1..=PIPELINE_BYTES_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// An object's name, in its parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectName {
    /// As [`Prefix::resolve`] gives it. Parsed back it ends behind the last `/`: a tail without `/` is taken for the
    /// beginning of the pipeline's name.
    pub prefix: String,
    pub pipeline: String,
    pub range: ShardRange,
    /// 0: the only or first object of its prefix in this chunk; not written.
    pub part: u32,
    /// As [`is_extension`] has it.
    pub extension: String,
}

impl ObjectName {
    /// Parses a name, from the right: the shard has no dash, the pipeline may. `None`: this is no name of ours.
    ///
    /// What is parsed prints as it was.
    pub fn parse(name: &str) -> Option<ObjectName> {
        let (prefix, file) = name.split_at(name.rfind('/').map_or(0, |slash| slash + 1));
        let (rest, last) = file.rsplit_once('-')?;
        let (last, extension) = last.split_at(last.find('.').unwrap_or(last.len()));
        let (rest, end, part) = match last.strip_prefix('p') {
            Some(part) => {
                let (rest, end) = rest.rsplit_once('-')?;
                (rest, end, part.parse().ok()?)
            }
            None => (rest, last, 0),
        };
        let (rest, start) = rest.rsplit_once('-')?;
        let (pipeline, shard) = rest.rsplit_once('-')?;
        let range =
            ShardRange { shard: Shard::new(shard)?, start: Position::parse(start)?, end: Position::parse(end)? };
        let parsed = ObjectName {
            prefix: prefix.to_string(),
            pipeline: pipeline.to_string(),
            range,
            part,
            extension: extension.to_string(),
        };
        (!pipeline.is_empty() && is_extension(extension) && parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_assert!(is_extension(&self.extension), "an extension as {} cannot be parsed back", self.extension);
        let ShardRange { shard, start, end } = &self.range;
        write!(f, "{}{}-{shard}-", self.prefix, self.pipeline)?;
        write!(f, "{:0>POSITION_DIGITS$}-{:0>POSITION_DIGITS$}", start.as_str(), end.as_str())?;
        if self.part > 0 {
            write!(f, "-p{:02}", self.part)?;
        }
        f.write_str(&self.extension)
    }
}

/// Whether a text reads as the file name of an object, so that a folder must not be called so.
pub fn is_file_name(text: &str) -> bool {
    text.len() > 2 * POSITION_DIGITS + 2 && !text.contains('/') && ObjectName::parse(text).is_some()
}

/// Whether an object's name may end so: with nothing, or with words of `a-z 0-9 _`, each behind a dot, of at most
/// [`EXTENSION_BYTES_MAX`] in all. No dash and no capital, as names are read from their end and compared as they are.
pub fn is_extension(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.is_empty()
        || (text.len() <= EXTENSION_BYTES_MAX
            && text.strip_prefix('.').is_some_and(|words| words.split('.').all(is_word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = ObjectName> {
        let position = prop_oneof!["[1-9][0-9]{0,15}", "[1-9][0-9]{15,60}", Just("0".to_string())];
        let prefix = prop_oneof![Just(String::new()), "([a-zé%=_.0-9-]{1,12}/){1,4}"];
        (
            prefix,
            "[A-Za-z0-9][A-Za-z0-9._-]{0,20}",
            "[a-z0-9]{1,64}",
            position.clone(),
            position,
            0..2000u32,
            "(\\.[a-z0-9_]{1,7}){0,3}",
        )
            .prop_map(|(prefix, pipeline, shard, start, end, part, extension)| ObjectName {
                prefix,
                pipeline,
                range: ShardRange {
                    shard: Shard::new(&shard).unwrap(),
                    start: Position::parse(&start).unwrap(),
                    end: Position::parse(&end).unwrap(),
                },
                part,
                extension,
            })
    }

    proptest! {
        #[test]
        fn every_name_is_parsed_back(name in name()) {
            prop_assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn whatever_parses_prints_as_it_was(text in "[a-c0/.p-]{0,12}-[a-z0-9]{1,3}-[01]{15,18}-[01]{15,18}(-p[0-9]{1,3})?(\\.[a-z]{1,3})?") {
            if let Some(name) = ObjectName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,80}") {
            if let Some(name) = ObjectName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn a_name_reads_as_the_range_it_holds() {
        let text = "dt=2026-11-20/click-stream-7f3a9c-0000000000000000-0000000000004096-p01.ndjson.gz";
        let name = ObjectName::parse(text).unwrap();
        assert_eq!(name.pipeline, "click-stream");
        assert_eq!(name.range.to_string(), "7f3a9c[0..4096)");
        assert_eq!((name.part, name.extension.as_str()), (1, ".ndjson.gz"));
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for foreign in [
            "",
            "x",
            "a/b/c.parquet",
            "p-7f-12-0000000000000013.parquet",                     // not padded
            "p-7f-00000000000000012-0000000000000013.parquet",      // padded too far
            "p-7F-0000000000000012-0000000000000013.parquet",       // a shard is lower case
            "-7f-0000000000000012-0000000000000013.parquet",        // no pipeline
            "p-7f-0000000000000012-0000000000000013-p00.parquet",   // part 0 is not written
            "p-7f-0000000000000012-0000000000000013.parquet#1",     // a staged leftover
            "p-7f-0000000000000012-0000000000000013.parquet/other", // a file in a folder of that name
        ] {
            assert_eq!(ObjectName::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_extension_is_words_behind_dots() {
        for right in ["", ".log", ".ndjson.gz", ".7z", ".my_log", &format!(".{}", "a".repeat(31))] {
            assert!(is_extension(right), "{right}");
        }
        for wrong in ["gz", ".", "..", ".a..b", ".a.", ".a/b", ".my-LOG", ".my-log", ".LOG", ".ä", &".a".repeat(17)] {
            assert!(!is_extension(wrong), "{wrong}");
        }
    }

    #[test]
    fn pipeline_names_are_plain() {
        assert!(is_pipeline_name("click-stream_2.v1"));
        for wrong in ["", "-a", ".a", "_a", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_pipeline_name(wrong), "{wrong}");
        }
    }
}
