//! Reads a type out of a tree and finds every problem, not only the first.
//!
//! Serde stops at the first error. So each error is written down and what it is about is put out of the way: an unknown key
//! is taken out or read as the one that was meant, a wrong value or missing key gets a stand-in ([`super::stand_in`]); then all is read again, until it
//! reads. What is wrong only because of a stand-in is no news, and stays unsaid.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use super::de::{Context, Node};
use super::environment::Environment;
use super::flaw::{At, Error, What, listed};
use super::problem::{Place, Problems};
use super::stand_in::ATTEMPTS_MAX;
use super::tree::{Kind, Name, NodeId, Tree, shown};
use crate::inputs::Reads;
use crate::nearest::nearest;

/// Each round settles one problem, or makes one more attempt to.
const ROUNDS_MAX: usize = 2000;

/// More keys than these are not listed in a hint.
const KEYS_LISTED_MAX: usize = 12;

/// Words of choices that are to come: the name of the Rust enum, and the words.
pub(super) type Later = &'static [(&'static str, &'static [&'static str])];

/// What was read, with stand-ins where there were problems; `None` where not even that was possible.
pub(super) struct Reading<T> {
    pub value: Option<T>,
    /// Places where a secret stands in the file itself.
    pub literal_secrets: Vec<Place>,
}

/// Reads `T` from the whole tree. `T` is to be used only if there were no problems, or to look for more.
pub(super) fn read<T: DeserializeOwned>(
    tree: &mut Tree,
    environment: &Environment,
    reads: &Reads,
    later: Later,
    problems: &mut Problems,
) -> Reading<T> {
    for _ in 0..ROUNDS_MAX {
        if problems.is_full() {
            break;
        }
        let context = Context { tree, environment, reads, literal_secrets: RefCell::default() };
        let read = T::deserialize(Node::root(&context));
        let literal_secrets = context.literal_secrets.into_inner();
        match read {
            Ok(value) => {
                let literal_secrets = literal_secrets.into_iter().map(|id| tree.key_place(id)).collect();
                return Reading { value: Some(value), literal_secrets };
            }
            Err(Error { at, what }) => {
                let at = at.unwrap_or(At { node: Tree::ROOT, key: false });
                let because_of_stand_in = !at.key && tree.has_stand_in(at.node);
                match what {
                    What::MissingKey { .. } | What::UnknownKey { .. } => report(tree, at, &what, later, problems),
                    _ if !because_of_stand_in => report(tree, at, &what, later, problems),
                    _ => {}
                }
                if !put_out_of_the_way(tree, at, &what) {
                    break;
                }
            }
        }
    }
    Reading { value: None, literal_secrets: Vec::new() }
}

/// Changes the tree so that the same error cannot come again; `false`: that is not possible.
fn put_out_of_the_way(tree: &mut Tree, at: At, what: &What) -> bool {
    let parent = tree.node(at.node).parent;
    match what {
        What::UnknownKey { found, expected } if at.key => {
            let Some(parent) = parent else { return false };
            let meant = nearest(found, expected.iter().copied()).filter(|word| tree.child(parent, word).is_none());
            if let Some(word) = meant {
                return rename(tree, at.node, word);
            }
            if let Kind::Map(entries) = &mut tree.node_mut(parent).kind {
                entries.retain(|entry| *entry != at.node);
            }
            true
        }
        What::WrongChoice { found, expected, .. } if at.key => match nearest_of(found, expected) {
            Some(word) => rename(tree, at.node, word),
            // The choice as a whole is in doubt.
            None => stand_in(tree, parent.unwrap_or(at.node)),
        },
        What::MissingKey { key } if matches!(tree.node(at.node).kind, Kind::Map(_)) => {
            let span = tree.node(at.node).span.clone();
            let kind = Kind::StandIn { attempt: 0 };
            let id = tree.add(span.clone(), Some(at.node), Name::Key(key.clone(), span), kind);
            if let Kind::Map(entries) = &mut tree.node_mut(at.node).kind {
                entries.push(id);
            }
            true
        }
        _ => stand_in(tree, at.node),
    }
}

