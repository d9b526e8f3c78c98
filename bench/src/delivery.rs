//! Notes from the request to the provider's emulator, which runs on the same machine.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{
    Setting,
    gateway::{Gateway, distinct},
    load,
    report::Report,
};

const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(setting: &Setting, notes: usize, report: &mut Report) -> anyhow::Result<()> {
    report.part(&format!("delivery: {notes} notes to each emulated provider"));
    for (name, connection) in
        [("Linq, MP3 as it is", "imessage"), ("Wawp, transcoded to Ogg/Opus", "whatsapp")]
    {
        let gateway = Gateway::start(&setting.binary, &[]).await?;
        let started = Instant::now();
        let query = format!("&via={connection}");
        load::send(&gateway.address, &query, distinct, setting.concurrency, notes, PATIENCE).await?;
        let accepted = started.elapsed();
        while gateway.sandbox.ledger().len() < notes {
            ensure!(started.elapsed() < PATIENCE, "{connection}: not all notes arrived");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rate = notes as f64 / started.elapsed().as_secs_f64();
        report.figure("delivery", name, rate, "notes/s");
        report.figure("delivery", "  all were accepted after", accepted.as_secs_f64(), "s");
    }
    Ok(())
}
