//! What is wrong with what was written under `kafka:`, as far as it can be known without asking a broker.

use std::{fs, io};

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaType;
use regex_bites::Regex;
use url::{Host, Url};

use super::options::{MEMORY_BYTES_MIN, Options, Protocol, Start};
use super::properties;
use super::security::{Files, Login, Msk, Oauth, Sasl, Tls, region_of};
use super::words::in_words;
use crate::secret::Secret;
use crate::sink::Text;

/// Something that is wrong, or had better be written otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Keys and indices below `source.kafka`.
    pub way: Vec<String>,
    /// It is the key itself that is wrong, not what stands there.
    pub of_key: bool,
    pub message: String,
    pub hint: Option<String>,
    /// It works nevertheless.
    pub is_warning: bool,
}

/// Longest name of a topic, and of what Kafka names by the same rule, in characters.
const NAME_CHARS_MAX: usize = 249;

impl Options {
    /// Everything that is wrong at `now`. Opens no socket; reads the files of `tls`, and the environment's region for MSK.
    pub fn check(&self, pipeline: &str, now: Timestamp) -> Vec<Flaw> {
        let mut flaws = Flaws::default();
        self.check_brokers(&mut flaws);
        self.check_topics(&mut flaws);
        self.check_names(&mut flaws);
        if let Start::At(time) = self.start
            && time > now
        {
            flaws.wrong(&["start"], format!("{time} is yet to come"), Some("write `latest`, or a time that is past"));
        }
        self.check_tls(&mut flaws);
        self.check_sasl(&mut flaws);
        self.check_client(&mut flaws);
        if flaws.0.iter().all(|flaw| flaw.is_warning) {
            self.check_together(pipeline, &mut flaws);
        }
        flaws.0
    }

    fn check_brokers(&self, flaws: &mut Flaws) {
        if self.bootstrap().is_empty() {
            flaws.wrong(&["brokers"], "none is named", Some("write `host:9092`"));
        }
        for (index, text) in self.brokers.iter().enumerate() {
            for broker in text.split(',').map(str::trim).filter(|broker| !broker.is_empty()) {
                if let Err((message, hint)) = check_broker(broker) {
                    flaws.wrong(&["brokers", &index.to_string()], format!("`{broker}`: {message}"), Some(hint));
                }
            }
        }
    }

    fn check_topics(&self, flaws: &mut Flaws) {
        if self.topics.is_empty() {
            flaws.wrong(&["topics"], "none is named", Some("write a name, or `^.*` for all there are"));
        }
        for ((index, topic), subscribed) in self.topics.iter().enumerate().zip(self.subscription()) {
            let checked = match topic.starts_with('^') {
                true => check_expression(topic, &subscribed),
                false => check_topic(topic),
            };
            if let Err((message, hint)) = checked {
                flaws.wrong(&["topics", &index.to_string()], message, hint);
            }
        }
    }

    fn check_names(&self, flaws: &mut Flaws) {
        if let Some(group) = &self.group {
            let fits = |c: char| !c.is_whitespace() && !c.is_control();
            if group.is_empty() || group.chars().count() > NAME_CHARS_MAX || !group.chars().all(fits) {
                let message = format!("`{}` is no name for a group", group.escape_debug());
                flaws.wrong(&["group"], message, Some("write 1 to 249 characters, none of them a space"));
            }
        }
        if let Some(instance) = &self.instance
            && !is_name(instance)
        {
            let message = format!("`{}` is no name for a member", instance.escape_debug());
            flaws.wrong(&["instance"], message, Some("write 1 to 249 of `a-z A-Z 0-9 _ . -`"));
        }
    }

