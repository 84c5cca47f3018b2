//! Settings of the whole process: flags of `hydrant run` and an optional `hydrant.yaml`; flags win.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::environment::{self, Environment};
use super::problem::{Place, Problems};
use super::tree::Tree;
use super::{files, read, warn_of_literal_secrets, yaml};
use crate::inputs::Reads;
use crate::receive::{self, Auth, Key, check_exposure};
use crate::secret::Secret;
use crate::spool::OnCorruption;
use crate::units::Size;

/// Where data is received, unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:4573";

/// Where health and metrics are served, unless told otherwise.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:4574";

/// The state folder, unless told otherwise.
pub const STATE_DEFAULT: &str = "data/state";

/// Account and region for ARNs, unless told otherwise.
const ACCOUNT_DEFAULT: &str = "000000000000";
const REGION_DEFAULT: &str = "us-east-1";

/// Bounds and default of the process's budget for bytes in flight.
pub const MEMORY_MIN: Size = Size::from_mib(64);
pub const MEMORY_MAX: Size = Size::from_gib(1024);
pub const MEMORY_DEFAULT: Size = Size::from_mib(512);

/// The process as it will run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state folder: spools, outboxes, checkpoints.
    pub state: PathBuf,
    /// Where data is received.
    pub listen: SocketAddr,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// Bytes in flight in the whole process.
    pub memory_budget_bytes: u64,
    /// Whether anybody may send, signed or not.
    pub anonymous: bool,
    /// Whether anybody who can reach the admin address may act there and see records.
    pub admin_anonymous: bool,
    /// 12 digits, for the ARNs in answers.
    pub account: String,
    /// For the ARNs in answers, such as `us-east-1`.
    pub region: String,
    /// Who may send; empty: see `anonymous`, and nobody from afar.
    pub credentials: Vec<Credential>,
    /// Stop when bounded sources have ended and all is delivered.
    pub once: bool,
    /// What to do about durable records that the disk does not give back.
    pub on_corruption: OnCorruption,
    pub log: Log,
}

impl Settings {
    /// Whom the doors let in.
    pub fn auth(&self) -> Auth {
        if self.credentials.is_empty() {
            return Auth::Anonymous;
        }
        let key = |credential: &Credential| Key {
            id: credential.access_key_id.clone(),
            secret: credential.secret.expose().to_owned(),
            streams: credential.streams.clone(),
        };
        Auth::Keys(self.credentials.iter().map(key).collect())
    }

    /// How the doors are kept.
    pub fn doors(&self) -> receive::Options {
        // A request must fit into its quarter of the budget, as it came and as it is read, or it would wait for ever.
        let room = usize::try_from(self.memory_budget_bytes / 8).unwrap_or(usize::MAX);
        let limits = receive::Limits::default();
        receive::Options {
            auth: self.auth(),
            account_id: self.account.clone(),
            region: self.region.clone(),
            limits: receive::Limits {
                body_bytes_max: limits.body_bytes_max.min(room),
                inflated_bytes_max: limits.inflated_bytes_max.min(room),
                ..limits
            },
        }
    }
}

/// An access key and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    pub access_key_id: String,
    pub secret: Secret,
    /// The streams that it may write to; `None`: all.
    pub streams: Option<BTreeSet<String>>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub format: Option<LogFormat>,
    /// A filter such as `info` or `hydrant=debug`.
    pub level: Option<String>,
}

/// For whom to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object per line.
    Json,
}

/// What was given as flags.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub memory: Option<Size>,
    pub anonymous: bool,
    pub once: bool,
    pub log: Option<LogFormat>,
    pub log_level: Option<String>,
}

/// A `hydrant.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSettings {
    /// The state folder: spools, outboxes, checkpoints. `$STATE_DIRECTORY` if systemd sets it.
    #[schemars(extend("default" = STATE_DEFAULT))]
    state: Option<PathBuf>,
    /// Where data is received: address and port.
    #[schemars(extend("default" = LISTEN_DEFAULT))]
    listen: Option<String>,
    /// Where the status page, health and metrics are served: address and port.
    #[schemars(extend("default" = ADMIN_DEFAULT))]
    admin: Option<String>,
    /// Bytes in flight in the whole process.
    #[schemars(extend("default" = MEMORY_DEFAULT, "x-bounds" = format!("{MEMORY_MIN} to {MEMORY_MAX}")))]
    memory: Option<Size>,
    /// Whether anybody may send, signed or not. Without it and without credentials only this machine may.
    anonymous: bool,
    /// Whether the admin address may show records and take orders from other machines.
    admin_anonymous: bool,
    /// 12 digits, for the ARNs in answers.
    #[schemars(extend("default" = ACCOUNT_DEFAULT))]
    account: Option<String>,
    /// For the ARNs in answers.
    #[schemars(extend("default" = REGION_DEFAULT))]
    region: Option<String>,
    /// What to do about durable records that the disk does not give back.
    on_corruption: OnCorruption,
    /// Who may send.
    credentials: Vec<WrittenCredential>,
    /// How to log; text on a terminal and JSON elsewhere if not given.
    log: Option<LogFormat>,
    /// What to log: a filter such as `info` or `hydrant=debug`.
    log_level: Option<String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenCredential {
    /// Id of an access key, as producers have it.
    access_key_id: String,
    /// Its secret: `env:NAME`, `file:/path` or `cred:name` (a systemd credential).
    secret_access_key: Secret,
    /// The streams that it may write to; all if not given.
    streams: Option<BTreeSet<String>>,
}

