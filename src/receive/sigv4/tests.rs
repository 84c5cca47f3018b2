//! Signatures: AWS's own vectors, what botocore signs, and every byte flipped.

use hyper::Request;

use super::*;

const NOON_ISH_MS: i64 = 1_440_938_160_000; // 2015-08-30T12:36:00Z

fn key() -> Key {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into();
    Key { id: "AKIDEXAMPLE".into(), secret, streams: None }
}

/// A signed request: the parts that a signature covers, and the signature.
#[derive(Clone)]
struct Signed {
    method: &'static str,
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Signed {
    fn new(method: &'static str, uri: &str, headers: &[(&'static str, &str)], body: &str) -> Signed {
        let headers = headers.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Signed { method, uri: uri.into(), headers, body: body.into() }
    }

    fn check(&self, service: &str, now_ms: i64) -> Result<(), AuthError> {
        let mut request = Request::builder().method(self.method).uri(&self.uri);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let claim = Claim::parse(&head, service, now_ms)?;
        if claim.key_id != key().id {
            return Err(AuthError::unknown_key());
        }
        claim.verify(&head, &key(), &self.body)
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.retain(|(held, _)| *held != name);
        self.headers.push((name, value.into()));
    }

    fn kind(&self) -> &'static str {
        self.check("firehose", NOON_ISH_MS).expect_err("refused").kind
    }
}

fn authorization(service: &str, signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, \
         SignedHeaders={signed}, Signature={signature}"
    )
}

/// A PutRecord as botocore 1.43 signed it.
fn put_record() -> Signed {
    let signed = "amz-sdk-invocation-id;content-type;host;x-amz-date;x-amz-target";
    let signature = "5fcb929add3e28ef222cdc8c83f16043abe4a8cd6ac6e36766ea3e4d36a0106c";
    Signed::new(
        "POST",
        "/",
        &[
            ("host", "127.0.0.1:4573"),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Firehose_20150804.PutRecord"),
            ("amz-sdk-invocation-id", "x"),
            ("x-amz-date", "20150830T123600Z"),
            ("authorization", &authorization("firehose", signed, signature)),
        ],
        r#"{"DeliveryStreamName": "clicks", "Record": {"Data": "aGVsbG8="}}"#,
    )
}

