//! Patience: how long a connection may stay silent, dribble or refuse to read, before it is closed.
//!
//! hyper's own header timer also runs between requests, so it cannot tell a slow header (10 s) from an idle
//! connection (75 s), does not run before the first byte, and not on HTTP/2. This wrapper of the socket knows only
//! two things, which is enough: how many requests are being answered, and when bytes came.
//!
//! ```text
//! connected ─ silence: header time ─► first byte ─ header time ─► requests in flight ─ (body limits) ─► answered ─ idle time ─┐
//!                                         ▲──────────────────────────── next request ──────────────────────────────────────────┘
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Limits;

/// What the connection's service tells its socket.
#[derive(Debug, Default)]
pub struct Pace {
    in_flight: AtomicU32,
    begun: AtomicU32,
    http2: AtomicBool,
}

impl Pace {
    /// A request's headers are complete; it is in flight until the guard is dropped.
    pub fn begin(self: &Arc<Pace>, http2: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.http2.store(http2, Ordering::Relaxed);
        InFlight(self.clone())
    }
}

/// A request being answered.
pub struct InFlight(Arc<Pace>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket whose reads and writes fail with `TimedOut` when the client is too slow.
pub struct Patient<T> {
    socket: T,
    pace: Arc<Pace>,
    header_time_max: Duration,
    idle_time_max: Duration,
    write_time_max: Duration,
    /// Requests begun when reading last looked; a change means that a header is complete.
    begun: u32,
    /// Whether bytes of an incomplete header have come.
    dribbling: bool,
    /// While reading waits outside any request: until when.
    read_until: Option<Pin<Box<Sleep>>>,
    /// While writing waits: until when.
    write_until: Option<Pin<Box<Sleep>>>,
}

impl<T> Patient<T> {
    /// Wraps a fresh connection.
    pub fn new(socket: T, pace: Arc<Pace>, limits: &Limits) -> Patient<T> {
        Patient {
            socket,
            pace,
            header_time_max: limits.header_time_max,
            idle_time_max: limits.idle_time_max,
            write_time_max: limits.write_time_max,
            begun: 0,
            dribbling: false,
            read_until: None,
            write_until: None,
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let begun = self.pace.begun.load(Ordering::Relaxed);
        if self.pace.in_flight.load(Ordering::Relaxed) > 0 || begun != self.begun {
            self.begun = begun;
            self.dribbling = false;
            self.read_until = None;
        }
        if self.pace.in_flight.load(Ordering::Relaxed) > 0 {
            return Poll::Pending; // the body has its own limits, and an append takes what it takes
        }
        let time_max = if self.dribbling || begun == 0 { self.header_time_max } else { self.idle_time_max };
        let until = self.read_until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + time_max)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Bytes came. On HTTP/2 they may be pings and the like, which neither begin a header nor buy time.
    fn got_bytes(&mut self) {
        let waiting = self.pace.in_flight.load(Ordering::Relaxed) == 0;
        if waiting && !self.dribbling && !self.pace.http2.load(Ordering::Relaxed) {
            self.dribbling = true;
            self.begun = self.pace.begun.load(Ordering::Relaxed);
            self.read_until = Some(Box::pin(sleep_until(Instant::now() + self.header_time_max)));
        }
    }

    fn poll_written<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.write_until = None;
            return written;
        }
        let time_max = self.write_time_max;
        let until = self.write_until.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + time_max)));
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: Read + Unpin> Read for Patient<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.socket).poll_read(cx, buffer) {
            Poll::Ready(done) => {
                this.got_bytes();
                Poll::Ready(done)
            }
            Poll::Pending => this.poll_patience(cx),
        }
    }
}

impl<T: Write + Unpin> Write for Patient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.poll_written(cx, written)
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
        this.poll_written(cx, written)
    }
}
