//! One tenant has a long queue; another sends a note now and then.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Setting,
    gateway::{Gateway, OTHER_KEY, sample},
    load,
    report::{Report, quantile},
};

const EVERY: Duration = Duration::from_secs(1);

/// Over both providers, so that one queue of them has to be encoded.
const ROUTES: [&str; 2] = ["imessage", "whatsapp"];

pub async fn measure(
    setting: &Setting,
    backlog: usize,
    notes: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.part(&format!(
        "fairness: a note a second, {notes} of them, beside {backlog} queued ones of another tenant"
    ));
    let gateway = Gateway::start(&setting.binary, &[]).await?;
    let idle = waits(&gateway, notes).await?;
    let audio = sample();
    for connection in ROUTES {
        let query = format!("&via={connection}");
        let most = backlog / ROUTES.len();
        load::send(&gateway.address, &query, &audio, setting.concurrency, most, Duration::MAX).await?;
    }
    let beside = waits(&gateway, notes).await?;
    for (mut idle, mut beside, connection) in [(idle.0, beside.0, ROUTES[0]), (idle.1, beside.1, ROUTES[1])] {
        let (idle, beside) = (quantile(&mut idle, 0.95), quantile(&mut beside, 0.95));
        report.figure("fairness", &format!("{connection}, from accept to accepted, p95, alone"), idle, "ms");
        report.figure("fairness", "  beside the queue", beside, "ms");
        report.figure("fairness", "  ratio", beside / idle, "times");
    }
    Ok(())
}

/// From the 202 to the provider's answer, in milliseconds, by connection.
async fn waits(gateway: &Gateway, notes: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let mut turns = tokio::time::interval(EVERY);
    let mut ids = Vec::new();
    for number in 0..notes {
        turns.tick().await;
        let connection = ROUTES[number % ROUTES.len()];
        let path = format!("/voice?to=%2B15550009999&via={connection}");
        let note = load::json(&gateway.address, OTHER_KEY, "POST", &path, &sample()).await?;
        ids.push(note["id"].as_str().context("an id")?.to_owned());
    }
    let mut waits = (Vec::new(), Vec::new());
    for (number, id) in ids.iter().enumerate() {
        let begun = Instant::now();
        let note = loop {
            let note = load::json(&gateway.address, OTHER_KEY, "GET", &format!("/voice/{id}"), &[]).await?;
            if note["accepted_at"].is_string() {
                break note;
            }
            ensure!(begun.elapsed() < Duration::from_secs(120), "the note never arrived: {note}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let wait =
            time(&note["accepted_at"])?.duration_since(time(&note["created_at"])?).as_secs_f64() * 1000.0;
        if number % ROUTES.len() == 0 { waits.0.push(wait) } else { waits.1.push(wait) }
    }
    Ok(waits)
}

fn time(value: &Value) -> anyhow::Result<Timestamp> {
    Ok(value.as_str().context("a time")?.parse()?)
}
