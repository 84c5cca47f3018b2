//! What a file is, and how it becomes a component: one is taken as it is, a bare core module is wrapped.
//!
//! ```text
//! component                                          as it is
//! core module with a `component-type` section        wit-component, by what that section says
//! core module, names `hydrant:transform/...#process` wit-component, by hydrant.wit in the version that they name
//! core module, names `init`, `process`               the same after renaming them, version 0.1.0
//! ```
//!
//! The canonical ABI of the contract is a handful of plain structs, so C, Zig, Go and AssemblyScript need no component
//! tooling. A module for `wasi_snapshot_preview1` gets an adapter of ours.

use std::borrow::Cow;

use wasmparser::{BinaryReaderError, CompositeInnerType, Encoding, ExternalKind, Parser, Payload, TypeRef, ValType};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::Unfit;
use super::contract::{self, HOST, TRANSFORMER, VERSION, WIT};
use super::wasi::preview1;

/// What a core module of the older WASI imports.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The component that these bytes are, or that they are wrapped into; its names are those of the contract.
pub fn component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Unfit> {
    if Parser::is_component(bytes) {
        check_names(bytes, |_| false)?;
        return Ok(Cow::Borrowed(bytes));
    }
    if !Parser::is_core_wasm(bytes) {
        return Err(not_wasm(bytes));
    }
    let core = Core::read(bytes).map_err(|error| unreadable(bytes, &error))?;
    let wrapped = if core.names_its_world { encode(&core, bytes)? } else { encode(&core, &core.with_world(bytes)?)? };
    check_names(&wrapped, |import| contract::split_version(import).0 == preview1::HOST)?;
    Ok(Cow::Owned(wrapped))
}

/// Whether a component imports only what it may, or is ours, and exports what it must.
fn check_names(component: &[u8], is_ours: impl Fn(&str) -> bool) -> Result<(), Unfit> {
    let (imports, exports) = component_names(component).map_err(|error| unreadable(component, &error))?;
    imports.into_iter().filter(|name| !is_ours(name)).try_for_each(contract::check_import)?;
    contract::check_exports(&exports)
}

/// Names that a component imports and exports.
fn component_names(bytes: &[u8]) -> Result<(Vec<&str>, Vec<&str>), BinaryReaderError> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name);
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn unreadable(bytes: &[u8], error: &BinaryReaderError) -> Unfit {
    if error.offset() >= bytes.len() || error.message().starts_with("unexpected end") {
        return Unfit::new(format!("ends in the middle, after {} bytes", bytes.len()))
            .hint("it was cut short on its way here: copy or build it again");
    }
    Unfit::new(format!("is damaged: {error}"))
}

/// What bytes are that are no WebAssembly.
fn not_wasm(bytes: &[u8]) -> Unfit {
    let text = |bytes: &[u8]| bytes.utf8_chunks().next().is_none_or(|chunk| chunk.valid().len() + 4 > bytes.len());
    let begin = bytes.get(..256).unwrap_or(bytes);
    match bytes {
        [] => Unfit::new("is empty"),
        [b'\0', b'a', b's', b'm', version @ ..] if version.len() >= 4 => {
            Unfit::new(format!("is WebAssembly of an unknown version ({:02x?})", &version[..4]))
        }
        _ if b"\0asm".starts_with(bytes) || bytes.starts_with(b"\0asm") => {
            Unfit::new(format!("ends in the middle, after {} bytes", bytes.len()))
                .hint("it was cut short on its way here: copy or build it again")
        }
        [0x7f, b'E', b'L', b'F', ..] => Unfit::new("is a program of this machine (ELF), not WebAssembly")
            .hint("build it for WebAssembly, such as `--target wasm32-unknown-unknown` in Rust"),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Unfit::new("is compressed, not WebAssembly").hint("unpack it first")
        }
        _ if begin.trim_ascii_start().starts_with(b"(module")
            || begin.trim_ascii_start().starts_with(b"(component") =>
        {
            Unfit::new("is WebAssembly text, not the binary format")
                .hint("translate it: `wasm-tools parse in.wat -o out.wasm`")
        }
        _ if text(begin) => Unfit::new(format!("is a text, not WebAssembly: it begins with `{}`", first_words(begin)))
            .hint("source code must be built first: `hydrant transform new` writes a folder that builds"),
        _ => Unfit::new(format!("is not WebAssembly: it begins with {:02x?}", bytes.get(..4).unwrap_or(bytes))),
    }
}

