//! Functions written for Firehose: how they are called, what becomes of records, and what waits.

use std::sync::Arc;
use std::time::SystemTime;

use futures::FutureExt;
use hydrant::error::{Blame, Fault};
use hydrant::inputs::Reads;
use hydrant::receive::keys::Key;
use hydrant::receive::sigv4::Claim;
use hydrant::record::{Batch, BatchBuilder};
use hydrant::transform::wasm::Modules;
use hydrant::transform::{Making, Transform, Transformed, lambda};
use serde_json::{Value, json};

use crate::support::lambda::{Answer, Call, Function, ok};
use crate::support::s3::free_address;

/// A transform of these options, beside `function` and `endpoint`.
fn transform(function: &Function, more: &str) -> Arc<dyn Transform> {
    transform_at(&format!("http://{}", function.address), &format!("skip_signature: true\n{more}"))
}

fn transform_at(endpoint: &str, more: &str) -> Arc<dyn Transform> {
    let yaml = format!("function: shout\nendpoint: \"{endpoint}\"\nregion: eu-central-1\n{more}");
    let options: lambda::Options = serde_saphyr::from_str(&yaml).unwrap();
    let (modules, folder) = (Modules::default(), ".".as_ref());
    options.make(&Making { pipeline: "clicks", folder, modules: &modules, reads: &Reads::new() }).unwrap()
}

fn batch(payloads: &[&str]) -> Batch {
    let mut batch = BatchBuilder::default();
    payloads.iter().for_each(|payload| batch.push(payload.as_bytes(), 1_795_217_400_000));
    batch.finish()
}

fn payloads(transformed: &Transformed) -> Vec<String> {
    transformed.batch.payloads().map(|payload| String::from_utf8(payload.to_vec()).unwrap()).collect()
}

/// (payload, code, attempts) of what was set aside.
fn aside(transformed: &Transformed) -> Vec<(String, &str, u32)> {
    let shown = |one: &hydrant::transform::Rejected| {
        let payload = String::from_utf8(one.payload.to_vec()).unwrap();
        (payload, one.reason.code, one.invoked.as_ref().unwrap().attempts)
    };
    transformed.rejected.iter().map(shown).collect()
}

