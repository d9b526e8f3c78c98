//! Memory of the process itself: what is resident, page cache and child processes left out. Linux only.

use std::time::Duration;

use crate::{
    Setting,
    gateway::{Gateway, distinct},
    load, proc,
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
    let load =
        load::send(&gateway.address, "", distinct, setting.concurrency, usize::MAX, setting.span).await?;
    report.figure("memory", "peak while accepting and sending", resident(&gateway, "VmHWM:")?, "MB");
    report.figure("memory", "  accepts meanwhile", load.per_second(), "accepts/s");
    Ok(())
}

fn resident(gateway: &Gateway, field: &str) -> anyhow::Result<f64> {
    Ok(proc::memory(gateway.pid(), field)? / 1e6)
}
