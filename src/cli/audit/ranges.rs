//! The ranges of one shard as object names tell them, and whether they tile.
//!
//! Names come in any order of ranges (a listing is by prefix), and the same range comes once per prefix. So all distinct ranges
//! are kept, as 16 bytes each, sorted and without repeats whenever they have doubled, and judged at the end.

use std::collections::BTreeSet;

use crate::position::Position;

/// Findings of one kind that are shown of one shard; the others are counted.
pub const SHOWN_MAX: usize = 20;

/// Ranges that are gathered before they are first sorted.
const COMPACT_FIRST: usize = 1 << 16;

/// Distinct ranges, in a compact form.
#[derive(Debug, Default)]
pub struct Ranges {
    narrow: Vec<(u64, u64)>,
    /// How many of them, from the first on, are sorted and distinct; the others are gathered behind.
    compact: usize,
    /// Those with a position beyond 64 bits.
    wide: BTreeSet<(Position, Position)>,
}

/// What became of it: what is wrong, of each kind the first few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tiling {
    /// Distinct ranges.
    pub ranges: u64,
    pub start: Position,
    pub end: Position,
    /// Positions that some range covers, if they fit.
    pub covered: Option<u64>,
    /// Between two ranges, or behind the last, and below what must be covered.
    pub gaps: Found<(Position, Position)>,
    /// Between two ranges, above what must be covered.
    pub open: Found<(Position, Position)>,
    /// Two different ranges that share positions.
    pub overlaps: Found<[(Position, Position); 2]>,
}

/// The first few of what was found, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    pub shown: Vec<T>,
    pub total: u64,
}

impl<T> Default for Found<T> {
    fn default() -> Found<T> {
        Found { shown: Vec::new(), total: 0 }
    }
}

impl<T> Found<T> {
    /// Adds one.
    pub fn add(&mut self, one: T) {
        self.total += 1;
        if self.shown.len() < SHOWN_MAX {
            self.shown.push(one);
        }
    }
}

impl Ranges {
    /// Adds a range, which is not empty. Answers by how many ranges more are held.
    pub fn push(&mut self, start: &Position, end: &Position) -> i64 {
        let before = self.held();
        match (start.as_u64(), end.as_u64()) {
            (Some(start), Some(end)) if self.narrow.last() == Some(&(start, end)) => {}
            (Some(start), Some(end)) => {
                self.narrow.push((start, end));
                if self.narrow.len() >= (2 * self.compact).max(COMPACT_FIRST) {
                    self.make_compact();
                }
            }
            _ => drop(self.wide.insert((start.clone(), end.clone()))),
        }
        self.held() - before
    }

    fn held(&self) -> i64 {
        i64::try_from(self.narrow.len() + self.wide.len()).unwrap_or(i64::MAX)
    }

    fn make_compact(&mut self) {
        self.narrow.sort_unstable();
        self.narrow.dedup();
        self.compact = self.narrow.len();
    }

    /// Judges them; below `upto` everything from the first range on must be covered, else everything up to the last one.
    /// `None`: there is no range.
    pub fn judge(mut self, upto: Option<&Position>) -> Option<Tiling> {
        self.make_compact();
        if self.wide.is_empty() {
            // A bound that does not fit lies behind everything that does, and that is said of it as well.
            let fits = upto.is_none_or(|upto| upto.as_u64().is_some());
            if fits {
                let upto = upto.and_then(Position::as_u64);
                return judge(self.narrow.into_iter(), upto, |(start, end)| end - start);
            }
        }
        let mut all = std::mem::take(&mut self.wide);
        all.extend(self.narrow.into_iter().map(|(start, end)| (start.into(), end.into())));
        let tiling = judge(all.into_iter(), upto.cloned(), |_| 0);
        tiling.map(|tiling| Tiling { covered: None, ..tiling })
    }
}

