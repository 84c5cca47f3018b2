//! An exhaustive model of how nodes hand Kafka partitions to each other (`DECISIONS.md`, "The promise is the bytes, between
//! nodes too"): every order of steps, by breadth-first search, so that a broken rule comes with its shortest story.
//!
//! ```text
//!   node 0: Ledger, sealed chunks --commits--> the group: owner, offset, metadata of each partition --told--> node 1
//!      '---- copies, objects (create-only) ---> the store <--- copies, objects; late ones of the dead ----------'
//! ```
//! The ledger and the text of the metadata are the real ones. Modelled around them: two nodes; a coordinator that refuses
//! who is no member any more but does not ask who owns what; commits that are lost, or whose answer is lost; partitions
//! asked back in order; sessions that expire while their node believes that it owns and goes on; crashes; uploads of the
//! dead, and of those who gave up, that land at any later time; a transform that never makes the same bytes twice.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use hydrant::position::{Position, Shard, ShardRange};
use hydrant::source::kafka::ledger::{Answer, Claim, Ledger, Part};
use hydrant::source::kafka::plan::{Plan, SinkMark, Told};

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
    /// A commit that was given up as unknown, and told again, is still on its way.
    StaleCommit,
    /// The copy of a merged shard's chunk is deleted when the partitions of one of its heirs have passed it.
    DeleteAtOwnEnd,
    /// The coordinator takes some partitions of a commit and refuses others.
    CommitInParts,
}

/// How much is looked at.
#[derive(Debug, Clone)]
struct World {
    broken: Broken,
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

impl World {
    fn overwrites(&self) -> bool {
        matches!(self.broken, Broken::Overwrite | Broken::SameShardAndOverwrite)
    }
}

impl State {
    fn start(world: &World) -> State {
        let node = Node {
            dead: false,
            member: 0,
            ledger: Kept::new(Ledger::default()),
            sessions: Vec::new(),
            commit: None,
            stale: None,
        };
        State {
            nodes: [node.clone(), node],
            members: [Some(0); NODES],
            group: world.records.iter().filter(|&&records| records > 0).map(|_| Group::default()).collect(),
            sessions: [0; PARTS],
            faults: world.faults,
            copies: BTreeMap::new(),
            store: BTreeMap::new(),
            late: BTreeSet::new(),
            planned: BTreeSet::new(),
            problem: None,
        }
    }

    fn steps(&self, world: &World) -> Vec<(Step, State)> {
        let mut steps = Vec::new();
        for node in 0..NODES {
            self.steps_of_node(world, node, &mut steps);
            self.steps_of_commits(world, node, &mut steps);
            self.faults_of_node(world, node, &mut steps);
        }
        for part in 0..self.group.len() {
            self.steps_of_part(world, part, &mut steps);
        }
        for late in &self.late {
            self.add(&mut steps, Step::Land(*late), |next| {
                next.late.remove(late);
                match late {
                    Late::Copy(sealed) => drop(next.copies.entry(sealed.key).or_insert(*sealed)),
                    Late::Object(object) => drop(next.create(world, *object)),
                }
            });
        }
        steps
    }

    fn add(&self, steps: &mut Vec<(Step, State)>, step: Step, change: impl FnOnce(&mut State)) {
        let mut next = self.clone();
        change(&mut next);
        let store = &next.store;
        next.late.retain(|late| match late {
            Late::Object(object) => store.get(&object.name()) != Some(object),
            Late::Copy(_) => true,
        });
        steps.push((step, next));
    }

    fn steps_of_node(&self, world: &World, n: usize, steps: &mut Vec<(Step, State)>) {
        for (s, session) in self.nodes[n].sessions.iter().enumerate() {
            if let Some(key) = session.inherited.first()
                && let Some(sealed) = self.copies.get(key)
            {
                self.add(steps, Step::Inherit(n, *key), |next| {
                    let session = &mut next.nodes[n].sessions[s];
                    let mut sealed = *sealed;
                    if world.broken == Broken::SealInheritedAgain {
                        sealed.session = session.tag;
                    }
                    session.inherited.remove(0);
                    session.chunks.push(Chunk::new(sealed, true));
                    next.local(world, n);
                });
            }
            for sealed in session.cuts(world) {
                self.add(steps, Step::Seal(n, sealed), |next| {
                    let session = &mut next.nodes[n].sessions[s];
                    (session.at, session.read) = (sealed.key.end, Some(sealed.to));
                    session.chunks.push(Chunk::new(sealed, false));
                    next.local(world, n);
                });
            }
            for (c, chunk) in session.chunks.iter().enumerate() {
                self.steps_of_chunk(world, (n, s, c), chunk, steps);
            }
        }
    }

