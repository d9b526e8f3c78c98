//! Processor time of one conversion: user and system, children included.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{BITRATE, Options, PROFILE, RATE, by_hand, sources::Sources, usage::Usage};
use crate::{
    Setting,
    gateway::{Gateway, distinct, sample},
    load,
    report::{Report, quantile},
};

const PATIENCE: Duration = Duration::from_secs(300);

/// How often the same is asked for again, and the arms that tell what that costs.
const KEPT: usize = 200;
const ONCE: &str = "once";
const AGAIN: &str = "again";

/// One thing that is done once in every round.
struct Arm {
    name: &'static str,
    command: Vec<OsString>,
    /// How often it is done by one run of the command.
    count: usize,
    /// Whether the cost of starting the command is left out: a gateway starts once.
    warm: bool,
    took: Vec<f64>,
}

impl Arm {
    fn once<S: AsRef<OsStr>>(name: &'static str, command: impl IntoIterator<Item = S>) -> Self {
        let command = command.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self { name, command, count: 1, warm: false, took: Vec::new() }
    }

    fn median(&self) -> f64 {
        quantile(&mut self.took.clone(), 0.5)
    }
}

/// The engine, in this program, doing `work` for `profile`.
fn engine(
    name: &'static str,
    count: usize,
    (profile, work): (&str, &str),
    file: &Path,
    options: &Options,
    more: &[&str],
) -> anyhow::Result<Arm> {
    let command = repetition(count, (profile, work), file, options, more)?;
    Ok(Arm { count, warm: true, ..Arm::once(name, command) })
}

fn repetition(
    count: usize,
    (profile, work): (&str, &str),
    file: &Path,
    options: &Options,
    more: &[&str],
) -> anyhow::Result<Vec<OsString>> {
    let mut command = vec![std::env::current_exe()?.into_os_string()];
    command.extend(["repeat", "--count", &count.to_string()].map(OsString::from));
    command.extend(["--profile", profile, "--work", work].map(OsString::from));
    command.extend(more.iter().map(OsString::from));
    if let Some(ffmpeg) = &options.ffmpeg {
        command.extend(["--ffmpeg".into(), ffmpeg.clone().into_os_string()]);
    }
    command.push(file.into());
    Ok(command)
}

/// Path of the encoder alone, which `make ffmpeg` puts beside the folder of the executables.
pub fn floor() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?;
    let tool = beside.parent()?.parent()?.join("tools/ffmpeg/opus-floor");
    tool.is_file().then_some(tool)
}

pub fn measure(
    usage: &Usage,
    sources: &Sources,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Options { rounds, .. } = options;
    report.part(&format!(
        "audio: processor time of one conversion, 10 s of MP3 to Ogg/Opus, {RATE} Hz, median of {rounds}"
    ));
    let nowhere = sources.samples.with_file_name("made.ogg");
    let (input, output) = (sources.speech.to_string_lossy(), nowhere.to_string_lossy());
    let system = |complexity| ["ffmpeg".to_owned()].into_iter().chain(by_hand(&input, &output, complexity));
    let engine = |name, count, (profile, work), file: &Path, more: &[&str]| {
        engine(name, count, (profile, work), file, options, more)
    };
    let (encoded, kept) = ((PROFILE, "transcoded"), (PROFILE, "remuxed"));
    let mut arms = vec![
        Arm::once("the system's ffmpeg", system(10)),
        engine("the engine", 1, encoded, &sources.speech, &[])?,
        Arm::once("the system's ffmpeg at complexity 5", system(5)),
        engine("the engine at complexity 5", 1, encoded, &sources.speech, &["--complexity", "5"])?,
        engine("the engine, 2 s of MP3", 1, encoded, &sources.short, &[])?,
        engine("the engine, Ogg/Opus that is wrapped anew", 8, kept, &sources.ogg, &[])?,
        engine("  without a waveform", 40, kept, &sources.ogg, &["--plain"])?,
        engine("the engine, WebM/Opus that is wrapped anew", 8, kept, &sources.webm, &[])?,
        engine("  without a waveform, too", 40, kept, &sources.webm, &["--plain"])?,
        engine("the engine, MP3 that goes as it is", 8, ("linq-1", "none"), &sources.speech, &[])?,
        engine(ONCE, 1, encoded, &sources.speech, &["--keep"])?,
        engine(AGAIN, 1 + KEPT, encoded, &sources.speech, &["--keep"])?,
    ];
    if let Some(tool) = floor() {
        for (name, complexity) in [("libopus alone", "10"), ("libopus alone at complexity 5", "5")] {
            let command = [tool.as_os_str(), sources.samples.as_os_str()].map(OsStr::to_owned);
            let words = [RATE.to_string(), BITRATE.to_string(), complexity.to_owned()].map(OsString::from);
            arms.push(Arm::once(name, command.into_iter().chain(words)));
        }
    } else {
        println!("  (the encoder alone is not there: `make ffmpeg` builds it)");
    }
    run(usage, sources, options, &mut arms)?;
    let median = |name: &str| arms.iter().find(|arm| arm.name == name).map(Arm::median);
    let (system, floor) = (median("the system's ffmpeg"), median("libopus alone"));
    for arm in arms.iter().filter(|arm| arm.name != ONCE && arm.name != AGAIN) {
        report.figure("audio", arm.name, arm.median(), "ms");
        let compared = match arm.name {
            "the engine" => [system, floor],
            "the engine at complexity 5" => [system, None],
            _ => [None, None],
        };
        for (other, name) in compared.into_iter().zip(["  / the system's ffmpeg", "  / libopus alone"]) {
            if let Some(other) = other {
                report.figure("audio", name, arm.median() / other, "times");
            }
        }
    }
    if let (Some(once), Some(again)) = (median(ONCE), median(AGAIN)) {
        // The first of them was made, the others were there.
        let kept = (again * (1 + KEPT) as f64 - once) / KEPT as f64;
        report.figure("audio", "the engine, what was made before", kept, "ms");
    }
    Ok(())
}

