//! `voicegate convert`: converts a file as it would be for sending.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde::Serialize;
use voicegate_providers::Container;

use super::{
    audio::{ReadArgs, described, named, refusal, refused},
    input::{Input, is_standard_output},
    out,
};
use crate::view::AudioFacts;
use voicegate_audio::{Convert, Profile, Render, Work};

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// The audio file, in any format; - is standard input. A pipe is read to its end first.
    input: PathBuf,
    /// The file to write; - is standard output, and everything else then goes to standard error. It is written only after
    /// the whole result was verified.
    output: PathBuf,
    /// The profile to convert to; `voicegate profiles` lists them.
    #[arg(long, value_parser = named)]
    profile: &'static Profile,
    /// When to encode: `auto` encodes only if needed, `always` encodes, `never` fails instead of encoding.
    #[arg(long, value_enum, default_value_t = How::Auto)]
    convert: How,
    /// The complexity of the Opus encoder, from 0 to 10: lower is faster, and sounds worse.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=10))]
    complexity: u8,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum How {
    Auto,
    Always,
    Never,
}

/// The `--json` output.
#[derive(Serialize)]
struct Converted {
    source: AudioFacts,
    made: AudioFacts,
    profile: &'static str,
    work: Work,
    checks: Vec<&'static str>,
}

pub async fn run(args: ConvertArgs) -> anyhow::Result<ExitCode> {
    let (engine, scratch) = args.read.engine(args.complexity)?;
    let to_standard = is_standard_output(&args.output);
    if to_standard && io::stdout().is_terminal() {
        bail!("standard output is a terminal; redirect it, as in `voicegate convert IN - > OUT`");
    }
    let input = Input::open(&args.input, scratch.path())?;
    let same = |file: &Path| file.canonicalize().ok();
    if !to_standard && same(&args.output).is_some_and(|file| Some(file) == same(input.path())) {
        bail!("input and output are the same file");
    }
    let how = match args.convert {
        How::Auto => Convert::Auto,
        How::Always => Convert::Always,
        How::Never => Convert::Never,
    };
    let converted = engine.convert(input.path(), &args.read.hints(&input), args.profile, how).await;
    let (source, render) = match converted {
        Ok(converted) => converted,
        Err(error) if to_standard && args.read.json => {
            out::remark(refusal(error.code(), &error.detail)?);
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return refused(error.code(), &error.detail, args.read.json),
    };
    let (file, facts, work, checks) = match &render {
        Render::Untouched => (input.path(), &source.facts, Work::None, &Vec::new()),
        Render::Made { file, facts, work, checks } => (file.path(), facts, *work, checks),
    };
    ensure_true_name(&args.output, facts.container, facts.extension())?;
    write(file, (!to_standard).then_some(&args.output))?;
    let said = if args.read.json {
        serde_json::to_string_pretty(&Converted {
            source: AudioFacts::from(&source.facts),
            made: AudioFacts::from(facts),
            profile: args.profile.name,
            work,
            checks: checks.clone(),
        })?
    } else {
        format!("{}\n{work}: {}", described(&source.facts), described(facts))
    };
    if to_standard {
        out::remark(said);
    } else {
        out::line(said)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a new file with the usual permissions of new files, or writes its content to standard output.
fn write(from: &Path, to: Option<&PathBuf>) -> anyhow::Result<()> {
    let mut from = File::open(from).context("the converted file cannot be read")?;
    let Some(to) = to else { return Ok(out::bytes(&mut from)?) };
    let copied = File::create(to).and_then(|mut file| io::copy(&mut from, &mut file));
    copied.with_context(|| format!("{} cannot be written", to.display()))?;
    Ok(())
}

/// Refuses a name that belongs to another format: it would mislead every program that goes by names, and some providers
/// do.
fn ensure_true_name(output: &Path, container: Container, extension: &str) -> anyhow::Result<()> {
    if promised(output).is_some_and(|promised| promised != container) {
        bail!(
            "the name {} does not fit: the result is {extension}; name it {}, or choose another profile (`voicegate \
             profiles` lists what each makes)",
            output.display(),
            output.with_extension(extension).display()
        );
    }
    Ok(())
}

/// The container that the name of a file stands for. `None` for other names, which may hold any format.
fn promised(file: &Path) -> Option<Container> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    Some(match extension.as_str() {
        "mp3" => Container::Mp3,
        "m4a" | "m4b" | "m4r" | "mp4" | "mov" | "3gp" => Container::Mp4,
        "aac" | "adts" => Container::Adts,
        "ogg" | "oga" | "opus" | "spx" => Container::Ogg,
        "webm" | "weba" => Container::Webm,
        "mka" | "mkv" => Container::Matroska,
        "wav" | "wave" => Container::Wav,
        "aif" | "aiff" | "aifc" => Container::Aiff,
        "caf" => Container::Caf,
        "flac" => Container::Flac,
        "amr" | "awb" => Container::Amr,
        "pcm" | "raw" => Container::Pcm,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_holds() {
        let judged = |name: &str, container, extension| {
            ensure_true_name(Path::new(name), container, extension).map_err(|error| error.to_string())
        };
        for name in ["out.ogg", "out.OPUS", "a.b/out.oga", "out", "out.bin", "-", "/dev/null"] {
            assert_eq!(judged(name, Container::Ogg, "ogg"), Ok(()), "{name}");
        }
        for name in ["out.mp3", "out.M4A", "out.caf", "out.wav", "out.webm"] {
            let error = judged(name, Container::Ogg, "ogg").expect_err(name);
            assert!(error.contains("name it out.ogg"), "{error}");
        }
        assert!(
            judged("out.mp3", Container::Mp4, "m4a").is_err_and(|error| error.contains("name it out.m4a"))
        );
    }
}
