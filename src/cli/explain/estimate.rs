//! What a pipeline makes in an hour and what it may take, reckoned from a sample and a rate.
//!
//! A chunk of a shard has one object for each prefix that a record came for, or several where much came. Records come at
//! random times: of a prefix with few records, some chunks have none.

use std::str::FromStr;

use serde::Serialize;

use super::Sample;
use crate::config::{PipelineSpec, SourceSpec};
use crate::units::{Interval, Size};

/// The least size of an object that readers are glad of: each costs a request and a footer.
const GLAD_BYTES: u64 = 8 << 20;
/// More objects than these in an hour are many.
const OBJECTS_MANY: f64 = 1_000.0;
/// More prefixes than these in one sample are many.
const PREFIXES_MANY: usize = 100;
/// What is assumed if nobody tells.
const RATE_ASSUMED: f64 = 1_000.0;
/// Objects of fewer rows have more bytes for each than large ones.
const ROWS_TELLING: u64 = 10_000;

/// What comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Records in a second.
    Records(f64),
    /// Bytes of records in a second.
    Bytes(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("expected a rate such as `5000/s` or `10MiB/s`, found `{text}`");
        let (amount, per) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match per.trim() {
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let rate = match amount.trim().parse::<f64>() {
            Ok(records) => Rate::Records(records / seconds),
            Err(_) => Rate::Bytes(amount.parse::<Size>().map_err(|error| error.to_string())?.bytes() as f64 / seconds),
        };
        let (Rate::Records(number) | Rate::Bytes(number)) = rate;
        if number.is_finite() && number > 0.0 { Ok(rate) } else { Err(wrong()) }
    }
}

/// What an hour brings.
#[derive(Debug, Serialize)]
pub struct Estimate {
    pub assumed: Vec<String>,
    pub records_per_second: f64,
    pub bytes_in_per_second: f64,
    pub bytes_out_per_hour: f64,
    pub objects_per_hour: f64,
    pub object_bytes: f64,
    /// Of the prefix with the fewest records.
    pub smallest_object_bytes: f64,
    pub puts_per_hour: f64,
}

/// The most that it may take of something.
#[derive(Debug, Serialize)]
pub struct Most {
    pub of: &'static str,
    pub bytes: u64,
    pub why: String,
}

impl Estimate {
    /// What `sample` says of an hour in which `rate` comes; an object without records has `empty_bytes`.
    pub fn of(spec: &PipelineSpec, sample: &Sample, rate: Option<Rate>, empty_bytes: u64) -> Estimate {
        let record_bytes = sample.bytes as f64 / sample.records.max(1) as f64;
        let mut assumed = Vec::new();
        let per_second = match rate {
            Some(Rate::Records(records)) => records,
            Some(Rate::Bytes(bytes)) => bytes / record_bytes.max(1.0),
            None => {
                assumed.push(format!("{RATE_ASSUMED} records in a second: say what comes with --rate"));
                RATE_ASSUMED
            }
        };
        let from = match &spec.source {
            SourceSpec::Kafka(options) if options.merge => "one node",
            SourceSpec::Kafka(_) => "one partition: with more of them objects are more, and smaller",
            _ => "one shard",
        };
        assumed.push("records come evenly, for the prefixes of the sample in its proportions".into());
        assumed.push(format!("they come from {from}"));
        let seconds = spec.limits.interval.as_secs_f64().max(0.001);
        let size = spec.limits.size_bytes as f64;
        let (mut objects, mut puts, mut bytes_out) = (0.0, 0.0, 0.0);
        let mut smallest = f64::INFINITY;
        let few_rows = sample.prefixes.iter().all(|prefix| prefix.records < ROWS_TELLING);
        if few_rows && !sample.prefixes.is_empty() {
            assumed.push(
                "as many bytes for each record as in the small objects of the sample, and not more than it came with"
                    .into(),
            );
        }
        for prefix in &sample.prefixes {
            // In one interval.
            let records = per_second * seconds * prefix.records as f64 / sample.records.max(1) as f64;
            let net = prefix.bytes.saturating_sub(empty_bytes) as f64 / prefix.records.max(1) as f64;
            let bytes = records * if few_rows { net.min(record_bytes) } else { net };
            // A full object is followed by the next one.
            let full = if bytes > size { (bytes / size).ceil() } else { 0.0 };
            let made = (1.0 - (-records).exp()).max(full);
            let bytes = bytes + made * empty_bytes as f64;
            let of_one = if made > 0.0 { bytes / made } else { 0.0 };
            smallest = smallest.min(of_one);
            objects += made;
            bytes_out += bytes;
            puts += made * requests(spec, of_one);
        }
        let an_hour = 3600.0 / seconds;
        Estimate {
            assumed,
            records_per_second: per_second,
            bytes_in_per_second: per_second * record_bytes,
            bytes_out_per_hour: bytes_out * an_hour,
            objects_per_hour: objects * an_hour,
            object_bytes: if objects > 0.0 { bytes_out / objects } else { 0.0 },
            smallest_object_bytes: if smallest.is_finite() { smallest } else { 0.0 },
            puts_per_hour: puts * an_hour,
        }
    }
}

