//! Replays of error objects.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Kit, PLAN, note, say};
use crate::cpu::off_async;
use crate::error::{Blame, Fault};
use crate::naming::ObjectName;
use crate::position::Shard;
use crate::rejected;
use crate::sink::{Listed, ListedKind, ObjectSink};
use crate::source::Source;
use crate::source::replay::{
    Class, Classes, Done, ErrorSource, Plan, Planned, SHARD_PREFIX, Sight, new_shard, read_checked, write_checked,
};
use crate::status::replay::{Errors, Said, Saying, Summary};

/// Error objects of one plan; what is more comes with the next.
const PLANNED_MAX: usize = 100_000;

/// Packed objects are not read.
const PACKED: [&str; 4] = [".gz", ".zst", ".zip", ".snappy"];

/// What a listing gave.
#[derive(Default)]
struct Listing {
    planned: Vec<Planned>,
    /// Below the given prefix, and not to be read.
    packed: u64,
    of_others: u64,
}

impl Kit {
    /// Replays what was set aside, as far as it was not before.
    pub(super) async fn errors(&self, wanted: &Errors, dry_run: bool, saying: &Saying) -> Result<Summary, Fault> {
        let dir = self.dir("errors")?;
        let disk = &*self.ground.disk;
        let mut done = off_async(|| Done::read(disk, &dir))?;
        let mut summary = Summary::default();
        let unfinished = off_async(|| read_plan(self, &dir))?;
        // Of this call: what it sets aside itself is not replayed by it.
        let mut ours: Vec<Shard> = unfinished.iter().filter_map(Plan::shard).collect();
        if let Some(plan) = unfinished {
            say(saying, Said::GoesOn);
            if dry_run {
                note(saying, "an earlier replay is not finished: the next call goes on with it first".to_owned());
                // What is asked for comes behind it.
                done.add(plan.objects.iter());
            } else if !self.finish(&dir, plan, &mut done, saying, &mut summary).await? {
                return Ok(Summary { stopped: true, ..summary });
            }
        } else if !dry_run {
            off_async(|| self.forget_checkpoint(&dir))?;
        }
        let mut first = true;
        loop {
            let sink = (self.open_sink)(&self.recipe.sink)?;
            let Some(listing) = self.unless_stopped(self.list(&sink, wanted, &done, &ours)).await? else {
                return Ok(Summary { stopped: true, ..summary });
            };
            if std::mem::take(&mut first) {
                listing.say(saying);
            }
            let objects = listing.planned;
            if objects.is_empty() {
                summary.nothing_left = summary.records == 0 && summary.error_objects == 0;
                return Ok(summary);
            }
            let shard = new_shard(&self.ground.random);
            let plan = Plan { shard: shard.to_string(), objects };
            say(saying, Said::Planned { objects: plan.objects.len() as u64, amount: plan.end() });
            if dry_run {
                summary.stopped = self.unless_stopped(self.count(sink, plan, &mut summary)).await?.is_none();
                return Ok(summary);
            }
            ours.push(shard);
            let text = serde_json::to_vec(&plan).map_err(|error| Fault::new(Blame::Bug, format!("replay: {error}")))?;
            off_async(|| write_checked(disk, &dir, PLAN, &text))?;
            let full = plan.objects.len() == PLANNED_MAX;
            if !self.finish(&dir, plan, &mut done, saying, &mut summary).await? {
                return Ok(Summary { stopped: true, ..summary });
            }
            if !full {
                // Lines for other reasons, and those that an earlier replay had set aside, are none.
                summary.nothing_left = summary.records == 0;
                return Ok(summary);
            }
        }
    }

    /// Replays a plan to its end, and notes that; `false`: it was told to stop.
    async fn finish(
        &self,
        dir: &Path,
        plan: Plan,
        done: &mut Done,
        saying: &Saying,
        summary: &mut Summary,
    ) -> Result<bool, Fault> {
        let shard = plan.shard().ok_or_else(|| Fault::new(Blame::Disk, format!("replay: shard {:?}", plan.shard)))?;
        let sight = Arc::new(Sight::default());
        // The store in which the pipeline's errors lie now; objects that are not there are said to be gone.
        let sink = (self.open_sink)(&self.recipe.sink)?;
        let plan = Arc::new(plan);
        let source = ErrorSource::new(sink, plan.clone(), sight.clone())?;
        let replayed = self.replay(dir, Box::new(source), (&shard, plan.end()), saying, summary).await;
        seen(&sight, summary);
        if !replayed? {
            return Ok(false);
        }
        summary.error_objects += plan.objects.len() as u64;
        // What is gone may come back.
        let read = plan.objects.iter().enumerate().filter(|(at, _)| !sight.is_unread(*at));
        done.add(read.map(|(_, object)| object));
        off_async(|| {
            done.write(&*self.ground.disk, dir)?;
            self.end_plan(dir)
        })?;
        Ok(true)
    }

