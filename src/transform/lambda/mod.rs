//! `lambda`: a function written for Firehose, called over the Lambda Invoke API as Firehose calls it.
//!
//! ```text
//! batch | part | part | part |   by payload bytes, and by what a request may have
//!          |      |      |       at most `invocations_max` at a time; each: POST, retries
//!       answers in the order of the parts -> Answers in the order of the records
//! ```
//! What Firehose gives up after its retries is told apart. A function that fails, is too slow or answers nonsense sets its
//! records aside, as with Firehose. A function that cannot be had (no connection, no permission, throttled) is no
//! record's fault: it is waited for, unless `on_unreachable: reject` says otherwise.

mod client;
mod function;
mod options;
mod reply;
mod request;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{Answers, Invoked, Making, Transform, Transformed, Wrong};
use crate::cpu::off_async;
use crate::error::Fault;
use crate::ground::Random;
use crate::record::Batch;
use crate::source::gather::Gather;

use client::{Client, Failure};
pub use options::{Buffer, OnUnreachable, Options};
use request::{Envelope, Ids};

/// The pause before a call is repeated: doubled each time, up to the longest, and half of it by chance.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// A function, ready to be called.
pub struct Lambda {
    pipeline: String,
    name: String,
    arn: Arc<str>,
    client: Client,
    envelope: Envelope,
    gather: Gather,
    invocations_max: usize,
    attempts_max: u32,
    on_unreachable: OnUnreachable,
    random: Random,
    /// Calls in a row that came to nothing: said at the 1st, 2nd, 4th ...
    failures: AtomicU64,
}

impl Options {
    /// The transform. Opens no socket.
    pub fn make(&self, making: &Making) -> Result<Arc<dyn Transform>, Wrong> {
        let checked = self.check(making.pipeline)?;
        let size_bytes = self.buffer.size.bytes();
        Ok(Arc::new(Lambda {
            pipeline: making.pipeline.to_owned(),
            name: checked.function.name.clone(),
            arn: checked.arn.as_str().into(),
            client: Client::new(&checked, self)?,
            envelope: Envelope::new(&checked.delivery_stream_arn, &checked.region),
            gather: Gather {
                size_bytes,
                size_bytes_most: size_bytes.saturating_mul(self.invocations_max as u64),
                interval: self.buffer.interval.duration(),
            },
            invocations_max: self.invocations_max,
            attempts_max: self.retries.saturating_add(1),
            on_unreachable: self.on_unreachable,
            random: Random::real(),
            failures: AtomicU64::new(0),
        }))
    }
}

#[async_trait]
impl Transform for Lambda {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let parts = self.envelope.split(&batch, self.gather.size_bytes);
        let calls = parts.into_iter().map(|rows| {
            let batch = &batch;
            async move { (rows.clone(), self.call(batch, rows).await) }
        });
        let mut answers = Answers::with_room_for(&batch);
        let mut calls = std::pin::pin!(stream::iter(calls).buffered(self.invocations_max));
        while let Some((rows, called)) = calls.next().await {
            off_async(|| self.settle(&batch, rows, called, &mut answers))?;
        }
        Ok(answers.finish())
    }

    fn gather(&self) -> Option<Gather> {
        Some(self.gather)
    }

    fn shown(&self) -> String {
        format!("lambda {}", self.name)
    }
}

/// What calls for one part came to.
struct Called {
    ids: Ids,
    attempts: u32,
    outcome: Result<Bytes, Failure>,
}

impl Lambda {
    /// Calls the function for these rows until it has answered, or was called as often as it may be.
    async fn call(&self, batch: &Batch, rows: Range<usize>) -> Called {
        let ids = Ids::new(&self.random);
        if !self.envelope.fits(batch, &rows) {
            return Called { ids, attempts: 0, outcome: Err(Failure::too_large()) };
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let outcome = self.client.invoke(|| self.envelope.body(batch, &rows, &ids, &self.random)).await;
            match outcome {
                Err(failure) if failure.may_pass() && attempts < self.attempts_max => self.pause(attempts).await,
                outcome => return Called { ids, attempts, outcome },
            }
        }
    }

    async fn pause(&self, attempts: u32) {
        let whole = (PAUSE_FIRST * 2u32.saturating_pow((attempts - 1).min(16))).min(PAUSE_LONGEST);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(half_ms + self.random.u64() % (half_ms + 1))).await;
    }

    /// Adds what became of these rows to the answers, or finds that the function is to be waited for.
    fn settle(&self, batch: &Batch, rows: Range<usize>, called: Called, answers: &mut Answers) -> Result<(), Fault> {
        let Called { ids, attempts, outcome } = called;
        let invoked = Invoked { attempts, function: self.arn.clone() };
        let failure = match outcome {
            Err(failure) => failure,
            Ok(reply) => match reply::settle(batch, rows.clone(), &ids, &reply, &invoked, answers) {
                Ok(()) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                Err(unusable) => unusable,
            },
        };
        if failure.is_unreachable() && self.on_unreachable == OnUnreachable::Wait {
            let Failure { detail, hint, .. } = failure;
            let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            let (name, endpoint) = (&self.name, self.client.endpoint());
            return Err(Fault::transform(anyhow::Error::msg(format!(
                "lambda {name} at {endpoint}: {detail}, {attempts} of {} calls{hint}",
                self.attempts_max
            ))));
        }
        self.say(&failure, &rows, attempts);
        rows.for_each(|row| answers.fail_after(batch, row, &invoked, failure.code, &*failure.message));
        Ok(())
    }

    fn say(&self, failure: &Failure, rows: &Range<usize>, attempts: u32) {
        if (self.failures.fetch_add(1, Ordering::Relaxed) + 1).is_power_of_two() {
            let (pipeline, function, records) = (&self.pipeline, &self.name, rows.len());
            let (code, error) = (failure.code, &failure.detail);
            tracing::warn!(
                pipeline,
                function,
                attempts,
                records,
                code,
                error,
                "a call came to nothing: its records are set aside"
            );
        }
    }
}
