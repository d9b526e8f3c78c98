//! Runs the self-test of the audio engine, so that a broken ffmpeg is noticed before a note needs it.

use std::time::Duration;

use tokio::sync::watch;

use super::Gateway;

/// Delay before the first repetition of a failed test.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Result of the last self-test; `None` until the first has ended.
#[derive(Debug)]
pub struct AudioTest(watch::Sender<Option<Result<(), String>>>);

impl Default for AudioTest {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl AudioTest {
    /// Encodes a tone with every profile.
    pub async fn run(&self, gateway: &Gateway) {
        let result = gateway.engine.self_test().await;
        match &result {
            Ok(()) => tracing::info!("the audio engine works"),
            Err(reason) => tracing::error!(reason, "the audio engine does not work: {reason}"),
        }
        self.0.send_replace(Some(result));
    }

    /// Repeats [`Self::run`] until it succeeds, because ffmpeg may be unavailable for a moment at the start.
    pub async fn run_until_it_works(&self, gateway: &Gateway) {
        let mut wait = FIRST_WAIT;
        loop {
            self.run(gateway).await;
            if self.works() {
                return;
            }
            tokio::select! {
                () = gateway.stop.cancelled() => return,
                () = gateway.clock.sleep_until(gateway.clock.now() + wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Whether the last test succeeded.
    pub fn works(&self) -> bool {
        matches!(*self.0.borrow(), Some(Ok(())))
    }

    /// The result of the last test.
    ///
    /// # Errors
    /// A sentence for the operator: why audio cannot be produced, or that the first test is still running.
    pub fn result(&self) -> Result<(), String> {
        self.0.borrow().clone().unwrap_or_else(|| Err("the self-test is still running".to_owned()))
    }

    /// Waits for the end of the first test.
    ///
    /// # Errors
    /// A sentence for the operator that says why audio cannot be produced.
    pub async fn ended(&self) -> Result<(), String> {
        let mut test = self.0.subscribe();
        let ended = test.wait_for(Option::is_some).await;
        ended.map_or(Ok(()), |result| result.clone().unwrap_or(Ok(())))
    }
}