    /// Reads a plan only to count its lines.
    async fn count(&self, sink: ObjectSink, plan: Plan, summary: &mut Summary) -> Result<(), Fault> {
        summary.error_objects = plan.objects.len() as u64;
        let sight = Arc::new(Sight::default());
        let source = ErrorSource::new(sink, Arc::new(plan), sight.clone())?;
        while let Some(shard) = source.next_shard().await? {
            let mut reader = source.open(&shard, None).await?;
            while let Some(read) = reader.next().await? {
                summary.records += read.batch.len() as u64;
            }
        }
        seen(&sight, summary);
        summary.records -= summary.unreadable;
        Ok(())
    }

    async fn list(&self, sink: &ObjectSink, wanted: &Errors, done: &Done, ours: &[Shard]) -> Result<Listing, Fault> {
        let beginnings = match &wanted.prefix {
            Some(prefix) => vec![prefix.clone()],
            None => self.recipe.error_prefix.beginnings(),
        };
        if wanted.prefix.is_none() && beginnings.iter().any(String::is_empty) {
            let message = "the error prefix begins with a time: error objects cannot be told from others";
            return Err(Fault::new(Blame::Config, format!("{message}\nhint: say where they are with --prefix")));
        }
        let classes = Classes::of(&wanted.reasons);
        let mut listing = Listing::default();
        for beginning in &beginnings {
            let mut hear = |listed: Listed| {
                let Listed { name, bytes, modified_ms, kind } = listed;
                let in_time = wanted.since_ms.is_none_or(|since| modified_ms >= since)
                    && wanted.until_ms.is_none_or(|until| modified_ms < until);
                if kind != ListedKind::Object || bytes == 0 || !in_time || listing.planned.len() == PLANNED_MAX {
                    return Ok(());
                }
                match ObjectName::parse(&name) {
                    Some(of) if of.pipeline != self.pipeline() || of.extension != rejected::EXTENSION => {
                        listing.of_others += 1;
                        return Ok(());
                    }
                    Some(of) if ours.contains(&of.range.shard) => return Ok(()),
                    Some(of) if wanted.not_replayed && of.range.shard.as_str().starts_with(SHARD_PREFIX) => {
                        return Ok(());
                    }
                    Some(_) => {}
                    None if wanted.prefix.is_none() => {
                        listing.of_others += 1;
                        return Ok(());
                    }
                    None if PACKED.iter().any(|packed| name.ends_with(packed)) => {
                        listing.packed += 1;
                        return Ok(());
                    }
                    None => {}
                }
                let classes = classes.without(done.of(&name));
                if classes != Classes(0) {
                    listing.planned.push(Planned { name, bytes, modified_ms, classes });
                }
                Ok(())
            };
            sink.list(beginning, &mut hear).await?;
        }
        Ok(listing)
    }
}

impl Listing {
    fn say(&self, saying: &Saying) {
        let Listing { packed, of_others, .. } = self;
        if *packed > 0 {
            note(saying, format!("{packed} objects are packed and are not read: unpack them first"));
        }
        if *of_others > 0 {
            note(saying, format!("{of_others} objects there are not error objects of this pipeline"));
        }
    }
}

fn read_plan(kit: &Kit, dir: &Path) -> Result<Option<Plan>, Fault> {
    let Some(bytes) = read_checked(&*kit.ground.disk, dir, PLAN)? else { return Ok(None) };
    let plan = serde_json::from_slice(&bytes);
    plan.map(Some).map_err(|error| Fault::new(Blame::Disk, format!("{}: {error}", dir.join(PLAN).display())))
}

fn seen(sight: &Sight, summary: &mut Summary) {
    let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    for class in Class::ALL {
        let count = get(&sight.classes[class as usize]);
        if count > 0 {
            *summary.by_reason.entry(class.as_str().to_owned()).or_default() += count;
        }
    }
    summary.unreadable += get(&sight.unreadable);
    summary.left_alone += get(&sight.left_alone);
    summary.gone += sight.gone();
}
