//! Predicts what would happen to a note, from its real bytes and by the rules of sending. Nothing is stored, and no
//! request is made to a provider.

use jiff::Timestamp;
use voicegate_providers::{Form, FormSupport};

use super::{
    accept::{VoiceRequest, judge_fields},
    conversation::{self, Person},
    known::Known,
    ladder::{NoForm, Wanted, Words, choose, form_degraded, usable, words},
    read_audio,
    route::{
        Target, has_text, may_show_text, named, native_reply, no_text, reply_dropped, reply_exists,
        strict_about_rung, strict_about_size,
    },
    speak, upload,
};
use crate::{
    config::{Connection, Tenant},
    gateway::Gateway,
    media::AudioInput,
    model::{
        code::{Code, WarningCode},
        note::{ConvertChoice, Refusal, RouteEntry, Warning},
        plan::{Outlook, Plan, Rung, Sends},
        problem::Problem,
    },
};
use voicegate_audio::{self as audio, Expected, Probed};

/// The knowledge about a recipient that the choice of a form depends on.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub refused: &'a [&'a Refusal],
    pub now: Timestamp,
}

/// Checks a request by the rules of [`super::accept`] and of the worker.
///
/// # Errors
/// Problems that would refuse the whole request: invalid fields, or audio that cannot be read.
pub async fn plan(gateway: &Gateway, tenant: &Tenant, mut request: VoiceRequest) -> Result<Plan, Problem> {
    judge_fields(&request, gateway.clock.now())?;
    let target = Target::parse(&request.to)?;
    if let AudioInput::Speech(spoken) = &mut request.audio {
        speak::settle(tenant, spoken)?;
    }
    let connections = named(tenant, request.via.as_deref())?;
    target.exists_at(tenant)?;
    if let Some(reply_to) = &request.reply_to {
        reply_exists(gateway, tenant, reply_to).await?;
    }
    let mut outlooks = Vec::with_capacity(connections.len());
    let source = read(gateway, tenant, &request).await?;
    let nobody_shows_text = !connections.iter().any(|connection| may_show_text(connection, &request));
    let now = gateway.clock.now();
    let states = gateway.store.connections(&tenant.name).await?;
    for connection in connections {
        let reached = target.on(tenant, connection);
        let known = match &reached {
            Ok((_, key)) => {
                let stored = gateway.store.learned(&lane(&tenant.name, &connection.name, key), now).await?;
                Known::read(stored.as_ref(), now)
            }
            Err(_) => Known::default(),
        };
        let refused: Vec<&Refusal> = known.refused.iter().collect();
        let wanted = request.wanted(connection, source.as_ref().map(|source| source.facts.duration_ms));
        let surroundings = Surroundings { refused: &refused, now };
        let mut outlook = foresee(connection, source.as_ref(), request.convert, &wanted, surroundings);
        if request.strict && outlook.sends.is_some() {
            let capabilities = connection.provider.capabilities();
            let refused: Vec<&Refusal> = known.refused.iter().collect();
            if let Ok(rung) = choose(capabilities, &wanted, &refused, now)
                && let Err(problem) = strict_about_rung(&rung, &wanted)
            {
                outlook.refuse_instead(&[WarningCode::FormDegraded, WarningCode::TextShortened], problem);
            } else if let Some(source) = &source
                && let Err(problem) = strict_about_size(connection, source, request.convert)
            {
                outlook.refuse_instead(&[WarningCode::PlayIconLost, WarningCode::WaveformLost], problem);
            }
        }
        match reached {
            Ok((recipient, _)) => {
                let (named, known) = (target.to_string(), recipient.to_string());
                let person = Person::new(&tenant.name, &connection.name, &named, &known);
                let state = states.iter().find(|state| state.connection == connection.name);
                let closed = state.and_then(|state| state.closed.as_ref());
                if let Some(why) = conversation::refusal(gateway, closed, &person, now).await? {
                    let until = closed.map(|closed| closed.until);
                    outlook.forms.iter_mut().filter(|rung| rung.chosen).for_each(|rung| rung.until = until);
                    outlook.refuse(&Code::ConversationClosed, why);
                }
            }
            Err(error) => outlook.refuse(&Code::RecipientUnsupported, error.to_string()),
        }
        if let Some(reply_to) = &request.reply_to
            && let Err(why) = native_reply(gateway, &tenant.name, connection, reply_to).await?
        {
            if request.strict {
                outlook.refuse(&Code::ReplyUnsupported, why);
            } else {
                outlook.reasons.push(reply_dropped(why));
            }
        }
        if has_text(&request) && !may_show_text(connection, &request) {
            let why = no_text(&[connection], &request);
            if request.strict && nobody_shows_text {
                outlook.refuse(&Code::TextUnsupported, why.refusal());
            } else if !outlook.reasons.iter().any(|reason| reason.code == WarningCode::TextDropped) {
                outlook.reasons.push(why.warning());
            }
        }
        for found in source.iter().flat_map(|source| &source.findings.contradictions) {
            if request.strict {
                outlook.refuse(&Code::AudioInconsistent, found.detail());
            } else {
                outlook.reasons.push(Warning::from(*found));
            }
        }
        outlooks.push(outlook);
    }
    Ok(Plan { source, connections: outlooks })
}

