//! The command line; everything it can do is in [`voicegate::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    voicegate::cli::main()
}
