//! Lets a server speak the text of a note, as a job before the note is sent, like a download. What was spoken is kept with
//! its note and found by later notes with the same speech, for as long as that audio is kept.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWrite;
use voicegate_audio::{AudioError, AudioErrorKind, Hints, PcmEncoding, PcmFormat, Probed};
use voicegate_providers::speech::{
    self, Limits, Raw, RawEncoding, Speech, SpeechError, SpeechErrorKind, Utterance, whole,
};

use super::{
    attempt::{Abandoned, failed, mark_processing},
    outcome::Failure,
};
use crate::{
    config::{SpeechServer, Tenant},
    gateway::{
        Gateway, Live,
        server_slots::hung,
        speaking::{Flight, Turn, Unspoken},
    },
    media::{AudioFile, AudioVariant, FileReservation, MediaStore},
    model::{
        code::{Code, Stage},
        note::{AudioSource, NoteId, SpokenText},
        problem::Problem,
    },
    store::{Claim, SmallAudio, StoreError, speech_key},
    telemetry::metrics,
};

/// Completes a request for speech with the only server of the tenant, and checks what can be known before the server is
/// asked.
///
/// # Errors
/// `invalid_request`, with the field.
pub fn settle(tenant: &Tenant, wanted: &mut SpokenText) -> Result<(), Problem> {
    let names: Vec<&str> = tenant.speech.keys().map(String::as_str).collect();
    let server = match (wanted.with.as_str(), names.as_slice()) {
        (_, []) => {
            let detail = "no speech server is configured for this tenant; send the audio itself";
            return Err(Problem::invalid("audio.speech", detail));
        }
        ("", [only]) => &tenant.speech[*only],
        ("", names) => {
            let detail = format!("several speech servers are configured; name one of {}", names.join(", "));
            return Err(Problem::invalid("audio.speech.with", detail));
        }
        (name, names) => tenant.speech.get(name).ok_or_else(|| {
            let detail = format!("there is no such speech server; known are {}", names.join(", "));
            Problem::invalid("audio.speech.with", detail)
        })?,
    };
    wanted.with.clone_from(&server.name);
    server
        .adapter
        .judge(&utterance(wanted))
        .map_err(|unfit| Problem::invalid(format!("audio.speech.{}", unfit.field), unfit.why))
}

fn utterance(wanted: &SpokenText) -> Utterance<'_> {
    Utterance {
        text: &wanted.text,
        voice: wanted.voice.as_deref(),
        instructions: wanted.instructions.as_deref(),
        speed: wanted.speed,
    }
}

/// The key of a speech: a hash of everything that it depends on.
fn key(speech: &dyn Speech, wanted: &SpokenText) -> String {
    let server = speech.server();
    let all = json!([
        server.kind,
        server.base_url().as_str(),
        server.model,
        server.voice_of(wanted.voice.as_deref()),
        server.format,
        wanted.instructions,
        wanted.speed.filter(|speed| *speed != 1.0),
        wanted.text,
    ]);
    hex::encode(Sha256::digest(all.to_string()))
}

/// The facts about a speech that is kept, for a plan.
///
/// # Errors
/// The database failed.
pub async fn kept(
    gateway: &Gateway,
    tenant: &Tenant,
    wanted: &SpokenText,
) -> Result<Option<Probed>, StoreError> {
    let Some(server) = tenant.speech.get(&wanted.with) else { return Ok(None) };
    let kept = find_kept(gateway, &tenant.name, &key(&*server.adapter, wanted)).await?;
    Ok(kept.map(|kept| kept.probed))
}

/// Gets the speech of a leased note: one that is kept, or a new one. The flight has to end after the note was committed.
pub(super) async fn speak<'a>(
    gateway: &'a Gateway,
    live: &Live,
    claim: &mut Claim,
) -> (Result<(), Abandoned>, Option<Flight<'a>>) {
    let speaking = run(gateway, live, claim);
    match gateway.stop.run_until_cancelled(speaking).await {
        None => (Err(Abandoned::Stopping), None),
        Some(Ok(flight)) => (Ok(()), flight),
        Some(Err(error)) => (Err(error), None),
    }
}

