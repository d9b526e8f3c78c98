//! Measures the gateway and prints figures and ratios. It asserts nothing about time, since machines differ; what the
//! figures mean is in `docs/benchmarks.md`.

mod accept;
mod audio;
mod claim;
mod convert;
mod delivery;
mod fairness;
mod gateway;
mod load;
mod memory;
mod path;
mod postgres;
mod proc;
mod processes;
mod render;
mod report;
mod shim;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use crate::report::Report;

#[derive(Parser)]
#[command(name = "make bench ARGS=", about = "Measures the gateway")]
struct Args {
    #[command(subcommand)]
    helper: Option<Helper>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// How long each arm of `accept` and the load of `memory` last.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Requests in flight.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Notes of `delivery`, for each provider.
    #[arg(long, default_value_t = 200)]
    notes: usize,
    /// Notes that the other tenant of `fairness` has queued.
    #[arg(long, default_value_t = 20_000)]
    beside: usize,
    /// The longer queue of `claim`.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// Seconds of rest before `memory` looks at an idle gateway.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Notes of `processes`, in each run.
    #[arg(long, default_value_t = 600)]
    shared: usize,
    /// Pairs of runs of `processes`.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// `delivery.in_flight` of the processes of `processes`.
    #[arg(long, default_value_t = 8)]
    in_flight: usize,
    /// The database of `processes` forgets nothing in a power cut.
    #[arg(long)]
    fsync: bool,
    /// `path` stores in this PostgreSQL instead of SQLite.
    #[arg(long)]
    postgres: Option<String>,
    /// Rounds of `audio`.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Seconds of the long source of `audio`.
    #[arg(long, default_value_t = 890)]
    long: u64,
    /// The ffmpeg that the engine of `audio` uses; without it, the one beside this program, else the one on the PATH.
    #[arg(long)]
    ffmpeg: Option<PathBuf>,
    /// Also writes all figures to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The executable to measure; without it, the one beside this program.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Durable accepts by HTTP.
    Accept,
    /// Notes from the request to the provider.
    Delivery,
    /// A tenant with few notes beside one with many.
    Fairness,
    /// Leasing from a short and from a long queue.
    Claim,
    /// Memory, idle and under load.
    Memory,
    /// One process beside two on a PostgreSQL.
    Processes,
    /// What a note costs that needs no encoding, beside libopus alone and a Node service that stores nothing.
    Path,
    /// `POST /render` beside Evolution's converter contract in Node.
    Render,
    /// Conversion beside the system's ffmpeg, the encoder alone and Node.
    Audio,
}

/// What this program starts itself for: arms that have to be processes of their own.
#[derive(Subcommand)]
enum Helper {
    /// Converts a file so many times.
    #[command(hide = true)]
    Repeat {
        #[arg(long)]
        count: usize,
        #[arg(long)]
        profile: String,
        /// What has to be done to it.
        #[arg(long)]
        work: String,
        #[command(flatten)]
        settings: convert::Settings,
        file: PathBuf,
    },
    /// Converts what is posted to it.
    #[command(hide = true)]
    Service {
        #[arg(long)]
        profile: String,
        #[command(flatten)]
        settings: convert::Settings,
    },
}

/// What the parts have in common.
struct Setting {
    binary: PathBuf,
    span: Duration,
    concurrency: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.helper {
        Some(Helper::Repeat { count, profile, work, settings, file }) => {
            audio::repeat(count, &profile, &work, file, &settings).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Helper::Service { profile, settings }) => {
            audio::serve(&profile, &settings).await?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let beside = std::env::current_exe()?.with_file_name("voicegate");
    let binary = std::path::absolute(args.binary.unwrap_or(beside))?;
    anyhow::ensure!(binary.is_file(), "{} is not there; `make bench` builds it", binary.display());
    let setting = Setting { binary, span: Duration::from_secs(args.seconds), concurrency: args.concurrency };
    let mut report = Report::default();
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    if wanted(Part::Accept) {
        accept::measure(&setting, &mut report).await.context("accept")?;
    }
    if wanted(Part::Delivery) {
        delivery::measure(&setting, args.notes, &mut report).await.context("delivery")?;
    }
    if wanted(Part::Fairness) {
        fairness::measure(&setting, args.beside, 40, &mut report).await.context("fairness")?;
    }
    if wanted(Part::Claim) {
        claim::measure(args.backlog, &mut report).await.context("claim")?;
    }
    if wanted(Part::Memory) {
        let rest = Duration::from_secs(args.idle);
        memory::measure(&setting, rest, &mut report).await.context("memory")?;
    }
    if wanted(Part::Processes) {
        processes::measure(
            &setting,
            processes::Options {
                notes: args.shared,
                pairs: args.pairs,
                in_flight: args.in_flight,
                durable: args.fsync,
            },
            &mut report,
        )
        .await
        .context("processes")?;
    }
    if wanted(Part::Path) {
        path::measure(&setting, args.postgres, &mut report).await.context("path")?;
    }
    if wanted(Part::Render) {
        render::measure(&setting, &mut report).await.context("render")?;
    }
    if wanted(Part::Audio) {
        let options = audio::Options { rounds: args.rounds, ffmpeg: args.ffmpeg, long: args.long };
        audio::measure(&setting, &options, &mut report).await.context("audio")?;
    }
    if let Some(path) = args.json {
        std::fs::write(path, report.to_json())?;
    }
    Ok(ExitCode::SUCCESS)
}
