//! Patience: how long a connection may stay silent, dribble or refuse to read, before it is closed.
//!
//! hyper's own header timer also runs between requests, so it cannot tell a slow header (10 s) from an idle
//! connection (75 s), does not run before the first byte, and not on HTTP/2. Here the socket and the service tell a
//! [`Pace`] what they see, and [`Pace::watch`] ends the connection when a deadline passes.
//!
//! ```text
//! connected ─ header time ─► headers complete ─ (body limits, append) ─► answered ─ idle time ─► first byte ─ header time ─┐
//!                                   ▲──────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, sleep_until};

use super::Limits;

/// What is known about a connection's client, and until when it has to do something.
pub struct Pace {
    header_time_max: Duration,
    idle_time_max: Duration,
    write_time_max: Duration,
    state: Mutex<State>,
}

struct State {
    in_flight: u32,
    http2: bool,
    /// A header is on its way.
    dribbling: bool,
    /// Outside any request: until when a header must be complete, or begin.
    read_until: Option<Instant>,
    /// While the socket takes no bytes: until when it must.
    write_until: Option<Instant>,
}

impl Pace {
    /// Of a connection that was just accepted: its first header is due.
    pub fn new(limits: &Limits) -> Arc<Pace> {
        let &Limits { header_time_max, idle_time_max, write_time_max, .. } = limits;
        let read_until = Some(Instant::now() + header_time_max);
        let state = State { in_flight: 0, http2: false, dribbling: true, read_until, write_until: None };
        Arc::new(Pace { header_time_max, idle_time_max, write_time_max, state: Mutex::new(state) })
    }

    /// A request's headers are complete; it is in flight until the guard is dropped.
    pub fn begin(self: &Arc<Pace>, http2: bool) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.http2 = http2;
        state.dribbling = false;
        state.read_until = None;
        InFlight(self.clone())
    }

    /// Drives `connection` to its end, which is `None` if its client was too slow. Cancel-safe.
    ///
    /// What moves a deadline also wakes the connection's task, so looking after each of its polls is enough.
    pub async fn watch<F: Future>(&self, mut connection: Pin<&mut F>) -> Option<F::Output> {
        let mut late = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            if late.deadline() != deadline {
                late.as_mut().reset(deadline);
            }
            late.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn deadline(&self) -> Option<Instant> {
        let State { read_until, write_until, .. } = *self.state();
        match (read_until, write_until) {
            (Some(read), Some(write)) => Some(read.min(write)),
            (read, write) => read.or(write),
        }
    }

    /// Bytes came. On HTTP/2 they may be pings and the like, which neither begin a header nor buy time.
    fn came(&self) {
        let mut state = self.state();
        if state.in_flight == 0 && !state.dribbling && !state.http2 {
            state.dribbling = true;
            state.read_until = Some(Instant::now() + self.header_time_max);
        }
    }

    /// A write was taken, or has to wait.
    fn went(&self, taken: bool) {
        let mut state = self.state();
        state.write_until = match (taken, state.write_until) {
            (true, _) => None,
            (false, None) => Some(Instant::now() + self.write_time_max),
            (false, waiting) => waiting,
        };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request being answered.
pub struct InFlight(Arc<Pace>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.read_until = Some(Instant::now() + self.0.idle_time_max);
        }
    }
}

/// A socket that tells its [`Pace`] when bytes come and go.
pub struct Paced<T> {
    socket: T,
    pace: Arc<Pace>,
}

impl<T> Paced<T> {
    /// Wraps a fresh connection.
    pub fn new(socket: T, pace: Arc<Pace>) -> Paced<T> {
        Paced { socket, pace }
    }
}

impl<T: Read + Unpin> Read for Paced<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.socket).poll_read(cx, buffer);
        if read.is_ready() {
            this.pace.came();
        }
        read
    }
}

impl<T: Write + Unpin> Write for Paced<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.pace.went(written.is_ready());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, slices);
        this.pace.went(written.is_ready());
        written
    }
}
