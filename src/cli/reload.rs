//! `hydrant reload`: asks a running daemon to look at its files now.

use std::time::Duration;

use clap::Args;
use hyper::StatusCode;

use super::client::{ANSWER_TIME_MAX, Daemon, Unanswered};
use super::paint::plain;
use super::{Exit, complain, say};
use crate::status::reload::{Refused, Reloaded};

/// For which modules are compiled and stores are looked at.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(600);

/// Arguments of `hydrant reload`.
#[derive(Debug, Args)]
#[command(
    after_help = "A pipeline whose file is wrong goes on as it was. Exit code with --wait: 78 if a file was not taken, with \
                        its problems; 1 if no daemon answers.\n\n\
                        Example:\n  hydrant check pipelines/ && hydrant reload --wait"
)]
pub struct Arguments {
    /// Wait until it is done, and tell what became of each pipeline
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// Asks, and with `--wait` prints what happened.
pub fn reload(arguments: Arguments) -> Exit {
    let asked = match arguments.wait {
        true => waiting(&arguments.daemon),
        false => asking(&arguments.daemon).map(|()| Exit::Done),
    };
    asked.unwrap_or_else(|why| {
        complain(why);
        Exit::Failed
    })
}

fn asking(daemon: &Daemon) -> Result<(), Unanswered> {
    let answer = daemon.client()?.post("/api/reload?wait=false", ANSWER_TIME_MAX)?;
    if answer.status == StatusCode::ACCEPTED { Ok(()) } else { Err(answer.refused()) }
}

fn waiting(daemon: &Daemon) -> Result<Exit, Unanswered> {
    let answer = daemon.client()?.post("/api/reload", RELOAD_TIME_MAX)?;
    let reloaded: Reloaded = answer.of(&[StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY])?;
    let lines = lines(&reloaded);
    if !lines.is_empty() {
        say(lines.join("\n"));
    }
    let Reloaded { warnings, refused, .. } = &reloaded;
    if !warnings.is_empty() {
        complain(plain(warnings.trim_end()));
    }
    for Refused { problems, .. } in refused {
        complain(plain(problems.trim_end()));
    }
    Ok(if reloaded.is_good() { Exit::Done } else { Exit::Config })
}

/// One line per pipeline for which something is otherwise now, or might be.
fn lines(reloaded: &Reloaded) -> Vec<String> {
    let Reloaded { added, changed, removed, unchanged, refused, warnings: _ } = reloaded;
    let refused: Vec<String> = refused.iter().map(|refused| refused.name.clone()).collect();
    let groups = [
        (added, "added"),
        (changed, "changed"),
        (removed, "removed: delivers what was acknowledged, then goes"),
        (unchanged, "unchanged"),
        (&refused, "refused: see below"),
    ];
    let names = groups.iter().flat_map(|(names, _)| names.iter());
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0).min(40);
    let line = |name: &String, what: &str| format!("{:width$}  {what}", plain(name));
    groups.iter().flat_map(|(names, what)| names.iter().map(|name| line(name, what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pipeline_has_its_line() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let reloaded = Reloaded {
            added: names(&["new"]),
            changed: names(&["clickstream"]),
            unchanged: names(&["a", "b"]),
            refused: vec![Refused { name: "broken".into(), problems: "broken.yaml:1:1: ..".into() }],
            ..Reloaded::default()
        };
        let expected = [
            "new          added",
            "clickstream  changed",
            "a            unchanged",
            "b            unchanged",
            "broken       refused: see below",
        ];
        assert_eq!(lines(&reloaded), expected);
    }
}
