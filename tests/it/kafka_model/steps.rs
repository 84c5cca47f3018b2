//! What may happen next, in every state: of nodes, of commits on their way, of the coordinator, and faults.

use super::*;

impl State {
    pub fn start(world: &World) -> State {
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

    pub fn steps(&self, world: &World) -> Vec<(Step, State)> {
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
                if !next.planned.contains(&key) && world.strict {
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
            let says =
                commit.iter().map(|(part, told)| (number(part), told.offset, told.metadata(&world.sink, None).into()));
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
}
