//! Replays of error objects over a disk and a store that can die: a call that dies at any durable effect, and the next one that
//! goes on, deliver each record once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant::budget::Budget;
use hydrant::chunk::{Limits, Recipe};
use hydrant::daemon::replay::Kit;
use hydrant::encode::lines::{LinesFormat, Options as LinesOptions};
use hydrant::error::{Fault, Reason, RejectedBy};
use hydrant::metrics::Metrics;
use hydrant::naming::{ErrorPrefix, PartitionKeys, Prefix, time_zone};
use hydrant::position::Shard;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::rejected::Lines;
use hydrant::sink::ObjectSink;
use hydrant::status::replay::{Ask, Errors, Said, Summary, What};
use hydrant::transform::{Rejected, Transform, Transformed};
use object_store::path::Path;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::sim::World;
use crate::sim::fate::{Death, Doom, Fate, Rates, Share};

const RECORDS: u64 = 12;

/// Marks each record with the life it went through, and refuses some of them again.
struct Marker {
    life: u64,
}

#[async_trait]
impl Transform for Marker {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let (mut out, mut rejected) = (BatchBuilder::default(), Vec::new());
        for row in 0..batch.len() {
            let id = id_of(batch.payload(row));
            match id % (3 + self.life) {
                0 => {
                    let reason = Reason { by: RejectedBy::Transform, code: "Test.Again", message: String::new() };
                    rejected.push(Rejected::new(batch.share(row), batch.arrival_ms(row), reason));
                }
                _ => out.push(format!("{{\"id\":{id},\"life\":{}}}", self.life).as_bytes(), batch.arrival_ms(row)),
            }
        }
        Ok(Transformed { batch: out.finish(), rejected, ..Transformed::default() })
    }

    fn shown(&self) -> String {
        "marker".into()
    }
}

fn id_of(payload: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(payload).unwrap()["id"].as_u64().unwrap()
}

/// A store with a few error objects of pipeline `p`.
fn world(fate: Fate) -> (World, Vec<Path>) {
    let world = World::new(fate);
    let shard = Shard::new("5ea1").unwrap();
    let lines = Lines::new("p", &shard);
    let mut planted = Vec::new();
    for (object, ids) in [(0, 0..5), (5, 5..6), (6, 6..RECORDS)] {
        let mut text = Vec::new();
        let end = ids.end;
        for id in ids {
            let reason = Reason { by: RejectedBy::Format, code: "X", message: "m".into() };
            lines.append(&Rejected::new(format!("{{\"id\":{id}}}").into_bytes().into(), 7, reason), 8, &mut text);
        }
        let path = Path::from(format!("errors/x/p-5ea1-{object:016}-{end:016}.ndjson"));
        world.store.plant(&path, Bytes::from(text));
        planted.push(path);
    }
    (world, planted)
}

fn kit(world: &World, life: u64) -> Kit {
    let (ground, zone) = (world.ground(), time_zone("UTC").unwrap());
    let recipe = Recipe {
        pipeline: "p".to_owned(),
        format: Arc::new(LinesFormat::new(&LinesOptions::default()).unwrap()),
        prefix: Prefix::parse("rows/", &zone, &PartitionKeys::default()).unwrap(),
        error_prefix: ErrorPrefix::parse("errors/{reason}/", &zone).unwrap(),
        sink: "memory:///".to_owned(),
        // Several chunks, also of one object.
        limits: Limits { size_bytes: 30 + 40 * life, interval: Duration::from_millis(500), aligned: None },
    };
    let (store, random) = (world.store.clone(), ground.random.clone());
    Kit {
        budget: Budget::new(8 << 20),
        metrics: Metrics::new(),
        state: PathBuf::from("/state"),
        recipe: Arc::new(recipe),
        transforms: vec![Arc::new(Marker { life })],
        open_sink: Box::new(move |_| Ok(ObjectSink::over(Arc::new(store.clone()), Path::ROOT, random.clone()))),
        stream: None,
        lent: None,
        stream_is_read: false,
        sweeps: true,
        stop: CancellationToken::new(),
        ground,
    }
}

