//! What a step changes, and what is wrong with a state.

use super::*;

impl State {
    /// A partition goes to a node. Merged shards are made anew whenever one comes or goes.
    pub fn assign(&mut self, world: &World, n: usize, part: u8) {
        self.group[usize::from(part)].owner = Some(n as u8);
        let mut parts = if world.merge { self.lose(world, n, |_| false) } else { Vec::new() };
        parts.push(part);
        parts.sort();
        self.take(world, n, parts);
    }

    /// Opens a session on partitions, from what the coordinator says of them.
    pub fn take(&mut self, world: &World, n: usize, parts: Vec<u8>) {
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
    pub fn local(&mut self, world: &World, n: usize) {
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
    pub fn lose(&mut self, world: &World, n: usize, lost: impl Fn(u8) -> bool) -> Vec<u8> {
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

    pub fn answer(&mut self, world: &World, n: usize, answer: Answer) {
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

    pub fn disown(&mut self, n: usize) {
        for group in self.group.iter_mut().filter(|group| group.owner == Some(n as u8)) {
            (group.owner, group.asked) = (None, false);
        }
    }

    pub fn arrive(&mut self, world: &World, n: usize, fate: Fate, says: &[(u8, i64, Rc<str>)]) {
        if let Some(commit) = &mut self.nodes[n].commit {
            commit.fate = fate;
        }
        if fate == Fate::Applied {
            self.apply(world, says);
        }
    }

    pub fn apply(&mut self, world: &World, says: &[(u8, i64, Rc<str>)]) {
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
    pub fn create(&mut self, world: &World, object: Object) -> Object {
        let there = self.store.entry(object.name()).or_insert(object);
        if world.overwrites() && *there != object {
            self.problem = Some(Problem::Changed);
            *there = object;
        }
        *there
    }

    /// What is wrong here, if anything is.
    pub fn problem(&self, world: &World, steps: &[(Step, State)]) -> Option<Problem> {
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
            if group.plans.iter().any(|key| !self.copies.contains_key(key)) && world.strict {
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
