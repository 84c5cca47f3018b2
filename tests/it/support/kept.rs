//! Files that lie in the repository and are made by the code: a test fails where they drift.

use std::fs;
use std::path::Path;

/// The file is this text. With `UPDATE=1` it is written instead.
pub fn is_kept(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(file, text).unwrap();
        return;
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    let differs = kept.lines().zip(text.lines()).position(|(kept, made)| kept != made);
    let line = differs.unwrap_or(kept.lines().count().min(text.lines().count())) + 1;
    assert!(kept == text, "{path} differs from line {line} on: `UPDATE=1 cargo test --test it` writes it anew");
}
