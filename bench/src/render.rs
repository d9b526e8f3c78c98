//! `POST /render`, beside Evolution's converter contract in Node with the system's ffmpeg.

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Setting,
    audio::{http::Service, sources::Sources},
    gateway::{Gateway, tagged},
    load::{self, Load, Requests},
    report::{Report, quantile},
};

const PART: &str = "render";
const PAIRS: usize = 3;
const CONCURRENCY: usize = 8;
const WARM_UP: Duration = Duration::from_secs(1);

pub async fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    report.part(&format!("render: 10 s of MP3 to Ogg/Opus, {CONCURRENCY} at a time"));
    let folder = tempfile::tempdir()?;
    let audio = std::fs::read(Sources::make(folder.path())?.speech)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/converter.mjs");
    let Some(node) = Service::start(&["node".as_ref(), script.as_os_str(), "ffmpeg".as_ref()])? else {
        println!("  (there is no Node here)");
        return Ok(());
    };
    let gateway = Gateway::start(&setting.binary, &[]).await?;
    // No two are alike, in no run: what was rendered before would be found again.
    let own = async |from: usize, span| {
        let audio = audio.clone();
        let path = |_| "/render?profile=whatsapp-1".to_owned();
        let requests = Requests::new(path, move |number| tagged(from + number, &audio), 200);
        load::post(&gateway.address, requests, CONCURRENCY, usize::MAX, span).await
    };
    let theirs = async |from: usize, span| {
        let audio = audio.clone();
        let path = |_| "/process-audio".to_owned();
        let requests = Requests {
            kind: "multipart/form-data; boundary=XX",
            ..Requests::new(path, move |number| form(&tagged(from + number, &audio)), 200)
        };
        load::post(&node.address, requests, CONCURRENCY, usize::MAX, span).await
    };
    own(0, WARM_UP).await?;
    theirs(0, WARM_UP).await?;
    let mut seen: [Vec<Load>; 2] = Default::default();
    for pair in 0..PAIRS {
        let from = (pair + 1) * 1_000_000;
        if pair % 2 == 0 {
            seen[0].push(own(from, setting.span).await?);
            seen[1].push(theirs(from, setting.span).await?);
        } else {
            seen[1].push(theirs(from, setting.span).await?);
            seen[0].push(own(from, setting.span).await?);
        }
    }
    let mut ratios: Vec<f64> =
        seen[0].iter().zip(&seen[1]).map(|(own, theirs)| own.per_second() / theirs.per_second()).collect();
    for (loads, name) in seen.into_iter().zip(["POST /render", "Node and the system's ffmpeg"]) {
        let mut rates: Vec<f64> = loads.iter().map(Load::per_second).collect();
        let mut latencies: Vec<f64> = loads.into_iter().flat_map(|load| load.latencies).collect();
        report.figure(PART, name, quantile(&mut rates, 0.5), "conversions/s");
        report.figure(PART, "  p50", quantile(&mut latencies, 0.5), "ms");
        report.figure(PART, "  p95", quantile(&mut latencies, 0.95), "ms");
    }
    report.figure(PART, "POST /render / Node", quantile(&mut ratios, 0.5), "times");
    Ok(())
}

/// A request to the converter, as Evolution makes it.
fn form(audio: &[u8]) -> Vec<u8> {
    let part = |name: &str, value: &str| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let base64 = STANDARD.encode(audio);
    format!("{}{}--XX--\r\n", part("base64", &base64), part("format", "ogg")).into_bytes()
}
