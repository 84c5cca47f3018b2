//! The crash test: the whole way, from a producer's request to the object, over a disk and a store that can die.
//!
//! A history is a few lives of one state folder and one store. Each life runs real producers, the real spool and the
//! real `pipeline::run` until it dies at a durable effect; the next starts with other limits, another time and another
//! transform. Within a life pipelines are cut for another revision, or drained and back. The last life has no faults and ends by itself. Then every acknowledged record must be in exactly one
//! object, in order, and nothing else. `HYDRANT_CRASH_SEED=n cargo test crash` repeats one seeded history.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hydrant::budget::Budget;
use hydrant::checkpoint::{Checkpoint, mark_drained, unmark_drained};
use hydrant::chunk::{Limits, Recipe};
use hydrant::encode::lines::{LinesFormat, Options as LinesOptions};
use hydrant::error::{Fault, Reason, RejectedBy};
use hydrant::ground::Ground;
use hydrant::inputs::Reads;
use hydrant::metrics::{Metrics, Progress};
use hydrant::naming::{ErrorPrefix, ObjectName, PartitionKeys, Prefix, time_zone};
use hydrant::outbox::Outbox;
use hydrant::pipeline::{self, Leave, Leaving, OutboxRoom, Transforms, Way};
use hydrant::record::{Batch, BatchBuilder};
use hydrant::sink::ObjectSink;
use hydrant::spool::{self, Append, AppendError, OnceKey, Stream};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Options, Rejected, Transform, Transformed};

use crate::sim::World;
use crate::sim::fate::{Death, Doom, Fate, Rates, Rng, Share};
use crate::sim::oracle::{Id, Named, Oracle, When};
use crate::sim::store::FaultyStore;

/// What differs from life to life.
#[derive(Debug, Clone)]
struct Plan {
    /// Pipelines that read the stream.
    pipelines: u64,
    /// Requests that each producer makes in this life.
    requests: u64,
    producers: u64,
    limits: Limits,
    segment_bytes: u64,
    /// With none, segments go as soon as they are released, and no call is made twice.
    once_window_ms: u64,
    /// The transform's answer in this life: it marks each record with it, and rejects every `reject`-th.
    mark: u64,
    reject: u64,
    /// How often each pipeline makes room for another revision in this life, or is drained and comes back.
    reloads: u64,
    /// In its place a module that answers differently each time.
    dice: bool,
    /// The stream ends after the producers, and the life goes on until everything is delivered.
    last: bool,
}

/// Marks each record with the life it went through, so that a record encoded twice differs.
struct Marker {
    mark: u64,
    reject: u64,
}

#[async_trait]
impl Transform for Marker {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let mut out = BatchBuilder::default();
        let mut rejected = Vec::new();
        for row in 0..batch.len() {
            let (payload, arrival_ms) = (batch.payload(row), batch.arrival_ms(row));
            let id = id_of(payload).expect("producers send ids");
            if self.reject > 0 && id.is_multiple_of(self.reject) {
                let message = format!("mark {}", self.mark);
                let reason = Reason { by: RejectedBy::Transform, code: "Test.Rejected", message };
                rejected.push(Rejected::new(Bytes::copy_from_slice(payload), arrival_ms, reason));
            } else {
                out.push(format!("{{\"id\":{id},\"mark\":{},\"p\":\"{}\"}}", self.mark, id % 3).as_bytes(), arrival_ms);
            }
        }
        Ok(Transformed { batch: out.finish(), rejected, ..Transformed::default() })
    }

    fn shown(&self) -> String {
        "marker".into()
    }
}

/// A module that throws dice for each record: in which prefix it goes, or that it is set aside.
fn dice() -> Arc<dyn Transform> {
    static DICE: OnceLock<Arc<dyn Transform>> = OnceLock::new();
    let made = DICE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dice.wasm"), wat::parse_str(include_str!("wasm/dice.wat")).unwrap())
            .unwrap();
        let options: Options = serde_json::from_str("{\"wasm\":{\"module\":\"dice.wasm\"}}").unwrap();
        options
            .make(&Making { pipeline: "p", folder: folder.path(), modules: &Modules::default(), reads: &Reads::new() })
            .unwrap()
    });
    made.clone()
}