/// The nearest word, where one word was found that is not right.
fn nearest_of(found: &[String], expected: &[&'static str]) -> Option<&'static str> {
    match found {
        [word] => nearest(word, expected.iter().copied()),
        _ => None,
    }
}

/// Reads a key as the word that was meant, so that what is wrong below it is found too.
fn rename(tree: &mut Tree, id: NodeId, word: &str) -> bool {
    match &mut tree.node_mut(id).name {
        Name::Key(key, _) if key != word => {
            *key = word.to_owned();
            true
        }
        _ => false,
    }
}

/// Puts a stand-in in place of a node, or the next attempt; after the last one, in place of its parent.
fn stand_in(tree: &mut Tree, mut id: NodeId) -> bool {
    loop {
        match &mut tree.node_mut(id).kind {
            Kind::StandIn { attempt } if *attempt + 1 < ATTEMPTS_MAX => {
                *attempt += 1;
                return true;
            }
            Kind::StandIn { .. } => match tree.node(id).parent {
                Some(parent) => id = parent,
                None => return false,
            },
            other => {
                *other = Kind::StandIn { attempt: 0 };
                return true;
            }
        }
    }
}

fn report(tree: &Tree, at: At, what: &What, later: Later, problems: &mut Problems) {
    let way = tree.way(at.node);
    let above = tree.node(at.node).parent.map(|parent| tree.way(parent)).unwrap_or_default();
    let place = if at.key { tree.key_place(at.node) } else { tree.node_place(at.node) };
    let inside = |way: &str| if way.is_empty() { String::new() } else { format!(" in `{way}`") };
    let of = |way: &str| if way.is_empty() { String::new() } else { format!("`{way}`: ") };
    let (message, hint) = match what {
        What::UnknownKey { found, expected } => {
            let message = format!("unknown key `{}`{}", shown(found), inside(if at.key { &above } else { &way }));
            (message, key_hint(found, expected))
        }
        What::MissingKey { key } => (format!("missing key `{key}`{}", inside(&way)), None),
        What::WrongChoice { found, expected, of: choice } => {
            let later = later.iter().find(|(name, _)| name == choice).map_or(&[][..], |(_, words)| words);
            let is_map = at.key || matches!(tree.node(at.node).kind, Kind::Map(_));
            let expected_words = match is_map {
                true => format!("expected exactly one of {}", listed(expected)),
                false => format!("expected one of {}", listed(expected)),
            };
            let found_words = match found.as_slice() {
                [] => "none".to_owned(),
                words => words.iter().map(|word| format!("`{}`", shown(word))).collect::<Vec<_>>().join(" and "),
            };
            let way = if at.key { &above } else { &way };
            let hint = match found.as_slice() {
                [word] => choice_hint(word, expected, later),
                _ => None,
            };
            (format!("{}{expected_words}, found {found_words}", of(way)), hint)
        }
        What::WrongType { expected } => {
            let (found, hint) = describe(tree, at.node, expected);
            (format!("{}expected {expected}, found {found}", of(&way)), hint)
        }
        What::Custom(message) => (format!("{}{message}", of(&way)), None),
    };
    problems.push(place, message, hint);
}

fn key_hint(found: &str, expected: &[&str]) -> Option<String> {
    match nearest(found, expected.iter().copied()) {
        Some(word) => Some(format!("did you mean `{word}`?")),
        None if expected.is_empty() => Some("no keys are known here".into()),
        None if expected.len() <= KEYS_LISTED_MAX => Some(format!("the keys here are {}", listed(expected))),
        None => None,
    }
}

fn choice_hint(found: &str, expected: &[&str], later: &[&str]) -> Option<String> {
    let word = nearest(found, expected.iter().chain(later).copied())?;
    match (later.contains(&word), word == found) {
        (true, true) => Some(format!("`{word}` comes with a later version")),
        (true, false) => Some(format!("did you mean `{word}`? it comes with a later version")),
        (false, _) => Some(format!("did you mean `{word}`?")),
    }
}

/// What stands at a node, in words, and what to write instead if that can be told.
fn describe(tree: &Tree, id: NodeId, expected: &str) -> (String, Option<String>) {
    let node = tree.node(id);
    let (text, plain) = match &node.kind {
        Kind::Scalar { .. } if node.hidden => {
            return ("something else, which is not shown as it may be secret".into(), None);
        }
        Kind::Scalar { text, plain } => (text, *plain),
        Kind::List(_) => return ("a list".into(), None),
        Kind::Map(entries) if entries.is_empty() => return ("an empty map".into(), None),
        Kind::Map(_) if expected.contains("text") => {
            return ("a map".into(), Some("put a text with `{` in it into quotes".into()));
        }
        Kind::Map(_) => return ("a map".into(), None),
        Kind::StandIn { .. } => return ("nothing".into(), None),
    };
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let hint = match text.to_lowercase().as_str() {
        "yes" | "on" if expected.contains("`true`") => Some("write `true`".into()),
        "no" | "off" if expected.contains("`true`") => Some("write `false`".into()),
        "true" | "false" if expected.contains("`true`") => Some("write it without quotes".into()),
        _ if !plain && expected.contains("number") && is_number(text) => Some("write it without quotes".into()),
        _ => None,
    };
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" if plain => ("nothing".into(), hint),
        _ => (format!("`{}`", shown(text)), hint),
    }
}
