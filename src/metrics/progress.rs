//! The five positions of every shard of a pipeline, `released <= delivered <= sealed <= read <= tail`, and how old what is
//! not delivered is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::position::{Position, Shard};

use super::{Families, OfPosition, PipelineMetrics, SHARDS_SHOWN_MAX, lock};

/// The five positions of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// The end of the log, as far as known.
    pub tail: Position,
    /// Up to here it is read into the open chunk.
    pub read: Position,
    /// Up to here it is promised.
    pub sealed: Position,
    /// Up to here it is in the store without a gap, durably noted.
    pub delivered: Position,
    /// Up to here the source was told to forget.
    pub released: Position,
}

impl Positions {
    fn named(&self) -> [(&'static str, &Position); 5] {
        [
            ("released", &self.released),
            ("delivered", &self.delivered),
            ("sealed", &self.sealed),
            ("read", &self.read),
            ("tail", &self.tail),
        ]
    }
}

/// The five positions of every shard of a pipeline: for the metrics, and to assert their order.
#[derive(Clone)]
pub struct Progress {
    shards: Shards,
    metrics: PipelineMetrics,
}

/// The shards of one way.
pub(super) type Shards = Arc<Mutex<BTreeMap<Shard, Known>>>;

pub(super) struct Known {
    positions: Positions,
    /// Promises that are not delivered: where they end, and when their oldest record arrived (unknown of those that a dead
    /// process made). At most as many as fit the outbox.
    promised: VecDeque<(Position, Option<i64>)>,
    /// Among the first, and so in the metrics.
    shown: bool,
    /// Nothing more will be read.
    ended: bool,
}

impl Progress {
    /// Nothing is known yet, and what the way before this one knew counts no more.
    pub fn new(metrics: &PipelineMetrics) -> Progress {
        let shards = Shards::default();
        if let Some(families) = metrics.families.upgrade() {
            let before = lock(&families.shards).insert(metrics.pipeline.to_string(), shards.clone());
            if let Some(before) = before {
                families.leave(&metrics.pipeline, &before);
            }
        }
        Progress { shards, metrics: metrics.clone() }
    }

    /// A shard is read on from `at`; all before is promised, up to `delivered` delivered. The first time counts.
    pub fn begin(&self, shard: &Shard, delivered: &Position, at: &Position) {
        let (delivered, at) = (delivered.clone(), at.clone());
        let released = delivered.clone();
        let promised = (delivered < at).then(|| (at.clone(), None)).into_iter().collect();
        let positions = Positions { tail: at.clone(), read: at.clone(), sealed: at, delivered, released };
        let mut shards = self.shards();
        let shown = shards.values().filter(|known| known.shown).count() < SHARDS_SHOWN_MAX;
        shards.entry(shard.clone()).or_insert(Known { positions, promised, shown, ended: false });
        drop(shards);
        // Shown at once: an idle shard has positions too.
        self.update(shard, |_| ());
    }

    /// Changes a shard's positions, and asserts their order.
    pub fn update(&self, shard: &Shard, change: impl FnOnce(&mut Positions)) {
        let mut shards = self.shards();
        let Some(known) = shards.get_mut(shard) else { return };
        let positions = &mut known.positions;
        let sealed = positions.sealed.clone();
        change(positions);
        if positions.sealed > sealed {
            known.promised.push_back((positions.sealed.clone(), self.metrics.live.sealed(shard)));
        }
        while known.promised.front().is_some_and(|(end, _)| *end <= positions.delivered) {
            known.promised.pop_front();
        }
        if positions.tail < positions.read {
            positions.tail = positions.read.clone();
        }
        for pair in positions.named().windows(2) {
            let ((low, behind), (high, before)) = (pair[0], pair[1]);
            assert!(behind <= before, "{shard}: {low} {behind} is beyond {high} {before}");
        }
        if known.shown
            && let Some(families) = self.metrics.families.upgrade()
        {
            for (position, at) in positions.named() {
                let of = OfPosition::new(&self.metrics.pipeline, shard, position);
                let gauge = families.positions.get_or_create_owned(&of);
                gauge.set(at.as_str().parse().unwrap_or(f64::INFINITY));
            }
        }
        self.forget_if_done(shards, shard);
    }

    /// A shard has ended for good: it is forgotten when all of it is released.
    pub fn end(&self, shard: &Shard) {
        let mut shards = self.shards();
        if let Some(known) = shards.get_mut(shard) {
            known.ended = true;
        }
        self.forget_if_done(shards, shard);
    }

    /// A shard is another's now: it is forgotten at once, wherever it stands. To be said when nobody reads it any more; what
    /// is said of it later counts nothing.
    pub fn lose(&self, shard: &Shard) {
        let mut shards = self.shards();
        let known = shards.remove(shard);
        // Also of a chunk that will not be promised.
        self.metrics.live.sealed(shard);
        if let (Some(known), Some(families)) = (known, self.metrics.families.upgrade()) {
            families.forget_positions(&self.metrics.pipeline, shard, &known);
        }
        drop(shards);
    }

