//! Prepares a note for one form: the audio in the form's profile, the text beside it or in place of it, and the message
//! that it replies to.

use std::sync::Arc;

use bytes::Bytes;
use voicegate_audio::{self as audio, Profile, Ready, Work};
use voicegate_providers::{Content, Form, FormSupport, OutboundAudio, OutboundNote, parse_recipient};

use super::{
    attempt::{Abandoned, failed, processing},
    ladder::{Wanted, words},
    outcome::Failure,
    route::{native_reply, reply_dropped},
    traced,
};
use crate::{
    config::Connection,
    gateway::{
        Gateway, Live,
        on_the_way::{Kept, Sending},
    },
    media::{AudioFile, AudioVariant, MediaStore},
    model::{
        code::{Code, Stage},
        note::{ConvertChoice, Note, NoteId, SentAudio, Warning},
        problem::Problem,
    },
    store::{Claim, SmallAudio, StoreError},
    telemetry::traces::Kind,
};

/// A note that is ready for its adapter.
pub(super) struct Made {
    pub note: OutboundNote,
    /// The file with the note's audio. It is deleted when this value is dropped.
    pub file: Option<AudioFile>,
    /// Keeps the audio in memory for the provider's link until this value is dropped.
    pub kept: Option<Kept>,
}

/// Prepares a note for a form of the connection. Calls `audio_is_ready` as soon as the audio is made.
pub(super) async fn get_ready(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    support: &FormSupport,
    audio_is_ready: impl Fn(),
) -> Result<Made, Abandoned> {
    let (content, file, kept) = if support.form == Form::Text {
        audio_is_ready();
        let text = words(support, &Wanted::of(&claim.note, &connection.degrade)).shown;
        (Content::Text(text.unwrap_or_default()), None, None)
    } else {
        let (audio, file, kept) =
            make_audio(gateway, live, connection, claim, support, audio_is_ready).await?;
        let caption = words(support, &Wanted::of(&claim.note, &connection.degrade)).shown;
        (Content::Audio { form: support.form, audio, caption }, Some(file), kept)
    };
    let reply_to = reply(gateway, connection, &mut claim.note).await?;
    let note = &claim.note;
    let to = parse_recipient(&note.current().to).map_err(|error| {
        failed(Failure::stop(Problem::new(Code::RecipientUnsupported, error.to_string())))
    })?;
    Ok(Made { note: OutboundNote { id: note.id.to_string(), to, content, reply_to }, file, kept })
}

async fn make_audio(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    support: &FormSupport,
    audio_is_ready: impl Fn(),
) -> Result<(OutboundAudio, AudioFile, Option<Kept>), Abandoned> {
    let choice = connection.choice(claim.note.convert);
    let profile = connection.profile_for(support.form, choice);
    let made = claim.note.sent.as_ref().filter(|sent| sent.profile == profile.name);
    let Found { file, bytes } = match made.map(|sent| sent.work) {
        Some(work) => {
            audio_is_ready();
            file(gateway, claim.note.id, sent_as(work)).await?
        }
        None => render(gateway, claim, profile, choice, audio_is_ready).await?,
    };
    let note = &claim.note;
    let sent = note.sent.as_ref().ok_or_else(|| failed(Failure::for_now(Problem::internal())))?;
    if sent.facts.size_bytes > support.max_bytes {
        let detail = format!("the provider takes at most {} bytes; send a shorter note", support.max_bytes);
        return Err(failed(Failure::stop(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Encode))));
    }
    let loss = profile.loss(sent.facts.size_bytes);
    if let Some(loss) = loss {
        claim.note.warn(loss.into());
    }
    let note = &claim.note;
    let sent = note.sent.as_ref().ok_or_else(|| failed(Failure::for_now(Problem::internal())))?;
    let which = sent_as(sent.work);
    let filename = format!("voice.{}", sent.facts.extension());
    let server = &live.config.server;
    let link = gateway.links.make(
        &server.public_url,
        note.id,
        which,
        &filename,
        gateway.clock.now(),
        server.link_ttl.0,
    );
    let bars = note.probed.as_ref().map(|probed| probed.waveform.clone()).filter(|bars| !bars.is_empty());
    let mut facts = sent.facts.clone();
    // A provider shows no length if it is given a length of 0.
    facts.duration_ms = facts.duration_ms.max(1);
    let kept = bytes.map(|bytes| {
        let (facts, created_at) = (sent.facts.clone(), note.created_at);
        gateway.on_the_way.add(note.id, Sending { variant: which, facts, created_at, bytes })
    });
    let audio = OutboundAudio {
        facts,
        filename,
        path: file.path().to_owned(),
        link,
        provider_converts: connection.hands_over(choice),
        waveform: bars.unwrap_or_else(|| vec![0; BARS]),
    };
    Ok((audio, file, kept))
}

