//! What a pipeline has in its folder below `<state>/pipelines/`: promises, a checkpoint, and perhaps the mark that it was
//! drained. Folders are never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::config::Settings;
use crate::error::Fault;
use crate::ground::Ground;
use crate::outbox::Outbox;
use crate::pipeline::Promised;
use crate::position::{Position, Shard};

/// Opened by the pipeline that runs on it.
pub struct Kept {
    pub dir: PathBuf,
    pub outbox: Outbox,
    pub checkpoint: Checkpoint<Promised>,
    /// The URLs that promises were made to.
    pub sinks: BTreeSet<String>,
}

impl Kept {
    /// Opens it; drafts that nobody finished are removed. Nobody else may be at work on it. Blocking.
    pub fn open(ground: &Ground, dir: &Path) -> Result<Kept, Fault> {
        let checkpoint = Checkpoint::open(ground, dir)?;
        let outbox = Outbox::open(ground, &dir.join("outbox"))?;
        let pending = outbox.pending()?;
        let sinks = pending.values().flatten().map(|sealed| sealed.sink().to_owned()).collect();
        Ok(Kept { dir: dir.to_owned(), outbox, checkpoint, sinks })
    }
}

/// Seen by others, while nobody is at work on it.
#[derive(Debug, Clone)]
pub struct Left {
    /// Objects promised and not delivered.
    pub promised: u64,
    /// By shard, up to where records were read into promises.
    pub positions: BTreeMap<Shard, Position>,
    /// Nothing that was acknowledged is undelivered.
    pub drained: bool,
    /// The shards that are drained.
    drained_of: BTreeMap<Shard, Position>,
}

impl Left {
    /// Looks; changes nothing. Blocking.
    pub fn look(ground: &Ground, dir: &Path) -> Result<Left, Fault> {
        let mut positions = checkpoint::peek(&*ground.disk, dir)?;
        let outbox = dir.join("outbox");
        let pending = match ground.disk.list(&outbox) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            _ => Outbox::peek(ground, &outbox).pending()?,
        };
        let mut promised = 0;
        for sealed in pending.into_values().flatten() {
            promised += sealed.objects().len() as u64;
            let end = positions.entry(sealed.range().shard.clone()).or_insert_with(|| sealed.range().end.clone());
            *end = sealed.range().end.clone().max(end.clone());
        }
        let mark = checkpoint::drained(&*ground.disk, dir)?;
        let drained_of = mark.clone().unwrap_or_default();
        let is_drained = |(shard, at): (&Shard, &Position)| drained_of.get(shard) == Some(at);
        let drained = mark.is_some() && promised == 0 && positions.iter().all(is_drained);
        Ok(Left { promised, positions, drained, drained_of })
    }

    /// From where on it still needs the records of this shard, if it does.
    pub fn needs(&self, shard: &Shard) -> Option<&Position> {
        let at = self.positions.get(shard)?;
        (self.drained_of.get(shard) != Some(at)).then_some(at)
    }
}

/// The folder of a pipeline.
pub fn folder(settings: &Settings, name: &str) -> PathBuf {
    settings.state.join("pipelines").join(name)
}

/// The names of all pipelines that have a folder. Blocking.
pub fn names(settings: &Settings) -> io::Result<BTreeSet<String>> {
    let entries = match std::fs::read_dir(settings.state.join("pipelines")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other?,
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