/// The line that is said while a function is waited for.
fn said(fault: Result<Transformed, Fault>) -> String {
    let fault = fault.expect_err("it is waited for");
    assert_eq!(fault.blame, Blame::Transform);
    assert!(fault.time_may_mend() && !fault.ends_process());
    fault.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_signed_and_goes_where_the_api_is() {
    let function = Function::start(Call::shout).await;
    let yaml = format!(
        "function: arn:aws:lambda:eu-central-1:123456789012:function:shout:$LATEST\nendpoint: \"http://{}/base/\"\n\
         access_key_id: AKID\nsecret_access_key: hush\nsession_token: token",
        function.address
    );
    let options: lambda::Options = serde_saphyr::from_str(&yaml).unwrap();
    let making =
        Making { pipeline: "clicks", folder: ".".as_ref(), modules: &Modules::default(), reads: &Reads::new() };
    let transformed = options.make(&making).unwrap().apply(batch(&["a", "b"])).await.unwrap();
    assert_eq!(payloads(&transformed), ["A", "B"]);

    let call = function.calls().remove(0);
    let arn = "arn:aws:lambda:eu-central-1:123456789012:function:shout";
    assert_eq!(call.head.uri.to_string(), format!("/base/2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST"));
    assert_eq!(
        (call.head.method.as_str(), &call.head.headers["x-amz-invocation-type"]),
        ("POST", &"RequestResponse".parse().unwrap())
    );
    assert_eq!(call.head.headers["x-amz-security-token"], "token");
    let event = call.event();
    assert_eq!(event["deliveryStreamArn"], "arn:aws:firehose:eu-central-1:123456789012:deliverystream/clicks");
    assert_eq!(
        (&event["region"], &event["records"][0]["approximateArrivalTimestamp"]),
        (&"eu-central-1".into(), &1_795_217_400_000_i64.into())
    );

    // Proven by the verifying side of our own door, which has AWS's published vectors.
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let claim = Claim::parse(&call.head, "lambda", now_ms).unwrap();
    let key = |secret: &str| Key { id: "AKID".into(), secret: secret.into(), streams: None };
    assert_eq!(claim.key_id, "AKID");
    claim.verify(&call.head, &key("hush"), &call.body).unwrap();
    claim.verify(&call.head, &key("other"), &call.body).unwrap_err();
    claim.verify(&call.head, &key("hush"), b"{}").unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_is_five_calls_at_a_time_and_keeps_its_order() {
    let function = Function::start_at("127.0.0.1:0".parse().unwrap(), 5, Call::shout).await;
    let transform = transform(&function, "buffer: { size: 200 KB }");
    let texts: Vec<String> = (0..20).map(|n| format!("{n} {}", "x".repeat(99_990))).collect();
    let transformed = transform.apply(batch(&texts.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert_eq!(payloads(&transformed), texts.iter().map(|text| text.to_uppercase()).collect::<Vec<_>>());
    assert_eq!(function.under_way_most(), 5);
    let mut sizes: Vec<usize> = function.calls().iter().map(|call| call.records().len()).collect();
    sizes.sort();
    assert_eq!(sizes, [2; 10]);
    let gather = transform.gather().unwrap();
    assert_eq!((gather.size_bytes, gather.size_bytes_most), (200_000, 1_000_000), "and as much is gathered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_fails_is_called_again_and_then_its_records_are_set_aside() {
    let error = || json!({ "errorType": "KeyError", "errorMessage": "'id'" }).to_string();
    let function = Function::start(move |call: &Call| match call.records()[0].1.as_str() {
        "bad" => Answer::FunctionError(error()),
        "bad emulated" => Answer::Ok(error()),
        "late" if call.number == 0 => Answer::FunctionError(error()),
        // As emulators have it.
        "late" if call.number == 1 => Answer::Ok(error()),
        _ => call.shout(),
    })
    .await;
    let late = transform(&function, "").apply(batch(&["late", "too"])).await.unwrap();
    assert_eq!(payloads(&late), ["LATE", "TOO"]);
    let calls = function.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.records() == calls[0].records()), "the same records and ids each time");
    let ids: std::collections::BTreeSet<_> =
        calls.iter().map(|call| call.event()["invocationId"].to_string()).collect();
    assert_eq!(ids.len(), 3, "each call is one of its own");

    let failed = transform(&function, "").apply(batch(&["bad", "too"])).await.unwrap();
    let code = "Lambda.FunctionError";
    assert_eq!(aside(&failed), [("bad".into(), code, 4), ("too".into(), code, 4)]);
    let message = "The Lambda function was successfully invoked but it returned an error result.";
    assert_eq!(failed.rejected[0].reason.message, message);
    let arn = "arn:aws:lambda:eu-central-1:000000000000:function:shout";
    assert_eq!(&*failed.rejected[0].invoked.as_ref().unwrap().function, arn);
    assert_eq!(function.calls().len(), 3 + 4);

    let emulated = transform(&function, "retries: 0").apply(batch(&["bad emulated"])).await.unwrap();
    assert_eq!(aside(&emulated), [("bad emulated".into(), code, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_does_not_answer_in_time_sets_its_records_aside() {
    let function = Function::start(|_: &Call| Answer::Never).await;
    let transformed = transform(&function, "timeout: 100ms\nretries: 1").apply(batch(&["a"])).await.unwrap();
    assert_eq!(aside(&transformed), [("a".into(), "Lambda.FunctionRequestTimedOut", 2)]);
}

/// A network that swallows what is sent to it: a queue of connections that is full, so that the system answers none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_down_is_no_slow_function() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queue = Vec::new();
    for _ in 0..4 {
        // Those that the queue has no room for go on trying.
        queue.push(tokio::spawn(tokio::net::TcpStream::connect(address)));
    }
    while queue.iter().filter(|connection| connection.is_finished()).count() < 2 {
        tokio::task::yield_now().await;
    }
    let transform = transform_at(&format!("http://{address}"), "skip_signature: true\nretries: 0\ntimeout: 4s");
    let text = said(transform.apply(batch(&["a"])).await);
    assert!(text.starts_with(&format!("lambda shout at http://{address}: no connection: ")), "{text}");
    queue.iter().for_each(|connection| connection.abort());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_takes_two_calls_at_a_time_gets_them_all() {
    let function = Function::start(|call: &Call| match call.number {
        // Two of five, two of the three that are left, the last one.
        0 | 1 | 5 | 6 | 8 => call.shout(),
        _ => Answer::Status(429, "x-amzn-ErrorType: TooManyRequestsException\r\n", "{}".into()),
    })
    .await;
    let transform = transform(&function, "buffer: { size: 200 KB }\nretries: 0");
    let texts: Vec<String> = (0..5).map(|n| format!("{n} {}", "x".repeat(150_000))).collect();
    let transformed = transform.apply(batch(&texts.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert_eq!(payloads(&transformed), texts.iter().map(|text| text.to_uppercase()).collect::<Vec<_>>());
    assert_eq!(function.calls().len(), 9, "what was answered is not asked for again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_together_goes_in_halves() {
    let error = json!({ "errorType": "Function.ResponseSizeTooLarge", "errorMessage": "too much" }).to_string();
    let texts = ["a", "b", "c", "d", "e"];
    let large = move |at: usize, call: &Call| match at {
        0 => Answer::Endless(6_291_557),
        1 => Answer::FunctionError(error.clone()),
        2 => Answer::Ok(error.clone()),
        _ if call.number == 0 => Answer::Status(413, "", "too large".into()),
        _ => Answer::Status(400, "x-amzn-ErrorType: RequestTooLargeException\r\n", "{}".into()),
    };
    for at in 0..4 {
        let large = large.clone();
        let function = Function::start(move |call: &Call| match call.records().len() {
            0..=2 => call.shout(),
            _ => large(at, call),
        })
        .await;
        let transformed = transform(&function, "invocations_max: 1").apply(batch(&texts)).await.unwrap();
        assert_eq!(payloads(&transformed), ["A", "B", "C", "D", "E"]);
        let sizes: Vec<usize> = function.calls().iter().map(|call| call.records().len()).collect();
        assert_eq!(sizes, [5, 2, 3, 1, 2], "not one is repeated as it was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_too_large_for_a_door_in_front_is_found() {
    let function = Function::start(|call: &Call| match call.records().iter().any(|(_, text)| text == "d") {
        true => Answer::Status(413, "", "too large".into()),
        false => call.shout(),
    })
    .await;
    let transformed = transform(&function, "").apply(batch(&["a", "b", "c", "d", "e"])).await.unwrap();
    assert_eq!(payloads(&transformed), ["A", "B", "C", "E"]);
    assert_eq!(aside(&transformed), [("d".into(), "Lambda.RequestTooLarge", 4)], "with five, three, two, and alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_shards_are_with_a_function_at_a_time() {
    let function = Function::start(|call: &Call| match call.records()[0].1.as_str() {
        "held" => Answer::Never,
        _ => call.shout(),
    })
    .await;
    let (of_shards, other) = (transform(&function, ""), transform(&function, ""));
    let mut held = futures::future::join_all((0..12).map(|_| of_shards.apply(batch(&["held"]))));
    while function.calls().len() < 4 {
        assert!((&mut held).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    // By the time that another transform has its answer, a fifth call would have come.
    assert_eq!(payloads(&other.apply(batch(&["a"])).await.unwrap()), ["A"]);
    assert!((&mut held).now_or_never().is_none());
    assert_eq!(payloads(&other.apply(batch(&["a"])).await.unwrap()), ["A"]);
    assert_eq!(function.calls().iter().filter(|call| call.records()[0].1 == "held").count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_more_than_6_mb_is_not_read() {
    const MAX: usize = 6_291_556;
    for (bytes, announced, good) in
        [(MAX, true, true), (MAX, false, false), (MAX + 1, true, false), (MAX + 1, false, false)]
    {
        let function = Function::start(move |call: &Call| match call.shout() {
            Answer::Ok(text) if announced => Answer::Ok(format!("{text}{}", " ".repeat(bytes - text.len()))),
            _ => Answer::Endless(bytes),
        })
        .await;
        let transformed = transform(&function, "retries: 1").apply(batch(&["a"])).await.unwrap();
        match (good, announced) {
            (true, _) => assert_eq!(payloads(&transformed), ["A"]),
            (false, false) if bytes == MAX => {
                assert_eq!(aside(&transformed), [("a".into(), "Lambda.JsonProcessingException", 1)], "read, and blank");
            }
            _ => assert_eq!(aside(&transformed), [("a".into(), "Lambda.FunctionError", 2)]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_not_asked_for_again() {
    for nonsense in ["null", "{\"records\":[", "{\"body\":\"{}\"}", "\"{\\\"records\\\":[]}\""] {
        let function = Function::start(move |_: &Call| Answer::Ok(nonsense.into())).await;
        let transformed = transform(&function, "").apply(batch(&["a", "b"])).await.unwrap();
        let code = "Lambda.JsonProcessingException";
        assert_eq!(aside(&transformed), [("a".into(), code, 1), ("b".into(), code, 1)], "{nonsense}");
        assert_eq!(function.calls().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_call_and_a_broken_one_are_repeated() {
    let function = Function::start(|call: &Call| match call.number {
        0 => Answer::Status(429, "x-amzn-ErrorType: TooManyRequestsException\r\n", "{}".into()),
        1 => Answer::Nothing,
        2 => match call.shout() {
            Answer::Ok(text) => Answer::Half(text),
            other => other,
        },
        _ => call.shout(),
    })
    .await;
    let transformed = transform(&function, "").apply(batch(&["a"])).await.unwrap();
    assert_eq!((payloads(&transformed), function.calls().len()), (vec!["A".to_owned()], 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_cannot_be_had_is_waited_for() {
    let nowhere = free_address().await;
    let yaml = "skip_signature: true\nretries: 1";
    let text = said(transform_at(&format!("http://{nowhere}"), yaml).apply(batch(&["a"])).await);
    assert_eq!(
        text,
        format!(
            "lambda shout at http://{nowhere}: no connection: Connection refused (os error 111), 2 of 2 calls\n\
             hint: is the endpoint right, and reachable from here?"
        )
    );
    for (status, headers, body, calls, expected) in [
        (
            404,
            "x-amzn-ErrorType: ResourceNotFoundException:http://x/\r\n",
            "{\"Message\":\"no shout\"}",
            1,
            "HTTP 404: ResourceNotFoundException: no shout, 1 of 2 calls\nhint: is there",
        ),
        (403, "", "{\"message\":\"not you\"}", 1, "HTTP 403: not you, 1 of 2 calls\nhint: do the credentials allow"),
        (429, "", "{\"Reason\":\"ConcurrentInvocationLimitExceeded\"}", 2, "HTTP 429, 2 of 2 calls"),
        (503, "", "busy", 2, "HTTP 503: busy, 2 of 2 calls"),
        (400, "", "", 2, "HTTP 400, 2 of 2 calls"),
        (302, "Location: http://127.0.0.1:9/\r\n", "", 2, "HTTP 302, 2 of 2 calls"),
    ] {
        let function = Function::start(move |_: &Call| Answer::Status(status, headers, body.into())).await;
        let text = said(transform(&function, "retries: 1").apply(batch(&["a"])).await);
        let whole = format!("lambda shout at http://{}: {expected}", function.address);
        assert!(text.starts_with(&whole), "{text}");
        assert_eq!(function.calls().len(), calls);
    }
    for broken in [|_: &Call| Answer::Nothing, |_: &Call| Answer::Half("x".repeat(100))] {
        let function = Function::start(broken).await;
        let text = said(transform(&function, "retries: 0").apply(batch(&["a"])).await);
        assert!(text.contains(": the connection broke: "), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firehoses_way_is_to_give_up() {
    for (status, code, attempts) in [
        (403, "Lambda.InvokeAccessDenied", 1),
        (404, "Lambda.ResourceNotFound", 1),
        (429, "Lambda.InvokeLimitExceeded", 3),
        (500, "Lambda.InternalServerError", 3),
    ] {
        let function = Function::start(move |_: &Call| Answer::Status(status, "", String::new())).await;
        let rejecting = transform(&function, "on_unreachable: reject\nretries: 2");
        let transformed = rejecting.apply(batch(&["a"])).await.unwrap();
        assert_eq!(aside(&transformed), [("a".into(), code, attempts)]);
    }
    let nowhere = format!("http://{}", free_address().await);
    let rejecting = transform_at(&nowhere, "skip_signature: true\non_unreachable: reject\nretries: 0");
    let transformed = rejecting.apply(batch(&["a"])).await.unwrap();
    assert_eq!(aside(&transformed), [("a".into(), "Lambda.TargetServerFailedToRespond", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_for_a_request_is_set_aside_alone() {
    let function = Function::start(Call::shout).await;
    let large = "x".repeat((6 << 20) / 4 * 3);
    let transformed = transform(&function, "").apply(batch(&["a", &large, "b"])).await.unwrap();
    assert_eq!(payloads(&transformed), ["A", "B"]);
    assert_eq!(aside(&transformed), [(large, "Lambda.RequestTooLarge", 0)]);
    assert_eq!(function.calls().len(), 2, "it was not sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_given_up_is_made_again_with_the_same_records() {
    let function = Function::start(|call: &Call| if call.number == 0 { Answer::Never } else { call.shout() }).await;
    let transform = transform(&function, "");
    {
        let mut given_up = std::pin::pin!(transform.apply(batch(&["a", "b"])));
        while function.calls().is_empty() {
            assert!(given_up.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    let transformed = transform.apply(batch(&["a", "b"])).await.unwrap();
    assert_eq!(payloads(&transformed), ["A", "B"]);
}

/// An entry for a record `{"do":..}`, as a function of the story's answers it.
fn obey(payload: &str) -> Value {
    let record: Value = serde_json::from_str(payload).unwrap();
    let keys = json!({ "partitionKeys": { "country": record["country"] } });
    match record["do"].as_str().unwrap() {
        "drop" => json!({ "result": "Dropped" }),
        "fail" => json!({ "result": "ProcessingFailed" }),
        _ => {
            let mut entry = ok(&payload.to_uppercase());
            entry["metadata"] = keys;
            entry
        }
    }
}

mod whole_ways {
    use std::fs;

    use super::*;
    use crate::support::daemon::{Home, files};

    fn pipeline(source: &str, function: &str, interval: &str) -> String {
        format!(
            "source: {{ {source} }}\n\
             transforms: [{{ lambda: {{ function: obey, endpoint: \"http://{function}\", skip_signature: true, \
             retries: 0, buffer: {{ interval: {interval} }} }} }}]\n\
             format: {{ lines: {{}} }}\n\
             buffer: {{ size: 8 MiB, interval: 1h }}\n\
             sink: {{ object_store: {{ url: ./out, prefix: \"country=!{{partitionKeyFromLambda:country}}/\" }} }}\n\
             errors: {{ prefix: \"errors/!{{firehose:error-output-type}}/\" }}\n"
        )
    }

    /// Paths and contents below a folder.
    fn objects(home: &Home, folder: &str) -> Vec<(String, String)> {
        let root = home.path(folder);
        let of = |path: &std::path::PathBuf| path.parent().unwrap().strip_prefix(&root).unwrap().display().to_string();
        let objects = files(&root).into_iter().map(|path| (of(&path), fs::read_to_string(&path).unwrap()));
        objects.collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_function_of_firehose_moves_over_unchanged() {
        let function = Function::start(|call: &Call| call.answer(obey)).await;
        let home = Home::new();
        // The interval is longer than the story may be: an end of the source does not wait for it.
        home.write("x.yaml", pipeline("file: { path: in.ndjson }", &function.address.to_string(), "15m"));
        let records = [
            "{\"do\":\"go\",\"country\":\"de\",\"n\":1}",
            "{\"do\":\"drop\"}",
            "{\"do\":\"go\",\"country\":\"at\",\"n\":2}",
            "{\"do\":\"fail\",\"n\":3}",
            "{\"do\":\"go\",\"country\":\"de\",\"n\":4}",
        ];
        home.write("in.ndjson", records.join("\n"));
        let ended = home.run("run --once x.yaml");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(function.calls().len(), 1, "gathered for one call");
        let mut found = objects(&home, "out");
        let (_, aside) =
            found.remove(found.iter().position(|(folder, _)| folder == "errors/processing-failed").unwrap());
        let upper = |n: usize| format!("{}\n", records[n].to_uppercase());
        let expected = vec![("country=at".to_owned(), upper(2)), ("country=de".to_owned(), upper(0) + &upper(4))];
        assert_eq!(found, expected);
        let line: Value = serde_json::from_str(&aside).unwrap();
        assert_eq!(line["rawData"], base64_simd::STANDARD.encode_to_string(records[3]));
        assert_eq!((&line["errorCode"], &line["attemptsMade"]), (&"Lambda.ProcessingFailedStatus".into(), &1.into()));
        assert!(line["lambdaARN"].as_str().unwrap().ends_with(":function:obey"), "{aside}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_function_that_is_down_is_waited_for_and_what_was_good_goes_out() {
        let (home, address) = (Home::new(), free_address().await);
        home.write("x.yaml", pipeline("http: { stream: clicks }", &address.to_string(), "0s"));
        let daemon = home.start("x.yaml");
        let record = |n: u32| format!("{{\"do\":\"go\",\"country\":\"de\",\"n\":{n}}}");
        daemon.put_lines("clicks", &[record(1)]);
        let line = daemon.hears("a transform cannot work: trying again", |_| true);
        assert!(
            line["error"].as_str().unwrap().starts_with(&format!("lambda obey at http://{address}: no connection")),
            "{line}"
        );
        assert_eq!(daemon.metric("hydrant_transforms_failing{pipeline=\"x\"}"), 1.0);
        assert_eq!(daemon.healthz().0, 200);

        // It comes up, and goes down again before the chunk's interval is over.
        let up = Function::start_at(address, 1, |call: &Call| call.answer(obey)).await;
        daemon.hears("transforms let records through again", |_| true);
        assert_eq!(daemon.metric("hydrant_transforms_failing{pipeline=\"x\"}"), 0.0);
        drop(up);
        daemon.put_lines("clicks", &[record(2)]);
        daemon.delivers("x", 1);
        daemon.stop();
        assert_eq!(objects(&home, "out"), [("country=de".to_owned(), record(1).to_uppercase() + "\n")]);

        let _up = Function::start_at(address, 1, |call: &Call| call.answer(obey)).await;
        home.write("x.yaml", pipeline("http: { stream: clicks }", &address.to_string(), "0s").replace("1h", "100ms"));
        let daemon = home.start("x.yaml");
        daemon.delivers("x", 1);
        daemon.stop();
        let all: String = objects(&home, "out").into_iter().map(|(_, text)| text).collect();
        assert_eq!(all, [1, 2].map(|n| record(n).to_uppercase() + "\n").concat(), "each record once");
    }
}
