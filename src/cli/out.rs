//! Output of the commands. All of it goes through here, because `println!` panics when the reader has closed the pipe,
//! as after `voicegate profiles | head -1`.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// The reader has closed the pipe because it has seen enough.
    #[error("the reader has closed the output")]
    Closed,
    #[error("the output cannot be written: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for OutError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// Prints a line. Colours are left out if standard output is not a terminal, or `NO_COLOR` is set.
///
/// # Errors
/// [`OutError`]
pub fn line(text: impl Display) -> Result<(), OutError> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints text that has its own line breaks.
///
/// # Errors
/// [`OutError`]
pub fn text(text: impl Display) -> Result<(), OutError> {
    let mut out = anstream::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Copies bytes to standard output.
///
/// # Errors
/// [`OutError`], or an error if `from` cannot be read.
pub fn bytes(from: &mut impl io::Read) -> Result<(), OutError> {
    let mut out = io::stdout().lock();
    io::copy(from, &mut out)?;
    Ok(out.flush()?)
}

/// Prints a line for people on standard error. A failure to write it is ignored.
pub fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
