//! Confines each run of ffmpeg with [Landlock](https://landlock.io), if the kernel supports it (Linux 5.13 and later).
//!
//! ffmpeg may read its source, write its output, and load programs and libraries from the system's folders. Other
//! files, TCP connections and other processes are out of reach, even if a hostile file takes control of ffmpeg. Without
//! kernel support ffmpeg runs unconfined, and `/readyz` reports it.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;

/// Degree to which the kernel enforces the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    /// Files, TCP connections and signals are confined.
    Enforced,
    /// Files are confined; the kernel is too old for the rest.
    Partial,
    /// Nothing is confined.
    Unavailable,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "enforced",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
        })
    }
}

/// The weakest confinement of any run so far, plus one; 0 before the first run.
static LEAST: AtomicU8 = AtomicU8::new(0);

/// The weakest confinement of any run of ffmpeg in this process, or `None` before the first run.
pub fn confinement() -> Option<Confinement> {
    match LEAST.load(Ordering::Relaxed) {
        0 => None,
        1 => Some(Confinement::Enforced),
        2 => Some(Confinement::Partial),
        _ => Some(Confinement::Unavailable),
    }
}

fn remember(had: Confinement) {
    if LEAST.fetch_max(had as u8 + 1, Ordering::Relaxed) < had as u8 + 1 && had > Confinement::Enforced {
        tracing::warn!(confinement = %had, "the kernel does not confine ffmpeg in full; operations.md says what is missing");
    }
}

/// Paths that one run may use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    program: PathBuf,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

impl Allowed {
    /// Collects the paths from the arguments, all of which are ours. A file after `-i` is read; any other is written
    /// and has to exist.
    pub fn named_by(command: &Command) -> Self {
        let mut allowed = Self { program: command.get_program().into(), read: Vec::new(), write: Vec::new() };
        let mut is_input = false;
        for argument in command.get_args() {
            if let Some(path) = path_of(argument) {
                let files = if is_input { &mut allowed.read } else { &mut allowed.write };
                files.push(path);
            }
            is_input = argument == "-i";
        }
        allowed
    }
}

impl Allowed {
    pub fn written(&self) -> &[PathBuf] {
        &self.write
    }
}

/// The path in a URL of [`crate::ffmpeg::run::file_url`].
fn path_of(url: &OsStr) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        url.as_bytes().strip_prefix(b"file:").map(|path| OsStr::from_bytes(path).into())
    }
    #[cfg(not(unix))]
    url.to_str()?.strip_prefix("file:").map(Into::into)
}

