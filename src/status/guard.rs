//! Who may ask the admin address for what: it has no password.
//!
//! | from | reads | acts, shows records |
//! | --- | --- | --- |
//! | this machine, by a loopback name | yes | with the header [`HEADER`] |
//! | this machine, by another name | refused where the address is loopback; else as from afar | no |
//! | this machine, for somebody else (a proxy that says so) | as from afar | no |
//! | afar | yes, without samples of records | no, unless `admin_anonymous` is spelled out |
//!
//! A page of another site in somebody's browser can send requests here, but neither the header nor see an answer, as we allow
//! no cross-origin requests. By a name of its own that leads here (DNS rebinding) it could; so names are looked at.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};

/// The header that requests carry which change something or show records; its value is `1`.
pub const HEADER: &str = "x-hydrant";

/// Where records are shown.
pub const TAP: &str = "/api/tap";

/// What a proxy on this machine says when it asks for somebody else, who is afar then.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// All header names and values of a request together, in bytes, with its path.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// How an address is guarded.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// Where it is bound.
    pub address: SocketAddr,
    /// Whether anybody who can reach it may act and see records.
    pub anonymous: bool,
}

/// How much an asker may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    All,
    /// Nothing of what records hold.
    NoRecords,
}

/// A request that is refused: its status, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub words: String,
}

impl Refusal {
    /// With a hint.
    pub fn new(status: StatusCode, wrong: &str, hint: &str) -> Refusal {
        Refusal { status, words: format!("{wrong}\nhint: {hint}\n") }
    }
}

impl Guard {
    /// What the asker at `peer` may see, if the request is to be answered at all.
    pub fn judge(&self, head: &Parts, peer: IpAddr) -> Result<Sight, Refusal> {
        let bytes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        if bytes + head.uri.to_string().len() > HEADER_BYTES_MAX {
            let wrong = format!("headers exceed {HEADER_BYTES_MAX} bytes\n");
            return Err(Refusal { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, words: wrong });
        }
        let by_loopback = names_loopback(head);
        if is_loopback(self.address.ip()) && !by_loopback {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "the Host of the request is not this machine",
                "ask for localhost or 127.0.0.1; a proxy has to set the header Host so",
            ));
        }
        let is_near =
            is_loopback(peer) && by_loopback && !FORWARDED.iter().any(|name| head.headers.contains_key(*name));
        let sight = if is_near || self.anonymous { Sight::All } else { Sight::NoRecords };
        let only_looks = matches!(head.method, Method::GET | Method::HEAD) && head.uri.path() != TAP;
        if only_looks {
            return Ok(sight);
        }
        if sight == Sight::NoRecords {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "from afar this address tells how pipelines stand, and no more: it has no password",
                "ask on the machine itself, at localhost, or let everybody by `admin_anonymous: true` in hydrant.yaml",
            ));
        }
        if head.headers.get(HEADER).is_none_or(|value| value != "1") {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "requests that change something or show records say that they mean it",
                "send the header `x-hydrant: 1`",
            ));
        }
        Ok(sight)
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether the request was meant for this machine by a name that leads nowhere else. Browsers always name a host, so one
/// without is from none.
fn names_loopback(head: &Parts) -> bool {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_loopback_name),
        (None, _) => true,
        (Some(_), Some(_)) => false,
    };
    named && head.uri.host().is_none_or(is_loopback_name)
}

