//! What a group has begun, as the sink remembers it: so that committed offsets which are gone are told from those that never
//! were, and a partition that was added from one that was there.
//!
//! ```text
//! _hydrant/groups/<group>/<cluster id>/<topic>/<topic id>/
//!     began-with-12     the topic had so many partitions when the group came to it
//!     p0 p1 p7 ...      of these the group has committed where they begin
//! ```
//! The promise: of a partition nothing is read before its `p` lies there, which is put after its first commit was
//! acknowledged. One small object for each partition, and not one for a topic: members begin their partitions one by one,
//! and one that died in between must not make the others look lost. None of them is ever changed or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use crate::error::Fault;
use crate::naming::OWN_FOLDER;
use crate::sink::{ObjectSink, PutError, Trouble, Upload};

use super::describe::TopicNow;
use super::ledger::Part;
use super::plan::TopicId;

/// Marks that are put at the same time.
const PUTS_AT_ONCE: usize = 16;
/// What stands for the id of a topic, or of a cluster, where brokers give none.
const NO_ID: &str = "no-id";

/// Hears of attempts that failed.
type Saying<'s> = dyn Fn(&Trouble) + Send + Sync + 's;

/// The memory of one group.
pub struct Begun {
    sink: ObjectSink,
    group: String,
    /// The cluster, once brokers have told it.
    cluster: OnceLock<String>,
    /// By topic: what its folder was seen to have.
    seen: Mutex<BTreeMap<String, OfTopic>>,
}

/// What is remembered of a topic's name, by the ids of the topics that had it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfTopic(BTreeMap<String, OfId>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfId {
    began_with: Option<i32>,
    partitions: BTreeSet<i32>,
}

/// What is remembered of a partition of which nothing is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The group has never read of the topic.
    Nothing,
    /// It came to the topic when that had this partition, and has not yet begun it.
    NotYet,
    /// The partition was added since.
    Added,
    /// It has read of another topic of that name, and not yet of this one.
    MadeAgain,
    /// It has committed this partition's offset.
    Begun,
}

impl OfTopic {
    /// What is remembered of a partition.
    pub fn of(&self, id: Option<&TopicId>, partition: i32) -> Memory {
        let id = key(id);
        match self.0.get(id) {
            Some(of) if of.partitions.contains(&partition) => Memory::Begun,
            Some(OfId { began_with: Some(count), .. }) if partition >= *count => Memory::Added,
            Some(_) => Memory::NotYet,
            None if self.0.keys().any(|other| other != NO_ID) => Memory::MadeAgain,
            None => Memory::Nothing,
        }
    }

    /// Whether the group has come to the topic of this id.
    pub fn has_come(&self, id: Option<&TopicId>) -> bool {
        self.0.get(key(id)).is_some_and(|of| of.began_with.is_some())
    }

    /// The ids of all topics that had the name, if those are known to have any.
    pub fn ids(&self) -> impl Iterator<Item = TopicId> {
        self.0.keys().filter_map(|id| TopicId::parse(id))
    }

    /// Hears of an object, by its name below the topic's folder.
    fn hear(&mut self, name: &str) {
        let Some((id, mark)) = name.split_once('/') else { return };
        let of = self.0.entry(id.to_owned()).or_default();
        if let Some(count) = mark.strip_prefix("began-with-").and_then(|count| count.parse().ok()) {
            // Two came to it at once while partitions were added: those of the first are the fewer.
            of.began_with = Some(of.began_with.map_or(count, |other| other.min(count)));
        } else if let Some(partition) = mark.strip_prefix('p').and_then(|partition| partition.parse().ok()) {
            of.partitions.insert(partition);
        }
    }
}

impl Begun {
    /// The memory of a group, which lies in this sink. Nothing was looked at.
    pub fn new(group: &str, sink: ObjectSink) -> Begun {
        Begun { sink, group: group.to_owned(), cluster: OnceLock::new(), seen: Mutex::default() }
    }

    /// Brokers have said which cluster they are. The first word counts.
    pub fn set_cluster(&self, cluster: Option<String>) {
        self.cluster.get_or_init(|| folder_of(cluster.as_deref().unwrap_or(NO_ID)));
    }

    fn folder(&self, topic: &str) -> String {
        let cluster = self.cluster.get().map_or(NO_ID, String::as_str);
        format!("{OWN_FOLDER}groups/{}/{cluster}/{topic}/", folder_of(&self.group))
    }

    /// The sink that it lies in.
    pub fn sink(&self) -> &ObjectSink {
        &self.sink
    }

    /// Looks at what lies there of a topic. A fault is the sink's.
    pub async fn look(&self, topic: &str) -> Result<OfTopic, Fault> {
        let folder = self.folder(topic);
        let mut found = OfTopic::default();
        self.sink
            .list(&folder, &mut |listed| {
                found.hear(listed.name.strip_prefix(&folder).unwrap_or_default());
                Ok(())
            })
            .await?;
        self.seen().insert(topic.to_owned(), found.clone());
        Ok(found)
    }