fn payload_of(id: Id) -> String {
    format!("{{\"id\":{id}}}")
}

fn id_of(payload: &[u8]) -> Option<Id> {
    serde_json::from_slice::<serde_json::Value>(payload).ok()?.get("id")?.as_u64()
}

/// The ids in an object: rows of the lines format, or raw data of error records.
fn ids_in(path: &str, bytes: &[u8]) -> Result<Vec<Id>, String> {
    let errors = path.starts_with("errors/");
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let raw = match errors {
                false => line.to_vec(),
                true => {
                    let value: serde_json::Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
                    let data = value["rawData"].as_str().ok_or("no rawData")?;
                    base64_simd::STANDARD.decode_to_vec(data).map_err(|e| e.to_string())?
                }
            };
            id_of(&raw).ok_or_else(|| format!("no id in {}", String::from_utf8_lossy(line)))
        })
        .collect()
}

fn named(path: &str, pipeline: &str) -> Option<Named> {
    let name = ObjectName::parse(path).unwrap_or_else(|| panic!("{path} is not a name of ours"));
    (name.pipeline == pipeline).then(|| Named {
        shard: name.range.shard.to_string(),
        start: name.range.start.as_u64().expect("spool positions are small"),
        end: name.range.end.as_u64().expect("spool positions are small"),
    })
}

/// One life: producers, spool, pipelines.
async fn live(
    world: &World,
    plan: &Plan,
    seed: u64,
    next_id: &mut Id,
    oracle: &Arc<Mutex<Oracle>>,
) -> Result<(), Fault> {
    let ground = world.ground();
    let options = spool::Options {
        segment_bytes: plan.segment_bytes,
        spool_bytes_max: 1 << 20,
        free_bytes_min: 0,
        once_window_ms: plan.once_window_ms,
        ..spool::Options::default()
    };
    let stream = Stream::open(&ground, Path::new("/state/streams/s"), "s", &options).await?;
    let mut running = tokio::task::JoinSet::new();
    let names: Vec<String> = (0..plan.pipelines).map(|pipeline| format!("p{pipeline}")).collect();
    // All are registered before the first of them releases.
    names.iter().for_each(|name| drop(stream.source(name)));
    for (n, name) in names.into_iter().enumerate() {
        let rng = Rng::new(seed ^ (n as u64) << 32 ^ u64::from(world.fate.life()), "reloads");
        running.spawn(revisions(world.store.clone(), ground.clone(), stream.clone(), plan.clone(), name, rng));
    }
    let mut producing = tokio::task::JoinSet::new();
    for producer in 0..plan.producers {
        let first = *next_id;
        *next_id += plan.requests * 4;
        let rng = Rng::new(seed ^ first, "producer");
        let once = plan.once_window_ms > 0;
        producing.spawn(produce(stream.clone(), (producer, once), first, plan.requests, rng, oracle.clone()));
    }
    while producing.join_next().await.is_some() {}
    if !plan.last {
        // Long enough for every interval to pass; whoever is not done by then is killed.
        tokio::time::sleep(Duration::from_secs(120)).await;
        return Ok(());
    }
    stream.end();
    while let Some(ended) = running.join_next().await {
        ended.expect("a pipeline does not panic")?;
    }
    Ok(())
}