/// The published suite, `aws-sig-v4-test-suite`.
#[test]
fn aws_own_vectors_verify() {
    for (method, uri, signature) in [
        ("GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ] {
        let authorization = authorization("service", "host;x-amz-date", signature);
        let headers =
            [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z"), ("authorization", &*authorization)];
        let signed = Signed::new(method, uri, &headers, "");
        assert_eq!(signed.check("service", NOON_ISH_MS), Ok(()), "{method} {uri}");
    }
}

/// From the AWS General Reference, "Deriving the signing key".
#[test]
fn the_signing_key_is_derived_as_published() {
    let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam");
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

#[test]
fn requests_signed_by_botocore_verify() {
    assert_eq!(put_record().check("firehose", NOON_ISH_MS), Ok(()));
    let signature = "020efb29931111b66ed1ae5b7be4341dd6f1179129be033f2d1ad547ea6d2693";
    let headers = [
        ("host", "127.0.0.1:4573"),
        ("content-type", "application/x-ndjson"),
        ("x-amz-date", "20150830T123600Z"),
        ("authorization", &*authorization("firehose", "content-type;host;x-amz-date", signature)),
    ];
    let ndjson = Signed::new("POST", "http://127.0.0.1:4573/streams/clicks/records", &headers, "{\"a\":1}\n");
    assert_eq!(ndjson.check("firehose", NOON_ISH_MS), Ok(()));
}

#[test]
fn whatever_is_changed_the_request_is_refused() {
    let good = put_record();
    for (index, (name, value)) in good.headers.iter().enumerate() {
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            if changed.bytes().any(|byte| byte.is_ascii_control()) {
                continue;
            }
            let mut bad = good.clone();
            bad.headers[index].1 = changed.clone();
            assert!(bad.check("firehose", NOON_ISH_MS).is_err(), "{name}: {changed}");
        }
        let mut without = good.clone();
        without.headers.remove(index);
        assert!(without.check("firehose", NOON_ISH_MS).is_err(), "without {name}");
        let mut twice = good.clone();
        twice.headers.push((name, value.clone()));
        assert!(twice.check("firehose", NOON_ISH_MS).is_err(), "twice {name}");
    }
    for at in 0..good.body.len() {
        let mut bad = good.clone();
        bad.body[at] ^= 1;
        assert_eq!(bad.kind(), "InvalidSignatureException");
    }
    for uri in ["/x", "/?a=1", "//"] {
        assert_eq!(Signed { uri: uri.into(), ..good.clone() }.kind(), "InvalidSignatureException");
    }
    assert_eq!(Signed { method: "PUT", ..good }.kind(), "InvalidSignatureException");
}

#[test]
fn another_secret_is_another_signature() {
    let good = put_record();
    let mut request = Request::builder().method("POST").uri("/");
    for (name, value) in &good.headers {
        request = request.header(*name, value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let claim = Claim::parse(&head, "firehose", NOON_ISH_MS).unwrap();
    assert_eq!(claim.key_id, "AKIDEXAMPLE");
    let other = Key { secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEZ".into(), ..key() };
    assert_eq!(claim.verify(&head, &other, &good.body), Err(mismatch()));
}

#[test]
fn a_signature_is_good_for_five_minutes_either_way() {
    let good = put_record();
    assert_eq!(good.check("firehose", NOON_ISH_MS + SKEW_MS_MAX), Ok(()));
    assert_eq!(good.check("firehose", NOON_ISH_MS - SKEW_MS_MAX), Ok(()));
    let error = |now_ms| good.check("firehose", now_ms).unwrap_err().message;
    assert_eq!(
        error(NOON_ISH_MS + SKEW_MS_MAX + 1000),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    assert_eq!(
        error(NOON_ISH_MS - SKEW_MS_MAX - 1000),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z \
         (20150830T123059Z + 5 min.)"
    );
}

#[test]
fn refusals_are_told_in_aws_words() {
    let with = |name, value: &str| {
        let mut bad = put_record();
        bad.set(name, value);
        let AuthError { kind, message } = bad.check("firehose", NOON_ISH_MS).unwrap_err();
        format!("{kind}: {message}")
    };
    let mut bare = put_record();
    bare.headers.retain(|(name, _)| *name != "authorization");
    assert_eq!(bare.kind(), "MissingAuthenticationTokenException");
    assert_eq!(
        with("authorization", "Bearer canary"),
        "IncompleteSignatureException: Authorization header requires 'Credential' parameter. Authorization header \
         requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. \
         Authorization=Bearer"
    );
    let hash = "0".repeat(64);
    assert_eq!(
        with("authorization", &authorization("s3", "host;x-amz-date", &hash)),
        "InvalidSignatureException: Credential should be scoped to correct service: 'firehose'."
    );
    assert_eq!(
        with("authorization", &authorization("firehose", "x-amz-date", &hash)),
        "InvalidSignatureException: 'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
    );
    assert_eq!(
        with("authorization", &authorization("firehose", "host;x-amz-date;content-type", &hash)),
        "InvalidSignatureException: 'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."
    );
    assert_eq!(
        with("x-amz-date", "20150831T123600Z"),
        "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date \
         from HTTP: '20150830' != '20150831', from '20150831T123600Z'."
    );
    assert_eq!(
        with("x-amz-date", "yesterday"),
        "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got 'yesterday'. \
         See http://en.wikipedia.org/wiki/ISO_8601"
    );
    assert_eq!(
        with("authorization", &authorization("firehose", "host", "x").replace("/us-east-1", "")),
        "IncompleteSignatureException: Credential must have exactly 5 slash-delimited elements, e.g. \
         keyid/date/region/service/term, got 'AKIDEXAMPLE/20150830/firehose/aws4_request'"
    );
}