    fn steps_of_chunk(
        &self,
        world: &World,
        (n, s, c): (usize, usize, usize),
        chunk: &Chunk,
        steps: &mut Vec<(Step, State)>,
    ) {
        let key = chunk.sealed.key;
        if !chunk.copied {
            self.add(steps, Step::PutCopy(n, key), |next| {
                if world.overwrites() {
                    next.copies.insert(key, chunk.sealed);
                } else if *next.copies.entry(key).or_insert(chunk.sealed) != chunk.sealed {
                    next.problem = Some(Problem::Foreign);
                }
                next.nodes[n].sessions[s].chunks[c].copied = true;
                next.local(world, n);
            });
        }
        for object in chunk.to_put(world) {
            self.add(steps, Step::Put(n, object), |next| {
                if !next.planned.contains(&key) && world.broken == Broken::None {
                    next.problem = Some(Problem::Unplanned);
                }
                if next.create(world, object) != object {
                    next.problem = Some(Problem::Foreign);
                }
                next.nodes[n].sessions[s].chunks[c].put |= 1 << object.number;
                next.local(world, n);
            });
        }
        let early = world.broken == Broken::DeleteBeforeEnd && chunk.is_delivered(world);
        if chunk.copied && (chunk.settled || early) {
            let named = self.group.iter().any(|group| group.plans.contains(&key));
            let leave = world.merge && named && world.broken != Broken::DeleteAtOwnEnd;
            let step = if leave { Step::LeaveCopy(n, key) } else { Step::DeleteCopy(n, key) };
            self.add(steps, step, |next| {
                if !leave {
                    next.copies.remove(&key);
                }
                next.nodes[n].sessions[s].chunks.remove(c);
            });
        }
    }

    fn steps_of_commits(&self, world: &World, n: usize, steps: &mut Vec<(Step, State)>) {
        let node = &self.nodes[n];
        let mut ledger = node.ledger.get().clone();
        if !node.dead
            && let Some(commit) = ledger.next_commit()
        {
            let says = commit.iter().map(|(part, told)| (number(part), told.offset, told.metadata(&world.sink).into()));
            let says: Vec<(u8, i64, Rc<str>)> = says.collect();
            self.add(steps, Step::Send(n, says.clone()), |next| {
                next.nodes[n].ledger = Kept::new(ledger);
                next.nodes[n].commit = Some(Commit { member: node.member, says: says.into(), fate: Fate::Sent });
            });
        }
        if let Some(commit) = &node.stale {
            self.add(steps, Step::ArriveStale(n), |next| {
                next.nodes[n].stale = None;
                if next.members[n] == Some(commit.member) {
                    next.apply(world, &commit.says);
                }
            });
        }
        let Some(commit) = &node.commit else { return };
        if commit.fate == Fate::Sent {
            let fate = if self.members[n] == Some(commit.member) { Fate::Applied } else { Fate::Refused };
            self.add(steps, Step::Arrive(n, fate), |next| next.arrive(world, n, fate, &commit.says));
            let whole = node.dead || fate == Fate::Refused || commit.says.len() == 1;
            if world.broken == Broken::CommitInParts && !whole {
                self.add(steps, Step::ArrivePart(n), |next| {
                    next.apply(world, &commit.says[..1]);
                    next.answer(world, n, Answer::Unknown);
                });
            }
        }
        if node.dead {
            return;
        }
        if commit.fate != Fate::Sent {
            let answer = if commit.fate == Fate::Applied { Answer::Done } else { Answer::Fenced };
            self.add(steps, Step::Answer(n, answer), |next| next.answer(world, n, answer));
        }
        if commit.fate != Fate::Refused {
            self.add(steps, Step::Answer(n, Answer::Unknown), |next| {
                if world.broken == Broken::StaleCommit && commit.fate == Fate::Sent {
                    next.nodes[n].stale = Some(commit.clone());
                }
                next.answer(world, n, Answer::Unknown);
            });
        }
    }

