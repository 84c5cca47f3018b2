//! What an audit says: one document, printed for people or as JSON.

use std::fmt;

use serde::Serialize;

use super::ranges::{Found, Tiling};
use super::state::{OfState, Promise};
use super::survey::{OfShard, Survey};
use crate::position::{Position, Shard};
use crate::source::replay::SHARD_PREFIX;

/// Objects of a promise that are named.
const OBJECTS_SHOWN_MAX: usize = 5;

/// The document; keys are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where was looked.
    pub url: String,
    pub objects: u64,
    pub bytes: u64,
    /// Whether nothing is wrong as far as names, sizes and the state folder tell.
    pub proved: bool,
    pub shards: Vec<ShardReport>,
    pub foreign: Named,
    pub leftovers: Named,
    /// Objects of pipelines that were not asked for.
    pub of_others: u64,
    /// What is to be known about the whole.
    pub notes: Vec<String>,
}

/// One shard of one pipeline.
#[derive(Debug, Default, Serialize)]
pub struct ShardReport {
    pub pipeline: String,
    pub shard: String,
    pub objects: u64,
    pub bytes: u64,
    /// Distinct ranges.
    pub ranges: u64,
    pub start: Option<String>,
    pub end: Option<String>,
    /// Positions that objects cover: records of a spool, bytes of a file.
    pub covered: Option<u64>,
    /// Up to where the state folder says that all is delivered.
    pub checkpoint: Option<String>,
    /// What is wrong, one line each.
    pub findings: Vec<String>,
    /// What is as it should be and yet to be known.
    pub notes: Vec<String>,
}

/// The first few names, and how many there are.
#[derive(Debug, Serialize)]
pub struct Named {
    pub total: u64,
    pub names: Vec<String>,
}

impl From<Found<String>> for Named {
    fn from(found: Found<String>) -> Named {
        Named { total: found.total, names: found.shown }
    }
}

/// What a state folder said before and after the listing.
pub struct States {
    pub before: OfState,
    pub after: OfState,
}

impl Report {
    /// Judges a survey. `states` gives what a state folder says of a pipeline; with `dropped_ok` a gap is no finding.
    pub fn of(url: String, survey: Survey, states: &[(String, States)], dropped_ok: bool) -> Report {
        let Survey { objects, bytes, mut shards, foreign, leftovers, of_others, unordered, .. } = survey;
        let mut notes = Vec::new();
        if unordered {
            notes.push("the store does not list in the order of names: missing parts (-p01) cannot be told".to_owned());
        }
        for (pipeline, states) in states {
            let kept = states.before.checkpoint.keys().chain(states.after.promises.keys());
            for shard in kept.filter(|shard| !shard.is_session()) {
                shards.entry((pipeline.clone(), shard.to_string())).or_default();
            }
        }
        if shards.is_empty() {
            notes.push("no object here is named as hydrant names its own: is this the right place?".to_owned());
        }
        let shards: Vec<ShardReport> = shards
            .into_iter()
            .map(|((pipeline, shard), found)| {
                let states = states.iter().find(|(of, _)| *of == pipeline).map(|(_, states)| states);
                shard_report(pipeline, shard, found, states, dropped_ok)
            })
            .collect();
        let proved = !shards.is_empty() && shards.iter().all(|shard| shard.findings.is_empty());
        let (foreign, leftovers) = (foreign.into(), leftovers.into());
        Report { url, objects, bytes, proved, shards, foreign, leftovers, of_others, notes }
    }
}

fn shard_report(
    pipeline: String,
    shard: String,
    found: OfShard,
    states: Option<&States>,
    dropped_ok: bool,
) -> ShardReport {
    let id = Shard::new(&shard);
    let of_state = states.zip(id.as_ref());
    let checkpoint = of_state.and_then(|(states, id)| states.before.checkpoint.get(id));
    let mut report =
        ShardReport { pipeline, shard, objects: found.objects, bytes: found.bytes, ..ShardReport::default() };
    report.checkpoint = checkpoint.map(Position::to_string);
    let tiling = found.ranges.judge(checkpoint);
    let ShardReport { findings, notes, .. } = &mut report;
    each(&found.backwards, findings, |name| format!("not a range: {name}"));
    each(&found.empty, findings, |name| format!("empty object: {name}"));
    each(&found.parts_missing, findings, |name| format!("missing part: {name}"));
    if let Some(tiling) = &tiling {
        each(&tiling.overlaps, findings, |[(a, b), (c, d)]| format!("overlap: {a}..{b} and {c}..{d} share records"));
        let meaning = match checkpoint {
            Some(_) => "the checkpoint has passed it: dropped by transforms, or removed since",
            None => "dropped by transforms, or missing",
        };
        let gaps = if dropped_ok { &mut *notes } else { &mut *findings };
        each(&tiling.gaps, gaps, |(start, end)| format!("gap: {start}..{end}: {meaning}"));
        each(&tiling.open, notes, |(start, end)| format!("not yet delivered: {start}..{end}"));
    }
    if let Some((states, id)) = of_state {
        judge_by_state(states, id, tiling.as_ref(), (findings, notes), dropped_ok);
    } else if states.is_none()
        && let Some(start) = tiling.as_ref().map(|tiling| &tiling.start).filter(|at| **at > 0.into())
    {
        notes.push(format!("nothing before {start}: names do not tell whether there was something"));
    }
    if let Some(Tiling { ranges, start, end, covered, .. }) = tiling {
        (report.ranges, report.covered) = (ranges, covered);
        (report.start, report.end) = (Some(start.to_string()), Some(end.to_string()));
    }
    report
}

