//! The contract with modules: what they may import and must export, and in which version.
//!
//! `0.1.x` only adds: a module made for a later `x` runs here if it asks for nothing that is missing, and one made for an
//! earlier `x` always does. Another version is refused by its name.

use std::fmt::Write;

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, ComponentExportIndex};

use super::Unfit;

/// The contract, as module authors have it.
pub const WIT: &str = include_str!("../../../transforms/hydrant.wit");

/// The version that [`WIT`] has.
pub const VERSION: &str = "0.1.0";

/// What a module exports, without its version.
pub const TRANSFORMER: &str = "hydrant:transform/transformer";

/// What a module may import, without its version.
pub const HOST: &str = "hydrant:transform/host";

const INIT: &str = "func(config: string) -> result<_, string>";

const PROCESS: &str = "func(events: list<record { data: list<u8>, arrival-ms: u64, key: option<list<u8>>, \
    origin: option<record { topic: string, partition: u32, offset: u64, headers: list<tuple<string, list<u8>>> }> }>) \
    -> list<result<list<record { data: list<u8>, partition-keys: list<tuple<string, string>> }>, string>>";

/// The text of a type is cut here: one that names another twice, which names another twice, has gigabytes.
const TYPE_BYTES_MAX: usize = 2048;
const _: () = assert!(PROCESS.len() < TYPE_BYTES_MAX);

/// Names exported at most, that a message tells.
const NAMES_TOLD_MAX: usize = 8;

/// Whether hydrant can speak with a module that was made for this version.
pub fn is_spoken(version: &str) -> bool {
    let patch = version.strip_prefix("0.1.").unwrap_or_default();
    !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit())
}

/// The interface and the version of a name such as `wasi:io/poll@0.2.6`.
pub fn split_version(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Whether hydrant gives what has this name, and be it a trap.
pub fn check_import(name: &str) -> Result<(), Unfit> {
    let (interface, version) = split_version(name);
    if interface.starts_with("wasi:") {
        return Ok(());
    }
    if interface.starts_with("hydrant:transform/") {
        return if is_spoken(version) { Ok(()) } else { Err(other_version(name)) };
    }
    let unfit = Unfit::new(format!("imports `{name}`, which nobody gives it"));
    Err(match name.starts_with("hydrant:") {
        true => unfit,
        false => unfit.hint(format!("a transform may import `{HOST}@{VERSION}` and `wasi:*`")),
    })
}

/// Whether a transform is among the names that a component exports.
pub fn check_exports(names: &[&str]) -> Result<(), Unfit> {
    let mut versions = names.iter().filter(|name| split_version(name).0 == TRANSFORMER);
    match versions.clone().any(|name| is_spoken(split_version(name).1)) {
        true => Ok(()),
        false => Err(match versions.next() {
            Some(name) => other_version(name),
            None => no_transform(names),
        }),
    }
}

fn other_version(name: &str) -> Unfit {
    Unfit::new(format!("is made for `{name}`; this hydrant speaks {VERSION} and what is compatible with it"))
        .hint("build it against the hydrant.wit of this hydrant")
}

fn no_transform(names: &[&str]) -> Unfit {
    let expected = format!("`{TRANSFORMER}@{VERSION}`");
    let unfit = Unfit::new(match names {
        [] => format!("exports nothing; expected {expected}"),
        _ => format!("exports {}; expected {expected}", listed(names)),
    });
    match names.iter().any(|name| name.starts_with("wasi:cli/run@")) {
        true => unfit
            .hint("it is a program with a main function; build it as a library (a reactor) of the world `transform`"),
        false => unfit.hint("build it for the world `transform` of hydrant.wit"),
    }
}

/// Names for a message: the first of them, and how many more.
pub fn listed(names: &[&str]) -> String {
    let told: Vec<_> = names.iter().take(NAMES_TOLD_MAX).map(|name| format!("`{}`", name.escape_debug())).collect();
    match names.len().saturating_sub(NAMES_TOLD_MAX) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// Where a compiled component has `init` and `process`, if they have the types of the contract.
pub fn exports(engine: &Engine, component: &Component) -> Result<(ComponentExportIndex, ComponentExportIndex), Unfit> {
    let ty = component.component_type();
    let name = ty
        .exports(engine)
        .map(|(name, _)| name)
        .find(|name| matches!(split_version(name), (TRANSFORMER, version) if is_spoken(version)))
        .ok_or_else(|| no_transform(&ty.exports(engine).map(|(name, _)| name).collect::<Vec<_>>()))?;
    let of = component.get_export_index(None, name).ok_or_else(|| Unfit::new(format!("exports no `{name}`")))?;
    let export = |function: &str, expected: &str| {
        let (item, index) = component
            .get_export(Some(&of), function)
            .ok_or_else(|| Unfit::new(format!("exports `{name}` without `{function}`; expected `{expected}`")))?;
        match &item {
            ComponentItem::ComponentFunc(found) if shown(found) == expected => Ok(index),
            ComponentItem::ComponentFunc(found) => Err(Unfit::new(format!(
                "exports `{function}` with another type: it is `{}`; expected `{expected}`",
                shown(found)
            ))
            .hint("build it against the hydrant.wit of this hydrant")),
            _ => Err(Unfit::new(format!("exports a `{function}` that is no function; expected `{expected}`"))),
        }
    };
    Ok((export("init", INIT)?, export("process", PROCESS)?))
}

/// The type of a function, as WIT writes it, with every name replaced by what it stands for.
fn shown(function: &ComponentFunc) -> String {
    let mut text = String::from(if function.async_() { "async func(" } else { "func(" });
    for (i, (name, ty)) in function.params().enumerate() {
        if text.len() > TYPE_BYTES_MAX {
            break;
        }
        let _ = write!(text, "{}{name}: ", if i > 0 { ", " } else { "" });
        show(&ty, &mut text);
    }
    text.push(')');
    for ty in function.results() {
        text.push_str(" -> ");
        show(&ty, &mut text);
    }
    if text.len() > TYPE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TYPE_BYTES_MAX));
        text.push('…');
    }
    text
}

