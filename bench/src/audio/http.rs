//! Conversion and nothing else, over HTTP: the engine behind a small service, and a small service in Node.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;

use super::{Options, PROFILE, by_hand, sources::Sources};
use crate::{
    Setting,
    gateway::tagged,
    load::{self, Requests},
    report::{Report, quantile},
};

const PAIRS: usize = 3;

/// A service in a process of its own.
pub struct Service {
    child: Child,
    pub address: String,
}

impl Service {
    /// `None` where there is no such program.
    pub fn start<S: AsRef<OsStr>>(command: &[S]) -> anyhow::Result<Option<Self>> {
        let (program, arguments) = command.split_first().context("a command")?;
        let started =
            Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            started => started?,
        };
        let said = BufReader::new(child.stdout.take().context("its output")?).lines().next();
        Ok(Some(Self { child, address: said.context("an address")?? }))
    }
}

impl Service {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Result of one arm: notes a second by round, and every latency.
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    latencies: Vec<f64>,
}

pub async fn measure(
    setting: &Setting,
    sources: &Sources,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.part("audio: 10 s of MP3 to Ogg/Opus over HTTP, and nothing else");
    let mut own = vec![std::env::current_exe()?.into_os_string()];
    own.extend(["service", "--profile", PROFILE].map(Into::into));
    if let Some(ffmpeg) = &options.ffmpeg {
        own.extend(["--ffmpeg".into(), ffmpeg.clone().into_os_string()]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/convert.mjs");
    let mut node = vec!["node".into(), script.into_os_string(), "ffmpeg".into()];
    // Not -nostdin: the body comes that way.
    node.extend(by_hand("pipe:0", "pipe:1", 10).into_iter().skip(1).map(Into::into));
    let Some(node) = Service::start(&node)? else {
        println!("  (there is no Node here)");
        return Ok(());
    };
    let own = Service::start(&own)?.context("this program")?;
    let audio = std::fs::read(&sources.speech)?;
    let send = async |service: &Service, concurrency, span| {
        let audio = audio.clone();
        // No two alike: the engine makes what several ask for at the same time only once.
        let requests = Requests::new(|_| "/".to_owned(), move |number| tagged(number, &audio), 200);
        load::post(&service.address, requests, concurrency, usize::MAX, span).await
    };
    for service in [&node, &own] {
        send(service, 2, Duration::from_secs(1)).await?;
    }
    for concurrency in [1, 2, 8] {
        let mut seen = [Seen::default(), Seen::default()];
        for pair in 0..PAIRS {
            let mut order = [(0, &node), (1, &own)];
            order.rotate_left(pair % 2);
            for (which, service) in order {
                let load = send(service, concurrency, setting.span / 2).await?;
                seen[which].rates.push(load.per_second());
                seen[which].latencies.extend(load.latencies);
            }
        }
        let mut ratios: Vec<f64> =
            seen[1].rates.iter().zip(&seen[0].rates).map(|(own, node)| own / node).collect();
        for (seen, name) in seen.iter_mut().zip(["Node and the system's ffmpeg", "the engine"]) {
            let name = format!("{name}, {concurrency} at a time");
            report.figure("audio", &name, quantile(&mut seen.rates, 0.5), "notes/s");
            report.figure("audio", "  p50", quantile(&mut seen.latencies, 0.5), "ms");
            report.figure("audio", "  p95", quantile(&mut seen.latencies, 0.95), "ms");
        }
        report.figure("audio", "  the engine / Node", quantile(&mut ratios, 0.5), "times");
    }
    Ok(())
}
