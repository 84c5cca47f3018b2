//! Secrets: texts that are never printed.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Visitor};

use crate::nearest::nearest;

/// A text that shows itself only to those who ask for it by [`Secret::expose`].
///
/// In configuration it is written as `env:NAME`, `file:/path` or `cred:name` (a systemd credential), which
/// [`crate::config`] replaces by what they name; a literal one works, with a warning.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The name under which a deserializer recognises a secret.
    pub const NAME: &'static str = "hydrant::Secret";

    /// Keeps `text` from being printed.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text. Must not be logged, shown or put into an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-type": "secret", "examples": ["env:NAME", "file:/path", "cred:name"] })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        struct Secrets;
        impl<'de> Visitor<'de> for Secrets {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret such as `env:NAME`, `file:/path` or `cred:name`")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Secret, D::Error> {
                String::deserialize(deserializer).map(Secret)
            }
        }
        deserializer.deserialize_newtype_struct(Secret::NAME, Secrets)
    }
}

/// Whether a key by its name holds a secret: `secret`, `aws_secret_access_key`, `token`, `azure_storage_account_key`,
/// also if it is misspelt.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let words = ["secret", "password", "passwd", "token"];
    if key.split('_').any(|part| nearest(part, words).is_some()) {
        return true;
    }
    words.iter().any(|word| key.contains(word)) || key == "key" || key.ends_with("_key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(***) Some(Secret(***))");
    }

    #[test]
    fn keys_of_secrets_are_known_by_name() {
        for key in [
            "secret",
            "aws_secret_access_key",
            "azure_storage_sas_token",
            "azure_storage_account_key",
            "Password",
            "secrt",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["access_key_id", "partition_keys", "prefix", "region"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
