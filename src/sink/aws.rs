//! Who we are to services of Amazon other than its store: a region, and keys as written or as the environment has them.

use std::sync::Arc;

use ::object_store::aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider};
use ::object_store::client::StaticCredentialProvider;

use super::{Text, retry};
use crate::error::innermost;

/// Keys as a user wrote them, if any; without them the credentials that the environment, the container or the instance
/// has.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    pub access_key_id: Option<&'a Text>,
    pub secret_access_key: Option<&'a Text>,
    pub session_token: Option<&'a Text>,
}

impl Keys<'_> {
    /// Those that are given, by the names of their options.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("access_key_id", self.access_key_id),
            ("secret_access_key", self.secret_access_key),
            ("session_token", self.session_token),
        ];
        all.into_iter().filter_map(|(key, text)| text.map(|Text(text)| (key, text.as_str())))
    }

    /// Whether they can be keys and belong together; the error names the option and says what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        // They go into headers as they are.
        let is_key = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some((key, _)) = self.given().find(|(_, text)| !is_key(text)) {
            return Err((key, "expected letters, digits and signs of ASCII, without spaces or line ends"));
        }
        match [self.access_key_id, self.secret_access_key, self.session_token].map(|text| text.is_some()) {
            [true, false, _] => Err(("access_key_id", "`secret_access_key` is missing")),
            [false, true, _] => Err(("secret_access_key", "`access_key_id` is missing")),
            [false, false, true] => Err(("session_token", "`access_key_id` is missing")),
            _ => Ok(()),
        }
    }

    /// Where credentials come from. Reads the environment if no keys are given; opens no socket. The error says why
    /// there are none, and holds no secret.
    pub fn provider(&self) -> Result<AwsCredentialProvider, String> {
        if let (Some(Text(key_id)), Some(Text(secret_key))) = (self.access_key_id, self.secret_access_key) {
            let token = self.session_token.map(|Text(token)| token.clone());
            let credential = AwsCredential { key_id: key_id.clone(), secret_key: secret_key.clone(), token };
            return Ok(Arc::new(StaticCredentialProvider::new(credential)));
        }
        // Another part of the process may have said so already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A store that is never used: the chain of credentials is made with it, and cannot be had alone.
        let store = AmazonS3Builder::from_env().with_bucket_name("credentials").with_retry(retry()).build();
        let store = store.map_err(|error| format!("no credentials: {}", innermost(&error)))?;
        Ok(store.credentials().clone())
    }
}

/// Whether this may be a region: it goes into hosts, headers and ARNs as it is.
pub fn check_region(region: &str) -> Result<(), String> {
    match !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        true => Ok(()),
        false => Err(format!("`{region}` is no region")),
    }
}

/// The region that the environment names, if it does, as SDKs have it.
pub fn region_of_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = variable(name).filter(|region| !region.is_empty()) {
            let checked = check_region(&region).map_err(|error| format!("{name}: {error}"));
            return checked.map(|()| Some(region));
        }
    }
    Ok(None)
}
