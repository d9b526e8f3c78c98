//! `voicegate inspect` and `voicegate profiles`: the audio engine, applied to files.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};
use voicegate_providers::{Codec, Container};

use super::{
    input::{Input, LARGEST},
    out,
};
use crate::{
    model::note::Warning,
    view::{AudioFacts, AudioProfile},
};
use voicegate_audio::{
    Convert, Engine, EngineOptions, Expected, Hints, OpusDetail, PROFILES, PcmFormat, Probed, Profile, Work,
    expect, profile,
};

/// The largest file that is read. It can be generous, because no other request waits for it.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(6 * 60 * 60);

/// Options for reading a file.
#[derive(clap::Args)]
pub struct ReadArgs {
    /// The format of headerless samples: a preset such as openai-pcm, or JSON as in
    /// {"encoding":"s16le","sample_rate":24000,"channels":1}.
    #[arg(long, value_parser = format)]
    format: Option<PcmFormat>,
    /// The ffmpeg to use. Default: the one beside voicegate, otherwise the one on the PATH.
    #[arg(long, value_name = "PATH")]
    ffmpeg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct InspectArgs {
    /// The audio file, in any format; - is standard input.
    file: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(clap::Args)]
pub struct ProfilesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn named(name: &str) -> Result<&'static Profile, String> {
    let names = || PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ");
    profile(name).ok_or_else(|| format!("there is no such profile; there are {}", names()))
}

fn format(text: &str) -> Result<PcmFormat, String> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    serde_json::from_value(value).map_err(|error| error.to_string())
}

impl ReadArgs {
    /// An engine, and the scratch folder that it uses.
    pub fn engine(&self, complexity: u8) -> anyhow::Result<(Engine, tempfile::TempDir)> {
        let mut folder = tempfile::Builder::new();
        #[cfg(unix)]
        folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let scratch = folder.tempdir().context("no scratch folder could be made")?;
        let options = EngineOptions {
            ffmpeg: self.ffmpeg.clone(),
            max_duration: LONGEST,
            timeout: LONGEST,
            max_source: LARGEST,
            max_output: LARGEST,
            workers: 1,
            cache: 0,
            complexity: Some(complexity),
            scratch: scratch.path().to_owned(),
            ..EngineOptions::default()
        };
        Ok((Engine::new(options)?, scratch))
    }

    pub fn hints(&self, input: &Input) -> Hints {
        Hints { filename: input.name().map(str::to_owned), mime_type: None, format: self.format }
    }
}

/// The `--json` output for a file that is refused.
#[derive(Serialize)]
struct Refused<'a> {
    error: Refusal<'a>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: &'a str,
    detail: &'a str,
}

pub fn refused(code: &str, detail: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::line(refusal(code, detail)?)?;
    } else {
        out::remark(format_args!("voicegate: {detail} ({code})"));
    }
    Ok(ExitCode::FAILURE)
}

/// The `--json` output for a file that is refused, as text.
pub fn refusal(code: &str, detail: &str) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Refused { error: Refusal { code, detail } })
}

/// The `--json` output for a file.
#[derive(Serialize)]
struct Inspected<'a> {
    audio: AudioFacts,
    waveform: &'a [u8],
    intact: bool,
    other_streams: u32,
    opus: Option<&'a OpusDetail>,
    warnings: Vec<Warning>,
    profiles: Vec<Judged>,
}

