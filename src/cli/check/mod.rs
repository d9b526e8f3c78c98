//! `voicegate check`: checks everything before a start, without changing anything. With `--online` it also checks what
//! only a request can show: providers, `server.public_url`, webhooks.

mod bucket;
mod database;
mod disk;
mod ffmpeg;
mod health;
mod line;
mod online;
mod postgres;
mod proxy;
mod reach;
mod sqlite;

use std::{path::Path, process::ExitCode, sync::Arc};

use anyhow::Context;
use voicegate_providers::{Settings, parse_recipient, preview_recipe};

use self::line::Line;
use super::out::{self, OutError};
use crate::{
    config::{self, Config, Database, Layers, Tenants},
    gateway::Live,
    model::clock::SystemClock,
};

pub async fn run(layers: &Layers, online: bool) -> anyhow::Result<ExitCode> {
    let (config, tenants) = config::load(layers, None)?;
    let mut sound = print(configured(&config, &tenants))?;
    let environment = layers.variables("AWS_");
    sound &= print(disk::check(&config))?;
    sound &= print(bucket::check(&config.storage, &environment).into_iter().collect())?;
    sound &= print(match &config.storage.database {
        Database::Sqlite(path) => sqlite::check(path).await,
        Database::Postgres(url) => postgres::check(url).await,
    })?;
    sound &= print(ffmpeg::check(&config).await)?;
    if online {
        sound &= print(bucket::try_out(&config.storage, &environment).await.into_iter().collect())?;
        sound &= print(ask(config, tenants).await?)?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the gateway that this configuration starts whether it is ready.
pub async fn health(layers: &Layers) -> anyhow::Result<ExitCode> {
    let (config, _) = config::load(layers, None)?;
    let ready = print(vec![health::ask(config.server.listen).await])?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the request that a recipe makes of a note to `to`.
pub fn recipe(file: &Path, to: &str) -> anyhow::Result<ExitCode> {
    let to = parse_recipient(to).map_err(|error| anyhow::anyhow!("--to: {error}"))?;
    let file = file.to_str().context("--recipe: expected a path in UTF-8")?;
    let settings = Settings::new([("recipe".to_owned(), file.into())].into_iter().collect());
    let request = preview_recipe(settings, &to).map_err(|error| match error.key.as_str() {
        "to" => anyhow::anyhow!("--to: {}", error.message),
        _ => anyhow::anyhow!("{}", error.message),
    })?;
    out::line(request.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Uses the HTTP clients of a gateway, so that a result here also holds there.
async fn ask(config: Config, tenants: Tenants) -> anyhow::Result<Vec<Line>> {
    let clock: Arc<dyn crate::model::clock::Clock> = Arc::new(SystemClock::default());
    let live = Live::new(config, tenants, &clock)?;
    let mut lines = match &live.config.storage.database {
        Database::Sqlite(_) => Vec::new(),
        Database::Postgres(url) => postgres::measure(url, || clock.now()).await,
    };
    lines.push(online::public_url(&live).await);
    lines.extend(online::connections(&live, clock.now()).await);
    lines.extend(online::inbound(&live, clock.now()).await);
    lines.extend(online::speech(&live).await);
    lines.extend(online::webhooks(&live).await);
    Ok(lines)
}

/// Prints the lines, and returns whether none is a failure. If the output is closed, the exit code is still right.
fn print(lines: Vec<Line>) -> Result<bool, OutError> {
    for line in &lines {
        match out::line(format_args!("{line:#}")) {
            Ok(()) | Err(OutError::Closed) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(!lines.iter().any(Line::is_failure))
}

fn configured(config: &Config, tenants: &Tenants) -> Vec<Line> {
    let mut lines = vec![Line::ok("configuration")];
    for tenant in tenants.iter() {
        let name = &tenant.name;
        let connections: Vec<String> = tenant
            .connections
            .values()
            .map(|c| format!("{} ({}, {})", c.name, c.provider_name, c.profile.name))
            .collect();
        lines.push(if connections.is_empty() {
            Line::note(format!("tenant {name}: no connection, so nothing can be sent"))
        } else {
            Line::ok(format!("tenant {name}: {}", connections.join(", ")))
        });
        let named = |kind: &'static str, names: Vec<&String>| {
            let names = names.into_iter().cloned().collect::<Vec<_>>().join(", ");
            (!names.is_empty()).then(|| Line::ok(format!("tenant {name}: {kind} {names}")))
        };
        lines.extend(named("speech", tenant.speech.keys().collect()));
        lines.extend(named("transcription", tenant.transcription.keys().collect()));
        if tenant.route.is_empty() && !connections.is_empty() {
            let what = "no route, so every request has to name a connection in `via`";
            lines.push(Line::note(format!("tenant {name}: {what}")));
        }
    }
    if tenants.iter().count() == 0 {
        lines.push(Line::note("no tenant is configured, so nobody can call"));
    }
    lines.extend(proxy::check(&config.server.proxy));
    lines.extend(tenants.warnings.iter().map(Line::note));
    lines
}
