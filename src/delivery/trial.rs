//! The work of one attempt, for one form after the other: choose the form, make the audio, `prepare`, commit `sending`,
//! `dispatch`. If a form is refused, the next one follows at once, within the same lease.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::Instrument;
use voicegate_providers::{
    Accepted, Disposition, Form, FormSupport, MediaHandle, Memory, OutboundNote, Scope, SendError,
    SendErrorKind,
};

use super::{
    attempt::{Abandoned, Lessons, commit_to_dispatch, failed, processing, take_back},
    conversation::{self, Person},
    known::{Known, until},
    ladder::{BY_FORM, NoForm, Wanted, Words, choose, form_degraded, words},
    making::{self, Made},
    outcome::{self, Failure, Timing},
    traced,
};
use crate::{
    config::Connection,
    gateway::{Gateway, Live, note_metrics, on_the_way::Kept, server_slots::hung, uploads::UploadPermit},
    media::AudioFile,
    model::{
        code::{Code, Stage, WarningCode},
        note::{Note, Refusal, Status, TextAs},
        problem::Problem,
    },
    store::{Claim, Closed, Learned, MediaChange, MediaKey, StoreError, connection_key, queue_key},
    telemetry::traces::Kind,
};

/// The state of an attempt: its inputs, and the facts that it has learned so far.
pub(super) struct Trial {
    lane: String,
    /// The start of the current attempt. After a refused form, a new attempt begins.
    pub started: Timestamp,
    known: Known,
    pub memory: Memory,
    /// The key of the audio, if the provider stores uploads for reuse.
    media: Option<MediaKey>,
    /// The provider's handle for the audio, as stored in the database.
    stored: Option<MediaHandle>,
    /// Held while this note uploads the audio.
    turn: Option<UploadPermit>,
    closed: Option<Closed>,
    pause: Option<Timestamp>,
    /// Whether the connection has passed its health check, if it failed before.
    is_proved: bool,
    /// The current form.
    form: Form,
}

impl Trial {
    pub fn begin(claim: &Claim, now: Timestamp) -> Self {
        let known = Known::read(claim.learned.as_ref(), now);
        let memory = Memory { recipient: known.adapter(), note: claim.note.memory.clone(), media: None };
        Self {
            lane: claim.note.lane(),
            started: now,
            known,
            memory,
            media: None,
            stored: None,
            turn: None,
            closed: None,
            pause: None,
            is_proved: !claim.tally.is_open(),
            form: Form::Voice,
        }
    }

    /// The time for which the provider accepts nothing for this recipient.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        self.known.not_before.and_then(|at| Duration::try_from(at.duration_since(now)).ok())
    }

    /// The facts to store besides the note.
    pub fn lessons(&mut self, gateway: &Gateway, claim: &Claim) -> Lessons {
        let now = gateway.clock.now();
        let ttl = gateway.live().config.delivery.learned_ttl.0;
        self.known.set_adapter(self.memory.recipient.clone(), until(None, now, ttl));
        Lessons {
            learned: self.known.change(claim.learned.as_ref(), self.lane.clone(), now),
            media: self.media_change(),
            closed: self.closed.take(),
            pause: self.pause.take(),
            server_pause: None,
        }
    }

    fn media_change(&mut self) -> Option<MediaChange> {
        let key = self.media.clone()?;
        if self.memory.media == self.stored {
            return None;
        }
        let before = std::mem::replace(&mut self.stored, self.memory.media.clone());
        match (&self.stored, before) {
            (Some(handle), _) => Some(MediaChange::Keep(key, handle.clone())),
            (None, Some(before)) => Some(MediaChange::Forget(key, before.value)),
            (None, None) => None,
        }
    }

    /// Records the facts in the outcome of an attempt that are not about the note.
    pub fn hear(&mut self, gateway: &Gateway, end: &Result<Accepted, Failure>) {
        let now = gateway.clock.now();
        let ttl = gateway.live().config.delivery.learned_ttl.0;
        match end {
            Ok(accepted) => match accepted.not_before {
                Some((at, Scope::Connection)) => self.pause = Some(at.min(now + outcome::LONGEST_PAUSE)),
                Some((at, Scope::Recipient)) => self.known.not_before = Some(at),
                None => {}
            },
            Err(failure) => {
                if failure.kind == Some(SendErrorKind::ConversationClosed)
                    && failure.scope == Scope::Connection
                {
                    let until = until(failure.until, now, ttl);
                    self.closed = Some(Closed { until, why: failure.problem.detail.clone() });
                }
            }
        }
    }

    /// Loads the provider's handle for the audio. If there is none, this note uploads the audio, and other notes wait
    /// for it.
    async fn find_media(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        note: &Note,
        outbound: &OutboundNote,
    ) -> Result<(), StoreError> {
        let capabilities = connection.provider.capabilities();
        let Some(audio) = outbound.audio().filter(|_| capabilities.media_reuse) else {
            (self.media, self.stored, self.memory.media) = (None, None, None);
            return Ok(());
        };
        let key = MediaKey {
            connection: connection_key(&note.tenant, &connection.name),
            form: outbound.form(),
            sha256: audio.facts.sha256.clone(),
        };
        if self.media.as_ref() != Some(&key) {
            self.turn = None;
        }
        let mut found = gateway.store.media(&key, gateway.clock.now()).await?;
        if found.is_none() && self.turn.is_none() {
            self.turn = Some(gateway.uploads.acquire(&key).await);
            found = gateway.store.media(&key, gateway.clock.now()).await?;
        }
        if found.is_some() {
            self.turn = None;
        }
        (self.media, self.memory.media) = (Some(key), found.clone());
        self.stored = found;
        Ok(())
    }
}

