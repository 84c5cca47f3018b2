//! Bodies: read whole within limits of size, time and the process's byte budget, and decompressed within others.
//!
//! The promise: a client can make us hold only what it has really sent (times the ratio limit), all of it counted
//! in the budget before it is allocated; and it can make us wait only so long.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::Limits;

/// One permit of the budget stands for so many bytes.
pub const PERMIT_BYTES: usize = 1024;

/// The first room a body gets; it grows fourfold as bytes really come.
const FIRST_BYTES: usize = 64 * 1024;

/// Output against input above which a body is called a bomb (1 GiB of zeros makes 1029 in gzip).
const RATIO_MAX: usize = 200;

/// Output up to which the ratio does not matter.
const RATIO_FREE_BYTES: usize = 1024 * 1024;

/// log2 of the largest zstd window, 8 MiB: what `zstd -19` uses.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a decoder holds beside its output: a zstd window, of which no more is touched than was put out.
const DECODER_BYTES_MAX: usize = 1 << ZSTD_WINDOW_LOG_MAX;

/// How long the rest of a body that is too large is read and thrown away, so that the client gets to read the answer.
const LINGER: Duration = Duration::from_secs(5);

/// Why there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes than this.
    TooLarge { bytes_max: usize },
    /// Decompressed, it is more bytes than this.
    InflatedTooLarge { bytes_max: usize },
    /// It grows more than 200-fold when decompressed.
    Bomb,
    /// It came too slowly.
    TooSlow,
    /// The process holds as many bytes as it may: try again later.
    NoRoom,
    /// The connection broke, or its framing is wrong.
    Broken(String),
    /// Not the compression that was announced.
    NotCompressed { encoding: &'static str, why: String },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge { bytes_max } => write!(f, "body exceeds {bytes_max} bytes"),
            BodyError::InflatedTooLarge { bytes_max } => write!(f, "decompressed body exceeds {bytes_max} bytes"),
            BodyError::Bomb => write!(f, "body grows more than {RATIO_MAX}-fold when decompressed"),
            BodyError::TooSlow => f.write_str("body came too slowly"),
            BodyError::NoRoom => f.write_str("too many bytes in flight"),
            BodyError::Broken(why) => write!(f, "body is incomplete: {why}"),
            BodyError::NotCompressed { encoding, why } => write!(f, "body is not valid {encoding}: {why}"),
        }
    }
}

/// Bytes of the budget that one request holds; given back when dropped.
pub struct Held {
    budget: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    permits: usize,
}

impl Held {
    /// Nothing yet.
    pub fn new(budget: &Arc<Semaphore>) -> Held {
        Held { budget: budget.clone(), permit: None, permits: 0 }
    }

    /// Holds `bytes` in all, waiting for room, but no longer than `wait`: requests that wait for one another's room
    /// must not wait for ever. Cancel-safe.
    pub async fn grow(&mut self, bytes: usize, wait: Duration) -> Result<(), BodyError> {
        let Some(more) = self.missing(bytes) else { return Ok(()) };
        match timeout(wait, self.budget.clone().acquire_many_owned(more)).await {
            Ok(Ok(permit)) => self.add(permit),
            Ok(Err(_)) | Err(_) => Err(BodyError::NoRoom),
        }
    }