    /// What was seen of a topic last; `None`: it was never looked at.
    pub fn of(&self, topic: &str) -> Option<OfTopic> {
        self.seen().get(topic).cloned()
    }

    /// The group comes to a topic: to be remembered before any of it is committed. Tries for as long as it takes, and says so.
    /// Cancel-safe.
    pub async fn come_to(&self, topic: &str, now: &TopicNow, say: &Saying<'_>) -> Result<(), Fault> {
        let partitions = now.partitions;
        let name = format!("{}/began-with-{partitions}", key(now.id.as_ref()));
        let text = format!("group {} came to topic {topic}, which had {partitions} partitions\n", self.group);
        self.put(topic, &name, text, say).await
    }

    /// Where these partitions begin is committed. Tries for as long as it takes, and says so. Cancel-safe.
    pub async fn begin(&self, parts: &[(Part, Option<TopicId>)], say: &Saying<'_>) -> Result<(), Fault> {
        let is_new = |(part, id): &&(Part, Option<TopicId>)| {
            self.of(&part.topic).is_none_or(|of| of.of(id.as_ref(), part.partition) != Memory::Begun)
        };
        let put = async |(part, id): &(Part, Option<TopicId>)| {
            let Part { topic, partition } = part;
            let text = format!("group {} has begun partition {partition} of topic {topic}\n", self.group);
            self.put(topic, &format!("{}/p{partition}", key(id.as_ref())), text, say).await
        };
        let puts: Vec<_> = parts.iter().filter(is_new).map(put).collect();
        stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).try_collect().await
    }

    async fn put(&self, topic: &str, mark: &str, text: String, say: &Saying<'_>) -> Result<(), Fault> {
        let name = format!("{}{mark}", self.folder(topic));
        let text = Bytes::from(text);
        let read = |offset: u64, len: usize| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            Ok(text.slice(at..text.len().min(at + len)))
        };
        let upload = Upload { name: &name, len: text.len() as u64, crc32c: crc32c::crc32c(&text), read: &read };
        match self.sink.put(&upload, say).await {
            // The name says it all; another version may have written it in other words.
            Ok(_) | Err(PutError::Foreign { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.seen().entry(topic.to_owned()).or_default().hear(mark);
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, OfTopic>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(id: Option<&TopicId>) -> &str {
    id.map_or(NO_ID, TopicId::as_str)
}

/// A group's name as one of a folder; what cannot stand there makes a hash necessary.
fn folder_of(group: &str) -> String {
    let sound = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let plain: String = group.chars().map(|letter| if sound(letter) { letter } else { '_' }).take(100).collect();
    if plain == group && !group.starts_with('.') {
        return plain;
    }
    let hash = Sha256::digest(group.as_bytes());
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", plain.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(letter: char) -> TopicId {
        TopicId::parse(&letter.to_string().repeat(TopicId::LEN)).unwrap()
    }

    #[test]
    fn a_partition_of_which_nothing_is_committed_is_new_added_made_again_or_lost() {
        let mut of = OfTopic::default();
        assert_eq!(of.of(Some(&id('a')), 0), Memory::Nothing);
        for name in ["began-with-3", "p0", "p2", "q", ""] {
            of.hear(&format!("{}/{name}", id('a')));
        }
        let memory: Vec<Memory> = (0..5).map(|partition| of.of(Some(&id('a')), partition)).collect();
        assert_eq!(memory, [Memory::Begun, Memory::NotYet, Memory::Begun, Memory::Added, Memory::Added]);
        assert_eq!(of.of(Some(&id('b')), 0), Memory::MadeAgain);
        assert_eq!(of.ids().collect::<Vec<_>>(), [id('a')]);
        of.hear(&format!("{}/began-with-2", id('a')));
        of.hear(&format!("{}/began-with-9", id('a')));
        assert_eq!(of.of(Some(&id('a')), 3), Memory::Added, "the fewest count");
    }

    #[test]
    fn brokers_that_learn_to_give_ids_make_no_topic_again() {
        let mut of = OfTopic::default();
        of.hear(&format!("{NO_ID}/p0"));
        assert_eq!(of.of(None, 0), Memory::Begun);
        assert_eq!(of.of(Some(&id('a')), 0), Memory::Nothing);
    }

    #[test]
    fn names_of_groups_are_folders_and_stay_apart() {
        assert_eq!(folder_of("hydrant-lake.eu_1"), "hydrant-lake.eu_1");
        for (group, other) in [("a/b", "a_b"), ("..", "__"), ("gruppe ö", "gruppe ä"), (".a", "a")] {
            let folder = folder_of(group);
            assert!(!folder.contains('/') && !folder.starts_with('.'), "{folder}");
            assert_ne!(folder, folder_of(other));
        }
    }
}
