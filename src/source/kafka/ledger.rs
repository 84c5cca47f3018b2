//! The ledger: what the group knows of the partitions that this node owns, and what it is to be told next.
//!
//! ```text
//!             claim                       (objects are put)                   settle
//!   seal ------> wanted: plan --commit--> told: plan ............ delivered ------> wanted: end --commit--> told: end
//! ```
//! The promise: a chunk is claimed only when the coordinator has acknowledged its plan to the owner of the partition, and
//! what a former owner had planned is settled before anything of our own is read. It does no I/O and knows no clock, so
//! that `tests/it/kafka_model.rs` can look at every order in which two nodes may go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::position::{Position, Shard, ShardRange};

use super::plan::{PLANS_MAX, Plan, Told};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// What became of a commit, of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The coordinator has it.
    Done,
    /// It may have it or not; it is told again.
    Unknown,
    /// We own the partition no more. Never told again.
    Fenced,
}

/// How far a claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The group knows: objects may be put.
    Granted,
    /// Not yet.
    Waits,
    /// Never: the shard is another's.
    Lost,
}

/// What the group knows of owned partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    owned: BTreeMap<Part, Owned>,
    /// Up to where each of our own shards is planned.
    planned: BTreeMap<Shard, Position>,
    /// What the commit on its way says; there is one at a time.
    on_its_way: Option<BTreeMap<Part, Told>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Owned {
    /// The shard as which this owner reads it.
    shard: Shard,
    /// As the coordinator has acknowledged it; before the first answer, nothing.
    told: Option<Told>,
    wanted: Told,
    /// It is to be given back: nothing new is claimed.
    leaves: bool,
}

impl Ledger {
    /// A partition was assigned; the coordinator keeps `told` of it, or nothing at all (`None`), and it is read from `start`
    /// then, which is the first thing that the group is told.
    pub fn assigned(&mut self, part: Part, shard: Shard, told: Option<Told>, start: i64) {
        let wanted = told.clone().unwrap_or(Told { offset: start, plans: Vec::new() });
        self.owned.insert(part, Owned { shard, told, wanted, leaves: false });
    }

    /// Whether it owns the partition, as this shard.
    pub fn owns(&self, part: &Part, shard: &Shard) -> bool {
        self.owned.get(part).is_some_and(|owned| owned.shard == *shard)
    }

    /// Up to where the group knows that the partition is delivered, an offset.
    pub fn committed(&self, part: &Part) -> Option<i64> {
        self.owned.get(part)?.told.as_ref().map(|told| told.offset)
    }

    /// What former owners of the partition had planned and nobody has settled, the oldest first.
    pub fn inherited(&self, part: &Part) -> Vec<Plan> {
        let Some(owned) = self.owned.get(part) else { return Vec::new() };
        owned.wanted.plans.iter().filter(|plan| plan.shard != owned.shard).cloned().collect()
    }

    /// Where the partition is to be read on, once the group knows that nothing of former owners is left.
    pub fn begins(&self, part: &Part) -> Option<i64> {
        let owned = self.owned.get(part)?;
        let told = owned.told.as_ref()?;
        told.plans.iter().all(|plan| plan.shard == owned.shard).then_some(told.offset)
    }

    /// A shard of our own is read from `at` on. The first time counts.
    pub fn begin(&mut self, shard: &Shard, at: &Position) {
        self.planned.entry(shard.clone()).or_insert_with(|| at.clone());
    }

    /// Plans a range of a shard, which leads these partitions to these offsets; to be asked again when something was
    /// answered. The first time that all plans before it are there it becomes part of what is to be told.
    pub fn claim(&mut self, range: &ShardRange, ends: &[(Part, i64)]) -> Claim {
        let mut claim = Claim::Granted;
        for (part, _) in ends {
            claim = match self.owned.get(part) {
                Some(owned) if owned.shard == range.shard => match owned.knows(range) {
                    true => claim,
                    false => Claim::Waits,
                },
                _ => return Claim::Lost,
            };
        }
        let in_turn = self.planned.get(&range.shard) == Some(&range.start);
        if claim == Claim::Waits && in_turn && ends.iter().all(|(part, _)| self.owned[part].has_room()) {
            for (part, offset) in ends {
                if let Some(owned) = self.owned.get_mut(part) {
                    owned.plan(range, *offset);
                }
            }
            self.planned.insert(range.shard.clone(), range.end.clone());
        }
        claim
    }