async fn run<'a>(
    gateway: &'a Gateway,
    live: &Live,
    claim: &mut Claim,
) -> Result<Option<Flight<'a>>, Abandoned> {
    let tenant = live.tenants.get(&claim.note.tenant);
    let wanted = claim.note.speech.clone();
    let server = wanted.as_ref().and_then(|wanted| tenant?.speech.get(&wanted.with));
    let (Some(wanted), Some(server)) = (wanted, server) else {
        let detail = "the speech server of this note is no longer configured; it is tried again";
        return Err(failed(Failure::from(unavailable(detail))));
    };
    mark_processing(gateway, claim).await?;
    let key = key(&*server.adapter, &wanted);
    let flight_key = format!("{}/{key}", claim.note.tenant);
    loop {
        if use_kept(gateway, claim, &key).await? {
            metrics::looked_up("speech", true);
            return Ok(None);
        }
        let flight = match gateway.speaking.turn(&flight_key).await {
            Turn::Mine(flight) => flight,
            Turn::Over(Ok(())) => continue,
            Turn::Over(Err(unspoken)) => return Err(failed(Failure::from(unspoken))),
        };
        // Another note may have stored it between the look and the turn.
        if use_kept(gateway, claim, &key).await? {
            metrics::looked_up("speech", true);
            return Ok(Some(flight));
        }
        metrics::looked_up("speech", false);
        return match make(gateway, live, claim, server, &wanted).await {
            Ok(()) => {
                claim.audio.spoken = Some(key);
                Ok(Some(flight))
            }
            Err(Unmade::Unspoken(unspoken)) => {
                flight.end(Err(unspoken.clone()));
                Err(failed(Failure::from(unspoken)))
            }
            Err(Unmade::Failed(failure)) => Err(Abandoned::Failed(failure)),
        };
    }
}

/// Speech that another note has.
struct KeptSpeech {
    original: NoteId,
    probed: Probed,
    format: Option<PcmFormat>,
}

async fn find_kept(gateway: &Gateway, tenant: &str, key: &str) -> Result<Option<KeptSpeech>, StoreError> {
    let Some(original) = gateway.store.spoken(tenant, key).await? else { return Ok(None) };
    let found = match gateway.store.note(original, Some(tenant)).await {
        Err(StoreError::Corrupt(_)) => None,
        found => found?,
    };
    Ok(found.and_then(|note| Some(KeptSpeech { original, probed: note.probed?, format: note.hints.format })))
}

/// Uses a kept speech, if there is one, and records that this note has it as well.
async fn use_kept(gateway: &Gateway, claim: &mut Claim, key: &str) -> Result<bool, Abandoned> {
    let tenant = claim.note.tenant.clone();
    let Some(kept) = find_kept(gateway, &tenant, key).await? else { return Ok(false) };
    let full = |problem| failed(Failure::for_now(problem));
    let _arriving = gateway.room_for(&tenant, kept.probed.facts.size_bytes).await.map_err(full)?;
    if !lend(gateway, claim, kept.original, &kept.probed).await? {
        return Ok(false);
    }
    claim.audio.spoken = Some(key.to_owned());
    keep(claim, kept.probed, kept.format);
    Ok(true)
}

