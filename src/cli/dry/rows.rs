//! Reads objects back, as their readers see them: rows as JSON, or as the texts that they are.

use std::io::{self, Read};

use bytes::Bytes;
use serde_json::Value;

use super::{Object, Reject, arrow};
use crate::config::PipelineSpec;

/// What is said of the one format that we write and do not read.
const NO_AVRO: &str = "objects of Avro are not read back here\n\
                       hint: leave `output` out (`objects`, `rejects` and `dropped` are compared), or try the case with \
                       `json_array` as the format";

/// Rows of an object in their order.
type Rows = Vec<Value>;

impl Object {
    /// Its rows: of Parquet, JSON arrays and JSON lines as JSON; of CSV and other lines as texts.
    pub fn rows(&self, spec: &PipelineSpec) -> io::Result<Rows> {
        match spec.drawn.format.as_str() {
            "parquet" => arrow::rows(self.bytes.clone()),
            "avro" => Err(io::Error::other(NO_AVRO)),
            "json_array" => serde_json::from_slice(&unpacked(&self.name, &self.bytes)?).map_err(io::Error::other),
            "csv" => Ok(lines(&unpacked(&self.name, &self.bytes)?, |line| Value::String(line.into_owned()))),
            _ => Ok(lines(&unpacked(&self.name, &self.bytes)?, |line| match serde_json::from_str(&line) {
                Ok(value) => value,
                Err(_) => Value::String(line.into_owned()),
            })),
        }
    }
}

fn lines(bytes: &[u8], row: impl Fn(std::borrow::Cow<'_, str>) -> Value) -> Rows {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == b'\n').map(|line| row(String::from_utf8_lossy(line))).collect()
}

/// What was compressed, by its first bytes; Hadoop's blocks have none of their own, but an extension.
fn unpacked(name: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).map(drop)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => out = zstd::stream::decode_all(bytes)?,
        [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => {
            snap::read::FrameDecoder::new(bytes).read_to_end(&mut out).map(drop)?;
        }
        _ if name.ends_with(".snappy") => out = hadoop_blocks(bytes).ok_or_else(|| io::Error::other("cut off"))?,
        _ => out.extend_from_slice(bytes),
    }
    Ok(out)
}

/// Raw length, compressed length, raw snappy; and again.
fn hadoop_blocks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some((_, rest)) = bytes.split_first_chunk::<4>() {
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (block, rest) = rest.split_at_checked(len)?;
        out.extend(snap::raw::Decoder::new().decompress_vec(block).ok()?);
        bytes = rest;
    }
    Some(out)
}

/// The lines of an error object of this reason.
pub fn rejects(reason: &str, bytes: &[u8]) -> io::Result<Vec<Reject>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map(|line| reject(reason, line)).map_err(io::Error::other)).collect()
}

fn reject(reason: &str, line: Value) -> Reject {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of_format = line.get("lastErrorCode").is_some();
    let (code, message) = match of_format {
        true => (text("lastErrorCode"), text("lastErrorMessage")),
        false => (text("errorCode"), text("errorMessage")),
    };
    let record = base64_simd::STANDARD.decode_to_vec(text("rawData")).unwrap_or_default();
    Reject { reason: reason.to_owned(), code, message, record: Bytes::from(record) }
}
