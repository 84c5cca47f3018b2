//! The request of one call, as Firehose makes it, and which records go into one.
//!
//! ```text
//! {"invocationId":"<uuid>","deliveryStreamArn":"..","region":"..","records":[
//!   {"recordId":"<56 digits>","approximateArrivalTimestamp":1795217400000,"data":"<base64>"},
//!   {"recordId":"<56 digits>","approximateArrivalTimestamp":1795217400000,                      of a source with topics
//!    "mskRecordMetadata":{"offset":"7","partitionId":"3","approximateArrivalTimestamp":1795217400000},
//!    "kafkaRecordValue":"<base64>"}]}
//! ```
//! A call that is repeated has the same records and record ids, and another `invocationId`, as captured from Firehose.

use std::ops::Range;

use crate::ground::Random;
use crate::record::Batch;

/// Bytes of a request at the most (Lambda's quota, "Invocation payload": 6 MB each for request and response).
pub const REQUEST_BYTES_MAX: usize = 6 << 20;

/// What a record takes in a request beside its data, at the most; and what the metadata of topics takes.
const RECORD_BYTES: usize = 140;
const ORIGIN_BYTES: usize = 180;

/// What all requests of a function begin with.
pub struct Envelope {
    /// From behind the invocation id up to the first record.
    head: String,
}

impl Envelope {
    /// Requests that say they come from this delivery stream.
    pub fn new(delivery_stream_arn: &str, region: &str) -> Envelope {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let (stream, region) = (text(delivery_stream_arn), text(region));
        Envelope { head: format!("\",\"deliveryStreamArn\":{stream},\"region\":{region},\"records\":[") }
    }

    /// The rows of a batch, call by call: each has payloads of at most `size_bytes` and fits into a request, unless it is a
    /// single record.
    pub fn split(&self, batch: &Batch, size_bytes: u64) -> Vec<Range<usize>> {
        let size_bytes = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        let mut parts = Vec::new();
        let (mut start, mut payload_bytes, mut request_bytes) = (0, 0, self.frame_bytes());
        for (row, payload) in batch.payloads().enumerate() {
            let record_bytes = record_bytes(batch, row);
            let full = payload_bytes + payload.len() > size_bytes || request_bytes + record_bytes > REQUEST_BYTES_MAX;
            if full && row > start {
                parts.push(start..row);
                (start, payload_bytes, request_bytes) = (row, 0, self.frame_bytes());
            }
            payload_bytes += payload.len();
            request_bytes += record_bytes;
        }
        if start < batch.len() {
            parts.push(start..batch.len());
        }
        parts
    }

    /// Whether these rows fit into a request: what `split` gives does, but for a record that is too large alone.
    pub fn fits(&self, batch: &Batch, rows: &Range<usize>) -> bool {
        rows.len() > 1 || self.bytes_most(batch, rows) <= REQUEST_BYTES_MAX
    }

    fn frame_bytes(&self) -> usize {
        "{\"invocationId\":\"".len() + UUID_BYTES + self.head.len() + "]}".len()
    }

    fn bytes_most(&self, batch: &Batch, rows: &Range<usize>) -> usize {
        self.frame_bytes() + rows.clone().map(|row| record_bytes(batch, row)).sum::<usize>()
    }

    /// The body of a request with these rows. CPU work: base64 of the payloads.
    pub fn body(&self, batch: &Batch, rows: &Range<usize>, ids: &Ids, random: &Random) -> Vec<u8> {
        let bytes_most = self.bytes_most(batch, rows);
        let mut body = Vec::with_capacity(bytes_most);
        body.extend_from_slice(b"{\"invocationId\":\"");
        body.extend_from_slice(uuid(random).as_bytes());
        body.extend_from_slice(self.head.as_bytes());
        for (number, row) in rows.clone().enumerate() {
            if number > 0 {
                body.push(b',');
            }
            push_record(&mut body, batch, row, &ids.of(number));
        }
        body.extend_from_slice(b"]}");
        debug_assert!(body.len() <= bytes_most, "the room that was taken is enough");
        body
    }
}

fn record_bytes(batch: &Batch, row: usize) -> usize {
    let origin_bytes = if batch.origin(row).is_some() { ORIGIN_BYTES } else { 0 };
    RECORD_BYTES + origin_bytes + base64_simd::STANDARD.encoded_length(batch.payload(row).len())
}

fn push_record(body: &mut Vec<u8>, batch: &Batch, row: usize, id: &str) {
    let arrival_ms = batch.arrival_ms(row).to_string();
    let mut push = |text: &str| body.extend_from_slice(text.as_bytes());
    push("{\"recordId\":\"");
    push(id);
    push("\",\"approximateArrivalTimestamp\":");
    push(&arrival_ms);
    match batch.origin(row) {
        None => push(",\"data\":\""),
        Some(origin) => {
            push(",\"mskRecordMetadata\":{\"offset\":\"");
            push(&origin.offset.to_string());
            push("\",\"partitionId\":\"");
            push(&origin.partition.to_string());
            push("\",\"approximateArrivalTimestamp\":");
            push(&arrival_ms);
            push("},\"kafkaRecordValue\":\"");
        }
    }
    base64_simd::STANDARD.encode_append(batch.payload(row), body);
    body.extend_from_slice(b"\"}");
}

/// The record ids of one call: `49`, 39 digits by chance, 15 digits of the record's number in the call.
pub struct Ids {
    prefix: String,
}

/// Digits of a record's number.
const NUMBER_DIGITS: usize = 15;

