//! Adapters against the emulators of the sandbox, which share no code with them: what is sent arrives whole, refusals mean
//! what they say, and events are believed.

use crate::{fixture, run};
use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use voicegate_providers::{
    Accepted, CallbackRequest, Content, Context, Form, Memory, OutboundNote, Provider, ReceiptStatus, Scope,
    SendError, SendErrorKind,
};
use voicegate_sandbox::{
    Fault, FaultAction, LedgerEntry, Operation, Provider as Emulator, Sandbox, SandboxOptions,
};

use crate::fixture::Fixture;

/// A sandbox on a port of its own.
pub struct Served {
    pub sandbox: Sandbox,
    pub base: String,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    pub async fn start() -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(sandbox.clone().serve(listener));
        Self { sandbox, base, server }
    }

    /// A connection with the emulator's own settings, and these beside them.
    pub fn connection(&self, name: &str, more: Value) -> Arc<dyn Provider> {
        let descriptor = voicegate_providers::find(name).expect("an adapter");
        let door = self.sandbox.doors(&self.base).into_iter().find(|door| door.provider == name);
        let mut settings: Map<String, Value> =
            door.and_then(|door| door.settings.as_object().cloned()).expect("an emulator");
        settings.extend(more.as_object().cloned().unwrap_or_default());
        run::build(descriptor, settings)
    }

    pub fn last(&self) -> LedgerEntry {
        self.sandbox.ledger().pop().expect("a message")
    }
}

/// One second of a phone's own kind of note.
pub fn opus() -> Vec<u8> {
    use ogg::writing::{PacketWriteEndInfo, PacketWriter};
    let mut head = b"OpusHead\x01\x01\x38\x01\x80\x3e".to_vec();
    head.extend([0; 5]);
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::new(&mut bytes);
    let tags = &b"OpusTags\x08\0\0\0Recorder\0\0\0\0"[..];
    writer.write_packet(head, 7, PacketWriteEndInfo::EndPage, 0).expect("written");
    writer.write_packet(tags, 7, PacketWriteEndInfo::EndPage, 0).expect("written");
    for n in 1..=50 {
        let info = if n == 50 { PacketWriteEndInfo::EndStream } else { PacketWriteEndInfo::NormalPacket };
        writer.write_packet(vec![9 << 3; 40], 7, info, n * 960).expect("written");
    }
    bytes
}

/// Put in place at once: tests run in processes of their own, side by side, and all read this file.
fn opus_file() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (own, path) =
        (folder.join(format!("emulators.{}", std::process::id())), folder.join("emulators.ogg"));
    fs::write(&own, opus()).expect("written");
    fs::rename(&own, &path).expect("renamed");
    path
}

pub fn note(provider: &dyn Provider, to: &str, form: Form) -> OutboundNote {
    let mut fixture: Fixture = fixture::parse("ok", "# made here, not from http\n").expect("a fixture");
    fixture.form = form;
    fixture.to = to.to_owned();
    let mut note = run::note(provider, &fixture);
    if let Content::Audio { form: Form::Voice, audio, .. } = &mut note.content {
        let bytes = opus();
        audio.facts.size_bytes = bytes.len() as u64;
        audio.facts.sha256 = hex::encode(Sha256::digest(&bytes));
        audio.path = opus_file();
    }
    note
}

pub async fn send(provider: &dyn Provider, cx: &Context, note: &OutboundNote) -> Result<Accepted, SendError> {
    let mut memory = Memory::default();
    let prepared = provider.prepare(cx, note, &mut memory).await?;
    provider.dispatch(cx, note, prepared, &mut memory).await
}

/// The gateways whose emulators are held against their adapters here.
const GATEWAYS: [&str; 2] = ["waha", "evolution"];

