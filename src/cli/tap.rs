//! `hydrant tap`: records of a running pipeline, as they pass.

use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::Args;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::client::{Client, Daemon, Unanswered};
use super::paint::{Ink, Paint, bytes, clock, count, of, plain, plain_json};
use super::{Exit, complain};
use crate::live::tap::{RATE_DEFAULT, RATE_MAX};
use crate::nearest::nearest;
use crate::status::guard;
use crate::status::tap::no_such;
use crate::status::view::View;

/// Arguments of `hydrant tap`.
#[derive(Debug, Args)]
#[command(
    after_help = "STAGE: source; the number or the word of a transform, to see what comes out of it; format, to see what goes \
                        into it (the default); rejected, with the reason; delivered, one line per object.\n\
                        Records are samples: the pipeline does not wait for whoever looks at it.\n\n\
                        Examples:\n  hydrant tap clickstream\n  hydrant tap clickstream.source --limit 10 --json\n  \
                        hydrant tap clickstream.rejected"
)]
pub struct Arguments {
    /// A pipeline, and where on the way its records are looked at
    #[arg(value_name = "PIPELINE[.STAGE]")]
    target: String,
    /// End after so many
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// So many in a second at the most
    #[arg(long, value_name = "RECORDS", default_value_t = RATE_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: u32,
    /// Print lines as the daemon tells them: JSON, with time, stage and keys
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Prints records until the limit, the end of the pipeline, or ctrl-C; what passed unseen is said on standard error.
pub fn tap(arguments: Arguments) -> Exit {
    match tapped(&arguments) {
        Ok(exit) => exit,
        Err(why) => {
            complain(why);
            Exit::Failed
        }
    }
}

fn tapped(arguments: &Arguments) -> Result<Exit, Unanswered> {
    let client = arguments.daemon.client()?;
    let (pipeline, stage) = match target(&client, &arguments.target)? {
        Ok(target) => target,
        Err(words) => {
            complain(words);
            return Ok(Exit::Usage);
        }
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("pipeline", &pipeline).append_pair("rate", &arguments.rate.to_string());
    if let Some(stage) = stage {
        query.append_pair("stage", &stage);
    }
    if let Some(limit) = arguments.limit {
        query.append_pair("limit", &limit.to_string());
    }
    let mut printer = Printer::new(arguments);
    let refused = client.lines(&format!("{}?{}", guard::TAP, query.finish()), |line| printer.print(line))?;
    Ok(match refused {
        None => Exit::Done,
        Some(answer) => {
            complain(answer.refused());
            if answer.status == StatusCode::NOT_FOUND { Exit::Usage } else { Exit::Failed }
        }
    })
}

type Target = (String, Option<String>);

/// The pipeline and the stage that are meant, where a pipeline's name may have dots.
fn target(client: &Client, target: &str) -> Result<Result<Target, String>, Unanswered> {
    let view: View = client.get("/api/status?only=")?.of(&[StatusCode::OK])?;
    let names: Vec<&str> = view.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    Ok(split(target, &names).map(|(name, stage)| (name.to_owned(), stage.map(str::to_owned))))
}

fn split<'t>(target: &'t str, names: &[&str]) -> Result<(&'t str, Option<&'t str>), String> {
    if names.contains(&target) {
        return Ok((target, None));
    }
    let dots = target.rmatch_indices('.').map(|(at, _)| (&target[..at], &target[at + 1..]));
    if let Some((name, stage)) = dots.clone().find(|(name, _)| names.contains(name)) {
        return Ok((name, Some(stage)));
    }
    let near = |name: &str| nearest(name, names.iter().copied()).is_some();
    let meant = std::iter::once(target).chain(dots.map(|(name, _)| name)).find(|name| near(name)).unwrap_or(target);
    Err(no_such("pipeline", meant, names.iter().copied()))
}

/// A line of the daemon's.
#[derive(Debug, Deserialize)]
struct Line<'l> {
    passed: Option<u64>,
    left_out: Option<u64>,
    ended: Option<String>,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    arrival_ms: i64,
    #[serde(borrow)]
    payload: Option<&'l RawValue>,
    text: Option<String>,
    base64: Option<String>,
    whole_bytes: Option<u64>,
    code: Option<String>,
    message: Option<String>,
    object: Option<String>,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    at_ms: i64,
    key: Option<String>,
    partition_keys: Option<Value>,
}