    fn faults_of_node(&self, world: &World, n: usize, steps: &mut Vec<(Step, State)>) {
        let node = &self.nodes[n];
        if node.dead {
            self.add(steps, Step::Bury(n), |next| {
                next.disown(n);
                next.nodes[n] = Node { dead: false, member: node.member + 1, commit: None, ..node.clone() };
                next.members[n] = Some(node.member + 1);
            });
            return;
        }
        if self.members[n].is_none() {
            self.add(steps, Step::Notice(n), |next| {
                next.nodes[n].member += 1;
                next.members[n] = Some(next.nodes[n].member);
                next.lose(world, n, |_| true);
                if let (Broken::RetryAfterFencing, Some(commit)) = (world.broken, &mut next.nodes[n].commit) {
                    (commit.member, commit.fate) = (node.member + 1, Fate::Sent);
                }
            });
        } else if self.faults[1] > 0 && self.group.iter().any(|group| group.owner == Some(n as u8)) {
            self.add(steps, Step::Expire(n), |next| {
                next.faults[1] -= 1;
                next.members[n] = None;
                next.disown(n);
            });
        }
        if self.faults[2] > 0 && !node.sessions.is_empty() {
            self.add(steps, Step::Crash(n), |next| {
                next.faults[2] -= 1;
                next.lose(world, n, |_| true);
                let commit = node.commit.clone().filter(|commit| commit.fate == Fate::Sent);
                let ledger = Kept::new(Ledger::default());
                next.nodes[n] = Node { dead: true, ledger, commit, ..next.nodes[n].clone() };
            });
        }
    }

    fn steps_of_part(&self, world: &World, p: usize, steps: &mut Vec<(Step, State)>) {
        let (group, part) = (&self.group[p], p as u8);
        let Some(owner) = group.owner else {
            for n in 0..NODES {
                let node = &self.nodes[n];
                // The nodes are alike: the first partition of all goes to the first.
                let first = n == 0 || self.sessions != [0; PARTS];
                let ready = !node.dead && self.members[n] == Some(node.member) && first;
                if ready && !(world.merge && node.ledger.get().is_on_its_way()) {
                    self.add(steps, Step::Assign { part, to: n }, |next| next.assign(world, n, part));
                }
            }
            return;
        };
        let n = usize::from(owner);
        let node = &self.nodes[n];
        if node.dead {
            return;
        }
        if self.faults[0] > 0 && !group.asked {
            self.add(steps, Step::Ask(part), |next| {
                next.faults[0] -= 1;
                next.group[p].asked = true;
                next.nodes[n].ledger.change(|ledger| ledger.leave(&name(part)));
            });
        }
        if group.asked && (!node.ledger.get().is_on_its_way() || world.broken == Broken::GiveBackInFlight) {
            self.add(steps, Step::GiveBack(part), |next| {
                next.group[p].owner = None;
                next.group[p].asked = false;
                let kept = next.lose(world, n, |lost| lost == part);
                next.take(world, n, kept);
            });
        }
    }

    /// A partition goes to a node. Merged shards are made anew whenever one comes or goes.
    fn assign(&mut self, world: &World, n: usize, part: u8) {
        self.group[usize::from(part)].owner = Some(n as u8);
        let mut parts = if world.merge { self.lose(world, n, |_| false) } else { Vec::new() };
        parts.push(part);
        parts.sort();
        self.take(world, n, parts);
    }

    /// Opens a session on partitions, from what the coordinator says of them.
    fn take(&mut self, world: &World, n: usize, parts: Vec<u8>) {
        let Some(&first) = parts.first() else { return };
        let counter = if world.merge { 0 } else { usize::from(first) };
        self.sessions[counter] += 1;
        let mut shard = ShardId { part: if world.merge { 9 } else { first }, session: self.sessions[counter] };
        let tag = shard.session;
        if matches!(world.broken, Broken::SameShardForEver | Broken::SameShardAndOverwrite) {
            shard.session = 0;
        }
        let mut inherited: Vec<Key> = Vec::new();
        for &part in &parts {
            let group = &self.group[usize::from(part)];
            let told = group.offset.map(|offset| Told::parse(offset, &group.text, &world.sink).unwrap());
            self.nodes[n].ledger.change(|ledger| ledger.assigned(name(part), shard.shard(), told, 0));
            let plans = self.nodes[n].ledger.get().inherited(&name(part));
            for key in plans.iter().map(Key::of) {
                if !inherited.contains(&key) {
                    inherited.push(key);
                }
            }
        }
        let begins_early = world.broken == Broken::BeginBeforeInherited;
        let floor = inherited.last().filter(|_| begins_early).map_or(0, |key| key.end);
        self.nodes[n].sessions.push(Session {
            shard,
            tag,
            parts,
            inherited,
            floor,
            read: None,
            at: 0,
            chunks: Vec::new(),
        });
        self.local(world, n);
    }

