//! The fuzz targets of this crate, which `voicegate::fuzzing` describes.

mod bots;
mod recipes;

pub(crate) use recipes::settings_for;

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::SecretString;
use serde_json::Value;
use url::{Host, Url};

use crate::{
    Accepted, AudioFacts, Callback, CallbackError, CallbackRequest, Codec, Container, Content, Disposition,
    Form, InboundVoice, Memory, OutboundAudio, OutboundNote, PROVIDERS, Provider, Receipt, ReceiptStatus,
    SendError, Settings, evolution,
    guard::{AddressRules, Forbidden},
    linq::{
        self,
        chats::Page,
        uploads::{Ticket, signed_headers},
    },
    parse_recipient, signature, waha, wawp,
    wire::{self, Answer},
};

/// The name of a target, and its function.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("discord_answers", bots::discord_answers),
    ("evolution_answers", evolution_answers),
    ("evolution_callbacks", evolution_callbacks),
    ("http_answers", recipes::http_answers),
    ("http_callbacks", recipes::http_callbacks),
    ("http_recipe", crate::http::fuzzing::recipe),
    ("http_template", crate::http::fuzzing::template),
    ("linq_answers", linq_answers),
    ("linq_callbacks", linq_callbacks),
    ("recipient", recipient),
    ("retry_after", retry_after),
    ("telegram_answers", bots::telegram_answers),
    ("telegram_callbacks", bots::telegram_callbacks),
    ("url_rules", url_rules),
    ("waha_answers", waha_answers),
    ("waha_callbacks", waha_callbacks),
    ("wawp_answers", wawp_answers),
    ("wawp_callbacks", wawp_callbacks),
    ("whatsapp_cloud_answers", bots::whatsapp_cloud_answers),
    ("whatsapp_cloud_callbacks", bots::whatsapp_cloud_callbacks),
    ("words", words),
];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TOKEN: &str = "secret-token-0123";
const LINK_TOKEN: &str = "secret-link-token";
/// The secret is base64, as a token may be.
const WEBHOOK_SECRET: &str = "secretsecretsecretsecret";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn recipient(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(recipient) = parse_recipient(text) else { return };
    assert_eq!(parse_recipient(&recipient.to_string()).as_ref(), Ok(&recipient));
    for descriptor in PROVIDERS {
        let settings = serde_json::from_str(descriptor.example).expect("an example");
        let provider = (descriptor.build)(Settings::new(settings)).expect("an example");
        let Ok(key) = provider.recipient_key(&recipient) else { continue };
        // A key is never split where lanes join it to something else, and written as a recipient it is the same.
        assert!(!key.is_empty() && !key.chars().any(char::is_control));
        if let Ok(again) = parse_recipient(&key) {
            assert_eq!(provider.recipient_key(&again), Ok(key));
        }
    }
}

fn retry_after(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let wait = wire::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now());
    assert!(wait.is_none_or(|wait| wait <= DAY));
}

/// URLs from a bot or a provider.
fn url_rules(data: &[u8]) {
    let Some(url) = std::str::from_utf8(data).ok().and_then(|text| Url::parse(text).ok()) else { return };
    let strict = AddressRules::default();
    let local =
        AddressRules { allow_http: true, allow_networks: vec!["127.0.0.0/8".parse().expect("a network")] };
    let allowed = strict.check(&url);
    if allowed.is_ok() {
        assert_eq!(url.scheme(), "https");
        assert_eq!(local.check(&url), Ok(()), "an exception makes rules stricter");
    }
    if let Some(Host::Ipv4(address)) = url.host() {
        let mapped = IpAddr::V6(address.to_ipv6_mapped());
        assert_eq!(strict.allows(mapped), strict.allows(address.into()));
        assert!(
            allowed.is_err() || !(address.is_private() || address.is_loopback() || address.is_link_local())
        );
        let by_address = matches!(allowed, Ok(()) | Err(Forbidden::Address));
        assert!(!by_address || allowed.is_ok() == strict.allows(address.into()));
    }
}

/// A line with a secret, followed by a provider's message.
fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (secret, words) = text.split_once('\n').unwrap_or(("", &text));
    // Tokens are long, and contain no character that quoting would add.
    let is_token = secret.len() >= 8 && secret.chars().all(|c| c.is_ascii_graphic() && !"[]".contains(c));
    let hidden = SecretString::from(if is_token { secret } else { TOKEN });
    let quoted = wire::quote(words, &[&hidden]);
    assert!(quoted.chars().count() <= 300 && !quoted.chars().any(char::is_control));
    let identified = wire::identifier(words, &[&hidden]);
    assert!(identified.as_ref().is_none_or(|found| found == words && quoted == words));
    if is_token {
        assert!(!quoted.contains(secret) && identified.is_none_or(|found| !found.contains(secret)));
    }
}