fn judge<P: Ord + Clone + Into<Position>>(
    ranges: impl Iterator<Item = (P, P)>,
    upto: Option<P>,
    length: impl Fn((&P, &P)) -> u64,
) -> Option<Tiling> {
    let shown = |(start, end): (P, P)| (start.into(), end.into());
    let (mut gaps, mut open, mut overlaps) = (Found::default(), Found::default(), Found::default());
    let (mut count, mut covered) = (0, 0u64);
    let mut first: Option<P> = None;
    // The range that reaches farthest so far.
    let mut reach: Option<(P, P)> = None;
    for (start, end) in ranges {
        count += 1;
        let Some(farthest) = reach.clone() else {
            covered += length((&start, &end));
            first = Some(start.clone());
            reach = Some((start, end));
            continue;
        };
        if start < farthest.1 {
            overlaps.add([shown(farthest.clone()), shown((start.clone(), end.clone()))]);
        }
        if start > farthest.1 {
            split(&upto, farthest.1.clone(), start.clone(), |must, gap| match must {
                true => gaps.add(shown(gap)),
                false => open.add(shown(gap)),
            });
        }
        if end > farthest.1 {
            covered += length((if start > farthest.1 { &start } else { &farthest.1 }, &end));
            reach = Some((start, end));
        }
    }
    let (start, (_, end)) = (first?, reach?);
    if let Some(upto) = upto.filter(|upto| *upto > end) {
        gaps.add(shown((end.clone(), upto)));
    }
    let (start, end) = shown((start, end));
    Some(Tiling { ranges: count, start, end, covered: Some(covered), gaps, open, overlaps })
}

/// Cuts a gap at `upto`: what is below must be covered.
fn split<P: Ord + Clone>(upto: &Option<P>, start: P, end: P, mut each: impl FnMut(bool, (P, P))) {
    match upto {
        Some(upto) if *upto <= start => each(false, (start, end)),
        Some(upto) if *upto < end => {
            each(true, (start, upto.clone()));
            each(false, (upto.clone(), end));
        }
        _ => each(true, (start, end)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tiling(ranges: &[(u64, u64)], upto: Option<u64>) -> Tiling {
        let mut all = Ranges::default();
        for (start, end) in ranges {
            all.push(&(*start).into(), &(*end).into());
        }
        all.judge(upto.map(Position::from).as_ref()).unwrap()
    }

    fn spans(found: &Found<(Position, Position)>) -> Vec<(u64, u64)> {
        found.shown.iter().map(|(start, end)| (start.as_u64().unwrap(), end.as_u64().unwrap())).collect()
    }

    #[test]
    fn ranges_tile_or_what_is_wrong_is_named() {
        let good = tiling(&[(10, 20), (0, 10), (10, 20), (20, 25)], None);
        assert_eq!((good.ranges, good.covered), (3, Some(25)));
        assert_eq!((good.gaps.total, good.overlaps.total), (0, 0));
        assert_eq!(spans(&tiling(&[(0, 10), (12, 20)], None).gaps), [(10, 12)]);
        let overlap = tiling(&[(0, 10), (9, 20), (0, 4)], None).overlaps;
        assert_eq!(overlap.total, 2);
        assert_eq!(overlap.shown[0], [(0.into(), 4.into()), (0.into(), 10.into())]);
    }

    #[test]
    fn what_must_be_covered_ends_at_the_checkpoint() {
        let cut = tiling(&[(0, 10), (20, 30)], Some(15));
        assert_eq!((spans(&cut.gaps), spans(&cut.open)), (vec![(10, 15)], vec![(15, 20)]));
        assert_eq!(spans(&tiling(&[(0, 10)], Some(15)).gaps), [(10, 15)]);
        assert_eq!(spans(&tiling(&[(0, 10), (20, 30)], Some(10)).open), [(10, 20)]);
    }

    #[test]
    fn positions_of_any_length_are_compared_as_numbers() {
        let far = |digits: &str| Position::parse(digits).unwrap();
        let (a, b) = (far("18446744073709551616"), far("49543463076548007577105092703039560359975228518395019266"));
        let mut ranges = Ranges::default();
        ranges.push(&0.into(), &a);
        ranges.push(&a, &b);
        ranges.push(&5.into(), &9.into());
        let tiling = ranges.judge(None).unwrap();
        assert_eq!((tiling.gaps.total, tiling.overlaps.total, tiling.covered), (0, 1, None));
        assert_eq!(tiling.end, b);
    }

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_position_finds(ranges in proptest::collection::vec((0..60u64, 1..9u64), 1..20)) {
            let ranges: Vec<(u64, u64)> = ranges.into_iter().map(|(start, len)| (start, start + len)).collect();
            let distinct: BTreeSet<_> = ranges.iter().copied().collect();
            let found = tiling(&ranges, None);
            let (start, end) = (found.start.as_u64().unwrap(), found.end.as_u64().unwrap());
            let times = |at: u64| distinct.iter().filter(|(start, end)| (*start..*end).contains(&at)).count();
            let holes = (start..end).filter(|at| times(*at) == 0).count() as u64;
            prop_assert_eq!(spans(&found.gaps).iter().map(|(start, end)| end - start).sum::<u64>(), holes);
            prop_assert_eq!(found.covered, Some(end - start - holes));
            prop_assert_eq!(found.overlaps.total > 0, (start..end).any(|at| times(at) > 1));
        }
    }
}