/// The lane of a recipient's key on a connection.
fn lane(tenant: &str, connection: &str, key: &str) -> String {
    let entry = RouteEntry {
        connection: connection.to_owned(),
        provider: String::new(),
        to: String::new(),
        recipient_key: key.to_owned(),
    };
    entry.lane(tenant)
}

/// Predicts what would happen to a source over one connection.
pub fn foresee(
    connection: &Connection,
    source: Option<&Probed>,
    requested: Option<ConvertChoice>,
    wanted: &Wanted<'_>,
    surroundings: Surroundings<'_>,
) -> Outlook {
    let Surroundings { refused, now } = surroundings;
    let choice = connection.choice(requested);
    let capabilities = connection.provider.capabilities();
    let chosen = choose(capabilities, wanted, refused, now);
    let form = chosen.as_ref().ok().map(|rung| rung.support.form);
    let first = capabilities.forms.first().map_or(Form::Voice, |support| support.form);
    let profile = connection.profile_for(form.filter(|form| *form != Form::Text).unwrap_or(first), choice);
    let mut outlook = Outlook {
        connection: connection.name.clone(),
        provider: connection.provider_name,
        profile: profile.name,
        sends: None,
        forms: rungs(connection, wanted, surroundings, form),
        reasons: Vec::new(),
    };
    let rung = match chosen {
        Ok(rung) => rung,
        Err(NoForm(why)) => {
            outlook.refuse(&Code::FormUnavailable, why);
            return outlook;
        }
    };
    if let Some(why) = &rung.instead {
        outlook.reasons.push(form_degraded(rung.support.form, why));
    }
    outlook.reasons.extend(words(rung.support, wanted).warning);
    if rung.support.form == Form::Text {
        outlook.sends = Some(Sends { form: Form::Text, audio: None });
        return outlook;
    }
    let Some(source) = source else {
        outlook.sends = Some(Sends { form: rung.support.form, audio: None });
        return outlook;
    };
    match audio::expect(source, profile, choice.into()) {
        Ok(Expected { work, audio, loss }) => {
            let fits = capabilities.check_size(rung.support.form, audio.size_bytes).map(drop);
            outlook.sends = Some(Sends { form: rung.support.form, audio: Some((work, audio)) });
            outlook.reasons.extend(loss.map(Warning::from));
            if let Err(error) = fits {
                outlook.refuse(&Code::AudioTooLarge, error.to_string());
            }
        }
        Err(error) => outlook.refuse(&Code::from(error.code()), error.detail),
    }
    outlook
}

/// Every form of a connection, and the reason if the note cannot be shown in it.
fn rungs(
    connection: &Connection,
    wanted: &Wanted<'_>,
    Surroundings { refused, now }: Surroundings<'_>,
    chosen: Option<Form>,
) -> Vec<Rung> {
    let capabilities = connection.provider.capabilities();
    let rung = |support: FormSupport| {
        let form = support.form;
        let reason = if wanted.degrade.allows(form) {
            usable(capabilities, wanted, refused, now, form).err()
        } else {
            Some("`degrade` does not allow this form".to_owned())
        };
        let until = refused.iter().find(|refusal| refusal.form == form).map(|refusal| refusal.until);
        let Words { shown, warning } = words(&support, wanted);
        let caption_fits = (shown.is_some() || warning.is_some()).then_some(warning.is_none());
        Rung { chosen: chosen == Some(form), caption_fits, reason, until, support }
    };
    connection.forms().into_iter().map(rung).collect()
}

/// Identifies the audio of a request. A URL is downloaded, speech is not made. Audio is decoded only if its structure is not
/// sufficient.
async fn read(gateway: &Gateway, tenant: &Tenant, request: &VoiceRequest) -> Result<Option<Probed>, Problem> {
    let probed = match &request.audio {
        AudioInput::Upload(id) => upload::find(gateway, tenant, *id).await?.probed,
        AudioInput::Bytes(received) => {
            read_audio::identify(gateway, tenant, received, &request.hints).await?
        }
        AudioInput::Url { url, headers } => {
            let downloaded = read_audio::download_now(gateway, url, headers).await?;
            let hints = downloaded.hints(&request.hints);
            gateway.engine.for_tenant(&tenant.name).identify(downloaded.file.path(), &hints).await?
        }
        AudioInput::Speech(spoken) => return Ok(speak::kept(gateway, tenant, spoken).await?),
    };
    Ok(Some(probed))
}