fn linq_answers(data: &[u8]) {
    let linq = linq::connection(settings(&[("token", TOKEN)])).expect("settings that suffice");
    let note = note(Container::Mp4);
    for answer in answers(data) {
        hides_secrets(linq.read_lines(now(), &answer));
        let mut memory = Memory::default();
        judged(&answer, linq.dispatched(now(), &note, &mut memory, &answer));
        asked(linq.understood::<Value>(now(), &note, &answer));
        if let Some(page) = asked(linq.understood::<Page>(now(), &note, &answer)) {
            for chat in page.chats {
                // The owner of a line may be unknown, but a chat is never direct with two recipients.
                let direct = |with| chat.is_direct_with(with, Some("+12052535597"));
                assert!(!(direct("+15550001111") && direct("ann.lee@example.com")));
            }
        }
        if let Some(ticket) = asked(linq.understood::<Ticket>(now(), &note, &answer)) {
            let headers = asked(signed_headers(&ticket, 67));
            assert!(headers.is_none_or(|headers| !headers.contains_key("content-length")));
        }
    }
}

fn wawp_answers(data: &[u8]) {
    let settings = settings(&[("instance_id", "A1B2C3D4E5F6"), ("access_token", TOKEN)]);
    let wawp = wawp::connection(settings).expect("settings that suffice");
    let note = note(Container::Ogg);
    for answer in answers(data) {
        hides_secrets(wawp.read_session(now(), &answer));
        let outcome = wawp.dispatched(now(), &note, &answer);
        if matches!(answer.status.as_u16(), 408 | 500..) {
            let held = outcome.as_ref().is_err_and(|error| error.kind.disposition() == Disposition::Hold);
            assert!(
                held || answer.status.as_u16() >= 600,
                "a fault after the note was handed over proves nothing"
            );
        }
        judged(&answer, outcome);
    }
}

