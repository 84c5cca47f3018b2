//! The versions of an inferred schema on the disk: `v1.json`, `v2.json`, .. in the state folder of the pipeline.
//!
//! The promise: a version is durable before the first byte is encoded with it, and is never written again. `columns` is
//! what can be pasted into the pipeline file as `schema`, since YAML reads JSON.
//!
//! ```json
//! {
//!   "format": 1,
//!   "version": 2,
//!   "changed": ["new column user_id: int64"],
//!   "columns": {
//!     "id": "int64",
//!     "user_id": {"key":"user-id","type":"int64"}
//!   }
//! }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::disk::{self, Disk, born_whole};
use crate::encode::schema::{Column, Schema};

/// The format of these files.
const FORMAT: u32 = 1;

/// The largest file. Twice [`super::TEXT_BYTES_MAX`], if all of it is escaped, and what changed, stay below.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of what is told of the changes; further ones are left out.
const CHANGED_BYTES_MAX: usize = 1 << 20;

/// The folder of the versions of one pipeline's schema.
pub struct Versions {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: u32,
    version: u32,
    #[serde(rename = "changed")]
    _changed: Vec<String>,
    columns: Schema,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Versions {
    /// Opens the folder, which is made if need be, and reads the newest version. An error names the file that cannot be
    /// read or was written by a newer hydrant. Blocking.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> anyhow::Result<(Versions, Option<(u32, Schema)>)> {
        disk.create_dir(dir).with_context(|| dir.display().to_string())?;
        let files = disk.list(dir).with_context(|| dir.display().to_string())?;
        let mut newest = None;
        for (name, bytes) in files {
            if name.starts_with("tmp-") {
                disk.remove(&dir.join(&name))?;
            }
            let version = name.strip_prefix('v').and_then(|rest| rest.strip_suffix(".json")?.parse::<u32>().ok());
            newest = newest.max(version.map(|version| (version, bytes)));
        }
        let versions = Versions { disk, dir: dir.to_owned() };
        let Some((version, bytes)) = newest else { return Ok((versions, None)) };
        let path = versions.dir.join(file_name(version));
        let schema = versions.read(&path, version, bytes).with_context(|| {
            format!(
                "{}: cannot be used as the schema of what was delivered\nhint: put the file back as it was, or declare \
                 the schema in the pipeline file",
                path.display()
            )
        })?;
        Ok((versions, Some((version, schema))))
    }

    fn read(&self, path: &Path, version: u32, bytes: u64) -> anyhow::Result<Schema> {
        ensure!(bytes <= FILE_BYTES_MAX, "expected at most {FILE_BYTES_MAX} bytes, found {bytes}");
        let bytes = disk::read_all(&*self.disk, path)?;
        let head: Head = serde_json::from_slice(&bytes)?;
        if head.format > FORMAT {
            bail!("written by a newer hydrant: expected format {FORMAT}, found {}", head.format);
        }
        let file: File = serde_json::from_slice(&bytes)?;
        ensure!(file.version == version, "expected version {version}, found {}", file.version);
        ensure!(!file.columns.columns().is_empty(), "expected columns");
        Ok(file.columns)
    }

