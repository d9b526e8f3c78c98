//! Voice notes that people send in through the emulators: the adapters hear of them as the provider tells it, fetch the
//! same bytes, and name every misbehaviour of the provider's file server.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use voicegate_providers::{Form, InboundVoice, Provider, SendErrorKind, What};
use voicegate_sandbox::{Inbound, SentIn};

use crate::{
    run::{self, Limited},
    sending::{Served, answer, note, opus, read, send},
};

const SECRET: &str = "secret-of-our-own-0123456789";

/// The providers over which notes come in, the setting of their callbacks' secret, a person, a group, and who the person
/// is in the gateway's words.
const PROVIDERS: [(&str, &str, &str, Option<&str>, &str); 6] = [
    ("linq", "webhook_secret", "+15551234567", None, "+15551234567"),
    ("wawp", "callback_token", "+15551234567", Some("120363000000000000@g.us"), "+15551234567"),
    ("waha", "webhook_secret", "+15551234567", Some("120363000000000000@g.us"), "+15551234567"),
    ("evolution", "callback_token", "15551234567@c.us", Some("120363000000000000@g.us"), "+15551234567"),
    ("whatsapp-cloud", "verify_token", "+15551234567", None, "+15551234567"),
    (
        "telegram",
        "webhook_secret",
        "telegram:700000001",
        Some("telegram:-1001234567890/17"),
        "telegram:700000001",
    ),
];

