//! What instances take of our memory beside their own: globals, functions and segments, which no limit counts as they run.
//!
//! A component may instantiate a core module many times, and five megabytes can name a million globals: together that is
//! gigabytes for one instance of the component. It is reckoned before the component is compiled, from above: as if each
//! core instance were one of the heaviest module, and each component within the one with most instances.

use wasmparser::{
    BinaryReaderError, ComponentInstance, ElementItems, Encoding, FromReader, Instance, Parser, Payload, SectionLimited,
};

use super::Unfit;
use super::limits::PARTS_MAX;
use crate::units::Size;

/// Bytes for one instance of a component, at most; those of ordinary tools have under ten megabytes.
const BYTES_MAX: u64 = 64 << 20;

/// What wasmtime takes for a function, an import, a table or a memory, at most.
const ITEM_BYTES: u64 = 32;
/// What it takes for a global, or an item of a segment.
const VALUE_BYTES: u64 = 16;

/// Whether instances of this component are light enough.
pub fn check(component: &[u8]) -> Result<(), Unfit> {
    let weight = weight(component).map_err(|error| Unfit::new(format!("is damaged: {error}")))?;
    if weight <= BYTES_MAX {
        return Ok(());
    }
    let (weight, max) = (Size::from_bytes(weight), Size::from_bytes(BYTES_MAX));
    Err(Unfit::new(format!(
        "its globals, functions and segments would take {weight} for each instance; the limit is {max}"
    )))
}

fn weight(component: &[u8]) -> Result<u64, BinaryReaderError> {
    // Of all that have ended: bytes of a module, and core instances that a component is made of, at most.
    let (mut heaviest, mut most) = (0, 0);
    // Of all that have begun: what it is, and its bytes or instances so far.
    let mut within: Vec<(Encoding, u64)> = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let more = match payload? {
            Payload::Version { encoding, .. } => {
                within.push((encoding, 0));
                0
            }
            Payload::End(_) => {
                match within.pop() {
                    Some((Encoding::Module, bytes)) => heaviest = heaviest.max(bytes),
                    // Of more than there may be, no instance is made.
                    Some((Encoding::Component, instances)) => most = most.max(instances.min(PARTS_MAX as u64)),
                    None => {}
                }
                0
            }
            Payload::InstanceSection(section) => {
                count(section, |instance| matches!(instance, Instance::Instantiate { .. }))?
            }
            // Whatever it instantiates has ended before.
            Payload::ComponentInstanceSection(section) => {
                count(section, |instance| matches!(instance, ComponentInstance::Instantiate { .. }))? * most
            }
            Payload::ImportSection(section) => section.into_imports().count() as u64 * ITEM_BYTES,
            Payload::FunctionSection(section) => u64::from(section.count()) * ITEM_BYTES,
            Payload::TableSection(section) => u64::from(section.count()) * ITEM_BYTES,
            Payload::MemorySection(section) => u64::from(section.count()) * ITEM_BYTES,
            Payload::GlobalSection(section) => u64::from(section.count()) * VALUE_BYTES,
            Payload::DataSection(section) => u64::from(section.count()) * VALUE_BYTES,
            Payload::ElementSection(section) => {
                let mut values = 0;
                for element in section {
                    let items = match element?.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    values += 1 + u64::from(items);
                }
                values * VALUE_BYTES
            }
            _ => 0,
        };
        if let Some((_, so_far)) = within.last_mut() {
            *so_far += more;
        }
    }
    Ok(heaviest * most)
}

/// How many of a section are such.
fn count<'a, T: FromReader<'a>>(
    section: SectionLimited<'a, T>,
    is_such: impl Fn(&T) -> bool,
) -> Result<u64, BinaryReaderError> {
    let mut found = 0;
    for one in section {
        found += u64::from(is_such(&one?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(instances: usize, globals: usize) -> Vec<u8> {
        let module = format!("(core module $m {})", "(global i64 (i64.const 1))".repeat(globals));
        wat::parse_str(format!("(component {module} {})", "(core instance (instantiate $m))".repeat(instances)))
            .unwrap()
    }

    #[test]
    fn many_instances_of_many_globals_are_too_heavy() {
        assert_eq!(weight(&of(3, 1000)).unwrap(), 3 * 1000 * 16);
        check(&of(4, 100_000)).unwrap();
        let unfit = check(&of(99, 100_000)).unwrap_err();
        let expected = "its globals, functions and segments would take ";
        assert!(unfit.message.starts_with(expected) && unfit.message.ends_with("; the limit is 64 MiB"), "{unfit:?}");
    }

    #[test]
    fn a_component_within_counts_as_often_as_it_is_instantiated() {
        let of = |name: &str, inner: &str| {
            let instance = format!("(instance (instantiate ${name}))");
            format!("(component ${name} {inner}) {instance} {instance}")
        };
        let core = "(core module $m (global i32 (i32.const 1))) (core instance (instantiate $m))";
        let nested = |depth: usize| (0..depth).fold(core.to_owned(), |inner, level| of(&format!("c{level}"), &inner));
        let weight = |depth| weight(&wat::parse_str(format!("(component {})", nested(depth))).unwrap()).unwrap();
        assert_eq!([weight(0), weight(1), weight(3)], [16, 2 * 16, 8 * 16]);
        assert_eq!(weight(10), 16 * PARTS_MAX as u64);
    }

    #[test]
    fn functions_imports_tables_and_segments_have_their_weight() {
        let module =
            "(core module $m (import \"a\" \"b\" (func)) (table 2 funcref) (memory 1) (data (i32.const 0) \"x\")
            (func $f) (elem (i32.const 0) func $f $f))";
        let component = format!(
            "(component {module} (core module $n (func (export \"b\"))) (core instance $i (instantiate $n))
                (core instance (instantiate $m (with \"a\" (instance $i)))))"
        );
        let weight = weight(&wat::parse_str(component).unwrap()).unwrap();
        assert_eq!(weight, 2 * (4 * 32 + 16 + 3 * 16));
    }
}
