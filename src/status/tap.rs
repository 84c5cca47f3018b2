//! `GET /api/tap`: records of a running pipeline as they pass a stage, one JSON object per line, until the client goes.
//!
//! ```text
//! {"passed":0,"left_out":0}                                       at once, then every second in which something passed
//! {"stage":"source","arrival_ms":1795..,"payload":{..}}           or "text":"..", or "base64":".."
//! {"stage":"rejected", .. ,"reason":"..","code":"..","message":".."}
//! {"stage":"delivered","object":"s3://..","rows":5,"bytes":213,"at_ms":1795..}
//! ```
//! `key`, `partition_keys` and `whole_bytes` (of a payload that was cut) stand where there is something to say. Shows are
//! samples: `left_out` counts what passed and is not shown. After a fault of a source, records may pass twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, interval};

use super::{Admin, House};
use crate::live::tap::{self, Passed, RATE_DEFAULT, RATE_MAX, Record, Sample, Stage, TAPS_MAX, Tapped};
use crate::nearest::nearest;

/// How often a tap tells what has passed, if something has.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it does if nothing has: so that a client that is dead is found out.
const TELL_IDLE_EVERY: Duration = Duration::from_secs(10);

/// What is asked for: `?pipeline=NAME&stage=STAGE&limit=RECORDS&rate=RECORDS`. `stage` is `source`, the number (from 1) or
/// the word of a transform, `format`, `rejected` or `delivered`.
struct Wish {
    pipeline: String,
    stage: String,
    limit: u64,
    rate: u32,
}

/// Answers with records until the limit, the end of the pipeline, or the client's.
pub async fn tap(State(admin): House, uri: Uri) -> Response {
    match open(&*admin, uri.query().unwrap_or_default()) {
        Ok((wish, tapped)) => {
            let lines = stream::unfold(Telling::new(admin, wish, tapped), Telling::next);
            ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
        }
        Err((status, words)) => (status, words + "\n").into_response(),
    }
}

fn open(admin: &dyn Admin, query: &str) -> Result<(Wish, Tapped), (StatusCode, String)> {
    let wish = wish(query).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
    let not_found = |words| (StatusCode::NOT_FOUND, words);
    let view = admin.view();
    let Some(running) = view.pipelines.iter().find(|pipeline| pipeline.name == wish.pipeline) else {
        let names = view.pipelines.iter().map(|pipeline| pipeline.name.as_str());
        return Err(not_found(no_such("pipeline", &wish.pipeline, names)));
    };
    let Some(live) = admin.live(&wish.pipeline) else {
        let name = &wish.pipeline;
        let words = format!("pipeline {name} has never run\nhint: `hydrant status {name}` says what is wrong with it");
        return Err((StatusCode::CONFLICT, words));
    };
    let stage = stage(&wish.stage, &running.way.transforms).map_err(not_found)?;
    let tapped = live.taps().open(stage, wish.rate).ok_or_else(|| {
        let words = format!("pipeline {} has {TAPS_MAX} taps open already\nhint: close one of them", wish.pipeline);
        (StatusCode::TOO_MANY_REQUESTS, words)
    })?;
    Ok((wish, tapped))
}

fn wish(query: &str) -> Result<Wish, String> {
    let mut wish = Wish { pipeline: String::new(), stage: "format".into(), limit: u64::MAX, rate: RATE_DEFAULT };
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let number = |most: u64| match value.parse::<u64>() {
            Ok(number) if (1..=most).contains(&number) => Ok(number),
            _ => Err(format!("`{key}`: expected a number from 1 to {most}, found `{value}`")),
        };
        match &*key {
            "pipeline" => wish.pipeline = value.into_owned(),
            "stage" => wish.stage = value.into_owned(),
            "limit" => wish.limit = number(u64::MAX)?,
            "rate" => wish.rate = u32::try_from(number(RATE_MAX.into())?).unwrap_or(RATE_MAX),
            _ => return Err(format!("unknown key `{key}`, expected pipeline, stage, limit or rate")),
        }
    }
    Ok(wish)
}

