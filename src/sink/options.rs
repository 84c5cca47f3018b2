//! A sink's options: from `url` and `options` as written to a store that is ready.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use ::object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use ::object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use ::object_store::path::Path;
use ::object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use url::Url;

use crate::naming::PartitionKeysOptions;
use crate::nearest::nearest;
use crate::secret::Secret;

/// Options of an `object_store` sink, as written.
#[derive(Clone, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `s3://bucket/path`, `gs://bucket/path`, `az://container/path`, `file:///folder`, or a path as `./data`.
    #[schemars(extend("examples" = ["s3://lake/clickstream/", "./data"]))]
    pub url: String,
    /// Settings of the store by object_store's own names, such as `region` or `allow_http`; they win over the environment's.
    /// A value may be a secret: `env:NAME`, `file:/path`, `cred:name`.
    #[serde(default)]
    #[schemars(schema_with = "names_known")]
    pub options: BTreeMap<String, Text>,
    /// Where below the url objects go; a template, see [prefix](#the-prefix). Firehose's expressions are understood.
    #[serde(default)]
    #[schemars(extend("default" = crate::naming::DEFAULT_PREFIX))]
    #[schemars(extend("examples" = ["dt={event_time:%Y-%m-%d}/country={country}/", "!{timestamp:yyyy/MM/dd/HH}/"]))]
    pub prefix: Option<String>,
    /// The IANA zone in which the prefix's times are read off.
    #[serde(default)]
    #[schemars(extend("default" = "UTC", "examples" = ["Europe/Berlin"]))]
    pub time_zone: Option<String>,
    /// What `!{partitionKeyFromQuery:name}` means: a map of names to paths such as `customer: .customer.id`, or Firehose's whole
    /// query.
    #[serde(default)]
    pub partition_keys: Option<PartitionKeysOptions>,
    /// Objects of more bytes go up in parts. Up to here a put is one request, whose body is held in memory.
    #[serde(default = "multipart_above", deserialize_with = "crate::units::bytes")]
    #[schemars(with = "crate::units::Size")]
    pub multipart_above: u64,
    /// Bytes of one part; stores want at least 5 MiB (and S3 at most 10,000 parts).
    #[serde(default = "part_size", deserialize_with = "crate::units::bytes")]
    #[schemars(with = "crate::units::Size")]
    pub part_size: u64,
}

/// A scalar as text, so that `allow_http: true` needs no quotes; it may be a reference to a secret, as [`Secret`] is.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub String);

/// Which option is wrong, how, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsError {
    /// The option's key path: `url`, `options.region`.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

/// A place for objects that is ready; for a local one the folder is yet to be made.
pub enum Place {
    Local(PathBuf),
    Cloud { store: Arc<dyn ObjectStore>, root: Path, shown: String },
}

fn multipart_above() -> u64 {
    64 << 20
}

fn part_size() -> u64 {
    16 << 20
}

/// Smallest part that S3 takes, in bytes.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Largest body of one request, in bytes: it is held in memory.
const SINGLE_BYTES_MAX: u64 = 1 << 30;

/// How long one request may take unless `timeout` says otherwise: 64 MiB at 220 KB/s.
const REQUEST_TIMEOUT: &str = "300 seconds";

/// Names that the stores know, in their short form; for hints (each store also takes them with its own prefix).
const CLIENT: &[&str] = &[
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "default_content_type",
    "http1_only",
    "http2_only",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_url",
    "proxy_ca_certificate",
    "proxy_excludes",
    "read_timeout",
    "timeout",
    "user_agent",
    "randomize_addresses",
];
const S3: &[&str] = &[
    "access_key_id",
    "secret_access_key",
    "session_token",
    "region",
    "endpoint",
    "bucket",
    "virtual_hosted_style_request",
    "unsigned_payload",
    "checksum_algorithm",
    "skip_signature",
    "conditional_put",
    "s3_express",
    "request_payer",
    "server_side_encryption",
    "sse_kms_key_id",
    "sse_bucket_key_enabled",
    "sse_customer_key_base64",
    "role_arn",
    "role_session_name",
    "web_identity_token_file",
    "endpoint_url_sts",
    "imdsv1_fallback",
    "metadata_endpoint",
    "container_credentials_relative_uri",
    "container_credentials_full_uri",
    "container_authorization_token_file",
];
const GCS: &[&str] = &[
    "service_account",
    "service_account_key",
    "application_credentials",
    "base_url",
    "bearer_token",
    "skip_signature",
];
const AZURE: &[&str] = &[
    "account_name",
    "access_key",
    "client_id",
    "client_secret",
    "tenant_id",
    "authority_host",
    "sas_token",
    "bearer_token",
    "use_emulator",
    "endpoint",
    "msi_endpoint",
    "object_id",
    "msi_resource_id",
    "federated_token_file",
    "use_fabric_endpoint",
    "use_azure_cli",
    "skip_signature",
    "container_name",
    "credential_type",
    "encryption_key",
];

