//! Errors of librdkafka and of brokers in words that say what to do.

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::error;

/// What an error means, short and without the library's own name for it, and what to do about it if that can be told.
pub fn in_words(error: &KafkaError) -> (String, Option<&'static str>) {
    match (error, error.rdkafka_error_code()) {
        (KafkaError::ClientConfig(_, why, name, _), _) => (format!("{name}: {}", said(why)), None),
        (KafkaError::ClientCreation(why) | KafkaError::Subscription(why), _) => with_hint(&said(why)),
        (KafkaError::Seek(why) | KafkaError::PauseResume(why) | KafkaError::AdminOpCreation(why), _) => {
            with_hint(&said(why))
        }
        (_, Some(code)) => {
            let (words, hint) = of_code(code);
            (words.map_or_else(|| lower(&code.to_string()), str::to_owned), hint)
        }
        (other, None) => with_hint(&said(&other.to_string())),
    }
}

/// The same for an error that comes with librdkafka's own text, as [`rdkafka::ClientContext::error`] gets it: the text
/// says more, and is kept. A mere name in its place, such as `orders/3`, is what the error is about.
pub fn in_words_with(error: &KafkaError, reason: &str) -> (String, Option<&'static str>) {
    let (words, hint) = in_words(error);
    // `Subscribed topic not available: orders: Broker: Unknown topic or partition`
    let about_topic = reason.strip_prefix("Subscribed topic not available: ").and_then(|about| about.split_once(": "));
    match said(about_topic.map_or(reason, |(topic, _)| topic)).as_str() {
        "" => (words, hint),
        name if !name.contains(' ') => (format!("{name}: {words}"), hint),
        reason => {
            let (reason, better) = with_hint(reason);
            (reason, better.or(hint))
        }
    }
}

/// Whether an error only says again, without any reason, what was told with one before: librdkafka tells what is wrong with
/// brokers and topics, and then lets each poll fail by it.
pub fn is_echo(error: &KafkaError, reason: &str) -> bool {
    use Code::{AllBrokersDown, Authentication, BrokerTransportFailure, Resolve, SSL};
    use Code::{TopicAuthorizationFailed, UnknownTopicOrPartition};
    let code = error.rdkafka_error_code();
    reason.is_empty()
        && matches!(
            code,
            Some(
                AllBrokersDown
                    | Authentication
                    | BrokerTransportFailure
                    | Resolve
                    | SSL
                    | TopicAuthorizationFailed
                    | UnknownTopicOrPartition
            )
        )
}

/// What librdkafka's text says, with what to do. It is `host:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: ..`.
fn with_hint(text: &str) -> (String, Option<&'static str>) {
    let has = |part: &str| text.to_ascii_lowercase().contains(part);
    let hint = SAID.iter().find(|(parts, _)| parts.iter().all(|part| has(part))).map(|(_, hint)| *hint);
    (text.to_owned(), hint)
}

const PLAIN_BROKER: &str = "does the broker speak TLS on this port? if not, write `tls: false`";
const TLS_BROKER: &str = "does the broker speak TLS on this port? then write `tls: true`";
const ANOTHER: &str = "is it a broker that listens on this port? if so, and it speaks TLS, write `tls: true`";
const WHICH_WAY: &str =
    "is the broker up? does it speak TLS on this port, or ask who we are? then write `tls: true` or `sasl: {..}`";
const NOT_REACHED: &str = "is the broker running, and host and port right? may a firewall be in between?";
const NO_NAME: &str = "is the name right? it must be known here, and brokers name themselves by `advertised.listeners`";
const WHO: &str = "are the name, the password and the mechanism under `sasl` those that the broker has for us?";