/// The stage of a word or number, where these transforms (in words such as `wasm redact.wasm`) are.
fn stage(word: &str, transforms: &[String]) -> Result<Stage, String> {
    const FIXED: [(&str, Stage); 4] = [
        ("source", Stage::Source),
        ("format", Stage::Format),
        ("rejected", Stage::Rejected),
        ("delivered", Stage::Delivered),
    ];
    if let Some((_, stage)) = FIXED.iter().find(|(name, _)| *name == word) {
        return Ok(*stage);
    }
    if let Ok(number) = word.parse::<usize>() {
        return match number.checked_sub(1).filter(|index| *index < transforms.len()) {
            Some(index) => Ok(Stage::Transform(index)),
            None => Err(match transforms.len() {
                0 => "there is no transform\nhint: what the source gives is the stage `source`".to_owned(),
                count => format!("there is no transform {number}: they are numbered 1 to {count}"),
            }),
        };
    }
    let kind = |shown: &String| shown.split(' ').next().unwrap_or_default().to_owned();
    let mut fitting = (0..transforms.len()).filter(|index| {
        let shown = &transforms[*index];
        kind(shown) == word || shown.split(' ').nth(1) == Some(word)
    });
    match (fitting.next(), fitting.next()) {
        (Some(index), None) => Ok(Stage::Transform(index)),
        (Some(first), Some(second)) => Err(format!(
            "more than one transform is `{word}`\nhint: say its number, such as {} or {}",
            first + 1,
            second + 1
        )),
        (None, _) => {
            let kinds: Vec<String> = transforms.iter().map(kind).collect();
            let numbers: Vec<String> = (1..=transforms.len()).map(|number| number.to_string()).collect();
            let words = std::iter::once("source").chain(numbers.iter().map(String::as_str));
            let words = words.chain(kinds.iter().map(String::as_str)).chain(["format", "rejected", "delivered"]);
            Err(no_such("stage", word, words))
        }
    }
}

/// That a word is none of those that there are, and which was meant.
pub fn no_such<'w>(what: &str, wrong: &str, right: impl Iterator<Item = &'w str>) -> String {
    let mut right: Vec<&str> = right.collect();
    right.dedup();
    let hint = match nearest(wrong, right.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if right.is_empty() => format!("there is no {what} at all"),
        None => format!("it is one of {}", right.join(", ")),
    };
    format!("there is no {what} `{wrong}`\nhint: {hint}")
}

/// A tap on its way to a client.
struct Telling {
    admin: Arc<dyn Admin>,
    wish: Wish,
    tapped: Option<Tapped>,
    told: Option<(Passed, Instant)>,
    ticks: tokio::time::Interval,
}

impl Telling {
    fn new(admin: Arc<dyn Admin>, wish: Wish, tapped: Tapped) -> Telling {
        Telling { admin, wish, tapped: Some(tapped), told: None, ticks: interval(TELL_EVERY) }
    }

    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Telling)> {
        let line = loop {
            let tapped = self.tapped.as_mut()?;
            tokio::select! {
                sample = tapped.next(), if self.told.is_some() => {
                    let mut line = line(&sample?, &self.wish.stage);
                    self.wish.limit -= 1;
                    if self.wish.limit == 0 {
                        line += &passed(tapped.passed());
                        self.tapped = None;
                    }
                    break line;
                }
                _ = self.ticks.tick() => {
                    let now = (tapped.passed(), Instant::now());
                    let live = self.admin.live(&self.wish.pipeline);
                    if !live.is_some_and(|live| tapped.is_of(live.taps())) {
                        self.tapped = None;
                        let ended = format!("pipeline {} has gone", self.wish.pipeline);
                        break json!({ "ended": ended }).to_string() + "\n";
                    }
                    let is_news = |(told, at): (Passed, Instant)| told != now.0 || now.1 - at >= TELL_IDLE_EVERY;
                    if self.told.is_none_or(is_news) {
                        self.told = Some(now);
                        break passed(now.0);
                    }
                }
            }
        };
        Some((Ok(line.into()), self))
    }
}

fn passed(Passed { records, left_out }: Passed) -> String {
    format!("{{\"passed\":{records},\"left_out\":{left_out}}}\n")
}

/// One line, with its end.
fn line(sample: &Sample, stage: &str) -> String {
    let mut object = Map::new();
    object.insert("stage".into(), stage.into());
    let payload = match sample {
        Sample::Record(record) => tell(record, &mut object),
        Sample::Rejected(record, tap::Why { reason, code, message }) => {
            let payload = tell(record, &mut object);
            object.insert("reason".into(), (*reason).into());
            object.insert("code".into(), (*code).into());
            object.insert("message".into(), message.as_str().into());
            payload
        }
        Sample::Delivered(delivered) => {
            let told = json!(delivered);
            object.extend(told.as_object().cloned().unwrap_or_default());
            None
        }
    };
    let mut line = Value::Object(object).to_string();
    if let Some(payload) = payload {
        line.truncate(line.len() - 1);
        line = line + ",\"payload\":" + &payload + "}";
    }
    line + "\n"
}

