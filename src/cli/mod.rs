//! The commands, one file each.

pub mod audit;
pub mod check;
pub mod client;
pub mod completion;
mod dry;
pub mod explain;
pub mod log;
pub mod paint;
pub mod progress;
pub mod reload;
pub mod replay;
pub mod run;
pub mod schema;
pub mod status;
pub mod tap;
pub mod test;
pub mod transform;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The command line. Wrong usage ends the process with 2 while it is parsed.
#[derive(Debug, Parser)]
#[command(
    name = "hydrant",
    version,
    about = "The self-hosted Amazon Data Firehose: records in, objects out, nothing lost, nothing twice.",
    after_help = "Example:\n  hydrant check pipelines/ && hydrant run pipelines/\n\n\
                  Exit codes: 0 done, 1 failed at run time, 2 wrong usage, 78 wrong configuration."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run pipelines until SIGTERM or ctrl-C
    Run(run::Arguments),
    /// Find everything that is wrong with pipelines, without running them
    Check(check::Arguments),
    /// Show what a pipeline will do: its way, what is default, and what becomes of sample records
    Explain(explain::Arguments),
    /// Run the cases beside pipelines: records in, rows and rejects out
    Test(test::Arguments),
    /// Show records of a running pipeline, at any stage of their way
    Tap(tap::Arguments),
    /// Show how a running daemon and its pipelines stand
    Status(status::Arguments),
    /// Let a running daemon look at its pipeline files now
    Reload(reload::Arguments),
    /// Feed error objects, or records that a stream still holds, through a pipeline once more
    Replay(replay::Arguments),
    /// Prove that what lies in a store has no gap and no overlap
    Audit(audit::Arguments),
    /// Schemas: of records, to be pasted into a pipeline, and of pipelines, for editors
    Schema(schema::Arguments),
    /// Write, build and test a transform in WebAssembly
    Transform(transform::Arguments),
    /// Print what makes a shell complete this command
    Completion(completion::Arguments),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done.
    Done = 0,
    /// Something failed at run time.
    Failed = 1,
    /// The command line is wrong (clap ends with the same code).
    Usage = 2,
    /// The configuration is wrong: `EX_CONFIG` of sysexits.h, which tells systemd not to try again.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Prints a line; a reader that went away (`| head`) is no error.
fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints a line for whoever looks after the process; nobody there is no error.
fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
