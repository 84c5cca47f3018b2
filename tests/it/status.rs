//! What the admin address shows: the page with its headers, and the view with what was delivered, blocked and rejected.
//! What a person sees of it is looked at in a browser, by `tests/page/run`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use hydrant::status::view::{PipelineView, State, View};

use crate::support::daemon::{Daemon, Home, bucket, http, pipeline, until};
use crate::support::s3::free_address;

const ROWS: &str = "parquet: { schema: { id: int64, name: string } }";
const PLAIN: &str = "lines: {}";
const SOON: &str = "200ms";

/// A GET with this header: the head of the answer in lower case, and its body.
fn get(address: SocketAddr, path: &str, header: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn view(daemon: &Daemon, query: &str) -> View {
    let (status, body) = http(daemon.admin(), &format!("GET /api/status{query}"), "", b"");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn of<'v>(view: &'v View, name: &str) -> &'v PipelineView {
    view.pipelines.iter().find(|pipeline| pipeline.name == name).unwrap()
}

#[test]
fn the_page_comes_whole_from_the_binary_and_only_its_own_script_may_run() {
    let home = Home::new();
    home.write("x.yaml", pipeline("http: { stream: x }", PLAIN, SOON, "url: ./x"));
    let daemon = home.start("x.yaml");
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let (head, body) = get(daemon.admin(), path, "");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for header in [
            format!("content-type: {kind}; charset=utf-8"),
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:;".into(),
            "x-content-type-options: nosniff".into(),
            "cache-control: no-cache".into(),
        ] {
            assert!(head.contains(&header), "{path}: {header} is not in\n{head}");
        }
        let elsewhere = body.replace("http://www.w3.org/2000/svg", "").matches("://").count();
        assert!(path == "/page.js" || elsewhere == 0, "{path} names another place");
        for unsafe_word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!body.contains(unsafe_word), "{path}: {unsafe_word} makes text code");
        }
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let (head, body) = get(daemon.admin(), path, &format!("If-None-Match: \"other\", {tag}\r\n"));
        assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
        let (head, _) = get(daemon.admin(), path, "If-None-Match: \"other\"\r\n");
        assert!(head.starts_with("http/1.1 200"), "{head}");
    }
    let (head, _) = get(daemon.admin(), "/api/status", "");
    assert!(head.contains("cache-control: no-store") && head.contains("x-content-type-options: nosniff"), "{head}");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_holds_what_was_delivered_blocked_and_rejected() {
    let (home, address) = (Home::new(), free_address().await);
    home.write("pipelines/stuck.yaml", pipeline("http: { stream: far }", PLAIN, SOON, &bucket(address, "lake/in/")));
    let jq = "transforms: [{ jq: \".\" }]\n";
    home.write("pipelines/well.yaml", pipeline("firehose: { stream: near }", ROWS, SOON, "url: ./near") + jq);
    home.write("in/a.log", "a1\na2\n");
    home.write("pipelines/files.yaml", pipeline("file: { path: \"in/*.log\" }", PLAIN, "1h", "url: ./out"));
    let daemon = home.start("pipelines");
    daemon.put_lines("far", &["a", "b", "c"]);
    daemon
        .put_batch("near", &["{\"id\":1,\"name\":\"one\"}", "{\"id\":\"<script>\"}", "{\"id\":2}", "{\"id\":\"two\"}"]);
    daemon.delivers("well", 4);
    let retries = "hydrant_put_retries_total{pipeline=\"stuck\"}";
    until("the bucket is tried again", || (daemon.metric(retries) >= 2.0).then_some(()));
    let seen = until("a few seconds are drawn", || {
        let seen = view(&daemon, "");
        let files_are_read = of(&seen, "files").counts.records_in == 2;
        let is_over = of(&seen, "well").lag_records == Some(0);
        (files_are_read && is_over && seen.pipelines.iter().all(|one| one.history.len() >= 2)).then_some(seen)
    });
    assert_eq!((seen.version.as_str(), seen.ills.len()), (env!("CARGO_PKG_VERSION"), 0));
    assert!(seen.memory.budget_bytes >= 64 << 20, "{:?}", seen.memory);

    let doors = seen.doors.as_ref().unwrap();
    assert_eq!((doors.address.as_str(), doors.credentials), (daemon.data().to_string().as_str(), false));

    let well = of(&seen, "well");
    assert_eq!(well.state, State::Running);
    assert_eq!((well.way.stream.as_deref(), &*well.way.transforms), (Some("near"), &["jq".to_owned()][..]));
    let counts = well.counts;
    assert_eq!((counts.records_in, counts.rejected, counts.dropped), (4, 2, 0));
    assert_eq!((counts.objects_out, counts.records_out), (2, 4), "rows and the lines of an error object");
    let rows: Vec<u64> = well.delivered.iter().map(|object| object.rows).collect();
    assert_eq!(rows, [2, 2]);
    assert!(well.delivered.iter().all(|object| object.object.contains("/near/") && object.bytes > 0), "{well:?}");
    let [rejected] = &well.rejected[..] else { panic!("{:?}", well.rejected) };
    assert_eq!((rejected.code.as_str(), rejected.records), ("DataFormatConversion.MalformedData", 2));
    assert_eq!(rejected.sample, "{\"id\":\"<script>\"}", "of one moment the first");
    assert_eq!((well.oldest_undelivered_ms, well.sink_trouble.is_some()), (None, false));

    let stuck = of(&seen, "stuck");
    let trouble = stuck.sink_trouble.as_ref().unwrap();
    assert!(
        trouble.message.starts_with("s3://lake/in/") && trouble.message.contains(": no connection: "),
        "{trouble:?}"
    );
    assert_eq!((trouble.waiting, trouble.hint.is_some()), (1, true));
    assert!(trouble.attempts >= 2 && trouble.next_at_ms.is_some_and(|at_ms| at_ms > trouble.since_ms), "{trouble:?}");
    assert_eq!((stuck.lag_records, stuck.lag_bytes), (Some(3), None));
    assert!(stuck.oldest_undelivered_ms.unwrap() <= trouble.since_ms, "{stuck:?}");
    assert!(stuck.outbox_bytes > 0 && stuck.delivered.is_empty(), "{stuck:?}");

    let files = of(&seen, "files");
    assert_eq!((files.lag_records, files.lag_bytes, files.shards_known), (None, Some(6), 1));
    let open = files.open.as_ref().unwrap();
    assert!(open.bytes_max == 8 << 20 && open.cut_at_ms > seen.now_ms + 3_000_000, "{open:?}");
    assert_eq!(files.oldest_undelivered_ms, Some(open.oldest_ms));

    let age = |pipeline| daemon.metric(&format!("hydrant_oldest_undelivered_seconds{{pipeline=\"{pipeline}\"}}"));
    assert!(age("stuck") > 0.0 && age("well") == 0.0);

    // What is not looked at closely is thinner.
    let thin = view(&daemon, "?only=&only=stuck");
    assert_eq!(of(&thin, "stuck").shards.len(), 1);
    assert!(of(&thin, "well").history.is_empty() && of(&thin, "well").rejected.is_empty());
    assert_eq!((of(&thin, "well").delivered.len(), of(&thin, "well").counts), (1, counts));

    // Trouble is forgotten when it is over; the tail of a stream moves while nobody can read on.
    daemon.put_lines("far", &["d"]);
    until("what was acknowledged counts", || (of(&view(&daemon, ""), "stuck").lag_records == Some(4)).then_some(()));
    daemon.stop();
}
