//! An exhaustive model of the outbox protocol (`DECISIONS.md`, "The promise is the bytes"): every order of steps, by
//! breadth-first search, so that a broken rule comes with its shortest story.
//!
//! One shard of three records; cuts anywhere; up to two chunks in the outbox, put, object by object, in any order; two
//! kills at any step, each of which leaves any of the puts under way to land at any later time; and a transform that
//! changes at each start, so that the same range gives other bytes and another number of objects.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

const RECORDS: u8 = 3;
const KILLS: u8 = 2;
const OUTBOX_CHUNKS_MAX: usize = 2;

/// The rules of the protocol; each can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    None,
    /// After a crash, read on from the checkpoint instead of max(checkpoint, end of the last sealed chunk).
    ReadOnFromCheckpoint,
    /// Remove an outbox file when it is delivered, before the checkpoint has passed it.
    RemoveBeforeCheckpoint,
    /// The checkpoint is the highest end delivered instead of the unbroken run.
    CheckpointIsHighest,
    /// What some peers do: names that differ from attempt to attempt.
    FreshNames,
    /// What others do: the outbox holds a plan (range and names), which is run again after a crash.
    PlanIsRunAgain,
}

/// A sealed range `[start, end)`, with the revision of the transform that made its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Chunk {
    start: u8,
    end: u8,
    revision: u8,
}

/// One object of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Object {
    chunk: Chunk,
    part: u8,
}

/// Range, part, and the attempt where names are fresh.
type Name = (u8, u8, u8, u8);

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct State {
    // durable
    checkpoint: u8,
    released: u8,
    outbox: BTreeSet<Chunk>,
    store: BTreeMap<Name, Object>,
    // on the wire, from dead processes
    late: BTreeSet<Object>,
    // of the process, whose number is the revision too
    life: u8,
    read: u8,
    put: BTreeSet<Object>,
    foreign_found: bool,
}

#[derive(Debug, Clone)]
#[expect(dead_code, reason = "the fields are printed as the story of a failure")]
enum Step {
    Seal(Chunk),
    Put(Object),
    Checkpoint(u8),
    Remove(Chunk),
    Release(u8),
    KillLeaving(BTreeSet<Object>),
    Land(Object),
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Problem {
    /// A record is in the store more than once.
    Twice,
    /// A record is released (its source may forget it) and not in the store.
    Lost,
    /// Other bytes lie under the name of a promise: a loud stop for ever.
    Foreign,
    /// Nothing more can happen, and not all is delivered.
    Stuck,
}

/// Searches all states, but none behind a problem: their number, and the shortest story of each problem.
fn search(broken: Broken) -> (usize, BTreeMap<Problem, String>) {
    let mut problems = BTreeMap::new();
    let mut seen = HashSet::from([State::default()]);
    let mut states = vec![(State::default(), 0, None)];
    let mut queue = VecDeque::from([0]);
    while let Some(index) = queue.pop_front() {
        let state = states[index].0.clone();
        let steps = state.steps(broken);
        if let Some(problem) = state.problem(&steps) {
            problems.entry(problem).or_insert_with(|| story(&states, index));
            continue;
        }
        for (step, next) in steps {
            if seen.insert(next.clone()) {
                queue.push_back(states.len());
                states.push((next, index, Some(step)));
            }
        }
    }
    (states.len(), problems)
}

fn story(states: &[(State, usize, Option<Step>)], mut index: usize) -> String {
    let mut steps = Vec::new();
    while let (_, parent, Some(step)) = &states[index] {
        steps.push(format!("{step:?}"));
        index = *parent;
    }
    steps.reverse();
    steps.join("\n  ")
}

impl State {
    fn steps(&self, broken: Broken) -> Vec<(Step, State)> {
        let mut steps = Vec::new();
        let mut add = |step: Step, change: &dyn Fn(&mut State)| {
            let mut next = self.clone();
            change(&mut next);
            steps.push((step, next));
        };
        for end in self.read + 1..=RECORDS {
            let chunk = Chunk { start: self.read, end, revision: self.life };
            if self.outbox.len() < OUTBOX_CHUNKS_MAX {
                add(Step::Seal(chunk), &|next| {
                    next.outbox.insert(chunk);
                    next.read = end;
                });
            }
        }
        for object in self.outbox.iter().flat_map(Chunk::objects).filter(|object| !self.put.contains(object)) {
            add(Step::Put(object), &|next| {
                next.put.insert(object);
                next.foreign_found |= next.create(object, broken) != object;
            });
        }
        for chunk in self.delivered() {
            let follows = chunk.start == self.checkpoint || broken == Broken::CheckpointIsHighest;
            if follows && chunk.end > self.checkpoint {
                add(Step::Checkpoint(chunk.end), &|next| next.checkpoint = chunk.end);
            }
        }
        for chunk in &self.outbox {
            let early = broken == Broken::RemoveBeforeCheckpoint && self.delivered().contains(chunk);
            if chunk.end <= self.checkpoint || early {
                add(Step::Remove(*chunk), &|next| {
                    next.outbox.remove(chunk);
                });
            }
        }
        if self.released < self.checkpoint {
            add(Step::Release(self.checkpoint), &|next| next.released = next.checkpoint);
        }
        if self.life < KILLS {
            for late in subsets(self.outbox.iter().flat_map(Chunk::objects).filter(|o| !self.put.contains(o))) {
                add(Step::KillLeaving(late.clone()), &|next| next.restart(&late, broken));
            }
        }
        for object in &self.late {
            add(Step::Land(*object), &|next| {
                next.late.remove(object);
                next.create(*object, broken);
            });
        }
        steps
    }

