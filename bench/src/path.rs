//! The cost of a note that needs no encoding, in a closed loop and with more offered than can be sent. Each figure is
//! printed beside its floor (libopus alone) or its peer (a Node service that stores nothing).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::{Router, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::net::TcpListener;

use crate::{
    Setting,
    audio::{self, http::Service, sources::Sources},
    gateway::{Gateway, Premises, Wanted, recipient, same, tagged},
    load::{self, Load, Requests},
    proc,
    report::{Report, quantile},
};

const PART: &str = "path";
const WARM_UP: Duration = Duration::from_secs(2);
const WAIT: &str = "Prefer: wait=30\r\n";

/// Connections of the flood, and the most that it offers of what the closed loop reached.
const FLOOD: usize = 320;
const OFFERED: f64 = 10.0;

/// Numbers from here on are of sources that were not sent before.
const OTHERS: usize = 1_000_000;

/// The share of the closed loop's rate at which the queue has to stay short.
const STEADY: f64 = 0.7;

/// Sources of a kind of note, by number.
type Audio = Arc<dyn Fn(usize) -> Vec<u8> + Send + Sync>;

/// The figures of a closed loop.
struct Seen {
    rate: f64,
    /// Milliseconds for each note, of the gateway and its children; `None` where that cannot be read.
    cpu: Option<f64>,
}

pub async fn measure(setting: &Setting, postgres: Option<String>, report: &mut Report) -> anyhow::Result<()> {
    let database = if postgres.is_some() { "PostgreSQL" } else { "SQLite" };
    report.part(&format!(
        "path: notes of 10 s that need no encoding, {} connections that wait, {database}",
        setting.concurrency
    ));
    let folder = tempfile::tempdir()?;
    let sources = Sources::make(folder.path())?;
    let floor = audio::floor(&sources, folder.path())?;
    match floor {
        Some(floor) => report.figure(PART, "libopus alone, processor time", floor, "ms"),
        None => println!("  (the encoder alone is not there: `make ffmpeg` builds it)"),
    }
    let mp3 = std::fs::read(&sources.speech)?;
    let ogg = OggSource::make(&sources, folder.path())?;
    let node = node(setting, &ogg, report).await?;
    let distinct = {
        let mp3 = mp3.clone();
        move |number| tagged(number, &mp3)
    };
    let kinds: [(&str, &str, Audio); 4] = [
        ("MP3 to Linq, untouched", "imessage", Arc::new(distinct.clone())),
        ("Ogg/Opus to Wawp, wrapped anew", "whatsapp", Arc::new(move |number| ogg.tagged(number))),
        ("MP3 to Wawp, converted before", "whatsapp", Arc::new(same(&mp3))),
        ("MP3 to Wawp, converted", "whatsapp", Arc::new(distinct)),
    ];
    let mut seen = Vec::new();
    for (name, connection, audio) in &kinds {
        let premises = Premises::new(Wanted { database: postgres.clone(), ..Wanted::default() }).await?;
        let gateway = Gateway::at(premises, &setting.binary, &[]).await?;
        let found = closed(&gateway, setting, connection, audio, (*name, &mut *report)).await?;
        if let (Some(cpu), Some(floor)) = (found.cpu, floor) {
            report.figure(PART, "  / libopus alone", cpu / floor, "times");
        }
        if let Some(node) = node {
            report.figure(PART, "  notes/s / Node's", found.rate / node, "times");
        }
        seen.push(found.rate);
    }
    report.figure(PART, "converted before / converted, notes/s", seen[2] / seen[3], "times");
    let (name, connection, audio) = &kinds[2];
    report.part(&format!("path: {name}, more offered than is sent"));
    let premises = Premises::new(Wanted { database: postgres, ..Wanted::default() }).await?;
    let gateway = Gateway::at(premises, &setting.binary, &[]).await?;
    flood(&gateway, setting, (connection, audio), seen[2], report).await
}

