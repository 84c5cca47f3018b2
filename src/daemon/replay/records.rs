//! Replays of records that the stream still holds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Kit, PLAN, label, note, say};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::position::{Position, Shard};
use crate::source::Source;
use crate::source::replay::{PartSource, new_shard, read_checked, write_checked};
use crate::spool::{Stats, Stream};
use crate::status::replay::{Records, Said, Saying, Summary};

/// A part of a stream that is being replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    shard: String,
    /// The stream's own shard.
    log: String,
    from: u64,
    to: u64,
}

/// Parts of streams that were replayed, without what lies between: by log, in order, not touching.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Done(std::collections::BTreeMap<String, Vec<(u64, u64)>>);

impl Done {
    /// What of a range is not done.
    fn rest(&self, log: &str, (mut from, to): (u64, u64)) -> Vec<(u64, u64)> {
        let mut rest = Vec::new();
        for (start, end) in self.0.get(log).into_iter().flatten() {
            if *start > from && from < to {
                rest.push((from, to.min(*start)));
            }
            from = from.max(*end);
        }
        if from < to {
            rest.push((from, to));
        }
        rest
    }

    fn add(&mut self, log: &str, range: (u64, u64)) {
        let ranges = self.0.entry(log.to_owned()).or_default();
        ranges.push(range);
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges.drain(..).filter(|(start, end)| start < end) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        *ranges = merged;
    }
}

/// Keeps the records that a replay reads for as long as it lives.
struct Held<'a> {
    stream: &'a Stream,
    reader: String,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(fault) = self.stream.forget(&self.reader) {
            tracing::error!(stream = self.stream.name(), error = format!("{:#}", fault.error), "not trimmed");
        }
    }
}

impl Kit {
    /// Replays a part of the pipeline's stream, as far as it was not before or that is asked for.
    pub(super) async fn records(&self, wanted: &Records, dry_run: bool, saying: &Saying) -> Result<Summary, Fault> {
        let Some(stream) = &self.stream else {
            let message = format!("pipeline {} reads no stream: there is no range of records", self.pipeline());
            return Err(Fault::new(Blame::Config, message));
        };
        let dir = self.dir("records")?;
        let log = stream.shard().to_string();
        let reader = label(self.pipeline());
        // From here on nothing goes that is held now.
        let source = stream.source(&reader);
        let _held = self.stream_is_read.then(|| Held { stream, reader: reader.clone() });
        let mut done: Done = off_async(|| read(self, &dir, "done"))?.unwrap_or_default();
        let mut summary = Summary::default();
        match off_async(|| read::<Plan>(self, &dir, PLAN))? {
            Some(plan) if dry_run => {
                let Plan { from, to, .. } = plan;
                note(saying, format!("records {from}..{to} are not finished: the next call goes on with them first"));
            }
            Some(plan) => {
                say(saying, Said::GoesOn);
                if !self.finish_part(&dir, stream, plan, &mut done, saying, &mut summary).await? {
                    return Ok(Summary { stopped: true, ..summary });
                }
            }
            None if dry_run => {}
            None => off_async(|| self.forget_checkpoint(&dir))?,
        }
        let Some(range) = self.unless_stopped(range(stream, &source, wanted)).await? else {
            return Ok(Summary { stopped: true, ..summary });
        };
        let parts = if wanted.again { vec![range] } else { done.rest(&log, range) };
        let amount = parts.iter().map(|(from, to)| to - from).sum::<u64>();
        if amount == 0 {
            summary.nothing_left = summary.records == 0;
            return Ok(summary);
        }
        say(saying, Said::Planned { objects: 0, amount });
        if dry_run {
            return Ok(Summary { records: amount, ..summary });
        }
        for (from, to) in parts {
            let shard = new_shard(&self.ground.random).to_string();
            let plan = Plan { shard, log: log.clone(), from, to };
            off_async(|| write(self, &dir, PLAN, &plan))?;
            if !self.finish_part(&dir, stream, plan, &mut done, saying, &mut summary).await? {
                return Ok(Summary { stopped: true, ..summary });
            }
        }
        Ok(summary)
    }

