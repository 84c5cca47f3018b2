//! Keys: who may call, and which streams they may name.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use subtle::ConstantTimeEq;

/// Whom the doors let in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everybody; signatures are not looked at.
    Anonymous,
    /// Holders of one of these keys.
    Keys(Vec<Key>),
}

/// An access key. Its secret is never printed.
#[derive(Clone)]
pub struct Key {
    /// `AKIA...`, or any text without `/`, `:` and white space.
    pub id: String,
    pub secret: String,
    /// The streams that it may write to and see; `None`: all.
    pub streams: Option<BTreeSet<String>>,
}

impl Auth {
    /// The key with this id.
    pub fn key(&self, id: &str) -> Option<&Key> {
        match self {
            Auth::Anonymous => None,
            Auth::Keys(keys) => keys.iter().find(|key| key.id == id),
        }
    }

    /// The key whose id and secret these are; the time it takes tells nothing about the secret.
    pub fn key_by_secret(&self, id: &str, secret: &str) -> Option<&Key> {
        self.key(id).filter(|key| bool::from(key.secret.as_bytes().ct_eq(secret.as_bytes())))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { id, secret: _, streams } = self;
        f.debug_struct("Key").field("id", id).field("streams", streams).finish_non_exhaustive()
    }
}

/// Who called: the key that was proven, or nobody in particular where everybody may call.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a>(pub Option<&'a Key>);

impl<'a> Caller<'a> {
    /// The access key id, or `-`.
    pub fn id(&self) -> &'a str {
        self.0.map_or("-", |key| &key.id)
    }

    /// Whether the caller may write to and see `stream`.
    pub fn may_use(&self, stream: &str) -> bool {
        match self.0.and_then(|key| key.streams.as_ref()) {
            Some(streams) => streams.contains(stream),
            None => true,
        }
    }
}

/// Refuses an address that the network can reach when nobody has to prove who they are, unless that is spelled out.
pub fn check_exposure(address: SocketAddr, auth: &Auth, anonymous_allowed: bool) -> Result<(), String> {
    let loopback = address.ip().to_canonical().is_loopback();
    if loopback || anonymous_allowed || matches!(auth, Auth::Keys(_)) {
        return Ok(());
    }
    Err(format!(
        "listen address {address} can be reached from the network and no credentials are configured\n\
         hint: give `credentials` in hydrant.yaml (`--config`), or spell out `--anonymous`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(streams: Option<&[&str]>) -> Key {
        let streams = streams.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Key { id: "AKID".into(), secret: "canary".into(), streams }
    }

    #[test]
    fn only_loopback_is_open_to_everybody_unless_spelled_out() {
        let keys = Auth::Keys(vec![key(None)]);
        for address in ["127.0.0.1:4573", "127.8.8.8:1", "[::1]:4573", "[::ffff:127.0.0.1]:4573"] {
            assert_eq!(check_exposure(address.parse().unwrap(), &Auth::Anonymous, false), Ok(()));
        }
        for address in ["0.0.0.0:4573", "[::]:4573", "192.168.1.5:4573", "[::ffff:10.0.0.1]:4573"] {
            let address = address.parse().unwrap();
            assert!(check_exposure(address, &Auth::Anonymous, false).is_err());
            assert_eq!(check_exposure(address, &Auth::Anonymous, true), Ok(()));
            assert_eq!(check_exposure(address, &keys, false), Ok(()));
        }
        assert_eq!(
            check_exposure("0.0.0.0:4573".parse().unwrap(), &Auth::Anonymous, false).unwrap_err(),
            "listen address 0.0.0.0:4573 can be reached from the network and no credentials are configured\n\
             hint: give `credentials` in hydrant.yaml (`--config`), or spell out `--anonymous`"
        );
    }

    #[test]
    fn a_secret_is_never_printed() {
        let printed = format!("{:?} {:?}", key(None), Auth::Keys(vec![key(Some(&["a"]))]));
        assert!(printed.contains("AKID") && !printed.contains("canary"), "{printed}");
    }

    #[test]
    fn a_key_may_use_what_it_lists() {
        let (some, all) = (key(Some(&["a"])), key(None));
        assert!(Caller(Some(&some)).may_use("a") && !Caller(Some(&some)).may_use("b"));
        assert!(Caller(Some(&all)).may_use("b") && Caller(None).may_use("b"));
    }

    #[test]
    fn a_secret_must_match_whole() {
        let auth = Auth::Keys(vec![key(None)]);
        assert!(auth.key_by_secret("AKID", "canary").is_some());
        for secret in ["canar", "canaryy", "Canary", ""] {
            assert!(auth.key_by_secret("AKID", secret).is_none(), "{secret}");
        }
        assert!(auth.key_by_secret("AKIE", "canary").is_none());
        assert!(Auth::Anonymous.key_by_secret("AKID", "canary").is_none());
    }
}
