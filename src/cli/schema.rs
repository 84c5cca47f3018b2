//! `hydrant schema`: a schema of records to be pasted into a pipeline, and the schema of pipelines for editors.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Exit, complain, say};
use crate::config;
use crate::encode::schema::file::{self, FILE_BYTES_MAX};
use crate::encode::schema::infer::{self, SAMPLE_BYTES_MAX, SAMPLE_RECORDS_MAX};
use crate::encode::schema::{Column, Schema};
use crate::record::of_line;

/// Arguments of `hydrant schema`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Infer a schema from records, one JSON object per line
    #[command(after_help = "Looks at the first 100,000 records, or 16 MiB.\n\n\
                            Example:\n  hydrant schema infer records.ndjson >> pipelines/clickstream.yaml")]
    Infer {
        /// A file of records; `-` is standard input
        #[arg(value_name = "RECORDS")]
        records: PathBuf,
    },
    /// Print the JSON Schema of pipeline files, for editors: it completes and checks them while they are written
    #[command(after_help = "VS Code with its YAML extension, in .vscode/settings.json:\n  \
                            \"yaml.schemas\": { \"pipeline.schema.json\": \"pipelines/*.yaml\" }\n\
                            Any editor with yaml-language-server, in the first line of a pipeline:\n  \
                            # yaml-language-server: $schema=../docs/pipeline.schema.json\n\n\
                            Example:\n  hydrant schema json-schema > pipeline.schema.json")]
    JsonSchema {
        /// That of `hydrant.yaml` instead
        #[arg(long, conflicts_with = "tests")]
        settings: bool,
        /// That of `NAME.test.yaml`, the cases of `hydrant test`, instead
        #[arg(long)]
        tests: bool,
    },
    /// Show what a schema file (Parquet message text, JSON Schema, Avro, Glue table) means
    #[command(after_help = "Example:\n  hydrant schema show events.avsc")]
    Show {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Prints the schema, or what is wrong, to standard error.
pub fn schema(arguments: Arguments) -> Exit {
    let (schema, path) = match &arguments.command {
        Command::Infer { records } => (inferred(records), records),
        Command::Show { file } => (read(file), file),
        Command::JsonSchema { settings, tests } => {
            let schema = match (settings, tests) {
                (true, _) => config::settings_schema(),
                (_, true) => super::test::cases_schema(),
                _ => config::pipeline_schema(),
            };
            say(format_args!("{schema:#}"));
            return Exit::Done;
        }
    };
    match schema {
        Ok(schema) => {
            say(yaml(&schema).trim_end());
            Exit::Done
        }
        Err((exit, wrong)) => {
            complain(format_args!("{}: {wrong}", path.display()));
            exit
        }
    }
}

fn inferred(records: &Path) -> Result<Schema, (Exit, String)> {
    let failed = |error: io::Error| (Exit::Failed, error.to_string());
    let lines: Box<dyn BufRead> = match records == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(records).map_err(failed)?)),
    };
    let mut sample = Vec::new();
    // A line that the limit cuts in the middle is not looked at.
    lines.take(SAMPLE_BYTES_MAX as u64).read_to_end(&mut sample).map_err(failed)?;
    let whole =
        if sample.len() < SAMPLE_BYTES_MAX { sample.len() } else { memchr::memrchr(b'\n', &sample).unwrap_or(0) };
    let lines = sample[..whole].split(|byte| *byte == b'\n').filter_map(of_line).take(SAMPLE_RECORDS_MAX as usize);
    infer::of_records(lines).map_err(|wrong| (Exit::Config, wrong))
}

fn read(path: &Path) -> Result<Schema, (Exit, String)> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| (Exit::Failed, error.to_string()))?;
    if text.len() > FILE_BYTES_MAX {
        return Err((Exit::Config, format!("the file is longer than {FILE_BYTES_MAX} bytes")));
    }
    file::read(&text).map_err(|wrongs| {
        let words = wrongs.into_iter().map(|wrong| {
            let line = text[..wrong.span.start].matches('\n').count() + 1;
            let hint = wrong.hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            format!("line {line}: {}{hint}", wrong.message)
        });
        (Exit::Config, words.collect::<Vec<_>>().join("\n"))
    })
}

/// The schema as YAML.
fn yaml(schema: &Schema) -> String {
    let mut text = "schema:\n".to_owned();
    for column in schema.columns() {
        let Column { name, key, data, .. } = column;
        let (name, data) = (plain(name), plain(&data.to_string()));
        let _ = match key {
            Some(key) => {
                writeln!(text, "  {name}: {{ type: {}, key: {} }}", json!(column.data.to_string()), json!(key))
            }
            None => writeln!(text, "  {name}: {data}"),
        };
    }
    text
}

/// A text as YAML reads it back, in quotes where it needs them.
fn plain(text: &str) -> String {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let fits =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '<' | '>' | '(' | ')' | ',' | ':' | ' ');
    match starts && text.chars().all(fits) && !text.contains(": ") && !text.ends_with([':', ' ']) {
        true => text.to_owned(),
        false => json!(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted() {
        let columns = [
            ("id", "int64"),
            ("at", "timestamp(us) not null"),
            ("no: such # key", "string"),
            ("é", "struct<a:int32, \"x: y\":list<string>>"),
            ("ctx", "struct<a:int32, b:map<string,float64>>"),
            ("- x", "timestamp(ms, Europe/Berlin)"),
        ];
        let mut columns: Vec<_> = columns.iter().map(|(name, text)| Column::new(name, text).unwrap()).collect();
        columns[0].key = Some("the \"id\"".into());
        let schema = Schema::new(columns).unwrap();
        let read: std::collections::BTreeMap<String, Schema> = serde_saphyr::from_str(&yaml(&schema)).unwrap();
        assert_eq!(read["schema"], schema);
        assert!(yaml(&schema).contains("\n  ctx: struct<a:int32, b:map<string,float64>>\n"));
    }
}