fn first_words(begin: &[u8]) -> String {
    let line = begin.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().take(40).collect::<String>().trim_end().escape_debug().to_string()
}

/// A core module, as far as wrapping it needs to know.
#[derive(Default)]
struct Core<'a> {
    /// Module and name.
    imports: Vec<(&'a str, &'a str)>,
    /// Name, and the type of those that are functions.
    exports: Vec<(&'a str, Option<Signature>)>,
    has_memory: bool,
    /// Whether it carries the world it was made for.
    names_its_world: bool,
}

#[derive(Clone, PartialEq)]
struct Signature(Vec<ValType>, Vec<ValType>);

impl<'a> Core<'a> {
    fn read(bytes: &'a [u8]) -> Result<Core<'a>, BinaryReaderError> {
        let mut core = Core::default();
        let mut types = Vec::new();
        let mut functions = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => break,
                Payload::TypeSection(section) => {
                    for group in section {
                        types.extend(group?.into_types().map(|ty| match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(Signature(ty.params().into(), ty.results().into())),
                            _ => None,
                        }));
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import.ty {
                            functions.push(ty);
                        }
                        core.imports.push((import.module, import.name));
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        functions.push(ty?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let ty = functions.get(export.index as usize).and_then(|ty| types.get(*ty as usize));
                        let is_function = export.kind == ExternalKind::Func;
                        core.exports.push((export.name, ty.cloned().flatten().filter(|_| is_function)));
                        core.has_memory |= export.name == "memory" && export.kind == ExternalKind::Memory;
                    }
                }
                Payload::CustomSection(section) => {
                    core.names_its_world |= section.name().starts_with("component-type");
                }
                _ => {}
            }
        }
        Ok(core)
    }

    /// The module with the names of the contract, and with the world in it, if it exports that by either of the names.
    fn with_world(&self, bytes: &[u8]) -> Result<Vec<u8>, Unfit> {
        let names: Vec<&str> = self.exports.iter().map(|(name, _)| *name).collect();
        let full = names.iter().find_map(|name| name.strip_prefix(TRANSFORMER)?.strip_prefix('@')?.split_once('#'));
        let version = full.map_or(VERSION, |(version, _)| version);
        let interface = format!("{TRANSFORMER}@{version}");
        contract::check_exports(&[&interface])?;
        let prefix = if full.is_some() { format!("{interface}#") } else { String::new() };
        self.check_exports(&prefix, &names)?;
        self.imports.iter().try_for_each(|(module, name)| check_import(module, name))?;

        let renamed = |name: &str| match name {
            "init" | "process" if full.is_none() => Some(format!("{interface}#{name}")),
            "cabi_post_init" if full.is_none() => Some(format!("cabi_post_{interface}#init")),
            "cabi_post_process" if full.is_none() => Some(format!("cabi_post_{interface}#process")),
            _ => None,
        };
        let mut renamed = rename_exports(bytes, renamed).map_err(|error| unreadable(bytes, &error))?;
        embed_world(&mut renamed, &WIT.replacen(VERSION, version, 1))?;
        Ok(renamed)
    }

    /// Whether what the contract needs is exported with its type.
    fn check_exports(&self, prefix: &str, names: &[&str]) -> Result<(), Unfit> {
        let hint =
            "a core module exports `memory`, `cabi_realloc`, `init` and `process` by the canonical ABI of hydrant.wit";
        let is_there = |name: &str| names.contains(&format!("{prefix}{name}").as_str());
        if !is_there("init") && !is_there("process") {
            return Err(Unfit::new(match names {
                [] => "exports nothing; expected `init` and `process`".to_owned(),
                _ => format!("exports {}; expected `init` and `process`", contract::listed(names)),
            })
            .hint(hint));
        }
        for (name, arity) in
            [(format!("{prefix}init"), 2), (format!("{prefix}process"), 2), ("cabi_realloc".to_owned(), 4)]
        {
            let expected = Signature(vec![ValType::I32; arity], vec![ValType::I32]);
            let Some((_, found)) = self.exports.iter().find(|(export, _)| *export == name) else {
                return Err(
                    Unfit::new(format!("exports no `{name}`; it exports {}", contract::listed(names))).hint(hint)
                );
            };
            if found.as_ref() != Some(&expected) {
                let found = found.as_ref().map_or("no function".to_owned(), Signature::shown);
                return Err(
                    Unfit::new(format!("exports `{name}` as {found}; expected {}", expected.shown())).hint(hint)
                );
            }
        }
        match self.has_memory {
            true => Ok(()),
            false => Err(Unfit::new("exports no `memory`, through which records are passed").hint(hint)),
        }
    }
}