/// Parts of librdkafka's texts, all of which must be there, and what to do; the first that fits.
const SAID: &[(&[&str], &str)] = &[
    (&["failed to resolve"], NO_NAME),
    (&["connection refused"], NOT_REACHED),
    (&["connection setup timed out"], NOT_REACHED),
    (&["network is unreachable"], NOT_REACHED),
    (&["no route to host"], NOT_REACHED),
    (&["certificate verify failed"], "name the authority that signed the broker's certificate: `tls: { ca: path }`"),
    (
        &["broker certificate could not be verified"],
        "name the authority that signed the broker's certificate: `tls: { ca: path }`",
    ),
    (&["hostname mismatch"], "use a name that the broker's certificate is for, or `tls: { verify_hostname: false }`"),
    (&["ip address mismatch"], "use a name that the broker's certificate is for, or `tls: { verify_hostname: false }`"),
    (&["certificate required"], "the broker asks for a certificate: `tls: { certificate, key }`"),
    (&["wrong version number"], PLAIN_BROKER),
    (&["ssl://", "disconnected"], PLAIN_BROKER),
    (&["sasl_plaintext://", "disconnected"], TLS_BROKER),
    (&["disconnected: connection"], WHICH_WAY),
    // It was closed while we were still writing.
    (&["ssl://", "send failed"], PLAIN_BROKER),
    (&["send failed"], WHICH_WAY),
    (&["connecting to a plaintext listener"], PLAIN_BROKER),
    (&["ssl handshake failed"], PLAIN_BROKER),
    (&["connecting to a ssl listener"], TLS_BROKER),
    (&["unsupported sasl mechanism"], "brokers name in the message what they have: choose one of these under `sasl`"),
    (&["enabled mechanisms"], "brokers name in the message what they have: choose one of these under `sasl`"),
    (&["might require sasl"], "the broker may want to know who we are: write `sasl: {..}`"),
    (&["sasl", "authentication"], WHO),
    (&["authentication failed"], WHO),
    (&["token"], "are the id, the secret and the url of the identity provider right?"),
    (&["during apiversion", "disconnected"], TLS_BROKER),
    (&["apiversionrequest failed"], ANOTHER),
    (&["apiversion"], TLS_BROKER),
    (&["receive buffer"], "raise `client: { receive.message.max.bytes: .. }`"),
    (&["invalid response size"], ANOTHER),
    (&["message size"], "raise `client: { receive.message.max.bytes: .. }`"),
];

/// Errors that are a code, in our words, with what to do.
fn of_code(code: Code) -> (Option<&'static str>, Option<&'static str>) {
    use Code as C;
    let (words, hint) = match code {
        C::BrokerTransportFailure => ("no broker answers", Some(NOT_REACHED)),
        C::AllBrokersDown => ("none of the brokers can be reached", Some(NOT_REACHED)),
        C::Resolve => ("the broker's name is not known", Some(NO_NAME)),
        C::OperationTimedOut | C::RequestTimedOut => ("no answer in time", Some(NOT_REACHED)),
        C::SSL => ("TLS failed", Some(PLAIN_BROKER)),
        C::Authentication | C::SaslAuthenticationFailed => ("the broker does not believe who we are", Some(WHO)),
        C::UnsupportedSASLMechanism => {
            ("the broker has another mechanism of SASL", Some("choose one that it has under `sasl`"))
        }
        C::IllegalSASLState => ("the broker expects another kind of connection", Some(TLS_BROKER)),
        C::SecurityDisabled => ("the broker has no authentication", Some("remove `sasl`")),
        C::UnknownTopicOrPartition | C::UnknownTopic | C::UnknownPartition => {
            ("there is no such topic", Some("create it, or correct `topics`; hydrant creates none"))
        }
        C::InvalidTopic => ("no name for a topic", Some("correct `topics`")),
        C::TopicAuthorizationFailed => {
            ("we may not read the topic", Some("allow Read and Describe on it to the user that we are"))
        }
        C::GroupAuthorizationFailed => {
            ("we may not use the group", Some("allow Read on `group` to the user that we are"))
        }
        C::ClusterAuthorizationFailed => {
            ("we may not do that to the cluster", Some("allow it to the user that we are"))
        }
        C::InconsistentGroupProtocol => (
            "the group's members agree by another protocol or assignment",
            Some("name another `group`, or stop those members: cooperative-sticky does not mix with others"),
        ),
        C::InvalidGroupId => ("no name for a group", Some("correct `group`")),
        C::CoordinatorNotAvailable | C::NotCoordinator | C::CoordinatorLoadInProgress => {
            ("the group has no coordinator now", Some("is `__consumer_offsets` healthy? the brokers choose one soon"))
        }
        C::InvalidSessionTimeout => (
            "the broker does not take our session timeout",
            Some("set `client: { session.timeout.ms: .. }` between its group.min and group.max.session.timeout.ms"),
        ),
        C::UnsupportedVersion | C::UnsupportedFeature => (
            "the broker is too old for that",
            Some("write `protocol: classic`; Kafka 2.4 is the oldest that hydrant is made for"),
        ),
        C::FencedInstanceId => {
            ("another member of the group has our name", Some("give each node an `instance` of its own, or none"))
        }
        C::UnreleasedInstanceId => (
            "another member of the group has our name",
            Some(
                "give each node an `instance` of its own, or none; after a crash the broker forgets it with the session",
            ),
        ),
        C::GroupMaxSizeReached => {
            ("the group is full", Some("raise the broker's group.max.size, or start fewer nodes"))
        }
        C::UnknownMemberId | C::IllegalGeneration | C::StaleMemberEpoch | C::FencedMemberEpoch => {
            ("the group has gone on without us", None)
        }
        C::OffsetMetadataTooLarge => (
            "the broker does not take metadata of commits as large as ours",
            Some("raise the broker's offset.metadata.max.bytes to 4096, its default, or more"),
        ),
        C::OffsetOutOfRange => ("the records are gone, or not there yet", Some("see `on_lost`")),
        C::AutoOffsetReset => ("the records that come next are gone", Some("see `on_lost`")),
        C::MessageSizeTooLarge => (
            "a record is larger than what we take",
            Some("raise `client: { fetch.message.max.bytes: .. }` and `receive.message.max.bytes`"),
        ),
        C::NotLeaderForPartition | C::LeaderNotAvailable => ("the partition has no leader now", None),
        C::InvalidRequest => ("the broker does not take the request", None),
        C::Fatal => ("the client cannot go on", None),
        C::PollExceeded => ("we were too slow for the group", None),
        _ => return (None, None),
    };
    (Some(words), hint)
}

