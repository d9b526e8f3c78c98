//! Callbacks about several messages. A provider repeats a message until its callback was answered, in whichever company: each
//! message makes one note.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use axum::{Json, Router, extract::Query, routing::get};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    bot::Bot,
    harness::{World, fixture, read},
    house::{path, received},
    inbound::{PROVIDERS, received_by, with_emulators},
};

/// A number of callbacks, as a provider sends them that gets no answer for a while.
const CALLBACKS: usize = 50;

/// The two numbers of the emulated app, in the order of their connections.
const NUMBERS: [&str; 2] = ["106540352242922", "106540352242933"];
const CONNECTIONS: [&str; 2] = ["whatsapp-cloud", "second"];

/// One message, as Meta tells of it, with the number that it was sent to.
#[derive(Clone)]
struct Message {
    number: String,
    account: Value,
    metadata: Value,
    contact: Value,
    message: Value,
}

impl Message {
    /// Reads a callback about one message.
    fn only(body: &Value) -> Self {
        let entry = &body["entry"][0];
        let value = &entry["changes"][0]["value"];
        Self {
            number: path(&value["metadata"]["phone_number_id"]).to_owned(),
            account: entry["id"].clone(),
            metadata: value["metadata"].clone(),
            contact: value["contacts"][0].clone(),
            message: value["messages"][0].clone(),
        }
    }

    fn id(&self) -> &str {
        path(&self.message["id"])
    }

    fn media(&self) -> &str {
        path(&self.message["audio"]["id"])
    }
}

/// A callback about these messages, in this order, which are grouped at random into entries, changes and lists of messages.
fn batch(random: &mut StdRng, messages: &[&Message]) -> String {
    let mut entries: Vec<Vec<Vec<&Message>>> = Vec::new();
    for &message in messages {
        let (same_entry, same_change) = (random.random_bool(0.6), random.random_bool(0.6));
        match entries.last_mut().filter(|_| same_entry) {
            Some(changes) => match changes.last_mut().filter(|_| same_change) {
                // A change is about one number.
                Some(list) if list.iter().all(|other| other.number == message.number) => list.push(message),
                _ => changes.push(vec![message]),
            },
            None => entries.push(vec![vec![message]]),
        }
    }
    let change = |list: &Vec<&Message>| {
        let contacts: Vec<&Value> = list.iter().map(|message| &message.contact).collect();
        let messages: Vec<&Value> = list.iter().map(|message| &message.message).collect();
        let value = json!({
            "messaging_product": "whatsapp",
            "metadata": list[0].metadata,
            "contacts": contacts,
            "messages": messages,
        });
        json!({ "field": "messages", "value": value })
    };
    let entry = |changes: &Vec<Vec<&Message>>| json!({ "id": changes[0][0].account, "changes": changes.iter().map(change).collect::<Vec<_>>() });
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    json!({ "object": "whatsapp_business_account", "entry": entries }).to_string()
}

/// A signature as in `X-Hub-Signature-256`.
fn signed(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// An address that keeps what is sent there. It stands between the emulator and the gateway, and regroups.
async fn ear() -> (String, Arc<Mutex<Vec<Value>>>) {
    let heard = Arc::<Mutex<Vec<Value>>>::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let keep = heard.clone();
    let hook = async move |Json(body): Json<Value>| keep.lock().expect("unpoisoned").push(body);
    let challenge = async |Query(mut query): Query<HashMap<String, String>>| {
        query.remove("hub.challenge").unwrap_or_default()
    };
    let app = Router::new().route("/", get(challenge).post(hook));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, heard)
}

/// A gateway with a connection to each number of an app of Meta's, whose callbacks go to an ear.
struct House {
    world: World,
    bot: Bot,
    base: String,
    heard: Arc<Mutex<Vec<Value>>>,
    secret: String,
}

