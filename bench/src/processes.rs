//! The gain by a second process: both share a PostgreSQL, and the provider takes its time.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::{
    Setting,
    convert::{Converter, Settings},
    gateway::{Gateway, Premises, Wanted, recipient, same, sample},
    load::{self, Requests},
    postgres::Server,
    proc::{self, Busy},
    report::{Report, quantile},
};

/// Connections of the tenant. None of them comes near to its `concurrency`.
const CONNECTIONS: usize = 200;
const PROVIDER_MS: u64 = 200;
/// The time in which all notes are accepted, so that sending alone is measured.
const AHEAD: SignedDuration = SignedDuration::from_secs(12);
const PATIENCE: Duration = Duration::from_secs(300);

/// The result of one run.
#[derive(Default)]
struct Run {
    /// Notes a second.
    rate: f64,
    /// Processor time of all gateways for each note, in milliseconds.
    each: f64,
    /// The share of the machine's processors that was in use.
    used: f64,
}

pub struct Options {
    /// The number of notes of each run.
    pub notes: usize,
    pub pairs: usize,
    /// Sends in flight in each process.
    pub in_flight: usize,
    /// The database waits for the disk.
    pub durable: bool,
}

pub async fn measure(setting: &Setting, options: Options, report: &mut Report) -> anyhow::Result<()> {
    let Options { notes, pairs, in_flight, durable } = options;
    let flushes = if durable { "on" } else { "off" };
    report.part(&format!(
        "processes: {notes} notes over {CONNECTIONS} connections, the provider takes {PROVIDER_MS} ms, \
         {in_flight} in flight in each process, fsync {flushes}"
    ));
    let Some(server) = Server::start(durable)? else {
        println!("  (there is no PostgreSQL here; scripts/setup.sh --test installs one)");
        return Ok(());
    };
    // What the provider takes as it is.
    let audio = Converter::new(&Settings::default())?.bytes(&sample(), "whatsapp-1").await?;
    let mut runs = [Vec::new(), Vec::new()];
    for pair in 0..pairs {
        let mut order = [1, 2];
        // Whatever else the machine does gets neither of them every time.
        order.rotate_left(pair % 2);
        for processes in order {
            runs[processes - 1].push(run(setting, &server, processes, in_flight, &audio, notes).await?);
        }
    }
    let median =
        |runs: &[Run], of: fn(&Run) -> f64| quantile(&mut runs.iter().map(of).collect::<Vec<_>>(), 0.5);
    for (runs, name) in runs.iter().zip(["one process", "two processes"]) {
        report.figure("processes", name, median(runs, |run| run.rate), "notes/s");
        report.figure(
            "processes",
            "  processor time of the gateways per note",
            median(runs, |run| run.each),
            "ms",
        );
        report.figure("processes", "  of the machine's processors in use", median(runs, |run| run.used), "%");
    }
    let mut ratios: Vec<f64> = runs[1].iter().zip(&runs[0]).map(|(two, one)| two.rate / one.rate).collect();
    report.figure("processes", "two processes / one", quantile(&mut ratios, 0.5), "times");
    Ok(())
}

async fn run(
    setting: &Setting,
    server: &Server,
    processes: usize,
    in_flight: usize,
    audio: &[u8],
    notes: usize,
) -> anyhow::Result<Run> {
    let database = Some(server.fresh().await?);
    let wanted =
        Wanted { database, connections: CONNECTIONS, in_flight: Some(in_flight), ..Wanted::default() };
    let premises = Premises::new(wanted).await?;
    let slow = Fault::new(Provider::WAWP, Operation::Voice, FaultAction::Slow { ms: PROVIDER_MS });
    premises.sandbox.add_fault(slow.times(u32::MAX));
    let mut gateways = Vec::new();
    for _ in 0..processes {
        gateways.push(Gateway::at(premises.clone(), &setting.binary, &[]).await?);
    }
    let started = Instant::now();
    #[expect(clippy::disallowed_methods, reason = "the gateways that are measured live in real time")]
    let due = Timestamp::now() + AHEAD;
    let path = move |number: usize| {
        let to = recipient(number / CONNECTIONS).replace('+', "%2B");
        format!("/voice?to={to}&via=w{}&send_at={due}&expires_in=1h", number % CONNECTIONS)
    };
    let requests = Requests::new(path, same(audio), 202);
    load::post(&gateways[0].address, requests, setting.concurrency, notes, PATIENCE).await?;
    ensure!(started.elapsed() < AHEAD.unsigned_abs(), "not all notes were accepted before they were due");
    // Neither how they begin nor how they run out.
    let (from, to) = (notes / 10, notes - notes / 10);
    let before = reached(&premises, from).await?;
    let busy: Busy = used(&gateways);
    let machine = proc::machine();
    let after = reached(&premises, to).await?;
    let span = after.duration_since(before).as_secs_f64();
    let busy = used(&gateways).since(busy).all();
    let used = machine.zip(proc::machine()).map_or(f64::NAN, |(before, after)| {
        let (work, rest) = (after.0 - before.0, after.1 - before.1);
        work / (work + rest) * 100.0
    });
    let sent = (to - from) as f64;
    Ok(Run { rate: sent / span, each: busy / sent * 1000.0, used })
}

fn used(gateways: &[Gateway]) -> Busy {
    let all = gateways.iter().filter_map(Gateway::busy);
    all.fold(Busy::default(), |sum, each| Busy {
        own: sum.own + each.own,
        children: sum.children + each.children,
    })
}

/// When so many notes had arrived.
async fn reached(premises: &Premises, notes: usize) -> anyhow::Result<Instant> {
    let waiting = async {
        while premises.sandbox.ledger_len() < notes {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Instant::now()
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("the notes did not arrive")
}