#[tokio::test]
async fn every_form_arrives_in_that_form() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    for name in GATEWAYS {
        let provider = served.connection(name, json!({}));
        assert!(
            provider
                .check(&cx)
                .await
                .is_ok_and(|report| report.contains("WORKING") || report.contains("open"))
        );
        for form in provider.capabilities().forms.iter().map(|support| support.form) {
            for to in ["+15551234567", "120363000000000000@g.us", "99887766554433@lid"] {
                let note = note(&*provider, to, form);
                let accepted = send(&*provider, &cx, &note)
                    .await
                    .unwrap_or_else(|error| panic!("{name} {form:?}: {error:?}"));
                let shown = served.last();
                assert_eq!(json!(shown.form), json!(form), "{name}");
                assert!(
                    shown.message_id.ends_with(&accepted.message_id),
                    "{name}: {} {accepted:?}",
                    shown.message_id
                );
                if form == Form::Voice {
                    assert_eq!(shown.problems, Vec::<String>::new(), "{name} to {to}");
                    assert_eq!(shown.sha256.as_ref(), note.audio().map(|audio| &audio.facts.sha256));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_engine_of_waha_names_the_message() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    for session in ["default", "wpp", "noweb", "gows"] {
        let provider = served.connection("waha", json!({"session": session}));
        let accepted =
            send(&*provider, &cx, &note(&*provider, "+15551234567", Form::Voice)).await.expect("accepted");
        let raw = served.last().message_id.rsplit('_').next().map(str::to_owned).expect("an id");
        assert!(
            accepted.message_id.ends_with(&raw) && accepted.correlation_ids == [raw],
            "{session}: {accepted:?}"
        );
    }
}

#[tokio::test]
async fn a_brazilian_number_is_sent_to_as_whatsapp_knows_it() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    let provider = served.connection("waha", json!({}));
    for (to, chat) in [
        ("+5531988887777", "553188887777@c.us"),
        ("+553188887777", "553188887777@c.us"),
        ("+15551234567", "15551234567@c.us"),
    ] {
        send(&*provider, &cx, &note(&*provider, to, Form::Voice)).await.expect("accepted");
        assert_eq!(served.last().to, [chat], "{to}");
    }
}

#[tokio::test]
async fn recipients_out_of_reach_are_named_by_error_kind() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    for (name, settings, to, kind) in [
        ("waha", json!({}), "+15550000404", SendErrorKind::NotReachable),
        ("waha", json!({}), "+15550000463", SendErrorKind::ConversationClosed),
        ("waha", json!({"session": "scanning"}), "+15551234567", SendErrorKind::Misconfigured),
        ("waha", json!({"session": "starting"}), "+15551234567", SendErrorKind::NotReady),
        ("waha", json!({"session": "nobody"}), "+15551234567", SendErrorKind::Unavailable),
        ("waha", json!({"session": "nobody"}), "+5531988887777", SendErrorKind::Unavailable),
        ("evolution", json!({}), "+15550000404", SendErrorKind::NotReachable),
        ("evolution", json!({"instance": "closed"}), "+15551234567", SendErrorKind::Unavailable),
        ("evolution", json!({"instance": "nobody"}), "+15551234567", SendErrorKind::Misconfigured),
    ] {
        let provider = served.connection(name, settings);
        let outcome = send(&*provider, &cx, &note(&*provider, to, Form::Voice)).await;
        let error = outcome.expect_err("a refusal");
        assert_eq!(error.kind, kind, "{name} to {to}: {error:?}");
        if kind == SendErrorKind::ConversationClosed {
            // The emulator's lock ends a day from now, by a clock of its own.
            assert!(
                error.scope == Scope::Connection && error.until.is_some(),
                "{:?} {:?}",
                error.scope,
                error.until
            );
        }
    }
    assert_eq!(served.sandbox.ledger_len(), 0);
}

/// Evolution repeats the file in its answer, which is then longer than what is kept of an answer.
#[tokio::test]
async fn an_answer_of_megabytes_is_a_success() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    let provider = served.connection("evolution", json!({"callback_token": "secret-token-0123456"}));
    let hook = json!({"enabled": true, "url": "http://127.0.0.1:9/x", "base64": true, "events": ["CALL"]});
    set_webhook(&served, hook).await;
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("emulators.large");
    let mut bytes = opus();
    bytes.resize(3_000_000, 0);
    fs::write(&path, &bytes).expect("written");
    let mut large = note(&*provider, "+15551234567", Form::Voice);
    if let Content::Audio { audio, .. } = &mut large.content {
        audio.path = path;
        audio.facts.size_bytes = bytes.len() as u64;
    }
    let accepted = send(&*provider, &cx, &large).await.expect("accepted");
    assert_eq!(accepted.message_id, served.last().message_id);
}

/// Sets the webhook of Evolution's instance by hand, as an operator does.
async fn set_webhook(served: &Served, webhook: Value) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let set = client.post(format!("{}/evolution/webhook/set/sandbox", served.base));
    let set = set.header("apikey", "sandbox-evolution-key").header("content-type", "application/json");
    let body = json!({"webhook": webhook}).to_string();
    assert_eq!(set.body(body).send().await.expect("an answer").status(), 201);
}

#[tokio::test]
async fn a_token_that_evolution_signs_is_believed() {
    let secret = "secret-of-our-own-0123456789";
    let served = Served::start().await;
    let provider = served.connection("evolution", json!({"callback_token": secret}));
    let cx = run::context(run::LONG, true);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/callbacks/acme/main", listener.local_addr().expect("an address"));
    let headers = json!({"jwt_key": secret});
    let events = ["MESSAGES_UPDATE", "SEND_MESSAGE", "MESSAGES_UPSERT"];
    set_webhook(&served, json!({"enabled": true, "url": address, "headers": headers, "events": events}))
        .await;
    let address = address.parse().expect("a URL");
    assert_eq!(provider.callback_status(&cx, &address).await.ok().as_deref(), Some("receipts on"));
    send(&*provider, &cx, &note(&*provider, "+15551234567", Form::Voice)).await.expect("accepted");
    let request =
        tokio::time::timeout(Duration::from_secs(20), called(&listener, cx.now)).await.expect("in time");
    assert!(provider.callback(&request).is_ok_and(|callback| !callback.events.is_empty()));
    let other = served.connection("evolution", json!({"callback_token": "secret-of-others-0123456789"}));
    assert!(other.callback(&request).is_err(), "signed with another key");
}

