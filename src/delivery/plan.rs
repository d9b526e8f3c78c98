//! What would become of a note, from its real bytes and by the rules that sending goes by. Nothing is stored, and no
//! provider is asked.

use voicegate_providers::Form;

use super::{
    accept::{VoiceRequest, judge_fields},
    read_audio,
    route::{Target, has_text, named, native_reply, reply_dropped, reply_exists, shows_text, text_dropped},
    upload,
};
use crate::{
    config::{Connection, Tenant},
    gateway::Gateway,
    media::AudioInput,
    model::{
        code::Code,
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
            outlook.refuse(&Code::RecipientUnsupported, error.to_string());
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
        if has_text(&request) && !shows_text(connection) {
            let why = "this connection shows no text beside a voice note";
            if request.strict && nobody_shows_text {
                outlook.refuse(&Code::TextUnsupported, why);
            } else {
                outlook.reasons.push(text_dropped(why));
            }
        }
        for found in &source.findings.contradictions {
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
                outlook.refuse(&Code::AudioTooLarge, error.to_string());
            }
        }
        Err(error) => outlook.refuse(&Code::from(error.code()), error.detail),
    }
    outlook
}

/// What the audio of a request is. A URL is downloaded for it; decoded is only what cannot be told otherwise.
async fn read(gateway: &Gateway, tenant: &Tenant, request: &VoiceRequest) -> Result<Probed, Problem> {
    match &request.audio {
        AudioInput::Upload(id) => Ok(upload::find(gateway, tenant, *id).await?.probed),
        AudioInput::Bytes(received) => {
            Ok(read_audio::identify(gateway, tenant, received, &request.hints).await?)
        }
        AudioInput::Url { url, headers } => {
            let file = read_audio::download_now(gateway, url, headers).await?;
            Ok(gateway.engine.for_tenant(&tenant.name).identify(file.path(), &request.hints).await?)
        }
    }
}