/// The number of bars in a waveform, as the engine makes it.
const BARS: usize = 64;

fn sent_as(work: Work) -> AudioVariant {
    if work == Work::None { AudioVariant::Source } else { AudioVariant::Sent }
}

/// A file with audio, and its bytes if it is small.
struct Found {
    file: AudioFile,
    bytes: Option<Bytes>,
}

async fn file(gateway: &Gateway, note: NoteId, which: AudioVariant) -> Result<Found, Abandoned> {
    if let Some(bytes) = gateway.small_audio(note, which).await? {
        let file = gateway.media.lend(bytes.clone()).await.map_err(failed)?;
        return Ok(Found { file: AudioFile::Temporary(file), bytes: Some(bytes) });
    }
    match gateway.media.get(note, which).await.map_err(failed)? {
        Some(file) => Ok(Found { file, bytes: None }),
        None => {
            tracing::error!(note.id = %note, "the audio of note {note} is not there");
            Err(failed(Failure::for_now(Problem::internal())))
        }
    }
}

/// The provider's id of the message to reply to. If this connection has none, the note gets one warning.
async fn reply(
    gateway: &Gateway,
    connection: &Connection,
    note: &mut Note,
) -> Result<Option<String>, StoreError> {
    let Some(reply_to) = &note.reply_to else { return Ok(None) };
    match native_reply(gateway, &note.tenant, connection, reply_to).await? {
        Ok(id) => Ok(Some(id)),
        Err(why) => {
            note.warn(reply_dropped(why));
            Ok(None)
        }
    }
}

/// Renders the audio, and returns the file that is sent: the source itself, if it fits. In both cases the source is
/// decoded, here or for an earlier note, and its facts are recorded in the note.
async fn render(
    gateway: &Gateway,
    claim: &mut Claim,
    profile: &'static Profile,
    choice: ConvertChoice,
    audio_is_ready: impl Fn(),
) -> Result<Found, Abandoned> {
    let (hints, probed) = (claim.note.hints.clone(), claim.note.probed.clone());
    let engine = gateway.engine.for_tenant(&claim.note.tenant);
    let began = gateway.clock.now();
    let known = match &probed {
        Some(probed) => engine.prepared(probed, &hints, profile, choice.into()).await,
        None => None,
    };
    let (ready, source) = match known {
        // The source is not needed if a file was made of it before.
        Some(ready) => {
            traced::cached(gateway, "render", began);
            (ready, None)
        }
        None => {
            let source = file(gateway, claim.note.id, AudioVariant::Source).await?;
            let input =
                audio::SourceFile { path: source.file.path(), hints: &hints, probed: probed.as_ref() };
            let preparing = async { engine.prepare(input, profile, choice.into()).await.map_err(failed) };
            let preparing = traced::step(gateway, ("render", Kind::Internal), preparing);
            (processing(gateway, claim, Box::pin(preparing)).await?, Some(source))
        }
    };
    audio_is_ready();
    let note = &mut claim.note;
    note.probed = Some(ready.source.clone());
    for found in &ready.source.findings.contradictions {
        note.warn(Warning::from(*found));
    }
    let (facts, work, checks) = match &ready.made {
        None => (&ready.source.facts, Work::None, [].as_slice()),
        Some(made) => (&made.facts, made.work, made.checks.as_slice()),
    };
    let checks = checks.iter().map(|&check| check.to_owned()).collect();
    note.sent = Some(SentAudio { facts: facts.clone(), profile: profile.name.to_owned(), work, checks });
    match source {
        Some(source) if ready.made.is_none() => Ok(source),
        _ => keep(gateway, claim, ready).await,
    }
}

/// Stores a produced file: a small one in the database, together with the next change of the note, and once for all
/// notes of the tenant; a larger one in a copy of its own.
async fn keep(gateway: &Gateway, claim: &mut Claim, ready: Arc<Ready>) -> Result<Found, Abandoned> {
    let made = ready.made.as_ref().ok_or_else(|| failed(Failure::for_now(Problem::internal())))?;
    let (path, sha256) = (made.path().to_owned(), made.facts.sha256.clone());
    let file = AudioFile::Cached(ready.clone(), path.clone());
    match MediaStore::small(&file).await.map_err(failed)? {
        Some(bytes) => {
            claim.audio.sent = Some(SmallAudio { sha256, bytes: bytes.clone() });
            Ok(Found { file, bytes: Some(bytes) })
        }
        None => {
            let copy = gateway.media.copy_of(&path).await.map_err(failed)?;
            let file = gateway.media.keep(copy, claim.note.id, AudioVariant::Sent).await.map_err(failed)?;
            Ok(Found { file, bytes: None })
        }
    }
}
