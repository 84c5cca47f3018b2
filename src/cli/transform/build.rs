//! `hydrant transform build`: runs the one command that builds a transform, and sees whether a pipeline would load what it made.

use std::env;
use std::path::Path;
use std::process::Command;

use super::manifest::{MANIFEST, Manifest};
use super::show::{bytes, duration};
use super::{Ended, load};
use crate::cli::{Exit, say};

/// Tools that builds begin with, and where they come from.
const TOOLS: [(&str, &str); 5] = [
    ("cargo", "Rust has it: https://rustup.rs"),
    ("python3", "https://www.python.org, or the package `python3` with `python3-venv`"),
    ("npm", "Node.js has it: https://nodejs.org"),
    ("npx", "Node.js has it: https://nodejs.org"),
    ("go", "https://go.dev/dl"),
];

/// Builds the transform in this folder. The tool's own words go where hydrant's go.
pub fn build(folder: &Path) -> Result<Exit, Ended> {
    let manifest = Manifest::of(folder)?;
    if let Some(setup) = manifest.setup.as_ref().filter(|setup| !folder.join(&setup.makes).exists()) {
        run(folder, &setup.run)?;
    }
    run(folder, &manifest.build)?;
    let module = manifest.module(folder);
    if !module.exists() {
        let words = format!("{}: not there, although the build went well", module.display());
        return Err(Ended::failed(words).hint(&format!("`module` in {MANIFEST} says where the build leaves it")));
    }
    let loaded = load(&module, manifest.config.as_ref())?;
    say(format_args!(
        "{}: {}, compiled and started in {}",
        module.display(),
        bytes(loaded.module_bytes),
        duration(loaded.took)
    ));
    Ok(Exit::Done)
}

/// Runs a command in the folder to its end.
fn run(folder: &Path, command: &str) -> Result<(), Ended> {
    say(format_args!("$ {command}"));
    if let Some((tool, from)) = missing_tool(command, is_installed) {
        return Err(Ended::failed(format!("`{tool}` is needed for this and not installed")).hint(from));
    }
    let mut shell = Command::new("sh");
    // Cargo would leave the module where nobody looks for it.
    shell.args(["-c", command]).current_dir(folder).env_remove("CARGO_TARGET_DIR");
    let status = shell.status().map_err(|error| Ended::failed(format!("`sh` cannot be run: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Ended::failed(format!("{}: the build failed with {status}", folder.display()))),
    }
}

/// The first tool in a command that is not installed, and where it comes from.
fn missing_tool(command: &str, is_installed: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
    let is_used = |tool: &str| command.split_whitespace().any(|word| word == tool);
    TOOLS.into_iter().find(|(tool, _)| is_used(tool) && !is_installed(tool))
}

fn is_installed(tool: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_known_before_the_shell_complains() {
        let missing = |command| missing_tool(command, |tool| tool == "go").map(|(tool, _)| tool);
        assert_eq!(missing("GOOS=wasip1 go build -o a.wasm ."), None);
        assert_eq!(missing("python3 -m venv .venv && .venv/bin/pip install x"), Some("python3"));
        assert_eq!(missing("npx asc index.ts"), Some("npx"));
        assert_eq!(missing("./cargo build"), None);
    }
}
