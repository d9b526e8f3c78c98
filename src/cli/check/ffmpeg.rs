//! Checks ffmpeg: which one is used, what it supports, and whether it really works.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;
use voicegate_providers::Container;

use super::line::Line;
use crate::{config::Config, gateway::engine_options};
use voicegate_audio::{Confinement, Engine, EngineOptions, PROFILES, PcmEncoding, confinement};

/// Time limit for questions that ffmpeg answers from its own tables.
const TIMEOUT: Duration = Duration::from_secs(20);

pub async fn check(config: &Config) -> Vec<Line> {
    let options = engine_options(config);
    let Some(path) = locate(options.ffmpeg.as_deref()) else {
        return vec![Line::fail(match &options.ffmpeg {
            Some(wanted) => format!(
                "audio.ffmpeg: {} is not there; install ffmpeg, or set audio.ffmpeg to where it is",
                wanted.display()
            ),
            None => {
                "audio.ffmpeg: there is no ffmpeg on PATH; install it, or set audio.ffmpeg to where it is"
                    .to_owned()
            }
        })];
    };
    let shown = path.display();
    let version = match asked(&path, "-version").await {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(why) => {
            let why = format!("audio.ffmpeg: {shown} {why}; name another ffmpeg");
            return vec![Line::fail(why)];
        }
    };
    let version = version.split(" Copyright").next().unwrap_or_default().trim_start_matches("ffmpeg ");
    let mut lines = vec![
        Line::ok(format!("audio.ffmpeg: {shown}, {version}")),
        abilities(&path).await,
        self_test(options).await,
    ];
    lines.extend(confinement().map(confined));
    lines
}

fn confined(how: Confinement) -> Line {
    match how {
        Confinement::Enforced => {
            Line::ok("audio.ffmpeg: the kernel keeps it from other files, TCP and processes")
        }
        Confinement::Partial => Line::note(
            "audio.ffmpeg: the kernel keeps it from other files, but not from all of TCP and processes; Linux 6.12 does",
        ),
        Confinement::Unavailable => Line::note(
            "audio.ffmpeg: the kernel does not keep it from other files; Linux with Landlock does, where the service may use it",
        ),
    }
}