impl Signature {
    fn shown(&self) -> String {
        let listed = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("({}) -> ({})", listed(&self.0), listed(&self.1))
    }
}

/// Whether a core module may import this.
fn check_import(module: &str, name: &str) -> Result<(), Unfit> {
    if module == PREVIEW1 {
        return Ok(());
    }
    let (interface, version) = contract::split_version(module);
    if interface == HOST {
        return match (name, contract::is_spoken(version)) {
            ("log", true) => Ok(()),
            (_, true) => Err(Unfit::new(format!("imports `{module}` `{name}`; hydrant gives `log`"))),
            (_, false) => contract::check_import(module),
        };
    }
    let unfit =
        Unfit::new(format!("imports `{}` `{}`, which nobody gives it", module.escape_debug(), name.escape_debug()));
    Err(unfit.hint(match (module, name) {
        ("env", "abort") => "build AssemblyScript with `--use abort=`".to_owned(),
        ("env", _) => "link all that it needs into it: undefined symbols become imports of `env`".to_owned(),
        ("wasi_unstable", _) => format!("build it for `{PREVIEW1}`"),
        (module, _) if module.starts_with("__wbindgen") || module == "wbg" => {
            "wasm-bindgen is for browsers: use wit-bindgen, and no crate that needs JavaScript".to_owned()
        }
        (module, _) if module.starts_with("wasi:") => "build it as a component: `wasm-tools component new`".to_owned(),
        _ => format!("a core module may import `{HOST}@{VERSION}` and `{PREVIEW1}`"),
    }))
}

/// Lets a core module carry the one world of this WIT.
fn embed_world(core: &mut Vec<u8>, wit: &str) -> Result<(), Unfit> {
    let mut resolve = Resolve::default();
    resolve
        .push_source("world.wit", wit)
        .and_then(|package| resolve.select_world(&[package], None))
        .and_then(|world| embed_component_metadata(core, &resolve, world, StringEncoding::UTF8))
        .map_err(not_wrapped)
}

/// A core module that carries its world, as a component.
fn encode(core: &Core, bytes: &[u8]) -> Result<Vec<u8>, Unfit> {
    let mut encoder = ComponentEncoder::default().module(bytes).map_err(not_wrapped)?;
    let asked: Vec<_> = core.imports.iter().filter(|(module, _)| *module == PREVIEW1).map(|(_, name)| name).collect();
    if !asked.is_empty() {
        let known = Core::read(preview1::ADAPTER).map_err(not_wrapped)?;
        if let Some(name) = asked.iter().find(|asked| !known.exports.iter().any(|(name, _)| name == **asked)) {
            return Err(Unfit::new(format!(
                "imports `{PREVIEW1}` `{}`, which is no function of it",
                name.escape_debug()
            )));
        }
        let mut adapter = preview1::ADAPTER.to_vec();
        embed_world(&mut adapter, preview1::WIT)?;
        encoder = encoder.adapter(PREVIEW1, &adapter).map_err(not_wrapped)?;
    }
    encoder.encode().map_err(not_wrapped)
}

