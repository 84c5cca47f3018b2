//! Plain HTTP: what it takes, and how it refuses the rest.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_takes_lines_and_json_compressed_or_not() {
    let house = House::open().await;
    let zstd = zstd::stream::encode_all(&b"f\r\ng"[..], 3).unwrap();
    type Post<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, usize);
    let posts: [Post; 8] = [
        (&[("content-type", "application/x-ndjson")], b"{\"a\":1}\n\n[broken\r\n".into(), 2),
        (&[("content-type", "application/json; charset=utf-8")], b"[{\"b\" : 1.0},\n2, \"x\"]".into(), 3),
        (&[("content-type", "application/json")], b"{\"c\":\n1}".into(), 1),
        (&[("content-type", "application/x-www-form-urlencoded")], b"{\"d\":1}{\"e\":2}".into(), 2),
        (&[("content-encoding", "zstd")], zstd, 2),
        (&[("content-encoding", "gzip"), ("content-type", "application/json")], gzip(b"[\"h\"]"), 1),
        (&[("content-type", "application/json")], b"[]".into(), 0),
        (&[], b"".into(), 0),
    ];
    for (headers, body, count) in posts {
        assert_eq!(house.post(headers, body).await, (200, json!({ "records": count })), "{headers:?}");
    }
    let expected: [&[u8]; 11] = [
        b"{\"a\":1}",
        b"[broken",
        b"{\"b\" : 1.0}",
        b"2",
        b"\"x\"",
        b"{\"c\":\n1}",
        b"{\"d\":1}",
        b"{\"e\":2}",
        b"f",
        b"g",
        b"\"h\"",
    ];
    assert_eq!(house.payloads("clicks", 11).await, expected);
    house.lives_with(11).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_refuses_with_a_reason_and_the_daemon_lives() {
    let house = House::open().await;
    let json_type = ("content-type", "application/json");
    let refused = |body: Vec<u8>| house.post_fails(std::slice::from_ref(&json_type), body);
    assert_eq!(
        refused(b"[{\"a\":1},\n{\"b\" 2}]".into()).await,
        "400 invalid JSON: expected `:` at line 2 column 6 (byte 15)"
    );
    assert_eq!(
        refused("[".repeat(100_000).into()).await,
        "400 invalid JSON: nesting deeper than 128 at line 1 column 130 (byte 129)"
    );
    assert_eq!(
        refused("{\"a\":".repeat(100_000).into()).await,
        "400 invalid JSON: nesting deeper than 128 at line 1 column 641 (byte 640)"
    );
    assert_eq!(refused(b"[\"\xff\"]".into()).await, "400 invalid JSON: not UTF-8 at byte 2");
    assert_eq!(refused(vec![b' '; 16 * MIB + 1]).await, "413 body exceeds 16777216 bytes");
    let gzipped = [("content-encoding", "gzip")];
    let bomb = gzip(&vec![0; MIB]).repeat(1024);
    assert_eq!(house.post_fails(&gzipped, bomb).await, "413 decompressed body exceeds 67108864 bytes");
    assert_eq!(
        house.post_fails(&gzipped, gzip(&vec![0; 4 * MIB])).await,
        "413 body grows more than 200-fold when decompressed"
    );
    assert!(house.post_fails(&gzipped, "not gzip").await.starts_with("400 body is not valid gzip: "));
    assert_eq!(house.post_fails(&[("content-encoding", "br")], "x").await, "415 content encoding br is not supported");
    assert_eq!(
        house.post_fails(&[("content-type", "image/png")], "x").await,
        "415 content type image/png is not supported"
    );
    let (status, answer) = house.post_to("/streams/nope/records", &[], "x").await;
    let hint = "a stream is made by a pipeline whose source names it";
    assert_eq!((status, answer), (404, json!({"error": "stream nope not found", "hint": hint})));
    let (status, answer) = house.post_to("/nowhere", &[], "x").await;
    assert_eq!((status, &answer["error"]), (404, &json!("path /nowhere not found")));
    let get = house.client.get(format!("http://{}/streams/clicks/records", house.address));
    assert_eq!(answer_of(get).await.0, 405);
    let (status, answer) = house.post(&[("x-large", &"x".repeat(16 * 1024))], "x").await;
    assert_eq!((status, answer), (431, json!({"error": "headers exceed 16384 bytes"})));
    house.lives_with(0).await;
    house.stop().await;
}
