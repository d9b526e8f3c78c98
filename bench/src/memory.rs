//! Memory of the process itself: what is resident, page cache and child processes left out. Linux only.

use std::time::Duration;

use anyhow::Context;

use crate::{
    Setting,
    gateway::{Gateway, sample},
    load,
    report::Report,
};

pub async fn measure(setting: &Setting, rest: Duration, report: &mut Report) -> anyhow::Result<()> {
    report.part("memory");
    if !cfg!(target_os = "linux") {
        println!("  (measured on Linux only)");
        return Ok(());
    }
    let gateway = Gateway::start(&setting.binary, &[]).await?;
    tokio::time::sleep(rest).await;
    let name = format!("idle, after {} s", rest.as_secs());
    report.figure("memory", &name, resident(&gateway, "VmRSS:")?, "MB");
    let audio = sample();
    let load =
        load::send(&gateway.address, "", &audio, setting.concurrency, usize::MAX, setting.span).await?;
    report.figure("memory", "peak while accepting and sending", resident(&gateway, "VmHWM:")?, "MB");
    report.figure("memory", "  accepts meanwhile", load.per_second(), "accepts/s");
    Ok(())
}

fn resident(gateway: &Gateway, field: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such figure")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}
