//! Runs ffmpeg as if its input were hostile: in a process group of its own, with limits on time, output and files, an
//! empty environment, no access to other files or the network if the kernel can enforce it
//! ([`crate::ffmpeg::confine`]), and nothing left behind if the caller goes away.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ffmpeg_sidecar::command::FfmpegCommand;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::{AsyncRead, AsyncReadExt};

#[cfg(target_os = "linux")]
use crate::ffmpeg::confine::elf::is_static;
use crate::ffmpeg::confine::{Allowed, within};
use crate::ffmpeg::ending::{Output, judge};
use crate::observer::{Observer, Run};

/// Bytes of the log that are kept. A damaged file can cause endless messages; the rest is read and dropped.
const LOG_KEPT: usize = 256 << 10;
/// Variables that a dynamically linked ffmpeg may need to start.
const KEPT_ENVIRONMENT: &[&str] =
    &["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT"];
#[cfg(target_os = "linux")]
const MAX_OPEN_FILES: u64 = 64;
/// Limit on the address space, in bytes. A distribution's ffmpeg uses 300 MiB of it for libraries, and a hostile file
/// may need as much again.
#[cfg(target_os = "linux")]
const MAX_MEMORY: u64 = 1 << 30;
/// Limit on the address space of a statically linked ffmpeg, which needs less than 48 MiB for a long file.
#[cfg(target_os = "linux")]
const MAX_MEMORY_STATIC: u64 = 256 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Purpose of the run, as reported to the observer.
    pub purpose: &'static str,
    pub timeout: Duration,
    /// Size limit of one output file, in bytes.
    pub max_output: u64,
    /// Limit on standard output, in bytes.
    pub max_piped: u64,
}

#[derive(Debug)]
pub(crate) enum RunError {
    Missing,
    Timeout,
    /// Standard output exceeded `max_piped`.
    TooMuch,
    /// The run ended in a way that says nothing about the source.
    Unexplained,
    Io(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Missing } else { Self::Io(error) }
    }
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub success: bool,
    pub log: Vec<u8>,
}

/// The path of ffmpeg: the configured one, else one beside our executable, else one on `PATH`.
pub(crate) fn locate(configured: Option<&Path>) -> Option<PathBuf> {
    let name = match configured {
        Some(path) if path.components().count() > 1 => return path.is_file().then(|| path.to_owned()),
        Some(name) => name.as_os_str(),
        None => match ffmpeg_sidecar::paths::sidecar_path() {
            Ok(beside) if beside.is_file() => return Some(beside),
            _ => OsStr::new("ffmpeg"),
        },
    };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// `file:` and an absolute path, which ffmpeg cannot read as an option, another protocol or a pattern.
pub(crate) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// A command that reads one file with a known format.
///
/// Only the file protocol is allowed, so a playlist inside a known container reaches neither the network nor another
/// file. The demuxer is named, so ffmpeg does not guess one.
pub(crate) fn reading(
    binary: &Path,
    input: &Path,
    demuxer: &[String],
    limit: Option<Duration>,
) -> FfmpegCommand {
    let mut command = FfmpegCommand::new_with_path(binary);
    command.args([
        "-nostdin",
        "-hide_banner",
        "-nostats",
        "-protocol_whitelist",
        "file,pipe",
        "-threads",
        "1",
    ]);
    command.args(demuxer);
    if let Some(limit) = limit {
        command.duration(seconds(limit));
    }
    command.input(file_url(input));
    command
}

/// Starts an output with the audio that `map` names, and nothing else of the source.
pub(crate) fn only(command: &mut FfmpegCommand, map: &str) {
    command.args(["-map", map, "-vn", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"]);
    command.args(["-threads", "1"]);
}

pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.3}", span.as_secs_f64())
}

/// Runs the command to its end, and passes standard output to `each` as it arrives.
pub(crate) async fn run(
    command: FfmpegCommand,
    limits: &Limits,
    observer: &dyn Observer,
    mut each: impl FnMut(&[u8]),
) -> Result<Finished, RunError> {
    let observed = Run::start(observer, limits.purpose);
    let finished = run_uncounted(command, limits, &mut each).await;
    observed.ended(match &finished {
        Ok(Finished { success: true, .. }) => "ok",
        Ok(_) => "failed",
        Err(RunError::Missing) => "missing",
        Err(RunError::Timeout) => "timeout",
        Err(RunError::TooMuch) => "too_much",
        Err(RunError::Unexplained) => "died",
        Err(RunError::Io(_)) => "error",
    });
    finished
}

async fn run_uncounted(
    command: FfmpegCommand,
    limits: &Limits,
    each: &mut impl FnMut(&[u8]),
) -> Result<Finished, RunError> {
    let command = Command::from(command);
    let (allowed, own_limits) = (Allowed::named_by(&command), limits.clone());
    let files = allowed.written().to_vec();
    let mut group = within(allowed, move || Group::spawn(command, &own_limits)).await?;
    let stdout = group.child.stdout().take();
    let stderr = group.child.stderr().take();

    let work = async {
        let output = async {
            let Some(mut stdout) = stdout else { return Ok::<bool, RunError>(false) };
            let mut left = limits.max_piped;
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = stdout.read(&mut buffer).await?;
                if count == 0 {
                    return Ok(left < limits.max_piped);
                }
                left = left.checked_sub(count as u64).ok_or(RunError::TooMuch)?;
                each(&buffer[..count]);
            }
        };
        let (output, log) = tokio::join!(output, drain(stderr));
        let piped = output?;
        let status = group.child.wait().await?;
        Ok((piped, status, log))
    };
    let outcome = tokio::time::timeout(limits.timeout, work).await.unwrap_or(Err(RunError::Timeout));
    match outcome {
        Ok(_) => group.running = false,
        Err(_) => group.kill().await,
    }
    let (piped, status, log) = outcome?;
    let filed = files.iter().any(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0));
    match judge(status, &log, Output { piped, filed }) {
        Ok(success) => Ok(Finished { success, log }),
        Err(why) => {
            tracing::warn!(purpose = limits.purpose, said = last_line(&log), "ffmpeg did not work: {why}");
            Err(RunError::Unexplained)
        }
    }
}

