//! What a user writes under `lambda:`, and what it comes to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::function::{Function, Home, check_qualifier, endpoint_of, partition_of};
use crate::sink::Text;
use crate::sink::aws::{Keys, check_region, region_of_environment};
use crate::transform::Wrong;
use crate::units::{Interval, Size};

/// Options, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Name or ARN of the function, with a version or alias behind it (`redact:live`) or not.
    pub function: String,
    /// The version or alias, if it does not stand in `function`.
    #[serde(default)]
    pub qualifier: Option<String>,
    /// Where the Invoke API is served, such as an emulator; AWS's own in the region if not given.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region, if it does not stand in `function`; else `AWS_REGION` or `AWS_DEFAULT_REGION`.
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
    /// Requests are not signed: for emulators.
    #[serde(default)]
    pub skip_signature: bool,
    /// How often a call that failed is repeated; Firehose's NumberOfRetries.
    #[serde(default = "retries")]
    #[schemars(range(max = RETRIES_MAX))]
    pub retries: u32,
    /// What is gathered for one call; Firehose's BufferSizeInMBs and BufferIntervalInSeconds.
    #[serde(default)]
    pub buffer: Buffer,
    /// Calls under way at the same time for one shard; Firehose's 5.
    #[serde(default = "invocations_max")]
    #[schemars(range(min = 1, max = INVOCATIONS_MAX))]
    pub invocations_max: usize,
    /// How long one call may take.
    #[serde(default = "timeout")]
    #[schemars(extend("x-bounds" = format!("at most {TIMEOUT_MAX}")))]
    pub timeout: Interval,
    /// What becomes of records when the function cannot be had.
    #[serde(default)]
    pub on_unreachable: OnUnreachable,
    /// What requests say as `deliveryStreamArn`; made of region, account and pipeline if not given.
    #[serde(default)]
    pub delivery_stream_arn: Option<String>,
}

/// What is gathered for one call: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Bytes of the records before base64.
    #[schemars(extend("x-bounds" = format!("{} to {}", Size::from_bytes(SIZE_BYTES_MIN), Size::from_bytes(SIZE_BYTES_MAX))))]
    pub size: Size,
    /// How long the first of them waits.
    #[schemars(extend("x-bounds" = format!("0s to {INTERVAL_MAX}")))]
    pub interval: Interval,
}

/// What becomes of records when the function cannot be had: no connection, no permission, no such function, throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnreachable {
    /// They wait, and calls are tried again for ever.
    #[default]
    Wait,
    /// They are set aside after the retries, as with Firehose.
    Reject,
}

/// Bounds and defaults of Firehose: developer guide, "Data transformation", and `ProcessorParameter`.
const SIZE_BYTES_MIN: u64 = 200_000;
const SIZE_BYTES_MAX: u64 = 3 << 20;
const INTERVAL_MAX: Interval = Interval::from_secs(900);
const RETRIES_MAX: u32 = 300;
/// Firehose has 5, and 10 before Splunk.
const INVOCATIONS_MAX: usize = 10;
/// The longest that a function may run at AWS.
const TIMEOUT_MAX: Interval = Interval::from_secs(900);
/// What stands for an account that is not known.
const NO_ACCOUNT: &str = "000000000000";
/// The region of requests to an emulator that was told none, as SDKs have it.
const NO_REGION: &str = "us-east-1";

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer { size: Size::from_mib(1), interval: Interval::from_secs(60) }
    }
}

fn retries() -> u32 {
    3
}

fn invocations_max() -> usize {
    5
}

fn timeout() -> Interval {
    Interval::from_secs(300)
}

/// Options that fit together.
pub struct Checked {
    pub function: Function,
    pub qualifier: Option<String>,
    /// The function's, with the qualifier, as error objects have it.
    pub arn: String,
    pub region: String,
    pub endpoint: Url,
    pub delivery_stream_arn: String,
}

