//! What the end of a run of ffmpeg says: something about the audio, or nothing that could be held against it.

use std::fmt;
use std::process::ExitStatus;

/// Why a run says nothing about its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unexplained {
    /// It was killed, as by the kernel when memory runs out, or it crashed.
    Signal(i32),
    /// It gave up and blamed nothing, or what it blamed is this machine or ffmpeg itself.
    Failed(Option<i32>),
    /// It succeeded, and nothing came out.
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

/// What came out of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// To standard output.
    pub piped: bool,
    /// Into a file.
    pub filed: bool,
}

/// Errors that are this machine's or ffmpeg's own, by how the C library and ffmpeg word them. Errors of memory, of input
/// and of rights are missing on purpose: demuxers use their numbers for damage, too. Whether ffmpeg works in spite of
/// such an error, [`crate::reading::tone`] tells.
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
/// [`Unexplained`] where the run would say the same of any audio.
pub(crate) fn judge(status: ExitStatus, log: &[u8], output: Output) -> Result<bool, Unexplained> {
    let log = String::from_utf8_lossy(log);
    if let Some(signal) = signal(status) {
        // The limit on an output file is the audio's doing.
        return if is_of_file_size(signal) { Ok(false) } else { Err(Unexplained::Signal(signal)) };
    }
    if !status.success() {
        return if blames_audio(&log) { Ok(false) } else { Err(Unexplained::Failed(status.code())) };
    }
    let describes_input = log.lines().any(|line| line.starts_with("[info] Input #"));
    let says_something = describes_input || log.contains("[warning]") || log.contains("[error]");
    match output {
        // Samples are only ever asked for together with a description of what they are from.
        Output { piped: true, .. } if !describes_input && !says_something => Err(Unexplained::Nothing),
        Output { piped: false, filed: false } if !says_something => Err(Unexplained::Nothing),
        _ => Ok(true),
    }
}

/// Whether ffmpeg gives an error as the reason, and none that is not the audio's.
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
    fn only_what_ffmpeg_says_of_the_data_is_about_the_data() {
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
    fn success_without_a_result_is_none() {
        let described = b"[info] Input #0, mp3, from 'file:x':\n".as_slice();
        assert_eq!(judge(exited(0), described, ALL), Ok(true));
        assert_eq!(judge(exited(0), described, NOTHING), Ok(true), "it says that there is no sound");
        assert_eq!(judge(exited(0), b"[warning] Output file is empty\n", NOTHING), Ok(true));
        assert_eq!(judge(exited(0), b"", NOTHING), Err(Unexplained::Nothing));
        assert_eq!(judge(exited(0), b"", ALL), Err(Unexplained::Nothing), "samples of nothing that is named");
        // A pass that only encodes says nothing while all is well.
        assert_eq!(judge(exited(0), b"", Output { piped: false, filed: true }), Ok(true));
    }
}
