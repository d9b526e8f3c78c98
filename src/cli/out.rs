//! What the commands print. Everything goes through here, since `println!` panics where nobody reads any more, as after
//! `voicegate profiles | head -1`.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Standard output was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OutError {
    /// The reader has gone away, having seen enough.
    #[error("nobody reads the output any more")]
    Closed,
    #[error("the output cannot be written: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for OutError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Failed(error) }
    }
}

/// Prints a line. Its colours are left out where standard output is no terminal, or `NO_COLOR` is set.
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
/// [`OutError`], and where `from` cannot be read.
pub fn bytes(from: &mut impl io::Read) -> Result<(), OutError> {
    let mut out = io::stdout().lock();
    io::copy(from, &mut out)?;
    Ok(out.flush()?)
}

/// A line on standard error, for a person. One that is not taken is nobody's concern.
pub fn remark(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