/// A gateway that only listens: every callback that its connection believes, and how many it refused.
struct Gateway {
    provider: Arc<dyn Provider>,
    heard: Arc<Mutex<Heard>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    /// The events about voice notes, by their ids, as often as they came.
    voices: Vec<(Option<String>, InboundVoice)>,
    believed: usize,
    refused: usize,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[allow(clippy::disallowed_methods, reason = "the emulators sign with the time of this machine")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

impl Gateway {
    /// A connection to an emulator, with its callbacks registered there.
    async fn of(served: &Served, name: &str, more: Value) -> Self {
        let setting = PROVIDERS.iter().find(|(known, ..)| *known == name).map(|(_, setting, ..)| *setting);
        let mut settings = more;
        if name != "linq" {
            settings[setting.expect("a provider")] = json!(SECRET);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/callbacks/acme/main", listener.local_addr().expect("an address"));
        let provider = served.connection(name, settings.clone());
        let shared = Arc::new(Mutex::new(provider.clone()));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let task = tokio::spawn(listen(listener, shared.clone(), heard.clone()));
        let cx = run::context(run::LONG, true);
        let made = provider.register_callbacks(&cx, &address.parse().expect("a URL")).await;
        let made = made.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let provider = match made.secret {
            // Linq makes the secret, so the connection gets it now.
            Some((key, secret)) => {
                settings[key] = json!(secret.expose_secret());
                served.connection(name, settings)
            }
            None => provider,
        };
        *lock(&shared) = provider.clone();
        assert!(provider.capabilities().inbound, "{name}");
        Self { provider, heard, task }
    }

    fn voices(&self) -> Vec<InboundVoice> {
        lock(&self.heard).voices.iter().map(|(_, voice)| voice.clone()).collect()
    }

    fn one(&self) -> InboundVoice {
        let ids: BTreeSet<_> = lock(&self.heard).voices.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        self.voices().pop().expect("a voice note")
    }

    /// Fetches the audio; `limit` bytes of it at most.
    async fn fetch(
        &self,
        voice: &InboundVoice,
        limit: usize,
        timeout: Duration,
    ) -> Result<Vec<u8>, SendErrorKind> {
        let mut out = Limited { bytes: Vec::new(), limit };
        let cx = run::context(timeout, false);
        let fetched = self.provider.fetch(&cx, &voice.media, &mut out).await;
        fetched.map(|_| out.bytes).map_err(|error| error.kind)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, provider: Arc<Mutex<Arc<dyn Provider>>>, heard: Arc<Mutex<Heard>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let (provider, heard) = (lock(&provider).clone(), heard.clone());
        tokio::spawn(async move {
            let request = read(&mut stream, now()).await;
            let Ok(callback) = provider.admits(&request).and_then(|()| provider.callback(&request)) else {
                lock(&heard).refused += 1;
                return answer(&mut stream, 401, "").await;
            };
            lock(&heard).believed += 1;
            for event in callback.events {
                if let What::Voice(voice) = event.what {
                    lock(&heard).voices.push((event.id, voice));
                }
            }
            answer(&mut stream, 200, &callback.answer.unwrap_or_default()).await;
        });
    }
}

async fn send_in(served: &Served, name: &str, more: Value) -> SentIn {
    let person = PROVIDERS.iter().find(|(known, ..)| *known == name).map(|(_, _, person, ..)| *person);
    let mut order = json!({"provider": name, "from": person, "sender_name": "Ann",
                           "audio": BASE64_STANDARD.encode(opus())});
    for (key, value) in more.as_object().into_iter().flatten() {
        order[key] = value.clone();
    }
    let order: Inbound = serde_json::from_value(order).expect("an order");
    let sent = served.sandbox.send_in(&served.base, order).await;
    sent.unwrap_or_else(|why| panic!("{name}: {why}"))
}

const MUCH: usize = 1024 * 1024;

#[tokio::test]
async fn a_voice_note_through_each_emulator_is_heard_and_fetched() {
    let served = Served::start().await;
    for (name, _, _, group, person) in PROVIDERS {
        let gateway = Gateway::of(&served, name, json!({})).await;
        let sent = send_in(&served, name, json!({})).await;
        assert!(sent.answers.iter().all(|answer| answer == "200"), "{name}: {:?}", sent.answers);
        let voice = gateway.one();
        assert_eq!((voice.from.as_str(), voice.conversation.as_str()), (person, person), "{name}");
        assert_eq!((voice.form, voice.group), (Form::Voice, false), "{name}");
        assert_eq!(voice.message_id, sent.message_id, "{name}");
        assert!(voice.sender_name.is_none_or(|sender| sender == "Ann"), "{name}");
        let fetched = gateway.fetch(&gateway.one(), MUCH, run::LONG).await;
        if name == "linq" {
            // iPhones send their packets in CAF.
            assert!(fetched.is_ok_and(|audio| audio.starts_with(b"caff")));
        } else {
            assert_eq!(fetched, Ok(opus()), "{name}");
        }
        if let Some(group) = group {
            lock(&gateway.heard).voices.clear();
            send_in(&served, name, json!({"group": group})).await;
            let voice = gateway.one();
            assert_eq!((voice.from.as_str(), voice.conversation.as_str()), (person, group), "{name}");
            assert!(voice.group && gateway.fetch(&voice, MUCH, run::LONG).await.is_ok(), "{name}");
        }
        lock(&gateway.heard).voices.clear();
        send_in(&served, name, json!({"as_file": true, "mime_type": "audio/mpeg"})).await;
        assert_eq!(gateway.one().form, Form::Audio, "{name}");
    }
}

#[tokio::test]
async fn every_engine_of_waha_tells_of_a_voice_note() {
    let served = Served::start().await;
    for session in ["default", "wpp", "noweb", "gows"] {
        let gateway = Gateway::of(&served, "waha", json!({"session": session})).await;
        for group in [None, Some("120363000000000000@g.us")] {
            lock(&gateway.heard).voices.clear();
            send_in(&served, "waha", json!({"account": session, "group": group})).await;
            let voice = gateway.one();
            assert_eq!(voice.from, "+15551234567", "{session} {group:?}");
            assert_eq!(voice.conversation, group.unwrap_or("+15551234567"), "{session}");
            let fetched = gateway.fetch(&voice, MUCH, run::LONG).await;
            assert_eq!(fetched, Ok(opus()), "{session} {group:?}");
        }
    }
}

#[tokio::test]
async fn our_own_messages_and_forged_callbacks_say_nothing() {
    let served = Served::start().await;
    for (name, ..) in PROVIDERS {
        // The secret of Meta's signatures is the app's, which the emulator knows.
        let gateway = Gateway::of(&served, name, json!({})).await;
        // Wawp tells its `message` address nothing of what the phone sends.
        if name != "wawp" {
            send_in(&served, name, json!({"own": true})).await;
        }
        assert!(gateway.voices().is_empty(), "{name}: our own message");
        let refused = lock(&gateway.heard).refused;
        let sent = send_in(&served, name, json!({"forged": true})).await;
        assert!(sent.answers.iter().all(|answer| answer == "401"), "{name}: {:?}", sent.answers);
        assert!(gateway.voices().is_empty() && lock(&gateway.heard).refused > refused, "{name}: a forgery");
    }
}

#[tokio::test]
async fn fifty_regrouped_deliveries_are_one_note_each() {
    let served = Served::start().await;
    for (name, ..) in PROVIDERS {
        let gateway = Gateway::of(&served, name, json!({})).await;
        let mut sent = BTreeSet::new();
        for _ in 0..3 {
            sent.insert(send_in(&served, name, json!({})).await.message_id);
        }
        sent.insert(send_in(&served, name, json!({"copies": 50, "regroup": true})).await.message_id);
        let heard = lock(&gateway.heard);
        assert!(heard.voices.len() > 100, "{name}: {}", heard.voices.len());
        let ids: BTreeSet<_> = heard.voices.iter().map(|(id, _)| id.clone().expect("an id")).collect();
        let messages: BTreeSet<_> = heard.voices.iter().map(|(_, voice)| voice.message_id.clone()).collect();
        assert_eq!((ids.len(), messages), (4, sent), "{name}");
    }
}

#[tokio::test]
async fn misbehaving_file_servers_are_named_by_error_kind() {
    use SendErrorKind::{MediaTooLarge, Rejected, Unavailable};

    let served = Served::start().await;
    let foreign = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let foreign = format!("http://{}/a.ogg", foreign.local_addr().expect("an address"));
    for (name, ..) in PROVIDERS {
        let gateway = Gateway::of(&served, name, json!({})).await;
        for (media, kind) in [
            (json!({"kind": "expired"}), Rejected),
            (json!({"kind": "stall", "ms": 200}), Unavailable),
            (json!({"kind": "stall"}), Unavailable),
            (json!({"kind": "broken"}), Unavailable),
            (json!({"kind": "oversize", "bytes": 5_000_000}), MediaTooLarge),
            (json!({"kind": "redirect", "to": foreign}), Rejected),
            (json!({"kind": "elsewhere", "url": foreign}), Rejected),
        ] {
            lock(&gateway.heard).voices.clear();
            send_in(&served, name, json!({"media": media})).await;
            let fetched = gateway.fetch(&gateway.one(), MUCH, Duration::from_secs(2)).await;
            // Telegram's file server has one address, and Evolution's own server has what its bucket has.
            let has_it = matches!(name, "telegram" | "evolution") && media["kind"] == "elsewhere";
            // Telegram says the same of a file that is gone and of one that is not there at the moment.
            let kind = if name == "telegram" && media["kind"] == "expired" { Unavailable } else { kind };
            let expected = if has_it { Ok(opus()) } else { Err(kind) };
            assert_eq!(fetched, expected, "{name} {media}");
        }
        lock(&gateway.heard).voices.clear();
        send_in(&served, name, json!({"media": {"kind": "html"}})).await;
        let fetched = gateway.fetch(&gateway.one(), MUCH, run::LONG).await;
        let is_page = fetched.as_ref().is_ok_and(|bytes| bytes.starts_with(b"<html>"));
        assert!(is_page || fetched == Err(Unavailable), "{name}: {fetched:?}");
    }
}

#[tokio::test]
async fn a_received_note_is_answered_with_a_quote() {
    let served = Served::start().await;
    let cx = run::context(run::LONG, true);
    for name in ["waha", "telegram", "whatsapp-cloud"] {
        let person = if name == "telegram" { "telegram:123456789" } else { "+15551234567" };
        let gateway = Gateway::of(&served, name, json!({})).await;
        let sent = send_in(&served, name, json!({"from": person})).await;
        let voice = gateway.one();
        let mut reply = note(&*gateway.provider, &voice.conversation, Form::Voice);
        reply.reply_to = Some(voice.message_id.clone());
        let accepted = send(&*gateway.provider, &cx, &reply).await;
        let accepted = accepted.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(accepted.warnings.is_empty(), "{name}: {:?}", accepted.warnings);
        let entry = served.last();
        let quoted = entry.reply_to.unwrap_or_default();
        assert!(sent.message_id.ends_with(&quoted) && !quoted.is_empty(), "{name}: {quoted}");
        assert_eq!(entry.conversation, sent.conversation, "{name}: another conversation");

        // The person answers that answer.
        lock(&gateway.heard).voices.clear();
        send_in(&served, name, json!({"from": person, "reply_to": accepted.message_id})).await;
        let names: Vec<String> =
            std::iter::once(accepted.message_id).chain(accepted.correlation_ids).collect();
        let quoted = gateway.one().reply_to.expect("a quoted message");
        assert!(names.contains(&quoted), "{name}: {quoted} is none of {names:?}");
    }
}
