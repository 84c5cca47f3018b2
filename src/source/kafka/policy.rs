//! The policy: what is done when a partition is not as the group left it. Pure; `docs/kafka.md` prints it as a table.
//!
//! The promise: no record is passed over and none read again without a word, a count, and the leave of `on_lost` where
//! records are missing.

use super::begun::Memory;
use super::options::{OnLost, Start};
use super::plan::{Plan, SinkMark, Told, TopicId, Unreadable, is_ours, topic_of};

/// What is known of a partition that is to be read.
#[derive(Debug, Clone)]
pub struct Known<'k> {
    /// The committed offset and its metadata.
    pub committed: Option<(i64, &'k str)>,
    /// The topic's id now.
    pub topic: Option<&'k TopicId>,
    pub memory: Memory,
    /// The first offset that the broker has, and the end, if there is doubt.
    pub bounds: Option<(i64, i64)>,
    /// How the log was cut, if it was seen.
    pub cut: Option<Cut>,
}

/// A log that was found shorter than it had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The offset that was to be read next.
    pub read: i64,
    /// Where the log ended, before that.
    pub end: i64,
}

impl Cut {
    /// Whether it tells something of a partition that is to be read at this offset: not of one that was read since.
    pub fn is_below(self, at: i64) -> bool {
        self.end < at && at <= self.read
    }
}

/// What is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The topic was deleted and made again; so many chunks of the old one are still to be delivered.
    MadeAgain { was: Option<TopicId>, plans: usize },
    /// The partition was added to the topic since the group came to it.
    Added,
    /// Nothing is committed, though it was.
    Erased,
    /// The offset is older than the oldest record.
    Gone { at: i64, first: i64 },
    /// The offset is behind the end of the log.
    Truncated { at: i64, end: i64 },
    /// Somebody else has set the offset.
    Moved { at: i64 },
    /// The metadata cannot be followed.
    Unreadable(Unreadable),
}

/// Where a partition begins that is not read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Start(Start),
    At(i64),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What the group says is followed.
    ReadOn(Told, Option<Found>),
    /// These are delivered from their copies, and it begins there.
    Begin(From, Vec<Plan>, Option<Found>),
    /// It is not read until somebody decides.
    Halt(Found),
}

/// Decides.
pub fn judge(known: &Known<'_>, (start, on_lost): (Start, OnLost), sink: &SinkMark) -> Verdict {
    let oldest = From::Start(Start::Earliest);
    let Some((offset, metadata)) = known.committed else {
        return match (known.memory, on_lost) {
            (Memory::Begun, OnLost::Stop) => Verdict::Halt(Found::Erased),
            (Memory::Begun, OnLost::GoOn) => Verdict::Begin(From::Start(start), vec![], Some(Found::Erased)),
            (Memory::Added, _) => Verdict::Begin(oldest, vec![], Some(Found::Added)),
            (Memory::MadeAgain, _) => Verdict::Begin(oldest, vec![], Some(Found::MadeAgain { was: None, plans: 0 })),
            (Memory::Nothing | Memory::NotYet, _) => Verdict::Begin(From::Start(start), vec![], None),
        };
    };
    let told = match Told::parse(offset, metadata, sink) {
        Ok(told) => told,
        Err(why) => return Verdict::Halt(Found::Unreadable(why)),
    };
    let was = topic_of(metadata).filter(|was| known.topic.is_some_and(|topic| topic != was));
    if was.is_some() {
        let found = Found::MadeAgain { was, plans: told.plans.len() };
        return Verdict::Begin(oldest, told.plans, Some(found));
    }
    let at = told.read_on();
    if let Some((first, end)) = known.bounds {
        // What was written since the log was cut is not what was there.
        let cut = known.cut.filter(|cut| is_ours(metadata) && cut.is_below(at));
        let found = match cut {
            Some(Cut { end, .. }) => Some(Found::Truncated { at, end }),
            None => Found::outside(at, (first, end)),
        };
        match (found, on_lost) {
            (None, _) => {}
            (Some(found), OnLost::Stop) => return Verdict::Halt(found),
            (Some(found), OnLost::GoOn) => {
                let on_at = if let Found::Truncated { end, .. } = found { end.max(first) } else { first };
                return Verdict::Begin(From::At(on_at), told.plans, Some(found));
            }
        }
    }
    Verdict::ReadOn(told, (!is_ours(metadata)).then_some(Found::Moved { at: offset }))
}