fn show(ty: &Type, text: &mut String) {
    if text.len() > TYPE_BYTES_MAX {
        return;
    }
    match ty {
        Type::Bool => text.push_str("bool"),
        Type::S8 => text.push_str("s8"),
        Type::U8 => text.push_str("u8"),
        Type::S16 => text.push_str("s16"),
        Type::U16 => text.push_str("u16"),
        Type::S32 => text.push_str("s32"),
        Type::U32 => text.push_str("u32"),
        Type::S64 => text.push_str("s64"),
        Type::U64 => text.push_str("u64"),
        Type::Float32 => text.push_str("f32"),
        Type::Float64 => text.push_str("f64"),
        Type::Char => text.push_str("char"),
        Type::String => text.push_str("string"),
        Type::List(list) => show_generic("list", [Some(list.ty())], text),
        Type::Option(option) => show_generic("option", [Some(option.ty())], text),
        Type::Result(result) => show_generic("result", [result.ok(), result.err()], text),
        Type::Tuple(tuple) => show_generic("tuple", tuple.types().map(Some), text),
        Type::Record(record) => {
            show_named("record", record.fields().map(|field| (field.name, Some(field.ty))), text);
        }
        Type::Variant(variant) => show_named("variant", variant.cases().map(|case| (case.name, case.ty)), text),
        Type::Enum(names) => show_named("enum", names.names().map(|name| (name, None)), text),
        Type::Flags(names) => show_named("flags", names.names().map(|name| (name, None)), text),
        Type::Own(_) | Type::Borrow(_) => text.push_str("resource"),
        Type::Map(map) => show_generic("map", [Some(map.key()), Some(map.value())], text),
        Type::FixedLengthList(list) => show_generic("list", [Some(list.ty())], text),
        Type::Future(_) => text.push_str("future"),
        Type::Stream(_) => text.push_str("stream"),
        Type::ErrorContext => text.push_str("error-context"),
    }
}

fn show_generic(word: &str, of: impl IntoIterator<Item = Option<Type>>, text: &mut String) {
    let _ = write!(text, "{word}<");
    for (i, ty) in of.into_iter().enumerate() {
        if text.len() > TYPE_BYTES_MAX {
            return;
        }
        text.push_str(if i > 0 { ", " } else { "" });
        match ty {
            Some(ty) => show(&ty, text),
            None => text.push('_'),
        }
    }
    text.push('>');
}

fn show_named<'a>(word: &str, of: impl IntoIterator<Item = (&'a str, Option<Type>)>, text: &mut String) {
    let _ = write!(text, "{word} {{ ");
    for (i, (name, ty)) in of.into_iter().enumerate() {
        if text.len() > TYPE_BYTES_MAX {
            return;
        }
        let _ = write!(text, "{}{name}", if i > 0 { ", " } else { "" });
        if let Some(ty) = ty {
            text.push_str(": ");
            show(&ty, text);
        }
    }
    text.push_str(" }");
}