impl House {
    async fn start() -> Self {
        let (world, bot, base) = with_emulators("").await;
        let doors = world.sandbox.doors(&base);
        let door = doors.iter().find(|door| door.provider == CONNECTIONS[0]).expect("an emulator");
        let mut settings = door.settings.clone();
        settings["phone_number_id"] = json!(NUMBERS[1]);
        let settings_text = toml::to_string(&settings).expect("TOML");
        let [first, second] = CONNECTIONS;
        let section = format!("[tenants.a.connections.{second}]\nprovider = \"{first}\"\n{settings_text}\n");
        world.reconfigure(|config| config + &section).expect("sound");
        let (ear, heard) = ear().await;
        for number in NUMBERS {
            let url = format!("{}/{number}", path(&settings["base_url"]));
            let body = json!({ "webhook_configuration":
                { "override_callback_uri": ear, "verify_token": settings["verify_token"] } });
            let request = world.http.post(url).bearer_auth(path(&settings["access_token"])).json(&body);
            let (status, answer) = read(request.send().await.expect("an answer")).await;
            assert_eq!(status, 200, "{answer}");
        }
        let secret = path(&settings["app_secret"]).to_owned();
        Self { world, bot, base, heard, secret }
    }

    /// Has a person send a voice note. The gateway does not hear of it.
    async fn say(&self, n: usize) -> Message {
        let order = json!({
            "provider": CONNECTIONS[0],
            "account": NUMBERS[n % 2],
            "from": format!("+1555123{:04}", n % 5),
            "sender_name": "Ann",
            "audio": BASE64_STANDARD.encode(fixture("recorder-wideband.ogg")),
        });
        let order = serde_json::from_value(order).expect("an order");
        self.world.sandbox.send_in(&self.base, order).await.expect("sent");
        let heard = self.heard.lock().expect("unpoisoned");
        Message::only(heard.last().expect("a callback"))
    }

    /// Calls the gateway as Meta does, and returns the status of the answer. Either connection's address takes everything.
    async fn call(&self, n: usize, body: &str, signature: Option<String>) -> u16 {
        let url = format!("{}/callbacks/a/{}", self.world.url, CONNECTIONS[n % 2]);
        let mut request = self.world.http.post(url).header("content-type", "application/json");
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        request.body(body.to_owned()).send().await.expect("an answer").status().as_u16()
    }