/// A body that Linq signed, and the same with a signature that it did not make.
fn linq_callbacks(data: &[u8]) {
    let secret = format!("whsec_{WEBHOOK_SECRET}");
    let linq = linq::connection(settings(&[("token", TOKEN), ("webhook_secret", &secret)]));
    let key = BASE64_STANDARD.decode(WEBHOOK_SECRET).expect("base64");
    let time = now().as_second().to_string();
    let signature = signature::sign(&key, "evt_1", &time, data);
    let headers = [("webhook-id", "evt_1"), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    let request = called(&headers, &[], data);
    let linq = linq.expect("settings that suffice");
    let heard = linq.callback(&request);
    assert!(matches!(heard, Ok(_) | Err(CallbackError::Malformed)), "signed, and not believed: {heard:?}");
    let named = |callback: &Callback| callback.events.iter().all(|event| event.id.is_some());
    assert!(heard.as_ref().is_ok_and(named) || heard.is_err());
    receipts(&linq, &request, heard, WEBHOOK_SECRET);

    // The bytes are tried as a signature, and as the signed body.
    let text = String::from_utf8_lossy(data);
    let forged = [("webhook-id", "evt_1"), ("webhook-timestamp", &time), ("webhook-signature", &*text)];
    let body = &b"{\"event_type\": \"message.sent\"}"[..];
    assert_eq!(linq.callback(&called(&forged, &[], body)), Err(CallbackError::Forged));
    let mut other = data.to_vec();
    other.push(b' ');
    assert_eq!(linq.callback(&called(&headers, &[], &other)), Err(CallbackError::Forged));
}

/// A body with the valid token, and one with an arbitrary token.
fn wawp_callbacks(data: &[u8]) {
    let known =
        [("instance_id", "A1B2C3D4E5F6"), ("access_token", TOKEN), ("callback_token", WEBHOOK_SECRET)];
    let wawp = wawp::connection(settings(&known)).expect("settings that suffice");
    let request = called(&[], &[("token", WEBHOOK_SECRET)], data);
    let heard = wawp.callback(&request);
    assert!(matches!(heard, Ok(_) | Err(CallbackError::Malformed)), "the token is right: {heard:?}");
    receipts(&wawp, &request, heard, WEBHOOK_SECRET);

    let text = String::from_utf8_lossy(data);
    let tried = wawp.callback(&called(&[], &[("token", &text)], b"{\"event\": \"message.ack\"}"));
    assert!(text == WEBHOOK_SECRET || tried == Err(CallbackError::Forged), "{tried:?}");
}

fn waha_answers(data: &[u8]) {
    let settings = settings(&[("base_url", "http://waha.example"), ("api_key", TOKEN)]);
    let waha = waha::connection(settings).expect("settings that suffice");
    let note = note(Container::Ogg);
    for answer in answers(data) {
        asked(waha.read_answer(now(), &answer));
        judged(&answer, waha.dispatched(now(), &note, &answer));
    }
}

/// A body that WAHA signed, and bytes as a signature.
fn waha_callbacks(data: &[u8]) {
    let known = [("base_url", "http://waha.example"), ("api_key", TOKEN), ("webhook_secret", WEBHOOK_SECRET)];
    let waha = waha::connection(settings(&known)).expect("settings that suffice");
    let signature = signature::sign_body(WEBHOOK_SECRET.as_bytes(), data);
    let request = called(&[("x-webhook-hmac", &signature)], &[], data);
    assert_eq!(waha.admits(&request), Ok(()));
    let heard = waha.callback(&request);
    assert!(matches!(heard, Ok(_) | Err(CallbackError::Malformed)), "signed, and not believed: {heard:?}");
    receipts(&waha, &request, heard, WEBHOOK_SECRET);

    let text = String::from_utf8_lossy(data);
    let tried = waha.callback(&called(&[("x-webhook-hmac", &text)], &[], b"{\"event\": \"message.ack\"}"));
    assert_eq!(tried, Err(CallbackError::Forged));
}

fn evolution_answers(data: &[u8]) {
    let known = [("base_url", "http://evolution.example"), ("api_key", TOKEN), ("instance", "main")];
    let evolution = evolution::connection(settings(&known)).expect("settings that suffice");
    let note = note(Container::Ogg);
    for answer in answers(data) {
        // A question about the account is about no note, so there is no link to hide.
        without(&evolution.refused(now(), &answer), &[TOKEN]);
        judged(&answer, evolution.dispatched(now(), &note, &answer));
    }
}

/// A body that came with the token, and bytes as a token of either kind.
fn evolution_callbacks(data: &[u8]) {
    let known = [
        ("base_url", "http://evolution.example"),
        ("api_key", TOKEN),
        ("instance", "main"),
        ("callback_token", WEBHOOK_SECRET),
    ];
    let evolution = evolution::connection(settings(&known)).expect("settings that suffice");
    let request = called(&[], &[("token", WEBHOOK_SECRET)], data);
    let heard = evolution.callback(&request);
    assert!(matches!(heard, Ok(_) | Err(CallbackError::Malformed)), "the token is right: {heard:?}");
    receipts(&evolution, &request, heard, WEBHOOK_SECRET);

    let text = String::from_utf8_lossy(data);
    let bearer = format!("Bearer {text}");
    let body = b"{\"event\": \"messages.update\"}";
    for tried in [called(&[], &[("token", &text)], body), called(&[("authorization", &bearer)], &[], body)] {
        let tried = evolution.callback(&tried);
        assert!(text == WEBHOOK_SECRET || tried == Err(CallbackError::Forged), "{tried:?}");
    }
}

fn called(headers: &[(&str, &str)], query: &[(&str, &str)], body: &[u8]) -> CallbackRequest {
    let header = |(name, value): &(&str, &str)| {
        Some((HeaderName::try_from(*name).ok()?, HeaderValue::try_from(*value).ok()?))
    };
    CallbackRequest {
        method: Method::POST,
        headers: headers.iter().filter_map(header).collect(),
        query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: Bytes::copy_from_slice(body),
        now: now(),
    }
}

/// The data that is stored in the database and sent to the bot.
fn receipts(
    provider: &dyn Provider,
    request: &CallbackRequest,
    heard: Result<Callback, CallbackError>,
    secret: &str,
) {
    assert_eq!(provider.callback(request), heard, "the second time it says something else");
    let Ok(callback) = heard else { return };
    let ids = callback.events.iter().filter_map(|event| event.id.as_ref());
    assert!(ids.into_iter().all(|id| (1..=255).contains(&id.len())));
    for receipt in callback.receipts() {
        let ids = std::iter::once(&receipt.message_id).chain(&receipt.correlation_id);
        for id in ids {
            assert!((1..=255).contains(&id.len()) && !id.chars().any(char::is_control), "{id:?}");
        }
        assert_eq!(receipt.failure.is_some(), receipt.status == ReceiptStatus::Failed);
        if let Some(failure) = &receipt.failure {
            let upstream = serde_json::to_string(&failure.upstream).expect("JSON");
            assert!(!failure.detail.is_empty() && upstream.len() < 4000);
            hides(&upstream, &[TOKEN, secret]);
        }
        let stored = serde_json::to_value(receipt).expect("JSON");
        assert_eq!(&serde_json::from_value::<Receipt>(stored).expect("a receipt"), receipt);
    }
    for voice in callback.voices() {
        received(provider, voice);
    }
}

/// A voice note that somebody sent, whom the bot answers.
fn received(provider: &dyn Provider, voice: &InboundVoice) {
    assert!(matches!(voice.form, Form::Voice | Form::Audio) && provider.capabilities().inbound);
    assert!(voice.group || voice.from == voice.conversation);
    for to in [&voice.from, &voice.conversation] {
        let read = parse_recipient(to).expect("a recipient");
        assert_eq!(read.to_string(), *to);
        assert!(provider.recipient_key(&read).is_ok(), "{to}");
    }
    for id in std::iter::once(&voice.message_id).chain(&voice.reply_to) {
        assert!((1..=255).contains(&id.len()) && !id.chars().any(char::is_control), "{id:?}");
    }
    let name = voice.sender_name.as_deref().unwrap_or("-");
    assert!((1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control), "{name:?}");
    let stored = serde_json::to_value(voice).expect("JSON");
    assert_eq!(&serde_json::from_value::<InboundVoice>(stored).expect("a voice note"), voice);
}

fn settings(entries: &[(&str, &str)]) -> Settings {
    Settings::new(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect())
}

fn note(container: Container) -> OutboundNote {
    note_to("+15550001111", container)
}

fn note_to(recipient: &str, container: Container) -> OutboundNote {
    let audio = OutboundAudio {
        facts: AudioFacts {
            container,
            codec: Codec::new("aac"),
            mime_type: "audio/mp4".to_owned(),
            duration_ms: 2000,
            size_bytes: 67,
            sample_rate: 48_000,
            channels: 1,
            sha256: String::new(),
        },
        filename: "voice.m4a".to_owned(),
        path: "voice.m4a".into(),
        link: format!("https://gateway.example/m/{LINK_TOKEN}/voice.m4a").parse().expect("a URL"),
        provider_converts: false,
        waveform: vec![50; 64],
    };
    OutboundNote {
        id: "vn_0198c5f2-7c00-7000-8000-000000000001".to_owned(),
        to: parse_recipient(recipient).expect("a recipient"),
        content: Content::Audio { form: Form::Voice, audio, caption: None },
        reply_to: None,
    }
}

/// The answers in a file such as the fixtures are: status line, headers and body of each exchange. Where there is
/// no status line, everything is the body of a success.
fn answers(data: &[u8]) -> impl Iterator<Item = Answer> {
    let text = String::from_utf8_lossy(data).into_owned();
    let texts: Vec<String> = text.split("\n###").map(str::to_owned).collect();
    texts.into_iter().map(|text| {
        let (status, rest) = text
            .split_once("HTTP/1.1 ")
            .and_then(|(_, rest)| Some((rest.get(..3)?.parse().ok()?, rest.split_once('\n')?.1)))
            .unwrap_or((StatusCode::OK, &text));
        let (head, body) = rest.split_once("\n\n").unwrap_or(("", rest));
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        };
        let headers = head.lines().filter_map(header).collect();
        Answer { status, headers, body: Bytes::copy_from_slice(body.as_bytes()), is_cut: false }
    })
}