/// The settings, and warnings about them; else everything that is wrong. Blocks on reading files.
pub fn settings(flags: Flags, environment: &Environment) -> Result<(Settings, Problems), Problems> {
    let (mut problems, mut warnings) = (Problems::new(), Problems::new());
    let mut tree = None;
    let mut written = WrittenSettings::default();
    if let Some(path) = &flags.config {
        let reads = Reads::new();
        tree = files::read(path, &reads, &mut problems).and_then(|file| yaml::parse(file, &mut problems));
        if let Some(tree) = &mut tree {
            environment::resolve(tree, environment, &mut problems);
            let reading = read::read(tree, environment, &reads, &[], &mut problems);
            warn_of_literal_secrets(reading.literal_secrets, &mut warnings);
            written = reading.value.unwrap_or_default();
        }
    }
    let settings = Judge { tree: tree.as_ref(), problems: &mut problems }.judge(flags, written, environment);
    problems.or(Some((settings, warnings)))
}

/// Judges what was written; without a file it says that of flags.
struct Judge<'a> {
    tree: Option<&'a Tree>,
    problems: &'a mut Problems,
}

impl Judge<'_> {
    fn judge(&mut self, flags: Flags, written: WrittenSettings, environment: &Environment) -> Settings {
        let listen = self.address("listen", flags.listen, written.listen, LISTEN_DEFAULT);
        let admin = self.address("admin", flags.admin, written.admin, ADMIN_DEFAULT);
        let memory = flags.memory.or(written.memory).unwrap_or(MEMORY_DEFAULT);
        if memory < MEMORY_MIN || memory > MEMORY_MAX {
            let message = format!("`memory`: expected {MEMORY_MIN} to {MEMORY_MAX}, found {memory}");
            self.problem(flags.memory.is_some(), "memory", message, None);
        }
        let account = written.account.unwrap_or_else(|| ACCOUNT_DEFAULT.into());
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            self.problem(false, "account", "`account`: expected 12 digits".into(), None);
        }
        let region = written.region.unwrap_or_else(|| REGION_DEFAULT.into());
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            self.problem(false, "region", "`region`: expected a name such as `us-east-1`".into(), None);
        }
        let anonymous = flags.anonymous || written.anonymous;
        let credentials = self.credentials(written.credentials);
        if anonymous && !credentials.is_empty() {
            let message = "`anonymous`: everybody is let in, and credentials are configured as well".into();
            self.problem(flags.anonymous, "anonymous", message, Some("remove one of them".into()));
        }
        let listen_by_flag = flags.listen.is_some();
        let settings = Settings {
            state: flags.state.or(written.state).unwrap_or_else(|| state_default(environment)),
            listen,
            admin,
            memory_budget_bytes: memory.bytes(),
            anonymous,
            admin_anonymous: written.admin_anonymous,
            account,
            region,
            credentials,
            once: flags.once,
            on_corruption: written.on_corruption,
            log: Log { format: flags.log.or(written.log), level: flags.log_level.or(written.log_level) },
        };
        if let Err(problem) = check_exposure(settings.listen, &settings.auth(), anonymous) {
            self.problem(listen_by_flag, "listen", problem, None);
        }
        settings
    }

    fn problem(&mut self, by_flag: bool, key: &str, message: String, hint: Option<String>) {
        let place = match self.tree.filter(|_| !by_flag) {
            Some(tree) => tree.place(key),
            None => Place::file(format!("--{key}")),
        };
        self.problems.push(place, message, hint);
    }

    fn address(&mut self, key: &str, flag: Option<SocketAddr>, written: Option<String>, default: &str) -> SocketAddr {
        let text = written.unwrap_or_else(|| default.to_owned());
        let unspecified = || SocketAddr::from(([127, 0, 0, 1], 0));
        flag.unwrap_or_else(|| match text.parse() {
            Ok(address) => address,
            Err(_) => {
                let message = format!("`{key}`: expected an address such as `{default}`, found `{text}`");
                self.problem(false, key, message, None);
                unspecified()
            }
        })
    }

    fn credentials(&mut self, written: Vec<WrittenCredential>) -> Vec<Credential> {
        let mut seen = BTreeSet::new();
        let mut credentials = Vec::new();
        for (index, WrittenCredential { access_key_id, secret_access_key: secret, streams }) in
            written.into_iter().enumerate()
        {
            let way = format!("credentials.{index}.access_key_id");
            if access_key_id.is_empty() || access_key_id.contains(['/', ':', ',', '=']) || access_key_id.contains(' ') {
                let message = "`access_key_id`: expected a text without `/`, `:`, `,`, `=` and spaces".into();
                self.problem(false, &way, message, None);
            }
            if !seen.insert(access_key_id.clone()) {
                let message = format!("the access key `{access_key_id}` stands here twice");
                self.problem(false, &way, message, Some("remove one of them".into()));
            }
            if secret.expose().is_empty() {
                self.problem(
                    false,
                    &format!("credentials.{index}.secret_access_key"),
                    "the secret is empty".into(),
                    None,
                );
            }
            credentials.push(Credential { access_key_id, secret, streams });
        }
        credentials
    }
}

/// `$STATE_DIRECTORY`, which systemd sets (the first of it, if several), else `./data/state`.
fn state_default(environment: &Environment) -> PathBuf {
    match environment.get("STATE_DIRECTORY") {
        Ok(folders) if !folders.is_empty() => folders.split(':').next().unwrap_or_default().into(),
        _ => STATE_DEFAULT.into(),
    }
}
