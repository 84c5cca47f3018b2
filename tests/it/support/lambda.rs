//! A function behind the Invoke API in this process, over real HTTP on 127.0.0.1, that answers what a story wants: also what
//! no real function can be made to answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::http::Request;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// How many came before it.
    pub number: usize,
    pub head: Parts,
    pub body: Vec<u8>,
}

/// What is answered.
pub enum Answer {
    /// 200 with this body.
    Ok(String),
    /// 200 with the header that says that the function failed.
    FunctionError(String),
    /// Status, headers (each with its line end) and body.
    Status(u16, &'static str, String),
    /// 200 and so many bytes without a word about their number.
    Endless(usize),
    /// 200, the length of this body, and half of it.
    Half(String),
    /// The connection is closed without a word.
    Nothing,
    /// No answer, ever.
    Never,
}

/// A function that is served until this is dropped.
pub struct Function {
    pub address: SocketAddr,
    calls: Arc<Mutex<Calls>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Calls {
    all: Vec<Call>,
    under_way: usize,
    under_way_most: usize,
}

impl Function {
    /// Serves a function at a port of the system's choice.
    pub async fn start(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Function {
        Function::start_at("127.0.0.1:0".parse().unwrap(), 1, answer).await
    }

    /// Serves a function that answers only when `together` calls are under way.
    pub async fn start_at(
        address: SocketAddr,
        together: usize,
        answer: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Function {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::<Mutex<Calls>>::default();
        let (all, answer, barrier) = (calls.clone(), Arc::new(answer), Arc::new(Barrier::new(together)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((socket, _)) = listener.accept().await else { continue };
                let (all, answer, barrier) = (all.clone(), answer.clone(), barrier.clone());
                connections.spawn(async move {
                    // A client that hangs up is not this server's trouble.
                    let _ = serve(socket, &all, &*answer, &barrier).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Function { address, calls, _serving: serving }
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().all.clone()
    }

    /// How many calls were under way at the same time, at the most.
    pub fn under_way_most(&self) -> usize {
        self.calls.lock().unwrap().under_way_most
    }
}

async fn serve(
    mut socket: TcpStream,
    calls: &Mutex<Calls>,
    answer: &(impl Fn(&Call) -> Answer + Sync),
    barrier: &Barrier,
) -> std::io::Result<()> {
    let (head, body) = read(&mut socket).await?;
    let call = {
        let mut calls = calls.lock().unwrap();
        calls.under_way += 1;
        calls.under_way_most = calls.under_way_most.max(calls.under_way);
        let call = Call { number: calls.all.len(), head, body };
        calls.all.push(call.clone());
        call
    };
    barrier.wait().await;
    let answer = answer(&call);
    calls.lock().unwrap().under_way -= 1;
    let whole = |status: u16, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
    };
    let text = match answer {
        Answer::Ok(body) => whole(200, "", &body),
        Answer::FunctionError(body) => whole(200, "X-Amz-Function-Error: Unhandled\r\n", &body),
        Answer::Status(status, headers, body) => whole(status, headers, &body),
        Answer::Endless(bytes) => format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", " ".repeat(bytes)),
        Answer::Half(body) => {
            let mut text = whole(200, "", &body);
            text.truncate(text.len() - body.len() / 2);
            text
        }
        Answer::Nothing => return Ok(()),
        Answer::Never => std::future::pending().await,
    };
    socket.write_all(text.as_bytes()).await?;
    socket.shutdown().await
}

async fn read(socket: &mut TcpStream) -> std::io::Result<(Parts, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = head(std::str::from_utf8(&bytes[..end]).unwrap());
            let length: usize = head.headers["content-length"].to_str().unwrap().parse().unwrap();
            while bytes.len() < end + 4 + length {
                socket.read_buf(&mut bytes).await?;
            }
            return Ok((head, bytes.split_off(end + 4)));
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn head(text: &str) -> Parts {
    let (line, headers) = text.split_once("\r\n").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let mut request = Request::builder().method(words[0]).uri(words[1]);
    for header in headers.split("\r\n") {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

impl Call {
    /// The request.
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Record ids and payloads as texts.
    pub fn records(&self) -> Vec<(String, String)> {
        let text = |data: &Value| base64_simd::STANDARD.decode_to_vec(data.as_str().unwrap()).unwrap();
        let record = |record: &Value| {
            let payload = String::from_utf8(text(&record["data"])).unwrap();
            (record["recordId"].as_str().unwrap().to_owned(), payload)
        };
        self.event()["records"].as_array().unwrap().iter().map(record).collect()
    }

    /// Answers each record by what `each` makes of its payload.
    pub fn answer(&self, each: impl Fn(&str) -> Value) -> Answer {
        let answered = self.records().into_iter().map(|(id, payload)| {
            let mut entry = each(&payload);
            entry["recordId"] = id.into();
            entry
        });
        Answer::Ok(json!({ "records": answered.collect::<Vec<_>>() }).to_string())
    }

    /// Answers each record with its payload in capital letters.
    pub fn shout(&self) -> Answer {
        self.answer(|payload| ok(&payload.to_uppercase()))
    }
}

/// An entry with this payload, but for its id.
pub fn ok(payload: &str) -> Value {
    json!({ "result": "Ok", "data": base64_simd::STANDARD.encode_to_string(payload) })
}
