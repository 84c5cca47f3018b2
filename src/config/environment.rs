//! What a configuration takes from outside: `${VAR}` in any text, and secrets by reference.
//!
//! Both are resolved after parsing and in scalars only, so that no value can become a key, a list or another reference.
//! What came from outside is never printed: its node is marked hidden, and messages name the variable instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::problem::Problems;
use super::tree::{Kind, Name, NodeId, Tree};
use crate::inputs::Reads;
use crate::secret::is_secret_key;

/// A secret's file may be this long, in bytes.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Where variables come from. Cheap to clone.
#[derive(Clone)]
pub struct Environment(Lookup);

type Lookup = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

impl Environment {
    /// Of this process.
    pub fn of_process() -> Environment {
        Environment(Arc::new(|name| std::env::var_os(name)))
    }

    /// Just these.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Environment {
        let variables: BTreeMap<String, OsString> =
            variables.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        Environment(Arc::new(move |name| variables.get(name).cloned()))
    }

    /// The value of a variable; the error says why there is none, and never holds a value.
    pub fn get(&self, name: &str) -> Result<String, String> {
        let value = (self.0)(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?;
        value.into_string().map_err(|_| format!("the environment variable `{name}` is not valid UTF-8"))
    }

    /// What `env:NAME`, `file:/path` or `cred:name` names; `None`: the text is no reference. Reads files.
    pub(super) fn dereference(&self, text: &str, reads: &Reads) -> Option<Result<String, String>> {
        if let Some(name) = text.strip_prefix("env:") {
            return Some(self.get(name));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Some(read_secret(Path::new(path), &format!("the file `{path}`"), reads));
        }
        let name = text.strip_prefix("cred:")?;
        let what = format!("the credential `{name}`");
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Some(Err(format!("{what} has no name that systemd could give it")));
        }
        let folder = self.get("CREDENTIALS_DIRECTORY");
        Some(
            folder
                .map_err(|why| format!("{what}: {why}"))
                .and_then(|dir| read_secret(&Path::new(&dir).join(name), &what, reads)),
        )
    }
}

/// A text as a secret reference would be written.
pub(super) fn is_reference(text: &str) -> bool {
    ["env:", "file:", "cred:"].iter().any(|scheme| text.starts_with(scheme))
}

fn read_secret(path: &Path, what: &str, reads: &Reads) -> Result<String, String> {
    let bytes = reads.read(path, SECRET_BYTES_MAX).map_err(|error| format!("{what} cannot be read: {error}"))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("{what} is longer than {SECRET_BYTES_MAX} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{what} is not valid UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{what} is empty")),
        secret => Ok(secret.to_owned()),
    }
}

/// Marks literal secrets as hidden, and replaces `${VAR}`, `${VAR:-default}` and `$$` in every scalar.
pub(super) fn resolve(tree: &mut Tree, environment: &Environment, problems: &mut Problems) {
    hide_secrets(tree);
    for id in tree.ids() {
        let Kind::Scalar { text, .. } = &tree.node(id).kind else { continue };
        if !text.contains('$') {
            continue;
        }
        match expand(text, environment) {
            Ok(expanded) => {
                let node = tree.node_mut(id);
                // A plain scalar that a variable made empty is an empty text, not nothing.
                let plain = matches!(node.kind, Kind::Scalar { plain: true, .. }) && !expanded.text.is_empty();
                node.kind = Kind::Scalar { text: expanded.text, plain };
                node.hidden |= expanded.from_outside;
            }
            Err(Unresolved { offset, len, message, hint }) => {
                problems.push(tree.scalar_place(id).at(offset, len), message, hint);
                tree.node_mut(id).kind = Kind::StandIn { attempt: 0 };
            }
        }
    }
}

struct Expanded {
    text: String,
    from_outside: bool,
}

struct Unresolved {
    offset: usize,
    len: usize,
    message: String,
    hint: Option<String>,
}

