//! `hydrant completion`: a script with which a shell completes the command line.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit};

/// Arguments of `hydrant completion`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hydrant completion bash > /etc/bash_completion.d/hydrant\n  \
                        hydrant completion zsh > ~/.zfunc/_hydrant\n  \
                        hydrant completion fish > ~/.config/fish/completions/hydrant.fish")]
pub struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub fn completion(arguments: Arguments) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "hydrant", &mut script);
    // A reader that went away is no error.
    let _ = io::Write::write_all(&mut io::stdout().lock(), &script);
    Exit::Done
}