/// All arms in turn, round after round, so that whatever else the machine does meets all of them.
fn run(usage: &Usage, sources: &Sources, options: &Options, arms: &mut [Arm]) -> anyhow::Result<()> {
    let start = repetition(0, (PROFILE, "none"), &sources.speech, options, &[])?;
    // Once before, so that everything is in the page cache.
    for round in 0..=options.rounds {
        let starting = usage.of(&start)?;
        for arm in &mut *arms {
            let used = usage.of(&arm.command)? - if arm.warm { starting } else { 0.0 };
            if round > 0 {
                arm.took.push(used / arm.count as f64);
            }
        }
    }
    Ok(())
}

/// Costs of a note beside its conversion: store, links, dispatch.
pub async fn job(
    setting: &Setting,
    usage: &Usage,
    sources: &Sources,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    const WARM_UP: usize = 16;
    const NOTES: usize = 200;
    report.part(&format!("audio: processor time of a whole note of 5 s, {NOTES} of them"));
    let mut arms = [
        engine("untouched", 1, ("linq-1", "none"), &sources.sample, options, &[])?,
        engine("encoded", 1, (PROFILE, "transcoded"), &sources.sample, options, &[])?,
    ];
    run(usage, sources, options, &mut arms)?;
    let [untouched, encoded] = arms.map(|arm| arm.median());
    for (name, connection, fresh, alone) in [
        ("Linq, MP3 as it is", "imessage", true, untouched),
        ("Wawp, encoded", "whatsapp", true, encoded),
        ("Wawp, the same source again and again", "whatsapp", false, encoded),
    ] {
        let gateway = Gateway::start(&setting.binary, &[]).await?;
        let query = format!("&via={connection}");
        let audio = move |number: usize| if fresh { distinct(number) } else { sample() };
        load::send(&gateway.address, &query, audio, setting.concurrency, WARM_UP, PATIENCE).await?;
        arrived(&gateway, WARM_UP).await?;
        let before = gateway.busy();
        // Other numbers than before.
        let audio = move |number: usize| audio(number + WARM_UP);
        load::send(&gateway.address, &query, audio, setting.concurrency, NOTES, PATIENCE).await?;
        arrived(&gateway, WARM_UP + NOTES).await?;
        let Some((after, before)) = gateway.busy().zip(before) else {
            println!("  (measured on Linux only)");
            return Ok(());
        };
        let busy = after.since(before);
        let each = |seconds: f64| seconds * 1000.0 / NOTES as f64;
        report.figure("audio", &format!("{name}: the whole note"), each(busy.all()), "ms");
        report.figure("audio", "  the gateway itself", each(busy.own), "ms");
        report.figure("audio", "  its ffmpeg", each(busy.children), "ms");
        if fresh {
            report.figure("audio", "  the engine alone, for the same file", alone, "ms");
            report.figure("audio", "  so the rest of the job", each(busy.all()) - alone, "ms");
        }
    }
    Ok(())
}

async fn arrived(gateway: &Gateway, notes: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    while gateway.sandbox.ledger_len() < notes {
        ensure!(started.elapsed() < PATIENCE, "not all notes arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The ends of the last tries are written.
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}