pub async fn inspect(args: InspectArgs) -> anyhow::Result<ExitCode> {
    let (engine, scratch) = args.read.engine(10)?;
    let input = Input::open(&args.file, scratch.path())?;
    let probed = match engine.probe(input.path(), &args.read.hints(&input)).await {
        Ok(probed) => probed,
        Err(error) => return refused(error.code(), &error.detail, args.read.json),
    };
    if args.read.json {
        out::line(serde_json::to_string_pretty(&Inspected {
            audio: AudioFacts::from(&probed.facts),
            waveform: &probed.waveform,
            intact: probed.detail.intact,
            other_streams: probed.detail.other_streams,
            opus: probed.detail.opus.as_ref(),
            warnings: warnings(&probed),
            profiles: PROFILES.iter().map(|profile| judged(&probed, profile)).collect(),
        })?)?;
    } else {
        out::text(page(&probed)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All contradictions of the source, as text.
pub fn warnings(probed: &Probed) -> Vec<Warning> {
    probed.findings.contradictions.iter().copied().map(Warning::from).collect()
}

/// The result of a profile for this file, or the reason why there is none.
#[derive(Serialize)]
struct Judged {
    profile: &'static str,
    work: Option<Work>,
    #[serde(flatten)]
    made: Option<Made>,
    /// The loss to the recipient, such as the waveform.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<Warning>,
    error: Option<Value>,
}

#[derive(Serialize)]
struct Made {
    container: Container,
    codec: Codec,
    sample_rate: u32,
    size_bytes: u64,
}

fn judged(probed: &Probed, profile: &Profile) -> Judged {
    match expect(probed, profile, Convert::Auto) {
        Ok(Expected { work, audio, loss }) => {
            let made = Made {
                container: audio.container,
                codec: audio.codec.clone(),
                sample_rate: audio.sample_rate,
                size_bytes: audio.size_bytes,
            };
            let warning = loss.map(Warning::from);
            Judged { profile: profile.name, work: Some(work), made: Some(made), warning, error: None }
        }
        Err(error) => Judged {
            profile: profile.name,
            work: None,
            made: None,
            warning: None,
            error: Some(json!({ "code": error.code(), "detail": error.detail })),
        },
    }
}

/// The output for people.
fn page(probed: &Probed) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "{}", described(&probed.facts))?;
    writeln!(text, "media type  {}", probed.facts.mime_type)?;
    writeln!(text, "sha256      {}", probed.facts.sha256)?;
    writeln!(text, "waveform    {}", bars(&probed.waveform))?;
    if let Some(opus) = &probed.detail.opus {
        writeln!(text, "opus        {}", packets(opus))?;
    }
    if probed.detail.other_streams > 0 {
        writeln!(text, "besides     {} other streams, which are ignored", probed.detail.other_streams)?;
    }
    for found in &probed.findings.contradictions {
        writeln!(text, "odd         {}", found.detail())?;
    }
    if !probed.detail.intact {
        writeln!(text, "structure   faulty or unknown, so it is never sent untouched")?;
    }
    writeln!(text)?;
    let width = PROFILES.iter().map(|profile| profile.name.len()).max().unwrap_or_default();
    for profile in PROFILES {
        let verdict = match expect(probed, profile, Convert::Auto) {
            Ok(Expected { work, audio, loss }) => {
                let (codec, size) = (&audio.codec.0, audio.size_bytes / 1000);
                let made = match work {
                    Work::None => work.to_string(),
                    _ => format!("{work}, about {size} KB of {codec}"),
                };
                let loss = loss.map(|loss| format!(", without {}", loss.name()));
                made + &loss.unwrap_or_default()
            }
            Err(error) => format!("refused: {}", error.detail),
        };
        writeln!(text, "{:width$}  {verdict}", profile.name)?;
    }
    Ok(text)
}

pub fn described(facts: &voicegate_providers::AudioFacts) -> String {
    let container = serde_json::to_value(facts.container).unwrap_or_default();
    let channels = match facts.channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        count => format!("{count} channels"),
    };
    format!(
        "{:.3} s of {} in {}, {} Hz, {channels}, {} bytes",
        facts.duration_ms as f64 / 1000.0,
        facts.codec.0,
        container.as_str().unwrap_or_default(),
        facts.sample_rate,
        facts.size_bytes,
    )
}

fn packets(opus: &OpusDetail) -> String {
    let frame = match (opus.frame_us, opus.frames_per_packet) {
        (Some(us), Some(count)) => format!("{count} × {} ms a packet", f64::from(us) / 1000.0),
        (Some(us), None) => format!("frames of {} ms, packets of different length", f64::from(us) / 1000.0),
        _ => "packets of different length".to_owned(),
    };
    let bandwidth = serde_json::to_value(opus.max_bandwidth).unwrap_or_default();
    let vendor = opus.vendor.as_deref().map_or(String::new(), |vendor| format!(", by {vendor:?}"));
    format!(
        "{frame}, at most {}band, pre-skip {}, {} comments{vendor}",
        bandwidth.as_str().unwrap_or_default(),
        opus.pre_skip,
        opus.comments
    )
}

fn bars(waveform: &[u8]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    waveform.iter().map(|&bar| BARS[(usize::from(bar) * 8).div_ceil(100).min(8)]).collect()
}

pub fn profiles(args: &ProfilesArgs) -> anyhow::Result<ExitCode> {
    if args.json {
        let list: Vec<Listed> = PROFILES
            .iter()
            .map(|profile| Listed { name: profile.name, target: profile.target, profile: profile.into() })
            .collect();
        out::line(serde_json::to_string_pretty(&list)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (index, profile) in PROFILES.iter().enumerate() {
        out::text(format_args!("{}{}", if index > 0 { "\n" } else { "" }, entry(profile)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The `--json` output for a profile.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    target: &'static str,
    #[serde(flatten)]
    profile: AudioProfile,
}

fn entry(profile: &Profile) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "{}  {}", profile.name, profile.target)?;
    writeln!(text, "  makes    {}", profile.produces())?;
    for (index, form) in profile.accepted_formats().iter().enumerate() {
        writeln!(text, "  {}  {form}", if index == 0 { "accepts" } else { "       " })?;
    }
    let over = profile.over_budget;
    let over =
        over.map(|over| format!(", or {} without {}", over.max_bytes, over.loss.name())).unwrap_or_default();
    let bytes = profile.max_bytes.map(|bytes| format!("at most {bytes} bytes{over}"));
    let span = profile.max_duration.map(|span| format!("encoded audio of at most {} s", span.as_secs()));
    let limits: Vec<String> = bytes.into_iter().chain(span).collect();
    if !limits.is_empty() {
        writeln!(text, "  limits   {}", limits.join(", "))?;
    }
    Ok(text)
}