/// Calls `start` under a confinement to `allowed`. A process that it starts inherits the confinement.
#[cfg(target_os = "linux")]
pub(crate) async fn within<T: Send + 'static>(
    allowed: Allowed,
    start: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let runtime = tokio::runtime::Handle::current();
    let (done, started) = tokio::sync::oneshot::channel();
    // Landlock binds a thread for its whole life, so a thread is created for each start and no other one is bound.
    std::thread::Builder::new().name("ffmpeg-start".to_owned()).spawn(move || {
        let _entered = runtime.enter();
        remember(linux::enforce(&allowed));
        // If the caller has gone, the started process is dropped here, which ends it.
        drop(done.send(start()));
    })?;
    started.await.map_err(io::Error::other)?
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn within<T>(_: Allowed, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    remember(Confinement::Unavailable);
    start()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
        RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
    };

    use super::{Allowed, Confinement};

    /// The requested Landlock version. Older kernels enforce the part they know. Later versions cover only sockets and
    /// devices, and ffmpeg has neither.
    const WANTED: ABI = ABI::V6;

    /// Folders of programs and libraries: Debian and derivatives, Nix, Guix, Homebrew on Linux, Snap.
    const PROGRAMS: &[&str] = &[
        "/usr",
        "/bin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/nix/store",
        "/gnu/store",
        "/home/linuxbrew/.linuxbrew",
        "/snap",
    ];
    /// Files that the dynamic linker reads first.
    const LINKER: &[&str] = &["/etc/ld.so.cache", "/etc/ld.so.preload"];

    /// Confines the calling thread and every process that it starts.
    pub fn enforce(allowed: &Allowed) -> Confinement {
        match bind(allowed) {
            Ok(RulesetStatus::FullyEnforced) => Confinement::Enforced,
            Ok(RulesetStatus::PartiallyEnforced) => Confinement::Partial,
            Ok(RulesetStatus::NotEnforced) => Confinement::Unavailable,
            // Landlock refuses, for example because sixteen layers exist already or a seccomp filter forbids the call.
            Err(error) => {
                tracing::debug!(%error, "ffmpeg could not be confined");
                Confinement::Unavailable
            }
        }
    }

    fn bind(allowed: &Allowed) -> Result<RulesetStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(WANTED))?
            .handle_access(AccessNet::from_all(WANTED))?
            .scope(Scope::from_all(WANTED))?
            .create()?;
        for (path, access) in rules(allowed) {
            ruleset = add(ruleset, &path, access)?;
        }
        Ok(ruleset.restrict_self()?.ruleset)
    }

    fn add(
        ruleset: RulesetCreated,
        path: &Path,
        access: BitFlags<AccessFs>,
    ) -> Result<RulesetCreated, RulesetError> {
        // A path that does not exist needs no rule.
        let Ok(place) = PathFd::new(path) else { return Ok(ruleset) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
        ruleset.add_rule(PathBeneath::new(place, access))
    }

    fn rules(allowed: &Allowed) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
        let read = make_bitflags!(AccessFs::{ReadFile});
        let run = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir});
        // Reading is allowed as well, because ffmpeg moves the index of an MP4 file to the front afterwards.
        let write = make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate});

        let mut rules = vec![
            (allowed.program.clone(), run),
            ("/dev/null".into(), make_bitflags!(AccessFs::{ReadFile | WriteFile})),
            ("/dev/urandom".into(), read),
        ];
        rules.extend(allowed.read.iter().map(|path| (path.clone(), read)));
        rules.extend(allowed.write.iter().map(|path| (path.clone(), write)));
        if super::elf::is_static(&allowed.program) {
            return rules;
        }
        rules.extend(PROGRAMS.iter().map(|path| (path.into(), run)));
        rules.extend(LINKER.iter().map(|path| (path.into(), read)));
        if let Some(own) = std::env::var_os("LD_LIBRARY_PATH") {
            rules.extend(
                std::env::split_paths(&own).filter(|path| path.is_absolute()).map(|path| (path, run)),
            );
        }
        // ffmpeg may be installed in a folder of its own, such as /opt/ffmpeg/bin with /opt/ffmpeg/lib.
        let program = allowed.program.canonicalize().ok();
        if let Some(prefix) = program.as_deref().and_then(Path::parent).and_then(Path::parent) {
            rules.extend(["lib", "lib64"].map(|folder| (prefix.join(folder), run)));
        }
        rules
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn static_program_may_read_only_its_own_files() {
            let folder = tempfile::tempdir().expect("a folder");
            let (program, source) = (folder.path().join("ffmpeg"), folder.path().join("source"));
            std::fs::write(&program, super::super::elf::tests::program(false)).expect("a program");
            let output = folder.path().join("output");
            let allowed =
                Allowed { program: program.clone(), read: vec![source.clone()], write: vec![output.clone()] };
            let granted = |path: &Path| {
                rules(&allowed).into_iter().find_map(|(rule, access)| (rule == path).then_some(access))
            };
            assert_eq!(granted(&source), Some(AccessFs::ReadFile.into()));
            assert!(granted(&output).is_some_and(|access| access.contains(AccessFs::WriteFile)));
            assert!(!granted(&program).expect("itself").contains(AccessFs::WriteFile));
            assert_eq!(granted(Path::new("/usr")), None);
            assert!(rules(&allowed).iter().all(|(path, _)| path.parent() != Some(Path::new("/"))));

            std::fs::write(&program, super::super::elf::tests::program(true)).expect("a program");
            let usr = granted(Path::new("/usr")).expect("its libraries");
            assert_eq!(usr & AccessFs::from_write(WANTED), BitFlags::EMPTY);
            // Write access is checked too: only working files may be writable, and no private folder may be open.
            let beneath = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg;
            for (path, access) in rules(&allowed) {
                assert!(
                    !access.intersects(beneath) || path == output || path == Path::new("/dev/null"),
                    "{path:?}"
                );
                assert!(
                    !["/", "/home", "/root", "/etc", "/var", "/tmp", "/proc"]
                        .map(Path::new)
                        .contains(&&*path)
                );
            }
        }
    }
}