/// A pipeline over its revisions in one life: each is cut at some moment for the next, or drained, marked, forgotten and
/// back. The last one runs to the end.
async fn revisions(
    store: FaultyStore,
    ground: Ground,
    stream: Stream,
    mut plan: Plan,
    name: String,
    mut rng: Rng,
) -> Result<(), Fault> {
    let dir = Path::new("/state/pipelines").join(&name);
    for left in (0..=plan.reloads).rev() {
        let way = Arc::new(way(&store, &ground, &stream, &plan, &name)?);
        unmark_drained(&*ground.disk, &dir, stream.shard())?;
        let leaving = Leaving::new();
        let mut running = std::pin::pin!(pipeline::run(way.clone(), leaving.clone()));
        if left == 0 {
            return running.await;
        }
        tokio::select! {
            biased;
            ended = &mut running => return ended,
            () = tokio::time::sleep(Duration::from_millis(rng.below(1500))) => {}
        }
        let owed = stream.stats().durable;
        let drains = rng.chance(300);
        if drains {
            leaving.tell(Leave::Drain);
            // It may take long, or become a cut after all.
            let patience = Duration::from_millis(rng.below(120_000));
            tokio::select! {
                biased;
                ended = &mut running => ended?,
                () = tokio::time::sleep(patience) => {
                    leaving.tell(Leave::Cut);
                    (&mut running).await?;
                }
            }
        } else {
            leaving.tell(Leave::Cut);
            running.await?;
        }
        if drains && !leaving.is(Leave::Cut) {
            let at = way.checkpoint.of(stream.shard()).and_then(|at| at.as_u64()).expect("it has begun");
            assert!(at >= owed, "drained to {at}, and {owed} was owed");
            assert!(way.outbox.pending()?.is_empty(), "drained means delivered");
            mark_drained(&*ground.disk, &dir, &way.checkpoint.all())?;
            // Others would let go what this one is to read when it is back.
            if plan.pipelines == 1 {
                stream.forget(&name)?;
            }
        }
        plan.limits.size_bytes = 40 + rng.below(400);
        plan.limits.interval = Duration::from_millis(100 + rng.below(2000));
        (plan.mark, plan.reject) = (plan.mark + 10, [0, 3, 5][rng.below(3) as usize]);
    }
    Ok(())
}

async fn produce(
    stream: Stream,
    (producer, once): (u64, bool),
    first: Id,
    requests: u64,
    mut rng: Rng,
    oracle: Arc<Mutex<Oracle>>,
) {
    for request in 0..requests {
        let ids: Vec<Id> = (0..1 + rng.below(4)).map(|n| first + request * 4 + n).collect();
        ids.iter().for_each(|id| oracle.lock().unwrap().attempt(*id));
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(first + request * 4 + 1).to_le_bytes());
        // As an SDK does: the same key for the retries of one call, here sometimes although the answer was good.
        let calls = 1 + u64::from(once && rng.chance(200));
        let mut acked = false;
        let mut call = 0;
        while call < calls {
            let mut records = BatchBuilder::default();
            ids.iter().for_each(|id| records.push(payload_of(*id).as_bytes(), 1_767_225_600_000));
            let append = Append { records: records.finish(), once: once.then_some(OnceKey(key)) };
            match stream.append(append).await {
                Ok(appended) => {
                    assert_eq!(appended.count as usize, ids.len());
                    if !acked {
                        let mut oracle = oracle.lock().unwrap();
                        for (n, id) in ids.iter().enumerate() {
                            oracle.ack_at(*id, stream.shard().as_str(), appended.first + n as u64);
                        }
                        acked = true;
                    }
                    call += 1;
                }
                Err(AppendError::Full) => tokio::time::sleep(Duration::from_millis(500)).await,
                Err(AppendError::Stopped(_)) => return,
            }
        }
        if rng.chance(300) {
            tokio::time::sleep(Duration::from_millis(rng.below(400) * (producer + 1))).await;
        }
    }
}