    fn check_tls(&self, flaws: &mut Flaws) {
        let Some(Files { ca, certificate, key, key_password, .. }) = self.tls.as_ref().and_then(Tls::files) else {
            return;
        };
        for (name, path) in [("ca", ca), ("certificate", certificate)] {
            if let Some(path) = path
                && let Err(error) = fs::metadata(path)
            {
                let why = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    _ => error.to_string(),
                };
                flaws.wrong(
                    &["tls", name],
                    format!("`{path}`: {why}"),
                    Some("a path counts from where hydrant is started"),
                );
            }
        }
        if let Some(key) = key.as_ref().map(Secret::expose)
            && !key.trim_start().starts_with("-----BEGIN ")
        {
            let hint = "write `file:/path` for a file, `cred:name` or `env:NAME`; it begins with `-----BEGIN`";
            flaws.wrong_key(&["tls", "key"], "not a private key in PEM", Some(hint));
        }
        match (certificate, key, key_password) {
            (Some(_), None, _) => flaws.wrong(&["tls", "certificate"], "`key` is missing", None),
            (None, Some(_), _) => flaws.wrong_key(&["tls", "key"], "`certificate` is missing", None),
            (_, None, Some(_)) => flaws.wrong_key(&["tls", "key_password"], "`key` is missing", None),
            _ => {}
        }
    }

    fn check_sasl(&self, flaws: &mut Flaws) {
        let Some(sasl) = &self.sasl else { return };
        let word = sasl.word();
        match sasl {
            Sasl::Plain(login) | Sasl::ScramSha256(login) | Sasl::ScramSha512(login) => {
                let Login { username: Text(username), password } = login;
                if username.is_empty() {
                    flaws.wrong(&["sasl", word, "username"], "empty", None);
                }
                if username.contains('\0') || password.expose().contains('\0') {
                    flaws.wrong(&["sasl", word], "a name or password with a NUL in it", None);
                }
            }
            Sasl::Oauthbearer(oauth) => check_oauth(oauth, flaws),
            Sasl::AwsMskIam(msk) => check_msk(msk, flaws),
        }
        if self.is_encrypted() {
            return;
        }
        match sasl {
            Sasl::ScramSha256(_) | Sasl::ScramSha512(_) => {}
            Sasl::AwsMskIam(_) => flaws.wrong(&["tls"], "MSK takes IAM over TLS only", Some("remove `tls: false`")),
            Sasl::Plain(_) => {
                flaws.warn(&["tls"], "the password goes over the network in the clear", "write `tls: true`")
            }
            Sasl::Oauthbearer(_) => {
                flaws.warn(&["tls"], "the token goes over the network in the clear", "write `tls: true`");
            }
        }
    }

    fn check_client(&self, flaws: &mut Flaws) {
        for (name, Text(value)) in &self.client {
            if let Err((message, hint)) = properties::check(name) {
                flaws.wrong_key(&["client", name], message, hint.as_deref());
            } else if self.protocol == Protocol::Consumer && properties::CLASSIC_ONLY.contains(&name.as_str()) {
                let hint = "remove it: the broker's group.consumer.* decide, or write `protocol: classic`";
                flaws.wrong_key(&["client", name], "not with `protocol: consumer`", Some(hint));
            } else if let Err(error) = ClientConfig::new().set(name, value).create_native_config() {
                flaws.wrong(&["client", name], why(&error), None);
            }
        }
    }

    /// Lets librdkafka make clients of it, which opens no socket without brokers: it knows what does not fit together, and
    /// reads certificates.
    fn check_together(&self, pipeline: &str, flaws: &mut Flaws) {
        for speaks in self.speaks() {
            let Err(error) = try_client(self.client_config(pipeline, *speaks, (MEMORY_BYTES_MIN, 1))) else { continue };
            let files = self.tls.as_ref().and_then(Tls::files).cloned().unwrap_or_default();
            let (way, message, hint) = of_tls(&why(&error), &files);
            flaws.wrong_key(way, message, hint);
            return;
        }
    }
}

/// What has been found.
#[derive(Default)]
struct Flaws(Vec<Flaw>);

impl Flaws {
    fn push(&mut self, way: &[&str], message: impl Into<String>, hint: Option<&str>) -> &mut Flaw {
        let way = way.iter().map(|step| (*step).to_owned()).collect();
        let hint = hint.map(str::to_owned);
        self.0.push(Flaw { way, of_key: false, message: message.into(), hint, is_warning: false });
        self.0.last_mut().expect("it was just put there")
    }

    fn wrong(&mut self, way: &[&str], message: impl Into<String>, hint: Option<&str>) {
        self.push(way, message, hint);
    }

    fn wrong_key(&mut self, way: &[&str], message: impl Into<String>, hint: Option<&str>) {
        self.push(way, message, hint).of_key = true;
    }

    fn warn(&mut self, way: &[&str], message: &str, hint: &str) {
        self.push(way, message, Some(hint)).is_warning = true;
    }
}

