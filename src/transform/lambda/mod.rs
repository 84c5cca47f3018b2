//! `lambda`: a function written for Firehose, called over the Lambda Invoke API as Firehose calls it.
//!
//! ```text
//! batch | part | part | part |   by payload bytes, and by what a request may have
//!          |      |      |       at most `invocations_max` at a time; each: POST, retries
//!        over   over   throttled  -> again, for as long as others come to an end; so do the halves of what is too large
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

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;

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
/// Shards whose records are with the function at the same time, each with `invocations_max` calls and their answers in
/// memory; others wait for their turn.
const SHARDS_MAX: usize = 4;
/// How often parts of a batch are halved because they, or their answers, are too large: enough to find one record among a
/// million, and a function that always answers too much is not called for each record.
const HALVINGS_MAX: u32 = 128;

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
    turns: Semaphore,
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
            turns: Semaphore::new(SHARDS_MAX),
            failures: AtomicU64::new(0),
        }))
    }
}

#[async_trait]
impl Transform for Lambda {
    async fn apply(&self, batch: Batch) -> Result<Transformed, Fault> {
        let _turn = self.turns.acquire().await;
        let parts = self.envelope.split(&batch, self.gather.size_bytes);
        let mut parts: Vec<Part> = parts.into_iter().map(|rows| self.part(rows, 0)).collect();
        let mut answers = Answers::with_room_for(&batch);
        // Those that have come to an end before a part in front of them has.
        let mut ahead = BTreeMap::new();
        let (mut row, mut halvings) = (0, 0);
        while !parts.is_empty() {
            let calls = std::mem::take(&mut parts).into_iter().map(|part| {
                let batch = &batch;
                async move { self.call(batch, part).await }
            });
            let (mut goes_on, mut waits) = (false, None);
            let mut calls = std::pin::pin!(stream::iter(calls).buffer_unordered(self.invocations_max));
            while let Some((part, called)) = calls.next().await {
                let outcome = match called {
                    Called::Waits(fault) => {
                        waits = Some(fault);
                        parts.push(part);
                        continue;
                    }
                    Called::TooLarge(_) if halvings < HALVINGS_MAX && part.rows.len() > 1 => {
                        halvings += 1;
                        goes_on = true;
                        parts.extend(self.halves(&part));
                        continue;
                    }
                    Called::TooLarge(failure) => Err(failure),
                    Called::Over(outcome) => outcome,
                };
                goes_on = true;
                ahead.insert(part.rows.start, (part, outcome));
                while let Some((part, outcome)) = ahead.remove(&row) {
                    row = part.rows.end;
                    off_async(|| self.settle(&batch, &part, outcome, &mut answers));
                }
            }
            match waits {
                Some(fault) if !goes_on => return Err(fault),
                _ => parts.sort_by_key(|part| part.rows.start),
            }
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

/// Records that go into one call.
struct Part {
    rows: Range<usize>,
    ids: Ids,
    /// Calls with them so far.
    attempts: u32,
}

/// What calls for a part came to.
enum Called {
    /// An answer, or a failure that its records are set aside for.
    Over(Result<Bytes, Failure>),
    /// With fewer records it may go well.
    TooLarge(Failure),
    /// The function cannot be had, and is to be waited for.
    Waits(Fault),
}

impl Lambda {
    fn part(&self, rows: Range<usize>, attempts: u32) -> Part {
        Part { rows, ids: Ids::new(&self.random), attempts }
    }

    fn halves(&self, part: &Part) -> [Part; 2] {
        let Range { start, end } = part.rows;
        let middle = start + (end - start) / 2;
        [start..middle, middle..end].map(|rows| self.part(rows, part.attempts))
    }

    /// Calls the function for these records until it has answered, or was called as often as it may be in a row.
    async fn call(&self, batch: &Batch, mut part: Part) -> (Part, Called) {
        if !self.envelope.fits(batch, &part.rows) {
            return (part, Called::Over(Err(Failure::too_large("a record does not fit into a request"))));
        }
        let mut tries = 0;
        loop {
            (tries, part.attempts) = (tries + 1, part.attempts.saturating_add(1));
            let invoked = self.client.invoke(|| self.envelope.body(batch, &part.rows, &part.ids, &self.random)).await;
            let outcome = invoked.and_then(|reply| match off_async(|| reply::error_of(&reply)) {
                Some(failure) => Err(failure),
                None => Ok(reply),
            });
            let called = match outcome {
                Err(failure) if failure.of_size && part.rows.len() > 1 => Called::TooLarge(failure),
                Err(failure) if failure.may_pass() && tries < self.attempts_max => {
                    self.pause(tries).await;
                    continue;
                }
                Err(failure) if failure.is_unreachable() && self.on_unreachable == OnUnreachable::Wait => {
                    Called::Waits(self.fault(failure, tries))
                }
                outcome => Called::Over(outcome),
            };
            return (part, called);
        }
    }

    fn fault(&self, failure: Failure, tries: u32) -> Fault {
        let Failure { detail, hint, .. } = failure;
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let (name, endpoint, tries_max) = (&self.name, self.client.endpoint(), self.attempts_max);
        let text = format!("lambda {name} at {endpoint}: {detail}, {tries} of {tries_max} calls{hint}");
        Fault::transform(anyhow::Error::msg(text))
    }

    async fn pause(&self, attempts: u32) {
        let whole = (PAUSE_FIRST * 2u32.saturating_pow((attempts - 1).min(16))).min(PAUSE_LONGEST);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(half_ms + self.random.u64() % (half_ms + 1))).await;
    }

    /// Adds what became of these records to the answers.
    fn settle(&self, batch: &Batch, part: &Part, outcome: Result<Bytes, Failure>, answers: &mut Answers) {
        let Part { rows, ids, attempts } = part;
        let invoked = Invoked { attempts: *attempts, function: self.arn.clone() };
        let settled = outcome.and_then(|reply| reply::settle(batch, rows.clone(), ids, &reply, &invoked, answers));
        match settled {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(failure) => {
                self.say(&failure, rows, *attempts);
                rows.clone().for_each(|row| answers.fail_after(batch, row, &invoked, failure.code, &*failure.message));
            }
        }
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
