//! `voicegate check`: what an operator wants to know before a start, without touching anything.

use std::{path::Path, process::ExitCode};

use crate::{
    audio::{Engine, EngineOptions},
    config::{self, Config, Layers},
};

pub async fn run(layers: &Layers) -> anyhow::Result<ExitCode> {
    let (config, tenants) = config::load(layers, None)?;
    println!("ok    configuration");
    for tenant in tenants.iter() {
        let connections: Vec<String> = tenant
            .connections
            .values()
            .map(|c| format!("{} ({}, {})", c.name, c.provider_name, c.profile.name))
            .collect();
        println!("ok    tenant {}: {}", tenant.name, connections.join(", "));
        if tenant.route.is_empty() {
            println!(
                "note  tenant {}: no route; every request has to name a connection in `via`",
                tenant.name
            );
        }
    }
    if tenants.iter().count() == 0 {
        println!("note  no tenant is configured, so nobody can call");
    }
    for key in &tenants.without_effect {
        println!("note  {key} has no effect in this version");
    }
    let mut sound = folder("storage.database", config.storage.database_path().parent());
    sound &= folder("storage.media", Some(&config.storage.media_path()));
    sound &= audio(&config).await;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder, or the nearest one above it that exists, can be written to.
fn folder(key: &str, path: Option<&Path>) -> bool {
    let path = path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(&absolute);
    match tempfile::tempfile_in(existing) {
        Ok(_) => {
            println!("ok    {key}: {}", absolute.display());
            true
        }
        Err(error) => {
            println!("FAIL  {key}: {} cannot be written to: {}", existing.display(), error.kind());
            false
        }
    }
}

async fn audio(config: &Config) -> bool {
    let result = match tempfile::tempdir() {
        Ok(scratch) => encode_tones(config, scratch.path()).await,
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => {
            println!("ok    ffmpeg: every profile can be made");
            true
        }
        Err(reason) => {
            println!("FAIL  ffmpeg: {reason}");
            false
        }
    }
}

async fn encode_tones(config: &Config, scratch: &Path) -> Result<(), String> {
    let options =
        EngineOptions { scratch: scratch.join("scratch"), ..crate::gateway::engine_options(config) };
    Engine::new(options).map_err(|error| error.to_string())?.self_test().await
}