/// What librdkafka says of a client that it does not make: where that stands, in words, and a hint. OpenSSL's own words are
/// of those who wrote it.
fn of_tls(said: &str, files: &Files) -> (&'static [&'static str], String, Option<&'static str>) {
    let is_of = |words: &str| said.contains(words);
    let none_in = |what: &str, path: &Option<String>| format!("no {what} in `{}`", path.as_deref().unwrap_or_default());
    const PEM: Option<&str> = Some("it is to be a file in PEM, with `-----BEGIN CERTIFICATE-----` in it");
    match () {
        () if is_of("ssl.ca") && files.ca.is_none() => {
            (&["tls"], "the system knows no authorities".into(), Some("name those of the broker: `tls: { ca: path }`"))
        }
        () if is_of("ssl.ca") => (&["tls", "ca"], none_in("certificates", &files.ca), PEM),
        () if is_of("ssl.cert") => (&["tls", "certificate"], none_in("certificate", &files.certificate), PEM),
        () if is_of("key values mismatch") || is_of("rivate key check failed") => (
            &["tls", "key"],
            "not the key of `certificate`".into(),
            Some("`certificate` and `key` are to be a pair: a private key, and a certificate of its public key"),
        ),
        () if is_of("ssl.key.pem") => {
            (&["tls", "key"], "the key cannot be read".into(), Some("is `key_password` right, and the key in PEM?"))
        }
        () => (&["client"], said.to_owned(), None),
    }
}

/// `host:port`, `host`, `[::1]:port`.
fn check_broker(broker: &str) -> Result<(), (&'static str, &'static str)> {
    if broker.contains("://") {
        return Err(("a broker has no scheme", "write `host:9092`; whether it is TLS is said by `tls`"));
    }
    let (host, port) = match broker.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, behind)) => (host, behind.strip_prefix(':').or(behind.is_empty().then_some("9092"))),
        None => match broker.split_once(':') {
            Some((_, rest)) if rest.contains(':') => {
                return Err(("an address of IPv6 stands in brackets", "write `[::1]:9092`"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (broker, Some("9092")),
        },
    };
    if !port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(("no port", "write `host:9092`"));
    }
    let clean = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    match !host.is_empty() && host.chars().all(clean) {
        true => Ok(()),
        false => Err(("no host", "write `host:9092`")),
    }
}

/// As Kafka has it: `[a-zA-Z0-9._-]{1,249}`, and no folder.
fn is_name(name: &str) -> bool {
    let clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    (1..=NAME_CHARS_MAX).contains(&name.len()) && clean && !matches!(name, "." | "..")
}

fn check_topic(topic: &str) -> Result<(), (String, Option<&'static str>)> {
    if is_name(topic) {
        return Ok(());
    }
    let hint = match () {
        () if topic.contains(',') => "write a list: `[one, other]`",
        () if topic.contains(['*', '+', '?', '[', '(', '|', '$']) => {
            "a regular expression begins with `^`, such as `^clicks-.*`"
        }
        () => "write 1 to 249 of `a-z A-Z 0-9 _ . -`",
    };
    Err((format!("`{}` is no name for a topic", topic.escape_debug()), Some(hint)))
}

fn check_expression(topic: &str, subscribed: &str) -> Result<(), (String, Option<&'static str>)> {
    let mut signs = topic.chars();
    while let Some(sign) = signs.next() {
        if sign == '\\'
            && let Some(letter) = signs.next().filter(char::is_ascii_alphanumeric)
        {
            let message = format!("`\\{letter}` does not mean the same to all brokers and clients");
            return Err((message, Some("write `[0-9]`, `[A-Za-z0-9_]` and the like")));
        }
    }
    // A comma stands between expressions there, and two are one.
    let listed = subscribed.replace(',', ",,");
    let of_client = ClientConfig::new().set("topic.blacklist", listed).create_native_config();
    let of_client = of_client.map_err(|error| {
        let why = why(&error);
        why.rsplit("\": ").next().unwrap_or_default().to_lowercase()
    });
    // By the newer protocol brokers match it, by RE2, of which this is the dialect.
    let of_broker = Regex::new(subscribed).map_err(|error| error.to_string());
    match of_client.map(drop).and(of_broker.map(drop)) {
        Ok(()) => Ok(()),
        Err(why) => Err((format!("`{topic}` is no regular expression: {why}"), None)),
    }
}