impl Options {
    /// Options for a place, all else as by default.
    pub fn at(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            options: BTreeMap::new(),
            prefix: None,
            time_zone: None,
            partition_keys: None,
            multipart_above: multipart_above(),
            part_size: part_size(),
        }
    }

    /// Files with keys that the store reads when it is made. Those with tokens it reads whenever it needs one.
    pub fn key_files(&self) -> impl Iterator<Item = &std::path::Path> {
        let named = |name: &str| self.options.get(name).map(|Text(path)| std::path::Path::new(path));
        ["service_account", "application_credentials"].into_iter().filter_map(named)
    }

    /// All that can be known without asking the store or touching the disk.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.place().map(|_| ())
    }

    /// Makes the store. Reads the environment for credentials and settings, as object_store does.
    pub fn place(&self) -> Result<Place, OptionsError> {
        if self.part_size < PART_BYTES_MIN {
            return Err(wrong(
                "part_size",
                format!("{} bytes are less than {PART_BYTES_MIN}, which stores want at least", self.part_size),
            ));
        }
        if self.part_size.max(self.multipart_above) > SINGLE_BYTES_MAX {
            let key = if self.part_size > SINGLE_BYTES_MAX { "part_size" } else { "multipart_above" };
            return Err(wrong(
                key,
                format!("a request's body of more than {SINGLE_BYTES_MAX} bytes would be held in memory"),
            ));
        }
        if let Some(path) = self.local_path()? {
            return match self.options.keys().next() {
                Some(name) => Err(wrong(&format!("options.{name}"), "a local folder has no options")),
                None => Ok(Place::Local(path)),
            };
        }
        let url = Url::parse(&self.url).map_err(|error| wrong("url", format!("not a url: {error}")).hint(PLACES))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("url", "a url of a sink ends with its path: `?` and `#` have no meaning here"));
        }
        if !url.username().is_empty() && url.password().is_some() {
            return Err(wrong("url", "credentials do not belong in the url")
                .hint("put them under `options`, or into the environment"));
        }
        let (scheme, root) = ObjectStoreScheme::parse(&url)
            .map_err(|_| wrong("url", format!("`{}` is no place for objects", url.scheme())).hint(PLACES))?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => Arc::new(self.s3(&url)?),
            ObjectStoreScheme::GoogleCloudStorage => Arc::new(self.gcs(&url)?),
            ObjectStoreScheme::MicrosoftAzure => Arc::new(self.azure(&url)?),
            _ => return Err(wrong("url", format!("`{}` is no place for objects", url.scheme())).hint(PLACES)),
        };
        Ok(Place::Cloud { store, root, shown: self.url.trim_end_matches('/').to_string() })
    }

    /// The folder, if the url is one.
    fn local_path(&self) -> Result<Option<PathBuf>, OptionsError> {
        let path = match self.url.strip_prefix("file://") {
            Some(path) if path.starts_with('/') || path.starts_with("./") || path.starts_with("../") => path,
            Some(path) => {
                let error = wrong("url", format!("`{path}` would be a host"));
                return Err(error
                    .hint(format!("write `file:///{path}` for an absolute folder, or `./{path}` for a relative one")));
            }
            None if self.url.contains("://") => return Ok(None),
            None => &self.url,
        };
        match path.is_empty() || path.contains('\0') {
            true => Err(wrong("url", "empty").hint(PLACES)),
            false => Ok(Some(PathBuf::from(path))),
        }
    }

    fn s3(&self, url: &Url) -> Result<impl ObjectStore, OptionsError> {
        let mut builder = AmazonS3Builder::from_env()
            .with_url(url.as_str())
            .with_retry(retry())
            .with_config(AmazonS3ConfigKey::Checksum, "sha256")
            .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT);
        for (name, Text(value)) in &self.options {
            builder = builder.with_config(self.known(name, "s3", S3)?, value);
        }
        let endpoint = builder
            .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
            .or(builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
        self.http_allowed(endpoint, builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)))?;
        builder.build().map_err(unbuilt)
    }

    fn gcs(&self, url: &Url) -> Result<impl ObjectStore, OptionsError> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_url(url.as_str())
            .with_retry(retry())
            .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT);
        for (name, Text(value)) in &self.options {
            builder = builder.with_config(self.known(name, "gs", GCS)?, value);
        }
        self.http_allowed(
            builder.get_config_value(&GoogleConfigKey::BaseUrl),
            builder.get_config_value(&GoogleConfigKey::Client(ClientConfigKey::AllowHttp)),
        )?;
        builder.build().map_err(unbuilt)
    }

    fn azure(&self, url: &Url) -> Result<impl ObjectStore, OptionsError> {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_url(url.as_str())
            .with_retry(retry())
            .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT);
        for (name, Text(value)) in &self.options {
            builder = builder.with_config(self.known(name, "az", AZURE)?, value);
        }
        self.http_allowed(
            builder.get_config_value(&AzureConfigKey::Endpoint),
            builder.get_config_value(&AzureConfigKey::Client(ClientConfigKey::AllowHttp)),
        )?;
        builder.build().map_err(unbuilt)
    }

    fn known<K: FromStr>(&self, name: &str, scheme: &str, names: &[&str]) -> Result<K, OptionsError> {
        name.to_ascii_lowercase().parse().map_err(|_| {
            let error = wrong(&format!("options.{name}"), format!("unknown option of {scheme}://"));
            match nearest(name, names.iter().chain(CLIENT).copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(
                    "the names are those of the object_store library, such as `region`, `endpoint`, `allow_http`",
                ),
            }
        })
    }

    /// object_store says only at the first request that it will not speak http.
    fn http_allowed(&self, endpoint: Option<String>, allowed: Option<String>) -> Result<(), OptionsError> {
        let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        match is_http
            && !allowed.is_some_and(|allowed| {
                matches!(allowed.to_ascii_lowercase().as_str(), "true" | "1" | "on" | "yes" | "y")
            }) {
            true => Err(wrong("options.endpoint", "an http endpoint sends data and signatures in the clear")
                .hint("add `allow_http: true` if that is meant")),
            false => Ok(()),
        }
    }
}