    fn forget_if_done(&self, mut shards: MutexGuard<'_, BTreeMap<Shard, Known>>, shard: &Shard) {
        let done = |known: &Known| known.ended && known.positions.released == known.positions.read;
        if shards.get(shard).is_some_and(done)
            && let Some(known) = shards.remove(shard)
            && let Some(families) = self.metrics.families.upgrade()
        {
            families.forget_positions(&self.metrics.pipeline, shard, &known);
        }
    }

    /// Nothing is read any more: shows no positions until somebody begins again.
    pub fn leave(&self) {
        if let Some(families) = self.metrics.families.upgrade() {
            families.leave(&self.metrics.pipeline, &self.shards);
        }
    }

    /// The positions of the shards that are shown.
    pub fn shown(&self) -> Vec<(Shard, Positions)> {
        let shards = self.shards();
        let shown = shards.iter().filter(|(_, known)| known.shown);
        shown.map(|(shard, known)| (shard.clone(), known.positions.clone())).collect()
    }

    /// The log of `shard` is known to reach to `tail`, also while nobody reads it.
    pub fn reaches(&self, shard: &Shard, tail: &Position) {
        let grows = |known: &Known| known.positions.tail < *tail;
        if self.shards().get(shard).is_some_and(grows) {
            self.update(shard, |at| at.tail = tail.clone().max(at.tail.clone()));
        }
    }

    /// What lies between the tails and what is delivered, over all shards, as positions count (records, or bytes of files);
    /// `None`: a position is beyond what can be counted.
    pub fn lag(&self) -> Option<u64> {
        let of = |at: &Positions| at.tail.as_u64()?.checked_sub(at.delivered.as_u64()?);
        self.shards().values().try_fold(0u64, |sum, known| sum.checked_add(of(&known.positions)?))
    }

    /// When the oldest record arrived that was read and is not delivered, Unix milliseconds; `None`: there is none. Of what
    /// a dead process promised it is not known; `at_least` is said then.
    pub fn oldest_ms(&self, at_least: i64) -> Option<i64> {
        let shards = self.shards();
        let of = |(shard, known): (&Shard, &Known)| {
            let promised = known.promised.iter().map(|(_, oldest_ms)| oldest_ms.unwrap_or(at_least));
            let open = (known.positions.read > known.positions.sealed).then(|| self.metrics.live.oldest_ms(shard));
            promised.chain(open.flatten()).min()
        };
        shards.iter().filter_map(of).min()
    }

    /// Shards that are known, also those that are not shown.
    pub fn shards_known(&self) -> usize {
        self.shards().len()
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<Shard, Known>> {
        lock(&self.shards)
    }
}

impl Families {
    /// Forgets shards and their positions; under their lock, so that nobody shows them meanwhile.
    pub(super) fn leave(&self, pipeline: &str, shards: &Shards) {
        let mut shards = lock(shards);
        for (shard, known) in std::mem::take(&mut *shards) {
            self.forget_positions(pipeline, &shard, &known);
        }
    }