struct Printer {
    json: bool,
    rate: u32,
    paint: Paint,
    paint_aside: Paint,
    left_out: u64,
    open: bool,
}

impl Printer {
    fn new(arguments: &Arguments) -> Printer {
        let (paint, paint_aside) = (Paint::of_stdout(), Paint::of_stderr());
        Printer { json: arguments.json, rate: arguments.rate, paint, paint_aside, left_out: 0, open: false }
    }

    /// Prints a line, until nobody reads any more.
    fn print(&mut self, line: &[u8]) -> ControlFlow<()> {
        let Ok(read) = serde_json::from_slice::<Line>(line) else { return ControlFlow::Continue(()) };
        if let Some(ended) = &read.ended {
            complain(plain(ended));
            return ControlFlow::Break(());
        }
        if let (Some(passed), Some(left_out)) = (read.passed, read.left_out) {
            self.aside(passed, left_out);
            return ControlFlow::Continue(());
        }
        let mut out = io::stdout().lock();
        let written = match self.json {
            true => writeln!(out, "{}", plain_json(&String::from_utf8_lossy(line))),
            false => writeln!(out, "{}", self.shown(&read)),
        };
        match written.and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Tells that the tap is open, and what passes unseen.
    fn aside(&mut self, passed: u64, left_out: u64) {
        if !std::mem::replace(&mut self.open, true) && passed == 0 {
            complain(self.paint_aside.ink(Ink::Dim, "looking; ctrl-C ends it"));
        }
        if left_out > self.left_out {
            let words = format!(
                "{} of {} passed unseen (at most {} in a second are shown)",
                count(left_out),
                of(passed, "record"),
                count(self.rate.into())
            );
            complain(self.paint_aside.ink(Ink::Dim, words));
        }
        self.left_out = left_out;
    }

    fn shown(&self, line: &Line) -> String {
        if let Some(object) = &line.object {
            let (time, rows) = (self.paint.ink(Ink::Dim, clock(line.at_ms)), of(line.rows, "row"));
            return format!("{time}  {rows}  {}  {}", bytes(line.bytes), plain(object));
        }
        let mut shown = self.paint.ink(Ink::Dim, clock(line.arrival_ms)) + "  ";
        if let (Some(code), Some(message)) = (&line.code, &line.message) {
            shown += &self.paint.ink(Ink::Bad, plain(code));
            shown = shown + ": " + &plain(message).replace('\n', " ") + "\n          ";
        }
        let keys = line.key.iter().map(|key| format!("key={key}"));
        let keys = keys.chain(line.partition_keys.iter().map(|keys| format!("keys={keys}")));
        for words in keys {
            shown = shown + &self.paint.ink(Ink::Dim, plain(&words).replace('\n', " ")) + "  ";
        }
        let payload = match (line.payload, &line.text, &line.base64) {
            (Some(json), _, _) => json.get().to_owned(),
            (None, Some(text), _) => text.replace('\n', "\\n"),
            (None, None, Some(base64)) => format!("base64:{base64}"),
            (None, None, None) => format!("({})", line.stage),
        };
        shown += &plain(&payload);
        if let Some(whole) = line.whole_bytes {
            shown += &self.paint.ink(Ink::Dim, format_args!(" ... of {}", bytes(whole)));
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_behind_the_last_dot_that_ends_a_name() {
        let names = ["click.v1", "click", "orders"];
        let split = |target| split(target, &names);
        assert_eq!(split("click.v1"), Ok(("click.v1", None)));
        assert_eq!(split("click.v1.source"), Ok(("click.v1", Some("source"))));
        assert_eq!(split("click.redact.wasm"), Ok(("click", Some("redact.wasm"))));
        assert_eq!(split("ordres.1").unwrap_err(), "there is no pipeline `ordres`\nhint: did you mean `orders`?");
        let nothing_near = "there is no pipeline `payments.1`\nhint: it is one of click.v1, click, orders";
        assert_eq!(split("payments.1").unwrap_err(), nothing_near);
        assert_eq!(super::split("x", &[]).unwrap_err(), "there is no pipeline `x`\nhint: there is no pipeline at all");
    }
}
