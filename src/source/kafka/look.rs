//! A look at the brokers, for `hydrant check --connect`: whether they can be reached, let us in, and have what we want.
//!
//! It joins no group, moves no offset of one, and writes nothing.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaRespErr;
use regex_bites::Regex;

use super::flood::flood;
use super::options::{MEMORY_BYTES_MIN, Options, Speaks};
use super::tokens::Tokens;
use super::words::{in_words, in_words_with, is_failure, saying};
use crate::nearest::nearest;

/// How long brokers may take to let us in.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);
/// How long it is tried at the least: a name may have several addresses, of which the first is not the right one.
const DECIDED_TIME: Duration = Duration::from_secs(2);
/// How long one answer may take then.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Topics that are named in one message.
const TOPICS_SHOWN_MAX: usize = 5;

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What is there, in a few words.
    pub notes: Vec<String>,
    /// What works and had better be otherwise; a hint may stand on a line of its own.
    pub warnings: Vec<String>,
    /// What stands in the way.
    pub wrong: Vec<String>,
}

impl Options {
    /// Asks the brokers, as a pipeline of this name whose chunks are open for `interval`. Blocks, for a minute at the most.
    pub fn look(&self, pipeline: &str, interval: Duration) -> Seen {
        let mut seen = Seen::default();
        if let Err(wrong) = self.look_into(pipeline, interval, &mut seen) {
            seen.wrong.push(wrong);
        }
        seen
    }

    /// Whether a topic of this name is subscribed to.
    pub fn is_subscribed(&self, name: &str) -> bool {
        self.subscription().iter().any(|one| match one.starts_with('^') {
            true => !name.starts_with("__") && is_match(one, name),
            false => one == name,
        })
    }

    fn look_into(&self, pipeline: &str, interval: Duration, seen: &mut Seen) -> Result<(), String> {
        let config = self.client_config(pipeline, Speaks::Classic, (MEMORY_BYTES_MIN, 1));
        let (consumer, all) = self.connect(&config)?;
        let partitions = self.topics(&consumer, &all, seen)?;
        if let Some((warning, hint)) = flood(partitions.len(), interval, self.merge) {
            seen.warnings.push(format!("{warning}\nhint: {hint}"));
        }
        self.look_at_group(pipeline, &consumer, seen);
        Ok(())
    }

