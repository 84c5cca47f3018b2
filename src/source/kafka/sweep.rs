//! Handover copies that nobody needs any more: those of plans that were never told, or were erased with their offsets.
//!
//! The promise: a copy is removed only if it is older than a day, is of a topic that this group has read, and is named by
//! no committed metadata of any partition of the group's topics. Who owns a topic's partition 0 does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::consumer::BaseConsumer;

use crate::cpu::off_thread;
use crate::error::Fault;

use super::context::Context;
use super::copies::needed;
use super::plan::copies_of;
use super::shared::Shared;

/// Younger copies may be of plans that are about to be told.
const AGE_MIN_MS: i64 = 24 * 3600 * 1000;
/// Copies that are removed at a time; the others wait for the next.
const REMOVED_MAX: usize = 1000;

/// Removes what is not needed. What goes wrong is said, and tried again the next time.
pub async fn sweep(shared: Arc<Shared>, consumer: Arc<BaseConsumer<Context>>) {
    let pipeline = shared.pipeline.clone();
    match try_sweep(shared, consumer).await {
        Ok(0) => {}
        Ok(copies) => tracing::info!(pipeline, copies, "kafka: handover copies that nobody needs are removed"),
        Err(why) => tracing::debug!(pipeline, "kafka: handover copies are not looked through: {why}"),
    }
}

async fn try_sweep(shared: Arc<Shared>, consumer: Arc<BaseConsumer<Context>>) -> Result<usize, String> {
    let marks = marks(&shared);
    if marks.is_empty() {
        return Ok(0);
    }
    let young_ms = shared.ground.clock.now_ms() - AGE_MIN_MS;
    let mut old = Vec::new();
    let (folder, sink) = (copies_of(&shared.pipeline), shared.begun.sink());
    let in_words = |fault: Fault| fault.to_string();
    sink.list(&folder, &mut |listed| {
        let name = listed.name.strip_prefix(&folder).unwrap_or_default();
        if listed.modified_ms < young_ms && is_of(name, &marks) && old.len() < REMOVED_MAX {
            old.push(listed.name);
        }
        Ok(())
    })
    .await
    .map_err(in_words)?;
    if old.is_empty() {
        return Ok(0);
    }
    // Asked behind the listing: a plan that is told later is of a copy that is younger.
    let asker = shared.clone();
    let needed = off_thread(move || needed(&asker, &consumer, [])).await.map_err(|error| error.to_string())?;
    let needed = needed.ok_or("metadata of the group cannot be read")?;
    let mut removed = 0;
    for name in old.iter().filter(|name| !needed.contains(*name)) {
        sink.remove(name).await?;
        removed += 1;
    }
    Ok(removed)
}

/// The marks of topics that are ours to look after, and of those that had their names before.
fn marks(shared: &Shared) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    for session in shared.all_sessions() {
        for part in session.parts.iter().filter(|part| part.partition == 0) {
            marks.insert(shared.topic_mark(&part.topic, shared.topic_of(part).as_ref()));
            if let Some(of) = shared.begun.of(&part.topic) {
                marks.extend(of.ids().map(|id| shared.topic_mark(&part.topic, Some(&id))));
            }
        }
    }
    marks
}

/// Whether a copy, by its file's name, is of a topic with one of these marks.
fn is_of(name: &str, marks: &BTreeSet<String>) -> bool {
    name.strip_prefix('k').and_then(|rest| rest.get(..8)).is_some_and(|mark| marks.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_tells_whose_topic_it_is_of() {
        let marks = BTreeSet::from(["1a2b3c4d".to_owned()]);
        assert!(is_of("k1a2b3c4dp3s001122334455-5-9.sealed", &marks));
        assert!(is_of("k1a2b3c4dms001122334455-5-9.sealed", &marks));
        for other in ["k1a2b3c4ep3s001122334455-5-9.sealed", "kms001122334455-5-9.sealed", "1a2b3c4d", "k", ""] {
            assert!(!is_of(other, &marks), "{other}");
        }
    }
}