    /// Holds `bytes` in all, or fails at once.
    pub fn try_grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let Some(more) = self.missing(bytes) else { return Ok(()) };
        match self.budget.clone().try_acquire_many_owned(more) {
            Ok(permit) => self.add(permit),
            Err(_) => Err(BodyError::NoRoom),
        }
    }

    fn missing(&self, bytes: usize) -> Option<u32> {
        let more = bytes.div_ceil(PERMIT_BYTES).saturating_sub(self.permits);
        (more > 0).then(|| u32::try_from(more).unwrap_or(u32::MAX))
    }

    fn add(&mut self, permit: OwnedSemaphorePermit) -> Result<(), BodyError> {
        self.permits += permit.num_permits();
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// Reads a whole body of at most `limits.body_bytes_max`; `expects_continue` says that the client waits for our word
/// before it sends anything. Cancel-safe in that nothing is left behind.
pub async fn read<B>(mut body: B, expects_continue: bool, limits: &Limits, held: &mut Held) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: fmt::Display,
{
    let bytes_max = limits.body_bytes_max;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let deadline = Instant::now() + limits.body_time_max;
    if announced > bytes_max {
        if !expects_continue {
            discard(&mut body).await;
        }
        return Err(BodyError::TooLarge { bytes_max });
    }
    let mut data = BytesMut::new();
    let mut room = 0;
    loop {
        let next = timeout_at(deadline, timeout(limits.body_idle_time_max, body.frame())).await;
        let frame = match next {
            Err(_) | Ok(Err(_)) => return Err(BodyError::TooSlow),
            Ok(Ok(None)) => return Ok(data.freeze()),
            Ok(Ok(Some(Err(error)))) => return Err(BodyError::Broken(error.to_string())),
            Ok(Ok(Some(Ok(frame)))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        let len = data.len() + piece.len();
        if len > bytes_max {
            drop(data);
            discard(&mut body).await;
            return Err(BodyError::TooLarge { bytes_max });
        }
        if len > room {
            let wished = if announced > 0 { announced } else { bytes_max };
            room = (room * 4).max(FIRST_BYTES).min(wished).max(len);
            held.grow(room, limits.budget_wait_max).await?;
            data.reserve(room - data.len());
        }
        data.extend_from_slice(&piece);
    }
}

/// Reads on without keeping, for a while: closing a connection with unread bytes would reset it, and the answer that
/// tells the client what is wrong would be lost.
async fn discard<B: Body + Unpin>(body: &mut B) {
    let drained = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whether all was read or the time is up, the answer goes out now.
    let _ = timeout(LINGER, drained).await;
}

/// Compressions of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// From the value of `Content-Encoding`; `None` if it is none of ours, or several layers.
    pub fn parse(header: &str) -> Option<Encoding> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Encoding::Identity),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            "zstd" => Some(Encoding::Zstd),
            _ => None,
        }
    }
}

/// Decompresses a body within `limits.inflated_bytes_max` and the ratio limit. CPU work.
pub fn inflate(body: Bytes, encoding: Encoding, limits: &Limits, held: &mut Held) -> Result<Bytes, BodyError> {
    match encoding {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => drain(flate2::bufread::MultiGzDecoder::new(&body[..]), &body, "gzip", limits, held),
        Encoding::Zstd => {
            let fault = |error: std::io::Error| BodyError::NotCompressed { encoding: "zstd", why: error.to_string() };
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(fault)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(fault)?;
            drain(decoder, &body, "zstd", limits, held)
        }
    }
}

