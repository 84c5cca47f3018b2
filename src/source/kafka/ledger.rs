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

use super::plan::{PLANS_AT_ONCE_MAX, PLANS_MAX, Plan, Told};

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
    /// What the commit on its way says, and as which shard we owned the partition then; there is one at a time.
    on_its_way: Option<BTreeMap<Part, (Shard, Told)>>,
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
        if claim == Claim::Waits && in_turn && ends.iter().all(|(part, _)| self.owned[part].has_room(ends.len())) {
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
        let is_news = |(_, owned): &(&Part, &Owned)| owned.told.as_ref() != Some(&owned.wanted);
        let mut by_shard: BTreeMap<&Shard, Vec<(&Part, &Owned)>> = BTreeMap::new();
        for (part, owned) in self.owned.iter().filter(is_news) {
            by_shard.entry(&owned.shard).or_default().push((part, owned));
        }
        let (mut news, mut size) = (BTreeMap::new(), 0);
        for parts in by_shard.into_values() {
            // Half of a shard's plan would be followed; the next commit says the rest.
            let more: usize = parts.iter().map(|(_, owned)| 1 + owned.wanted.plans.len()).sum();
            if size > 0 && size + more > PLANS_AT_ONCE_MAX {
                break;
            }
            size += more;
            news.extend(
                parts.into_iter().map(|(part, owned)| (part.clone(), (owned.shard.clone(), owned.wanted.clone()))),
            );
        }
        if news.is_empty() {
            return None;
        }
        let commit = news.iter().map(|(part, (_, told))| (part.clone(), told.clone())).collect();
        self.on_its_way = Some(news);
        Some(commit)
    }

    /// Whether a commit is on its way: until it is answered no partition may be given back.
    pub fn is_on_its_way(&self) -> bool {
        self.on_its_way.is_some()
    }

    /// The commit on its way was answered. A partition that was fenced is lost, unless it was lost already and has come
    /// back since: the answer to what was said before says nothing of that.
    pub fn answered(&mut self, answer: impl Fn(&Part) -> Answer) {
        for (part, (shard, said)) in self.on_its_way.take().unwrap_or_default() {
            match (answer(&part), self.owned.get_mut(&part).filter(|owned| owned.shard == shard)) {
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

    /// Whether another plan of so many partitions may be told.
    fn has_room(&self, partitions: usize) -> bool {
        let plans = self.wanted.plans.len();
        !self.leaves && plans < PLANS_MAX && (plans == 0 || (plans + 1) * partitions <= PLANS_AT_ONCE_MAX)
    }

    fn plan(&mut self, range: &ShardRange, offset: i64) {
        let ShardRange { shard, start, end } = range.clone();
        assert!(offset >= self.wanted.offset, "{range}: a plan goes back from {} to {offset}", self.wanted.offset);
        self.wanted.plans.push(Plan { shard, start, end, offset });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        Part { topic: "events".into(), partition: 3 }
    }

    fn shard(id: &str) -> Shard {
        Shard::new(id).unwrap()
    }

    fn told(offset: i64, plans: Vec<Plan>) -> Told {
        Told { offset, plans }
    }

    fn plan(id: &str, start: u64, end: u64) -> Plan {
        Plan { shard: shard(id), start: start.into(), end: end.into(), offset: i64::try_from(end).unwrap() }
    }

    #[test]
    fn an_answer_to_what_was_said_before_a_loss_says_nothing_of_the_partition_that_came_back() {
        for answer in [Answer::Done, Answer::Fenced] {
            let mut ledger = Ledger::default();
            ledger.assigned(part(), shard("k1"), None, 0);
            assert_eq!(ledger.next_commit(), Some(vec![(part(), told(0, vec![]))]));
            ledger.lost(&part());
            ledger.assigned(part(), shard("k2"), Some(told(5, vec![plan("k1", 5, 9)])), 0);
            ledger.answered(|_| answer);
            assert!(ledger.owns(&part(), &shard("k2")), "{answer:?}");
            assert_eq!(ledger.inherited(&part()), [plan("k1", 5, 9)], "{answer:?}");
            assert_eq!(ledger.begins(&part()), None, "{answer:?}: what was inherited is not settled");
        }
    }

    fn range(id: &str, start: u64, end: u64) -> ShardRange {
        ShardRange { shard: shard(id), start: start.into(), end: end.into() }
    }

    /// Everything that is to be told reaches the group.
    fn tell(ledger: &mut Ledger) -> Vec<(Part, Told)> {
        let commit = ledger.next_commit().unwrap_or_default();
        ledger.answered(|_| Answer::Done);
        commit
    }

    /// Owns the partition as `k1`, which reads from 0.
    fn reading() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.assigned(part(), shard("k1"), None, 0);
        assert_eq!(ledger.begins(&part()), None, "the group is told first where it begins");
        tell(&mut ledger);
        assert_eq!(ledger.begins(&part()), Some(0));
        ledger.begin(&shard("k1"), &0.into());
        ledger
    }

    #[test]
    fn a_claim_out_of_turn_waits_for_those_before_it() {
        let mut ledger = reading();
        assert_eq!(ledger.claim(&range("k1", 4, 6), &[(part(), 6)]), Claim::Waits);
        assert_eq!(ledger.next_commit(), None, "nothing of it is told");
        for (start, end) in [(0, 4), (4, 6)] {
            assert_eq!(ledger.claim(&range("k1", start, end), &[(part(), end as i64)]), Claim::Waits);
        }
        assert_eq!(tell(&mut ledger), [(part(), told(0, vec![plan("k1", 0, 4), plan("k1", 4, 6)]))]);
        assert_eq!(ledger.claim(&range("k1", 4, 6), &[(part(), 6)]), Claim::Granted);
    }

    #[test]
    fn what_a_former_owner_planned_is_settled_before_we_begin() {
        let mut ledger = Ledger::default();
        ledger.assigned(part(), shard("k2"), Some(told(5, vec![plan("k1", 5, 7), plan("k1", 7, 9)])), 0);
        assert_eq!(ledger.inherited(&part()), [plan("k1", 5, 7), plan("k1", 7, 9)]);
        assert!(!ledger.settle(&shard("k1"), &7.into()), "its copy stays until the group knows");
        assert_eq!(tell(&mut ledger), [(part(), told(7, vec![plan("k1", 7, 9)]))]);
        assert!(ledger.settle(&shard("k1"), &7.into()));
        assert_eq!(ledger.begins(&part()), None);
        assert!(!ledger.settle(&shard("k1"), &9.into()));
        assert_eq!(ledger.begins(&part()), None, "not before the group knows");
        tell(&mut ledger);
        assert_eq!(ledger.begins(&part()), Some(9));
    }

    #[test]
    fn what_may_have_been_lost_is_told_again_and_what_was_refused_never() {
        let mut ledger = reading();
        assert_eq!(ledger.claim(&range("k1", 0, 4), &[(part(), 4)]), Claim::Waits);
        let commit = ledger.next_commit();
        assert_eq!(ledger.next_commit(), None, "one at a time");
        ledger.answered(|_| Answer::Unknown);
        assert_eq!(ledger.claim(&range("k1", 0, 4), &[(part(), 4)]), Claim::Waits);
        assert_eq!(ledger.next_commit(), commit);
        ledger.answered(|_| Answer::Fenced);
        assert_eq!(ledger.next_commit(), None);
        assert_eq!(ledger.claim(&range("k1", 0, 4), &[(part(), 4)]), Claim::Lost);
    }

    #[test]
    fn a_partition_that_is_to_be_given_back_plans_nothing_more_and_settles_what_it_planned() {
        let mut ledger = reading();
        ledger.claim(&range("k1", 0, 4), &[(part(), 4)]);
        tell(&mut ledger);
        ledger.leave(&part());
        assert_eq!(ledger.claim(&range("k1", 4, 6), &[(part(), 6)]), Claim::Waits);
        assert_eq!(ledger.claim(&range("k1", 0, 4), &[(part(), 4)]), Claim::Granted);
        ledger.settle(&shard("k1"), &4.into());
        assert!(ledger.has_plans(&part()), "the group does not know yet");
        assert_eq!(tell(&mut ledger), [(part(), told(4, vec![]))]);
        assert!(!ledger.has_plans(&part()));
    }

    #[test]
    fn what_is_too_much_for_one_commit_is_told_by_several_and_no_shard_in_halves() {
        let mut ledger = Ledger::default();
        let merged = |partition| Part { topic: "merged".into(), partition };
        let alone = |partition| Part { topic: "alone".into(), partition };
        (0..3000).for_each(|partition| ledger.assigned(merged(partition), shard("km"), None, 0));
        (0..3000).for_each(|partition| ledger.assigned(alone(partition), shard(&format!("k{partition}")), None, 0));
        let mut told = Vec::new();
        for _ in 0..2 {
            let commit = tell(&mut ledger);
            assert!(commit.len() <= PLANS_AT_ONCE_MAX);
            let of_merged = commit.iter().filter(|(part, _)| *part.topic == *"merged").count();
            assert!([0, 3000].contains(&of_merged), "{of_merged} of 3000");
            told.extend(commit.into_iter().map(|(part, _)| part));
        }
        assert_eq!(ledger.next_commit(), None);
        assert_eq!(told.len(), 6000);
    }

    #[test]
    fn a_merged_shard_plans_for_all_its_partitions_or_for_none() {
        let other = Part { partition: 4, ..part() };
        let mut ledger = reading();
        ledger.assigned(other.clone(), shard("k1"), Some(told(70, vec![])), 0);
        let ends = [(part(), 1), (other.clone(), 72)];
        assert_eq!(ledger.claim(&range("k1", 0, 3), &ends), Claim::Waits);
        let plan = |offset| Plan { offset, ..plan("k1", 0, 3) };
        assert_eq!(
            tell(&mut ledger),
            [(part(), told(0, vec![plan(1)])), (other.clone(), told(70, vec![plan(72)]))],
            "in one commit"
        );
        ledger.lost(&other);
        assert_eq!(ledger.claim(&range("k1", 0, 3), &ends), Claim::Lost);
        assert!(!ledger.settle(&shard("k1"), &3.into()));
        assert_eq!(tell(&mut ledger), [(part(), told(1, vec![]))]);
    }
}