impl Options {
    /// All that can be known without asking AWS. Reads the environment's region.
    pub fn check(&self, pipeline: &str) -> Result<Checked, Wrong> {
        self.check_bounds()?;
        let function = Function::parse(&self.function).map_err(|error| {
            Wrong::new("function", error)
                .hint("write a name such as `redact`, or `arn:aws:lambda:eu-central-1:123456789012:function:redact`")
        })?;
        if let Some(qualifier) = &self.qualifier {
            check_qualifier(qualifier).map_err(|error| Wrong::new("qualifier", error))?;
            if function.qualifier.is_some() {
                return Err(Wrong::new("qualifier", "`function` has a version or alias already"));
            }
        }
        let region = self.region_of(&function)?;
        let endpoint = self.endpoint_in(&region)?;
        let home = function.home.clone().unwrap_or_else(|| Home {
            partition: partition_of(&region).into(),
            region: region.clone(),
            account: NO_ACCOUNT.into(),
        });
        let qualifier = function.qualifier.clone().or_else(|| self.qualifier.clone());
        let mut arn = home.arn(&function.name);
        if let Some(qualifier) = &qualifier {
            arn = format!("{arn}:{qualifier}");
        }
        let delivery_stream_arn = match &self.delivery_stream_arn {
            Some(arn) if arn.starts_with("arn:") && arn.split(':').count() >= 6 => arn.clone(),
            Some(arn) => return Err(Wrong::new("delivery_stream_arn", format!("`{arn}` is no ARN"))),
            None => format!("arn:{}:firehose:{region}:{}:deliverystream/{pipeline}", home.partition, home.account),
        };
        Ok(Checked { function, qualifier, arn, region, endpoint, delivery_stream_arn })
    }