fn requests(
    connection: &str,
    audio: &Audio,
    expected: u16,
) -> Requests<impl Fn(usize) -> String + Clone + use<>, impl Fn(usize) -> Vec<u8> + Clone + use<>> {
    let (connection, audio) = (connection.to_owned(), audio.clone());
    let path = move |number| format!("/voice?to={}&via={connection}", recipient(number).replace('+', "%2B"));
    Requests::new(path, move |number| audio(number), expected)
}

async fn closed(
    gateway: &Gateway,
    setting: &Setting,
    connection: &str,
    audio: &Audio,
    (name, report): (&str, &mut Report),
) -> anyhow::Result<Seen> {
    let waiting = Requests { headers: WAIT, ..requests(connection, audio, 200) };
    let run = |span| load::post(&gateway.address, waiting.clone(), setting.concurrency, usize::MAX, span);
    run(WARM_UP).await?;
    // The numbers of the second run begin again, so its sources would be known: it gets its own.
    let audio = audio.clone();
    let others: Audio = Arc::new(move |number: usize| audio(number + OTHERS));
    let waiting = Requests { headers: WAIT, ..requests(connection, &others, 200) };
    let before = gateway.busy();
    let mut load =
        load::post(&gateway.address, waiting, setting.concurrency, usize::MAX, setting.span).await?;
    let busy = gateway.busy().zip(before).map(|(after, before)| after.since(before));
    let notes = load.latencies.len() as f64;
    report.figure(PART, name, load.per_second(), "notes/s");
    report.figure(PART, "  p95", quantile(&mut load.latencies, 0.95), "ms");
    if let Some(busy) = busy {
        report.figure(PART, "  processor time of the gateway itself", busy.own * 1000.0 / notes, "ms");
        report.figure(PART, "  of its ffmpeg", busy.children * 1000.0 / notes, "ms");
    }
    Ok(Seen { rate: load.per_second(), cpu: busy.map(|busy| busy.all() * 1000.0 / notes) })
}

/// Offers less than the closed loop's rate, and then far more.
async fn flood(
    gateway: &Gateway,
    setting: &Setting,
    (connection, audio): (&str, &Audio),
    rate: f64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let steady = Requests {
        every: Some(Duration::from_secs_f64(setting.concurrency as f64 / (STEADY * rate))),
        ..requests(connection, audio, 202)
    };
    let (load, behind, _) = offered(gateway, steady, setting.concurrency, setting.span).await?;
    report.figure(PART, &format!("offered {STEADY} of that rate: accepted"), load.per_second(), "notes/s");
    report.figure(PART, "  most that waited, in seconds of work", behind / rate, "s");
    let much = Requests {
        every: Some(Duration::from_secs_f64(FLOOD as f64 / (OFFERED * rate))),
        may_be_refused: true,
        ..requests(connection, audio, 202)
    };
    let (load, behind, delivered) = offered(gateway, much, FLOOD, setting.span).await?;
    report.figure(
        PART,
        &format!("offered {OFFERED} times that rate: accepted"),
        load.per_second(),
        "notes/s",
    );
    report.figure(PART, "  refused for now", load.refused as f64 / load.span.as_secs_f64(), "notes/s");
    report.figure(PART, "  delivered", delivered, "notes/s");
    report.figure(PART, "  / the closed loop's", delivered / rate, "times");
    report.figure(PART, "  most that waited, in seconds of work", behind / rate, "s");
    Ok(())
}

