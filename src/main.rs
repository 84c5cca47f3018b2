//! The `hydrant` command: a match over its commands; what each does lies in `hydrant::cli`.

use std::process::ExitCode;

use clap::Parser;
use hydrant::cli::{Cli, Command, audit, check, run, schema, transform};

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Audit(arguments) => audit::audit(arguments),
        Command::Schema(arguments) => schema::schema(arguments),
        Command::Transform(arguments) => transform::transform(arguments),
    };
    exit.into()
}
