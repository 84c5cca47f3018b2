//! The house is in order: imports go down the floors only, files are short, and each opens with a sentence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that passes this many lines is two.
const LINES_MAX: usize = 600;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => {
                    let text = fs::read_to_string(&path).unwrap();
                    found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
                }
                false => {}
            }
        }
    }
    found.sort();
    assert!(found.len() > 20, "the sources are somewhere else now");
    found
}

/// The modules of the library by their place in `lib.rs`.
fn floors() -> BTreeMap<String, usize> {
    let lib = sources().into_iter().find(|(path, _)| path == Path::new("lib.rs")).unwrap().1;
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.enumerate().map(|(place, module)| (module.to_owned(), place)).collect()
}

#[test]
fn imports_go_down_the_floors_only() {
    let floors = floors();
    let mut upward = Vec::new();
    for (path, text) in sources() {
        let module = path.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(here) = floors.get(&module) else { continue };
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for after in line.split("crate::").skip(1) {
                let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
                let there = floors.get(&after[..end]).unwrap_or_else(|| panic!("{line}: no such module"));
                if there > here {
                    upward.push(format!("src/{}:{}: {}", path.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(upward.is_empty(), "imports that go up:\n{}", upward.join("\n"));
}

#[test]
fn no_file_is_too_long_to_know() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "files over {LINES_MAX} lines: {long:?}");
}

#[test]
fn each_file_opens_with_a_sentence_about_itself() {
    for (path, text) in sources() {
        let opening = text.lines().next().unwrap_or_default();
        assert!(opening.starts_with("//! "), "src/{} does not say what it is", path.display());
    }
}