fn is_loopback_name(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split_once(']').and_then(|(address, _)| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| is_loopback(address.into()));
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const NEAR: &str = "127.0.0.1:4574";
    const EVERYWHERE: &str = "0.0.0.0:4574";

    /// The status, or what may be seen, of a request such as `GET /x` with these headers.
    fn judged(bound: &str, anonymous: bool, peer: &str, what: &str, headers: &[(&str, &str)]) -> Result<Sight, u16> {
        let (method, path) = what.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let guard = Guard { address: bound.parse().unwrap(), anonymous };
        guard.judge(&head, peer.parse().unwrap()).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn on_this_machine_only_loopback_names_are_answered() {
        for host in ["localhost:4574", "LOCALHOST", "localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]:4574", "[::1]"] {
            assert_eq!(judged(NEAR, false, "127.0.0.1", "GET /", &[("host", host)]), Ok(Sight::All), "{host}");
        }
        for host in ["evil.example:4574", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", ""] {
            assert_eq!(judged(NEAR, true, "127.0.0.1", "GET /healthz", &[("host", host)]), Err(403), "{host}");
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(judged(NEAR, false, "127.0.0.1", "GET /", &two), Err(403));
        assert_eq!(judged(NEAR, false, "127.0.0.1", "GET http://evil.example/", &[("host", "localhost")]), Err(403));
        assert_eq!(judged(NEAR, false, "127.0.0.1", "GET /", &[]), Ok(Sight::All), "no browser leaves it out");
    }

    #[test]
    fn what_changes_something_or_shows_records_carries_the_header() {
        let local = ("host", "localhost");
        for what in ["POST /api/reload", "DELETE /", "OPTIONS /api/reload", "GET /api/tap", "GET /api/tap?pipeline=x"] {
            assert_eq!(judged(NEAR, false, "127.0.0.1", what, &[local]), Err(403), "{what}");
            assert_eq!(judged(NEAR, false, "127.0.0.1", what, &[local, ("x-hydrant", "0")]), Err(403), "{what}");
            assert_eq!(judged(NEAR, false, "127.0.0.1", what, &[local, ("x-hydrant", "1")]), Ok(Sight::All), "{what}");
        }
    }

    #[test]
    fn from_afar_one_may_look_and_no_more() {
        let (afar, meant) = ([("host", "lake:4574")], [("host", "lake:4574"), ("x-hydrant", "1")]);
        for path in ["GET /api/status", "GET /metrics", "HEAD /healthz", "GET /"] {
            assert_eq!(judged(EVERYWHERE, false, "10.0.0.7", path, &afar), Ok(Sight::NoRecords), "{path}");
        }
        for what in ["POST /api/reload", "GET /api/tap"] {
            assert_eq!(judged(EVERYWHERE, false, "10.0.0.7", what, &meant), Err(403), "{what}");
            assert_eq!(judged(EVERYWHERE, true, "10.0.0.7", what, &meant), Ok(Sight::All), "{what}");
            assert_eq!(judged(EVERYWHERE, true, "10.0.0.7", what, &afar), Err(403), "{what}");
        }
    }

    #[test]
    fn on_the_machine_itself_an_address_for_the_network_is_one_for_loopback() {
        let meant = |host| [("host", host), ("x-hydrant", "1")];
        let judged = |host| judged(EVERYWHERE, false, "::ffff:127.0.0.1", "POST /api/reload", &meant(host));
        assert_eq!(judged("localhost:4574"), Ok(Sight::All));
        assert_eq!(judged("evil.example:4574"), Err(403), "a name that leads here");
    }

    #[test]
    fn whom_a_proxy_asks_for_is_afar() {
        for name in FORWARDED {
            let headers = [("host", "localhost"), ("x-hydrant", "1"), (name, "10.0.0.7")];
            assert_eq!(judged(NEAR, false, "127.0.0.1", "GET /api/status", &headers), Ok(Sight::NoRecords), "{name}");
            assert_eq!(judged(NEAR, false, "127.0.0.1", "POST /api/reload", &headers), Err(403), "{name}");
            assert_eq!(judged(NEAR, true, "127.0.0.1", "POST /api/reload", &headers), Ok(Sight::All), "{name}");
        }
    }

    #[test]
    fn long_headers_are_refused() {
        let long = "x".repeat(HEADER_BYTES_MAX);
        assert_eq!(judged(NEAR, false, "127.0.0.1", "GET /", &[("host", "localhost"), ("cookie", &long)]), Err(431));
    }
}
