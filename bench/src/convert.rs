//! The audio engine as the gateway uses it, without the gateway.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use voicegate::audio::{Convert, Engine, EngineOptions, Hints, Render, Work, profile};

pub struct Converter {
    engine: Engine,
    scratch: tempfile::TempDir,
}

impl Converter {
    /// `ffmpeg`: where not the one that the gateway would take.
    pub fn new(ffmpeg: Option<&Path>) -> anyhow::Result<Self> {
        let scratch = tempfile::tempdir()?;
        let options = EngineOptions {
            ffmpeg: ffmpeg.map(PathBuf::from),
            max_duration: Duration::from_secs(20 * 60),
            timeout: Duration::from_secs(600),
            max_output: 64 << 20,
            complexity: Some(10),
            scratch: scratch.path().join("engine"),
            ..EngineOptions::default()
        };
        Ok(Self { engine: Engine::new(options)?, scratch })
    }

    /// Reads, plans, makes and verifies.
    async fn convert(&self, source: &Path, target: &str) -> anyhow::Result<Render> {
        let profile = profile(target).context("there is no such profile")?;
        let (_, render) = self.engine.convert(source, &Hints::default(), profile, Convert::Auto).await?;
        Ok(render)
    }

    /// What was done.
    pub async fn file(&self, source: &Path, target: &str) -> anyhow::Result<Work> {
        Ok(match self.convert(source, target).await? {
            Render::Untouched => Work::None,
            Render::Made { work, .. } => work,
        })
    }

    /// What came of these bytes.
    pub async fn bytes(&self, source: &[u8], target: &str) -> anyhow::Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new_in(self.scratch.path())?;
        tokio::fs::write(file.path(), source).await?;
        Ok(match self.convert(file.path(), target).await? {
            Render::Untouched => source.to_vec(),
            Render::Made { file, .. } => tokio::fs::read(file.path()).await?,
        })
    }
}
