//! The Firehose API: its limits and words, retries, rights, and a spool that is full.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_batch_are_stored_in_order_and_told_apart() {
    let house = House::open().await;
    let (status, answer) = house.call("PutRecordBatch", batch([b"one".as_slice(), b"", b"\xff\x00"])).await;
    assert_eq!(status, 200);
    assert_eq!((&answer["FailedPutCount"], &answer["Encrypted"]), (&json!(0), &json!(false)));
    let ids: Vec<&str> = answer["RequestResponses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["RecordId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    let (status, answer) = house.call("PutRecord", one("four")).await;
    assert_eq!(status, 200);
    assert!(answer["RecordId"].as_str().unwrap() > ids[2] && answer["Encrypted"] == json!(false));
    assert_eq!(house.payloads("clicks", 4).await, [b"one".as_slice(), b"", b"\xff\x00", b"four"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sdk_retry_is_stored_once_and_gets_the_same_record_ids() {
    let house = House::open().await;
    let put = |invocation: &'static str, body: String| {
        let request = house.client.post(format!("http://{}/", house.address));
        let request = request.header("x-amz-target", "Firehose_20150804.PutRecordBatch");
        answer_of(request.header("amz-sdk-invocation-id", invocation).body(body))
    };
    let first = put("call-1", batch(["a", "b"])).await;
    assert_eq!(put("call-1", batch(["a", "b"])).await, first);
    let other_body = put("call-1", batch(["c"])).await;
    let other_call = put("call-2", batch(["a", "b"])).await;
    assert!(other_body != first && other_call != first);
    assert_eq!(house.payloads("clicks", 5).await, [b"a", b"b", b"c", b"a", b"b"]);
    for _ in 0..2 {
        assert_eq!(house.post(&[("idempotency-key", "k")], "d").await, (200, json!({"records": 1})));
    }
    house.lives_with(6).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn firehose_limits_are_answered_in_aws_words_and_nothing_is_stored() {
    let house = House::open().await;
    let body = batch(vec!["x"; 501]);
    assert_eq!(
        house.call_fails("PutRecordBatch", body).await,
        "400 ValidationException: 1 validation error detected: Value '[…]' at 'records' failed to satisfy constraint: \
         Member must have length less than or equal to 500"
    );
    assert_eq!(
        house.call_fails("PutRecordBatch", batch([vec![b'x'; 1_024_001]])).await,
        "400 ValidationException: 1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 \
         cap=1024001]' at 'records.1.member.data' failed to satisfy constraint: Member must have length less than or \
         equal to 1024000"
    );
    let over = batch([
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; MIB - 60_000],
        vec![b'x'; 240_001],
    ]);
    assert_eq!(
        house.call_fails("PutRecordBatch", over).await,
        "400 InvalidArgumentException: Records size exceeds 4 MB limit"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("clicks", "nope")).await,
        "400 ResourceNotFoundException: Firehose nope under account 000000000000 not found."
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("clicks", "a b")).await,
        "400 ValidationException: 1 validation error detected: Value 'a b' at 'deliveryStreamName' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x").replace("eA==", "eA=")).await,
        "400 SerializationException: record.data is not valid base64"
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x")[..40].to_owned()).await,
        "400 SerializationException: invalid JSON: the text ends too early at byte 40"
    );
    assert_eq!(
        house.call_fails("PutRecord", "[".repeat(100_000)).await,
        "400 SerializationException: invalid JSON: expected `{` at byte 0"
    );
    assert_eq!(
        house.call_fails("PutRecord", b"{\"\xff\"".to_vec()).await,
        "400 SerializationException: the body is not UTF-8"
    );
    assert_eq!(
        house.call_fails("CreateDeliveryStream", "{}").await,
        "400 UnknownOperationException: hydrant does not know this operation"
    );
    assert_eq!(
        house.call_fails("PutRecordBatch", vec![b' '; 16 * MIB + 1]).await,
        "413 RequestEntityTooLargeException: body exceeds 16777216 bytes"
    );
    assert_eq!(house.call("PutRecordBatch", batch(vec!["y"; 500])).await.0, 200);
    assert_eq!(house.call("PutRecord", one(vec![b'y'; 1_024_000])).await.0, 200);
    house.lives_with(501).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_described_and_listed() {
    let house = House::open().await;
    let (status, answer) = house.call("DescribeDeliveryStream", r#"{"DeliveryStreamName":"clicks","Limit":1}"#).await;
    assert_eq!(status, 200);
    let stream = &answer["DeliveryStreamDescription"];
    assert_eq!(stream["DeliveryStreamARN"], "arn:aws:firehose:us-east-1:000000000000:deliverystream/clicks");
    assert_eq!(stream["DeliveryStreamStatus"], "ACTIVE");
    assert_eq!(stream["CreateTimestamp"], 1_795_176_000.5);
    let destination = &stream["Destinations"][0];
    for description in ["S3DestinationDescription", "ExtendedS3DestinationDescription"] {
        let hints = json!({"SizeInMBs": 128, "IntervalInSeconds": 60});
        assert_eq!(destination[description]["BufferingHints"], hints);
        assert_eq!(destination[description]["CompressionFormat"], "GZIP");
    }
    assert_eq!(
        house.call_fails("DescribeDeliveryStream", r#"{"DeliveryStreamName":"nope"}"#).await,
        "400 ResourceNotFoundException: Firehose nope under account 000000000000 not found."
    );
    let names = |names: &[&str], more: bool| json!({"DeliveryStreamNames": names, "HasMoreDeliveryStreams": more});
    for (input, answer) in [
        (r#"{}"#, names(&["clicks", "logs"], false)),
        (r#"{"Limit":1}"#, names(&["clicks"], true)),
        (r#"{"ExclusiveStartDeliveryStreamName":"clicks"}"#, names(&["logs"], false)),
        (r#"{"ExclusiveStartDeliveryStreamName":"d"}"#, names(&["logs"], false)),
        (r#"{"DeliveryStreamType":"KinesisStreamAsSource"}"#, names(&[], false)),
    ] {
        assert_eq!(house.call("ListDeliveryStreams", input).await, (200, answer), "{input}");
    }
    assert_eq!(
        house.call_fails("ListDeliveryStreams", r#"{"Limit":10001}"#).await,
        "400 ValidationException: 1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: \
         Member must have value less than or equal to 10000"
    );
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_answers_slow_down_and_forgets_nothing() {
    let tight = spool::Options { segment_bytes: MIB as u64, spool_bytes_max: 2 * MIB as u64, ..roomy() };
    let house = House::new(Options::default(), tight).await;
    let payload = vec![b'x'; 200_000];
    let mut stored = 0;
    let refused = loop {
        let (status, answer) = house.call("PutRecord", one(&payload)).await;
        if status != 200 {
            break (status, answer);
        }
        stored += 1;
        assert!(stored < 100, "the quota holds");
    };
    let slow_down = json!({"__type": "ServiceUnavailableException", "message": "Slow down."});
    assert_eq!(refused, (500, slow_down.clone()));
    assert_eq!(house.call("PutRecordBatch", batch([&payload, &payload])).await, (500, slow_down));
    let (status, answer) = house.post(&[("content-type", "text/plain")], payload.clone()).await;
    assert_eq!(
        (status, answer),
        (503, json!({"error": "stream clicks is full", "hint": "slow down and send the same again"}))
    );
    assert!(stored > 0);
    assert_eq!(house.payloads("clicks", stored).await, vec![payload; stored]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stream_is_unavailable_and_its_neighbour_is_not() {
    let house = House::open().await;
    house.streams["clicks"].stop().await;
    assert_eq!(
        house.call_fails("PutRecord", one("x")).await,
        "500 ServiceUnavailableException: The stream takes no records at the moment. Try again."
    );
    assert_eq!(house.post_fails(&[], "x").await, "503 stream clicks takes no records at the moment");
    assert_eq!(house.post_to("/streams/logs/records", &[], "x").await, (200, json!({"records": 1})));
    house.stop().await;
}

/// Credentials for `clicks` only, and for everything.
fn locked() -> Options {
    let clicks = Some(["clicks".to_owned()].into());
    let keys = vec![
        Key { id: "AKCLICKS".into(), secret: "canary-1".into(), streams: clicks },
        Key { id: "AKALL".into(), secret: "canary-2".into(), streams: None },
    ];
    Options { auth: Auth::Keys(keys), ..Options::default() }
}

/// A PutRecord signed as an SDK does it.
fn signed(house: &House, id: &str, secret: &str, body: &str) -> reqwest::RequestBuilder {
    let (date, target, host) = ("20261120T120000Z", "Firehose_20150804.PutRecord", house.address.to_string());
    let canonical = format!(
        "POST\n/\n\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}\n\nhost;x-amz-date;x-amz-target\n{}",
        sigv4::hex(&sigv4::sha256(body.as_bytes()))
    );
    let scope = "20261120/eu-west-1/firehose/aws4_request";
    let hash = sigv4::hex(&sigv4::sha256(canonical.as_bytes()));
    let key = sigv4::signing_key(secret, "20261120", "eu-west-1", "firehose");
    let signature = sigv4::hex(&sigv4::hmac(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}")));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}"
    );
    let request = house.client.post(format!("http://{host}/")).header("x-amz-target", target);
    request.header("x-amz-date", date).header("authorization", authorization).body(body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_credentials_only_their_holders_come_in_and_only_where_they_may() {
    let house = House::new(locked(), roomy()).await;
    let refusal = |request| async {
        let (status, answer) = answer_of(request).await;
        format!("{status} {}: {}", answer["__type"].as_str().unwrap(), answer["message"].as_str().unwrap())
    };
    assert_eq!(answer_of(signed(&house, "AKCLICKS", "canary-1", &one("a"))).await.0, 200);
    assert_eq!(answer_of(signed(&house, "AKALL", "canary-2", &one("b"))).await.0, 200);
    assert_eq!(
        refusal(signed(&house, "AKCLICKS", "canary-1", &one("x").replace("clicks", "logs"))).await,
        "400 AccessDeniedException: User: arn:aws:iam::000000000000:user/AKCLICKS is not authorized to perform: \
         firehose:PutRecord on resource: arn:aws:firehose:us-east-1:000000000000:deliverystream/logs because no \
         identity-based policy allows the firehose:PutRecord action"
    );
    assert_eq!(
        refusal(signed(&house, "AKNOBODY", "canary-1", &one("x"))).await,
        "400 UnrecognizedClientException: The security token included in the request is invalid."
    );
    assert_eq!(
        refusal(signed(&house, "AKALL", "canary-1", &one("x"))).await,
        "400 InvalidSignatureException: The request signature we calculated does not match the signature you provided. \
         Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    );
    assert_eq!(
        house.call_fails("PutRecord", one("x")).await,
        "400 MissingAuthenticationTokenException: Missing Authentication Token"
    );
    let basic = |text: &str| format!("Basic {}", STANDARD.encode_to_string(text));
    let with = |text: &'static str| [("authorization", basic(text))];
    let [(name, good)] = with("AKCLICKS:canary-1");
    assert_eq!(house.post(&[(name, &good)], "c").await, (200, json!({"records": 1})));
    let (status, answer) = house.post_to("/streams/logs/records", &[(name, &good)], "x").await;
    assert_eq!((status, &answer["error"]), (403, &json!("key AKCLICKS may not write to stream logs")));
    for wrong in ["AKCLICKS:canary-2", "AKCLICKS:", "AKNOBODY:canary-1", "AKCLICKS"] {
        assert_eq!(house.post_fails(&[(name, &basic(wrong))], "x").await, "401 wrong access key or secret", "{wrong}");
    }
    assert_eq!(house.post_fails(&[], "x").await, "401 no credentials in the request");
    assert_eq!(house.payloads("clicks", 3).await, [b"a", b"b", b"c"]);
    house.stop().await;
}
