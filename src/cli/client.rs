//! Commands that talk to a running daemon, at its admin address.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::paint::plain;
use crate::config::ADMIN_DEFAULT;
use crate::status::guard;

/// For a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// For an answer, unless a command says otherwise.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer: some kilobytes for each pipeline.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of one line of an answer in lines.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Which daemon.
#[derive(Debug, Clone, Args)]
pub struct Daemon {
    /// The admin address of the daemon [default: $HYDRANT_ADMIN, else 127.0.0.1:4574]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    admin: Option<String>,
}

/// A daemon that can be asked.
pub struct Client {
    address: String,
    runtime: Runtime,
}

/// Why there is no answer that can be used, in words with a hint.
#[derive(Debug)]
pub struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An answer of the daemon, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
    address: String,
}

impl Daemon {
    /// Ready to ask. Opens no connection yet.
    pub fn client(&self) -> Result<Client, Unanswered> {
        let address = match &self.admin {
            Some(address) => address.clone(),
            None => match std::env::var("HYDRANT_ADMIN") {
                Ok(given) if !given.is_empty() => {
                    address(&given).map_err(|wrong| Unanswered(format!("HYDRANT_ADMIN: {wrong}, found `{given}`")))?
                }
                _ => ADMIN_DEFAULT.to_owned(),
            },
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Unanswered(format!("no client can be started: {error}")))?;
        Ok(Client { address, runtime })
    }
}

/// `HOST:PORT`, where the host may be a name.
fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("expected an address such as `{ADMIN_DEFAULT}`")),
    }
}

impl Client {
    /// Whom it asks.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The answer to `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer, Unanswered> {
        self.ask(Method::GET, path, ANSWER_TIME_MAX)
    }

    /// The answer to `POST path`, for which the daemon may take so long.
    pub fn post(&self, path: &str, time_max: Duration) -> Result<Answer, Unanswered> {
        self.ask(Method::POST, path, time_max)
    }

    fn ask(&self, method: Method, path: &str, time_max: Duration) -> Result<Answer, Unanswered> {
        let asking = async {
            let response = self.send(method, path, Bytes::new()).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.broken(&error))?.to_bytes();
            Ok(Answer { status, body, address: self.address.clone() })
        };
        self.runtime.block_on(self.within(time_max, asking))
    }

    async fn within<T>(
        &self,
        time_max: Duration,
        asking: impl Future<Output = Result<T, Unanswered>>,
    ) -> Result<T, Unanswered> {
        let late = || Unanswered(format!("the daemon at {} takes longer than {time_max:?} to answer", self.address));
        tokio::time::timeout(time_max, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// Gives each line of the answer to `GET path` to `each`, until it breaks off or the daemon does; an answer other than
    /// 200 is given back. Once it has begun, the time it takes is not limited.
    pub fn lines(&self, path: &str, each: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<Option<Answer>, Unanswered> {
        self.lines_of(Method::GET, path, Bytes::new(), each)
    }

    /// As [`lines`](Self::lines), of the answer to a `POST` of this body.
    pub fn post_for_lines(
        &self,
        path: &str,
        body: Vec<u8>,
        each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Option<Answer>, Unanswered> {
        self.lines_of(Method::POST, path, body.into(), each)
    }

    fn lines_of(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<Option<Answer>, Unanswered> {
        self.runtime.block_on(async {
            let response = self.within(ANSWER_TIME_MAX, self.send(method, path, body)).await?;
            let status = response.status();
            let mut body = response.into_body();
            let mut begun = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                begun.extend_from_slice(&frame.into_data().unwrap_or_default());
                if begun.len() > LINE_BYTES_MAX {
                    return Err(self.broken(&"a line without an end"));
                }
                while status == StatusCode::OK
                    && let Some(end) = memchr::memchr(b'\n', &begun)
                {
                    let line = begun.split_to(end + 1);
                    if each(&line[..end]).is_break() {
                        return Ok(None);
                    }
                }
            }
            let answer = || Answer { status, body: begun.freeze(), address: self.address.clone() };
            Ok((status != StatusCode::OK).then(answer))
        })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Unanswered> {
        let address = &self.address;
        let nobody = |why: &dyn fmt::Display| {
            Unanswered(format!(
                "no daemon answers at {address}: {why}\nhint: is it running? name its admin address with --admin"
            ))
        };
        let connecting = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(address.as_str())).await;
        let socket = connecting.map_err(|_| nobody(&"no connection in time"))?.map_err(|error| nobody(&error))?;
        let stranger = || {
            Unanswered(format!(
                "what answers at {address} is not the admin address of a hydrant\n\
                 hint: `hydrant run` logs it when it starts; name it with --admin"
            ))
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address)
            .header(header::USER_AGENT, concat!("hydrant/", env!("CARGO_PKG_VERSION")))
            .header(guard::HEADER, "1")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        // Not HTTP at all, or closed at once: as one that was asked in a language that it does not speak does.
        let response = sender.send_request(request).await.map_err(|error| match error.is_parse() {
            true => stranger(),
            false => self.broken(&error),
        })?;
        let server = response.headers().get(header::SERVER).and_then(|server| server.to_str().ok());
        match server.is_some_and(|server| server.starts_with("hydrant/")) {
            true => Ok(response),
            false => Err(stranger()),
        }
    }

    fn broken(&self, why: &dyn fmt::Display) -> Unanswered {
        Unanswered(format!("the daemon at {} broke off: {why}\nhint: its log may say why", self.address))
    }
}

impl Answer {
    /// What the daemon says, if it says it with this status.
    pub fn of<T: DeserializeOwned>(&self, expected: &[StatusCode]) -> Result<T, Unanswered> {
        if !expected.contains(&self.status) {
            return Err(self.refused());
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Unanswered(format!(
                "what the daemon at {} tells cannot be read: {error}\nhint: is it of another version than this command?",
                self.address
            ))
        })
    }

    /// That the daemon does not do what it was asked, in its own words.
    pub fn refused(&self) -> Unanswered {
        let words = String::from_utf8_lossy(&self.body);
        match words.trim_end() {
            "" => Unanswered(format!("the daemon at {} answers {}", self.address, self.status)),
            words => Unanswered(plain(words).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for right in ["127.0.0.1:4574", "[::1]:1", "hydrant:4574"] {
            assert_eq!(address(right), Ok(right.to_owned()));
        }
        for wrong in ["", "4574", ":4574", "localhost", "http://localhost:4574", "localhost:port", "localhost:70000"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