/// Puts a record into an object; JSON is answered, to stand in the line as it is.
fn tell(record: &Record, object: &mut Map<String, Value>) -> Option<String> {
    let Record { arrival_ms, payload, payload_bytes, key, partition_keys } = record;
    object.insert("arrival_ms".into(), (*arrival_ms).into());
    if let Some(key) = key {
        object.insert("key".into(), String::from_utf8_lossy(key).into());
    }
    if !partition_keys.is_empty() {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let keys = partition_keys.iter().map(|(name, value)| (text(name), Value::from(text(value))));
        object.insert("partition_keys".into(), Value::Object(keys.collect()));
    }
    if payload.len() < *payload_bytes {
        object.insert("whole_bytes".into(), (*payload_bytes).into());
    } else if serde_json::from_slice::<&RawValue>(payload).is_ok() {
        // Outside of its texts JSON has line ends only where it may have spaces, and inside it has none.
        let json = String::from_utf8_lossy(payload);
        return Some(json.replace(['\n', '\r'], " "));
    }
    match std::str::from_utf8(payload) {
        Ok(text) => object.insert("text".into(), text.into()),
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() && payload.len() < *payload_bytes => {
            let text = String::from_utf8_lossy(&payload[..error.valid_up_to()]).into_owned();
            object.insert("text".into(), text.into())
        }
        Err(_) => object.insert("base64".into(), base64_simd::STANDARD.encode_to_string(payload).into()),
    };
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: &[u8], payload_bytes: usize) -> String {
        let record = Record { arrival_ms: 5, payload: payload.to_vec(), payload_bytes, ..Record::default() };
        line(&Sample::Record(record), "source")
    }

    #[test]
    fn a_payload_is_json_else_text_else_base64() {
        let whole = |payload: &[u8]| shown(payload, payload.len());
        let head = "{\"arrival_ms\":5,\"stage\":\"source\"";
        assert_eq!(whole(b"{\"n\":1.50, \"n\": 2}"), format!("{head},\"payload\":{{\"n\":1.50, \"n\": 2}}}}\n"));
        assert_eq!(whole(b"{\n \"a\":\r\n1}"), format!("{head},\"payload\":{{  \"a\":  1}}}}\n"), "one line");
        assert_eq!(whole(b"GET /\n"), format!("{head},\"text\":\"GET /\\n\"}}\n"));
        assert_eq!(whole(b"\xff"), "{\"arrival_ms\":5,\"base64\":\"/w==\",\"stage\":\"source\"}\n");
        assert_eq!(
            shown("{\"a\":\"é".as_bytes().split_last().unwrap().1, 100),
            "{\"arrival_ms\":5,\"stage\":\"source\",\"text\":\"{\\\"a\\\":\\\"\",\"whole_bytes\":100}\n",
            "cut in the middle of a character"
        );
    }

    #[test]
    fn stages_have_numbers_and_words() {
        let transforms = ["wasm redact.wasm", "jq", "jq"].map(str::to_owned);
        let stage = |word| stage(word, &transforms);
        assert_eq!(stage("source"), Ok(Stage::Source));
        assert_eq!(stage("wasm"), Ok(Stage::Transform(0)));
        assert_eq!(stage("redact.wasm"), Ok(Stage::Transform(0)));
        assert_eq!(stage("3"), Ok(Stage::Transform(2)));
        assert_eq!(stage("4").unwrap_err(), "there is no transform 4: they are numbered 1 to 3");
        assert_eq!(stage("jq").unwrap_err(), "more than one transform is `jq`\nhint: say its number, such as 2 or 3");
        assert_eq!(stage("sorce").unwrap_err(), "there is no stage `sorce`\nhint: did you mean `source`?");
        assert_eq!(
            stage("elsewhere").unwrap_err(),
            "there is no stage `elsewhere`\nhint: it is one of source, 1, 2, 3, wasm, jq, format, rejected, delivered"
        );
    }

    #[test]
    fn wishes_have_bounds() {
        assert_eq!(wish("pipeline=a&rate=0").err().unwrap(), "`rate`: expected a number from 1 to 10000, found `0`");
        assert_eq!(wish("stge=x").err().unwrap(), "unknown key `stge`, expected pipeline, stage, limit or rate");
        let Wish { pipeline, stage, limit, rate } = wish("pipeline=a%2Eb&stage=1&limit=3").unwrap();
        assert_eq!((pipeline.as_str(), stage.as_str(), limit, rate), ("a.b", "1", 3, RATE_DEFAULT));
    }
}
