//! What `benches/transforms.rs` measures hydrant with: the work that its config names, done to every record.

mod work;

use std::sync::OnceLock;

use exports::hydrant::transform::transformer::{Event, Guest, Output};
use work::{Became, Work};

wit_bindgen::generate!({ path: "../hydrant.wit", world: "transform" });

static WORK: OnceLock<Work> = OnceLock::new();

struct Bench;

impl Guest for Bench {
    fn init(config: String) -> Result<(), String> {
        let work = work::of(&config).ok_or_else(|| format!("there is no work of the name `{config}`"))?;
        WORK.set(work).map_err(|_| "init is called once".to_owned())
    }

    fn process(events: Vec<Event>) -> Vec<Result<Vec<Output>, String>> {
        let work = WORK.get().expect("init comes first");
        let one = |event: Event| match work(event.data, event.arrival_ms)? {
            Became::Record(data) => Ok(vec![Output { data, partition_keys: Vec::new() }]),
            Became::Nothing => Ok(Vec::new()),
        };
        events.into_iter().map(one).collect()
    }
}

export!(Bench);