impl Found {
    /// What an offset that is to be read next is, if it is not in a log that has `first..end`.
    pub fn outside(at: i64, (first, end): (i64, i64)) -> Option<Found> {
        match (first..=end).contains(&at) {
            true => None,
            false if at < first => Some(Found::Gone { at, first }),
            false => Some(Found::Truncated { at, end }),
        }
    }

    /// Its name in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Found::MadeAgain { .. } => "topic_made_again",
            Found::Added => "partition_added",
            Found::Erased => "offset_erased",
            Found::Gone { .. } => "records_gone",
            Found::Truncated { .. } => "log_truncated",
            Found::Moved { .. } => "offset_moved",
            Found::Unreadable(_) => "metadata_unreadable",
        }
    }

    /// Records that are gone for sure and were not read, as offsets.
    pub fn records_gone(&self) -> u64 {
        match self {
            Found::Gone { at, first } => u64::try_from(first - at).unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether it is what operators do on purpose.
    pub fn is_usual(&self) -> bool {
        matches!(self, Found::Added | Found::Moved { .. })
    }

    /// What it is; `sink`: ours.
    pub fn in_words(&self, sink: &SinkMark) -> String {
        match self {
            Found::MadeAgain { was, plans } => {
                let was = was.as_ref().map(|was| format!(" (it was {was})")).unwrap_or_default();
                let plans = match plans {
                    0 => String::new(),
                    plans => format!("; {plans} chunks of the old one are delivered first"),
                };
                format!("the topic was deleted and made again{was}, what was not read of the old one is gone{plans}")
            }
            Found::Added => "the partition was added to the topic".into(),
            Found::Erased => "the group's offset is gone, though the group had one".into(),
            Found::Gone { at, first } => format!("offsets {at} to {first} are gone before they were read"),
            Found::Truncated { at, end } if at > end => {
                format!("offset {at} is to be read next, and the log ends at {end}: it was truncated")
            }
            Found::Truncated { at, .. } => {
                format!("the log was truncated and written anew up to and past {at}, which is to be read next")
            }
            Found::Moved { at } => format!("offset {at} was not committed by hydrant, and is followed"),
            Found::Unreadable(Unreadable::Text(text)) => {
                format!("the group's metadata is of another version of hydrant, or damaged: `{text}`")
            }
            Found::Unreadable(Unreadable::OtherSink(mark)) => {
                format!("a former owner was delivering to another sink ({mark}, ours is {sink})")
            }
        }
    }

    /// What an operator can do about it, if it stops.
    pub fn hint(&self) -> &'static str {
        match self {
            Found::Erased => {
                "set the offsets with `kafka-consumer-groups --reset-offsets` (`hydrant audit` tells what was \
                 delivered), or `on_lost: go_on` goes on as `start` says"
            }
            Found::Gone { .. } => "`on_lost: go_on` goes on with the oldest record there is, and counts what is gone",
            Found::Truncated { .. } => {
                "`on_lost: go_on` goes on at the end that the log had then; or set the group's offsets where it is to go on"
            }
            Found::Unreadable(Unreadable::Text(_)) => {
                "let the version that wrote it finish, or reset the group's offsets"
            }
            Found::Unreadable(Unreadable::OtherSink(_)) => {
                "put that sink's url back until it is done, or reset the group's offsets to deliver once more"
            }
            Found::MadeAgain { .. } | Found::Added | Found::Moved { .. } => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Shard;

    const POLICY: (Start, OnLost) = (Start::Latest, OnLost::Stop);
    const GO_ON: (Start, OnLost) = (Start::Latest, OnLost::GoOn);

    fn id(letter: char) -> TopicId {
        TopicId::parse(&letter.to_string().repeat(TopicId::LEN)).unwrap()
    }

    fn sink() -> SinkMark {
        SinkMark::of("s3://lake")
    }

    fn known<'k>(committed: Option<(i64, &'k str)>, topic: Option<&'k TopicId>, memory: Memory) -> Known<'k> {
        Known { committed, topic, memory, bounds: None, cut: None }
    }

    fn plan(end: u64) -> Plan {
        let shard = Shard::new("k1a2b3c4dp3s0011223344").unwrap();
        Plan { shard, start: 5.into(), end: end.into(), offset: i64::try_from(end).unwrap() }
    }

    #[test]
    fn a_partition_without_an_offset_begins_by_what_is_remembered_of_it() {
        let judge = |memory, policy| judge(&known(None, Some(&id('a')), memory), policy, &sink());
        let begin = |start, found| Verdict::Begin(From::Start(start), vec![], found);
        for memory in [Memory::Nothing, Memory::NotYet] {
            assert_eq!(judge(memory, POLICY), begin(Start::Latest, None), "{memory:?}");
        }
        assert_eq!(judge(Memory::Added, POLICY), begin(Start::Earliest, Some(Found::Added)));
        let again = Found::MadeAgain { was: None, plans: 0 };
        assert_eq!(judge(Memory::MadeAgain, POLICY), begin(Start::Earliest, Some(again)));
        assert_eq!(judge(Memory::Begun, POLICY), Verdict::Halt(Found::Erased));
        assert_eq!(judge(Memory::Begun, GO_ON), begin(Start::Latest, Some(Found::Erased)));
    }

    #[test]
    fn offsets_of_another_topic_are_not_followed_but_its_plans_are_delivered() {
        let told = Told { offset: 5, plans: vec![plan(9)] };
        let text = told.metadata(&sink(), Some(&id('a')));
        let of = |topic: Option<&TopicId>| judge(&known(Some((5, &text)), topic, Memory::Begun), POLICY, &sink());
        assert_eq!(of(Some(&id('a'))), Verdict::ReadOn(told.clone(), None));
        assert_eq!(of(None), Verdict::ReadOn(told.clone(), None), "brokers without ids");
        let found = Found::MadeAgain { was: Some(id('a')), plans: 1 };
        assert_eq!(of(Some(&id('b'))), Verdict::Begin(From::Start(Start::Earliest), vec![plan(9)], Some(found)));
        let old = told.metadata(&sink(), None);
        let of_old = judge(&known(Some((5, &old)), Some(&id('b')), Memory::Begun), POLICY, &sink());
        assert_eq!(of_old, Verdict::ReadOn(told, None), "a text that names no topic is followed");
    }

    #[test]
    fn offsets_outside_of_the_log_stop_or_go_on_where_nothing_is_passed_over_or_read_twice() {
        let ours = Told { offset: 50, plans: vec![] }.metadata(&sink(), None);
        let of = |text: &str, bounds, cut: Option<i64>, policy| {
            let cut = cut.map(|end| Cut { read: 50, end });
            let known = Known { bounds, cut, ..known(Some((50, text)), None, Memory::Begun) };
            judge(&known, policy, &sink())
        };
        let (gone, short) = (Found::Gone { at: 50, first: 70 }, Found::Truncated { at: 50, end: 40 });
        assert_eq!(gone.records_gone(), 20);
        assert_eq!(of(&ours, Some((70, 90)), None, POLICY), Verdict::Halt(gone.clone()));
        assert_eq!(of(&ours, Some((70, 90)), None, GO_ON), Verdict::Begin(From::At(70), vec![], Some(gone)));
        assert_eq!(of(&ours, Some((0, 40)), None, POLICY), Verdict::Halt(short.clone()));
        assert_eq!(of(&ours, Some((0, 40)), None, GO_ON), Verdict::Begin(From::At(40), vec![], Some(short.clone())));
        assert_eq!(
            of(&ours, Some((0, 60)), Some(40), POLICY),
            Verdict::Halt(short.clone()),
            "that it grew again makes it no better"
        );
        assert_eq!(of(&ours, Some((0, 60)), Some(40), GO_ON), Verdict::Begin(From::At(40), vec![], Some(short)));
        let cut = Some(Cut { read: 45, end: 40 });
        let known = Known { bounds: Some((0, 60)), cut, ..known(Some((50, &ours)), None, Memory::Begun) };
        let read_on = Verdict::ReadOn(Told { offset: 50, plans: vec![] }, None);
        assert_eq!(judge(&known, POLICY, &sink()), read_on, "somebody has read on since it was cut");
        let moved = Verdict::ReadOn(Told { offset: 50, plans: vec![] }, Some(Found::Moved { at: 50 }));
        assert_eq!(of("", Some((0, 60)), Some(40), POLICY), moved, "somebody has decided");
        for at_the_edge in [(50, 90), (0, 50)] {
            assert!(matches!(of(&ours, Some(at_the_edge), None, POLICY), Verdict::ReadOn(_, None)));
        }
    }

    #[test]
    fn metadata_that_cannot_be_followed_stops() {
        let judged = judge(&known(Some((5, "hydrant9 x")), None, Memory::Begun), GO_ON, &sink());
        assert_eq!(judged, Verdict::Halt(Found::Unreadable(Unreadable::Text("hydrant9 x".into()))));
    }
}
