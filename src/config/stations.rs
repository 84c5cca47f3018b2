//! Asks each station whether its options can run, and gives its answer the place in the file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::environment::is_reference;
use super::problem::{Place, Problems};
use super::schema_file;
use super::tree::Tree;
use crate::encode::schema::Origin;
use crate::encode::{self, FormatSpec};
use crate::error::Fault;
use crate::inputs::Reads;
use crate::naming::{
    self, DEFAULT_PREFIX, ErrorPrefix, GivenKeys, PartitionKeys, PartitionKeysOptions, Prefix, TemplateError, TimeZone,
};
use crate::sink::{self, Text};
use crate::source::{file, kafka};
use crate::transform::wasm::Modules;
use crate::transform::{self, Making, Transform, Wrong};

const SINK: &str = "sink.object_store";

/// Bytes of a file with a key for a store that are looked at for changes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Most transforms of a pipeline.
const TRANSFORMS_MAX: usize = 16;

/// The zone of both prefixes; UTC where none or a wrong one is written.
pub(super) fn time_zone(options: &sink::Options, tree: &Tree, problems: &mut Problems) -> TimeZone {
    let Some(name) = &options.time_zone else { return TimeZone::UTC };
    naming::time_zone(name).unwrap_or_else(|message| {
        problems.push(tree.place(&format!("{SINK}.time_zone")), message, None);
        TimeZone::UTC
    })
}

