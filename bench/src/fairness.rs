//! One tenant has a long queue over many connections, all of it to be encoded; another sends a note now and then, which
//! has to be encoded, too.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Setting,
    gateway::{Gateway, OTHER_KEY, Premises, Wanted, distinct, recipient},
    load::{self, Requests},
    report::{Report, quantile},
};

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

/// Connections of the tenant with the long queue. Together they may have more in flight than one process has slots, so that
/// every slot is taken.
const CONNECTIONS: usize = 20;

/// Recipient of the other tenant's notes.
const TO: &str = "15550009999";

pub async fn measure(
    setting: &Setting,
    backlog: usize,
    notes: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.part(&format!(
        "fairness: a note a second, {notes} of them, beside {backlog} of another tenant; all have to be encoded"
    ));
    let premises = Premises::new(Wanted { connections: CONNECTIONS, ..Wanted::default() }).await?;
    let gateway = Gateway::at(premises, &setting.binary, &[]).await?;
    let mut idle = waits(&gateway, 0..notes).await?;
    let path = |number: usize| {
        let to = recipient(number / CONNECTIONS).replace('+', "%2B");
        format!("/voice?to={to}&via=w{}", number % CONNECTIONS)
    };
    let requests = Requests::new(path, distinct, 202);
    load::post(&gateway.address, requests, setting.concurrency, backlog, Duration::MAX).await?;
    let mut beside = waits(&gateway, notes..2 * notes).await?;
    for (share, name) in [(0.5, "p50"), (0.95, "p95")] {
        let (idle, beside) = (quantile(&mut idle, share), quantile(&mut beside, share));
        report.figure("fairness", &format!("from accept to dispatch, {name}, alone"), idle, "ms");
        report.figure("fairness", "  beside the queue", beside, "ms");
        report.figure("fairness", "  ratio", beside / idle, "times");
    }
    // What is left proves that the queue was there all the time.
    let sent = gateway.sandbox.ledger_len().saturating_sub(2 * notes);
    ensure!(sent < backlog, "the queue of {backlog} notes was empty before the end: there have to be more");
    report.figure("fairness", "sent of the queue meanwhile", sent as f64, "notes");
    Ok(())
}

/// From when a note was made to when its send arrived at the provider, in milliseconds.
async fn waits(gateway: &Gateway, numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<f64>> {
    let mut turns = tokio::time::interval(EVERY);
    let mut made = Vec::new();
    for number in numbers.clone() {
        turns.tick().await;
        let path = format!("/voice?to=%2B{TO}&via=whatsapp");
        // Far from the numbers of the queue: nothing that was made before serves again.
        let audio = distinct(usize::MAX - number);
        let note = load::json(&gateway.address, OTHER_KEY, "POST", &path, &audio).await?;
        made.push(time(&note["created_at"])?);
    }
    let started = Instant::now();
    let arrived = loop {
        // In order, since they are for one person.
        let arrived = arrivals(gateway)?;
        if arrived.len() >= numbers.end {
            break arrived;
        }
        ensure!(started.elapsed() < PATIENCE, "not all notes arrived");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let pairs = made.iter().zip(&arrived[numbers]);
    Ok(pairs.map(|(made, arrived)| arrived.duration_since(*made).as_secs_f64() * 1000.0).collect())
}

/// When sends for the other tenant's recipient reached the emulated provider.
fn arrivals(gateway: &Gateway) -> anyhow::Result<Vec<Timestamp>> {
    let requests = gateway.sandbox.requests().into_iter();
    let theirs = requests.filter(|request| {
        request.operation == "voice"
            && request.body["chatId"].as_str().is_some_and(|chat| chat.starts_with(TO))
    });
    theirs.map(|request| Ok(request.at.parse()?)).collect()
}

fn time(value: &Value) -> anyhow::Result<Timestamp> {
    Ok(value.as_str().context("a time")?.parse()?)
}
