//! The templates that `hydrant transform new` writes, as they lie in `transforms/templates/`.

use clap::ValueEnum;

/// A language that transforms are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Language {
    Rust,
    Python,
    #[value(alias = "js")]
    JavaScript,
    Go,
    C,
    AssemblyScript,
}

/// A file of a template: its path and its text.
type File = (&'static str, &'static str);

/// The name that stands in templates for that of the user.
const NAME: &str = "my-transform";

macro_rules! files {
    ($folder:literal: $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../transforms/templates/", $folder, "/", $path)))),*]
    };
}

const COMMON: &[File] = files!("common": "records.ndjson" "records.expected");

const CONTRACT: File = ("wit/hydrant.wit", include_str!("../../../transforms/hydrant.wit"));

impl Language {
    /// As people call it.
    pub fn shown(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::JavaScript => "JavaScript",
            Language::Go => "Go",
            Language::C => "C",
            Language::AssemblyScript => "AssemblyScript",
        }
    }

    /// The file that its user changes.
    pub fn yours(self) -> &'static str {
        match self {
            Language::Rust => "src/lib.rs",
            Language::Python => "transform.py",
            Language::JavaScript => "transform.js",
            Language::Go => "transform.go",
            Language::C => "transform.c",
            Language::AssemblyScript => "transform.ts",
        }
    }

    /// The files of a transform of this name: paths below its folder, and texts.
    pub fn files(self, name: &str) -> Vec<(String, String)> {
        let own = self.template().iter().map(|(path, text)| {
            let text = text.replace(NAME, name).replace(&NAME.replace('-', "_"), &name.replace('-', "_"));
            // Under its own name it would hide files of hydrant's repository.
            (path.replace("gitignore", ".gitignore"), text)
        });
        let common = COMMON.iter().chain([&CONTRACT]).map(|(path, text)| (path.to_string(), text.to_string()));
        own.chain(common).collect()
    }

    fn template(self) -> &'static [File] {
        match self {
            Language::Rust => files!("rust": "Cargo.toml" "README.md" "gitignore" "rust-toolchain.toml"
                "src/hydrant.rs" "src/lib.rs" "transform.yaml"),
            Language::Python => files!("python": "README.md" "gitignore" "hydrant.py" "requirements.txt"
                "transform.py" "transform.yaml"),
            Language::JavaScript => files!("javascript": "README.md" "gitignore" "hydrant.js" "package.json"
                "transform.js" "transform.yaml"),
            Language::Go => files!("go": "README.md" "gitignore" "go.mod" "hydrant.go" "transform.go"
                "transform.yaml"),
            Language::C => files!("c": "README.md" "gitignore" "hydrant.h" "json.h" "requirements.txt"
                "transform.c" "transform.yaml"),
            Language::AssemblyScript => files!("assemblyscript": "README.md" "gitignore" "hydrant.ts" "index.ts"
                "package.json" "transform.ts" "transform.yaml" "tsconfig.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use wit_parser::{Resolve, SizeAlign, Type, TypeDefKind};

    use super::*;

    fn files_below(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files_below(&path, root, found),
                false => drop(found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned())),
            }
        }
    }

    #[test]
    fn every_file_of_every_template_is_in_the_binary() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("transforms/templates");
        let mut on_disk = BTreeSet::new();
        files_below(&root, &root, &mut on_disk);
        let in_folder = |folder: &str, files: &[File]| -> Vec<String> {
            files.iter().map(|(path, _)| format!("{folder}/{path}")).collect()
        };
        let mut embedded: BTreeSet<String> = in_folder("common", COMMON).into_iter().collect();
        for language in Language::value_variants() {
            let word = language.to_possible_value().unwrap();
            embedded.extend(in_folder(word.get_name(), language.template()));
        }
        assert_eq!(on_disk, embedded);
    }

    #[test]
    fn each_folder_has_what_its_user_needs_under_the_users_name() {
        for language in Language::value_variants() {
            let files = language.files("red-act");
            let text = |path: &str| {
                let found = files.iter().find(|(name, _)| name == path);
                found.unwrap_or_else(|| panic!("{language:?}: no {path}")).1.as_str()
            };
            for needed in [".gitignore", "records.ndjson", "records.expected", "wit/hydrant.wit", language.yours()] {
                assert!(!text(needed).is_empty());
            }
            assert!(text("README.md").starts_with("# red-act\n"));
            assert!(files.iter().all(|(_, text)| !text.contains(NAME) && !text.contains("my_transform")));
        }
        assert!(Language::Rust.files("red-act").iter().any(|(_, text)| text.contains("/release/red_act.wasm")));
    }

    /// Size, and offsets of fields, of a record type of the contract on wasm32.
    fn layout(name: &str) -> (usize, Vec<usize>) {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("hydrant.wit", CONTRACT.1).unwrap();
        let interface = resolve.packages[package].interfaces["transformer"];
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let id = resolve.interfaces[interface].types[name];
        let TypeDefKind::Record(record) = &resolve.types[id].kind else { panic!("{name} is no record") };
        let offsets = sizes.field_offsets(record.fields.iter().map(|field| &field.ty));
        (sizes.size(&Type::Id(id)).size_wasm32(), offsets.into_iter().map(|(offset, _)| offset.size_wasm32()).collect())
    }

    #[test]
    fn structs_that_helper_files_write_down_are_those_of_the_contract() {
        // `event 72 bytes: data 0, arrival-ms 8, key 16 (there) and 20, origin 32 (there) and 40 (topic), ..`
        assert_eq!(layout("event"), (72, vec![0, 8, 16, 32]));
        assert_eq!(layout("origin"), (32, vec![0, 8, 16, 24]), "behind 40: topic, partition 48, offset 56, headers 64");
        assert_eq!(layout("output"), (16, vec![0, 8]));
    }
}
