//! `hydrant transform new`: a folder with a small transform that builds, as a place to start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Ended;
use super::templates::Language;
use crate::cli::{Exit, say};

/// Names become those of packages in six languages.
const NAME_BYTES_MAX: usize = 64;

/// Words that Cargo takes as no name of a package.
const NO_NAMES: [&str; 6] = ["test", "core", "std", "alloc", "proc-macro", "proc_macro"];

/// Arguments of `hydrant transform new`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to write; its last part names the transform
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// The language to write it in
    #[arg(long = "lang", value_name = "LANGUAGE", value_enum)]
    language: Language,
}

/// Writes the folder, and says what to do next.
pub fn new(arguments: Arguments) -> Result<Exit, Ended> {
    let Arguments { folder, language } = arguments;
    let shown = folder.display();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if let Err(why) = judge(&name) {
        let words = format!("`{name}` cannot name a transform: {why}");
        let hint = "lower-case letters, digits, `-` and `_`, and a letter first, such as `redact-emails`";
        return Err(Ended { exit: Exit::Usage, ..Ended::failed(words).hint(hint) });
    }
    match fs::read_dir(&folder).map(|mut entries| entries.next().is_some()) {
        Ok(false) => {}
        Ok(true) => return Err(Ended::failed(format!("{shown}: the folder is not empty")).hint("choose another name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Ended::failed(format!("{shown}: {error}"))),
    }
    for (path, text) in language.files(&name) {
        let path = folder.join(path);
        write(&path, &text).map_err(|error| Ended::failed(format!("{}: {error}", path.display())))?;
    }
    say(format_args!(
        "{shown}: a transform in {}; yours is {}\n\nnext:\n  hydrant transform build {shown}\n  hydrant transform test {shown}",
        language.shown(),
        folder.join(language.yours()).display(),
    ));
    Ok(Exit::Done)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, text)
}

/// Whether all six languages take this as a name; else why not.
fn judge(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    match name {
        "" => Err("it is empty".into()),
        _ if name.len() > NAME_BYTES_MAX => Err(format!("it is longer than {NAME_BYTES_MAX} bytes")),
        _ if !name.starts_with(|c: char| c.is_ascii_lowercase()) => Err("it begins with no lower-case letter".into()),
        _ if NO_NAMES.contains(&name) => Err("Rust and others have something of that name".into()),
        _ => name.chars().find(|c| !fits(*c)).map_or(Ok(()), |c| Err(format!("it contains `{}`", c.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_every_language_takes_them() {
        for right in ["a", "redact", "redact-emails_2"] {
            assert_eq!(judge(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("", "it is empty"),
            ("Redact", "it begins with no lower-case letter"),
            ("2nd", "it begins with no lower-case letter"),
            ("a b", "it contains ` `"),
            ("rédact", "it contains `é`"),
            ("a.b", "it contains `.`"),
            ("core", "Rust and others have something of that name"),
            (&"a".repeat(65), "it is longer than 64 bytes"),
        ] {
            assert_eq!(judge(wrong), Err(why.to_owned()), "{wrong}");
        }
    }
}