/// The prefix of objects.
pub(super) fn prefix(
    options: &sink::Options,
    zone: &TimeZone,
    transforms: &[transform::Options],
    tree: &Tree,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<Prefix> {
    let place = tree.place(&format!("{SINK}.prefix"));
    let keys = partition_keys(options.partition_keys.as_ref(), tree, problems)?;
    let keys = with_given(keys, transforms, tree, problems)?;
    match Prefix::parse(options.prefix.as_deref().unwrap_or(DEFAULT_PREFIX), zone, &keys) {
        Ok(prefix) => {
            warn(&place, prefix.warnings(), warnings);
            Some(prefix)
        }
        Err(error) => template_problem(&place, &format!("{SINK}.prefix"), error, problems),
    }
}

fn partition_keys(
    options: Option<&PartitionKeysOptions>,
    tree: &Tree,
    problems: &mut Problems,
) -> Option<PartitionKeys> {
    let Some(options) = options else { return Some(PartitionKeys::default()) };
    let way = format!("{SINK}.partition_keys");
    if let PartitionKeysOptions::Map(keys) = options {
        let mut wrong = false;
        for (name, path) in keys {
            let one = PartitionKeysOptions::Map(BTreeMap::from([(name.clone(), path.clone())]));
            if let Err(error) = PartitionKeys::new(&one) {
                wrong = true;
                let place = tree.place_of(&["sink", "object_store", "partition_keys", name]);
                let _: Option<()> = template_problem(&place, &way, error, problems);
            }
        }
        if wrong {
            return None;
        }
    }
    match PartitionKeys::new(options) {
        Ok(keys) => Some(keys),
        Err(error) => template_problem(&tree.place(&way), &way, error, problems),
    }
}

/// The same keys, and those that transforms give; a name can be declared in one place only.
fn with_given(
    keys: PartitionKeys,
    transforms: &[transform::Options],
    tree: &Tree,
    problems: &mut Problems,
) -> Option<PartitionKeys> {
    let (mut given, mut twice) = (GivenKeys::default(), false);
    for (number, options) in transforms.iter().enumerate() {
        // What stands in for a wrong one would give nothing.
        let sound = tree.is_sound(&["transforms", &number.to_string()]);
        let of_one = if sound {
            options.given_keys()
        } else {
            GivenKeys { any_queried: true, any: true, ..GivenKeys::default() }
        };
        for name in of_one.queried.iter().filter(|name| keys.get(name).is_some()) {
            twice = true;
            let place = tree.place_of_key(&["sink", "object_store", "partition_keys", name]);
            let other = tree.shown_way(&format!("transforms.{number}.{}", options.word()));
            let message = format!("`{SINK}.partition_keys`: `{other}` gives a partition key `{name}` too");
            problems.push(place, message, Some("declare it in one of them, or give one of them another name".into()));
        }
        given = given.and(of_one);
    }
    (!twice).then(|| keys.with_given(given))
}

/// The prefix of error objects.
pub(super) fn error_prefix(
    text: &str,
    zone: &TimeZone,
    tree: &Tree,
    problems: &mut Problems,
    warnings: &mut Problems,
) -> Option<ErrorPrefix> {
    let place = tree.place("errors.prefix");
    match ErrorPrefix::parse(text, zone) {
        Ok(prefix) => {
            warn(&place, prefix.warnings(), warnings);
            Some(prefix)
        }
        Err(error) => template_problem(&place, "errors.prefix", error, problems),
    }
}

fn template_problem<T>(place: &Place, way: &str, error: TemplateError, problems: &mut Problems) -> Option<T> {
    problems.push(place.at(error.offset, 1), format!("`{way}`: {}", error.message), error.hint);
    None
}

fn warn(place: &Place, texts: &[String], warnings: &mut Problems) {
    for text in texts {
        warnings.push(place.clone(), format!("warning: {text}"), None);
    }
}

/// Everything about the sink that can be known without asking it.
pub(super) fn sink(options: &sink::Options, tree: &Tree, reads: &Reads, problems: &mut Problems) {
    for path in options.key_files() {
        // The store reads it again, and says what is wrong with it.
        let _ = reads.read(path, KEY_FILE_BYTES_MAX);
    }
    let Err(error) = options.check() else { return };
    let place = match error.key.strip_prefix("options.") {
        Some(name) => tree.place_of_key(&["sink", "object_store", "options", name]),
        None => tree.place(&format!("{SINK}.{}", error.key)),
    };
    let message = without_secrets(&error.message, options, tree);
    let hint = error.hint.map(|hint| without_secrets(&hint, options, tree));
    problems.push(place, format!("`{SINK}.{}`: {message}", error.key), hint);
}

/// A message of a store without the values that are not to be shown: stores repeat what they do not understand.
fn without_secrets(message: &str, options: &sink::Options, tree: &Tree) -> String {
    let mut message = message.to_owned();
    for (name, Text(value)) in &options.options {
        let place = tree.place_of(&["sink", "object_store", "options", name]);
        let by_reference = tree.text_of(&["sink", "object_store", "options", name]).is_some_and(is_reference);
        if !value.is_empty() && (place.hidden() || by_reference) {
            message = message.replace(value, "***");
        }
    }
    message
}

/// The format, with its schema read if that lies in a file.
pub(super) fn format(
    options: &mut encode::Options,
    tree: &Tree,
    reads: &Reads,
    problems: &mut Problems,
) -> Option<FormatSpec> {
    let way = format!("format.{}", options.word());
    if let Some(columnar) = options.columnar()
        && let Origin::File(file) = columnar.schema.origin()
    {
        *columnar.schema = schema_file::read(file, &format!("{way}.schema.file"), tree, reads, problems)?;
    }
    let built = options.spec();
    built.map_err(|error| problems.push(tree.place(&way), format!("`{way}`: {error:#}"), None)).ok()
}

/// The transforms, made.
pub(super) fn transforms(
    pipeline: &str,
    options: &[transform::Options],
    (modules, reads): (&Modules, &Reads),
    tree: &Tree,
    problems: &mut Problems,
) -> Option<Vec<Arc<dyn Transform>>> {
    let folder = Path::new(&tree.written.path).parent().unwrap_or(Path::new(""));
    let making = Making { pipeline, folder, modules, reads };
    let mut made = Vec::with_capacity(options.len());
    if options.len() > TRANSFORMS_MAX {
        let message = format!("`transforms`: {} transforms are more than {TRANSFORMS_MAX}", options.len());
        problems.push(tree.place(&format!("transforms.{TRANSFORMS_MAX}")), message, None);
        return None;
    }
    for (number, options) in options.iter().enumerate() {
        let way = format!("transforms.{number}");
        if !tree.is_sound(&["transforms", &number.to_string()]) {
            continue;
        }
        match options.make(&making) {
            Ok(transform) => made.push(transform),
            Err(Wrong { key, offset, message, hint }) => {
                // Options that are one text have no keys.
                let text = tree.text_of(&["transforms", &number.to_string(), options.word()]);
                let way = [way.as_str(), options.word(), if text.is_some() { "" } else { key }].join(".");
                let way = way.trim_end_matches('.');
                let place = tree.place(way);
                let place = offset.map_or(place.clone(), |offset| place.at(offset, 1));
                problems.push(place, format!("`{}`: {message}", tree.shown_way(way)), hint);
            }
        }
    }
    (made.len() == options.len()).then_some(made)
}

/// The file source.
pub(super) fn file(options: &file::Options, tree: &Tree, problems: &mut Problems) {
    if let Err(Fault { error, .. }) = options.check() {
        problems.push(tree.place("source.file.path"), format!("{error:#}"), None);
    }
}

/// The Kafka source, with the files that it names.
pub(super) fn kafka(
    name: &str,
    options: &kafka::Options,
    tree: &Tree,
    reads: &Reads,
    problems: &mut Problems,
    warnings: &mut Problems,
) {
    const SOURCE: [&str; 2] = ["source", "kafka"];
    let files = options.tls.as_ref().and_then(kafka::security::Tls::files);
    for path in files.into_iter().flat_map(|files| [&files.ca, &files.certificate]).flatten() {
        // librdkafka reads it again, and says what is wrong with it.
        let _ = reads.read(Path::new(path), KEY_FILE_BYTES_MAX);
    }
    for flaw in options.check(name, Timestamp::now()) {
        let mut way: Vec<&str> = SOURCE.into_iter().chain(flaw.way.iter().map(String::as_str)).collect();
        // One text in place of a list has no index.
        if tree.text_of(&way[..3.min(way.len())]).is_some() {
            way.truncate(3);
        }
        let place = if flaw.of_key { tree.place_of_key(&way) } else { tree.place_of(&way) };
        let mut message = flaw.message;
        if let [.., "client", property] = way.as_slice()
            && let Some(Text(value)) = options.client.get(*property)
            && !value.is_empty()
            && tree.text_of(&way).is_some_and(is_reference)
        {
            message = message.replace(value, "***");
        }
        let shown = way.iter().fold(String::new(), |shown, step| match step.parse::<usize>() {
            Ok(index) => format!("{shown}[{index}]"),
            Err(_) if shown.is_empty() => (*step).to_owned(),
            Err(_) => format!("{shown}.{step}"),
        });
        match flaw.is_warning {
            true => warnings.push(place, format!("warning: `{shown}`: {message}"), flaw.hint),
            false => problems.push(place, format!("`{shown}`: {message}"), flaw.hint),
        }
    }
}
