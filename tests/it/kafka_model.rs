//! An exhaustive model of how nodes hand Kafka partitions to each other (`DECISIONS.md`, "The promise is the bytes, between
//! nodes too"): every order of steps, by breadth-first search, so that a broken rule comes with its shortest story.
//!
//! ```text
//!   node 0: Ledger, sealed chunks --commits--> the group: owner, offset, metadata of each partition --told--> node 1
//!      '---- copies, objects (create-only) ---> the store <--- copies, objects; late ones of the dead ----------'
//! ```
//! The ledger and the text of the metadata are the real ones. Modelled around them: two nodes; a coordinator that refuses
//! who is no member any more but does not ask who owns what; commits that are lost, or whose answer is lost; partitions
//! asked back in order; merged shards, which are made anew whenever a partition comes or goes; sessions that expire while
//! their node believes that it owns and goes on; crashes; uploads of the dead, and of those who gave up, that land at any
//! later time; a transform that never makes the same bytes twice.

mod changes;
mod steps;
mod words;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hydrant::position::{Position, Shard, ShardRange};
use hydrant::source::kafka::ledger::{Answer, Claim, Ledger, Part};
use hydrant::source::kafka::plan::{Plan, SinkMark, Told};

use words::{name, number, position};

const NODES: usize = 2;
const PARTS: usize = 2;
/// A broken rule shows before so many states.
const BROKEN_STATES_MAX: usize = 300_000;
const CHUNKS_MAX: usize = 2;

/// The rules of the protocol; each can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    None,
    /// Objects are put while their plan is still on its way.
    PutBeforePlan,
    /// The end is committed when the first object of a chunk is there.
    EndBeforeObjects,
    /// The plan is committed while the handover copy is still on its way.
    PlanBeforeCopy,
    /// The handover copy is deleted while the commit of the end is still on its way.
    DeleteBeforeEnd,
    /// A commit that was refused is sent again by the same node as a new member.
    RetryAfterFencing,
    /// A new owner reads on from the offset it finds, beside the plans that it finds.
    BeginBeforeInherited,
    /// A new owner reads and transforms an inherited range again, instead of taking the copy.
    SealInheritedAgain,
    /// A partition has the same shard for ever.
    SameShardForEver,
    /// The same, and what lies in the store is overwritten.
    SameShardAndOverwrite,
    /// What lies in the store is overwritten: alone it does no harm, as no name is used for other bytes.
    Overwrite,
    /// A partition is given back while a commit is on its way.
    GiveBackInFlight,
    /// Chunks are planned in the order in which their copies arrive.
    ClaimOutOfTurn,
    /// A commit that was given up as unknown, and told again, is still on its way, and lands behind the newer one: so who
    /// gives up waiting for an answer joins the group anew before it commits again.
    StaleCommit,
    /// The copy of a merged shard's chunk is deleted when the partitions of one of its heirs have passed it: so an heir
    /// asks the group for the plans of all partitions, and leaves the copy to whoever comes last.
    DeleteAtOwnEnd,
    /// The coordinator takes some partitions of a commit and not others, and half a plan of a merged shard is followed.
    CommitInParts,
}

/// How much is looked at.
#[derive(Debug, Clone)]
struct World {
    broken: Broken,
    /// What does no harm by itself is a problem too.
    strict: bool,
    /// Records of each partition.
    records: [u8; PARTS],
    /// One shard for all partitions of a node.
    merge: bool,
    /// Partitions asked back, sessions expired, crashes.
    faults: [u8; 3],
    sink: SinkMark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ShardId {
    part: u8,
    session: u8,
}

/// What a sealed file is named after.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    shard: ShardId,
    start: u8,
    end: u8,
}

/// A sealed file: the bytes depend on the session that made them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sealed {
    key: Key,
    session: u8,
    objects: u8,
    from: [u8; PARTS],
    to: [u8; PARTS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Object {
    sealed: Sealed,
    number: u8,
}

/// An upload of a node that died or gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Late {
    Copy(Sealed),
    Object(Object),
}

#[derive(Debug, Clone, Hash)]
struct Chunk {
    sealed: Sealed,
    inherited: bool,
    copied: bool,
    granted: bool,
    put: u8,
    settled: bool,
}

/// What one assignment reads.
#[derive(Debug, Clone, Hash)]
struct Session {
    shard: ShardId,
    /// Tells the bytes of this session from those of any other.
    tag: u8,
    parts: Vec<u8>,
    inherited: Vec<Key>,
    /// Up to where a broken reader reads at the least, as the ledger asserts that plans do not go back.
    floor: u8,
    /// Where it reads on, once it may.
    read: Option<[u8; PARTS]>,
    /// The position of that in its shard.
    at: u8,
    chunks: Vec<Chunk>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    Sent,
    Applied,
    Refused,
}

