//! What is written under `kafka:`, what is said when it is wrong, and what a look at the brokers finds.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hydrant::config::{Environment, Loader, PipelineSpec, SourceSpec, load_text};
use hydrant::source::kafka::{Options, Seen};
use hydrant::transform::wasm::Modules;
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaRespErr;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::daemon::{Home, pipeline, until};
use crate::support::lambda::{Answer, Call, Function};

const BROKER_CERTIFICATE: &str = include_str!("pem/broker.pem");
const BROKER_KEY: &str = include_str!("pem/broker.key");
/// The same key, encrypted with `hush7`.
const LOCKED_KEY: &str = include_str!("pem/locked.key");
const OTHER_KEY: &str = include_str!("pem/other.key");

fn written(kafka: &str) -> String {
    let kafka: String = kafka.lines().map(|line| format!("    {line}\n")).collect();
    format!("source:\n  kafka:\n{kafka}format: {{ lines: {{}} }}\nsink: {{ object_store: {{ url: ./lake }} }}\n")
}

fn variables() -> Environment {
    Environment::of([("SECRET", "hush1"), ("KEY", OTHER_KEY), ("VALUE", "hush2")])
}

fn load(kafka: &str) -> Result<PipelineSpec, String> {
    load_text("clicks", "x.yaml", &written(kafka), &variables()).map_err(|problems| problems.to_string())
}

fn wrong(kafka: &str) -> String {
    load(kafka).unwrap_err()
}

fn options(kafka: &str) -> Options {
    match load(kafka).unwrap_or_else(|wrong| panic!("{wrong}")).source {
        SourceSpec::Kafka(options) => *options,
        other => panic!("{other:?}"),
    }
}