/// Reads the next request that comes to `listener`, and answers 200.
async fn called(listener: &TcpListener, now: jiff::Timestamp) -> CallbackRequest {
    let (mut stream, _) = listener.accept().await.expect("a caller");
    let request = read(&mut stream, now).await;
    answer(&mut stream, 200, "").await;
    request
}

/// Answers a request and closes its connection.
pub async fn answer(stream: &mut TcpStream, status: u16, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("answered");
}

/// Reads a request that somebody makes.
pub async fn read(stream: &mut TcpStream, now: jiff::Timestamp) -> CallbackRequest {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.expect("bytes") > 0, "a request that ends");
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head in ASCII");
    let mut lines = head.lines();
    let mut first = lines.next().expect("a first line").split(' ');
    let method: Method = first.next().and_then(|method| method.parse().ok()).expect("a method");
    let target = first.next().expect("a target").to_owned();
    let headers: HeaderMap = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a name");
            (name, HeaderValue::from_str(value.trim()).expect("a value"))
        })
        .collect();
    let length = headers.get("content-length").map_or(Some("0"), |value| value.to_str().ok());
    let length: usize = length.and_then(|text| text.parse().ok()).expect("a number");
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        assert!(stream.read_buf(&mut body).await.expect("bytes") > 0, "a body that ends");
    }
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    CallbackRequest { method, headers, query, body: Bytes::from(body), now }
}

#[tokio::test]
async fn registered_address_receives_the_outcome_of_a_note_whose_answer_was_lost() {
    let secret = "secret-of-our-own-0123456789";
    for (name, setting, sessions) in [
        ("waha", "webhook_secret", &["default", "wpp", "noweb", "gows"][..]),
        ("evolution", "callback_token", &["sandbox"][..]),
    ] {
        for session in sessions {
            let served = Served::start().await;
            let mut settings = json!({setting: secret});
            settings[if name == "waha" { "session" } else { "instance" }] = json!(session);
            let provider = served.connection(name, settings);
            let cx = run::context(run::LONG, true);
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address =
                format!("http://{}/callbacks/acme/main", listener.local_addr().expect("an address"));
            let address = address.parse().expect("a URL");
            assert!(provider.callback_status(&cx, &address).await.is_err(), "{name}: nothing is registered");
            for _ in 0..2 {
                provider
                    .register_callbacks(&cx, &address)
                    .await
                    .unwrap_or_else(|error| panic!("{name}: {error:?}"));
            }
            assert_eq!(
                provider.callback_status(&cx, &address).await.ok().as_deref(),
                Some("receipts on"),
                "{name}"
            );

            let emulator = Emulator::named(name).expect("an emulator");
            served.sandbox.add_fault(Fault::new(emulator, Operation::Voice, FaultAction::ResetAfter));
            let note = note(&*provider, "+15551234567", Form::Voice);
            let mut memory = Memory::default();
            let prepared = provider.prepare(&cx, &note, &mut memory).await.expect("ready");
            let names = prepared.correlation_ids.clone();
            let lost = provider.dispatch(&cx, &note, prepared, &mut memory).await.expect_err("no answer");
            assert_eq!(lost.kind, SendErrorKind::OutcomeUnknown);
            let mut heard = Vec::new();
            while heard.len() < 3 {
                let request = tokio::time::timeout(Duration::from_secs(20), called(&listener, cx.now)).await;
                let request = request.expect("three events in time");
                assert_eq!(provider.admits(&request), Ok(()), "{name}");
                let callback =
                    provider.callback(&request).unwrap_or_else(|error| panic!("{name}: {error:?}"));
                heard.extend(callback.receipts().cloned());
                let mut forged = request.clone();
                forged.query.clear();
                forged.headers.clear();
                assert!(provider.callback(&forged).is_err(), "{name}: anybody is believed");
            }
            let statuses: Vec<_> = heard.iter().map(|receipt| receipt.status).collect();
            let expected = [ReceiptStatus::Accepted, ReceiptStatus::Sent, ReceiptStatus::Delivered];
            assert_eq!(statuses, expected, "{name} {session}");
            let first = heard[0].guess.as_ref().expect("a name");
            assert!(names.contains(first), "{name} {session}: {first} is none of {names:?}");
            let raw = |id: &str| id.rsplit('_').next().unwrap_or_default().to_owned();
            assert!(heard.iter().all(|receipt| raw(&receipt.message_id) == raw(&heard[0].message_id)));
        }
    }
}