/// The outcome of the visible request.
fn judged(answer: &Answer, outcome: Result<Accepted, SendError>) {
    match outcome {
        Ok(accepted) => {
            assert!(answer.status.is_success() && !accepted.message_id.is_empty());
            hides(&accepted.trace.unwrap_or_default(), &[TOKEN, LINK_TOKEN]);
        }
        Err(error) => {
            // A success that is not understood may have been one.
            let repeated = matches!(error.kind.disposition(), Disposition::Retry | Disposition::SlowDown);
            assert!(!repeated || !answer.status.is_success() || !answer.json().is_null());
            harmless(&error);
        }
    }
}

fn asked<T>(outcome: Result<T, SendError>) -> Option<T> {
    outcome.inspect_err(harmless).ok()
}

/// The texts for an operator on a terminal. No note is in flight then, so there is no link to hide.
fn hides_secrets(outcome: Result<String, SendError>) {
    match outcome {
        Ok(text) => {
            assert!((1..1000).contains(&text.len()) && !text.chars().any(char::is_control), "{text:?}");
            hides(&text, &[TOKEN]);
        }
        Err(error) => without(&error, &[TOKEN]),
    }
}

fn harmless(error: &SendError) {
    without(error, &[TOKEN, LINK_TOKEN]);
}

fn without(error: &SendError, secrets: &[&str]) {
    assert!(!error.detail.is_empty() && error.retry_after.is_none_or(|wait| wait <= DAY));
    let upstream = serde_json::to_string(&error.upstream).expect("JSON");
    let message =
        error.upstream.as_ref().and_then(|upstream| upstream.message.as_deref()).unwrap_or_default();
    assert!(message.chars().count() <= 300 && !message.chars().any(char::is_control));
    for text in [&error.detail, &format!("{error:?}"), &upstream] {
        hides(text, secrets);
    }
}

fn hides(text: &str, secrets: &[&str]) {
    assert!(secrets.iter().all(|secret| !text.contains(*secret)), "{text}");
}