fn way(store: &FaultyStore, ground: &Ground, stream: &Stream, plan: &Plan, name: &str) -> Result<Way, Fault> {
    let dir = Path::new("/state/pipelines").join(name);
    let zone = time_zone("UTC").expect("UTC is a time zone");
    let metrics = Metrics::new().pipeline(name);
    let transform: Arc<dyn Transform> = match plan.dice {
        true => dice(),
        false => Arc::new(Marker { mark: plan.mark, reject: plan.reject }),
    };
    let recipe = Recipe {
        pipeline: name.to_owned(),
        format: Arc::new(LinesFormat::new(&LinesOptions::default()).expect("good options")),
        prefix: Prefix::parse("p={p}/", &zone, &PartitionKeys::default()).expect("a good prefix"),
        error_prefix: ErrorPrefix::parse("errors/{reason}/", &zone).expect("a good prefix"),
        sink: "memory:///".to_owned(),
        limits: plan.limits.clone(),
    };
    let sink = ObjectSink::over(Arc::new(store.clone()), object_store::path::Path::ROOT, ground.random.clone());
    Ok(Way {
        name: name.to_owned(),
        source: Box::new(stream.source(name)),
        transforms: Transforms::new(name, vec![transform], &metrics),
        sinks: BTreeMap::from([(recipe.sink.clone(), sink)]),
        recipe: Arc::new(recipe),
        outbox: Outbox::open(ground, &dir.join("outbox"))?,
        checkpoint: Checkpoint::open(ground, &dir)?,
        room: OutboxRoom::new(64 << 10),
        sweeps: true,
        ground: ground.clone(),
        budget: Budget::new(8 << 20),
        progress: Progress::new(&metrics),
        metrics,
    })
}

/// Runs one life to its end or death; answers whether it ended by itself.
fn run_life(world: &World, plan: &Plan, seed: u64, next_id: &mut Id, oracle: &Arc<Mutex<Oracle>>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = world.fate.until_dead() => None,
            ended = live(world, plan, seed, next_id, oracle) => Some(ended),
            () = tokio::time::sleep(Duration::from_secs(7 * 24 * 3600)) => panic!("a life went on for a week"),
        }
    });
    // Whoever still runs is killed: what tasks do when they are dropped has no effect any more.
    world.fate.end();
    drop(runtime);
    match ended {
        Some(Ok(())) => true,
        // A fault of the disk ends the process, as the daemon would.
        Some(Err(_)) | None => false,
    }
}

fn check(world: &World, plan: &Plan, oracle: &Arc<Mutex<Oracle>>) -> Result<(), String> {
    let (objects, history) = (world.store.objects(), world.store.history());
    for pipeline in 0..plan.pipelines {
        let pipeline = format!("p{pipeline}");
        let ids = |path: &str, bytes: &[u8]| ids_in(path, bytes);
        let verdict =
            oracle.lock().unwrap().check(When::Settled, &objects, &history, |path| named(path, &pipeline), ids);
        verdict.map_err(|broken| format!("pipeline {pipeline}: {broken}"))?;
    }
    Ok(())
}

/// The last life: no faults, to the end. It is given more than one try only if a fault rate says so.
fn settle(
    world: &mut World,
    plan: &Plan,
    seed: u64,
    next_id: &mut Id,
    oracle: &Arc<Mutex<Oracle>>,
) -> Result<(), String> {
    world.fate.set_rates(Rates::NONE);
    world.restart(None);
    world.fate.set_rates(Rates::NONE);
    let last = Plan { last: true, ..plan.clone() };
    if !run_life(world, &last, seed, next_id, oracle) {
        return Err("the last life did not end by itself".to_owned());
    }
    world.store.settle();
    check(world, plan, oracle)
}

fn base_plan() -> Plan {
    Plan {
        pipelines: 1,
        requests: 9,
        producers: 1,
        // Small enough for several chunks, so that the checkpoint comes to be overwritten in place.
        limits: Limits { size_bytes: 60, interval: Duration::from_millis(700), aligned: None },
        segment_bytes: 512,
        once_window_ms: 0,
        mark: 1,
        reject: 5,
        reloads: 0,
        dice: false,
        last: false,
    }
}

/// Effects of a whole life that nobody disturbs.
fn effects_of_a_life(plan: &Plan) -> u64 {
    let world = World::new(Fate::gentle(1));
    let oracle = Arc::new(Mutex::new(Oracle::new()));
    assert!(run_life(&world, &Plan { last: true, ..plan.clone() }, 1, &mut 0, &oracle));
    check(&world, plan, &oracle).unwrap();
    world.fate.effects()
}

