//! The contract with hydrant, `wit/hydrant.wit`, around [`Transform`]. Nothing here is to be changed.
#![allow(dead_code, unused_imports)]

use std::sync::OnceLock;

wit_bindgen::generate!({ path: "wit", world: "transform" });

pub use exports::hydrant::transform::transformer::{Event, Origin, Output};
pub use hydrant::transform::host::{log, Level};

/// What you write.
pub trait Transform: Sized + Send + Sync {
    /// Once, before any record.
    fn new(config: &str) -> Result<Self, String>;

    /// One record: what it becomes, or why it is set aside.
    fn transform(&self, event: &Event) -> Result<Vec<Output>, String>;
}

impl<T: Into<Vec<u8>>> From<T> for Output {
    /// This payload, without partition keys.
    fn from(data: T) -> Output {
        Output { data: data.into(), partition_keys: Vec::new() }
    }
}

/// What hydrant calls. A panic ends the instance, and the record at fault is set aside.
pub trait Guest {
    type Of: Transform + 'static;

    fn of() -> &'static OnceLock<Self::Of>;
}

impl<G: Guest> exports::hydrant::transform::transformer::Guest for G {
    fn init(config: String) -> Result<(), String> {
        let made = G::Of::new(&config)?;
        G::of().set(made).map_err(|_| "init was called twice".to_owned())
    }

    fn process(events: Vec<Event>) -> Vec<Result<Vec<Output>, String>> {
        let transform = G::of().get().expect("init comes first");
        events.iter().map(|event| transform.transform(event)).collect()
    }
}

macro_rules! export_transform {
    ($name:ty) => {
        struct Exported;

        impl hydrant::Guest for Exported {
            type Of = $name;

            fn of() -> &'static std::sync::OnceLock<$name> {
                static OF: std::sync::OnceLock<$name> = std::sync::OnceLock::new();
                &OF
            }
        }

        hydrant::export!(Exported with_types_in hydrant);
    };
}
pub(crate) use export_transform;
