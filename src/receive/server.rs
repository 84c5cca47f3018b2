//! The data server: connections, their limits, and which door a request is for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::{Pace, Paced};
use super::{Doors, Reply, aws, http};

/// Read and write buffer of an HTTP/1 connection; also what hyper itself allows a header.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 128;

/// What an HTTP/2 client may send ahead of our reading, per connection and per stream: outside the byte budget.
const HTTP2_WINDOW_BYTES: u32 = 512 * 1024;

/// After a failed accept (no file descriptors left, mostly): waiting helps, trying at once does not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled; then accepts nothing more, answers the requests in flight (for at most
/// `limits.stop_time_max`), and returns. The streams are the caller's to stop, after this.
///
/// The listener comes bound, so that an address in use is an error of the start, not of a task.
pub async fn serve(listener: TcpListener, doors: Arc<Doors>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(doors.limits().connections_max));
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _killed_when_dropped = kill.clone().drop_guard();
    let accepting = async {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = connection(socket, doors.clone(), stop.clone());
            let kill = kill.clone();
            connections.spawn(async move {
                // Killed or done, the connection is over, and its place free.
                let _ = kill.run_until_cancelled(connection).await;
                drop(place);
            });
        }
    };
    let _ = stop.run_until_cancelled(accepting).await;
    drop(listener);
    connections.close();
    if tokio::time::timeout(doors.limits().stop_time_max, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests cut off by the stop");
        kill.cancel();
        connections.wait().await;
    }
}

async fn connection(socket: TcpStream, doors: Arc<Doors>, stop: CancellationToken) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "connection lost");
        return;
    }
    let pace = Pace::new(doors.limits());
    let socket = Paced::new(TokioIo::new(socket), pace.clone());
    let watch = pace.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let in_flight = pace.begin(request.version() == Version::HTTP_2);
        let doors = doors.clone();
        async move {
            // In a task of its own: a client that goes away must not free its bytes in the budget while they still wait
            // for the writer.
            let answering = tokio::spawn(async move { answer(&doors, request).await });
            let reply = answering.await.unwrap_or_else(|panic| {
                tracing::error!(%panic, "a request was not answered");
                http::error(StatusCode::INTERNAL_SERVER_ERROR, "internal error", None)
            });
            drop(in_flight);
            Ok::<Reply, Infallible>(reply)
        }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(socket, service));
    let ended = tokio::select! {
        ended = watch.watch(connection.as_mut()) => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            watch.watch(connection.as_mut()).await
        }
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(error, "connection lost"),
        None => tracing::debug!("connection closed: its client was too slow"),
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None) // `patience.rs` keeps the time
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_header_list_size(CONNECTION_BUFFER_BYTES as u32);
    builder
}

/// An AWS call is known by its target header, as AWS ignores the path; all else goes by path.
fn answer<'a>(doors: &'a Doors, request: Request<Incoming>) -> impl Future<Output = Reply> + Send + 'a {
    let (head, body) = request.into_parts();
    async move {
        let header_bytes_max = doors.limits().header_bytes_max;
        if header_bytes(&head.headers) + head.uri.path().len() > header_bytes_max {
            let error = format!("headers exceed {header_bytes_max} bytes");
            return http::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &error, None);
        }
        if head.method == Method::POST && head.headers.contains_key(aws::TARGET) {
            return aws::answer(doors, &head, body).await;
        }
        http::answer(doors, &head, body).await
    }
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}
