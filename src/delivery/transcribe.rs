//! The job of a received note after it was announced: a server writes down what is spoken in it. The words, or the reason
//! why there are none, are announced as `voice.transcribed`.

use std::time::Duration;

use voicegate_providers::speech::{self, Limits, Recording, SpeechErrorKind};

use super::{backoff, persist};
use crate::{
    config::TranscriptionServer,
    gateway::{Gateway, Live, server_slots::hung},
    media::ReceivedPart,
    model::{
        code::{Code, Stage},
        problem::Problem,
        received::{Received, Transcript, TranscriptFailure, TranscriptWords},
    },
    store::{Postponed, ReceivedClaim, StoreError},
    telemetry::metrics,
};

/// The most tries. A server that is down for longer than these take is said to have failed.
const MOST_TRIES: u32 = 7;

/// The longest pause that one answer can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// The profile that transcription servers are given where the tenant has it made.
const PREFERRED: &str = "wav16k-1";

/// A try without words.
struct Wordless {
    problem: Problem,
    /// Whether another try may help.
    passes: bool,
    /// The server limits its rate, which is not this note's fault and counts as no try.
    is_busy: bool,
    retry_after: Option<Duration>,
}

impl Wordless {
    fn stop(problem: Problem) -> Self {
        Self { problem, passes: false, is_busy: false, retry_after: None }
    }

    fn for_now(problem: Problem) -> Self {
        Self { problem, passes: true, is_busy: false, retry_after: None }
    }
}

/// Gets the words of a leased received note.
pub async fn run(gateway: &Gateway, claim: ReceivedClaim) {
    let live = gateway.live();
    let working = async {
        if claim.expired {
            let late = "the note could not be written down in time";
            return Err(Wordless::stop(problem(Code::SpeechUnavailable, late)));
        }
        work(gateway, &live, &claim).await
    };
    let Some(done) = gateway.stop.run_until_cancelled(working).await else {
        let now = gateway.clock.now();
        return postpone(gateway, &claim, Postponed { at: now, counts: false, paused: None, now }).await;
    };
    match done {
        Ok(words) => end(gateway, &live, &claim, Transcript::Words(words)).await,
        Err(Wordless { passes: true, is_busy, retry_after, .. })
            if is_busy || claim.tries + 1 < MOST_TRIES =>
        {
            let now = gateway.clock.now();
            let age = now.duration_since(claim.queued_at).try_into().unwrap_or_default();
            // The age of the job alone lengthens the wait if tries do not count.
            let tries = if is_busy { MOST_TRIES } else { claim.tries + 1 };
            let at = now + backoff::wait(tries, age, retry_after, rand::random()).min(LONGEST_WAIT);
            let paused = retry_after.map(|wait| now + wait.min(LONGEST_WAIT));
            postpone(gateway, &claim, Postponed { at, counts: !is_busy, paused, now }).await;
        }
        Err(Wordless { problem, .. }) => {
            let failure = TranscriptFailure { error: Box::new(problem) };
            end(gateway, &live, &claim, Transcript::Failed(failure)).await;
        }
    }
}

fn problem(code: Code, detail: impl Into<String>) -> Problem {
    Problem::new(code, detail).stage(Stage::Speech)
}

async fn work(gateway: &Gateway, live: &Live, claim: &ReceivedClaim) -> Result<TranscriptWords, Wordless> {
    let note = &claim.received;
    let tenant = live.tenants.get(&note.tenant);
    let server = tenant.and_then(|tenant| tenant.transcription.get(tenant.inbound.transcribe.as_deref()?));
    let Some(server) = server else {
        let detail = "the transcription server is no longer configured";
        return Err(Wordless::stop(problem(Code::SpeechUnavailable, detail)));
    };
    let recording = recording(gateway, note).await?;
    let limits = Limits {
        timeout: server.timeout,
        max_bytes: live.config.audio.max_bytes.0,
        now: gateway.clock.wall(),
    };
    let heard = ask(gateway, live, claim, server, &recording, limits).await?;
    Ok(TranscriptWords {
        text: heard.text,
        language: heard.language,
        with: server.name.clone(),
        untrusted: true,
    })
}