/// Reads the header of a program to find out whether it is statically linked.
#[cfg(target_os = "linux")]
pub(crate) mod elf {
    use std::fs::File;
    use std::io::Read;
    use std::path::Path;

    const INTERPRETER: [u8; 4] = 3_u32.to_le_bytes();

    /// Whether the program certainly needs neither a dynamic linker nor libraries. False for scripts and unreadable
    /// files.
    pub fn is_static(program: &Path) -> bool {
        let mut head = Vec::new();
        let read = File::open(program).and_then(|file| file.take(4096).read_to_end(&mut head));
        read.is_ok() && has_no_interpreter(&head).unwrap_or(false)
    }

    /// Only 64-bit little-endian files are supported (ELF-64 object file format 1.5, figures 2 and 6).
    fn has_no_interpreter(head: &[u8]) -> Option<bool> {
        if !head.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let number =
            |at: usize| Some(usize::from(u16::from_le_bytes(head.get(at..at + 2)?.try_into().ok()?)));
        let table = usize::try_from(u64::from_le_bytes(head.get(32..40)?.try_into().ok()?)).ok()?;
        let (size, count) = (number(54)?, number(56)?);
        for index in 0..count {
            let at = table.checked_add(index.checked_mul(size)?)?;
            if head.get(at..at.checked_add(4)?)? == INTERPRETER {
                return Some(false);
            }
        }
        Some(count > 0)
    }

    #[cfg(test)]
    pub mod tests {
        use super::*;

        /// The header of a program with two segments, the second of which names an interpreter if `dynamic`.
        pub fn program(dynamic: bool) -> Vec<u8> {
            let mut head = b"\x7fELF\x02\x01".to_vec();
            head.resize(64 + 2 * 56, 0);
            head[32] = 64;
            head[54] = 56;
            head[56] = 2;
            head[64] = 1;
            head[64 + 56] = if dynamic { 3 } else { 1 };
            head
        }

        #[test]
        fn program_with_an_interpreter_is_not_static() {
            assert_eq!(has_no_interpreter(&program(false)), Some(true));
            assert_eq!(has_no_interpreter(&program(true)), Some(false));
            assert_eq!(has_no_interpreter(b"#!/bin/sh\n"), None);
            for end in 0..program(false).len() - 52 {
                assert_ne!(has_no_interpreter(&program(false)[..end]), Some(true), "{end}");
            }
            assert!(!is_static(Path::new("/bin/sh")), "the shell needs libraries");
            assert!(!is_static(Path::new("/nonexistent")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_determine_readable_and_writable_files() {
        let mut command = Command::new("/opt/ffmpeg");
        command.args([
            "-f",
            "mp3",
            "-i",
            "file:/s/in -i",
            "-map",
            "0:a:0",
            "-f",
            "ipod",
            "-y",
            "file:/s/out 1",
        ]);
        command.args(["-f", "s16le", "pipe:1", "file:/s/out2"]);
        let expected = Allowed {
            program: "/opt/ffmpeg".into(),
            read: vec!["/s/in -i".into()],
            write: vec!["/s/out 1".into(), "/s/out2".into()],
        };
        assert_eq!(Allowed::named_by(&command), expected);
    }
}