/// The load, the most notes that were sent by nobody yet, and the notes that were delivered in each second.
async fn offered<P, A>(
    gateway: &Gateway,
    requests: Requests<P, A>,
    connections: usize,
    span: Duration,
) -> anyhow::Result<(Load, f64, f64)>
where
    P: Fn(usize) -> String + Clone + Send + 'static,
    A: Fn(usize) -> Vec<u8> + Clone + Send + 'static,
{
    let (started, before) = (Instant::now(), gateway.sandbox.ledger_len());
    let address = gateway.address.clone();
    let loading =
        tokio::spawn(async move { load::post(&address, requests, connections, usize::MAX, span).await });
    while !loading.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delivered = gateway.sandbox.ledger_len() - before;
    let seconds = started.elapsed().as_secs_f64();
    let load = loading.await??;
    let behind = load.latencies.len().saturating_sub(delivered);
    let total = before + load.latencies.len();
    while gateway.sandbox.ledger_len() < total {
        ensure!(started.elapsed() < 20 * span, "not all notes arrived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok((load, behind as f64, delivered as f64 / seconds))
}

/// The rate of the Node service, which passes the same audio on to a server that answers at once.
async fn node(setting: &Setting, ogg: &OggSource, report: &mut Report) -> anyhow::Result<Option<f64>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let upstream = format!("http://{}/", listener.local_addr()?);
    let router = Router::new().route("/", post(|_: axum::body::Bytes| async { "{}" }));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/evolution.mjs");
    let command = ["node".into(), script.into_os_string(), upstream.into()];
    let Some(service) = Service::start(&command)? else {
        println!("  (there is no Node here)");
        return Ok(None);
    };
    let body = format!(r#"{{"number":"15550001234","audio":"{}"}}"#, STANDARD.encode(&ogg.bytes));
    let path = |_| "/message/sendWhatsAppAudio/bench".to_owned();
    let requests = Requests::new(path, same(body.as_bytes()), 201);
    let run = |span| load::post(&service.address, requests.clone(), setting.concurrency, usize::MAX, span);
    run(WARM_UP).await?;
    let before = proc::busy(service.pid());
    let load = run(setting.span).await?;
    report.figure(PART, "a Node service that stores nothing", load.per_second(), "notes/s");
    if let Some((after, before)) = proc::busy(service.pid()).zip(before) {
        let each = after.since(before).own * 1000.0 / load.latencies.len() as f64;
        report.figure(PART, "  processor time", each, "ms");
    }
    serving.abort();
    Ok(Some(load.per_second()))
}

/// Ogg/Opus with a number in its comments, so that no two sources are alike.
#[derive(Clone)]
struct OggSource {
    bytes: Vec<u8>,
    /// Position of the number, and the page that holds it.
    number: usize,
    page: std::ops::Range<usize>,
}

const DIGITS: usize = 16;

impl OggSource {
    fn make(sources: &Sources, folder: &Path) -> anyhow::Result<Self> {
        let made = folder.join("numbered.ogg");
        let number = "0".repeat(DIGITS);
        let done = std::process::Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-y", "-i"])
            .arg(&sources.ogg)
            .args(["-c", "copy", "-metadata", &format!("number={number}")])
            .arg(&made)
            .status()?;
        ensure!(done.success(), "ffmpeg failed");
        let bytes = std::fs::read(made)?;
        let place = bytes.windows(DIGITS).position(|part| part == number.as_bytes());
        let number = place.context("the number is not in the comments")?;
        let starts: Vec<usize> =
            bytes.windows(4).enumerate().filter(|(_, part)| *part == b"OggS").map(|(at, _)| at).collect();
        let start = *starts.iter().rfind(|at| **at < number).context("a page")?;
        let end = *starts.iter().find(|at| **at > number).context("a page behind it")?;
        Ok(Self { bytes, number, page: start..end })
    }

    fn tagged(&self, number: usize) -> Vec<u8> {
        const CHECKSUM: usize = 22;
        let mut bytes = self.bytes.clone();
        bytes[self.number..self.number + DIGITS].copy_from_slice(format!("{number:0DIGITS$}").as_bytes());
        let page = &mut bytes[self.page.clone()];
        page[CHECKSUM..CHECKSUM + 4].fill(0);
        let sum = checksum(page);
        page[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// The checksum of an Ogg page: <https://www.rfc-editor.org/rfc/rfc3533#section-6>.
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| {
            if sum & 0x8000_0000 == 0 { sum << 1 } else { sum << 1 ^ 0x04c1_1db7 }
        })
    })
}