    /// What a node does at once after each step: it asks for its claims, settles what is delivered, and begins to read.
    fn local(&mut self, world: &World, n: usize) {
        let Node { ledger: kept, sessions, .. } = &mut self.nodes[n];
        let mut ledger = kept.get().clone();
        for session in sessions {
            let shard = session.shard.shard();
            if session.read.is_none() {
                let begins = |part: &u8| ledger.begins(&name(*part));
                let begins = match world.broken {
                    Broken::BeginBeforeInherited => session
                        .parts
                        .iter()
                        .map(|part| {
                            let group = &self.group[usize::from(*part)];
                            group.offset
                        })
                        .collect(),
                    _ => session.parts.iter().map(begins).collect::<Option<Vec<i64>>>(),
                };
                if let Some(begins) = begins {
                    let mut read = [0; PARTS];
                    for (part, begins) in session.parts.iter().zip(begins) {
                        read[usize::from(*part)] = u8::try_from(begins).unwrap();
                    }
                    session.at = if world.merge { 0 } else { read[usize::from(session.parts[0])] };
                    session.read = Some(read);
                    if world.broken != Broken::ClaimOutOfTurn {
                        ledger.begin(&shard, &position(session.at));
                    }
                }
            }
            for chunk in session.chunks.iter_mut().filter(|chunk| !chunk.inherited && !chunk.granted) {
                if chunk.copied || world.broken == Broken::PlanBeforeCopy {
                    let range = chunk.sealed.key.range();
                    if world.broken == Broken::ClaimOutOfTurn {
                        ledger.begin(&shard, &range.start);
                    }
                    let ends =
                        session.parts.iter().map(|&part| (name(part), chunk.sealed.to[usize::from(part)].into()));
                    let ends: Vec<(Part, i64)> = ends.collect();
                    chunk.granted = ledger.claim(&range, &ends) == Claim::Granted;
                }
            }
            for chunk in session.chunks.iter_mut().take_while(|chunk| chunk.is_delivered(world)) {
                let ShardRange { shard, end, .. } = chunk.sealed.key.range();
                chunk.settled = ledger.settle(&shard, &end);
            }
        }
        *kept = Kept::new(ledger);
    }

    /// A node gives partitions up, all of a session or none; what it was putting may land later. The partitions that were in
    /// those sessions and are not lost.
    fn lose(&mut self, world: &World, n: usize, lost: impl Fn(u8) -> bool) -> Vec<u8> {
        let node = &mut self.nodes[n];
        let (gone, kept) = std::mem::take(&mut node.sessions)
            .into_iter()
            .partition(|session: &Session| world.merge || session.parts.iter().any(|part| lost(*part)));
        node.sessions = kept;
        let mut left = Vec::new();
        for session in gone {
            for part in session.parts {
                node.ledger.change(|ledger| ledger.lost(&name(part)));
                if !lost(part) {
                    left.push(part);
                }
            }
            for chunk in session.chunks {
                self.late.extend(chunk.to_put(world).into_iter().map(Late::Object));
                // Elsewhere a late copy is one that nobody looks for.
                if !chunk.copied && world.broken == Broken::PlanBeforeCopy {
                    self.late.insert(Late::Copy(chunk.sealed));
                }
            }
        }
        left
    }