    fn forget_positions(&self, pipeline: &str, shard: &Shard, known: &Known) {
        for (position, _) in known.positions.named() {
            self.positions.remove(&OfPosition::new(pipeline, shard, position));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn shard(n: usize) -> Shard {
        Shard::new(&format!("s{n}")).unwrap()
    }

    fn gauges(metrics: &Metrics, shard: &str) -> Vec<String> {
        let label = format!("shard=\"{shard}\"");
        metrics.render().lines().filter(|line| line.contains(&label)).map(str::to_owned).collect()
    }

    #[test]
    fn shards_shown_first_stay_shown_and_make_room_when_they_have_ended() {
        let metrics = Metrics::new();
        let progress = Progress::new(&metrics.pipeline("p"));
        for n in 0..=SHARDS_SHOWN_MAX {
            progress.begin(&shard(n), &0.into(), &0.into());
        }
        let all = |to: u64| {
            move |at: &mut Positions| {
                let to = Position::from(to);
                *at = Positions {
                    tail: to.clone(),
                    read: to.clone(),
                    sealed: to.clone(),
                    delivered: to.clone(),
                    released: to,
                };
            }
        };
        progress.update(&shard(0), all(7));
        progress.update(&shard(SHARDS_SHOWN_MAX), all(7));
        assert!(gauges(&metrics, "s0")[0].ends_with(" 7.0"), "{:?}", gauges(&metrics, "s0"));
        assert!(gauges(&metrics, "s64").is_empty());
        progress.end(&shard(0));
        assert!(gauges(&metrics, "s0").is_empty());
        progress.begin(&shard(100), &0.into(), &0.into());
        progress.update(&shard(100), all(9));
        assert_eq!(gauges(&metrics, "s100").len(), 5);
    }

    #[test]
    fn the_next_way_leaves_the_positions_of_the_one_before_and_a_pipeline_takes_all_of_its_own_along() {
        let metrics = Metrics::new();
        let of = metrics.pipeline("p");
        let before = Progress::new(&of);
        before.begin(&shard(1), &0.into(), &0.into());
        let progress = Progress::new(&of);
        progress.begin(&shard(2), &0.into(), &0.into());
        before.reaches(&shard(1), &9.into());
        assert_eq!((gauges(&metrics, "s1").len(), gauges(&metrics, "s2").len()), (0, 5));
        let reason = crate::error::Reason { by: crate::error::RejectedBy::Format, code: "C", message: "m".into() };
        for _ in 0..3 {
            of.rejected(&reason, b"bad", 1);
            metrics.pipeline("p").cut("interval");
        }
        let rejected =
            "hydrant_records_rejected_total{pipeline=\"p\",reason=\"format-conversion-failed\",code=\"C\"} 3\n";
        assert!(metrics.render().contains(rejected), "{}", metrics.render());
        metrics.forget_pipeline("p");
        progress.reaches(&shard(2), &9.into());
        of.set_oldest_undelivered(Some(std::time::Duration::from_secs(9)));
        assert!(metrics.known("p").is_none());
        assert!(!metrics.render().contains("\"p\""), "{}", metrics.render());
    }

    #[test]
    fn how_old_what_is_not_delivered_is() {
        let metrics = Metrics::new().pipeline("p");
        let progress = Progress::new(&metrics);
        let open = |oldest_ms| crate::live::Open { bytes: 0, bytes_max: 0, cut_at_ms: 0, oldest_ms };
        progress.begin(&shard(1), &0.into(), &0.into());
        assert_eq!((progress.oldest_ms(7), progress.lag()), (None, Some(0)));
        let seen = metrics.live.opens(&shard(1));
        seen.show(open(5000));
        progress.update(&shard(1), |at| at.read = 10.into());
        assert_eq!((progress.oldest_ms(7), progress.lag()), (Some(5000), Some(10)), "it is in the open chunk");
        drop(seen);
        assert_eq!(progress.oldest_ms(7), Some(5000), "it is being sealed");
        progress.update(&shard(1), |at| at.sealed = 10.into());
        let seen = metrics.live.opens(&shard(1));
        seen.show(open(6000));
        progress.update(&shard(1), |at| at.read = 20.into());
        progress.update(&shard(1), |at| at.sealed = 20.into());
        assert_eq!(progress.oldest_ms(7), Some(5000), "it is promised");
        progress.update(&shard(1), |at| at.delivered = 10.into());
        assert_eq!(progress.oldest_ms(7), Some(6000), "the next one is promised");
        progress.update(&shard(1), |at| at.delivered = 20.into());
        assert_eq!(progress.oldest_ms(7), None);
        progress.reaches(&shard(1), &50.into());
        progress.reaches(&shard(1), &30.into());
        assert_eq!((progress.oldest_ms(7), progress.lag()), (None, Some(30)), "not read yet");
        progress.begin(&shard(2), &0.into(), &9.into());
        assert_eq!(progress.oldest_ms(7), Some(7), "promised by a dead process");
    }

    #[test]
    fn a_shard_that_is_lost_is_forgotten_at_once_and_makes_room() {
        let metrics = Metrics::new();
        let of = metrics.pipeline("p");
        let progress = Progress::new(&of);
        for n in 0..=SHARDS_SHOWN_MAX {
            progress.begin(&shard(n), &0.into(), &0.into());
        }
        let open = crate::live::Open { bytes: 0, bytes_max: 0, cut_at_ms: 0, oldest_ms: 5 };
        of.live.opens(&shard(0)).show(open);
        progress.update(&shard(0), |at| at.read = 10.into());
        assert_eq!((progress.lag(), progress.oldest_ms(7)), (Some(10), Some(5)));
        progress.lose(&shard(0));
        progress.lose(&shard(0));
        progress.update(&shard(0), |at| at.sealed = 10.into());
        progress.end(&shard(0));
        assert_eq!((progress.lag(), progress.oldest_ms(7), of.live.oldest_ms(&shard(0))), (Some(0), None, None));
        assert_eq!((progress.shards_known(), gauges(&metrics, "s0").len()), (SHARDS_SHOWN_MAX, 0));
        progress.begin(&shard(100), &0.into(), &0.into());
        assert_eq!(gauges(&metrics, "s100").len(), 5);
    }

    #[test]
    #[should_panic(expected = "s1: delivered 5 is beyond sealed 0")]
    fn positions_out_of_order_are_a_bug() {
        let progress = Progress::new(&Metrics::new().pipeline("p"));
        progress.begin(&shard(1), &0.into(), &0.into());
        progress.update(&shard(1), |at| at.delivered = 5.into());
    }
}