/// The ffmpeg that the engine uses: the configured one, otherwise one beside our executable, otherwise the one on the
/// `PATH`.
fn locate(configured: Option<&Path>) -> Option<PathBuf> {
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

/// Returns the output of `ffmpeg QUESTION`. An error continues a sentence that begins with the path.
async fn asked(ffmpeg: &Path, question: &str) -> Result<String, String> {
    let output = Command::new(ffmpeg)
        .args(["-hide_banner", question])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(TIMEOUT, output).await {
        Err(_) => Err(format!("did not answer within {} s", TIMEOUT.as_secs())),
        Ok(Err(error)) => Err(format!("cannot be run ({})", error.kind())),
        Ok(Ok(output)) if !output.status.success() => Err(format!("fails at {question} ({})", output.status)),
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

/// A kind of feature that a build of ffmpeg may lack, the option that lists it, and the flag that must be present.
const KINDS: [(&str, &str, Option<char>); 5] = [
    ("demuxer", "-demuxers", Some('D')),
    ("decoder", "-codecs", Some('D')),
    ("encoder", "-encoders", None),
    ("muxer", "-muxers", Some('E')),
    ("filter", "-filters", None),
];

/// The features of each of [`KINDS`] that the engine needs.
fn needed() -> [BTreeSet<&'static str>; 5] {
    let (mut demuxers, mut decoders) = (BTreeSet::new(), BTreeSet::new());
    for container in CONTAINERS {
        let (demuxer, codecs) = reads(container);
        demuxers.extend(demuxer);
        decoders.extend(codecs);
    }
    demuxers.extend(RAW.map(PcmEncoding::demuxer));
    let encoders = BTreeSet::from(["aac", "libopus", "libmp3lame", "pcm_s16le"]);
    let muxers = BTreeSet::from(["ipod", "mp3", "ogg", "s16le", "wav"]);
    [demuxers, decoders, encoders, muxers, BTreeSet::from(["aformat", "aresample", "asetpts", "asplit"])]
}

const CONTAINERS: [Container; 12] = [
    Container::Mp3,
    Container::Mp4,
    Container::Adts,
    Container::Ogg,
    Container::Webm,
    Container::Matroska,
    Container::Wav,
    Container::Aiff,
    Container::Caf,
    Container::Flac,
    Container::Amr,
    Container::Pcm,
];

const RAW: [PcmEncoding; 8] = [
    PcmEncoding::S16le,
    PcmEncoding::S16be,
    PcmEncoding::S24le,
    PcmEncoding::S32le,
    PcmEncoding::F32le,
    PcmEncoding::U8,
    PcmEncoding::Mulaw,
    PcmEncoding::Alaw,
];

/// The demuxer that the engine names for a container, and the codecs that must work in it.
fn reads(container: Container) -> (Option<&'static str>, &'static [&'static str]) {
    match container {
        Container::Mp3 => (Some("mp3"), &["mp3"]),
        Container::Mp4 => (Some("mov"), &["aac", "alac"]),
        Container::Adts => (Some("aac"), &["aac"]),
        Container::Ogg => (Some("ogg"), &["opus", "vorbis"]),
        Container::Webm | Container::Matroska => (Some("matroska"), &["opus", "vorbis", "aac"]),
        Container::Wav => (Some("wav"), &["pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_u8"]),
        Container::Aiff => (Some("aiff"), &["pcm_s16be"]),
        Container::Caf => (Some("caf"), &["opus", "aac", "alac", "pcm_s16le"]),
        Container::Flac => (Some("flac"), &["flac"]),
        Container::Amr => (Some("amr"), &["amr_nb", "amr_wb"]),
        Container::Pcm => (None, &["pcm_s32le", "pcm_mulaw", "pcm_alaw"]),
    }
}

async fn abilities(ffmpeg: &Path) -> Line {
    let mut missing = Vec::new();
    for ((kind, question, flag), needed) in KINDS.into_iter().zip(needed()) {
        let listed = match asked(ffmpeg, question).await {
            Ok(text) => listed(&text, flag),
            Err(why) => return Line::fail(format!("audio.ffmpeg: it {why}; name another ffmpeg")),
        };
        let absent = needed.into_iter().filter(|name| !listed.contains(*name));
        missing.extend(absent.map(|name| format!("the {kind} {name}")));
    }
    if missing.is_empty() {
        return Line::ok("audio.ffmpeg: every format that is promised can be read");
    }
    let missing = missing.join(", ");
    Line::fail(format!("audio.ffmpeg: this build lacks {missing}; install a complete ffmpeg"))
}

/// Reads the names in a listing: ` DE flags  name,othername  Description`.
fn listed(text: &str, flag: Option<char>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(flags), Some(name)) = (words.next(), words.next()) else { continue };
        if flag.is_none_or(|flag| flags.contains(flag)) {
            names.extend(name.split(',').map(str::to_owned));
        }
    }
    names
}

/// Runs the self-test of a start, with scratch files in another folder, since those of a running gateway belong to it.
async fn self_test(options: EngineOptions) -> Line {
    let result = match tempfile::tempdir() {
        Ok(scratch) => {
            let options = EngineOptions { scratch: scratch.path().join("scratch"), ..options };
            match Engine::new(options) {
                Ok(engine) => engine.self_test().await,
                Err(error) => Err(error.to_string()),
            }
        }
        Err(error) => Err(format!("a temporary folder is needed ({})", error.kind())),
    };
    let profiles: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
    match result {
        Ok(()) => Line::ok(format!("audio.ffmpeg: every profile can be made: {}", profiles.join(", "))),
        Err(reason) => Line::fail(format!("audio.ffmpeg: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_by_flag_and_name() {
        let text = "File formats:\n D. = Demuxing supported\n --\n D  mov,mp4,m4a   QuickTime\n  E ipod  iPod\n \
                    DE ogg   Ogg\n D d alsa  ALSA\n";
        let read = listed(text, Some('D'));
        assert!(["mov", "m4a", "ogg"].iter().all(|name| read.contains(*name)), "{read:?}");
        assert!(!read.contains("ipod"), "{read:?}");
        assert!(listed(text, Some('E')).contains("ipod"));
        let codecs = " DEA.L. opus   Opus (decoders: opus libopus )\n ..A.L. qcelp   QCELP\n";
        assert_eq!(listed(codecs, Some('D')), BTreeSet::from(["opus".to_owned()]));
    }
}
