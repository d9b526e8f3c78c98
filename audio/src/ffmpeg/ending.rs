//! Interprets the end of a run of ffmpeg: whether its outcome says anything about the audio.

use std::fmt;
use std::process::ExitStatus;

/// Reason why the outcome of a run says nothing about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unexplained {
    /// ffmpeg was killed, for example by the kernel when memory ran out, or it crashed.
    Signal(i32),
    /// ffmpeg failed without naming a cause, or named this machine or itself as the cause. The value is its exit code.
    Failed(Option<i32>),
    /// ffmpeg reported success and produced nothing.
    Nothing,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "it was ended by signal {signal}"),
            Self::Failed(Some(code)) => write!(f, "it ended with {code} and blamed nothing in the audio"),
            Self::Failed(None) => write!(f, "it ended and blamed nothing in the audio"),
            Self::Nothing => write!(f, "it succeeded without a result"),
        }
    }
}

/// Kinds of output that a run produced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Bytes on standard output.
    pub piped: bool,
    /// Bytes in a file.
    pub filed: bool,
}

/// Error messages about the machine or ffmpeg itself, as the C library and ffmpeg word them. Errors of memory, input
/// and permissions are left out on purpose, because demuxers report damage with the same numbers.
/// [`crate::reading::tone`] finds out whether ffmpeg works in spite of such an error.
const NOT_THE_AUDIO: &[&str] = &[
    "Disk quota exceeded",
    "No such filter",
    "No space left on device",
    "Option not found",
    "pthread_create",
    "Stale file handle",
    "Too many open files",
    "Unknown input format",
    "Unrecognized option",
];

/// Whether a run succeeded.
///
/// # Errors
/// [`Unexplained`] if the run could have ended like this with any audio.
pub(crate) fn judge(status: ExitStatus, log: &[u8], output: Output) -> Result<bool, Unexplained> {
    let log = String::from_utf8_lossy(log);
    if let Some(signal) = signal(status) {
        // Reaching the size limit of the output file is caused by the audio.
        return if is_of_file_size(signal) { Ok(false) } else { Err(Unexplained::Signal(signal)) };
    }
    if !status.success() {
        return if blames_audio(&log) { Ok(false) } else { Err(Unexplained::Failed(status.code())) };
    }
    let describes_input = log.lines().any(|line| line.starts_with("[info] Input #"));
    let says_something = describes_input || log.contains("[warning]") || log.contains("[error]");
    match output {
        // Samples are always requested together with a description of the input, so their absence without one is a
        // failure.
        Output { piped: true, .. } if !describes_input && !says_something => Err(Unexplained::Nothing),
        Output { piped: false, filed: false } if !says_something => Err(Unexplained::Nothing),
        _ => Ok(true),
    }
}

/// Whether ffmpeg reports an error and every reported error can be caused by the audio.
fn blames_audio(log: &str) -> bool {
    let mut errors = log
        .lines()
        .filter(|line| ["[error]", "[fatal]", "[panic]"].iter().any(|level| line.contains(level)))
        .peekable();
    errors.peek().is_some() && !errors.any(|line| NOT_THE_AUDIO.iter().any(|reason| line.contains(reason)))
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(unix)]
fn is_of_file_size(signal: i32) -> bool {
    signal == rustix::process::Signal::XFSZ.as_raw()
}

#[cfg(not(unix))]
fn is_of_file_size(_: i32) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const ALL: Output = Output { piped: true, filed: true };
    const NOTHING: Output = Output { piped: false, filed: false };

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn only_errors_about_the_data_blame_the_audio() {
        let damaged =
            b"[mov @ 0x1] [error] moov atom not found\n[error] file:x: Invalid data found\n".as_slice();
        assert_eq!(judge(exited(1), damaged, NOTHING), Ok(false));
        for (status, log) in [
            (exited(1), ""),
            (exited(1), "[info] Input #0, mp3, from 'file:x':\n"),
            (exited(127), "ffmpeg: error while loading shared libraries: libx.so\n"),
            (exited(255), "[info] Exiting normally, received signal 15.\n"),
            (exited(1), "[error] file:x: Too many open files\n"),
            (exited(1), "[fatal] Unknown input format: 'mov'\n"),
            (
                exited(1),
                "[error] moov atom not found\n[error] pthread_create failed: Resource temporarily unavailable\n",
            ),
        ] {
            let judged = judge(status, log.as_bytes(), ALL);
            assert_eq!(judged, Err(Unexplained::Failed(status.code())), "{log}");
        }
        for signal in [6, 9, 11, 15, 24] {
            let judged = judge(ExitStatus::from_raw(signal), damaged, ALL);
            assert_eq!(judged, Err(Unexplained::Signal(signal)));
        }
        assert_eq!(judge(ExitStatus::from_raw(25), b"", ALL), Ok(false), "the file reached its limit");
    }

    #[test]
    fn success_without_output_is_unexplained() {
        let described = b"[info] Input #0, mp3, from 'file:x':\n".as_slice();
        assert_eq!(judge(exited(0), described, ALL), Ok(true));
        assert_eq!(judge(exited(0), described, NOTHING), Ok(true), "it says that there is no sound");
        assert_eq!(judge(exited(0), b"[warning] Output file is empty\n", NOTHING), Ok(true));
        assert_eq!(judge(exited(0), b"", NOTHING), Err(Unexplained::Nothing));
        assert_eq!(judge(exited(0), b"", ALL), Err(Unexplained::Nothing), "samples of nothing that is named");
        // A pass that only encodes prints nothing on success.
        assert_eq!(judge(exited(0), b"", Output { piped: false, filed: true }), Ok(true));
    }
}