/// What is said of one line below brokers and topics: without the excerpt.
fn said(line: &str) -> String {
    let said = wrong(&format!("brokers: b1:9092\ntopics: orders\n{line}"));
    let lines = said.lines().filter(|line| line.starts_with("x.yaml") || line.starts_with("  hint"));
    lines.map(|line| line.split_once(": ").unwrap().1).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_missing_is_told() {
    let expected = "\
x.yaml:2:3: missing key `brokers` in `source.kafka`
  2 |   kafka:
    |   ^^^^^

x.yaml:2:3: missing key `topics` in `source.kafka`
  2 |   kafka:
    |   ^^^^^

2 problems";
    assert_eq!(wrong("group: x"), expected);
    assert_eq!(said("topic: orders").lines().next().unwrap(), "unknown key `topic` in `source.kafka`");
}

#[test]
fn brokers_and_topics_that_cannot_be_are_told_where_they_stand() {
    let expected = "\
x.yaml:3:19: `source.kafka.brokers[1]`: `http://b2`: a broker has no scheme
  3 |     brokers: [b1, \"http://b2\", b3:x]
    |                   ^^^^^^^^^^^
  hint: write `host:9092`; whether it is TLS is said by `tls`

x.yaml:3:32: `source.kafka.brokers[2]`: `b3:x`: no port
  3 |     brokers: [b1, \"http://b2\", b3:x]
    |                                ^^^^
  hint: write `host:9092`

x.yaml:4:14: `source.kafka.topics[0]`: `clicks-*` is no name for a topic
  4 |     topics: [clicks-*, ok]
    |              ^^^^^^^^
  hint: a regular expression begins with `^`, such as `^clicks-.*`

3 problems";
    assert_eq!(wrong("brokers: [b1, \"http://b2\", b3:x]\ntopics: [clicks-*, ok]"), expected);
    assert_eq!(
        wrong("brokers: \"b1:9092, PLAINTEXT://b2:9092\"\ntopics: a,b"),
        "\
x.yaml:3:14: `source.kafka.brokers`: `PLAINTEXT://b2:9092`: a broker has no scheme
  3 |     brokers: \"b1:9092, PLAINTEXT://b2:9092\"
    |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  hint: write `host:9092`; whether it is TLS is said by `tls`

x.yaml:4:13: `source.kafka.topics`: `a,b` is no name for a topic
  4 |     topics: a,b
    |             ^^^
  hint: write a list: `[one, other]`

2 problems"
    );
    let expression = |topic: &str| wrong(&format!("brokers: b1\ntopics: '{topic}'"));
    // Why is said by the system's library.
    assert!(expression("^clicks-[").contains("`source.kafka.topics`: `^clicks-[` is no regular expression: "));
    let said = expression("^a\\d");
    assert!(said.contains("`\\d` does not mean the same to all brokers and clients"), "{said}");
    assert!(wrong("brokers: []\ntopics: []").contains("`source.kafka.topics`: none is named"));
}

#[test]
fn properties_that_are_ours_are_told_what_to_write() {
    for (line, expected) in [
        (
            "client: { fetch.max.byts: 1 }",
            "`source.kafka.client.fetch.max.byts`: unknown property\ndid you mean `fetch.max.bytes`?",
        ),
        (
            "client: { enable.auto.commit: true }",
            "`source.kafka.client.enable.auto.commit`: not to be set here\nremove it: hydrant commits what is delivered, and \
             nothing else",
        ),
        ("client: { group.id: x }", "`source.kafka.client.group.id`: not to be set here\nwrite `group`"),
        (
            "client: { ssl.truststore.location: x.jks }",
            "`source.kafka.client.ssl.truststore.location`: not to be set here\nwrite `tls: { ca: path }`, a file in PEM: \
             `keytool -exportcert -rfc` writes it",
        ),
        (
            "client: { max.poll.records: 500 }",
            "`source.kafka.client.max.poll.records`: not to be set here\nremove it: as much is taken as the memory holds, \
             see `queued.max.messages.kbytes`",
        ),
        (
            "client: { fetch.min.bytes: 0 }",
            "`source.kafka.client.fetch.min.bytes`: Configuration property \"fetch.min.bytes\" value 0 is outside allowed \
             range 1..100000000",
        ),
        (
            "protocol: consumer\nclient: { session.timeout.ms: 6000 }",
            "`source.kafka.client.session.timeout.ms`: not with `protocol: consumer`\nremove it: the broker's \
             group.consumer.* decide, or write `protocol: classic`",
        ),
        (
            "client: { fetch.max.bytes: 1000000, message.max.bytes: 2000000 }",
            "`source.kafka.client`: `fetch.max.bytes` must be >= `message.max.bytes`",
        ),
    ] {
        assert_eq!(said(line), expected, "{line}");
    }
}

#[test]
fn options_that_do_not_fit_are_told() {
    for (line, expected) in [
        ("start: 2999-01-01T00:00:00Z", "`source.kafka.start`: 2999-01-01T00:00:00Z is yet to come"),
        (
            "start: newest",
            "`source.kafka.start`: expected `earliest`, `latest` or a time such as `2026-11-20T12:00:00Z`, found `newest`",
        ),
        ("group: \"a b\"", "`source.kafka.group`: `a b` is no name for a group"),
        ("instance: a/b", "`source.kafka.instance`: `a/b` is no name for a member"),
        ("protocol: eager", "`source.kafka.protocol`: expected one of `auto`, `classic`, `consumer`, found `eager`"),
        (
            "tls: maybe",
            "`source.kafka.tls`: expected `true`, `false`, or a map of `ca`, `certificate`, `key`, `key_password`, \
             `verify_hostname`, found `maybe`",
        ),
        ("tls: { cas: x }", "unknown key `cas` in `source.kafka.tls`"),
        ("tls: { ca: nowhere.pem }", "`source.kafka.tls.ca`: `nowhere.pem`: there is no such file\na path counts from"),
        (
            "tls: { ca: Cargo.toml }",
            "`source.kafka.tls.ca`: no certificates in `Cargo.toml`\nit is to be a file in PEM",
        ),
        ("tls: { key: \"env:KEY\" }", "`source.kafka.tls.key`: `certificate` is missing"),
        ("tls: { certificate: Cargo.toml, key: \"env:VALUE\" }", "`source.kafka.tls.key`: not a private key in PEM"),
        ("sasl: { plain: { username: a } }", "missing key `password` in `source.kafka.sasl.plain`"),
        (
            "sasl: { sacram_sha_256: { username: a, password: \"env:SECRET\" } }",
            "`source.kafka.sasl`: expected exactly one of",
        ),
        (
            "sasl: { oauthbearer: { url: here, client_id: a, client_secret: \"env:SECRET\" } }",
            "`source.kafka.sasl.oauthbearer.url`: not where tokens are to be had",
        ),
        (
            "sasl: { aws_msk_iam: { region: r, access_key_id: a } }",
            "`source.kafka.sasl.aws_msk_iam.access_key_id`: `secret_access_key` is missing",
        ),
        ("tls: false\nsasl: { aws_msk_iam: { region: r } }", "`source.kafka.tls`: MSK takes IAM over TLS only"),
    ] {
        let said = said(line);
        assert!(said.starts_with(expected), "{line}: {said}");
    }
    let spool = written("brokers: b1\ntopics: a") + "spool: { size: 1 GiB }\n";
    let said = load_text("x", "x.yaml", &spool, &variables()).unwrap_err().to_string();
    assert!(said.contains("the source `kafka` has no spool"), "{said}");
}

#[test]
fn secrets_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    fs::write(&file, "hush3").unwrap();
    let said = wrong(&format!(
        "brokers: b1\ntopics: a\nclient: {{ fetch.min.bytes: \"file:{}\", fetch.max.bytes: \"${{VALUE}}\", \
         client.dns.lookup: \"env:SECRET\" }}\nsasl: {{ scram_sha_512: {{ username: env:SECRET, password: hush4 }} }}",
        file.display()
    ));
    for told in [
        "`source.kafka.client.fetch.min.bytes`: Invalid value",
        ": what is written here is not right; it is not shown, as it may be secret",
        "`source.kafka.client.client.dns.lookup`: Invalid value \"***\"",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let right = options("brokers: b1\ntopics: a\nsasl: { plain: { username: env:SECRET, password: env:VALUE } }");
    let shown = format!("{said}{right:?}");
    for secret in ["hush1", "hush2", "hush3", "hush4"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn a_password_in_the_clear_is_warned_of() {
    let home = Home::new();
    home.write(
        "clicks.yaml",
        written("brokers: b1\ntopics: a\ntls: false\nsasl: { plain: { username: a, password: hush } }"),
    );
    let ended = home.run("check clicks.yaml");
    assert_eq!(ended.code, 0, "{ended:?}");
    let expected = "clicks.yaml:5:10: warning: `source.kafka.tls`: the password goes over the network in the clear";
    assert!(ended.stderr.starts_with(expected), "{ended:?}");
    assert!(ended.stderr.contains("warning: a secret stands in the file itself"), "{ended:?}");
    assert!(!ended.stderr.contains("hush"), "{ended:?}");
    home.write(
        "clicks.yaml",
        written("brokers: b1\ntopics: a\nsasl: { plain: { username: a, password: \"file:/dev/null\" } }"),
    );
    assert!(home.run("check clicks.yaml").stderr.contains("the file `/dev/null` is empty"));
}

/// Options of a broker that wants to know us.
fn with_files(folder: &std::path::Path, ca: &str, key: &str) -> String {
    let path = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name).display().to_string()
    };
    let (ca, own, key) = (path("ca.pem", ca), path("own.pem", BROKER_CERTIFICATE), path("own.key", key));
    format!("brokers: b1\ntopics: a\ntls:\n  ca: {ca}\n  certificate: {own}\n  key: \"file:{key}\"")
}

#[test]
fn certificates_and_keys_are_read_before_a_broker_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let with =
        |ca: &str, key: &str, more: &str| load(&format!("{}\n  {more}", with_files(folder.path(), ca, key))).map(drop);
    with(BROKER_CERTIFICATE, BROKER_KEY, "verify_hostname: false").unwrap();
    with(BROKER_CERTIFICATE, LOCKED_KEY, "key_password: hush7").unwrap();
    let said = with("no certificate", BROKER_KEY, "").unwrap_err();
    assert!(said.starts_with("x.yaml:6:7: `source.kafka.tls.ca`: "), "{said}");
    let said = with(BROKER_CERTIFICATE, OTHER_KEY, "").unwrap_err();
    assert!(said.contains("`certificate` and `key` are to be a pair"), "{said}");
    let said = with(BROKER_CERTIFICATE, LOCKED_KEY, "key_password: hush8").unwrap_err();
    assert!(said.contains("is `key_password` right") && !said.contains("hush8"), "{said}");
}

#[test]
fn files_that_are_named_belong_to_the_revision() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clicks.yaml");
    fs::write(&path, written(&with_files(folder.path(), BROKER_CERTIFICATE, BROKER_KEY))).unwrap();
    let revision = Loader::new(variables(), Modules::default(), None).load("clicks", &path);
    assert!(revision.spec.is_ok(), "{}", revision.spec.unwrap_err());
    for name in ["ca.pem", "own.pem", "own.key"] {
        assert!(revision.inputs.files().any(|file| file.ends_with(name)), "{name}");
    }
    fs::write(folder.path().join("ca.pem"), format!("{BROKER_CERTIFICATE}\n")).unwrap();
    assert!(revision.inputs.have_changed());
}

fn mock() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    MockCluster::new(1).unwrap()
}

