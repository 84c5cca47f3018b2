//! `hydrant status`: how a running daemon and its pipelines stand, in a page of a terminal.

mod draw;

use std::io::Write;
use std::time::Duration;

use clap::Args;
use console::Term;
use hyper::StatusCode;
use serde_json::Value;
use url::form_urlencoded;

use super::client::{Answer, Client, Daemon, Unanswered};
use super::paint::{Paint, columns_of_stdout, plain_json};
use super::{Exit, complain, say};
use crate::status::tap::no_such;
use crate::status::view::{PipelineView, State, View};

/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Pipelines that are asked for by name: a request has room for so many.
const CLOSELY_MAX: usize = 30;

/// Arguments of `hydrant status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 1: something is wrong (blocked, stopped, failing, a revision that was refused), or no daemon \
                        answers.\n\n\
                        Examples:\n  hydrant status\n  hydrant status clickstream --watch\n  \
                        hydrant status --json"
)]
pub struct Arguments {
    /// Pipelines to show closely [default: all; closely if there is one]
    #[arg(value_name = "PIPELINE")]
    pipelines: Vec<String>,
    /// Print what the daemon tells, as JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Look again every second, until ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Prints how it stands. [`Exit::Failed`]: something is wrong.
pub fn status(arguments: Arguments) -> Exit {
    let client = match arguments.daemon.client() {
        Ok(client) => client,
        Err(why) => {
            complain(why);
            return Exit::Failed;
        }
    };
    if !arguments.watch {
        return look(&client, &arguments).map_or_else(refused, |(text, exit)| {
            say(text.trim_end_matches('\n'));
            exit
        });
    }
    let (term, mut lines_before) = (Term::stdout(), 0);
    loop {
        // A daemon that is restarted is looked for again.
        let text = match look(&client, &arguments) {
            Ok((text, _)) => text,
            Err((Exit::Usage, why)) => return refused((Exit::Usage, why)),
            Err((_, why)) => format!("{why}\n"),
        };
        if repaint(&term, &text, &mut lines_before).is_err() {
            return Exit::Done;
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn refused((exit, why): (Exit, String)) -> Exit {
    complain(why);
    exit
}

/// What is to be printed, and how it stands.
fn look(client: &Client, arguments: &Arguments) -> Result<(String, Exit), (Exit, String)> {
    let failed = |why: Unanswered| (Exit::Failed, why.to_string());
    let (mut answer, mut view) = ask(client, &arguments.pipelines, arguments.json).map_err(failed)?;
    if let [only] = &view.pipelines[..]
        && arguments.pipelines.is_empty()
        && !arguments.json
    {
        (answer, view) = ask(client, std::slice::from_ref(&only.name), false).map_err(failed)?;
    }
    for name in &arguments.pipelines {
        if !view.pipelines.iter().any(|pipeline| pipeline.name == *name) {
            let names = view.pipelines.iter().map(|pipeline| pipeline.name.as_str());
            return Err((Exit::Usage, no_such("pipeline", name, names)));
        }
    }
    let wanted = |name: &str| arguments.pipelines.is_empty() || arguments.pipelines.iter().any(|wanted| wanted == name);
    view.pipelines.retain(|pipeline| wanted(&pipeline.name));
    let is_well = view.pipelines.iter().all(is_well) && (!arguments.pipelines.is_empty() || view.ills.is_empty());
    let exit = if is_well { Exit::Done } else { Exit::Failed };
    if arguments.json {
        // As it came: this command may be older than the daemon.
        let mut told: Value = answer.of(&[StatusCode::OK]).map_err(failed)?;
        if let Some(pipelines) = told["pipelines"].as_array_mut() {
            pipelines.retain(|pipeline| pipeline["name"].as_str().is_some_and(wanted));
        }
        return Ok((plain_json(&format!("{told:#}")).into_owned(), exit));
    }
    let closely = !arguments.pipelines.is_empty();
    Ok((draw::view(&view, closely, Paint::of_stdout(), columns_of_stdout()), exit))
}

/// What the daemon tells: of these pipelines closely, or of all, of which there may be hundreds.
fn ask(client: &Client, closely: &[String], all: bool) -> Result<(Answer, View), Unanswered> {
    let path = match all || closely.len() > CLOSELY_MAX {
        true => "/api/status".to_owned(),
        false => {
            let names = std::iter::once("").chain(closely.iter().map(String::as_str));
            let mut query = form_urlencoded::Serializer::new(String::new());
            for name in names {
                query.append_pair("only", name);
            }
            format!("/api/status?{}", query.finish())
        }
    };
    let answer = client.get(&path)?;
    let view = answer.of(&[StatusCode::OK])?;
    Ok((answer, view))
}

/// Whether nothing is wrong with it.
fn is_well(pipeline: &PipelineView) -> bool {
    let PipelineView { state, pending, sink_trouble, reading_trouble, transforms_failing, .. } = pipeline;
    let runs = matches!(state, State::Running | State::Draining | State::Done);
    runs && pending.is_none() && sink_trouble.is_none() && reading_trouble.is_none() && !transforms_failing
}

/// Puts a page in the place of the one before.
fn repaint(term: &Term, text: &str, lines_before: &mut usize) -> std::io::Result<()> {
    let mut term = term;
    if !term.is_term() {
        return writeln!(term, "{text}");
    }
    let rows_max = usize::from(term.size().0).saturating_sub(1).max(1);
    let mut lines: Vec<&str> = text.trim_end().lines().collect();
    if lines.len() > rows_max {
        lines.truncate(rows_max - 1);
        lines.push("...");
    }
    // Written at once, each line over the old one, so that nothing flickers; and long lines are clipped, not wrapped.
    let mut page = match *lines_before {
        0 => "\x1b[?7l".to_owned(),
        before => format!("\x1b[?7l\x1b[{before}A"),
    };
    for line in &lines {
        page = page + "\x1b[2K" + line + "\n";
    }
    page += "\x1b[J\x1b[?7h";
    *lines_before = lines.len();
    term.write_all(page.as_bytes())?;
    term.flush()
}