    /// A client that was let in, and what it was told first.
    fn connect(&self, config: &ClientConfig) -> Result<(BaseConsumer<Looker>, Metadata), String> {
        let looker = Looker { tokens: self.tokens(), last: Arc::default() };
        let last = looker.last.clone();
        let consumer = BaseConsumer::from_config_and_context(config, looker).map_err(|error| told(in_words(&error)))?;
        let began = Instant::now();
        let mut decided = false;
        loop {
            // Tokens are fetched while it polls.
            decided |= match consumer.poll(Duration::from_millis(100)) {
                Some(Err(error)) => is_decided(&error),
                _ => false,
            };
            let error = match consumer.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) => return Ok((consumer, metadata)),
                Err(error) => error,
            };
            let time_max = if decided { DECIDED_TIME } else { CONNECT_TIME_MAX };
            if began.elapsed() >= time_max {
                let reason = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Err(told(in_words_with(&error, &reason)));
            }
        }
    }

    /// The partitions of all that is subscribed to.
    fn topics(
        &self,
        consumer: &BaseConsumer<Looker>,
        all: &Metadata,
        seen: &mut Seen,
    ) -> Result<Vec<(String, i32)>, String> {
        let sound = all.topics().iter().filter(|topic| topic.error().is_none());
        let names: BTreeSet<&str> = sound.map(|topic| topic.name()).collect();
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let (expressions, named): (Vec<_>, Vec<_>) =
            self.subscription().into_iter().partition(|topic| topic.starts_with('^'));
        if !expressions.is_empty() {
            // Those of the brokers themselves are subscribed to by name only.
            let others = names.iter().filter(|name| !name.starts_with("__"));
            let matched = others.filter(|name| expressions.iter().any(|one| is_match(one, name)));
            wanted.extend(matched.map(|name| (*name).to_owned()));
            if wanted.is_empty() {
                let shown = expressions.join("`, `");
                seen.warnings.push(format!("no topic matches `{shown}` yet\nhint: {}", those_there(&names)));
            }
        }
        for topic in named {
            match consumer.fetch_metadata(Some(&topic), ANSWER_TIME_MAX) {
                Ok(metadata) => match metadata.topics().first().and_then(|topic| topic.error()) {
                    None => drop(wanted.insert(topic)),
                    Some(error) => seen.wrong.push(self.about_topic(&topic, error, &names)),
                },
                Err(error) => seen.wrong.push(format!("topic {topic}: {}", told(in_words(&error)))),
            }
        }
        let of_topic = |topic: &String| {
            let metadata =
                consumer.fetch_metadata(Some(topic), ANSWER_TIME_MAX).map_err(|error| told(in_words(&error)))?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            Ok(partitions.map(|partition| (topic.clone(), partition.id())).collect::<Vec<_>>())
        };
        let partitions = wanted.iter().map(of_topic).collect::<Result<Vec<_>, String>>()?.concat();
        let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        seen.notes.push(format!("{} of {}", count(partitions.len(), "partition"), count(wanted.len(), "topic")));
        Ok(partitions)
    }

    fn about_topic(&self, topic: &str, error: RDKafkaRespErr, names: &BTreeSet<&str>) -> String {
        let error = KafkaError::MetadataFetch(error.into());
        let (words, hint) = in_words(&error);
        let near = nearest(topic, names.iter().copied());
        match (error.rdkafka_error_code(), near) {
            (Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic), Some(near)) => {
                format!("topic {topic}: {words}\nhint: did you mean `{near}`?")
            }
            _ => format!("topic {topic}: {}", told((words, hint))),
        }
    }

    /// Whether the group lets us be a member.
    fn look_at_group(&self, pipeline: &str, consumer: &BaseConsumer<Looker>, seen: &mut Seen) {
        let group = self.group_of(pipeline);
        let list = match consumer.fetch_group_list(Some(&group), ANSWER_TIME_MAX) {
            Ok(list) => list,
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature) => return,
            Err(error) => return seen.wrong.push(format!("group {group}: {}", told(in_words(&error)))),
        };
        // A group of the newer protocol is not told of here, nor one that has never been.
        let Some(found) = list.groups().iter().find(|found| found.name() == group) else { return };
        let members = found.members().len();
        match (found.protocol_type(), found.protocol()) {
            ("" | "consumer", "" | "cooperative-sticky") => {}
            ("" | "consumer", other) if members > 0 => seen.wrong.push(format!(
                "group {group}: its {members} members assign partitions by `{other}`\nhint: name another `group`, or stop \
                 those members: cooperative-sticky does not mix with others"
            )),
            ("" | "consumer", _) => {}
            (other, _) => {
                seen.wrong.push(format!("group {group}: it is one of `{other}`\nhint: name another `group`"));
            }
        }
        if members > 0 {
            seen.notes.push(format!("group {group} has {members} members"));
        }
    }
}

/// Hears what librdkafka says of itself: its errors are codes, and only its log says what happened.
struct Looker {
    tokens: Option<Tokens>,
    last: Arc<Mutex<String>>,
}

impl Looker {
    fn heard(&self, text: &str) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = text.to_owned();
    }
}

impl ClientContext for Looker {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if is_failure(level, facility) {
            self.heard(saying(message));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What was wrong with the last of them says more.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.heard(reason);
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let token = self.tokens.as_ref().ok_or("no token was to be had")?.token();
        if let Err(error) = &token {
            self.heard(&format!("no token: {error}"));
        }
        token
    }
}

impl ConsumerContext for Looker {}

/// Whether trying on is of no use.
fn is_decided(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, Authentication, SSL, SaslAuthenticationFailed, UnsupportedSASLMechanism};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        matches!(code, AllBrokersDown | Authentication | SSL | SaslAuthenticationFailed | UnsupportedSASLMechanism)
    })
}

fn told((words, hint): (String, Option<&'static str>)) -> String {
    match hint {
        Some(hint) => format!("{words}\nhint: {hint}"),
        None => words,
    }
}

fn is_match(expression: &str, name: &str) -> bool {
    Regex::new(expression).is_ok_and(|expression| expression.is_match(name))
}

fn those_there(names: &BTreeSet<&str>) -> String {
    let shown: Vec<String> = names.iter().take(TOPICS_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(TOPICS_SHOWN_MAX);
    match (shown.is_empty(), more) {
        (true, _) => "there are no topics that we may see".into(),
        (_, 0) => format!("the topics that we may see are {}", shown.join(", ")),
        (_, more) => format!("the topics that we may see are {} and {more} more", shown.join(", ")),
    }
}
