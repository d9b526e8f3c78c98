//! `voicegate completions SHELL`

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use super::{command, out};

/// Prints the script that completes commands and options in `shell`.
pub fn run(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    generate(shell, &mut command(), "voicegate", &mut script);
    out::bytes(&mut script.as_slice())?;
    Ok(ExitCode::SUCCESS)
}
