//! TLS and SASL: how a client of Kafka proves who it is, and asks brokers for the same.

use std::fmt;

use rdkafka::ClientConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::options::Options;
use crate::secret::Secret;
use crate::sink::Text;
use crate::sink::aws::{Keys, check_region, region_of_environment};

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, PartialEq)]
pub enum Tls {
    Off,
    On(Box<Files>),
}

/// Certificates, all in PEM.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// The file of the authorities that brokers' certificates are trusted by; those of the system if not given.
    pub ca: Option<String>,
    /// The file of our own certificate with those between it and the authority, where brokers ask for one.
    pub certificate: Option<String>,
    /// The private key of `certificate`, in PEM: `file:/path`, `cred:name` or `env:NAME`.
    pub key: Option<Secret>,
    /// What `key` is encrypted with, if it is.
    pub key_password: Option<Secret>,
    /// Whether a broker's certificate must be for the name that it is reached by.
    pub verify_hostname: bool,
}

impl Default for Files {
    fn default() -> Files {
        Files { ca: None, certificate: None, key: None, key_password: None, verify_hostname: true }
    }
}

/// Who we are, by one of these mechanisms.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sasl {
    /// Name and password, as they are: only with TLS is the password hidden. Event Hubs and Confluent Cloud have this.
    Plain(Login),
    /// Name and password, which itself is not sent (RFC 7677).
    #[serde(rename = "scram_sha_256")]
    ScramSha256(Login),
    /// The same with SHA-512: MSK has this.
    #[serde(rename = "scram_sha_512")]
    ScramSha512(Login),
    /// Tokens of an identity provider, by OpenID Connect's client credentials.
    Oauthbearer(Oauth),
    /// IAM of AWS, for MSK.
    AwsMskIam(Msk),
}

/// Name and password.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The name; for Event Hubs `$ConnectionString`, written as `$$ConnectionString`, for Confluent Cloud the API key.
    pub username: Text,
    /// The password: `env:NAME`, `file:/path` or `cred:name`.
    pub password: Secret,
}

/// An identity provider, and who we are to it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth {
    /// The provider's token endpoint.
    #[schemars(extend("examples" = ["https://login.example.com/oauth2/token"]))]
    pub url: String,
    /// Our id at the provider.
    pub client_id: Text,
    /// The secret of `client_id`: `env:NAME`, `file:/path` or `cred:name`.
    pub client_secret: Secret,
    /// What is asked for, if the provider wants to know.
    #[serde(default)]
    pub scope: Option<String>,
}

/// Where a cluster of MSK is, and who we are to AWS.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Msk {
    /// The region of the cluster; else `AWS_REGION` or `AWS_DEFAULT_REGION`.
    #[serde(default)]
    pub region: Option<String>,
    /// Id of an access key; if not given, the credentials that the environment, the container or the instance has.
    #[serde(default)]
    pub access_key_id: Option<Text>,
    /// The secret of `access_key_id`: `env:NAME`, `file:/path` or `cred:name`.
    #[serde(default)]
    pub secret_access_key: Option<Text>,
    /// The token of temporary credentials.
    #[serde(default)]
    pub session_token: Option<Text>,
}

/// Where librdkafka is to look for the system's authorities: its own OpenSSL knows no place.
const CA_OF_SYSTEM: &str = "probe";

impl Tls {
    /// Whether connections are encrypted.
    pub fn is_on(&self) -> bool {
        matches!(self, Tls::On(_))
    }

    /// The files, if there are any.
    pub fn files(&self) -> Option<&Files> {
        match self {
            Tls::Off => None,
            Tls::On(files) => Some(files),
        }
    }
}

impl Sasl {
    /// The word it is chosen by.
    pub fn word(&self) -> &'static str {
        match self {
            Sasl::Plain(_) => "plain",
            Sasl::ScramSha256(_) => "scram_sha_256",
            Sasl::ScramSha512(_) => "scram_sha_512",
            Sasl::Oauthbearer(_) => "oauthbearer",
            Sasl::AwsMskIam(_) => "aws_msk_iam",
        }
    }
}

impl Msk {
    /// The keys that tokens are signed with, as written.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            access_key_id: self.access_key_id.as_ref(),
            secret_access_key: self.secret_access_key.as_ref(),
            session_token: self.session_token.as_ref(),
        }
    }
}

/// The region of a cluster of MSK; the error says why there is none.
pub fn region_of(msk: &Msk, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    match msk.region.clone() {
        Some(region) => check_region(&region).map(|()| region),
        None => region_of_environment(variable)?.ok_or_else(|| "not given, and `AWS_REGION` is not set".into()),
    }
}

/// Sets what brokers are asked and told.
pub(super) fn set(config: &mut ClientConfig, options: &Options) {
    let protocol = match (options.is_encrypted(), options.sasl.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if options.is_encrypted() {
        let default = Files::default();
        let files = options.tls.as_ref().and_then(Tls::files).unwrap_or(&default);
        config.set("ssl.ca.location", files.ca.as_deref().unwrap_or(CA_OF_SYSTEM));
        config.set("ssl.endpoint.identification.algorithm", if files.verify_hostname { "https" } else { "none" });
        let own = [
            ("ssl.certificate.location", files.certificate.as_deref()),
            ("ssl.key.pem", files.key.as_ref().map(Secret::expose)),
            ("ssl.key.password", files.key_password.as_ref().map(Secret::expose)),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
    }
    let (mechanism, login) = match &options.sasl {
        None => return,
        Some(Sasl::Plain(login)) => ("PLAIN", Some(login)),
        Some(Sasl::ScramSha256(login)) => ("SCRAM-SHA-256", Some(login)),
        Some(Sasl::ScramSha512(login)) => ("SCRAM-SHA-512", Some(login)),
        // Their tokens are asked for when they are needed.
        Some(Sasl::Oauthbearer(_) | Sasl::AwsMskIam(_)) => ("OAUTHBEARER", None),
    };
    config.set("sasl.mechanism", mechanism);
    if let Some(Login { username: Text(username), password }) = login {
        config.set("sasl.username", username).set("sasl.password", password.expose());
    }
}

impl JsonSchema for Tls {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tls".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let files = generator.subschema_for::<Files>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, files] })
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tls, D::Error> {
        struct BoolOrFiles;
        impl<'de> Visitor<'de> for BoolOrFiles {
            type Value = Tls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`true`, `false`, or a map of `ca`, `certificate`, `key`, `key_password`, `verify_hostname`",
                )
            }

            fn visit_bool<E>(self, on: bool) -> Result<Tls, E> {
                Ok(if on { Tls::On(Box::default()) } else { Tls::Off })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tls, A::Error> {
                Files::deserialize(MapAccessDeserializer::new(map)).map(|files| Tls::On(Box::new(files)))
            }
        }
        deserializer.deserialize_any(BoolOrFiles)
    }
}