    /// Writes a version, durably. Blocking.
    pub fn write(&self, version: u32, schema: &Schema, changed: &[String]) -> io::Result<()> {
        let column = |column: &Column| {
            let kind = column.data.to_string();
            let written = match &column.key {
                None => json!(kind),
                Some(key) => json!({ "type": kind, "key": key }),
            };
            format!("    {}: {written}", json!(column.name))
        };
        let columns: Vec<_> = schema.columns().iter().map(column).collect();
        let mut room = CHANGED_BYTES_MAX;
        let fits = |change: &&String| {
            let left = room.checked_sub(change.len());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let changed: Vec<_> = changed.iter().take_while(fits).collect();
        let text = format!(
            "{{\n  \"format\": {FORMAT},\n  \"version\": {version},\n  \"changed\": {},\n  \"columns\": {{\n{}\n  }}\n}}\n",
            json!(changed),
            columns.join(",\n")
        );
        if text.len() as u64 > FILE_BYTES_MAX {
            let what = format!("a schema of {} bytes, more than {FILE_BYTES_MAX}", text.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        born_whole(&*self.disk, &self.dir, &file_name(version), text.as_bytes())
    }
}

fn file_name(version: u32) -> String {
    format!("v{version}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::encode::schema::{Data, Type};

    fn open(dir: &Path) -> anyhow::Result<(Versions, Option<(u32, Schema)>)> {
        Versions::open(Arc::new(RealDisk), dir)
    }

    fn schema(columns: &[(&str, &str)]) -> Schema {
        Schema::new(columns.iter().map(|(name, text)| Column::new(name, text).unwrap()).collect()).unwrap()
    }

    #[test]
    fn the_newest_version_is_found_again_in_the_order_of_its_columns() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("schema");
        let (versions, none) = open(&dir).unwrap();
        assert_eq!(none, None);
        let newest = schema(&[
            ("file", "string"),
            ("b\"\\", "struct<\"x y\":int64>"),
            ("a", "timestamp(us)"),
            ("infer", "json"),
        ]);
        let renamed = Column { key: Some("user-\"id".into()), ..Column::new("user__id", "int64").unwrap() };
        let newest = Schema::new([newest.columns(), &[renamed]].concat()).unwrap();
        versions.write(9, &schema(&[("a", "int64")]), &[]).unwrap();
        versions.write(10, &newest, &["new column \"b\"".into()]).unwrap();
        std::fs::write(dir.join("tmp-v11.json"), "{").unwrap();
        assert_eq!(open(&dir).unwrap().1, Some((10, newest)));
        assert!(!dir.join("tmp-v11.json").exists());
    }

    #[test]
    fn whatever_is_written_can_be_read() {
        let home = tempfile::tempdir().unwrap();
        let (versions, _) = open(home.path()).unwrap();
        let changed = vec!["\"".repeat(1 << 10); 32 << 10];
        versions.write(1, &schema(&[("a", "int64")]), &changed).unwrap();
        assert_eq!(open(home.path()).unwrap().1, Some((1, schema(&[("a", "int64")]))));

        let text = Data { kind: Type::String, nullable: true };
        let long =
            (0..70_000).map(|n| Column::of(&format!("{}{n:05}", "n".repeat(240)), text.clone()).unwrap()).collect();
        let long = Data { kind: Type::Struct(long), nullable: true };
        let long = Schema::new(vec![Column::of("a", long).unwrap()]).unwrap();
        assert_eq!(versions.write(2, &long, &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open(home.path()).unwrap().1.unwrap().0, 1, "what could not be read is not written");
    }

    #[test]
    fn a_version_that_cannot_be_read_is_an_error_that_names_it() {
        let home = tempfile::tempdir().unwrap();
        let (versions, _) = open(home.path()).unwrap();
        versions.write(1, &schema(&[("a", "int64")]), &[]).unwrap();
        let right = std::fs::read_to_string(home.path().join("v1.json")).unwrap();
        for (text, why) in [
            (&right[..right.len() / 2], "EOF"),
            ("", "EOF"),
            (
                &right.replace("\"format\": 1", "\"format\": 2, \"more\": 1"),
                "written by a newer hydrant: expected format 1, found 2",
            ),
            (&right.replace("\"version\": 1", "\"version\": 7"), "expected version 1, found 7"),
            (&right.replace("int64", "int65"), "unknown type int65"),
            (&right.replace("\"a\": \"int64\"", ""), "at least one column"),
        ] {
            std::fs::write(home.path().join("v1.json"), text).unwrap();
            let error = format!("{:#}", open(home.path()).err().expect(why));
            assert!(error.contains("v1.json: cannot be used") && error.contains(why), "{error}");
        }
    }
}
