//! The `hydrant` command: a match over its commands; what each does lies in `hydrant::cli`.

use std::process::ExitCode;

use clap::Parser;
use hydrant::cli::{
    Cli, Command, audit, check, completion, explain, reload, replay, run, schema, status, tap, test, transform,
};

fn main() -> ExitCode {
    let exit = match Cli::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Explain(arguments) => explain::explain(arguments),
        Command::Test(arguments) => test::test(arguments),
        Command::Tap(arguments) => tap::tap(arguments),
        Command::Status(arguments) => status::status(arguments),
        Command::Reload(arguments) => reload::reload(arguments),
        Command::Replay(arguments) => replay::replay(arguments),
        Command::Audit(arguments) => audit::audit(arguments),
        Command::Schema(arguments) => schema::schema(arguments),
        Command::Transform(arguments) => transform::transform(arguments),
        Command::Completion(arguments) => completion::completion(arguments),
    };
    exit.into()
}