    fn answer(&mut self, world: &World, n: usize, answer: Answer) {
        self.nodes[n].commit = None;
        self.nodes[n].ledger.change(|ledger| ledger.answered(|_| answer));
        let ledger = self.nodes[n].ledger.get().clone();
        let fenced: Vec<u8> = self.nodes[n]
            .sessions
            .iter()
            .flat_map(|session| session.parts.iter().map(|part| (*part, session.shard.shard())))
            .filter(|(part, shard)| !ledger.owns(&name(*part), shard))
            .map(|(part, _)| part)
            .collect();
        if !fenced.is_empty() {
            self.lose(world, n, |part| fenced.contains(&part));
        }
        self.local(world, n);
    }

    fn disown(&mut self, n: usize) {
        for group in self.group.iter_mut().filter(|group| group.owner == Some(n as u8)) {
            (group.owner, group.asked) = (None, false);
        }
    }

    fn arrive(&mut self, world: &World, n: usize, fate: Fate, says: &[(u8, i64, Rc<str>)]) {
        if let Some(commit) = &mut self.nodes[n].commit {
            commit.fate = fate;
        }
        if fate == Fate::Applied {
            self.apply(world, says);
        }
    }

    fn apply(&mut self, world: &World, says: &[(u8, i64, Rc<str>)]) {
        for (part, offset, text) in says {
            let group = &mut self.group[usize::from(*part)];
            if group.offset.is_some_and(|before| before > *offset) {
                self.problem = Some(Problem::Back);
            }
            let told = Told::parse(*offset, text, &world.sink).unwrap();
            group.plans = told.plans.iter().map(Key::of).collect();
            self.planned.extend(&group.plans);
            (group.offset, group.text) = (Some(*offset), text.clone());
        }
    }

    /// Creates an object unless its name is taken; answers with what lies there now.
    fn create(&mut self, world: &World, object: Object) -> Object {
        let there = self.store.entry(object.name()).or_insert(object);
        if world.overwrites() && *there != object {
            self.problem = Some(Problem::Changed);
            *there = object;
        }
        *there
    }

    /// What is wrong here, if anything is.
    fn problem(&self, world: &World, steps: &[(Step, State)]) -> Option<Problem> {
        if self.problem.is_some() {
            return self.problem;
        }
        let mut seen = [[0; 8]; PARTS];
        for object in self.store.values() {
            for (part, record) in object.records() {
                seen[part][record] += 1;
            }
        }
        for (p, group) in self.group.iter().enumerate() {
            let passed = usize::try_from(group.offset.unwrap_or(0)).unwrap();
            if seen[p].iter().any(|&times| times > 1) {
                return Some(Problem::Twice);
            }
            if seen[p][..passed].contains(&0) {
                return Some(Problem::Lost);
            }
            if group.plans.iter().any(|key| !self.copies.contains_key(key)) && world.broken == Broken::None {
                return Some(Problem::CopyGone);
            }
        }
        let waits = |step: &Step| {
            use Step::{Answer as Answered, Ask, Crash, Expire, Land};
            matches!(step, Ask(_) | Expire(_) | Crash(_) | Land(_) | Answered(_, Answer::Unknown))
        };
        let all = |(group, records): (&Group, &u8)| {
            group.owner.is_some() && group.plans.is_empty() && group.offset == Some(i64::from(*records))
        };
        let done = self.group.iter().zip(&world.records).all(all)
            && self.nodes.iter().all(|node| node.sessions.iter().all(|session| session.chunks.is_empty()));
        (steps.iter().all(|(step, _)| waits(step)) && !done).then_some(Problem::Stuck)
    }
}

impl Session {
    /// Every way to cut the next chunk, into one object or two.
    fn cuts(&self, world: &World) -> Vec<Sealed> {
        let Some(from) = self.read.filter(|_| self.chunks.len() < CHUNKS_MAX) else { return Vec::new() };
        let upto = |part: u8| {
            if self.parts.contains(&part) { world.records[usize::from(part)] } else { from[usize::from(part)] }
        };
        let mut cuts = Vec::new();
        for first in from[0]..=upto(0) {
            for second in from[1]..=upto(1) {
                let to = [first, second];
                let count = first - from[0] + second - from[1];
                let key = Key { shard: self.shard, start: self.at, end: self.at + count };
                for objects in (1..=count.min(2)).filter(|_| key.end >= self.floor) {
                    cuts.push(Sealed { key, session: self.tag, objects, from, to });
                }
            }
        }
        cuts
    }
}

impl Chunk {
    fn new(sealed: Sealed, inherited: bool) -> Chunk {
        Chunk { sealed, inherited, copied: inherited, granted: false, put: 0, settled: false }
    }