/// Tries the forms of the ladder in order, until the provider accepts the note or no form is left.
pub(super) async fn deliver(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    trial: &mut Trial,
) -> Result<Accepted, Abandoned> {
    let mut is_outdated = false;
    loop {
        let failure = match try_form(gateway, live, connection, claim, trial).await {
            Err(Abandoned::Failed(failure)) => failure,
            end => return end,
        };
        match failure.disposition {
            Disposition::NextForm if !claim.note.may_have_arrived() => {
                is_outdated = false;
                step_down(gateway, live, claim, trial, &failure);
            }
            Disposition::PrepareAgain if !is_outdated => is_outdated = true,
            _ => return Err(Abandoned::Failed(failure)),
        }
        go_on(gateway, claim, trial).await?;
    }
}

/// Records that the recipient does not accept this form.
fn step_down(gateway: &Gateway, live: &Live, claim: &mut Claim, trial: &mut Trial, failure: &Failure) {
    let now = gateway.clock.now();
    let form = trial.form;
    let why = failure.problem.detail.clone();
    tracing::info!(
        note.id = %claim.note.id, connection = claim.note.current().connection, ?form,
        "a form was refused, and the next one is tried: {why}"
    );
    let until = until(failure.until, now, live.config.delivery.learned_ttl.0);
    trial.known.refuse(Refusal { form, why: why.clone(), until });
    claim.note.refused.push(Refusal { form, why, until: Timestamp::MAX });
    let timing = Timing { started: trial.started, ended: now, jitter: 0.0 };
    let provider = claim.note.current().provider.clone();
    outcome::step_down(&mut claim.note, failure, timing);
    note_metrics::attempt(&claim.note, &provider);
    trial.started = now;
}

/// Commits the facts from an answer that proves that nothing was sent. A crash after this does not make the note
/// unknown.
async fn go_on(gateway: &Gateway, claim: &mut Claim, trial: &mut Trial) -> Result<(), Abandoned> {
    claim.note.status = Status::Processing;
    claim.note.form = None;
    claim.note.memory = trial.memory.note.clone();
    let lessons = trial.lessons(gateway, claim);
    let learned = lessons.learned.clone();
    take_back(gateway, claim, lessons).await?;
    match learned {
        Learned::Keep => {}
        Learned::Forget { .. } => claim.learned = None,
        Learned::Set { value, .. } => claim.learned = Some(value),
    }
    Ok(())
}

