//! The modules of `transforms/` that lie here built: what their records become, through the pipeline's own host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::daemon::Home;

/// The examples, and their records.
const EXAMPLES: [(&str, &str); 5] = [
    ("redact", "records.ndjson"),
    ("enrich", "records.ndjson"),
    ("split", "records.ndjson"),
    ("parse", "records.txt"),
    ("bench", "records.ndjson"),
];

/// Bytes of all built modules together, at most: everybody who clones the repository gets them.
const MODULES_BYTES_MAX: u64 = 2_500_000;

fn transforms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("transforms")
}

#[test]
fn each_example_does_what_is_expected_of_it() {
    let home = Home::new();
    for (name, records) in EXAMPLES {
        let folder = transforms().join(name);
        let folder = folder.display();
        let ended = home.run(&format!("transform test {folder} --records {folder}/{records}"));
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.stdout.contains("as expected in "), "{name} has nothing to compare with: {ended:?}");
    }
}

#[test]
fn modules_that_lie_here_are_small() {
    let bytes: u64 = EXAMPLES
        .iter()
        .map(|(name, _)| fs::metadata(transforms().join(name).join(format!("{name}.wasm"))).unwrap().len())
        .sum();
    assert!(bytes <= MODULES_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn the_helper_of_javascript_is_that_of_the_template() {
    let read = |path: &str| fs::read_to_string(transforms().join(path)).unwrap();
    assert_eq!(read("split/hydrant.js"), read("templates/javascript/hydrant.js"));
}