    /// Objects that may be put now.
    fn to_put(&self, world: &World) -> Vec<Object> {
        let early = world.broken == Broken::PutBeforePlan && self.copied;
        if !(self.inherited || self.granted || early) {
            return Vec::new();
        }
        let objects = (0..self.sealed.objects).filter(|number| self.put & (1 << number) == 0);
        objects.map(|number| Object { sealed: self.sealed, number }).collect()
    }

    fn is_delivered(&self, world: &World) -> bool {
        match world.broken {
            Broken::EndBeforeObjects => self.put > 0,
            _ => self.put.count_ones() == u32::from(self.sealed.objects),
        }
    }
}

impl Object {
    fn name(&self) -> (Key, u8) {
        (self.sealed.key, self.number)
    }

    fn records(&self) -> impl Iterator<Item = (usize, usize)> {
        let Object { sealed, number } = *self;
        let records =
            (0..PARTS).flat_map(move |part| (sealed.from[part]..sealed.to[part]).map(move |r| (part, r.into())));
        records.skip(number.into()).step_by(sealed.objects.into())
    }
}

impl Key {
    fn of(plan: &Plan) -> Key {
        let id: Vec<u8> = plan.shard.as_str().bytes().map(|digit| digit.wrapping_sub(b'0')).collect();
        let number = |position: &Position| u8::try_from(position.as_u64().unwrap()).unwrap();
        Key { shard: ShardId { part: id[1], session: id[3] }, start: number(&plan.start), end: number(&plan.end) }
    }

    fn range(&self) -> ShardRange {
        ShardRange { shard: self.shard.shard(), start: position(self.start), end: position(self.end) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.range())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sealed { key, session, objects, from, to } = self;
        write!(f, "{key:?} records {from:?}..{to:?} in {objects} objects, bytes of session {session}")
    }
}

impl ShardId {
    fn shard(&self) -> Shard {
        Shard::new(&format!("k{}s{}", self.part, self.session)).unwrap()
    }
}

impl Kept {
    fn new(ledger: Ledger) -> Kept {
        Kept(Rc::new((fingerprint(&ledger), ledger)))
    }

    fn get(&self) -> &Ledger {
        &self.0.1
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.get().clone();
        let answer = change(&mut ledger);
        *self = Kept::new(ledger);
        answer
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

fn position(number: u8) -> Position {
    u64::from(number).into()
}

fn name(part: u8) -> Part {
    Part { topic: "t".into(), partition: part.into() }
}

fn number(part: &Part) -> u8 {
    u8::try_from(part.partition).unwrap()
}

fn world(broken: Broken, records: [u8; PARTS], merge: bool, faults: [u8; 3]) -> World {
    World { broken, records, merge, faults, sink: SinkMark::of("file:///lake") }
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
}

#[test]
fn two_partitions_go_each_its_way() {
    holds(&world(Broken::None, [1, 1], false, [1, 0, 1]), 200_000);
}

#[test]
fn a_merged_shard_is_split_between_nodes_and_nothing_is_lost_or_twice() {
    holds(&world(Broken::None, [1, 1], true, [1, 0, 0]), 100_000);
    holds(&world(Broken::None, [1, 1], true, [0, 0, 1]), 200_000);
}

#[test]
fn names_that_are_never_used_again_make_even_overwriting_harmless() {
    holds(&world(Broken::Overwrite, [2, 0], false, [0, 1, 0]), 10_000);
}

#[test]
fn each_rule_between_nodes_is_needed() {
    use Problem::{Back, Changed, Foreign, Lost, Stuck, Twice};
    let one = |broken, faults| world(broken, [2, 0], false, faults);
    let merged = |broken, faults| world(broken, [1, 1], true, faults);
    let cases: Vec<(World, &[Problem])> = vec![
        (one(Broken::PutBeforePlan, [0, 1, 0]), &[Twice]),
        (one(Broken::EndBeforeObjects, [0, 0, 0]), &[Lost]),
        (one(Broken::PlanBeforeCopy, [0, 0, 1]), &[Stuck]),
        (one(Broken::DeleteBeforeEnd, [0, 1, 0]), &[Stuck]),
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