/// Requests for one object: one, or one for each part and two around them.
fn requests(spec: &PipelineSpec, bytes: f64) -> f64 {
    match bytes > spec.sink.multipart_above as f64 {
        true => (bytes / spec.sink.part_size.max(1) as f64).ceil() + 2.0,
        false => 1.0,
    }
}

/// The most memory and disk that it may take.
pub fn limits(spec: &PipelineSpec) -> Vec<Most> {
    let most = |of, bytes, why: &str| Most { of, bytes, why: why.to_owned() };
    let mut limits = vec![most(
        "memory",
        crate::config::MEMORY_DEFAULT.bytes(),
        "by default (`memory` of hydrant.yaml), for all pipelines together: requests, encoders, uploads",
    )];
    if let Some(stream) = spec.stream() {
        let why = format!("spool of the stream `{}`; above, producers are told to slow down", stream.name);
        limits.push(most("disk", stream.spool_bytes_max, &why));
    }
    let outbox = crate::pipeline::outbox_bytes_max(spec.limits.size_bytes);
    limits.push(most("disk", outbox, "outbox: what is promised and not yet delivered; above, reading pauses"));
    limits.push(most("disk", crate::chunk::CHUNK_BYTES_MAX, "the open chunk, of each shard"));
    limits
}

/// What a friend would say.
pub fn warnings(spec: &PipelineSpec, sample: Option<&Sample>, estimate: Option<&Estimate>) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(sample) = sample else { return warnings };
    let rejected: usize = sample.rejected.iter().map(|reason| reason.records).sum();
    if rejected * 10 > sample.records {
        warnings.push(format!("{rejected} of {} records of the sample are set aside", sample.records));
    }
    if sample.prefixes.is_empty() {
        warnings.push("no record of the sample comes out".into());
    }
    let many = sample.prefixes.len();
    if many > PREFIXES_MANY || many > 10 && many * 4 > sample.records {
        warnings.push(format!(
            "{many} prefixes for {} records: each has an object of its own, and so objects stay small\n\
             hint: leave fields with many values (ids, times of day) out of the `prefix`, and keep them as columns",
            sample.records
        ));
    }
    let interval = Interval::from_millis(u64::try_from(spec.limits.interval.as_millis()).unwrap_or(u64::MAX));
    let Some(estimate) = estimate else { return warnings };
    if estimate.object_bytes < GLAD_BYTES as f64 && estimate.objects_per_hour > OBJECTS_MANY / 20.0 {
        let wanted = match estimate.object_bytes > 0.0 {
            true => {
                (spec.limits.interval.as_secs_f64() * GLAD_BYTES as f64 / estimate.object_bytes / 60.0).ceil().max(1.0)
            }
            false => 15.0,
        };
        let hint = match wanted <= 60.0 {
            true => format!("an interval of {wanted}m would make them {} or more", Size::from_bytes(GLAD_BYTES)),
            false => "a longer interval, fewer prefixes, or one job that joins them later".to_owned(),
        };
        warnings.push(format!(
            "objects of {} on average, as the interval of {interval} ends them long before {}\nhint: {hint}",
            super::shown::bytes(estimate.object_bytes),
            Size::from_bytes(spec.limits.size_bytes)
        ));
    }
    if estimate.objects_per_hour > OBJECTS_MANY && estimate.object_bytes < (8 * GLAD_BYTES) as f64 {
        warnings.push(format!(
            "{} objects in an hour: listing and opening them costs readers more than their bytes",
            super::shown::number(estimate.objects_per_hour)
        ));
    }
    warnings.extend(of_times(spec));
    warnings
}

/// What the times in the prefix do to objects.
fn of_times(spec: &PipelineSpec) -> Option<String> {
    let prefix = spec.sink.prefix.as_deref().unwrap_or_default();
    let has = |signs: [&str; 2]| signs.iter().any(|sign| prefix.contains(sign));
    if has(["%M", ":mm"]) || prefix.contains("/mm") {
        return Some(
            "the prefix tells minutes: each minute has objects of its own\nhint: end it at the hour or the day".into(),
        );
    }
    if !has(["%H", "HH"]) {
        return None;
    }
    match &spec.limits.aligned {
        None if spec.limits.interval.as_secs() >= 1800 => Some(
            "the prefix tells hours, and a chunk may hold parts of two of them\nhint: write `1h aligned` or shorter"
                .into(),
        ),
        None => None,
        Some(_) if spec.limits.interval.as_secs() > 3600 => {
            Some("the prefix tells hours, and the interval is longer than one".into())
        }
        Some(_) => None,
    }
}