    /// Creates an object unless its name is taken; answers with what lies there now.
    fn create(&mut self, object: Object, broken: Broken) -> Object {
        let Object { chunk, part } = object;
        let attempt = if broken == Broken::FreshNames { 1 + self.life } else { 0 };
        *self.store.entry((chunk.start, chunk.end, part, attempt)).or_insert(object)
    }

    fn restart(&mut self, late: &BTreeSet<Object>, broken: Broken) {
        self.late.extend(late);
        self.put.clear();
        self.life += 1;
        if broken == Broken::PlanIsRunAgain {
            let rerun = |chunk: &Chunk| Chunk { revision: self.life, ..*chunk };
            self.outbox = self.outbox.iter().map(rerun).collect();
        }
        let sealed = self.outbox.iter().map(|chunk| chunk.end).max().unwrap_or(0);
        let sealed = if broken == Broken::ReadOnFromCheckpoint { 0 } else { sealed };
        self.read = self.checkpoint.max(sealed);
    }

    /// Chunks that this process knows to be in the store whole.
    fn delivered(&self) -> BTreeSet<Chunk> {
        let chunks: BTreeSet<Chunk> = self.put.iter().map(|object| object.chunk).collect();
        chunks.into_iter().filter(|chunk| chunk.objects().iter().all(|object| self.put.contains(object))).collect()
    }

    /// What is wrong here, if anything is.
    fn problem(&self, steps: &[(Step, State)]) -> Option<Problem> {
        if self.foreign_found {
            return Some(Problem::Foreign);
        }
        for record in 0..RECORDS {
            match self.store.values().filter(|object| object.records().contains(&record)).count() {
                0 if record < self.released => return Some(Problem::Lost),
                0 | 1 => {}
                _ => return Some(Problem::Twice),
            }
        }
        let waits = steps.iter().all(|(step, _)| matches!(step, Step::KillLeaving(_) | Step::Land(_)));
        let done = self.released == RECORDS && self.outbox.is_empty();
        (waits && !done).then_some(Problem::Stuck)
    }
}

impl Chunk {
    /// Its objects that hold a record; every other revision makes two of them.
    fn objects(&self) -> Vec<Object> {
        let parts = 1 + self.revision % 2;
        let objects = (0..parts).map(|part| Object { chunk: *self, part });
        objects.filter(|object| !object.records().is_empty()).collect()
    }
}

impl Object {
    fn records(&self) -> Vec<u8> {
        let parts = 1 + self.chunk.revision % 2;
        (self.chunk.start..self.chunk.end).filter(|record| record % parts == self.part).collect()
    }
}

fn subsets(objects: impl Iterator<Item = Object>) -> Vec<BTreeSet<Object>> {
    objects.fold(vec![BTreeSet::new()], |mut subsets, object| {
        let with: Vec<_> = subsets.iter().map(|subset| subset | &BTreeSet::from([object])).collect();
        subsets.extend(with);
        subsets
    })
}

#[test]
fn the_outbox_protocol_has_no_bad_end() {
    let (states, problems) = search(Broken::None);
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(states > 10_000, "the model shrank to {states} states");
}

#[test]
fn each_rule_of_the_outbox_protocol_is_needed() {
    use Problem::{Foreign, Lost, Stuck, Twice};
    let cases: [(Broken, &[Problem]); 5] = [
        (Broken::ReadOnFromCheckpoint, &[Twice, Foreign]),
        (Broken::RemoveBeforeCheckpoint, &[Twice, Foreign, Stuck]),
        (Broken::CheckpointIsHighest, &[Lost]),
        (Broken::FreshNames, &[Twice]),
        (Broken::PlanIsRunAgain, &[Twice, Foreign]),
    ];
    for (broken, expected) in cases {
        let (_, problems) = search(broken);
        let found: Vec<Problem> = problems.keys().copied().collect();
        assert_eq!(found, expected, "{broken:?}: {problems:#?}");
    }
}
