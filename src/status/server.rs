//! The server of the admin address: few connections, each bounded in time and bytes, so that no client can exhaust it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::guard::{Guard, Refusal};
use crate::receive::Limits;
use crate::receive::patience::{Pace, Paced};

/// Connections at a time; further ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 64;
/// From the first byte of a request to the end of its headers.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// From one request of a connection to the next.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// For which a client may not read its answer.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// From the end of the headers to the end of the body.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Read and write buffer of a connection; also what hyper itself allows a header.
const CONNECTION_BUFFER_BYTES: usize = 64 << 10;
/// After a failed accept: no file descriptors are left, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every answer carries: who answers, and that browsers keep it to themselves.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::SERVER, concat!("hydrant/", env!("CARGO_PKG_VERSION"))),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Serves `routes` to whom the guard lets in, until `stop`: then it returns, and answers under way are dropped. `anonymous`:
/// anybody who can reach the address may act and see records.
pub async fn serve(listener: TcpListener, routes: Router, anonymous: bool, stop: CancellationToken) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return tracing::error!(%error, "the admin address is not served"),
    };
    let guard = Guard { address, anonymous };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accepting = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let connection = connection(socket, peer.ip(), guard, routes.clone());
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        let _ = stop.run_until_cancelled(connection).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin address: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let _ = stop.run_until_cancelled(accepting).await;
}

async fn connection(socket: TcpStream, peer: IpAddr, guard: Guard, routes: Router) {
    let _ = socket.set_nodelay(true);
    let pace = Pace::new(&Limits {
        header_time_max: HEADER_TIME_MAX,
        idle_time_max: IDLE_TIME_MAX,
        write_time_max: WRITE_TIME_MAX,
        ..Limits::default()
    });
    let socket = Paced::new(TokioIo::new(socket), pace.clone());
    let watch = pace.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let in_flight = pace.begin(false);
        let routes = routes.clone();
        async move {
            let mut answer = match admit(request, &guard, peer).await {
                Ok(request) => answer(request, routes).await,
                Err(Refusal { status, words }) => (status, words).into_response(),
            };
            for (name, value) in HEADERS {
                answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
            }
            answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
            // Under way until the last of its answer is written: a tap may be silent for long.
            Ok::<_, Infallible>(answer.map(|body| match body.size_hint().exact() {
                Some(_) => body,
                None => Body::new(body.map_frame(move |frame| {
                    let _ = &in_flight;
                    frame
                })),
            }))
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(CONNECTION_BUFFER_BYTES);
    let connection = pin!(builder.serve_connection(socket, service));
    if watch.watch(connection).await.is_none() {
        tracing::debug!("admin address: connection closed, its client was too slow");
    }
}

/// The request with its body read, if the guard lets it in.
async fn admit(request: Request<Incoming>, guard: &Guard, peer: IpAddr) -> Result<Request<Body>, Refusal> {
    let (mut head, body) = request.into_parts();
    let sight = guard.judge(&head, peer)?;
    head.extensions.insert(sight);
    if body.is_end_stream() {
        return Ok(Request::from_parts(head, Body::empty()));
    }
    let refusal = |status, wrong: String| Refusal { status, words: format!("{wrong}\n") };
    let too_long = || refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body exceeds {BODY_BYTES_MAX} bytes"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_long());
    }
    let read = tokio::time::timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_long()),
        Ok(Err(error)) => Err(refusal(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}"))),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body takes too long".into())),
    }
}

/// In a task of its own: what was begun for a client that goes away is done all the same.
async fn answer(request: Request<Body>, routes: Router) -> Response {
    let answering = tokio::spawn(async move {
        let service = TowerToHyperService::new(routes);
        hyper::service::Service::call(&service, request).await
    });
    match answering.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(panic) => {
            tracing::error!(%panic, "admin address: a request was not answered");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response()
        }
    }
}