fn drain(
    mut decoder: impl Read,
    body: &[u8],
    encoding: &'static str,
    limits: &Limits,
    held: &mut Held,
) -> Result<Bytes, BodyError> {
    let ratio_bytes_max = body.len().saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    let bytes_max = limits.inflated_bytes_max;
    let mut out: Vec<u8> = Vec::new();
    let mut len = 0;
    loop {
        if len == out.len() {
            let room = (out.len() * 4).clamp(FIRST_BYTES, bytes_max + 1).max(out.len() + 1);
            held.try_grow(body.len() + room.saturating_mul(2).min(room + DECODER_BYTES_MAX))?;
            out.resize(room, 0);
        }
        match decoder.read(&mut out[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(BodyError::NotCompressed { encoding, why: error.to_string() }),
        }
        if len > ratio_bytes_max {
            return Err(BodyError::Bomb);
        }
        if len > bytes_max {
            return Err(BodyError::InflatedTooLarge { bytes_max });
        }
    }
    out.truncate(len);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::Full;

    use super::*;

    fn budget(kib: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(kib))
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn inflated(body: Bytes, encoding: Encoding) -> Result<Bytes, BodyError> {
        inflate(body, encoding, &Limits::default(), &mut Held::new(&budget(1 << 20)))
    }

    async fn read_of(len: usize, limits: &Limits, budget: &Arc<Semaphore>) -> Result<usize, BodyError> {
        let mut held = Held::new(budget);
        let body = read(Full::new(Bytes::from(vec![b'x'; len])), false, limits, &mut held).await?;
        Ok(body.len())
    }

    #[tokio::test]
    async fn a_body_has_a_largest_size() {
        let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
        assert_eq!(read_of(1000, &limits, &budget(100)).await, Ok(1000));
        assert_eq!(read_of(1001, &limits, &budget(100)).await, Err(BodyError::TooLarge { bytes_max: 1000 }));
        assert_eq!(read_of(0, &limits, &budget(0)).await, Ok(0));
    }

    #[tokio::test]
    async fn bytes_are_held_in_the_budget_and_given_back() {
        let limits = Limits { budget_wait_max: Duration::from_millis(1), ..Limits::default() };
        let budget = budget(100);
        let mut held = Held::new(&budget);
        held.grow(60 * 1024, limits.budget_wait_max).await.unwrap();
        held.grow(30 * 1024, limits.budget_wait_max).await.unwrap();
        assert_eq!(budget.available_permits(), 40);
        assert_eq!(read_of(50 * 1024, &limits, &budget).await, Err(BodyError::NoRoom));
        assert_eq!(held.try_grow(101 * 1024), Err(BodyError::NoRoom));
        drop(held);
        assert_eq!(read_of(50 * 1024, &limits, &budget).await, Ok(50 * 1024));
        assert_eq!(budget.available_permits(), 100);
    }

    #[test]
    fn compressed_bodies_are_what_they_were() {
        let text = b"{\"a\":1}\n".repeat(300_000);
        let members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        assert_eq!(inflated(members.into(), Encoding::Gzip).unwrap(), text);
        let noise: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let frame = zstd::stream::encode_all(&noise[..], 1).unwrap();
        assert_eq!(inflated(frame.into(), Encoding::Zstd).unwrap(), noise);
        assert_eq!(inflated(Bytes::from_static(b"x"), Encoding::Identity).unwrap(), "x");
    }

    #[test]
    fn a_gibibyte_of_zeros_is_a_bomb() {
        let zeros = vec![0; 1024 * 1024];
        let bomb = Bytes::from(gzip(&zeros).repeat(1024));
        let refused = inflated(bomb, Encoding::Gzip);
        assert_eq!(refused, Err(BodyError::InflatedTooLarge { bytes_max: 64 * 1024 * 1024 }));
        let small = Bytes::from(zstd::stream::encode_all(&zeros.repeat(8)[..], 1).unwrap());
        assert_eq!(inflated(small, Encoding::Zstd), Err(BodyError::Bomb));
    }

    #[test]
    fn the_inflated_size_is_limited_to_the_byte() {
        let limits = Limits { inflated_bytes_max: 100_000, ..Limits::default() };
        let try_size = |len| inflate(gzip(&vec![b'x'; len]), Encoding::Gzip, &limits, &mut Held::new(&budget(1 << 20)));
        assert_eq!(try_size(100_000).unwrap().len(), 100_000);
        assert_eq!(try_size(100_001), Err(BodyError::InflatedTooLarge { bytes_max: 100_000 }));
    }

    #[test]
    fn inflating_takes_its_bytes_from_the_budget_first() {
        let text = b"{\"a\":1}\n".repeat(10_000);
        let budget = budget(64);
        let mut held = Held::new(&budget);
        let result = inflate(gzip(&text), Encoding::Gzip, &Limits::default(), &mut held);
        assert_eq!(result, Err(BodyError::NoRoom));
    }

    #[test]
    fn what_is_not_compressed_is_refused() {
        for (encoding, name) in [(Encoding::Gzip, "gzip"), (Encoding::Zstd, "zstd")] {
            let refused = inflated(Bytes::from_static(b"{\"a\":1}"), encoding).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("body is not valid {name}: ")), "{refused}");
        }
        let whole = gzip(b"{\"a\":1}\n");
        for len in 1..whole.len() {
            assert!(inflated(whole.slice(..len), Encoding::Gzip).is_err(), "{len}");
        }
        assert!(inflated([&whole[..], b"junk"].concat().into(), Encoding::Gzip).is_err());
        // A frame header that asks for a window of 2 GiB.
        let window = Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]);
        assert!(inflated(window, Encoding::Zstd).is_err());
    }

    #[test]
    fn encodings_are_known_by_name() {
        assert_eq!(Encoding::parse(" GZIP "), Some(Encoding::Gzip));
        assert_eq!(Encoding::parse("zstd"), Some(Encoding::Zstd));
        assert_eq!(Encoding::parse(""), Some(Encoding::Identity));
        assert_eq!(Encoding::parse("br"), None);
        assert_eq!(Encoding::parse("gzip, gzip"), None);
    }
}
