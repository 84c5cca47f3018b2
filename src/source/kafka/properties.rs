//! Properties of librdkafka's consumer by their names: which may be set, and what to write in place of others.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Map;

use crate::nearest::nearest;
use crate::sink::Text;

/// Properties that may be set: of those for consumers and for both in CONFIGURATION.md of librdkafka 2.12.1 all that do
/// not touch what hydrant promises, and that are more than nothing.
const ALLOWED: &[&str] = &[
    "broker.address.family",
    "broker.address.ttl",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "coordinator.query.interval.ms",
    "debug",
    "enable.metrics.push",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "log.connection.close",
    "log.thread.name",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "metadata.recovery.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.max.fails",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "topic.blacklist",
    "topic.metadata.propagation.max.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "topic.metadata.refresh.sparse",
];

/// Those that a client that speaks the `consumer` protocol does not take: its broker decides.
pub const CLASSIC_ONLY: &[&str] = &["session.timeout.ms", "heartbeat.interval.ms"];

/// Properties that are hydrant's: by name, or by its beginning or end (with `*`); with what to do about it.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write `brokers`"),
    ("metadata.broker.list", "write `brokers`"),
    ("group.id", "write `group`"),
    ("group.instance.id", "write `instance`"),
    ("group.protocol", "write `protocol`"),
    ("group.protocol.type", "remove it: groups of consumers have one type"),
    ("partition.assignment.strategy", "remove it: partitions are assigned cooperatively"),
    ("isolation.level", "write `isolation`"),
    ("auto.offset.reset", "write `start` for where to begin, and `on_lost` for records that are gone"),
    ("enable.auto.commit", "remove it: hydrant commits what is delivered, and nothing else"),
    ("auto.commit.*", "remove it: hydrant commits what is delivered, and nothing else"),
    ("enable.auto.offset.store", "remove it: hydrant commits what is delivered, and nothing else"),
    ("offset.store.*", "remove it: offsets are kept by the group"),
    ("enable.partition.eof", "remove it: hydrant has to know the ends of partitions"),
    ("consume.callback.max.messages", "remove it: hydrant has no use for it"),
    ("allow.auto.create.topics", "remove it: hydrant creates no topics"),
    ("statistics.interval.ms", "remove it: the metrics of lag live on statistics"),
    ("security.protocol", "write `tls: true` or `sasl: {..}`, or both"),
    (
        "sasl.mechanism*",
        "write `sasl` with the mechanism's name: `sasl: { scram_sha_512: { username: .., password: .. } }`",
    ),
    (
        "sasl.username",
        "write `sasl: { plain: { username: .., password: .. } }`, or another mechanism in place of `plain`",
    ),
    (
        "sasl.password",
        "write `sasl: { plain: { username: .., password: .. } }`, or another mechanism in place of `plain`",
    ),
    (
        "sasl.jaas.config",
        "write `sasl: { plain: { username: .., password: .. } }`, or another mechanism in place of `plain`",
    ),
    ("sasl.kerberos.*", "use another mechanism: hydrant is built without Kerberos"),
    ("sasl.oauthbearer.*", "write `sasl: { oauthbearer: { url: .., client_id: .., client_secret: .. } }`"),
    (
        "enable.sasl.oauthbearer.unsecure.jwt",
        "write `sasl: { oauthbearer: { url: .., client_id: .., client_secret: .. } }`",
    ),
    ("sasl.client.callback.handler.class", "for MSK write `sasl: { aws_msk_iam: { region: .. } }`"),
    ("sasl.login.*", "write `sasl: { oauthbearer: { url: .., client_id: .., client_secret: .. } }`"),
    ("ssl.ca.*", "write `tls: { ca: path }`, a file in PEM"),
    ("ssl.truststore.*", "write `tls: { ca: path }`, a file in PEM: `keytool -exportcert -rfc` writes it"),
    ("ssl.certificate.*", "write `tls: { certificate: path, key: \"file:/path\" }`, in PEM"),
    ("ssl.keystore.*", "write `tls: { certificate: path, key: \"file:/path\" }`, in PEM: `openssl pkcs12` writes them"),
    ("ssl.key.password", "write `tls: { key_password: \"env:NAME\" }`"),
    ("ssl.key.*", "write `tls: { certificate: path, key: \"file:/path\" }`, in PEM"),
    ("ssl.endpoint.identification.algorithm", "write `tls: { verify_hostname: false }`"),
    ("enable.ssl.certificate.verification", "name the authority that is to be trusted: `tls: { ca: path }`"),
    ("ssl.engine.*", "remove it: hydrant loads no foreign code"),
    ("ssl.providers", "remove it: hydrant loads no foreign code"),
    ("ssl.protocol", "remove it: the best that both sides have is taken"),
    ("ssl.enabled.protocols", "remove it: the best that both sides have is taken"),
    ("https.*", "remove it: tokens are fetched with the certificates of the system"),
    ("plugin.library.paths", "remove it: hydrant loads no foreign code"),
    ("interceptor*", "remove it: hydrant loads no foreign code"),
    ("log_level", "set hydrant's own level: `hydrant run --log-level`"),
    ("log.queue", "remove it: hydrant has its own log"),
    ("enabled_events", "remove it: hydrant decides what it hears of"),
    ("enable.random.seed", "remove it: there is no reason to"),
    ("internal.termination.signal", "remove it: hydrant ends by itself"),
    ("builtin.features", "remove it: hydrant knows what it was built with"),
    ("api.version.*", "remove it: brokers tell what they speak since 0.10"),
    ("broker.version.fallback", "remove it: brokers tell what they speak since 0.10"),
    ("client.software.*", "remove it: it is `hydrant` and its version"),
    ("*_cb", "remove it: it is no text"),
    ("opaque", "remove it: it is no text"),
    ("default_topic_conf", "remove it: it is no text"),
    ("ssl_*", "remove it: it is no text"),
    // What Java's client calls otherwise.
    ("max.poll.records", "remove it: as much is taken as the memory holds, see `queued.max.messages.kbytes`"),
    ("key.deserializer*", "remove it: records are bytes"),
    ("value.deserializer*", "remove it: records are bytes"),
    ("fetch.max.wait.ms", "write `fetch.wait.max.ms`"),
    ("send.buffer.bytes", "write `socket.send.buffer.bytes`"),
    ("receive.buffer.bytes", "write `socket.receive.buffer.bytes`"),
    ("socket.connection.setup.timeout.max.ms", "write `socket.connection.setup.timeout.ms`"),
    ("default.api.timeout.ms", "write `socket.timeout.ms`"),
    ("request.timeout.ms", "write `socket.timeout.ms`"),
    ("exclude.internal.topics", "remove it: topics are taken by the names that you give"),
    ("metric*", "remove it: hydrant's metrics are at `/metrics`"),
    ("security.providers", "remove it: it is of Java only"),
    ("auto.include.jmx.reporter", "remove it: hydrant's metrics are at `/metrics`"),
    ("socket.blocking.max.ms", "remove it: it does nothing any more"),
    ("reconnect.backoff.jitter.ms", "remove it: it does nothing any more"),
    ("topic.metadata.refresh.fast.cnt", "remove it: it does nothing any more"),
    // What is for those who write.
    ("acks", FOR_PRODUCERS),
    ("batch.num.messages", FOR_PRODUCERS),
    ("batch.size", FOR_PRODUCERS),
    ("buffer.memory", FOR_PRODUCERS),
    ("compression.*", FOR_PRODUCERS),
    ("delivery.*", FOR_PRODUCERS),
    ("enable.gapless.guarantee", FOR_PRODUCERS),
    ("enable.idempotence", FOR_PRODUCERS),
    ("linger.ms", FOR_PRODUCERS),
    ("key.serializer*", FOR_PRODUCERS),
    ("value.serializer*", FOR_PRODUCERS),
    ("max.request.size", FOR_PRODUCERS),
    ("message.send.max.retries", FOR_PRODUCERS),
    ("message.timeout.ms", FOR_PRODUCERS),
    ("msg_order_cmp", FOR_PRODUCERS),
    ("partitioner*", FOR_PRODUCERS),
    ("produce.offset.report", FOR_PRODUCERS),
    ("queue.buffering.*", FOR_PRODUCERS),
    ("queuing.strategy", FOR_PRODUCERS),
    ("request.required.acks", FOR_PRODUCERS),
    ("retries", FOR_PRODUCERS),
    ("sticky.partitioning.linger.ms", FOR_PRODUCERS),
    ("transaction*", FOR_PRODUCERS),
];