#[derive(Debug, Clone, Hash)]
struct Commit {
    member: u8,
    says: Rc<[(u8, i64, Rc<str>)]>,
    fate: Fate,
}

/// A ledger that is hashed once.
#[derive(Debug, Clone)]
struct Kept(Rc<(u64, Ledger)>);

#[derive(Debug, Clone, Hash)]
struct Node {
    dead: bool,
    member: u8,
    ledger: Kept,
    sessions: Vec<Session>,
    commit: Option<Commit>,
    stale: Option<Commit>,
}

/// A partition, as the coordinator keeps it.
#[derive(Debug, Clone, Default, Hash)]
struct Group {
    owner: Option<u8>,
    asked: bool,
    offset: Option<i64>,
    text: Rc<str>,
    plans: Vec<Key>,
}

#[derive(Debug, Clone, Hash)]
struct State {
    nodes: [Node; NODES],
    members: [Option<u8>; NODES],
    group: Vec<Group>,
    sessions: [u8; PARTS],
    faults: [u8; 3],
    copies: BTreeMap<Key, Sealed>,
    store: BTreeMap<(Key, u8), Object>,
    late: BTreeSet<Late>,
    /// What the coordinator ever knew a plan of.
    planned: BTreeSet<Key>,
    problem: Option<Problem>,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the fields are printed as the story of a failure")]
enum Step {
    Assign { part: u8, to: usize },
    Inherit(usize, Key),
    Seal(usize, Sealed),
    PutCopy(usize, Key),
    Put(usize, Object),
    DeleteCopy(usize, Key),
    LeaveCopy(usize, Key),
    Send(usize, Vec<(u8, i64, Rc<str>)>),
    Arrive(usize, Fate),
    ArrivePart(usize),
    ArriveStale(usize),
    Answer(usize, Answer),
    Notice(usize),
    Ask(u8),
    GiveBack(u8),
    Expire(usize),
    Crash(usize),
    Bury(usize),
    Land(Late),
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Problem {
    /// A record is in the store more than once.
    Twice,
    /// The group has passed a record that is not in the store.
    Lost,
    /// Other bytes lie under the name of a promise: a loud stop for ever.
    Foreign,
    /// An object's bytes were replaced by others.
    Changed,
    /// A plan that the group keeps has no copy.
    CopyGone,
    /// An object was put whose plan the group never knew.
    Unplanned,
    /// A committed offset went back.
    Back,
    /// Nothing more can happen, and not all is delivered.
    Stuck,
}

/// Searches all states, but none behind a problem, until all of `wanted` are found: their number, and the shortest story
/// of each problem. A state is remembered by 64 bits of its hash.
fn search(world: &World, wanted: &[Problem]) -> (usize, BTreeMap<Problem, String>) {
    let start = State::start(world);
    let mut problems = BTreeMap::new();
    let mut seen = HashSet::from([fingerprint(&start)]);
    let mut parents = vec![(0_u32, 0_u16)];
    let mut queue = VecDeque::from([(0_u32, start)]);
    while let Some((index, state)) = queue.pop_front() {
        if !wanted.is_empty() && parents.len() > BROKEN_STATES_MAX {
            break;
        }
        let steps = state.steps(world);
        if let Some(problem) = state.problem(world, &steps) {
            problems.entry(problem).or_insert_with(|| story(world, &parents, index));
            if !wanted.is_empty() && wanted.iter().all(|problem| problems.contains_key(problem)) {
                break;
            }
            continue;
        }
        for (number, (_, next)) in steps.into_iter().enumerate() {
            if seen.insert(fingerprint(&next)) {
                queue.push_back((u32::try_from(parents.len()).unwrap(), next));
                parents.push((index, u16::try_from(number).unwrap()));
            }
        }
    }
    (parents.len(), problems)
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

fn story(world: &World, parents: &[(u32, u16)], mut index: u32) -> String {
    let mut numbers = Vec::new();
    while index != 0 {
        let (parent, number) = parents[index as usize];
        numbers.push(number);
        index = parent;
    }
    let mut state = State::start(world);
    let mut text = String::new();
    for number in numbers.into_iter().rev() {
        let (step, next) = state.steps(world).swap_remove(usize::from(number));
        text.push_str(&format!("\n  {step:?}"));
        state = next;
    }
    text
}

fn world(broken: Broken, records: [u8; PARTS], merge: bool, faults: [u8; 3]) -> World {
    World { broken, strict: broken == Broken::None, records, merge, faults, sink: SinkMark::of("file:///lake") }
}

/// Whether `HYDRANT_MODEL=deep` asks for worlds that take minutes and gigabytes.
fn is_deep() -> bool {
    std::env::var("HYDRANT_MODEL").is_ok_and(|depth| depth == "deep")
}

fn holds(world: &World, at_least: usize) {
    let begun = std::time::Instant::now();
    let (states, problems) = search(world, &[]);
    println!(
        "{:?} merge {} faults {:?}: {states} states in {:?}",
        world.records,
        world.merge,
        world.faults,
        begun.elapsed()
    );
    for (problem, story) in &problems {
        println!("{problem:?}:{story}");
    }
    assert!(problems.is_empty(), "{:?}", problems.keys());
    assert!(states > at_least, "the model shrank to {states} states");
}

#[test]
fn one_partition_goes_from_node_to_node_and_nothing_is_lost_or_twice() {
    holds(&world(Broken::None, [2, 0], false, [0, 1, 1]), 200_000);
    if is_deep() {
        holds(&world(Broken::None, [2, 0], false, [1, 1, 1]), 400_000);
    }
}

#[test]
fn two_partitions_go_each_its_way() {
    holds(&world(Broken::None, [1, 1], false, [1, 0, 1]), 200_000);
    if is_deep() {
        holds(&world(Broken::None, [1, 1], false, [1, 1, 0]), 400_000);
    }
}

#[test]
fn a_merged_shard_is_split_between_nodes_and_nothing_is_lost_or_twice() {
    holds(&world(Broken::None, [1, 1], true, [1, 0, 0]), 100_000);
    holds(&world(Broken::None, [1, 1], true, [0, 0, 1]), 200_000);
}

#[test]
fn the_owner_of_a_merged_shard_wakes_up_too_late_and_does_no_harm() {
    holds(&world(Broken::None, [1, 1], true, [0, 1, 0]), 500_000);
}

#[test]
fn names_that_are_never_used_again_make_even_overwriting_harmless() {
    holds(&world(Broken::Overwrite, [2, 0], false, [0, 1, 0]), 10_000);
}

#[test]
fn each_rule_between_nodes_is_needed() {
    use Problem::{Back, Changed, CopyGone, Foreign, Lost, Stuck, Twice, Unplanned};
    let one = |broken, faults| world(broken, [2, 0], false, faults);
    let strictly = |broken, faults| World { strict: true, ..one(broken, faults) };
    let merged = |broken, faults| world(broken, [1, 1], true, faults);
    let cases: Vec<(World, &[Problem])> = vec![
        (one(Broken::PutBeforePlan, [0, 1, 0]), &[Twice]),
        (strictly(Broken::PutBeforePlan, [0, 0, 0]), &[Unplanned]),
        (one(Broken::EndBeforeObjects, [0, 0, 0]), &[Lost]),
        (one(Broken::PlanBeforeCopy, [0, 0, 1]), &[Stuck]),
        (one(Broken::DeleteBeforeEnd, [0, 1, 0]), &[Stuck]),
        (strictly(Broken::DeleteBeforeEnd, [0, 0, 0]), &[CopyGone]),
        (one(Broken::RetryAfterFencing, [0, 1, 0]), &[Back]),
        (one(Broken::RetryAfterFencing, [0, 1, 1]), &[Twice]),
        (one(Broken::BeginBeforeInherited, [0, 0, 1]), &[Twice]),
        (one(Broken::SealInheritedAgain, [0, 0, 1]), &[Foreign]),
        (one(Broken::SameShardForEver, [0, 0, 1]), &[Foreign]),
        (one(Broken::SameShardAndOverwrite, [0, 1, 0]), &[Changed]),
        (one(Broken::GiveBackInFlight, [1, 0, 0]), &[Back]),
        (one(Broken::GiveBackInFlight, [1, 0, 1]), &[Twice]),
        (one(Broken::ClaimOutOfTurn, [0, 0, 0]), &[Stuck]),
        (one(Broken::ClaimOutOfTurn, [0, 0, 1]), &[Lost]),
        (one(Broken::StaleCommit, [0, 0, 0]), &[Back]),
        (one(Broken::StaleCommit, [0, 0, 1]), &[Back, Twice]),
        (merged(Broken::DeleteAtOwnEnd, [1, 0, 0]), &[Stuck]),
        (merged(Broken::CommitInParts, [0, 1, 0]), &[Twice]),
    ];
    let mut harmless = Vec::new();
    for (world, expected) in cases {
        let (states, problems) = search(&world, expected);
        println!("{:?} {:?}: {states} states", world.broken, world.faults);
        for (problem, story) in &problems {
            println!("{problem:?}:{story}");
        }
        if !expected.iter().all(|problem| problems.contains_key(problem)) {
            harmless.push((world.broken, world.faults, expected));
        }
    }
    assert!(harmless.is_empty(), "broken without harm: {harmless:?}");
}
