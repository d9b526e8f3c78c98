//! The audio engine as the gateway uses it, without the gateway.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use voicegate_audio::{Convert, Engine, EngineOptions, Hints, Ready, Render, SourceFile, Work, profile};

/// What an arm sets by itself.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// The ffmpeg that the engine uses; without it, the one beside this program, else the one on the PATH.
    #[arg(long)]
    pub ffmpeg: Option<std::path::PathBuf>,
    /// Of Opus; without it, 10.
    #[arg(long, hide = true)]
    pub complexity: Option<u8>,
    /// Whether what was made serves again.
    #[arg(long, hide = true)]
    pub keep: bool,
    /// Without a waveform, which needs a decoder whatever else is to be done.
    #[arg(long, hide = true)]
    pub plain: bool,
}

pub struct Converter {
    engine: Engine,
    plain: bool,
    scratch: tempfile::TempDir,
}

impl Converter {
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir()?;
        let shipped = EngineOptions::default();
        let options = EngineOptions {
            ffmpeg: settings.ffmpeg.clone(),
            timeout: Duration::from_secs(600),
            cache: if settings.keep { shipped.cache } else { 0 },
            complexity: Some(settings.complexity.unwrap_or(10)),
            scratch: scratch.path().join("engine"),
            ..shipped
        };
        Ok(Self { engine: Engine::new(options)?, plain: settings.plain, scratch })
    }

    /// Reads, plans, makes and verifies, as a try of a note does.
    async fn prepare(&self, path: &Path, target: &str) -> anyhow::Result<Arc<Ready>> {
        let profile = profile(target).context("there is no such profile")?;
        let source = SourceFile { path, hints: &Hints::default(), probed: None };
        Ok(self.engine.prepare(source, profile, Convert::Auto).await?)
    }

    /// What was done.
    pub async fn file(&self, source: &Path, target: &str) -> anyhow::Result<Work> {
        if self.plain {
            let profile = profile(target).context("there is no such profile")?;
            let done = self.engine.convert(source, &Hints::default(), profile, Convert::Auto).await?;
            return Ok(match done.1 {
                Render::Untouched => Work::None,
                Render::Made { work, .. } => work,
            });
        }
        Ok(self.prepare(source, target).await?.made.as_ref().map_or(Work::None, |made| made.work))
    }

    /// What came of these bytes.
    pub async fn bytes(&self, source: &[u8], target: &str) -> anyhow::Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new_in(self.scratch.path())?;
        tokio::fs::write(file.path(), source).await?;
        Ok(match &self.prepare(file.path(), target).await?.made {
            None => source.to_vec(),
            Some(made) => tokio::fs::read(made.path()).await?,
        })
    }
}
