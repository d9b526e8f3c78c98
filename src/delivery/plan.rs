//! What would become of a note, from its real bytes and by the rules that sending goes by. Nothing is stored, and no
//! provider is asked.

use voicegate_providers::Form;

use super::{
    accept::{VoiceRequest, judge_fields},
    route::{Target, has_text, named, native_reply, reply_dropped, reply_exists, shows_text, text_dropped},
};
use crate::{
    config::{Connection, Tenant},
    delivery::upload,
    gateway::Gateway,
    media::{AudioInput, FetchRequest, Held, Received},
    model::{
        note::{ConvertChoice, Warning},
        plan::{Outlook, Plan, Sends},
        problem::Problem,
    },
};
use voicegate_audio::{self as audio, Probed, Work};

/// Judges a request as [`super::accept`] and the worker would.
///
/// # Errors
/// What would refuse the whole request: its fields, or audio that cannot be read.
pub async fn plan(gateway: &Gateway, tenant: &Tenant, request: VoiceRequest) -> Result<Plan, Problem> {
    judge_fields(&request, gateway.clock.now())?;
    let target = Target::parse(&request.to)?;
    let connections = named(tenant, request.via.as_deref())?;
    target.exists_at(tenant)?;
    if let Some(reply_to) = &request.reply_to {
        reply_exists(gateway, tenant, reply_to).await?;
    }
    let mut outlooks = Vec::with_capacity(connections.len());
    let source = read(gateway, tenant, &request).await?;
    let nobody_shows_text = !connections.iter().any(|connection| shows_text(connection));
    for connection in connections {
        let mut outlook = foresee(connection, &source, request.convert);
        if let Err(error) = target.on(tenant, connection) {
            outlook.refuse("recipient_unsupported", error.to_string());
        }
        if let Some(reply_to) = &request.reply_to
            && let Err(why) = native_reply(gateway, &tenant.name, connection, reply_to).await?
        {
            if request.strict {
                outlook.refuse("reply_unsupported", why);
            } else {
                outlook.reasons.push(reply_dropped(why));
            }
        }
        if has_text(&request) && !shows_text(connection) {
            let why = "this connection shows no text beside a voice note";
            if request.strict && nobody_shows_text {
                outlook.refuse("text_unsupported", why);
            } else {
                outlook.reasons.push(text_dropped(why));
            }
        }
        for found in &source.findings.contradictions {
            if request.strict {
                outlook.refuse("audio_inconsistent", found.detail());
            } else {
                outlook.reasons.push(Warning::from(*found));
            }
        }
        outlooks.push(outlook);
    }
    Ok(Plan { source, connections: outlooks })
}

/// What would become of a source over a connection, whoever it is for.
pub fn foresee(connection: &Connection, source: &Probed, requested: Option<ConvertChoice>) -> Outlook {
    let choice = connection.choice(requested);
    let profile = connection.profile_for(choice);
    let mut outlook = Outlook {
        connection: connection.name.clone(),
        provider: connection.provider_name,
        profile: profile.name,
        sends: None,
        reasons: Vec::new(),
    };
    match audio::plan(source, profile, choice.into()) {
        Ok(works) => {
            let work = works.first().copied().unwrap_or(Work::Transcoded);
            let audio = profile.foresee(source, work);
            let fits = connection.provider.capabilities().check_size(audio.size_bytes);
            outlook.sends = Some(Sends { work, audio, form: Form::Voice });
            if let Err(error) = fits {
                outlook.refuse("audio_too_large", error.to_string());
            }
        }
        Err(error) => outlook.refuse(error.code(), error.detail),
    }
    outlook
}

/// What the audio of a request is. A URL is downloaded for it; decoded is only what cannot be told otherwise.
async fn read(gateway: &Gateway, tenant: &Tenant, request: &VoiceRequest) -> Result<Probed, Problem> {
    let live = gateway.live();
    let engine = gateway.engine.for_tenant(&tenant.name);
    let hints = &request.hints;
    match &request.audio {
        AudioInput::Upload(id) => Ok(upload::find(gateway, tenant, *id).await?.probed),
        AudioInput::Bytes(Received { held: Held::File(file), .. }) => {
            Ok(engine.identify(file.path(), hints).await?)
        }
        AudioInput::Bytes(Received { held: Held::Memory(bytes, _), sha256 }) => {
            if let Some(probed) = engine.recognise(bytes, sha256, hints)? {
                return Ok(probed);
            }
            let file = gateway.media.lend(bytes.clone()).await?;
            Ok(engine.probe(file.path(), hints).await?)
        }
        AudioInput::Url { url, headers } => {
            live.fetcher.check(url)?;
            let room = gateway.media.room_for(None)?;
            let mut file = gateway.media.incoming_file()?;
            let request = FetchRequest { url, headers, max_bytes: live.config.audio.max_bytes.0 };
            live.fetcher.fetch(&request, &mut file, room).await?;
            Ok(engine.identify(file.path(), hints).await?)
        }
    }
}