    fn check_bounds(&self) -> Result<(), Wrong> {
        let size = self.buffer.size;
        if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size.bytes()) {
            return Err(Wrong::new("buffer.size", format!("expected 200 KB to 3 MiB, found {size}"))
                .hint("a request has 6 MB at the most, and base64 makes 4 bytes of 3"));
        }
        if self.buffer.interval > INTERVAL_MAX {
            let message = format!("expected at most {INTERVAL_MAX}, found {}", self.buffer.interval);
            return Err(Wrong::new("buffer.interval", message));
        }
        if self.retries > RETRIES_MAX {
            return Err(Wrong::new("retries", format!("expected at most {RETRIES_MAX}, found {}", self.retries)));
        }
        if !(1..=INVOCATIONS_MAX).contains(&self.invocations_max) {
            let message = format!("expected 1 to {INVOCATIONS_MAX}, found {}", self.invocations_max);
            return Err(Wrong::new("invocations_max", message));
        }
        if self.timeout.millis() == 0 || self.timeout > TIMEOUT_MAX {
            return Err(Wrong::new("timeout", format!("expected 1ms to {TIMEOUT_MAX}, found {}", self.timeout)));
        }
        self.check_credentials()
    }

    fn check_credentials(&self) -> Result<(), Wrong> {
        match self.keys().given().next() {
            Some((key, _)) if self.skip_signature => Err(Wrong::new(key, "of no use with `skip_signature`")),
            _ => self.keys().check().map_err(|(key, message)| Wrong::new(key, message)),
        }
    }

    /// The keys that requests are signed with, as written.
    pub fn keys(&self) -> Keys<'_> {
        Keys {
            access_key_id: self.access_key_id.as_ref(),
            secret_access_key: self.secret_access_key.as_ref(),
            session_token: self.session_token.as_ref(),
        }
    }

    fn region_of(&self, function: &Function) -> Result<String, Wrong> {
        let of_function = function.home.as_ref().map(|home| home.region.as_str());
        if let Some(region) = &self.region {
            check_region(region).map_err(|error| Wrong::new("region", error))?;
            if of_function.is_some_and(|of_function| of_function != region) {
                return Err(Wrong::new("region", format!("`{region}` is not the region of `function`")));
            }
        }
        match of_function.or(self.region.as_deref()) {
            Some(region) => Ok(region.to_owned()),
            None => region_without_option(|name| std::env::var(name).ok(), self.endpoint.is_some()),
        }
    }

    fn endpoint_in(&self, region: &str) -> Result<Url, Wrong> {
        let written = self.endpoint.clone().unwrap_or_else(|| endpoint_of(region));
        let wrong = |message: String| {
            Wrong::new("endpoint", message).hint("write where it is served, such as `http://127.0.0.1:8080`")
        };
        let url = Url::parse(&written).map_err(|error| wrong(format!("`{written}` is no url: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong(format!("`{written}` is neither http nor https")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::new("endpoint", "credentials do not belong in the url"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("`?` and `#` have no meaning here".into()));
        }
        Ok(url)
    }
}

/// The region that the environment names; an emulator needs none.
fn region_without_option(variable: impl Fn(&str) -> Option<String>, is_given_endpoint: bool) -> Result<String, Wrong> {
    match region_of_environment(variable).map_err(|error| Wrong::new("region", error))? {
        Some(region) => Ok(region),
        None if is_given_endpoint => Ok(NO_REGION.into()),
        None => Err(Wrong::new("region", "not given, and `AWS_REGION` is not set")
            .hint("write `region: eu-central-1`, or the function's ARN")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(yaml: &str) -> Options {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn wrong(yaml: &str) -> String {
        let Err(Wrong { key, message, .. }) = options(yaml).check("clicks") else { panic!("{yaml} is right") };
        format!("{key}: {message}")
    }

    #[test]
    fn an_arn_says_it_all() {
        let arn = "arn:aws-cn:lambda:cn-north-1:123456789012:function:redact";
        let checked = options(&format!("function: {arn}\nqualifier: live")).check("clicks").unwrap();
        assert_eq!(checked.endpoint.as_str(), "https://lambda.cn-north-1.amazonaws.com.cn/");
        assert_eq!(checked.arn, format!("{arn}:live"));
        assert_eq!(checked.delivery_stream_arn, "arn:aws-cn:firehose:cn-north-1:123456789012:deliverystream/clicks");
    }

    #[test]
    fn a_name_is_completed() {
        let checked = options("function: redact:2\nregion: eu-central-1").check("clicks").unwrap();
        assert_eq!(checked.endpoint.as_str(), "https://lambda.eu-central-1.amazonaws.com/");
        assert_eq!(checked.arn, "arn:aws:lambda:eu-central-1:000000000000:function:redact:2");
        assert_eq!(checked.qualifier.as_deref(), Some("2"));
        let firehose = "arn:aws:firehose:eu-central-1:000000000000:deliverystream/clicks";
        assert_eq!(checked.delivery_stream_arn, firehose);
        let all = options("function: f\nregion: r\nretries: 0\nbuffer: { size: 3 MiB, interval: 0s }\ntimeout: 15m");
        all.check("clicks").unwrap();
    }

    #[test]
    fn the_environments_region_is_looked_at_too() {
        let of = |text: &'static str, is_given_endpoint| {
            region_without_option(|name| (name == "AWS_DEFAULT_REGION").then(|| text.into()), is_given_endpoint)
                .map_err(|wrong| wrong.message)
        };
        assert_eq!(of("eu-central-1", false).unwrap(), "eu-central-1");
        assert_eq!(of("eu central", true).unwrap_err(), "AWS_DEFAULT_REGION: `eu central` is no region");
        assert_eq!(of("", true).unwrap(), NO_REGION);
        assert_eq!(of("", false).unwrap_err(), "not given, and `AWS_REGION` is not set");
    }

    #[test]
    fn options_that_cannot_be_are_refused_by_name() {
        for (yaml, message) in [
            ("function: a b", "function: a function's name is 1 to 64 of a-z, A-Z, 0-9, - and _, found `a b`"),
            ("function: f:1\nqualifier: 2", "qualifier: `function` has a version or alias already"),
            (
                "function: f\nqualifier: a/b",
                "qualifier: a version or alias is 1 to 128 of a-z, A-Z, 0-9, -, _ and $, found `a/b`",
            ),
            ("function: f\nregion: a.b", "region: `a.b` is no region"),
            (
                "function: arn:aws:lambda:eu-central-1:123456789012:function:f\nregion: us-east-1",
                "region: `us-east-1` is not the region of `function`",
            ),
            ("function: f\nendpoint: nowhere", "endpoint: `nowhere` is no url: relative URL without a base"),
            ("function: f\nendpoint: \"ftp://h\"", "endpoint: `ftp://h` is neither http nor https"),
            ("function: f\nendpoint: \"http://a:b@h\"", "endpoint: credentials do not belong in the url"),
            ("function: f\nbuffer: { size: 4 MiB }", "buffer.size: expected 200 KB to 3 MiB, found 4 MiB"),
            ("function: f\nbuffer: { size: 100 KB }", "buffer.size: expected 200 KB to 3 MiB, found 100 KB"),
            ("function: f\nbuffer: { interval: 16m }", "buffer.interval: expected at most 15m, found 16m"),
            ("function: f\nretries: 301", "retries: expected at most 300, found 301"),
            ("function: f\ninvocations_max: 0", "invocations_max: expected 1 to 10, found 0"),
            ("function: f\ntimeout: 0s", "timeout: expected 1ms to 15m, found 0s"),
            ("function: f\naccess_key_id: AKID", "access_key_id: `secret_access_key` is missing"),
            ("function: f\nsecret_access_key: hush", "secret_access_key: `access_key_id` is missing"),
            ("function: f\nsession_token: hush", "session_token: `access_key_id` is missing"),
            (
                "function: f\nskip_signature: true\naccess_key_id: AKID",
                "access_key_id: of no use with `skip_signature`",
            ),
            ("function: f\nregion: r\ndelivery_stream_arn: clicks", "delivery_stream_arn: `clicks` is no ARN"),
        ] {
            assert_eq!(wrong(yaml), message);
        }
        let secret = "function: f\naccess_key_id: AKID\nsecret_access_key: \"hush\\nhush\"";
        assert!(!wrong(secret).contains("hush"), "no secret is printed");
        assert!(!format!("{:?}", options(secret)).contains("hush"));
    }
}