    /// All of the shard before `upto` is delivered; its plans up to there are done. `true`: the group knows that, of all
    /// partitions that are still ours.
    pub fn settle(&mut self, shard: &Shard, upto: &Position) -> bool {
        let mut settled = true;
        for owned in self.owned.values_mut() {
            let done = |plan: &Plan| plan.shard == *shard && plan.end <= *upto;
            let count = owned.wanted.plans.iter().take_while(|plan| done(plan)).count();
            if let Some(last) = owned.wanted.plans.drain(..count).next_back() {
                owned.wanted.offset = last.offset;
            }
            settled &= !owned.told.as_ref().is_some_and(|told| told.plans.iter().any(done));
        }
        settled
    }

    /// What the group is to be told now, by partition; from here to [`Ledger::answered`] it is on its way. `None`: nothing,
    /// or something is on its way.
    pub fn next_commit(&mut self) -> Option<Vec<(Part, Told)>> {
        if self.on_its_way.is_some() {
            return None;
        }
        let news = self.owned.iter().filter(|(_, owned)| owned.told.as_ref() != Some(&owned.wanted));
        let news: BTreeMap<Part, Told> = news.map(|(part, owned)| (part.clone(), owned.wanted.clone())).collect();
        if news.is_empty() {
            return None;
        }
        let commit = news.iter().map(|(part, told)| (part.clone(), told.clone())).collect();
        self.on_its_way = Some(news);
        Some(commit)
    }

    /// Whether a commit is on its way: until it is answered no partition may be given back.
    pub fn is_on_its_way(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// The commit on its way was answered. A partition that was fenced is lost.
    pub fn answered(&mut self, answer: impl Fn(&Part) -> Answer) {
        for (part, said) in self.on_its_way.take().unwrap_or_default() {
            match (answer(&part), self.owned.get_mut(&part)) {
                (Answer::Done, Some(owned)) => owned.told = Some(said),
                (Answer::Fenced, Some(_)) => self.lost(&part),
                (Answer::Unknown, _) | (_, None) => {}
            }
        }
    }

    /// Nothing more of it is planned, as it is to be given back; what is planned may still be settled.
    pub fn leave(&mut self, part: &Part) {
        if let Some(owned) = self.owned.get_mut(part) {
            owned.leaves = true;
        }
    }

    /// Whether something of its plans is not settled, as far as the group knows.
    pub fn has_plans(&self, part: &Part) -> bool {
        self.owned.get(part).is_some_and(|owned| {
            !owned.wanted.plans.is_empty() || owned.told.as_ref().is_some_and(|told| !told.plans.is_empty())
        })
    }

    /// The partition is another's now.
    pub fn lost(&mut self, part: &Part) {
        if let Some(owned) = self.owned.remove(part)
            && self.owned.values().all(|other| other.shard != owned.shard)
        {
            self.planned.remove(&owned.shard);
        }
    }
}

impl Owned {
    fn knows(&self, range: &ShardRange) -> bool {
        let of = |plan: &Plan| plan.shard == range.shard && plan.start == range.start && plan.end == range.end;
        self.told.as_ref().is_some_and(|told| told.plans.iter().any(of))
    }

    fn has_room(&self) -> bool {
        !self.leaves && self.wanted.plans.len() < PLANS_MAX
    }

    fn plan(&mut self, range: &ShardRange, offset: i64) {
        let ShardRange { shard, start, end } = range.clone();
        assert!(offset >= self.wanted.offset, "{range}: a plan goes back from {} to {offset}", self.wanted.offset);
        self.wanted.plans.push(Plan { shard, start, end, offset });
    }
}
