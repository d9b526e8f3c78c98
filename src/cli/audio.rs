//! `voicegate convert`, `inspect` and `profiles`: the audio engine on files.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::{
    audio::{
        Convert, Engine, EngineOptions, Hints, OpusDetail, PROFILES, PcmFormat, Probed, Profile, Render,
        Work, plan, profile,
    },
    view::{AudioFacts, AudioProfile},
};

/// The longest file that is looked at, and the largest that is made: nobody else waits for it.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(6 * 60 * 60);
const LARGEST: u64 = 1 << 30;

/// How a file is read.
#[derive(clap::Args)]
pub struct ReadArgs {
    /// The format of headerless samples: a preset such as openai-pcm, or JSON as in
    /// {"encoding":"s16le","sample_rate":24000,"channels":1}.
    #[arg(long, value_parser = format)]
    format: Option<PcmFormat>,
    /// The ffmpeg to use; without it the one beside voicegate, else the one on PATH.
    #[arg(long, value_name = "PATH")]
    ffmpeg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// The audio file, of any kind.
    input: PathBuf,
    /// The file to write.
    output: PathBuf,
    /// What to make of it; `voicegate profiles` lists them.
    #[arg(long, value_parser = named)]
    profile: &'static Profile,
    /// How far to go: `auto` does the least that makes it fit, `always` encodes, `never` encodes never.
    #[arg(long, value_enum, default_value_t = How::Auto)]
    convert: How,
    /// Of Opus, from 0 to 10: less takes less time, and sounds worse.
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

#[derive(clap::Args)]
pub struct InspectArgs {
    /// The file, of any kind.
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

fn named(name: &str) -> Result<&'static Profile, String> {
    let names = || PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ");
    profile(name).ok_or_else(|| format!("there is no such profile; there are {}", names()))
}

fn format(text: &str) -> Result<PcmFormat, String> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    serde_json::from_value(value).map_err(|error| error.to_string())
}

impl ReadArgs {
    /// An engine with a scratch folder that goes with it.
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

    pub fn hints(&self, file: &Path) -> Hints {
        let filename = file.file_name().map(|name| name.to_string_lossy().into_owned());
        Hints { filename, mime_type: None, format: self.format }
    }
}

/// What is not a file is told apart, so that nobody is told that a folder is damaged audio.
pub fn ensure_file(file: &Path) -> anyhow::Result<()> {
    let facts = std::fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()))?;
    ensure!(facts.is_file(), "{} is not a file", file.display());
    std::fs::File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(())
}