fn expand(text: &str, environment: &Environment) -> Result<Expanded, Unresolved> {
    let mut expanded = Expanded { text: String::new(), from_outside: false };
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.text.push_str(&rest[..dollar]);
        let offset = text.len() - rest.len() + dollar;
        let after = &rest[dollar + 1..];
        if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let unclosed = || Unresolved {
                offset,
                len: 2,
                message: "`${` is not closed".into(),
                hint: Some("write `${NAME}`, or `$${` for the characters themselves".into()),
            };
            let end = inner.find('}').ok_or_else(unclosed)?;
            let len = end + 3;
            let (name, default) = match inner[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inner[..end], None),
            };
            if !is_variable_name(name) {
                let message = format!("`{}` is no name of an environment variable", super::tree::shown(name));
                let hint = Some("write `${NAME}` or `${NAME:-default}`, or `$${` for the characters themselves".into());
                return Err(Unresolved { offset, len, message, hint });
            }
            match (environment.get(name), default) {
                (Ok(value), None) => expanded.text.push_str(&value),
                (Ok(value), Some(_)) if !value.is_empty() => expanded.text.push_str(&value),
                (_, Some(default)) => expanded.text.push_str(default),
                (Err(message), None) => {
                    let hint = Some(format!("set it, or write `${{{name}:-default}}`"));
                    return Err(Unresolved { offset, len, message, hint });
                }
            }
            expanded.from_outside = true;
            rest = &inner[end + 1..];
        } else {
            expanded.text.push('$');
            rest = after;
        }
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

/// As POSIX has it: letters, digits and `_`, not beginning with a digit.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn hide_secrets(tree: &mut Tree) {
    let mut spans = Vec::new();
    for id in tree.ids() {
        let Kind::Scalar { text, .. } = &tree.node(id).kind else { continue };
        if is_secret_node(tree, id) && !is_reference(text) && !text.contains("${") {
            spans.push(tree.node(id).span.clone());
            tree.node_mut(id).hidden = true;
        }
    }
    tree.written.hide(spans);
}

/// Whether the nearest key above holds a secret.
pub(super) fn is_secret_node(tree: &Tree, id: NodeId) -> bool {
    match (&tree.node(id).name, tree.node(id).parent) {
        (Name::Key(key, _), _) => is_secret_key(key),
        (Name::Index(_), Some(parent)) => is_secret_node(tree, parent),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dereference(environment: &Environment, text: &str) -> Option<Result<String, String>> {
        environment.dereference(text, &Reads::new())
    }

    fn expanded(text: &str) -> Result<String, (usize, usize, String)> {
        let environment = Environment::of([("NAME", "value"), ("EMPTY", ""), ("TRICK", "${NAME}: [x]")]);
        expand(text, &environment).map(|e| e.text).map_err(|u| (u.offset, u.len, u.message))
    }

    #[test]
    fn variables_are_replaced_once_and_dollars_can_be_written() {
        assert_eq!(expanded("a${NAME}b${NAME}"), Ok("avaluebvalue".into()));
        assert_eq!(expanded("${EMPTY}"), Ok("".into()));
        assert_eq!(expanded("${EMPTY:-else}${NONE:-else}${NAME:-else}"), Ok("elseelsevalue".into()));
        assert_eq!(expanded("$${NAME} $5 $"), Ok("${NAME} $5 $".into()));
        assert_eq!(expanded("${TRICK}"), Ok("${NAME}: [x]".into()));
    }

    #[test]
    fn a_wrong_reference_is_told_with_its_bytes() {
        assert_eq!(expanded("ab${NONE}"), Err((2, 7, "the environment variable `NONE` is not set".into())));
        assert_eq!(expanded("ab${NAME"), Err((2, 2, "`${` is not closed".into())));
        assert_eq!(expanded("${1a}"), Err((0, 5, "`1a` is no name of an environment variable".into())));
    }

    #[test]
    fn secrets_are_read_from_where_they_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("db"), "hunter2\n").unwrap();
        std::fs::write(folder.path().join("void"), "\n").unwrap();
        let path = folder.path().to_str().unwrap();
        let environment = Environment::of([("CREDENTIALS_DIRECTORY", path), ("PASSWORD", "hunter3")]);
        assert_eq!(dereference(&environment, "cred:db"), Some(Ok("hunter2".into())));
        assert_eq!(dereference(&environment, &format!("file:{path}/db")), Some(Ok("hunter2".into())));
        assert_eq!(dereference(&environment, "env:PASSWORD"), Some(Ok("hunter3".into())));
        assert_eq!(dereference(&environment, "hunter4"), None);
        assert_eq!(dereference(&environment, "cred:void"), Some(Err("the credential `void` is empty".into())));
        let outside = "the credential `../db` has no name that systemd could give it";
        assert_eq!(dereference(&environment, "cred:../db"), Some(Err(outside.into())));
        let none = "the credential `db`: the environment variable `CREDENTIALS_DIRECTORY` is not set";
        assert_eq!(dereference(&Environment::of([]), "cred:db"), Some(Err(none.into())));
    }
}
