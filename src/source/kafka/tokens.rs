//! Tokens for SASL OAUTHBEARER: of an identity provider by OpenID Connect, or of AWS for MSK.
//!
//! librdkafka asks for one when a client begins, and again when four fifths of its life are over. It asks on the thread
//! that polls, which waits: a token comes within [`TIME_MAX`] or not at all, and is asked for again ten seconds later.

use std::error::Error;
use std::thread;
use std::time::Duration;

use rdkafka::client::OAuthToken;
use reqwest::redirect::Policy;
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::msk;
use super::options::Options;
use super::security::{Msk, Oauth, Sasl, region_of};
use crate::error::{innermost, said};
use crate::sink::Text;

/// How long a token may take.
const TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of a provider's answer at the most.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// How long a token lives whose provider does not say, in seconds.
const LIFE_S: u64 = 300;

/// Where a client's tokens come from.
#[derive(Clone)]
pub struct Tokens(From);

#[derive(Clone)]
enum From {
    Provider(Oauth),
    Aws(Msk),
}

type Failed = Box<dyn Error + Send + Sync>;

impl Options {
    /// Where tokens come from, if brokers are shown tokens.
    pub fn tokens(&self) -> Option<Tokens> {
        match &self.sasl {
            Some(Sasl::Oauthbearer(oauth)) => Some(Tokens(From::Provider(oauth.clone()))),
            Some(Sasl::AwsMskIam(msk)) => Some(Tokens(From::Aws(msk.clone()))),
            _ => None,
        }
    }
}

impl Tokens {
    /// A new token. Blocks, [`TIME_MAX`] at the most; may be called from anywhere. The error never holds a secret.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        // A thread of its own, as whoever polls may be a task; what it makes ends with it.
        let got = thread::scope(|scope| scope.spawn(|| self.token_here()).join());
        got.map_err(|_| "the thread that fetches tokens has panicked")?.map_err(|error| error as Box<dyn Error>)
    }

    fn token_here(&self) -> Result<OAuthToken, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let fetched = async {
                match &self.0 {
                    From::Provider(oauth) => of_provider(oauth).await,
                    From::Aws(msk) => of_aws(msk).await,
                }
            };
            match tokio::time::timeout(TIME_MAX, fetched).await {
                Ok(token) => token,
                Err(_) => Err(format!("no token within {} s", TIME_MAX.as_secs()).into()),
            }
        })
    }
}

/// RFC 6749, section 4.4, with the client's password in the header (section 2.3.1).
async fn of_provider(oauth: &Oauth) -> Result<OAuthToken, Failed> {
    // Another part of the process may have said so already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder()
        .user_agent(concat!("hydrant/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .build()
        .map_err(|error| format!("no client for https: {}", innermost(&error)))?;
    let Oauth { url, client_id: Text(id), client_secret, scope } = oauth;
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let login = format!("{}:{}", encoded(id), encoded(client_secret.expose()));
    let mut body = Serializer::new(String::new());
    body.append_pair("grant_type", "client_credentials");
    if let Some(scope) = scope {
        body.append_pair("scope", scope);
    }
    let request = http
        .post(url)
        .header("authorization", format!("Basic {}", base64_simd::STANDARD.encode_to_string(login)))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(body.finish());
    let asked_ms = now_ms();
    let mut answer = request.send().await.map_err(|error| format!("no answer of {url}: {}", innermost(&error)))?;
    let status = answer.status();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| format!("{url} broke off: {}", innermost(&error)))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(format!("{url} answers more than {ANSWER_BYTES_MAX} bytes").into());
        }
    }
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let field = |name: &str| answer[name].as_str().unwrap_or_default();
    if !status.is_success() {
        // RFC 6749, section 5.2.
        let why = [field("error"), field("error_description")].map(said);
        let why = why.iter().filter(|why| !why.is_empty()).map(String::as_str).collect::<Vec<_>>().join(": ");
        return Err(format!("{url} answers {}{}{why}", status.as_u16(), if why.is_empty() { "" } else { ": " }).into());
    }
    let token = field("access_token");
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{url} answers without an `access_token`").into());
    }
    let claims = claims(token);
    let lives_s = answer["expires_in"].as_u64().or_else(|| answer["expires_in"].as_str()?.parse().ok());
    let lifetime_ms = match (lives_s, claims["exp"].as_i64()) {
        (Some(lives_s), _) => asked_ms.saturating_add(i64::try_from(lives_s).unwrap_or(i64::MAX).saturating_mul(1000)),
        (None, Some(exp_s)) => exp_s.saturating_mul(1000),
        (None, None) => asked_ms.saturating_add(LIFE_S as i64 * 1000),
    };
    let principal_name = claims["sub"].as_str().unwrap_or(id).to_owned();
    Ok(OAuthToken { token: token.to_owned(), principal_name, lifetime_ms })
}

/// What a token says of itself, if it is a JWT; nothing is verified, that is for the broker.
fn claims(token: &str) -> Value {
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|part| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part.trim_end_matches('=')).ok());
    claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default()
}

async fn of_aws(msk: &Msk) -> Result<OAuthToken, Failed> {
    let region = region_of(msk, |name| std::env::var(name).ok())?;
    let credential = msk.keys().provider()?.get_credential().await;
    let credential = credential.map_err(|error| format!("no credentials: {}", innermost(&error)))?;
    let signed_ms = now_ms();
    let token = msk::token(&region, &credential, signed_ms).ok_or("the clock shows no time that can be signed")?;
    Ok(OAuthToken { token, principal_name: "hydrant".into(), lifetime_ms: signed_ms + msk::LIFE_MS })
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