/// The last line of ffmpeg's log, without file paths.
fn last_line(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    last.split("file:").next().unwrap_or_default().chars().take(200).collect()
}

async fn drain(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = LOG_KEPT.saturating_sub(kept.len()).min(count);
        kept.extend_from_slice(&buffer[..room]);
    }
    kept
}

/// The child process with any processes that it started. process-wrap's kill-on-drop ends only the leader, so this ends
/// the group when the caller goes away.
struct Group {
    child: Box<dyn ChildWrapper>,
    running: bool,
}

impl Group {
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "there are no such limits"))]
    fn spawn(mut command: Command, limits: &Limits) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
        for name in KEPT_ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        #[cfg(target_os = "linux")]
        let max_memory =
            if is_static(Path::new(command.get_program())) { MAX_MEMORY_STATIC } else { MAX_MEMORY };
        let mut command = CommandWrap::from(tokio::process::Command::from(command));
        command.wrap(KillOnDrop).wrap(ProcessGroup::leader());
        let group = Self { child: command.spawn()?, running: true };
        #[cfg(target_os = "linux")]
        restrict(group.child.id(), limits, max_memory);
        Ok(group)
    }

    /// Kills the group and waits for its end, so that no zombie remains.
    async fn kill(&mut self) {
        let killed = self.child.start_kill().is_ok();
        if killed && self.child.wait().await.is_ok() {
            self.running = false;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.running
            && let Err(error) = self.child.start_kill()
        {
            tracing::debug!(%error, "an ffmpeg was already gone when it should be killed");
        }
    }
}

/// Sets resource limits, which hold even if this process is too busy to enforce its own. The short time before this
/// call is harmless, because the limits count from the start of the child.
#[cfg(target_os = "linux")]
fn restrict(pid: Option<u32>, limits: &Limits, max_memory: u64) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) else { return };
    let wanted = [
        (Resource::Cpu, limits.timeout.as_secs() + 1),
        (Resource::Fsize, limits.max_output),
        (Resource::Nofile, MAX_OPEN_FILES),
        (Resource::As, max_memory),
        (Resource::Core, 0),
    ];
    for (resource, limit) in wanted {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        // A child that has already ended cannot be limited and need not be.
        if let Err(error) = prlimit(Some(pid), resource, limit) {
            tracing::debug!(?resource, %error, "a limit on ffmpeg was not set");
        }
    }
}