fn not_wrapped(error: impl std::fmt::Display) -> Unfit {
    Unfit::new(format!("cannot be made a component: {error:#}"))
}

/// The same core module with other names for exports.
fn rename_exports(bytes: &[u8], renamed: impl Fn(&str) -> Option<String>) -> Result<Vec<u8>, BinaryReaderError> {
    let mut out = bytes.get(..8).unwrap_or_default().to_vec();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        let Some((id, range)) = payload.as_section() else { continue };
        let mut section = Cow::Borrowed(bytes.get(range).unwrap_or_default());
        if let Payload::ExportSection(exports) = payload {
            let mut written = leb128(exports.count() as usize);
            for export in exports {
                let export = export?;
                let name = renamed(export.name).map_or(Cow::Borrowed(export.name), Cow::Owned);
                written.extend(leb128(name.len()));
                written.extend_from_slice(name.as_bytes());
                written.push(kind_byte(export.kind));
                written.extend(leb128(export.index as usize));
            }
            section = Cow::Owned(written);
        }
        out.push(id);
        out.extend(leb128(section.len()));
        out.extend_from_slice(&section);
    }
    Ok(out)
}

/// As the binary format writes kinds of exports (WebAssembly 3.0, section 5.5.10).
fn kind_byte(kind: ExternalKind) -> u8 {
    match kind {
        ExternalKind::Func => 0,
        ExternalKind::Table => 1,
        ExternalKind::Memory => 2,
        ExternalKind::Global => 3,
        ExternalKind::Tag => 4,
        ExternalKind::FuncExact => 0x20,
    }
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adapter_is_what_its_text_says() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transform/wasm/");
        let binary = wat::parse_file(format!("{folder}preview1.wat")).unwrap();
        if std::env::var_os("HYDRANT_BLESS").is_some() {
            std::fs::write(format!("{folder}preview1.wasm"), &binary).unwrap();
        }
        assert!(
            binary == preview1::ADAPTER,
            "preview1.wasm is not preview1.wat: run this test with HYDRANT_BLESS=1, twice"
        );
    }

    #[test]
    fn every_function_of_the_older_wasi_is_there_and_links() {
        let mut core = Core::read(preview1::ADAPTER).unwrap();
        core.exports.retain(|(_, ty)| ty.is_some());
        assert_eq!(core.exports.len(), 46);
        let written = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let imports: String = core
            .exports
            .iter()
            .map(|(name, ty)| {
                let Signature(params, results) = ty.as_ref().unwrap();
                let (params, results) = (written(params), written(results));
                format!("(import \"{PREVIEW1}\" \"{name}\" (func (param {params}) (result {results})))")
            })
            .collect();
        let fields = r#"(memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
            (func (export "init") (param i32 i32) (result i32) (unreachable))
            (func (export "process") (param i32 i32) (result i32) (unreachable))"#;
        let module = wat::parse_str(format!("(module {imports} {fields})")).unwrap();
        super::super::Modules::default().load(&module).unwrap();
    }

    #[test]
    fn renaming_an_export_leaves_all_else_as_it_is() {
        let module =
            wat::parse_str(r#"(module (func (export "a")) (memory (export "b") 1) (data (i32.const 0) "a"))"#).unwrap();
        assert_eq!(rename_exports(&module, |_| None).unwrap(), module);
        let long = "c".repeat(300);
        let renamed = rename_exports(&module, |name| (name == "a").then(|| long.clone())).unwrap();
        let expected = wat::parse_str(format!(
            r#"(module (func (export "{long}")) (memory (export "b") 1) (data (i32.const 0) "a"))"#
        ));
        assert_eq!(renamed, expected.unwrap());
    }
}