/// Copies the audio of another note. Returns `false` if it was removed in the meantime.
async fn lend(
    gateway: &Gateway,
    claim: &mut Claim,
    original: NoteId,
    probed: &Probed,
) -> Result<bool, Abandoned> {
    if let Some(bytes) = gateway.store.source(original).await? {
        claim.audio.source = Some(SmallAudio { sha256: probed.facts.sha256.clone(), bytes });
        return Ok(true);
    }
    match gateway.media.use_source(original, claim.note.id).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// The source is there, so what remains of the note is sending it.
fn keep(claim: &mut Claim, probed: Probed, format: Option<PcmFormat>) {
    claim.note.hints.format = format;
    claim.note.probed = Some(probed);
    claim.note.source = AudioSource::Stored;
}

/// The reasons why no speech was made.
enum Unmade {
    /// All notes that wait for it end alike.
    Unspoken(Unspoken),
    /// Something of our own failed.
    Failed(Box<Failure>),
}

impl From<Unspoken> for Unmade {
    fn from(unspoken: Unspoken) -> Self {
        Self::Unspoken(unspoken)
    }
}

impl From<Failure> for Unmade {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<io::Error> for Unmade {
    fn from(error: io::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Speech that was made.
struct Spoken {
    file: NamedTempFile,
    probed: Probed,
    /// The format, if there is no header that tells it.
    format: Option<PcmFormat>,
}

/// Makes the speech of a note and stores it.
async fn make(
    gateway: &Gateway,
    live: &Live,
    claim: &mut Claim,
    server: &SpeechServer,
    wanted: &SpokenText,
) -> Result<(), Unmade> {
    // The size is not known yet. The quota is checked again afterwards.
    gateway.room_for(&claim.note.tenant, 0).await.map_err(Failure::for_now)?;
    let Spoken { file, probed, format } = ask(gateway, live, &claim.note.tenant, server, wanted).await?;
    let size = probed.facts.size_bytes;
    let _arriving = gateway.room_for(&claim.note.tenant, size).await.map_err(Failure::for_now)?;
    let file = AudioFile::Temporary(file);
    let small = MediaStore::small(&file).await?;
    claim.audio.source = small.map(|bytes| SmallAudio { sha256: probed.facts.sha256.clone(), bytes });
    if let (None, AudioFile::Temporary(file)) = (&claim.audio.source, file) {
        gateway.media.keep(file, claim.note.id, AudioVariant::Source).await?;
    }
    keep(claim, probed, format);
    Ok(())
}

/// Lets the server speak, and judges its answer.
async fn ask(
    gateway: &Gateway,
    live: &Live,
    tenant: &str,
    server: &SpeechServer,
    wanted: &SpokenText,
) -> Result<Spoken, Unmade> {
    let room = gateway.media.room_for(None)?;
    let file = gateway.media.incoming_file()?;
    let mut out = Arriving { file: tokio::fs::File::from_std(file.reopen()?), room };
    let limits = Limits {
        timeout: server.timeout,
        max_bytes: live.config.audio.max_bytes.0,
        now: gateway.clock.wall(),
    };
    let begun = Instant::now();
    let spoken =
        speech::speak(&*server.adapter, &live.providers.http, &utterance(wanted), limits, &mut out).await;
    let took = begun.elapsed();
    let outcome = match &spoken {
        Ok(_) => "ok",
        Err(error) => match error.kind {
            SpeechErrorKind::Rejected | SpeechErrorKind::TooLarge => "refused",
            SpeechErrorKind::Unavailable => "failed",
            SpeechErrorKind::Disk(_) => "disk",
        },
    };
    metrics::spoke(tenant, &server.name, outcome, took);
    if outcome != "disk" {
        gateway.server_slots.record(&speech_key(tenant, &server.name), hung(took, server.timeout));
    }
    let raw = spoken.map_err(unspoken)?.raw;
    let (file, verdict) = judged(file, raw).await?;
    if let whole::Verdict::Half(why) = verdict {
        return Err(unavailable(format!("the speech broke off: {why}")).into());
    }
    let format = raw.map(pcm_format);
    let hints = Hints { format, ..Hints::default() };
    match gateway.engine.for_tenant(tenant).identify(file.path(), &hints).await {
        Ok(probed) if probed.facts.duration_ms == 0 => {
            Err(unavailable("the speech has no sound in it").into())
        }
        Ok(probed) => Ok(Spoken { file, probed, format }),
        Err(error) => Err(unreadable(error)),
    }
}

/// Gets speech for an answer of which nothing stays: speech that is kept, or else new speech, with its format if no header
/// tells it.
///
/// # Errors
/// The problem that a note with this speech would have.
pub(super) async fn speak_once(
    gateway: &Gateway,
    tenant: &Tenant,
    wanted: &mut SpokenText,
) -> Result<(AudioFile, Option<PcmFormat>), Problem> {
    settle(tenant, wanted)?;
    let Some(server) = tenant.speech.get(&wanted.with) else {
        return Err(*unavailable("the speech server is no longer configured").problem);
    };
    if let Some(kept) = find_kept(gateway, &tenant.name, &key(&*server.adapter, wanted)).await? {
        let file = match gateway.store.source(kept.original).await? {
            Some(bytes) => Some(AudioFile::Temporary(gateway.media.lend(bytes).await?)),
            None => gateway.media.get(kept.original, AudioVariant::Source).await?,
        };
        if let Some(file) = file {
            return Ok((file, kept.format));
        }
    }
    match ask(gateway, &gateway.live(), &tenant.name, server, wanted).await {
        Ok(spoken) => Ok((AudioFile::Temporary(spoken.file), spoken.format)),
        Err(Unmade::Unspoken(unspoken)) => Err(*unspoken.problem),
        Err(Unmade::Failed(failure)) => Err(failure.problem),
    }
}

/// Whether the file is complete by its own structure. Nothing half spoken is sent.
async fn judged(file: NamedTempFile, raw: Option<Raw>) -> io::Result<(NamedTempFile, whole::Verdict)> {
    let judging = tokio::task::spawn_blocking(move || {
        let verdict = whole::judge(&mut file.reopen()?, raw)?;
        Ok((file, verdict))
    });
    judging.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn pcm_format(raw: Raw) -> PcmFormat {
    let encoding = match raw.encoding {
        RawEncoding::S16le => PcmEncoding::S16le,
        RawEncoding::Mulaw => PcmEncoding::Mulaw,
        RawEncoding::Alaw => PcmEncoding::Alaw,
    };
    PcmFormat { encoding, sample_rate: raw.sample_rate, channels: raw.channels }
}

fn unavailable(detail: impl Into<String>) -> Unspoken {
    let problem = Problem::new(Code::SpeechUnavailable, detail).stage(Stage::Speech);
    Unspoken { problem: Box::new(problem), passes: true, retry_after: None }
}

fn unspoken(error: SpeechError) -> Unmade {
    let (code, passes) = match error.kind {
        SpeechErrorKind::Rejected => (Code::SpeechRejected, false),
        SpeechErrorKind::Unavailable => (Code::SpeechUnavailable, true),
        SpeechErrorKind::TooLarge => (Code::AudioTooLarge, false),
        SpeechErrorKind::Disk(kind) => return io::Error::from(kind).into(),
    };
    let mut problem = Problem::new(code, error.detail).stage(Stage::Speech);
    problem.provider = error.upstream;
    problem.retry_after = error.retry_after.map(|wait| wait.as_secs());
    Unspoken { problem: Box::new(problem), passes, retry_after: error.retry_after }.into()
}

/// The server's answer cannot be read. Where that says something about the answer, the server is to blame.
fn unreadable(error: AudioError) -> Unmade {
    match error.kind {
        AudioErrorKind::Unreadable | AudioErrorKind::Unsupported | AudioErrorKind::FormatRequired => {
            let detail = format!("the speech server answered with something that cannot be played: {error}");
            unavailable(detail).into()
        }
        AudioErrorKind::TooLong | AudioErrorKind::TooLarge => {
            let problem = Problem::from(error).stage(Stage::Speech);
            Unspoken { problem: Box::new(problem), passes: false, retry_after: None }.into()
        }
        _ => Failure::from(error).into(),
    }
}

/// A file that receives speech, within the room that the disk has.
struct Arriving {
    file: tokio::fs::File,
    room: FileReservation,
}

impl AsyncWrite for Arriving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.file).poll_write(cx, bytes))?;
        self.room.take(written)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}