async fn ask(
    gateway: &Gateway,
    live: &Live,
    claim: &ReceivedClaim,
    server: &TranscriptionServer,
    recording: &Recording,
    limits: Limits,
) -> Result<speech::Transcript, Wordless> {
    let begun = std::time::Instant::now();
    let heard = speech::transcribe(&*server.adapter, &live.providers.http, recording, limits).await;
    let took = begun.elapsed();
    gateway.server_slots.record(&claim.connection, hung(took, server.timeout));
    let outcome = match &heard {
        Ok(_) => "ok",
        Err(error) if error.kind == SpeechErrorKind::Rejected => "refused",
        Err(_) => "failed",
    };
    metrics::transcribed(&claim.received.tenant, &server.name, outcome, took);
    heard.map_err(|error| {
        let rejected = error.kind == SpeechErrorKind::Rejected;
        let code = if rejected { Code::SpeechRejected } else { Code::SpeechUnavailable };
        let passes = !rejected && error.kind != SpeechErrorKind::TooLarge;
        let mut problem = problem(code, error.detail);
        problem.provider = error.upstream;
        let is_busy = problem.provider.as_ref().and_then(|upstream| upstream.status) == Some(429);
        Wordless { problem, passes, is_busy, retry_after: error.retry_after }
    })
}

/// The audio that the server gets: the render for this purpose, or the bytes as they came.
async fn recording(gateway: &Gateway, note: &Received) -> Result<Recording, Wordless> {
    let render = note.render(PREFERRED).filter(|render| !render.is_native);
    let (part, facts) = match (render, &note.native) {
        (Some(render), _) => (ReceivedPart::Render(PREFERRED), &render.facts),
        (None, Some(native)) => (ReceivedPart::Native, native),
        (None, None) => return Err(gone()),
    };
    let file = gateway.received_audio(note.id, part).await.map_err(Wordless::for_now)?.ok_or_else(gone)?;
    let bytes = tokio::fs::read(file.path()).await.map_err(|error| Wordless::for_now(error.into()))?;
    Ok(Recording {
        id: note.id.to_string(),
        filename: format!("voice.{}", facts.extension()),
        mime_type: facts.mime_type.clone(),
        bytes: bytes.into(),
    })
}

fn gone() -> Wordless {
    Wordless::stop(problem(Code::MediaExpired, "the audio of this note is no longer kept"))
}

/// Commits the transcript and its event.
async fn end(gateway: &Gateway, live: &Live, claim: &ReceivedClaim, transcript: Transcript) {
    let note = &claim.received;
    let notify = live.notifies(&note.tenant);
    let write = || gateway.store.write_transcript(claim, &transcript, notify, gateway.clock.now());
    match persist::written(note.id, "a transcript", persist::lease(gateway), write).await {
        Ok(()) => {
            match &transcript {
                Transcript::Words(_) => {
                    tracing::info!(received.id = %note.id, "received note {} was transcribed", note.id);
                }
                Transcript::Failed(failure) => {
                    let code = failure.error.code.as_str();
                    tracing::warn!(received.id = %note.id, code, "received note {} has no transcript", note.id);
                }
            }
            gateway.changes.tenant(&note.tenant);
            gateway.wake_worker();
        }
        // The note was erased in the meantime, or another process has taken over the job.
        Err(StoreError::LeaseLost) => {}
        Err(error) => {
            tracing::error!(%error, "a transcript could not be recorded; it is made again");
        }
    }
}

async fn postpone(gateway: &Gateway, claim: &ReceivedClaim, postponed: Postponed) {
    let write = || gateway.store.postpone_transcription(claim, postponed);
    if let Err(error) =
        persist::written(claim.received.id, "the end of a job", persist::lease(gateway), write).await
    {
        tracing::warn!(%error, "a transcription is tried again when its lease ends");
    }
}