    /// Paths of the emulator that were asked for the file or the link of a message.
    fn asked(&self) -> Vec<String> {
        let requests = self.world.sandbox.requests().into_iter();
        let asked = requests.filter(|request| request.provider == CONNECTIONS[0] && request.method == "GET");
        asked.map(|request| format!("{}?{}", request.path, request.query.unwrap_or_default())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_in_batches_regrouped_at_random_make_one_note_each() {
    let seed = std::env::var("SEED").map_or(17, |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = House::start().await;
    let mut messages = Vec::new();
    for n in 0..12 {
        messages.push(house.say(n).await);
    }
    // Messages of which no genuine callback tells.
    let strangers = [house.say(12).await, house.say(13).await];
    let last = house.say(14).await;

    let mut calls = Vec::new();
    let mut untold: BTreeSet<usize> = (0..messages.len()).collect();
    for n in 0..CALLBACKS {
        // A message may be in one callback twice.
        let size = random.random_range(1..=6);
        let mut picked: Vec<usize> = (0..size).map(|_| random.random_range(0..messages.len())).collect();
        for index in &picked {
            untold.remove(index);
        }
        if n == CALLBACKS - 1 {
            picked.extend(&untold);
        }
        let picked: Vec<&Message> = picked.iter().map(|&index| &messages[index]).collect();
        let body = batch(&mut random, &picked);
        let signature = signed(&house.secret, &body);
        calls.push((n, body, Some(signature.clone()), 200));

        // Forgeries in between.
        let stranger = &strangers[n % 2];
        let body = batch(&mut random, &[picked.as_slice(), &[stranger]].concat());
        let forged = match n % 5 {
            0 => None,
            1 => Some(signature),
            2 => Some(signed("another-app-secret", &body)),
            3 => Some(signed(&house.secret, &body).replace("sha256=", "")),
            _ => Some(signed(&house.secret, &body).replace("sha256=", "sha1=")),
        };
        calls.push((n, body, forged, 401));
    }
    let answers: Vec<(u16, u16)> = futures_util::stream::iter(&calls)
        .map(async |(n, body, signature, expected)| {
            (house.call(*n, body, signature.clone()).await, *expected)
        })
        .buffer_unordered(8)
        .collect()
        .await;
    for (answer, expected) in answers {
        assert_eq!(answer, expected);
    }
    received_by(&house.bot, messages.len()).await;
    // Once more all of them, one by one and in one batch, and at last another message.
    for (n, message) in messages.iter().enumerate() {
        let body = batch(&mut random, &[message]);
        assert_eq!(house.call(n, &body, Some(signed(&house.secret, &body))).await, 200);
    }
    messages.push(last);
    let body = batch(&mut random, &messages.iter().collect::<Vec<_>>());
    assert_eq!(house.call(0, &body, Some(signed(&house.secret, &body))).await, 200);

    let told = received_by(&house.bot, messages.len()).await;
    let notes: Vec<Value> = told.iter().map(received).collect();
    let ids = |of: &dyn Fn(&Value) -> String| notes.iter().map(of).collect::<BTreeSet<String>>();
    assert_eq!(notes.len(), messages.len(), "{notes:#?}");
    assert_eq!(ids(&|note| path(&note["id"]).to_owned()).len(), messages.len());
    let expected: BTreeSet<String> = messages.iter().map(|message| message.id().to_owned()).collect();
    assert_eq!(ids(&|note| path(&note["provider_message_id"]).to_owned()), expected);
    for message in &messages {
        let note = notes.iter().find(|note| note["provider_message_id"] == message.id()).expect("a note");
        let via = CONNECTIONS[NUMBERS.iter().position(|number| *number == message.number).expect("a number")];
        let from = format!("+{}", path(&message.message["from"]));
        assert_eq!(
            (&note["status"], &note["via"], &note["from"]),
            (&json!("received"), &json!(via), &json!(from)),
            "{note}"
        );
        let asked = house.asked().iter().filter(|path| path.contains(message.media())).count();
        assert_eq!(asked, 2, "its link is asked for once, and its file once");
    }
    for stranger in &strangers {
        assert!(!house.asked().iter().any(|path| path.contains(stranger.media())), "nothing is fetched");
    }
    let listed = house.world.get("/received?limit=100").send().await.expect("an answer");
    assert_eq!(read(listed).await.1["items"].as_array().map(Vec::len), Some(messages.len()));
}

/// The other providers tell of one message at a time, and of other messages in between.
#[tokio::test(flavor = "multi_thread")]
async fn message_that_every_provider_repeats_among_others_makes_one_note() {
    let (world, bot, base) = with_emulators("").await;
    let audio = BASE64_STANDARD.encode(fixture("recorder-wideband.ogg"));
    for (turn, (provider, _, from, _)) in PROVIDERS.into_iter().enumerate() {
        let say = async |more: Value| {
            let mut order = json!({ "provider": provider, "from": from, "audio": audio });
            order.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let order = serde_json::from_value(order).expect("an order");
            world.sandbox.send_in(&base, order).await.unwrap_or_else(|why| panic!("{provider}: {why}"))
        };
        let mut ids = Vec::new();
        for more in [json!({}), json!({}), json!({ "copies": CALLBACKS, "regroup": true })] {
            let sent = say(more).await;
            assert!(sent.answers.iter().all(|answer| answer == "200"), "{provider}: {:?}", sent.answers);
            ids.push(sent.message_id);
        }
        let told = received_by(&bot, 3 * (turn + 1)).await;
        let of: Vec<String> = told
            .iter()
            .map(received)
            .filter(|note| note["provider"] == provider)
            .map(|note| path(&note["provider_message_id"]).to_owned())
            .collect();
        for id in &ids {
            assert_eq!(of.iter().filter(|told| *told == id).count(), 1, "{provider}: {of:?}");
        }
        let forged = say(json!({ "forged": true })).await;
        assert!(forged.answers.iter().all(|answer| answer == "401"), "{provider}: {:?}", forged.answers);
    }
    let told = received_by(&bot, 3 * PROVIDERS.len()).await;
    assert_eq!(told.len(), 3 * PROVIDERS.len());
}