/// Whether a line of librdkafka's log says why brokers do not answer. Of a connection that is closed it says so calmly, also
/// where that is the answer to a client that speaks otherwise than the broker.
pub fn is_failure(level: RDKafkaLogLevel, facility: &str) -> bool {
    use RDKafkaLogLevel::{Alert, Critical, Emerg, Error};
    facility == "FAIL" || matches!(level, Emerg | Alert | Critical | Error)
}

/// What a line of librdkafka's log says: `[thrd:b1:9092/bootstrap]: b1:9092/bootstrap: Connect to ..`.
pub fn saying(line: &str) -> &str {
    line.split_once("]: ").map_or(line, |(_, said)| said)
}

/// What librdkafka said, on one line and short, without what it goes on with: how long it took, which of many attempts this
/// was, and its own advice.
fn said(text: &str) -> String {
    let words = error::said(text);
    let ends = [" (after ", ": probably due to broker version", ", verify that ssl.ca.location"];
    let end = ends.iter().filter_map(|end| words.find(end)).min().unwrap_or(words.len());
    words.get(..end).unwrap_or_default().trim().to_owned()
}

/// `NotEnoughReplicas (Broker: Not enough in-sync replicas)` in small letters, without its name and who says so.
fn lower(text: &str) -> String {
    let text = text.split_once(" (").and_then(|(_, words)| words.strip_suffix(')')).unwrap_or(text);
    let text = text.strip_prefix("Broker: ").or_else(|| text.strip_prefix("Local: ")).unwrap_or(text);
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn errors_of_librdkafka_come_in_words() {
        let of = |code: Code| in_words(&KafkaError::MessageConsumption(code)).0;
        assert_eq!(of(Code::TopicAuthorizationFailed), "we may not read the topic");
        assert_eq!(of(Code::NotEnoughReplicas), "not enough in-sync replicas", "one that nobody thought of");
        let (words, hint) = in_words_with(
            &KafkaError::Global(Code::Resolve),
            "b1:9092/bootstrap: Failed to resolve 'b1:9092': Name or service not known (after 3ms in state CONNECT)",
        );
        assert_eq!(words, "b1:9092/bootstrap: Failed to resolve 'b1:9092': Name or service not known");
        assert!(hint.unwrap().contains("advertised.listeners"));
        let wrong = ClientConfig::new().set("fetch.min.bytes", "0").create_native_config().err().unwrap();
        assert!(in_words(&wrong).0.starts_with("fetch.min.bytes: "), "{:?}", in_words(&wrong));
    }

    #[test]
    fn what_an_error_is_about_stands_before_it() {
        let error = KafkaError::MessageConsumption(Code::NotLeaderForPartition);
        assert_eq!(in_words_with(&error, "orders/3").0, "orders/3: the partition has no leader now");
        assert_eq!(in_words_with(&error, "").0, "the partition has no leader now");
        let error = KafkaError::MessageConsumption(Code::UnknownTopicOrPartition);
        let reason = "Subscribed topic not available: orders: Broker: Unknown topic or partition";
        assert_eq!(in_words_with(&error, reason), in_words_with(&error, "orders"));
        assert_eq!(in_words_with(&error, reason).0, "orders: there is no such topic");
    }
}