const PLACES: &str =
    "places are `s3://bucket/path`, `gs://bucket/path`, `az://container/path`, `file:///folder` and `./folder`";

/// How object_store itself tries again: seldom and shortly, since the endless loop, which can tell an operator what is wrong,
/// is ours.
pub fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            base: 2.0,
        },
        max_retries: 2,
        retry_timeout: Duration::from_secs(10),
    }
}

fn unbuilt(error: ::object_store::Error) -> OptionsError {
    wrong("options", super::trouble::in_words(&error).0)
}

fn wrong(key: &str, message: impl Into<String>) -> OptionsError {
    OptionsError { key: key.to_string(), message: message.into(), hint: None }
}

impl OptionsError {
    fn hint(self, hint: impl Into<String>) -> OptionsError {
        OptionsError { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for OptionsError {}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("options", &self.options)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Values may be secrets: they are never printed.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"], "x-type": "secret" })
    }
}

/// A map of settings: the names that we know for the editor, and others as the stores take them.
fn names_known(generator: &mut SchemaGenerator) -> Schema {
    let text = generator.subschema_for::<Text>();
    let known = CLIENT.iter().chain(S3).chain(GCS).chain(AZURE);
    let known: serde_json::Map<_, _> = known.map(|name| ((*name).to_owned(), text.clone().to_value())).collect();
    json_schema!({ "type": "object", "properties": known, "additionalProperties": text, "x-type": "settings" })
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_string()))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Text, E> {
                Ok(Text(truth.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text, D::Error> {
                deserializer.deserialize_any(Scalar)
            }
        }
        deserializer.deserialize_newtype_struct(Secret::NAME, Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(url: &str, options: &[(&str, &str)]) -> Result<(), OptionsError> {
        let options = options.iter().map(|(name, value)| (name.to_string(), Text(value.to_string()))).collect();
        Options { options, ..Options::at(url) }.check()
    }

    #[test]
    fn folders_and_buckets_are_places() {
        for local in ["./data", "data/x", "/var/data", "file:///var/data", "file://./data"] {
            assert!(matches!(Options::at(local).place(), Ok(Place::Local(_))), "{local}");
        }
        for (cloud, expected) in [("s3://lake/a/b/", "a/b"), ("gs://lake", ""), ("s3://lake/a%20b", "a b")] {
            let Ok(Place::Cloud { root, .. }) = Options::at(cloud).place() else { panic!("{cloud}") };
            assert_eq!(root.as_ref(), expected);
        }
        with("az://container/x", &[("account_name", "a"), ("access_key", "a2V5")]).unwrap();
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (url, message) in [
            ("", "url: empty"),
            ("file://data", "url: `data` would be a host"),
            ("ftp://host/x", "url: `ftp` is no place for objects"),
            ("http://host/x", "url: `http` is no place for objects"),
            ("memory:///", "url: `memory` is no place for objects"),
            ("s3://lake/x?versionId=1", "url: a url of a sink ends with its path: `?` and `#` have no meaning here"),
            ("s3://key:secret@lake/x", "url: credentials do not belong in the url"),
        ] {
            let error = Options::at(url).check().unwrap_err().to_string();
            assert_eq!(error.lines().next(), Some(message), "{url}");
        }
    }

    #[test]
    fn an_unknown_option_is_named_with_the_nearest_right_one() {
        let error = with("s3://lake/x", &[("regoin", "eu-central-1")]).unwrap_err();
        assert_eq!(error.to_string(), "options.regoin: unknown option of s3://\nhint: did you mean `region`?");
        assert!(with("gs://lake/x", &[("region", "x")]).is_err(), "an option of another store");
        assert_eq!(
            with("./data", &[("region", "x")]).unwrap_err().to_string(),
            "options.region: a local folder has no options"
        );
        let error = with("s3://lake/x", &[("allow_http", "perhaps")]).unwrap_err();
        assert!(error.to_string().contains("perhaps"), "{error}");
    }

    #[test]
    fn an_http_endpoint_must_be_meant() {
        let error = with("s3://lake/x", &[("endpoint", "http://127.0.0.1:9000")]).unwrap_err();
        assert!(error.hint.unwrap().contains("allow_http: true"));
        with("s3://lake/x", &[("endpoint", "http://127.0.0.1:9000"), ("allow_http", "true")]).unwrap();
    }

    #[test]
    fn every_name_we_suggest_is_known() {
        assert!(S3.iter().chain(CLIENT).all(|name| name.parse::<AmazonS3ConfigKey>().is_ok()));
        assert!(GCS.iter().chain(CLIENT).all(|name| name.parse::<GoogleConfigKey>().is_ok()));
        assert!(AZURE.iter().chain(CLIENT).all(|name| name.parse::<AzureConfigKey>().is_ok()));
    }

    #[test]
    fn options_are_read_from_yaml_and_never_printed() {
        let yaml =
            "url: s3://lake/x\noptions: { allow_http: true, pool_max_idle_per_host: 4, secret_access_key: hush }\n";
        let options: Options = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(options.options["allow_http"], Text("true".into()));
        assert_eq!(options.options["pool_max_idle_per_host"], Text("4".into()));
        assert!(!format!("{options:?}").contains("hush"));
        let keys: Options = serde_saphyr::from_str("url: ./x\npartition_keys: { id: .a.b }\n").unwrap();
        assert!(matches!(keys.partition_keys, Some(PartitionKeysOptions::Map(_))));
        let query: Options = serde_saphyr::from_str("url: ./x\npartition_keys: \"{id: .a.b}\"\n").unwrap();
        assert!(matches!(query.partition_keys, Some(PartitionKeysOptions::Query(_))));
        assert!(serde_saphyr::from_str::<Options>("url: ./x\nurls: y\n").is_err());
    }
}