fn look(kafka: &str) -> Seen {
    options(kafka).look("clicks", Duration::from_secs(60))
}

fn one_wrong(kafka: &str) -> String {
    let Seen { wrong, .. } = look(kafka);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    wrong.into_iter().next().unwrap()
}

#[test]
fn a_look_finds_topics_and_counts_their_partitions() {
    let cluster = mock();
    cluster.create_topic("orders", 3, 1).unwrap();
    cluster.create_topic("clicks-eu", 100, 1).unwrap();
    cluster.create_topic("clicks-us", 1, 1).unwrap();
    cluster.create_topic("my-clicks-us", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let seen = look(&format!("brokers: \"{brokers}\"\ntopics: [orders, ^clicks-.*]"));
    let warning = "104 partitions x 60 cuts an hour are up to 6,240 objects an hour\nhint: `merge: true` makes them up to 60 for \
                   each node and topic, and a longer `buffer.interval` than 1m makes fewer too";
    assert_eq!(seen.wrong, Vec::<String>::new());
    assert_eq!(seen.warnings, [warning]);
    assert_eq!(seen.notes, ["104 partitions of 3 topics"]);
    let seen = look(&format!("brokers: \"{brokers}\"\ntopics: [^nothing]\nmerge: true"));
    assert!(seen.wrong.is_empty() && seen.warnings[0].starts_with("no topic matches `^(nothing)$` yet"), "{seen:?}");
}

#[test]
fn a_topic_that_is_not_there_is_told_the_nearest_and_not_made() {
    let cluster = mock();
    cluster.create_topic("orders", 3, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    cluster.topic_error("order", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let kafka = format!("brokers: \"{brokers}\"\ntopics: order");
    assert_eq!(one_wrong(&kafka), "topic order: there is no such topic\nhint: did you mean `orders`?");
    cluster.topic_error("order", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let expected =
        "topic order: we may not read the topic\nhint: allow Read and Describe on it to the user that we are";
    assert_eq!(one_wrong(&kafka), expected);
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn of_brokers(brokers: &str, topic: &str) -> String {
    pipeline(&format!("kafka: {{ brokers: \"{brokers}\", topics: {topic} }}"), "lines: {}", "60s", "url: ./lake")
}

#[test]
fn brokers_that_stay_away_are_said_once_and_not_at_each_attempt() {
    let home = Home::new();
    home.write("clicks.yaml", of_brokers(&nobody().to_string(), "orders"));
    let daemon = home.start("clicks.yaml");
    until("it has tried many times", || {
        (daemon.seen("clicks")["reading_trouble"]["attempts"].as_u64()? > 20).then_some(())
    });
    let log = daemon.log();
    assert_eq!(log.matches("Connection refused").count(), 1, "{log}");
    assert_eq!(log.matches("kafka: ").count(), 1, "{log}");
    daemon.stop();
}

#[test]
fn a_topic_that_is_not_there_is_said_by_a_pipeline_that_runs() {
    let (home, cluster) = (Home::new(), mock());
    cluster.topic_error("order", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    home.write("clicks.yaml", of_brokers(&cluster.bootstrap_servers(), "order"));
    let daemon = home.start("clicks.yaml");
    let line = daemon.hears("kafka: order: there is no such topic", |_| true);
    assert_eq!(line["hint"], "create it, or correct `topics`; hydrant creates none");
    daemon.stop();
}

#[test]
fn brokers_that_cannot_be_reached_are_told_with_what_to_do() {
    let address = nobody();
    let said = one_wrong(&format!("brokers: \"{address}\"\ntopics: a"));
    assert!(said.contains("Connection refused"), "{said}");
    assert!(
        said.ends_with("hint: is the broker running, and host and port right? may a firewall be in between?"),
        "{said}"
    );
}

#[test]
fn tls_where_the_broker_speaks_plainly_is_told() {
    let cluster = mock();
    let said = one_wrong(&format!("brokers: \"{}\"\ntopics: a\ntls: true", cluster.bootstrap_servers()));
    assert!(said.ends_with("hint: does the broker speak TLS on this port? if not, write `tls: false`"), "{said}");
}

/// A door of TLS with nothing behind it.
fn tls_door() -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificate = CertificateDer::from_pem_slice(BROKER_CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(BROKER_KEY.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let (Ok(mut socket), config) = (socket, config.clone()) else { return };
            thread::spawn(move || {
                // As Java does: what is no handshake is sent away, before all of its record has come.
                let mut first = [0];
                if socket.peek(&mut first).is_err() || first != [22] {
                    return;
                }
                let mut connection = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::Stream::new(&mut connection, &mut socket);
                // Whoever was let in hears nothing and is sent away.
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.flush();
            });
        }
    });
    address
}

#[test]
fn a_broker_that_speaks_tls_is_told_from_one_that_nobody_vouches_for() {
    let address = tls_door();
    let said = one_wrong(&format!("brokers: \"{address}\"\ntopics: a"));
    assert!(said.contains("\nhint: is the broker up? does it speak TLS on this port"), "{said}");
    let said = one_wrong(&format!("brokers: \"{address}\"\ntopics: a\ntls: true"));
    let hint = "hint: name the authority that signed the broker's certificate: `tls: { ca: path }`";
    assert!(said.ends_with(hint), "{said}");
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), BROKER_CERTIFICATE).unwrap();
    let said = one_wrong(&format!("brokers: \"{address}\"\ntopics: a\ntls: {{ ca: {} }}", ca.path().display()));
    assert!(!said.contains("certificate"), "it is let in: {said}");
}

#[test]
fn check_asks_the_brokers_if_told_to() {
    let cluster = mock();
    cluster.create_topic("orders", 3, 1).unwrap();
    let (home, brokers) = (Home::new(), cluster.bootstrap_servers());
    let of = |topic: &str| of_brokers(&brokers, topic);
    home.write("clicks.yaml", of("orders"));
    let ended = home.run("check --connect clicks.yaml");
    let expected = "clicks: kafka orders -> lines -> ./lake: the sink takes objects; 3 partitions of 1 topic\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (0, expected), "{ended:?}");
    cluster.topic_error("order", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    home.write("clicks.yaml", of("order"));
    let ended = home.run("check --connect clicks.yaml");
    assert_eq!(ended.code, 78, "{ended:?}");
    let expected = "clicks.yaml: kafka order: topic order: there is no such topic\nhint: did you mean `orders`?\n";
    assert_eq!(ended.stderr, expected, "{ended:?}");
    assert_eq!(home.run("check clicks.yaml").code, 0, "without a network all is well");
}

/// A provider's answer with a token that names its subject and says no more.
fn provided(call: &Call) -> Answer {
    let body = String::from_utf8(call.body.clone()).unwrap();
    let login = call.head.headers["authorization"].to_str().unwrap();
    match (body.as_str(), login) {
        // `me%40x:a%3Ab` in base64.
        ("grant_type=client_credentials&scope=kafka+read", "Basic bWUlNDB4OmElM0Fi") => Answer::Ok(
            // {"sub":"hydrant-1"} between a header and a signature.
            r#"{"access_token":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJoeWRyYW50LTEifQ.c2ln","token_type":"Bearer","expires_in":600}"#.into(),
        ),
        _ => Answer::Status(401, "", r#"{"error":"invalid_client","error_description":"no\nsuch client"}"#.into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_comes_from_the_provider_with_its_life() {
    let provider = Function::start(provided).await;
    let with = |secret: &str| {
        let url = format!("http://{}/token", provider.address);
        let oauth = format!("url: \"{url}\", client_id: me@x, client_secret: \"{secret}\", scope: kafka read");
        options(&format!("brokers: b1\ntopics: a\nsasl: {{ oauthbearer: {{ {oauth} }} }}")).tokens().unwrap()
    };
    let before_ms = jiff::Timestamp::now().as_millisecond();
    // As from the thread that polls, which belongs to a runtime.
    let token = with("a:b").token().unwrap();
    let lives_ms = token.lifetime_ms - before_ms;
    assert_eq!((token.principal_name.as_str(), &token.token[..10]), ("hydrant-1", "eyJhbGciOi"));
    assert!((600_000..660_000).contains(&lives_ms), "{lives_ms}");
    let error = with("hush9").token().err().unwrap().to_string();
    assert_eq!(error, format!("http://{}/token answers 401: invalid_client: no such client", provider.address));
}

#[test]
fn a_token_of_aws_is_made_here() {
    let msk = "aws_msk_iam: { region: eu-central-1, access_key_id: AKID, secret_access_key: \"env:SECRET\" }";
    let tokens = options(&format!("brokers: b1\ntopics: a\nsasl: {{ {msk} }}")).tokens().unwrap();
    let token = tokens.token().unwrap();
    assert!(token.token.starts_with("aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFsLTEuYW1hem9uYXdzLmNvbS8"), "{}", token.token);
    assert!(token.lifetime_ms > jiff::Timestamp::now().as_millisecond());
}

#[test]
fn explain_tells_the_group_the_topics_the_start_and_an_hour() {
    let home = Home::new();
    let tells = |arguments: &str, lines: &[&str]| {
        let told = home.run(arguments).stdout;
        lines.iter().for_each(|line| assert!(told.contains(line), "not there: {line}\n{told}"));
    };
    home.write("clicks.yaml", written("brokers: [b1, \"b2:9093\"]\ntopics: [orders, ^clicks-.*]\nstart: latest"));
    let lines = [
        "\nReads\n  brokers   b1:9092, b2:9093\n  topics    orders, ^clicks-.*\n",
        "\n  group     hydrant-clicks, after the pipeline's name; all nodes of it share the partitions, and it remembers",
        "\n  start     what comes from now on, where the group knows nothing of a partition; else where it has come to\n",
        "\n  an hour   up to 60 objects of each partition for each prefix",
    ];
    tells("explain clicks.yaml", &lines);
    home.write("clicks.yaml", written("brokers: b1\ntopics: a\ngroup: mine\nstart: 2026-01-01T00:00:00Z\nmerge: true"));
    home.write("records", "a\nb\n");
    let lines = [
        "\n  group     mine; all nodes",
        "\n  start     the first record of 2026-01-01T00:00:00Z or later,",
        "\n  an hour   up to 60 objects of each node and topic for each prefix",
        "\n  - they come from one node\n",
    ];
    tells("explain clicks.yaml --sample records --rate 10/s", &lines);
}