const FOR_PRODUCERS: &str = "remove it: it is for producers, and hydrant reads";

/// The name under which librdkafka keeps a property: an alias and its name are one.
pub fn canonical(name: &str) -> &str {
    match name {
        "max.partition.fetch.bytes" => "fetch.message.max.bytes",
        "max.in.flight" => "max.in.flight.requests.per.connection",
        name => name,
    }
}

/// Whether a property may be set; else why not, and what to do.
pub fn check(name: &str) -> Result<(), (&'static str, Option<String>)> {
    if ALLOWED.contains(&name) {
        return Ok(());
    }
    if let Some((_, instead)) = REFUSED.iter().find(|(pattern, _)| fits(name, pattern)) {
        return Err(("not to be set here", Some((*instead).to_owned())));
    }
    let hint = match nearest(name, ALLOWED.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "the names are those of librdkafka's consumer, such as `fetch.max.bytes`".to_owned(),
    };
    Err(("unknown property", Some(hint)))
}

/// Whether a name is one of those that a pattern means, with `*` at its begin or end.
fn fits(name: &str, pattern: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(begin), _) => name.starts_with(begin),
        (_, Some(end)) => name.ends_with(end),
        (None, None) => pattern == name,
    }
}

/// The schema of `client`: the names that may be set, for editors.
pub fn names_known(generator: &mut SchemaGenerator) -> Schema {
    let text = generator.subschema_for::<Text>();
    let known: Map<_, _> = ALLOWED.iter().map(|name| ((*name).to_owned(), text.clone().to_value())).collect();
    json_schema!({ "type": "object", "properties": known, "additionalProperties": false, "x-type": "settings" })
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    #[test]
    fn every_property_that_may_be_set_is_one_of_librdkafkas() {
        let native = ClientConfig::new().create_native_config().unwrap();
        let set = |name: &str, value: &str| ClientConfig::new().set(name, value).create_native_config().map(drop);
        for name in ALLOWED {
            // Of some there is no default.
            let default = native.get(name).unwrap_or_else(|_| "x".to_owned());
            let value = if *name == "debug" { "broker" } else { &default };
            assert!(set(name, value).is_ok(), "{name}: {}", set(name, value).unwrap_err());
        }
        assert!(set("fetch.max.byte", "x").is_err(), "the others are not");
    }

    #[test]
    fn an_alias_is_its_property() {
        let native = |name: &str| ClientConfig::new().set(name, "4242").create_native_config().unwrap();
        for alias in ALLOWED.iter().filter(|name| canonical(name) != **name) {
            assert_eq!(native(alias).get(canonical(alias)).unwrap(), "4242", "{alias}");
        }
    }

    #[test]
    fn names_are_allowed_or_refused_and_never_both() {
        for name in ALLOWED {
            assert_eq!(check(name), Ok(()), "{name}");
            let refused = REFUSED.iter().find(|(pattern, _)| fits(name, pattern));
            assert_eq!(refused, None, "{name}");
        }
        let hint = |name: &str| check(name).unwrap_err().1.unwrap();
        assert_eq!(check("fetch.max.byte").unwrap_err().0, "unknown property");
        assert_eq!(hint("fetch.max.byte"), "did you mean `fetch.max.bytes`?");
        assert_eq!(hint("enable.auto.commit"), "remove it: hydrant commits what is delivered, and nothing else");
        assert_eq!(hint("ssl.ca.location"), "write `tls: { ca: path }`, a file in PEM");
        assert_eq!(hint("rebalance_cb"), "remove it: it is no text");
        assert_eq!(hint("linger.ms"), FOR_PRODUCERS);
        assert_eq!(hint("sasl.login.class"), hint("enable.sasl.oauthbearer.unsecure.jwt"));
        assert_eq!(hint("colour"), "the names are those of librdkafka's consumer, such as `fetch.max.bytes`");
    }
    #[test]
    fn what_hints_say_to_write_can_be_written() {
        let mut tried = 0;
        for (pattern, hint) in REFUSED {
            let written = hint.split('`').skip(1).step_by(2);
            for yaml in written.filter(|text| text.starts_with("sasl: {") || text.starts_with("tls: ")) {
                let yaml = format!(
                    "brokers: b1\ntopics: a\n{}",
                    yaml.replace("..", "x").replace("{x}", "{ plain: { username: x, password: x } }")
                );
                let read = serde_saphyr::from_str::<crate::source::kafka::Options>(&yaml);
                assert!(read.is_ok(), "{pattern}: {yaml}: {}", read.unwrap_err());
                tried += 1;
            }
        }
        assert!(tried > 10, "{tried}");
    }
}