impl Ids {
    /// Ids that no other call has.
    pub fn new(random: &Random) -> Ids {
        Ids { prefix: format!("49{:039}", u128_of(random)) }
    }

    /// The id of the record with this number in the call.
    pub fn of(&self, number: usize) -> String {
        format!("{}{number:0width$}", self.prefix, width = NUMBER_DIGITS)
    }

    /// The number of the record with this id; `None`: it is no id of this call.
    pub fn number(&self, id: &str) -> Option<usize> {
        let digits = id.strip_prefix(&self.prefix)?;
        let whole = digits.len() == NUMBER_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| whole)
    }
}

const UUID_BYTES: usize = 36;

/// A random UUID (RFC 9562, version 4).
fn uuid(random: &Random) -> String {
    let bits = u128_of(random) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let mut text = String::with_capacity(UUID_BYTES);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

fn u128_of(random: &Random) -> u128 {
    u128::from(random.u64()) << 64 | u128::from(random.u64())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::record::BatchBuilder;

    fn envelope() -> Envelope {
        Envelope::new("arn:aws:firehose:eu-central-1:000000000000:deliverystream/clicks", "eu-central-1")
    }

    fn batch(payloads: &[&[u8]]) -> Batch {
        let mut batch = BatchBuilder::default();
        payloads.iter().for_each(|payload| batch.push(payload, 1_795_217_400_000));
        batch.finish()
    }

    #[test]
    fn a_request_is_what_firehose_sends() {
        let batch = batch(&[b"left out", b"hello", b"", b"\xff\xfe"]);
        let (random, ids) = (Random::real(), Ids::new(&Random::new(|| 7)));
        let body = envelope().body(&batch, &(1..4), &ids, &random);
        let request: Value = serde_json::from_slice(&body).unwrap();
        let record = |number: usize, data: &str| json!({ "recordId": ids.of(number), "approximateArrivalTimestamp": 1_795_217_400_000_i64, "data": data });
        let invocation = request["invocationId"].as_str().unwrap();
        assert_eq!(
            request,
            json!({
                "invocationId": invocation,
                "deliveryStreamArn": "arn:aws:firehose:eu-central-1:000000000000:deliverystream/clicks",
                "region": "eu-central-1",
                "records": [record(0, "aGVsbG8="), record(1, ""), record(2, "//4=")],
            })
        );
        let again: Value = serde_json::from_slice(&envelope().body(&batch, &(1..4), &ids, &random)).unwrap();
        assert_eq!(again["records"], request["records"]);
        assert_ne!(again["invocationId"], request["invocationId"], "each call has an id of its own");
    }

    #[test]
    fn records_of_topics_go_as_from_msk() {
        let mut batch = BatchBuilder::default();
        batch.set_topic(&"orders".into(), u32::MAX);
        batch.push_known(b"hello", i64::MIN, (Some(b"key"), u64::MAX), []);
        let batch = batch.finish();
        let ids = Ids::new(&Random::real());
        let body = envelope().body(&batch, &(0..1), &ids, &Random::real());
        assert!(envelope().fits(&batch, &(0..1)), "the longest record there is");
        let request: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            request["records"],
            json!([{
                "recordId": ids.of(0),
                "approximateArrivalTimestamp": i64::MIN,
                "mskRecordMetadata": {
                    "offset": u64::MAX.to_string(),
                    "partitionId": u32::MAX.to_string(),
                    "approximateArrivalTimestamp": i64::MIN,
                },
                "kafkaRecordValue": "aGVsbG8=",
            }])
        );
    }

    #[test]
    fn a_uuid_has_its_form() {
        for bits in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            let uuid = uuid(&Random::new(move || bits));
            let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12]);
            assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
            assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
    }

    #[test]
    fn ids_have_56_digits_and_lead_back() {
        for seed in [0, u64::MAX] {
            let ids = Ids::new(&Random::new(move || seed));
            let id = ids.of(4711);
            assert!(id.len() == 56 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
            assert_eq!(ids.number(&id), Some(4711));
            for foreign in ["", "4711", &id[..55], &format!("{id}0"), &Ids::new(&Random::new(move || !seed)).of(4711)] {
                assert_eq!(ids.number(foreign), None, "{foreign}");
            }
        }
    }

    #[test]
    fn parts_have_the_size_and_fit_into_a_request() {
        let (one, small) = (vec![b'x'; 400 << 10], vec![b'y'; 10]);
        let large = batch(&[&one, &one, &small, &one, &one, &one]);
        assert_eq!(envelope().split(&large, 1 << 20), [0..3, 3..5, 5..6]);

        let payloads = vec![&small[..]; 60_000];
        let many = batch(&payloads);
        let parts = envelope().split(&many, 3 << 20);
        assert!(parts.len() > 1, "60,000 small records are more than a request");
        assert!(parts.windows(2).all(|two| two[0].end == two[1].start), "{parts:?}");
        assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, payloads.len()));
        let (ids, random) = (Ids::new(&Random::real()), Random::real());
        for rows in &parts {
            assert!(envelope().body(&many, rows, &ids, &random).len() <= REQUEST_BYTES_MAX);
        }

        let alone = vec![b'z'; REQUEST_BYTES_MAX / 4 * 3];
        let with_giant = batch(&[&small, &alone, &small]);
        let parts = envelope().split(&with_giant, 1 << 20);
        assert_eq!(parts, [0..1, 1..2, 2..3]);
        let fits: Vec<bool> = parts.iter().map(|rows| envelope().fits(&with_giant, rows)).collect();
        assert_eq!(fits, [true, false, true]);
        assert!(envelope().split(&Batch::default(), 1).is_empty());
    }
}