/// Two deaths, at any two durable effects: the second life has other limits and another transform.
fn two_deaths(first: Doom, second: Doom) -> Result<(), String> {
    let seed = first.at * 1000 + second.at;
    let plan = base_plan();
    let mut world = World::new(Fate::new(seed, Rates::NONE, Some(first)));
    let (mut next_id, oracle) = (0, Arc::new(Mutex::new(Oracle::new())));
    run_life(&world, &plan, seed, &mut next_id, &oracle);
    let limits = Limits { size_bytes: 300, interval: Duration::from_millis(300), aligned: None };
    let plan = Plan { limits, mark: 2, reject: 0, segment_bytes: 2 << 10, ..plan };
    world.restart(Some(second));
    run_life(&world, &plan, seed, &mut next_id, &oracle);
    let plan = Plan { mark: 3, reject: 7, ..plan };
    settle(&mut world, &plan, seed, &mut next_id, &oracle)
        .map_err(|broken| format!("dying at {first:?}, then at {second:?}: {broken}\n{}", world.fate.story()))
}

#[test]
fn whoever_dies_at_any_two_durable_effects_loses_nothing_and_doubles_nothing() {
    let effects = effects_of_a_life(&base_plan());
    assert!(effects > 80, "a life has only {effects} effects: the test has lost its point");
    let shares = [Share::Nothing, Share::Part, Share::All];
    let deaths =
        [(Death::Kill, Death::PowerLoss), (Death::PowerLoss, Death::Kill), (Death::PowerLoss, Death::PowerLoss)];
    let pairs = effects * effects;
    let failures = in_parallel(pairs * deaths.len() as u64, |n| {
        let (pair, (death, next_death)) = (n % pairs, deaths[(n / pairs) as usize]);
        let (at, next_at) = (1 + pair / effects, 1 + pair % effects);
        let share = shares[((at + next_at) % 3) as usize];
        let next_share = shares[(next_at % 3) as usize];
        two_deaths(Doom { at, death, share }, Doom { at: next_at, death: next_death, share: next_share })
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    println!("{} histories of two deaths at every pair of {effects} durable effects", pairs * deaths.len() as u64);
}

/// A death at any durable effect of a life with reloads, another in the next life, which has them too.
fn death_amid_reloads(first: Doom, seed: u64) -> Result<(), String> {
    let plan = Plan { reloads: 3, requests: 6, ..base_plan() };
    let mut world = World::new(Fate::new(seed, Rates::NONE, Some(first)));
    let (mut next_id, oracle) = (0, Arc::new(Mutex::new(Oracle::new())));
    run_life(&world, &plan, seed, &mut next_id, &oracle);
    let second = world.fate.draw_doom(150);
    world.restart(Some(second));
    run_life(&world, &Plan { mark: 2, ..plan.clone() }, seed, &mut next_id, &oracle);
    settle(&mut world, &Plan { mark: 3, ..plan }, seed, &mut next_id, &oracle).map_err(|broken| {
        format!("seed {seed}, dying at {first:?}, then at {second:?}: {broken}\n{}", world.fate.story())
    })
}

#[test]
fn whoever_dies_at_any_durable_effect_amid_reloads_loses_nothing_and_doubles_nothing() {
    const EFFECTS: u64 = 160;
    const SEEDS: u64 = 8;
    let deaths = [Death::Kill, Death::PowerLoss];
    let shares = [Share::Nothing, Share::Part, Share::All];
    let failures = in_parallel(EFFECTS * SEEDS * 2, |n| {
        let (at, seed) = (1 + n % EFFECTS, n / EFFECTS / 2);
        let death = deaths[(n / EFFECTS % 2) as usize];
        death_amid_reloads(Doom { at, death, share: shares[((at + seed) % 3) as usize] }, seed)
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Runs `case` for each number below `cases` on all cores; gives up after a few failures.
fn in_parallel(cases: u64, case: impl Fn(u64) -> Result<(), String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get()) as u64;
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (case, failures) = (&case, &failures);
            scope.spawn(move || {
                for n in (thread..cases).step_by(threads as usize) {
                    match case(n) {
                        Ok(()) => {}
                        Err(broken) => failures.lock().unwrap().push(broken),
                    }
                    if failures.lock().unwrap().len() >= FAILURES_SHOWN {
                        break;
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

/// Failed histories that are printed; there is no point in more.
const FAILURES_SHOWN: usize = 2;

/// A seeded history of up to five lives with every kind of fault; with `dice` its transform does not know the seed. `Err` says what is broken.
fn history(seed: u64, dice: bool) -> Result<(u64, usize), String> {
    let mut rng = Rng::new(seed, "history");
    let rates = if rng.chance(250) { Rates::NONE } else { Rates::BAD_DAY };
    let fate = Fate::seeded(seed, rates);
    fate.set_doom(Some(fate.draw_doom(150)));
    let mut world = World::new(fate);
    let (mut next_id, oracle) = (0, Arc::new(Mutex::new(Oracle::new())));
    let pipelines = 1 + u64::from(rng.chance(250));
    let mut plan = base_plan();
    for life in 0..1 + rng.below(4) {
        plan = Plan {
            pipelines,
            requests: 1 + rng.below(6),
            producers: 1 + rng.below(3),
            limits: Limits {
                size_bytes: 40 + rng.below(400),
                interval: Duration::from_millis(100 + rng.below(2000)),
                aligned: None,
            },
            segment_bytes: 512 << rng.below(4),
            once_window_ms: [0, 60_000][rng.below(2) as usize],
            mark: life,
            reject: [0, 3, 5][rng.below(3) as usize],
            reloads: [0, 1, 4][rng.below(3) as usize],
            dice,
            last: false,
        };
        if life > 0 {
            let doom = world.fate.draw_doom(150);
            world.restart(Some(doom));
        }
        run_life(&world, &plan, seed, &mut next_id, &oracle);
    }
    let settled = settle(&mut world, &plan, seed, &mut next_id, &oracle);
    let acked = oracle.lock().unwrap().acked();
    settled.map(|()| (world.fate.effects_total(), acked)).map_err(|broken| {
        format!("seed {seed}: {broken}\n{}\nrepeat with HYDRANT_CRASH_SEED={seed} cargo test crash", world.fate.story())
    })
}

#[test]
fn twenty_thousand_seeded_histories_of_faults_keep_the_promise() {
    let one = std::env::var("HYDRANT_CRASH_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let seeds: u64 = std::env::var("HYDRANT_CRASH_SEEDS").ok().map_or(20_000, |seeds| seeds.parse().expect("a number"));
    if let Some(seed) = one {
        return history(seed, false).map(|_| ()).unwrap_or_else(|broken| panic!("{broken}"));
    }
    let totals = Mutex::new((0, 0));
    let failures = in_parallel(seeds, |seed| {
        let (effects, acked) = history(seed, false)?;
        let mut totals = totals.lock().unwrap();
        *totals = (totals.0 + effects, totals.1 + acked);
        Ok(())
    });
    let (effects, acked) = totals.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(acked > 0, "nothing was ever acknowledged: the test has lost its point");
    println!("{seeds} histories, {effects} durable effects, {acked} records acknowledged");
}

#[test]
fn a_module_that_answers_differently_each_time_loses_nothing_and_doubles_nothing() {
    let acked = Mutex::new(0);
    let failures = in_parallel(1_000, |seed| {
        *acked.lock().unwrap() += history(seed, true)?.1;
        Ok(())
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(acked.into_inner().unwrap() > 0, "nothing was ever acknowledged: the test has lost its point");
    // It does what the test is about.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = || {
        let mut batch = BatchBuilder::default();
        (0..100).for_each(|id| batch.push(payload_of(id).as_bytes(), 0));
        let Transformed { batch, rejected, .. } = runtime.block_on(dice().apply(batch.finish())).unwrap();
        assert_eq!(batch.len() + rejected.len(), 100);
        batch.payloads().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert_ne!(answers(), answers());
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in [3, 7, 11, 1_000_003] {
        assert_eq!(history(seed, false).map_err(|_| ()), history(seed, false).map_err(|_| ()));
    }
}
