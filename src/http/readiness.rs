//! Whether requests can be served.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use voicegate_audio::confinement;

use crate::{
    gateway::Gateway,
    store::Store,
    view::{CheckStatus, Checks, FfmpegCheck, Readiness},
};

/// One entry each for database, media store, ffmpeg and disk, and one where the process is about to end.
pub async fn readiness(gateway: &Gateway, probe: &Probe) -> Readiness {
    let database = probe.ask(&*gateway.store).await;
    let media = gateway.media.answers().await.map_err(|error| match error.kind() {
        io::ErrorKind::HostUnreachable => error.to_string(),
        kind => kind.to_string(),
    });
    let disk = gateway.media.check().await.map_err(|error| error.kind().to_string());
    let disk = disk.and_then(|()| gateway.disks.check());
    let stopping = gateway.stop.is_cancelled().then(|| Err("the gateway was told to stop".to_owned()));
    let ffmpeg = gateway.audio_test.result();
    let ready = [&database, &media, &disk, &ffmpeg].into_iter().chain(&stopping).all(Result::is_ok);
    Readiness {
        status: if ready { CheckStatus::Ok } else { CheckStatus::Failed },
        checks: Checks {
            database: database.into(),
            media: media.into(),
            ffmpeg: FfmpegCheck::new(ffmpeg, confinement()),
            disk: disk.into(),
            shutdown: stopping.map(Into::into),
        },
    }
}

/// An answer is given again for so long.
const FRESH: Duration = Duration::from_secs(1);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks whether the database takes writes, for those who ask often. Those who ask meanwhile wait for the answer that is
/// under way.
#[derive(Debug, Default)]
pub struct Probe(Mutex<Option<(Instant, Result<(), String>)>>);

impl Probe {
    /// Writes to the database, at most once a second.
    ///
    /// # Errors
    /// Why it takes no writes, for the operator.
    pub async fn ask(&self, store: &dyn Store) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < FRESH
        {
            return answer.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, store.ping()).await;
        let answer = match asked {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the database did not answer within {} s", PATIENCE.as_secs())),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