async fn try_form(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    claim: &mut Claim,
    trial: &mut Trial,
) -> Result<Accepted, Abandoned> {
    let limit = live.prepare_limit(connection);
    let overdue = || {
        let detail =
            format!("getting the note ready took longer than {} s; it is tried again", limit.as_secs());
        Failure::for_now(Problem::new(Code::ProviderUnavailable, detail).stage(Stage::Upload))
    };
    let cx = live.context(gateway.clock.wall(), connection.timeout);
    let ready = tokio::time::timeout(limit, async {
        if !trial.is_proved {
            // The note is not attempted before the connection has passed its health check.
            connection.provider.check(&cx).await.map_err(|error| failed(Failure::still_failing(error)))?;
            trial.is_proved = true;
        }
        may_begin(gateway, claim).await?;
        let support = settle_form(gateway, connection, claim, trial)?;
        // The remaining work takes about as long as opening a connection, so it is opened now.
        let audio_is_ready = || {
            if let Some(url) = connection.provider.dispatches_to() {
                cx.dial.ahead(url);
            }
        };
        let Made { note, file, kept } =
            making::get_ready(gateway, live, connection, claim, &support, audio_is_ready).await?;
        trial.find_media(gateway, connection, &claim.note, &note).await?;
        let memory = &mut trial.memory;
        let preparing = async {
            let prepared = connection.provider.prepare(&cx, &note, memory).await;
            prepared.map_err(|error| failed(before_dispatch(error)))
        };
        let preparing = traced::step(gateway, ("prepare", Kind::Client), preparing);
        let preparing = preparing.instrument(tracing::info_span!("prepare"));
        let prepared = processing(gateway, claim, Box::pin(preparing)).await?;
        Ok::<(OutboundNote, (Option<AudioFile>, Option<Kept>), _), Abandoned>((note, (file, kept), prepared))
    });
    // The process that claims the note next can repeat all of this.
    let ready = gateway.stop.run_until_cancelled(ready).await.ok_or(Abandoned::Stopping)?;
    // The file is deleted when it is dropped, so it is held until the last byte was sent.
    let (note, _file, prepared) = ready.map_err(|_| failed(overdue()))??;

    claim.note.status = Status::Sending;
    claim.note.form = Some(trial.form);
    claim.note.memory = trial.memory.note.clone();
    claim.note.dispatched_at = Some(gateway.clock.now());
    claim.note.correlation_ids.clone_from(&prepared.correlation_ids);
    claim.note.correlation_ids.push(claim.note.id.to_string());
    let media = trial.media_change();
    let is_uploaded = media.is_some();
    commit_to_dispatch(gateway, claim, media).await?;
    if is_uploaded {
        // The handle is stored, so waiting notes can use it.
        trial.turn = None;
    }
    let begun = Instant::now();
    let sending = connection.provider.dispatch(&cx, &note, prepared, &mut trial.memory);
    let sending = traced::step(gateway, ("dispatch", Kind::Client), sending);
    let sent = sending.instrument(tracing::info_span!("dispatch")).await;
    gateway.server_slots.record(&queue_key(&claim.note), hung(begun.elapsed(), connection.timeout));
    sent.map_err(failed)
}

/// An error of a request before the visible one. Adapters share their tables of errors between both.
fn before_dispatch(error: SendError) -> SendError {
    if error.stage == voicegate_providers::Stage::Dispatch {
        error.at(voicegate_providers::Stage::Upload)
    } else {
        error
    }
}

/// Checks that the connection may write to this recipient, as far as is known.
async fn may_begin(gateway: &Gateway, claim: &Claim) -> Result<(), Abandoned> {
    let note = &claim.note;
    let entry = note.current();
    let person = Person::new(&note.tenant, &entry.connection, &note.to, &entry.to);
    match conversation::refusal(gateway, claim.closed.as_ref(), &person, gateway.clock.now()).await? {
        None => Ok(()),
        Some(why) => Err(Abandoned::NothingToTry(Box::new(
            Problem::new(Code::ConversationClosed, why).stage(Stage::Dispatch),
        ))),
    }
}

/// Chooses the note's form, and records the resulting warnings in the note.
fn settle_form(
    gateway: &Gateway,
    connection: &Connection,
    claim: &mut Claim,
    trial: &mut Trial,
) -> Result<FormSupport, Abandoned> {
    let now = gateway.clock.now();
    let note = &mut claim.note;
    let capabilities = connection.provider.capabilities();
    let wanted = Wanted::of(note, &connection.degrade);
    // After an unknown outcome the form does not change.
    let stays = note.form.filter(|_| note.may_have_arrived());
    let (support, instead, Words { warning, .. }) = match stays.and_then(|form| capabilities.form(form)) {
        Some(support) => (support, None, words(support, &wanted)),
        None => {
            let refused: Vec<&Refusal> = note.refused.iter().chain(&trial.known.refused).collect();
            let rung = choose(capabilities, &wanted, &refused, now).map_err(|NoForm(why)| {
                Abandoned::NothingToTry(Box::new(
                    Problem::new(Code::FormUnavailable, why).stage(Stage::Dispatch),
                ))
            })?;
            (rung.support, rung.instead, words(rung.support, &wanted))
        }
    };
    if stays.is_none() {
        note.warnings.retain(|warning| !BY_FORM.contains(&warning.code));
        if note.text_as == TextAs::Caption {
            note.warnings.retain(|warning| warning.code != WarningCode::TextDropped);
        }
    }
    if let Some(why) = instead {
        note.warn(form_degraded(support.form, &why));
    }
    if let Some(warning) = warning {
        note.warn(warning);
    }
    trial.form = support.form;
    Ok(support.clone())
}