fn judge_by_state(
    states: &States,
    shard: &Shard,
    tiling: Option<&Tiling>,
    (findings, notes): (&mut Vec<String>, &mut Vec<String>),
    dropped_ok: bool,
) {
    let States { before, after } = states;
    match (before.checkpoint.get(shard), tiling) {
        (Some(checkpoint), None) if *checkpoint > 0.into() => {
            let gap = format!(
                "gap: up to {checkpoint}: the checkpoint has passed it, and nothing is here: dropped by transforms, \
                 begun there, or removed since"
            );
            if dropped_ok { notes.push(gap) } else { findings.push(gap) }
        }
        (None, Some(_)) if after.promised(shard).is_none() => {
            let whose = match shard.as_str() {
                id if id.starts_with(SHARD_PREFIX) => {
                    "of a replay that is over, of which the state folder keeps nothing"
                }
                _ if shard.is_session() => "its consumer group keeps the positions",
                _ => "the state folder does not know this shard",
            };
            notes.push(format!("{whose}: judged by names alone"));
        }
        _ => {}
    }
    let promises = after.promises.get(shard).map(Vec::as_slice).unwrap_or_default();
    for Promise { start, end, objects, sink } in promises {
        let mut names = objects.iter().take(OBJECTS_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        if objects.len() > OBJECTS_SHOWN_MAX {
            names.push_str(", ...");
        }
        notes.push(format!(
            "promised to {sink}, not known to be delivered: {start}..{end}: {} objects: {names}",
            objects.len()
        ));
    }
    if let (Some(promised), Some(tiling)) = (after.promised(shard), tiling)
        && tiling.end > *promised
    {
        let end = &tiling.end;
        findings.push(format!(
            "beyond the state folder: objects reach {end}, and it has promised nothing behind {promised}: it is older \
             than what lies here, or another wrote this"
        ));
    }
}

fn each<T>(found: &Found<T>, lines: &mut Vec<String>, line: impl Fn(&T) -> String) {
    lines.extend(found.shown.iter().map(&line));
    let more = found.total - found.shown.len() as u64;
    if let (true, Some(last)) = (more > 0, found.shown.last()) {
        let line = line(last);
        let kind = line.split(':').next().unwrap_or_default();
        lines.push(format!("{kind}: and {more} more"));
    }
}

/// Bytes in the largest unit below them, as people write it.
pub fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        unit => format!("{amount:.1} {unit}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "audit of {}: {} objects, {}", self.url, self.objects, bytes(self.bytes))?;
        for shard in &self.shards {
            write!(f, "{shard}")?;
        }
        for (what, named) in [("not named as ours", &self.foreign), ("unfinished", &self.leftovers)] {
            if named.total > 0 {
                writeln!(f, "{what}: {} (not judged): {}", named.total, named.names.join(", "))?;
            }
        }
        if self.of_others > 0 {
            writeln!(f, "of other pipelines: {} objects (not judged)", self.of_others)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        let findings: usize = self.shards.iter().map(|shard| shard.findings.len()).sum();
        match (self.proved, findings) {
            (true, _) => write!(f, "proved: no gap, no overlap, no empty object"),
            (false, 0) => write!(f, "nothing to prove"),
            (false, findings) => write!(f, "not proved: {findings} findings"),
        }
    }
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShardReport { pipeline, shard, objects, ranges, .. } = self;
        writeln!(f, "{pipeline} {shard}: {objects} objects, {}", bytes(self.bytes))?;
        if let (Some(start), Some(end)) = (&self.start, &self.end) {
            write!(f, "  {start}..{end} in {ranges} ranges")?;
            self.covered.map_or(Ok(()), |covered| write!(f, ", {covered} positions covered"))?;
            self.checkpoint.as_ref().map_or(Ok(()), |checkpoint| write!(f, ", checkpoint {checkpoint}"))?;
            writeln!(f)?;
        }
        self.findings.iter().try_for_each(|finding| writeln!(f, "  FINDING {finding}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}
