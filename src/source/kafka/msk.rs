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

#[cfg(test)]
mod tests {
    use super::*;

    /// What AWS's own signer for Python (1.0.2, with botocore 1.43.11) makes of it at noon, but for the name of who asks.
    const WITHOUT_SESSION: &str = "4b0559820ad5f2a7a2292d6ba70836193a2a2e97c50329005b484ebee691155b";

    fn url(session_token: Option<&str>) -> String {
        let credential = AwsCredential {
            key_id: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: session_token.map(str::to_owned),
        };
        let token = token("eu-central-1", &credential, 1_795_176_000_000).unwrap();
        String::from_utf8(base64_simd::URL_SAFE_NO_PAD.decode_to_vec(token).unwrap()).unwrap()
    }

    #[test]
    fn a_token_is_the_one_that_awss_own_signer_makes() {
        let url = url(None);
        let (url, agent) = url.rsplit_once('&').unwrap();
        assert_eq!(
            url,
            format!(
                "https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=AKIDEXAMPLE%2F20261120%2Feu-central-1%2Fkafka-cluster%2Faws4_request\
                 &X-Amz-Date=20261120T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
                 &X-Amz-Signature={WITHOUT_SESSION}"
            )
        );
        assert!(agent.starts_with("User-Agent=hydrant%2F"), "{agent}");
    }

    #[test]
    fn the_token_of_a_session_is_signed_too() {
        // AWS's signer writes it behind the signed headers' names, and sorts where it signs: the signature is the same.
        let url = url(Some("FwoGZXIvYXdzE/+=token=="));
        assert!(url.contains("&X-Amz-Security-Token=FwoGZXIvYXdzE%2F%2B%3Dtoken%3D%3D&"), "{url}");
        let signature = "a79d1114ed0adedd628d9edf0bcfab6f89d7d8b152d7cfcadef93c2b0307f852";
        assert!(url.contains(&format!("&X-Amz-Signature={signature}&")), "{url}");
    }
}