fn check_oauth(oauth: &Oauth, flaws: &mut Flaws) {
    let way = ["sasl", "oauthbearer", "url"];
    match Url::parse(&oauth.url) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            flaws.wrong(&way, "credentials do not belong in the url", Some("write `client_id` and `client_secret`"));
        }
        Ok(url) if url.scheme() == "https" && url.has_host() => {}
        Ok(url) if url.scheme() == "http" && url.has_host() => {
            if !is_loopback(&url) {
                flaws.warn(&way, "the client's secret goes over the network in the clear", "write `https://`");
            }
        }
        _ => {
            flaws.wrong(&way, "not where tokens are to be had", Some("write `https://login.example.com/oauth2/token`"))
        }
    }
}

fn check_msk(msk: &Msk, flaws: &mut Flaws) {
    if let Err(message) = region_of(msk, |name| std::env::var(name).ok()) {
        flaws.wrong(&["sasl", "aws_msk_iam", "region"], message, Some("write `region: eu-central-1`"));
    }
    if let Err((key, message)) = msk.keys().check() {
        flaws.wrong_key(&["sasl", "aws_msk_iam", key], message, None);
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A client that nobody hears of.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

fn try_client(mut config: ClientConfig) -> KafkaResult<()> {
    config.remove("bootstrap.servers").remove("group.id").remove("group.instance.id").remove("debug");
    let native = config.create_native_config()?;
    Client::new(&config, native, RDKafkaType::RD_KAFKA_CONSUMER, Silent).map(drop)
}

/// Only the reason: the property has its place.
fn why(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, why, _, _) | KafkaError::ClientCreation(why) => why.trim().to_owned(),
        other => in_words(other).0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Speaks;
    use super::*;

    fn options(yaml: &str) -> Options {
        serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
    }

    fn flaws(yaml: &str) -> Vec<String> {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let all = options(&format!("brokers: b1:9092\ntopics: orders\n{yaml}")).check("clicks", now);
        all.into_iter().map(|flaw| format!("{}: {}", flaw.way.join("."), flaw.message)).collect()
    }

    #[test]
    fn what_is_right_is_right_by_both_protocols() {
        for yaml in [
            "",
            "protocol: classic",
            "protocol: consumer",
            "tls: true",
            "sasl: { plain: { username: a, password: b } }",
            "sasl: { scram_sha_512: { username: a, password: b } }\ntls: false",
            "sasl: { oauthbearer: { url: https://x/token, client_id: a, client_secret: b } }",
            "sasl: { aws_msk_iam: { region: eu-central-1 } }",
            "instance: node-1\nstart: 2026-11-20T11:59:59Z\ngroup: \"a:b\"",
            "client: { fetch.max.bytes: 1048576, session.timeout.ms: 10000, max.partition.fetch.bytes: 5, debug: broker }",
        ] {
            assert_eq!(flaws(yaml), Vec::<String>::new(), "{yaml}");
        }
    }

    #[test]
    fn librdkafka_takes_what_the_options_come_to() {
        let options = options("brokers: [b1, \"b2:1, [::1]\"]\ntopics: [a, ^b-, \"^c$\"]\nclient: { client.id: me }");
        assert_eq!(options.subscription(), ["a", "^(b-)$", "^(c)$"]);
        let native = |speaks| options.client_config("clicks", speaks, (40_000_000, 4)).create_native_config().unwrap();
        for (speaks, strategy) in [(Speaks::Classic, "cooperative-sticky"), (Speaks::Consumer, "range,roundrobin")] {
            let native = native(speaks);
            for (name, value) in [
                ("bootstrap.servers", "b1:9092,b2:1,[::1]:9092"),
                ("group.id", "hydrant-clicks"),
                ("client.id", "me"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("isolation.level", "read_committed"),
                ("partition.assignment.strategy", strategy),
                ("queued.max.messages.kbytes", "4096"),
                ("fetch.max.bytes", "10000000"),
                ("fetch.message.max.bytes", "1048576"),
                ("security.protocol", "plaintext"),
            ] {
                assert_eq!(native.get(name).unwrap(), value, "{name}");
            }
        }
    }
}
