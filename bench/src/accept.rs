//! Durable accepts: many notes with one flush, against one commit for each.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    Setting,
    gateway::{Gateway, same, sample},
    load,
    report::{Report, quantile},
    shim::Shim,
};

/// What a disk without a cache of its own takes for a flush.
const DELAY_US: u32 = 2000;
/// Connections, caches and the first pages of the database.
const WARM_UP: Duration = Duration::from_secs(1);
/// Notes that are due later cost nothing but their acceptance.
const LATER: SignedDuration = SignedDuration::from_hours(24);

pub async fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let shim = Shim::build(folder.path())?;
    let audio = sample();
    #[expect(clippy::disallowed_methods, reason = "the gateway that is measured lives in real time")]
    let later = format!("&send_at={}&expires_in=1h", Timestamp::now() + LATER);
    let title = format!("accept: {} bytes of MP3, {} requests in flight", audio.len(), setting.concurrency);
    report.part(&title);
    if shim.is_none() {
        println!("  (flushes can be delayed and counted on Linux only)");
    }
    let delays: &[u32] = if shim.is_some() { &[0, DELAY_US] } else { &[0] };
    for &delay in delays {
        let mut rates = Vec::new();
        for (arm, batch) in [("one commit per request", Some("1")), ("group commit", None)] {
            let mut environment = shim.as_ref().map(|shim| shim.environment(delay)).unwrap_or_default();
            environment.extend(batch.map(|most| ("VOICEGATE_BENCH_BATCH".to_owned(), most.to_owned())));
            let gateway = Gateway::start(&setting.binary, &environment).await?;
            let send = |span| {
                load::send(&gateway.address, &later, same(&audio), setting.concurrency, usize::MAX, span)
            };
            send(WARM_UP).await?;
            let before = shim.as_ref().map(Shim::flushes).transpose()?;
            let busy = gateway.busy();
            let mut load = send(setting.span).await?;
            let busy = gateway.busy().zip(busy).map(|(after, before)| after.since(before).own);
            let after = shim.as_ref().map(Shim::flushes).transpose()?;
            let name =
                format!("{arm}, flushes {}", if delay == 0 { "as they are" } else { "delayed to 2 ms" });
            report.figure("accept", &name, load.per_second(), "accepts/s");
            for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
                report.figure("accept", &format!("  {what}"), quantile(&mut load.latencies, share), "ms");
            }
            if let Some(busy) = busy {
                // The figure that other load on the machine changes least.
                let each = busy * 1e6 / load.latencies.len() as f64;
                report.figure("accept", "  processor time of the gateway per accept", each, "us");
            }
            if let (Some(before), Some(after)) = (before, after) {
                let flushes = (after - before) as f64 / load.latencies.len() as f64;
                // The proof that the delay is where it should be: a commit without a flush is none.
                anyhow::ensure!(after > before, "no flush was counted, so none was delayed either");
                report.figure("accept", "  flushes per accept", flushes, "");
            }
            rates.push(load.per_second());
        }
        report.figure("accept", "group commit / one commit per request", rates[1] / rates[0], "times");
    }
    Ok(())
}
