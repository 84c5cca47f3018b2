//! What prefixes make of records, kind and hostile.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::naming::field::{GivenKeys, PartitionKeysOptions};
use crate::naming::{DEFAULT_ERROR_PREFIX, DEFAULT_PREFIX, ObjectName, VALUE_BYTES_MAX, time_zone};
use crate::record::BatchBuilder;

/// 2026-11-20T23:30:00Z
const ARRIVAL_MS: i64 = 1_795_217_400_000;

fn prefix_in(zone: &str, text: &str) -> Prefix {
    Prefix::parse(text, &time_zone(zone).unwrap(), &PartitionKeys::default()).unwrap()
}

fn counting() -> Random {
    let next = AtomicU64::new(1);
    Random::new(move || next.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed))
}

fn evaluate(prefix: &Prefix, payload: &str) -> Result<String, Reason> {
    let mut out = String::new();
    prefix.partition(payload.as_bytes(), ARRIVAL_MS, Pairs::default(), &mut Scratch::default(), &mut out)?;
    Ok(prefix.resolve(&out, ARRIVAL_MS, &counting()))
}

fn refusal(text: &str) -> TemplateError {
    Prefix::parse(text, &TimeZone::UTC, &PartitionKeys::default()).unwrap_err()
}

#[test]
fn a_prefix_is_made_of_fields_and_times() {
    for (zone, template, payload, expected) in [
        ("UTC", DEFAULT_PREFIX, "not json", "dt=2026-11-20/"),
        ("Europe/Berlin", DEFAULT_PREFIX, "not json", "dt=2026-11-21/"),
        ("UTC", "logs/app_", "", "logs/app_"),
        ("UTC", "", "", ""),
        ("UTC", "c={country}/", r#"{"country":"de"}"#, "c=de/"),
        ("UTC", "{a.b}/{.arrival}/{n}/{t}/", r#"{"a":{"b":-3},"arrival":1.50,"n":2.0,"t":true}"#, "-3/1.5/2/true/"),
        ("Europe/Berlin", "{t:%Y/%m/%d/%H}/", r#"{"t":"2026-06-30T22:15:00Z"}"#, "2026/07/01/00/"),
        ("America/New_York", "{t:%F}/", r#"{"t":"2026-06-30 23:15:00"}"#, "2026-06-30/"),
        ("UTC", "{t:%F}/{t:%H}/", r#"{"t":1700000000123}"#, "2023-11-14/22/"),
        ("UTC", "{{{c}}}/", r#"{"c":"x"}"#, "{x}/"),
        ("UTC", "!{timestamp:'dt='yyyy-MM-dd/}x/", "", "dt=2026-11-20/x/"),
    ] {
        assert_eq!(evaluate(&prefix_in(zone, template), payload).unwrap(), expected, "{template}");
    }
}

#[test]
fn settings_of_firehose_move_over_unchanged() {
    let keys = PartitionKeysOptions::Query("{customer_id:.customer_id, device:.type.device}".into());
    let keys = PartitionKeys::new(&keys).unwrap();
    let text = "customer_id=!{partitionKeyFromQuery:customer_id}/device=!{partitionKeyFromQuery:device}/\
                year=!{timestamp:yyyy}/month=!{timestamp:MM}/!{firehose:random-string}/!{firehose:random-string}/";
    let prefix = Prefix::parse(text, &TimeZone::UTC, &keys).unwrap();
    let made = evaluate(&prefix, r#"{"customer_id":1234567890,"type":{"device":"mobile"}}"#).unwrap();
    let (fixed, random) = made.split_at("customer_id=1234567890/device=mobile/year=2026/month=11/".len());
    assert_eq!(fixed, "customer_id=1234567890/device=mobile/year=2026/month=11/");
    let [a, b] = random.trim_end_matches('/').split('/').collect::<Vec<_>>().try_into().unwrap();
    assert!(
        a != b && [a, b].iter().all(|s: &&str| s.len() == 11 && s.bytes().all(|b| b.is_ascii_alphanumeric())),
        "{made}"
    );

    let errors = "err/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/";
    let errors = ErrorPrefix::parse(errors, &TimeZone::UTC).unwrap();
    let mut out = String::new();
    errors.partition(RejectedBy::Transform, 0, &mut Scratch::default(), &mut out);
    assert_eq!(errors.resolve(&out, ARRIVAL_MS, &counting()), "err/processing-failed/2026/11/20/");
}

#[test]
fn parts_of_the_object_wait_for_its_oldest_record() {
    let prefix = prefix_in("UTC", "!{timestamp:HH}/{c}/!{timestamp:mm}/");
    let mut out = String::new();
    prefix
        .partition(br#"{"c":"x"}"#, ARRIVAL_MS + 7_200_000, Pairs::default(), &mut Scratch::default(), &mut out)
        .unwrap();
    assert_eq!(prefix.resolve(&out, ARRIVAL_MS, &counting()), "23/x/30/");
    assert!(prefix.is_per_record());

    let same_for_all = prefix_in("UTC", "a/!{timestamp:HH}/b/");
    assert!(!same_for_all.is_per_record());
    assert_eq!(same_for_all.resolve("", ARRIVAL_MS, &counting()), "a/23/b/", "no record was asked");
}

#[test]
fn the_default_error_prefix_names_the_reason() {
    let prefix = ErrorPrefix::parse(DEFAULT_ERROR_PREFIX, &TimeZone::UTC).unwrap();
    let (mut scratch, mut out) = (Scratch::default(), String::new());
    for (by, expected) in [
        (RejectedBy::Prefix, "errors/metadata-extraction-failed/dt=2026-11-20/"),
        (RejectedBy::Format, "errors/format-conversion-failed/dt=2026-11-20/"),
    ] {
        prefix.partition(by, ARRIVAL_MS, &mut scratch, &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn a_record_that_does_not_fit_says_why() {
    let value = prefix_in("UTC", "{a.b}/");
    let time = prefix_in("UTC", "{t:%F}/");
    for (prefix, payload, expected) in [
        (&value, r#"{}"#, "prefix: field `a.b` is missing"),
        (&value, r#"{"a":7}"#, "prefix: field `a.b` is missing"),
        (&value, r#"{"a":{"b":null}}"#, "prefix: field `a.b` is null"),
        (&value, r#"{"a":{"b":{}}}"#, "prefix: field `a.b` is an object"),
        (&value, r#"{"a":{"b":[]}}"#, "prefix: field `a.b` is an array"),
        (&value, r#"{"a":{"b":""}}"#, "prefix: field `a.b` is an empty string"),
        (&value, r#"{"a":{"b":1e999}}"#, "prefix: field `a.b` is a number out of range"),
        (&value, r#"{"a":{"b":"\ud800"}}"#, "prefix: field `a.b` holds a wrong escape"),
        (&value, "hello", "Non JSON record provided: expected a value at byte 0"),
        (&value, "", "Non JSON record provided: the record ends early at byte 0"),
        (&value, r#"{"a":{"b":"x"}"#, "Non JSON record provided: the record ends early at byte 14"),
        (
            &time,
            r#"{"t":"yesterday"}"#,
            "prefix: field `t` is not a time (RFC 3339, yyyy-MM-dd HH:mm:ss, or a number counting from 1970): \"yesterday\"",
        ),
        (&time, r#"{"t":null}"#, "prefix: field `t` is null"),
    ] {
        let reason = evaluate(prefix, payload).unwrap_err();
        assert_eq!((reason.by, reason.code), (RejectedBy::Prefix, CODE));
        assert_eq!(reason.message, expected, "{payload}");
    }
    let mut out = String::new();
    let invalid =
        value.partition(b"{\"a\":\"\xff\"}", 0, Pairs::default(), &mut Scratch::default(), &mut out).unwrap_err();
    assert_eq!(invalid.message, "Non JSON record provided: invalid UTF-8 at byte 6");
}

#[test]
fn no_record_leaves_its_prefix_or_poses_as_an_object() {
    let prefix = prefix_in("UTC", "data/{v}/");
    let object = "orders-7f3a9c-0000000000000000-0000000000004096.parquet";
    let reason = evaluate(&prefix, &format!(r#"{{"v":"{object}"}}"#)).unwrap_err();
    assert_eq!(reason.message, format!("prefix: folder `{object}` reads as the name of an object"));
    for nasty in
        ["../", "..", "%2e%2e", "\0", "..\\x", "\u{ff0e}\u{ff0e}", &"é".repeat(300), "a\nb", "x#1", "a/b", "\u{1}"]
    {
        let payload = serde_json::json!({ "v": nasty }).to_string();
        let made = evaluate(&prefix, &payload).unwrap();
        let folder = made.strip_prefix("data/").and_then(|rest| rest.strip_suffix('/')).unwrap();
        assert!(!folder.contains('/') && folder != ".." && folder.len() <= VALUE_BYTES_MAX, "{nasty:?} made {made}");
        let name = format!("{made}{object}");
        assert_eq!(ObjectName::parse(&name).unwrap().prefix, made);
        object_store::path::Path::parse(&name).unwrap();
    }
}

#[test]
fn a_prefix_that_becomes_too_long_sets_the_record_aside() {
    let long = "x".repeat(VALUE_BYTES_MAX);
    let payload = serde_json::json!({ "v": long }).to_string();
    let reason = evaluate(&prefix_in("UTC", "{v}/{v}/{v}/{v}/{v}/"), &payload).unwrap_err();
    assert_eq!(reason.message, "prefix: 605 bytes are more than 512");
    let reason = evaluate(&prefix_in("UTC", "{v}{v}{v}/"), &payload).unwrap_err();
    assert_eq!(reason.message, "prefix: a folder of 360 bytes is longer than 255");
    assert!(evaluate(&prefix_in("UTC", "{v}/{v}/{v}/{v}/"), &payload).is_ok());
}

#[test]
fn a_wrong_template_is_refused_with_its_place() {
    for (text, offset, message) in [
        ("/a/", 0, "the prefix begins with `/`"),
        ("a//b/", 2, "`//` makes a folder without a name"),
        ("a/../b/", 2, "`..` cannot be a folder of a name"),
        ("./a/", 0, "`.` cannot be a folder of a name"),
        ("a\n/", 1, "'\\n' cannot stand in a name"),
        ("a\\b/", 1, "'\\\\' cannot stand in a name"),
        ("a/{arrival:%Y/}/x/", 15, "`//` makes a folder without a name"),
        ("_hydrant/x/", 0, "`_hydrant` is hydrant's own folder"),
        ("{a", 0, "the brace is not closed"),
        ("a}", 1, "`}` without `{`"),
        ("{}/", 0, "`{}` needs the name of a field"),
        ("x/{a b}/", 4, "unexpected ` b` in a path"),
        ("x/{a:%Q}/", 5, "time pattern: unknown letter `%Q`"),
        ("x/{a:}/", 4, "`{a:}` needs a time pattern such as `%Y-%m-%d`"),
        ("{arrival}/", 0, "`{arrival}` needs a time pattern"),
        ("{reason}/", 0, "`{reason}` is only known in the error prefix"),
        ("x/{country}", 2, "a field's value may not reach into the file name"),
        ("x/!{timestamp:yyyy/qq}/", 19, "time pattern: `qq` is not supported"),
        ("!{timestamp:}/", 0, "`!{timestamp:}` needs a pattern such as yyyy/MM/dd"),
        ("!{firehose:error-output-type}/", 0, "`!{firehose:error-output-type}` is only known in the error prefix"),
        ("!{partitionKeyFromQuery:id}/", 0, "partition key `id` is not declared"),
        ("x/!{partitionKey:id}/", 2, "partition key `id` is not declared"),
        ("x/!{partitionKeyFromLambda:id}/", 2, "no `lambda` or `wasm` transform can give partition key `id`"),
        ("!{partitionKey:}/", 0, "a partition key needs a name"),
        ("!{partitionKey}/", 0, "a partition key needs a name"),
        ("x/!{partitionKey:id", 2, "the brace is not closed"),
        ("!{region}/", 0, "unknown expression `!{region}`"),
    ] {
        let error = refusal(text);
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
    }
    assert_eq!(refusal(&"a/".repeat(600)).message, "the prefix has 1200 bytes; at most 1024 are allowed");
    assert_eq!(refusal(&"a".repeat(81)).message, "81 bytes behind the last `/` of the prefix; at most 80 are allowed");
    let error = ErrorPrefix::parse("errors/{country}/", &TimeZone::UTC).unwrap_err();
    assert_eq!((error.offset, error.message.as_str()), (7, "`{country}`: fields cannot be used in the error prefix"));
}

fn with_given(given: GivenKeys) -> PartitionKeys {
    let paths = PartitionKeysOptions::Query("{path: .a}".into());
    PartitionKeys::new(&paths).unwrap().with_given(given)
}

fn queried(names: &[&str]) -> GivenKeys {
    GivenKeys { queried: names.iter().map(|name| (*name).to_owned()).collect(), ..GivenKeys::default() }
}

#[test]
fn a_prefix_names_only_keys_that_something_can_give() {
    let any = GivenKeys { any: true, ..GivenKeys::default() };
    let any_queried = GivenKeys { any_queried: true, ..GivenKeys::default() };
    let both = queried(&["customer"]).and(any.clone());
    for (given, template, fits) in [
        (queried(&["customer"]), "!{partitionKeyFromQuery:customer}/!{partitionKey:customer}/", true),
        (queried(&["customer"]), "!{partitionKeyFromQuery:path}/!{partitionKey:path}/", true),
        (queried(&["customer"]), "!{partitionKeyFromLambda:customer}/", false),
        (queried(&["customer"]), "!{partitionKey:other}/", false),
        (queried(&["customer"]), "!{partitionKeyFromQuery:other}/", false),
        (any_queried.clone(), "!{partitionKeyFromQuery:other}/!{partitionKey:other}/", true),
        (any_queried, "!{partitionKeyFromLambda:other}/", false),
        (any.clone(), "!{partitionKeyFromLambda:other}/!{partitionKey:other}/", true),
        (any, "!{partitionKeyFromQuery:other}/", false),
        (both, "!{partitionKeyFromQuery:customer}/!{partitionKeyFromLambda:customer}/", true),
        (GivenKeys::default(), "!{partitionKey:path}/", true),
        (GivenKeys::default(), "!{partitionKeyFromLambda:path}/", false),
    ] {
        let parsed = Prefix::parse(template, &TimeZone::UTC, &with_given(given.clone()));
        assert_eq!(parsed.is_ok(), fits, "{template} of {given:?}");
        assert!(parsed.is_ok_and(|prefix| prefix.is_per_record()) == fits, "{template} is of the record");
    }
}

#[test]
fn a_key_that_nothing_gives_is_told_what_there_is() {
    for (given, template, hint) in [
        (queried(&["customer"]), "!{partitionKey:custmer}/", "did you mean `customer`?"),
        (queried(&["customer"]), "!{partitionKeyFromQuery:x}/", "declared are customer, path"),
        (
            queried(&["id"]),
            "!{partitionKeyFromLambda:id}/",
            "this one comes from a query: `!{partitionKeyFromQuery:id}`",
        ),
        (GivenKeys::default(), "!{partitionKeyFromLambda:id}/", "add one to `transforms`"),
    ] {
        let error = Prefix::parse(template, &TimeZone::UTC, &with_given(given)).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some(hint), "{template}");
    }
    let declare = "declare it: `partition_keys: { id: \".id\" }`, or add a transform that gives it";
    assert_eq!(refusal("!{partitionKey:id}/").hint.as_deref(), Some(declare));
    let any = PartitionKeys::default().with_given(GivenKeys { any: true, ..GivenKeys::default() });
    let error = Prefix::parse("!{partitionKeyFromQuery:id}/", &TimeZone::UTC, &any).unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("what a `lambda` or `wasm` transform gives is `!{partitionKey:id}`"));
}

/// The name of a record with these partition keys, which some transform gave it.
fn of_given(template: &str, keys: &[(&str, &str)]) -> Result<String, Reason> {
    let any = PartitionKeys::default().with_given(GivenKeys { any: true, ..GivenKeys::default() });
    let prefix = Prefix::parse(template, &TimeZone::UTC, &any).unwrap();
    let mut builder = BatchBuilder::default();
    builder.push(b"not json", 0);
    let read = builder.finish();
    let mut builder = BatchBuilder::default();
    builder.push_from(&read, 0, read.payload(0), keys);
    let batch = builder.finish();
    let mut out = String::new();
    prefix.partition(batch.payload(0), ARRIVAL_MS, batch.partition_keys(0), &mut Scratch::default(), &mut out)?;
    Ok(prefix.resolve(&out, ARRIVAL_MS, &counting()))
}

#[test]
fn a_key_that_a_transform_gives_is_a_folder_and_the_last_one_counts() {
    let template = "c=!{partitionKey:c}/!{partitionKeyFromLambda:d}/{arrival:%Y}/";
    assert_eq!(of_given(template, &[("c", "de"), ("d", "1"), ("c", "at")]).unwrap(), "c=at/1/2026/");
    assert_eq!(of_given("!{partitionKey:c}/", &[("c", "../x=1")]).unwrap(), "%2E.%2Fx%3D1/");
    assert_eq!(of_given("!{partitionKey:c}/", &[("c", &"x".repeat(9999))]).unwrap().len(), VALUE_BYTES_MAX + 1);
    for (keys, message) in [
        (&[][..], "prefix: no transform gave the partition key `c`"),
        (&[("d", "1")][..], "prefix: no transform gave the partition key `c`"),
        (&[("c", "de"), ("c", "")][..], "prefix: the partition key `c` is an empty text"),
    ] {
        let reason = of_given("!{partitionKey:c}/", keys).unwrap_err();
        assert_eq!((reason.by, reason.code, reason.message.as_str()), (RejectedBy::Prefix, CODE, message));
    }
    let long = "x".repeat(VALUE_BYTES_MAX);
    let template = "!{partitionKey:c}/".repeat(5);
    let reason = of_given(&template, &[("c", &long)]).unwrap_err();
    assert_eq!(reason.message, "prefix: 605 bytes are more than 512");
    assert!(of_given(&template, &[("c", "short")]).is_ok(), "a template is as long as its values");
}

#[test]
fn what_is_unwise_is_warned_of() {
    assert!(prefix_in("UTC", "{arrival:%Y/%m/%d/%H}/").warnings().is_empty());
    assert!(prefix_in("UTC", "{arrival:%H-%M}/").warnings()[0].contains("finer than an hour"));
    assert!(prefix_in("UTC", "{arrival:%H:00}/").warnings()[0].contains("Hadoop"));
    assert!(prefix_in("UTC", "!{timestamp:mm}/").warnings().is_empty(), "one folder for each object at the most");
}

#[test]
fn a_field_that_stands_twice_is_looked_for_once() {
    let prefix = prefix_in("UTC", "{a.b}/{t:%F}/{a.b}/");
    let fields: Vec<_> = prefix.template.fields.iter().map(ToString::to_string).collect();
    assert_eq!(fields, ["a.b", "t"]);
}

#[test]
fn one_scratch_serves_several_prefixes() {
    let (a, b) = (prefix_in("UTC", "{arrival:%H}/"), prefix_in("Asia/Tokyo", "{arrival:%H}/"));
    let (mut scratch, mut out) = (Scratch::default(), String::new());
    for (prefix, expected) in [(&a, "23/"), (&b, "08/"), (&a, "23/")] {
        prefix.partition(b"", ARRIVAL_MS, Pairs::default(), &mut scratch, &mut out).unwrap();
        assert_eq!(out, expected);
    }
}

proptest! {
    #[test]
    fn no_given_key_leaves_its_folder(value in "(.|[./\\\\_~%#\u{0}\n]){1,200}") {
        let made = of_given("a/!{partitionKey:c}/", &[("c", &value)]).unwrap_or_else(|_| "a/none/".into());
        prop_assert!(made.starts_with("a/") && made.ends_with('/') && made.matches('/').count() == 2, "{}", made);
        prop_assert!(!made.contains("/../") && !made.contains("/./") && !made.contains(char::is_control), "{}", made);
    }

    #[test]
    fn remembered_minutes_are_the_right_ones(times in proptest::collection::vec(any::<i32>(), 1..40), step in 1..100_000i64) {
        let prefix = prefix_in("Europe/Berlin", "{arrival:%Y-%m-%d_%H_%M_%z}/");
        let (mut scratch, mut kept, mut fresh) = (Scratch::default(), String::new(), String::new());
        for seconds in times {
            let arrival_ms = i64::from(seconds) * step;
            prefix.partition(b"", arrival_ms, Pairs::default(), &mut scratch, &mut kept).unwrap();
            prefix.partition(b"", arrival_ms, Pairs::default(), &mut Scratch::default(), &mut fresh).unwrap();
            prop_assert_eq!(&kept, &fresh);
        }
    }

    #[test]
    fn any_template_is_compiled_or_refused(text in "([a/{}!:%'.\\\\Yy]|\\{a|!\\{timestamp:|arrival:%|\\}){0,20}") {
        let compiled = Prefix::parse(&text, &TimeZone::UTC, &PartitionKeys::default()).ok();
        let made = compiled.and_then(|prefix| evaluate(&prefix, r#"{"a":"2026-11-20T10:00:00Z"}"#).ok()).unwrap_or_default();
        prop_assert!(!made.starts_with('/') && !made.contains("//") && made.len() <= PREFIX_BYTES_MAX, "{} made {}", text, made);
        prop_assert!(!made.split('/').any(|folder| folder == ".." || folder == "."), "{} made {}", text, made);
    }
}
