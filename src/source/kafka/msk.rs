//! Tokens of AWS for MSK: a URL that is signed by IAM's Signature Version 4, as text.
//!
//! ```text
//! base64url( https://kafka.{region}.amazonaws.com/?Action=kafka-cluster:Connect&X-Amz-Algorithm=..&X-Amz-Signature=..&User-Agent=.. )
//! ```
//! Sources: AWS General Reference, "Signature Version 4", query parameters; github.com/aws/aws-msk-iam-sasl-signer-python.

use std::fmt::Write;

use ::object_store::aws::AwsCredential;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How long a token is good for, in milliseconds, as AWS's own signers have it.
pub const LIFE_MS: i64 = 900_000;

const SERVICE: &str = "kafka-cluster";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The token that `credential` signs at `now_ms` (Unix milliseconds). `None`: no time that a calendar has.
pub fn token(region: &str, credential: &AwsCredential, now_ms: i64) -> Option<String> {
    let now = Timestamp::from_millisecond(now_ms).ok()?;
    let (time, date) = (now.strftime("%Y%m%dT%H%M%SZ").to_string(), now.strftime("%Y%m%d").to_string());
    let scope = format!("{date}/{region}/{SERVICE}/aws4_request");
    let host = format!("kafka.{region}.amazonaws.com");
    // In the order of their names.
    let mut query = format!(
        "Action=kafka-cluster%3AConnect&X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={time}&X-Amz-Expires={}",
        encoded(&format!("{}/{scope}", credential.key_id)),
        LIFE_MS / 1000,
    );
    if let Some(token) = &credential.token {
        query.push_str(&format!("&X-Amz-Security-Token={}", encoded(token)));
    }
    query.push_str("&X-Amz-SignedHeaders=host");
    let canonical = format!("GET\n/\n{query}\nhost:{host}\n\nhost\n{}", hex(&Sha256::digest(b"")));
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let key = [date.as_str(), region, SERVICE, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", credential.secret_key).into_bytes(), |key, part| hmac(&key, part));
    let signature = hex(&hmac(&key, &to_sign));
    let agent = encoded(concat!("hydrant/", env!("CARGO_PKG_VERSION")));
    let url = format!("https://{host}/?{query}&X-Amz-Signature={signature}&User-Agent={agent}");
    Some(base64_simd::URL_SAFE_NO_PAD.encode_to_string(url))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// All but RFC 3986's unreserved characters as `%XX`.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}
