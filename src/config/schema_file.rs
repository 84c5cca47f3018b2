//! Reads the schema file that a pipeline names, so that whatever is wrong with it is found with the rest.

use std::path::Path;

use super::files;
use super::problem::{Place, Problems};
use super::tree::{Tree, shown};
use crate::encode::schema::Schema;
use crate::encode::schema::file::{self, FILE_BYTES_MAX};
use crate::inputs::Reads;

/// The schema of `file`, which is named at `way`; relative to the folder of the pipeline file. `None` where there are
/// problems.
pub(super) fn read(file: &str, way: &str, tree: &Tree, reads: &Reads, problems: &mut Problems) -> Option<Schema> {
    let folder = Path::new(&tree.written.path).parent().unwrap_or(Path::new(""));
    let path = folder.join(file);
    let bytes = match files::bytes_of(&path, FILE_BYTES_MAX, reads) {
        Ok(bytes) => bytes,
        Err(why) => {
            let message = format!("`{way}`: `{}`: {why}", shown(&path.display().to_string()));
            let hint = "the path is relative to the folder of this file".to_owned();
            problems.push(tree.place(way), message, (!Path::new(file).is_absolute()).then_some(hint));
            return None;
        }
    };
    let written = files::text(&path.display().to_string(), bytes, problems)?;
    match file::read(&written.text) {
        Ok(schema) => Some(schema),
        Err(wrongs) => {
            for wrong in wrongs {
                problems.push(Place::of_span(written.clone(), wrong.span), wrong.message, wrong.hint);
            }
            None
        }
    }
}
