//! `voicegate plan FILE`: what would happen to a note according to the configuration, without a running gateway.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use serde_json::json;

use super::{
    audio::{ReadArgs, refused},
    input::Input,
    out,
};
use crate::{
    config::{self, Layers, Tenant},
    delivery::{
        ladder::Wanted,
        plan::{Surroundings, foresee},
        route::named,
    },
    gateway::engine_options,
    model::{
        clock::{Clock as _, SystemClock},
        note::{ConvertChoice, TextAs},
    },
    view::{ConnectionPlan, Verdict, VoicePlan},
};

#[derive(clap::Args)]
pub struct PlanArgs {
    /// The audio file, in any format; - is standard input.
    file: PathBuf,
    /// A connection or a route. Default: the route of the tenant.
    #[arg(long)]
    via: Option<String>,
    /// The tenant whose connections are used; not needed if there is only one.
    #[arg(long)]
    tenant: Option<String>,
    /// Whether to convert: auto, always, never or provider. Default: the setting of each connection.
    #[arg(long, value_parser = choice)]
    convert: Option<ConvertChoice>,
    #[command(flatten)]
    read: ReadArgs,
}

fn choice(text: &str) -> Result<ConvertChoice, String> {
    serde_json::from_value(json!(text)).map_err(|_| "expected auto, always, never or provider".to_owned())
}

pub async fn run(layers: &Layers, args: PlanArgs) -> anyhow::Result<ExitCode> {
    let scratch = tempfile::tempdir().context("no scratch folder could be made")?;
    let input = Input::open(&args.file, scratch.path())?;
    let (config, tenants) = config::load(layers, None)?;
    let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    let tenant: Arc<Tenant> = match (&args.tenant, names.as_slice()) {
        (Some(name), _) => {
            tenants.get(name).cloned().with_context(|| format!("there is no tenant {name}"))?
        }
        (None, [only]) => tenants.get(only).cloned().context("there is no tenant")?,
        (None, []) => anyhow::bail!(
            "the configuration has no tenant, so there is no connection to plan for; `voicegate inspect` judges a file \
             by every profile"
        ),
        (None, names) => anyhow::bail!("which tenant? --tenant names one of {}", names.join(", ")),
    };
    let connections =
        named(&tenant, args.via.as_deref()).map_err(|problem| anyhow::anyhow!(problem.detail))?;

    let options = voicegate_audio::EngineOptions {
        scratch: scratch.path().join("scratch"),
        cache: 0,
        ..engine_options(&config)
    };
    let engine = voicegate_audio::Engine::new(options)?;
    let source = match engine.identify(input.path(), &args.read.hints(&input)).await {
        Ok(source) => source,
        Err(error) => return refused(error.code(), &error.detail, args.read.json),
    };
    let clock = SystemClock::default();
    let plans: Vec<ConnectionPlan> = connections
        .into_iter()
        .map(|connection| {
            let wanted = Wanted {
                degrade: &connection.degrade,
                text: None,
                text_as: TextAs::Fallback,
                duration_ms: Some(source.facts.duration_ms),
            };
            let surroundings = Surroundings { refused: &[], now: clock.now() };
            (&foresee(connection, Some(&source), args.convert, &wanted, surroundings)).into()
        })
        .collect();
    let any = plans.iter().any(|plan| plan.verdict != Verdict::Refused);
    if args.read.json {
        let shown = VoicePlan { audio: Some((&source.facts).into()), connections: plans };
        out::line(serde_json::to_string_pretty(&shown)?)?;
    } else {
        for plan in &plans {
            out::line(line(plan))?;
        }
    }
    Ok(if any { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(plan: &ConnectionPlan) -> String {
    let name = format!("{} ({}, {})", plan.connection, plan.provider, plan.profile);
    let why = plan.reasons.iter().map(|reason| reason.detail.clone()).collect::<Vec<_>>().join("; ");
    match (&plan.audio, plan.work) {
        (Some(audio), Some(work)) => {
            let why = if why.is_empty() { why } else { format!("; {why}") };
            format!(
                "{name}: {work}, {:.3} s of {} as {}, {} bytes{why}",
                audio.duration_ms as f64 / 1000.0,
                audio.codec.0,
                audio.mime_type,
                audio.size_bytes
            )
        }
        _ => format!("{name}: refused: {why}"),
    }
}
