//! A mini HTTP/1.1 client over one kept connection, so that the test sees each answer, lost connection and retry itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take before the request counts as unanswered.
const ANSWER_MAX: Duration = Duration::from_secs(20);

pub struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(port: u16) -> Client {
        Client { address: SocketAddr::from(([127, 0, 0, 1], port)), connection: None }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends one request; an error means that nobody knows whether it was taken.
    pub fn post(&mut self, path: &str, headers: &str, body: &str) -> io::Result<(u16, String)> {
        let answer = self.request("POST", path, headers, body);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    pub fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        let answer = self.request("GET", path, "", "");
        self.connection = None;
        answer
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<(u16, String)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, ANSWER_MAX)?;
                stream.set_read_timeout(Some(ANSWER_MAX))?;
                stream.set_write_timeout(Some(ANSWER_MAX))?;
                stream.set_nodelay(true)?;
                self.connection.insert(BufReader::new(stream))
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len()
        );
        connection.get_mut().write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        let (status, len, close) = head_of(connection)?;
        let mut answer = vec![0; len];
        connection.read_exact(&mut answer)?;
        if close {
            self.connection = None;
        }
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }
}

/// Status, body length, and whether the connection ends behind the body.
fn head_of(connection: &mut impl BufRead) -> io::Result<(u16, usize, bool)> {
    let mut line = |text: &mut String| -> io::Result<()> {
        text.clear();
        match connection.read_line(text)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    };
    let wrong = |what: &str| io::Error::other(format!("not an HTTP answer: {what}"));
    let mut text = String::new();
    line(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| wrong(&text))?;
    let (mut len, mut close) = (None, false);
    loop {
        line(&mut text)?;
        let Some((name, value)) = text.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => len = value.trim().parse().ok(),
            "connection" => close = value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok((status, len.ok_or_else(|| wrong("no content-length"))?, close))
}