pub async fn convert(args: ConvertArgs) -> anyhow::Result<ExitCode> {
    ensure_file(&args.input)?;
    let same = |file: &Path| file.canonicalize().ok();
    if same(&args.output).is_some_and(|output| Some(output) == same(&args.input)) {
        bail!("input and output are the same file");
    }
    let (engine, _scratch) = args.read.engine(args.complexity)?;
    let how = match args.convert {
        How::Auto => Convert::Auto,
        How::Always => Convert::Always,
        How::Never => Convert::Never,
    };
    let hints = args.read.hints(&args.input);
    let (source, render) = match engine.convert(&args.input, &hints, args.profile, how).await {
        Ok(converted) => converted,
        Err(error) => return Ok(refused(error.code(), &error.detail, args.read.json)),
    };
    let unwritten = || format!("{} cannot be written", args.output.display());
    let (facts, work, checks) = match render {
        Render::Untouched => {
            std::fs::copy(&args.input, &args.output).with_context(unwritten)?;
            (source.facts.clone(), Work::None, Vec::new())
        }
        Render::Made { file, facts, work, checks } => {
            std::fs::copy(file.path(), &args.output).with_context(unwritten)?;
            (facts, work, checks)
        }
    };
    if args.read.json {
        let shown = json!({
            "source": AudioFacts::from(&source.facts),
            "made": AudioFacts::from(&facts),
            "profile": args.profile.name,
            "work": work,
            "checks": checks,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        println!("{}", described(&source.facts));
        println!("{}: {}", done(work), described(&facts));
    }
    Ok(ExitCode::SUCCESS)
}

fn refused(code: &str, detail: &str, as_json: bool) -> ExitCode {
    if as_json {
        println!("{:#}", json!({ "error": { "code": code, "detail": detail } }));
    } else {
        eprintln!("voicegate: {detail} ({code})");
    }
    ExitCode::FAILURE
}

pub async fn inspect(args: InspectArgs) -> anyhow::Result<ExitCode> {
    ensure_file(&args.file)?;
    let (engine, _scratch) = args.read.engine(10)?;
    let probed = match engine.probe(&args.file, &args.read.hints(&args.file)).await {
        Ok(probed) => probed,
        Err(error) => return Ok(refused(error.code(), &error.detail, args.read.json)),
    };
    if args.read.json {
        let profiles: Vec<Value> = PROFILES.iter().map(|profile| judged(&probed, profile)).collect();
        let shown = json!({
            "audio": AudioFacts::from(&probed.facts),
            "waveform": probed.waveform,
            "intact": probed.detail.intact,
            "other_streams": probed.detail.other_streams,
            "opus": probed.detail.opus,
            "profiles": profiles,
        });
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        print!("{}", page(&probed)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// What a profile would make of it.
fn judged(probed: &Probed, profile: &Profile) -> Value {
    match plan(probed, profile, Convert::Auto) {
        Ok(works) => {
            let work = works.first().copied().unwrap_or(Work::Transcoded);
            let audio = profile.foresee(probed, work);
            json!({
                "profile": profile.name,
                "work": work,
                "container": audio.container,
                "codec": audio.codec,
                "sample_rate": audio.sample_rate,
                "size_bytes": audio.size_bytes,
                "error": null,
            })
        }
        Err(error) => json!({
            "profile": profile.name,
            "work": null,
            "error": { "code": error.code(), "detail": error.detail },
        }),
    }
}

/// What a person reads.
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
        writeln!(text, "besides     {} other streams, which are left out", probed.detail.other_streams)?;
    }
    if !probed.detail.intact {
        writeln!(text, "structure   not as it should be, or not known here: never passed on untouched")?;
    }
    writeln!(text)?;
    let width = PROFILES.iter().map(|profile| profile.name.len()).max().unwrap_or_default();
    for profile in PROFILES {
        let verdict = match plan(probed, profile, Convert::Auto) {
            Ok(works) if works.first() == Some(&Work::None) => "goes as it is".to_owned(),
            Ok(works) => {
                let work = works.first().copied().unwrap_or(Work::Transcoded);
                let audio = profile.foresee(probed, work);
                let (codec, size) = (&audio.codec.0, audio.size_bytes / 1000);
                format!("{}, about {size} KB of {codec}", done(work))
            }
            Err(error) => format!("refused: {}", error.detail),
        };
        writeln!(text, "{:width$}  {verdict}", profile.name)?;
    }
    Ok(text)
}

fn done(work: Work) -> &'static str {
    match work {
        Work::None => "untouched",
        Work::Remuxed => "wrapped anew",
        Work::Transcoded => "encoded",
    }
}

fn described(facts: &voicegate_providers::AudioFacts) -> String {
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
        let list: Vec<Value> = PROFILES
            .iter()
            .map(|profile| {
                let mut shown = serde_json::to_value(AudioProfile::from(profile)).unwrap_or_default();
                shown["name"] = json!(profile.name);
                shown["target"] = json!(profile.target);
                shown
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (index, profile) in PROFILES.iter().enumerate() {
        if index > 0 {
            println!();
        }
        println!("{}  {}", profile.name, profile.target);
        println!("  makes    {}", profile.produces());
        for (index, form) in profile.forms().iter().enumerate() {
            println!("  {}  {form}", if index == 0 { "accepts" } else { "       " });
        }
        let bytes = profile.max_bytes.map(|bytes| format!("at most {bytes} bytes"));
        let span = profile.max_duration.map(|span| format!("encoded audio of at most {} s", span.as_secs()));
        let limits: Vec<String> = bytes.into_iter().chain(span).collect();
        if !limits.is_empty() {
            println!("  limits   {}", limits.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}