/// One call; `None`: it died or failed.
fn call(world: &World, life: u64) -> Option<Summary> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(async {
        let (saying, mut hearing) = mpsc::unbounded_channel();
        let wanted = Errors { prefix: Some("errors/".to_owned()), not_replayed: true, ..Errors::default() };
        let ask = Ask { pipeline: "p".to_owned(), what: What::Errors(wanted), dry_run: false };
        tokio::select! {
            biased;
            () = world.fate.until_dead() => return None,
            () = async { kit(world, life).run(&ask, &saying).await } => {}
        }
        let mut last = None;
        while let Ok(said) = hearing.try_recv() {
            last = Some(said);
        }
        match last {
            Some(Said::Ended(summary)) => Some(summary),
            _ => None,
        }
    });
    world.fate.end();
    drop(runtime);
    ended
}

/// How often each record is there, delivered or refused again.
fn delivered(world: &World, planted: &[Path]) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    for (path, bytes) in world.store.objects() {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !planted.contains(&path)) {
            assert!(path.as_ref().contains("-replay"), "{path}");
            let value: Value = serde_json::from_slice(line).unwrap();
            let id = match value["rawData"].as_str() {
                Some(raw) => id_of(&base64_simd::STANDARD.decode_to_vec(raw).unwrap()),
                None => value["id"].as_u64().unwrap(),
            };
            *times.entry(id).or_default() += 1;
        }
    }
    times
}

fn once() -> BTreeMap<u64, u32> {
    (0..RECORDS).map(|id| (id, 1)).collect()
}

/// The call after all that died: it ends well, and the one after it has nothing to do.
fn settle(world: &mut World, planted: &[Path]) -> Result<(), String> {
    world.restart(None);
    let Some(_) = call(world, 5) else { return Err("the last call did not end well".to_owned()) };
    world.store.settle();
    let times = delivered(world, planted);
    if times != once() {
        return Err(format!("{times:?}"));
    }
    world.restart(None);
    match call(world, 6) {
        Some(summary) if summary.nothing_left => {}
        other => return Err(format!("once more: {other:?}")),
    }
    if delivered(world, planted) == once() { Ok(()) } else { Err("replayed again".to_owned()) }
}

#[test]
fn a_call_that_nobody_disturbs_delivers_each_record_once_and_leaves_little() {
    let (mut world, planted) = world(Fate::gentle(1));
    let summary = call(&world, 1).unwrap();
    assert_eq!((summary.records, summary.error_objects, summary.delivered + summary.rejected), (RECORDS, 3, RECORDS));
    assert_eq!(summary.by_reason["format-conversion-failed"], RECORDS);
    assert_eq!(delivered(&world, &planted), once());
    world.restart(None);
    let files = world.ground().disk.list(&PathBuf::from("/state/replays/p/errors")).unwrap();
    // A checksum and 17 bytes an object.
    assert_eq!(files, [("done".to_owned(), 9 + 3 * 17)]);
    settle(&mut world, &planted).unwrap();
}

#[test]
fn whoever_dies_at_any_two_durable_effects_of_a_replay_delivers_each_record_once() {
    let effects = {
        let (world, _) = world(Fate::gentle(1));
        call(&world, 1).unwrap();
        world.fate.effects()
    };
    assert!(effects > 30, "a call has only {effects} effects: the test has lost its point");
    let shares = [Share::Nothing, Share::Part, Share::All];
    let mut histories = 0;
    for at in 1..=effects {
        // Every pair would be minutes; every first death with some of the second.
        for next_at in (1 + at % 5..=effects).step_by(5) {
            for (death, next_death) in [(Death::Kill, Death::PowerLoss), (Death::PowerLoss, Death::PowerLoss)] {
                let first = Doom { at, death, share: shares[((at + next_at) % 3) as usize] };
                let second = Doom { at: next_at, death: next_death, share: shares[(next_at % 3) as usize] };
                let (mut world, planted) = world(Fate::new(at * 1000 + next_at, Rates::NONE, Some(first)));
                call(&world, 1);
                world.restart(Some(second));
                call(&world, 2);
                let settled = settle(&mut world, &planted);
                assert!(settled.is_ok(), "{first:?}, {second:?}: {settled:?}\n{}", world.fate.story());
                histories += 1;
            }
        }
    }
    println!("{histories} histories of two deaths over {effects} durable effects");
}
