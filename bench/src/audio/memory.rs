//! How much memory conversions take: in the gateway itself, and in the largest of its children.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;

use super::{Options, sources::Sources};
use crate::{
    Setting,
    gateway::{Gateway, Premises, Wanted, distinct, tagged},
    load, proc,
    report::Report,
};

const MIB: f64 = 1_048_576.0;
/// Most memory that one conversion may take beside its source.
const ALLOWED: f64 = 2.0 * MIB;
const PATIENCE: Duration = Duration::from_secs(1800);

pub async fn measure(
    setting: &Setting,
    sources: &Sources,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.part("audio: memory while so many notes are encoded at once");
    if !cfg!(target_os = "linux") {
        println!("  (measured on Linux only)");
        return Ok(());
    }
    for (name, source) in [("10 s", sources.speech.clone()), ("long", sources.long(options.long)?)] {
        let audio = std::fs::read(source)?;
        let name = if name == "long" { format!("{} s", options.long) } else { name.to_owned() };
        for at_once in [1, 8] {
            let (grown, largest) = grows(setting, &audio, at_once).await?;
            let allowed = at_once as f64 * (ALLOWED + audio.len() as f64);
            report.figure("audio", &format!("{at_once} of {name}: the gateway grows by"), grown / MIB, "MiB");
            report.figure(
                "audio",
                "  of what is allowed: each 2 MiB and its source",
                grown / allowed,
                "times",
            );
            report.figure("audio", "  the largest ffmpeg", largest / MIB, "MiB");
        }
    }
    Ok(())
}

/// By how much the gateway grows at most, and how large its largest child gets.
async fn grows(setting: &Setting, audio: &[u8], at_once: usize) -> anyhow::Result<(f64, f64)> {
    let audio_options = "workers = 8\ntimeout = \"20m\"";
    let premises = Premises::new(Wanted { audio: audio_options, ..Wanted::default() }).await?;
    let gateway = Gateway::at(premises, &setting.binary, &[]).await?;
    let pid = gateway.pid();
    // What is only needed once, and what the self-test at the start had.
    load::send(&gateway.address, "&via=whatsapp", distinct, 2, 8, PATIENCE).await?;
    watch(&gateway, 8, &mut BTreeMap::new()).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = proc::memory(pid, "VmRSS:")?;
    proc::forget_peak(pid)?;
    let mut children = BTreeMap::new();
    let audio = audio.to_vec();
    let each = move |number| tagged(number, &audio);
    let sending = load::send(&gateway.address, "&via=whatsapp", each, at_once, at_once, PATIENCE);
    let (sent, watched) = tokio::join!(sending, watch(&gateway, 8 + at_once, &mut children));
    sent?;
    watched?;
    let grown = proc::memory(pid, "VmHWM:")? - before;
    Ok((grown, children.into_values().fold(0.0, f64::max)))
}

/// Looks at the children until so many notes have arrived.
async fn watch(gateway: &Gateway, notes: usize, seen: &mut BTreeMap<u32, f64>) -> anyhow::Result<()> {
    let started = Instant::now();
    let of = |pid: u32| std::fs::read_link(PathBuf::from(format!("/proc/{pid}/exe"))).ok();
    let own = of(gateway.pid());
    while gateway.sandbox.ledger_len() < notes {
        ensure!(started.elapsed() < PATIENCE, "not all notes arrived");
        for child in proc::children(gateway.pid()) {
            // Before it runs its program it is a copy of the gateway, whose pages it shares.
            if of(child) != own
                && let Ok(peak) = proc::memory(child, "VmHWM:")
            {
                seen.insert(child, peak);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