    async fn finish_part(
        &self,
        dir: &Path,
        stream: &Stream,
        plan: Plan,
        done: &mut Done,
        saying: &Saying,
        summary: &mut Summary,
    ) -> Result<bool, Fault> {
        let Plan { shard, log, from, to } = &plan;
        let damaged = || Fault::new(Blame::Disk, format!("{}: {plan:?}", dir.join(PLAN).display()));
        let (shard, log_shard) = (Shard::new(shard).ok_or_else(damaged)?, Shard::new(log).ok_or_else(damaged)?);
        let to = self.reachable(dir, stream, &shard, (&log_shard, *from, *to), saying)?;
        let inner = Box::new(stream.source(&label(self.pipeline())));
        if self.stream_is_read {
            inner.release(stream.shard(), &(*from).into()).await?;
        }
        let source = PartSource::new(inner, (log_shard, shard.clone()), (*from, to), self.stream_is_read);
        if !self.replay(dir, Box::new(source), (&shard, to), saying, summary).await? {
            return Ok(false);
        }
        off_async(|| {
            done.add(log, (*from, to));
            write(self, dir, "done", done)?;
            self.end_plan(dir)
        })?;
        Ok(true)
    }

    /// Up to where a plan can still be followed: where it is promised already, if what comes then is gone.
    fn reachable(
        &self,
        dir: &Path,
        stream: &Stream,
        shard: &Shard,
        (log, from, to): (&Shard, u64, u64),
        saying: &Saying,
    ) -> Result<u64, Fault> {
        let promised = off_async(|| {
            let (checkpoint, outbox) = self.kept(dir)?;
            let pending = outbox.pending()?;
            let last = pending.get(shard).and_then(|chunks| chunks.last()).map(|sealed| sealed.range().end.clone());
            Ok::<_, Fault>(last.max(checkpoint.of(shard)).and_then(|at| at.as_u64()).unwrap_or(from))
        })?;
        let Stats { oldest, .. } = stream.stats();
        if promised >= to || *log == *stream.shard() && promised >= oldest {
            return Ok(to);
        }
        note(
            saying,
            format!("records {promised}..{to} of the earlier call are not held any more: it ends at {promised}"),
        );
        Ok(promised)
    }
}

/// The records that are asked for, or why they cannot be had.
async fn range(stream: &Stream, source: &dyn Source, wanted: &Records) -> Result<(u64, u64), Fault> {
    let Stats { oldest, durable, .. } = stream.stats();
    let held = || format!("stream {} holds records {oldest}..{durable}", stream.name());
    let from = match (wanted.from, wanted.since_ms) {
        (Some(from), _) => from,
        (None, None) => oldest,
        (None, Some(since_ms)) => first_since(stream, source, since_ms, (oldest, durable)).await?,
    };
    let to = wanted.to.unwrap_or(durable);
    if from < oldest || to > durable {
        return Err(Fault::new(Blame::Config, format!("records {from}..{to} are not all there: {}", held())));
    }
    if from > to {
        return Err(Fault::new(Blame::Config, format!("records {from}..{to} are no range: {}", held())));
    }
    Ok((from, to))
}

/// The number of the first record that arrived at `since_ms` or later: reads the stream up to there.
async fn first_since(
    stream: &Stream,
    source: &dyn Source,
    since_ms: i64,
    (oldest, durable): (u64, u64),
) -> Result<u64, Fault> {
    let mut reader = source.open(stream.shard(), Some(&oldest.into())).await?;
    while reader.position() < Position::from(durable) {
        let Some(read) = reader.next().await? else { break };
        let first = (0..read.batch.len()).find(|row| read.batch.arrival_ms(*row) >= since_ms);
        if let (Some(row), Some(end)) = (first, read.end.as_u64()) {
            return Ok(end - (read.batch.len() - row) as u64);
        }
    }
    Ok(durable)
}

fn read<T: serde::de::DeserializeOwned>(kit: &Kit, dir: &Path, name: &str) -> Result<Option<T>, Fault> {
    let Some(bytes) = read_checked(&*kit.ground.disk, dir, name)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| Fault::new(Blame::Disk, format!("{}: {error}", dir.join(name).display())))
}

fn write(kit: &Kit, dir: &Path, name: &str, value: &impl Serialize) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(value).map_err(|error| Fault::new(Blame::Bug, format!("replay: {error}")))?;
    write_checked(&*kit.ground.disk, dir, name, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replayed_is_taken_off_what_is_asked_for() {
        let mut done = Done::default();
        assert_eq!(done.rest("a", (0, 10)), [(0, 10)]);
        done.add("a", (2, 4));
        done.add("a", (6, 7));
        assert_eq!(done.rest("a", (0, 10)), [(0, 2), (4, 6), (7, 10)]);
        assert_eq!(done.rest("a", (3, 6)), [(4, 6)]);
        assert_eq!(done.rest("b", (3, 6)), [(3, 6)]);
        done.add("a", (4, 6));
        assert_eq!(done.0["a"], [(2, 7)]);
        assert_eq!(done.rest("a", (2, 7)), []);
    }
}
