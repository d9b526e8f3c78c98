//! Random faults of providers, processes, databases, disks, ffmpeg, clocks and webhooks, repeatable from a seed. In
//! spite of them no note is sent twice, the notes of one recipient arrive in order, each note ends, and none is called
//! unknown without a reason.
//!
//! Longer runs: `make chaos NOTES=10000 KILLS=20 RESTARTS=10` (`SEED=...` repeats the same faults).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio_util::sync::CancellationToken;
use voicegate_sandbox::{Fault, FaultAction, NewChat, Operation, Provider, Sandbox, Service};

use crate::{
    accidents::Accidents,
    gateway::{KEY, Process},
    server::{Server, Stop},
    shared::on,
};

/// Recipients; every fourth one is reached over WhatsApp, where audio is encoded.
const LANES: usize = 16;

/// Time after the last fault within which everything that can be sent is sent.
const AFTER_THE_LAST_FAULT: Duration = Duration::from_secs(30);

/// Maximum number of waiting notes of one recipient. A bot that sent all of its notes at once would leave a backlog,
/// and the end of the run would measure the encoding speed of this machine.
const LEAD: usize = 5;

/// Minimum number of notes that arrive between two faults.
const NOTES_PER_FAULT: usize = 2;

struct Plan {
    /// The PostgreSQL that two processes share.
    server: Option<Server>,
    seed: u64,
    notes: usize,
    kills: usize,
    /// Number of restarts of the database.
    restarts: usize,
}

/// An interruption from outside.
#[derive(Clone, Copy, Debug)]
enum Interruption {
    /// A gateway is killed by SIGKILL.
    Kill,
    Database(Stop),
}

impl Plan {
    fn from_env(server: Option<Server>) -> Self {
        let read = |name: &str, default: u64| {
            std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
        };
        let count = |name, default| usize::try_from(read(name, default)).expect("a count");
        let restarts = count("CHAOS_RESTARTS", 2);
        Self {
            seed: read("CHAOS_SEED", 20_261_121),
            notes: count("CHAOS_NOTES", 160),
            kills: count("CHAOS_KILLS", 4),
            restarts: if server.is_some() { restarts } else { 0 },
            server,
        }
    }

    /// Returns all interruptions in a random order.
    fn interruptions(&self, random: &mut StdRng) -> Vec<Interruption> {
        let stops = [Stop::Immediate, Stop::Fast].into_iter().cycle().map(Interruption::Database);
        let mut interruptions: Vec<_> = stops.take(self.restarts).collect();
        interruptions.extend([Interruption::Kill].repeat(self.kills));
        interruptions.shuffle(random);
        interruptions
    }
}

#[tokio::test]
async fn one_process_sends_nothing_twice_and_loses_nothing() {
    run(Plan::from_env(None), configuration).await;
}

#[tokio::test]
async fn two_processes_of_which_one_is_killed_send_nothing_twice_and_lose_nothing() {
    // The server is the test's own, because it is stopped repeatedly while other tests run.
    let Some(server) = Server::start() else { return };
    let on = on(&server.url);
    run(Plan::from_env(Some(server)), move |config| configuration(on(config))).await;
}

async fn run(plan: Plan, configuration: impl FnOnce(String) -> String) {
    let Plan { seed, notes, kills, restarts, .. } = &plan;
    println!("CHAOS_SEED={seed} CHAOS_NOTES={notes} CHAOS_KILLS={kills} CHAOS_RESTARTS={restarts}");
    let accidents = Arc::new(Accidents::new().await);
    let edit = |config| accidents.configure(&configuration(config));
    let mut process = Process::with_environment("all", accidents.environment(), edit).await;
    let mut other = None;
    if plan.server.is_some() {
        other = Some(process.beside("all").await);
    }
    for lane in (0..LANES).filter(|lane| !is_whatsapp(*lane)) {
        let chat = NewChat {
            handles: vec![phone(lane)],
            service: Some(Service::IMessage),
            is_group: false,
            id: None,
        };
        process.sandbox.add_chat(chat);
    }
    let stop = CancellationToken::new();
    let ambiguous = Arc::new(AtomicUsize::new(0));
    let faults = tokio::spawn(inject(process.sandbox.clone(), plan.seed, ambiguous.clone(), stop.clone()));
    let happening = tokio::spawn({
        let (accidents, stop) = (accidents.clone(), stop.clone());
        let random = StdRng::seed_from_u64(plan.seed ^ 0xACC1);
        async move { accidents.happen(random, stop).await }
    });
    let bots: Vec<_> = (0..LANES)
        .map(|lane| {
            let count = (plan.notes + LANES - 1 - lane) / LANES;
            let urls =
                [Some(&process), other.as_ref()].into_iter().flatten().map(|process| process.url.clone());
            tokio::spawn(bot(urls.collect(), lane, count))
        })
        .collect();

    // The interruptions are spread evenly over the sending. Not every note arrives, because some faults consume theirs.
    let arriving = plan.notes * 4 / 5;
    let (mut interrupted, mut kills) = (0, 0);
    let mut random = StdRng::seed_from_u64(plan.seed);
    let interruptions = plan.interruptions(&mut random);
    for (before, interruption) in interruptions.iter().enumerate() {
        let share = arriving * (before + 1) / (interruptions.len() + 1);
        let sandbox = process.sandbox.clone();
        process
            .eventually_long("notes to strike between", async || {
                (sandbox.ledger_len() >= share).then_some(())
            })
            .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        match (interruption, &plan.server) {
            (Interruption::Database(stop), Some(server)) => server.restart(*stop).await,
            _ => {
                kills += 1;
                let dying = match &mut other {
                    Some(other) if kills % 2 == 0 => other,
                    _ => &mut process,
                };
                dying.kill();
                let _calm = accidents.calm().await;
                interrupted += sending(dying).await;
                dying.launch().await;
            }
        }
    }
    let mut notes = Vec::new();
    for (lane, bot) in bots.into_iter().enumerate() {
        notes.extend(bot.await.expect("a bot").into_iter().map(|note| (lane, note)));
    }
    stop.cancel();
    faults.await.expect("the injector");
    happening.await.expect("the accidents");
    let last_fault = Instant::now();
    assert_eq!(notes.len(), plan.notes);
    let asked = until_nothing_waits(&process).await;
    let took = last_fault.elapsed();
    println!(
        "{} all ended {took:.1?} after the last fault, of which {asked:?} were asked for",
        accidents.counts()
    );
    // Shorter runs share the machine with other tests.
    assert!(took < asked + AFTER_THE_LAST_FAULT || std::env::var("CHAOS_NOTES").is_err(), "{took:?}");
    let ends = ends(&process, &notes).await;
    accidents.assert_all_happened();
    assert_usage_is_exact(&process, &notes).await;
    judge(&process.sandbox, &notes, &ends, ambiguous.load(Ordering::SeqCst) + interrupted);
}

fn configuration(config: String) -> String {
    let short = "timeout = \"2s\"\nconcurrency = 8\n";
    config
        .replace("[storage]", "request_rate = \"off\"\n[storage]")
        .replace("token = \"sandbox-linq-token\"\n", &format!("token = \"sandbox-linq-token\"\n{short}"))
        .replace(
            "access_token = \"sandbox-wawp-token\"\n",
            &format!("access_token = \"sandbox-wawp-token\"\n{short}"),
        )
        .replace("[tenants.a]\n", "[delivery]\nunknown_grace = \"3s\"\n[tenants.a]\n")
}

fn is_whatsapp(lane: usize) -> bool {
    lane % 4 == 3
}

fn phone(lane: usize) -> String {
    format!("+1555777{lane:04}")
}

/// Creates half a second of audio that begins with unique samples, by which the provider's copy is recognised.
fn speech(lane: usize, n: usize) -> Vec<u8> {
    const RATE: u32 = 16_000;
    let number = |value: usize| i16::try_from(value % 30_000).expect("small");
    let tone = (0..RATE / 2).map(|at| ((f64::from(at) * 0.17).sin() * 9000.0) as i16);
    let samples: Vec<u8> = [number(lane), number(n), number(n / 30_000)]
        .into_iter()
        .chain(tone)
        .flat_map(i16::to_le_bytes)
        .collect();
    let size = |length: usize| u32::try_from(length).expect("small").to_le_bytes();
    let format: [&[u8]; 6] =
        [&size(16), &[1, 0, 1, 0], &RATE.to_le_bytes(), &(RATE * 2).to_le_bytes(), &[2, 0, 16, 0], b"data"];
    [
        b"RIFF".as_slice(),
        &size(samples.len() + 36),
        b"WAVEfmt ",
        &format.concat(),
        &size(samples.len()),
        &samples,
    ]
    .concat()
}

fn tag(lane: usize, n: usize) -> String {
    format!("lane {lane} note {n}")
}

/// The key by which a note is recognised in the ledger: its bytes or, if these are re-encoded, the message it replies
/// to.
fn ledger_key(lane: usize, n: usize) -> String {
    if is_whatsapp(lane) {
        return format!("false_{lane}@c.us_{n}");
    }
    hex::encode(Sha256::digest(speech(lane, n)))
}

/// Sends notes to one recipient, one after the other, each until it is accepted, and returns their ids in order.
async fn bot(urls: Vec<String>, lane: usize, count: usize) -> Vec<String> {
    let http = reqwest::Client::builder().tls_certs_only([]).build().expect("a client");
    let mut ids = Vec::new();
    for n in 0..count {
        if let Some(before) = n.checked_sub(LEAD) {
            until_it_ended(&http, &urls, &ids[before]).await;
        }
        let mut query = vec![("to", phone(lane)), ("via", "imessage".to_owned())];
        if is_whatsapp(lane) {
            query =
                vec![("to", phone(lane)), ("via", "whatsapp".to_owned()), ("reply_to", ledger_key(lane, n))];
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let body = speech(lane, n);
        let mut tries = 0;
        let id = loop {
            tries += 1;
            let url = &urls[(n + tries) % urls.len()];
            let request = http
                .post(format!("{url}/voice?{query}"))
                .bearer_auth(KEY)
                .header("content-type", "audio/wav")
                .header("idempotency-key", tag(lane, n))
                .timeout(Duration::from_secs(20))
                .body(body.clone());
            let answer = match request.send().await {
                Ok(answer) if answer.status() == 202 => answer.json::<Value>().await.ok(),
                // Nothing is promised while the database is away, and the key finds a note that may have been stored.
                Ok(answer) if matches!(answer.status().as_u16(), 503 | 507) => None,
                Ok(answer) => panic!("{}: {:?}", answer.status(), answer.json::<Value>().await),
                Err(_) => None, // killed just now
            };
            if let Some(note) = answer {
                break note["id"].as_str().expect("an id").to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        ids.push(id);
    }
    ids
}

async fn until_it_ended(http: &reqwest::Client, urls: &[String], id: &String) {
    for url in urls.iter().cycle() {
        let request = http.get(format!("{url}/voice/{id}")).bearer_auth(KEY).timeout(Duration::from_secs(20));
        // The gateway was just killed, or its database is away.
        let status = match request.send().await {
            Ok(answer) if answer.status() == 200 => answer.json::<Value>().await.ok(),
            _ => None,
        };
        if status.is_some_and(|note| has_ended(note["status"].as_str().expect("a status"))) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn has_ended(status: &str) -> bool {
    !matches!(status, "queued" | "processing" | "sending")
}

/// Scripts faults until told to stop, and counts those that leave the outcome of a note unknown.
async fn inject(sandbox: Sandbox, seed: u64, ambiguous: Arc<AtomicUsize>, stop: CancellationToken) {
    let mut random = StdRng::seed_from_u64(seed ^ 0xFA17);
    let status =
        |status| FaultAction::Status { status, body: None, headers: BTreeMap::new(), retry_after: None };
    let mut last = 0;
    loop {
        let pause = Duration::from_millis(random.random_range(20..250));
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        // One fault is added for every few notes. While a connection is paused nothing arrives, and accumulated faults
        // would hit every probe of it, for ever.
        let arrived = sandbox.ledger_len();
        if arrived < last + NOTES_PER_FAULT || sandbox.pending_faults() >= 3 {
            continue;
        }
        last = arrived;
        let (provider, operation) = match random.random_range(0..8) {
            0 => (Provider::LINQ, Operation::Attachments),
            1 => (Provider::LINQ, Operation::Upload),
            2 => (Provider::LINQ, Operation::Chats),
            3 => (Provider::WAWP, Operation::Voice),
            _ => (Provider::LINQ, Operation::Voicememo),
        };
        let action = match random.random_range(0..10) {
            0 => FaultAction::RateLimit { retry_after: 1 },
            1 => status(500),
            2 => status(503),
            3 => FaultAction::ResetBefore,
            4 => FaultAction::ResetAfter,
            5 => FaultAction::Stall { ms: Some(3000) },
            6 => FaultAction::StallAfter { ms: Some(3000) },
            7 => FaultAction::Garbage,
            _ => FaultAction::Slow { ms: random.random_range(50..800) },
        };
        let shows_it = matches!(operation, Operation::Voice | Operation::Voicememo);
        let proves_nothing = !matches!(action, FaultAction::RateLimit { .. } | FaultAction::Slow { .. });
        if shows_it && proves_nothing {
            ambiguous.fetch_add(1, Ordering::SeqCst);
        }
        sandbox.add_fault(Fault::new(provider, operation, action));
    }
    sandbox.forget_faults();
}

/// Counts the visible requests that were in flight when the gateway died, by its own records.
async fn sending(process: &Process) -> usize {
    const COUNT: &str = "SELECT COUNT(*) FROM deliveries WHERE state = 'sending'";
    let text = std::fs::read_to_string(process.folder.path().join("config.toml")).expect("the configuration");
    let config: toml::Table = text.parse().expect("TOML");
    let database = config["storage"]["database"].as_str().expect("a database");
    let count: i64 = match database.strip_prefix("sqlite://") {
        Some(file) => {
            let mut database =
                SqliteConnection::connect(&format!("sqlite://{file}")).await.expect("the database");
            sqlx::query_scalar(COUNT).fetch_one(&mut database).await.expect("a count")
        }
        None => {
            let mut database = PgConnection::connect(database).await.expect("the database");
            sqlx::query_scalar(COUNT).fetch_one(&mut database).await.expect("a count")
        }
    };
    usize::try_from(count).expect("a count")
}

/// Waits until no note is in flight, and reports the remaining ones after twenty seconds. Returns the longest wait that a
/// provider had asked for at the beginning: Linq says of its 503 (code 4004) that it takes thirty seconds.
/// <https://docs.linqapp.com/error/codes/4xxx/4004/>
async fn until_nothing_waits(process: &Process) -> Duration {
    let begun = Instant::now();
    let mut asked = None;
    let mut reported = false;
    loop {
        let mut waiting = Vec::new();
        for status in ["queued", "processing", "sending"] {
            waiting.extend(list(process, &format!("/voice?status={status}&limit=100")).await);
        }
        let asked = *asked.get_or_insert_with(|| waiting.iter().map(asked_for).max().unwrap_or_default());
        if waiting.is_empty() {
            return asked;
        }
        if begun.elapsed() > Duration::from_secs(20) && !reported {
            reported = true;
            println!("{} notes wait; connections: {:?}", waiting.len(), list(process, "/connections").await);
            waiting.iter().take(4).for_each(|note| println!("{note}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The wait that the provider asked for in the last attempt at a note.
fn asked_for(note: &Value) -> Duration {
    let last = note["attempts"].as_array().and_then(|attempts| attempts.last());
    let seconds = last.and_then(|attempt| attempt["error"]["retry_after"].as_u64());
    Duration::from_secs(seconds.unwrap_or_default())
}

async fn list(process: &Process, path: &str) -> Vec<Value> {
    let request = process.http.get(format!("{}{path}", process.url)).bearer_auth(KEY);
    let answer = request.send().await.expect("an answer").json::<Value>().await.expect("JSON");
    answer["items"].as_array().expect("a list").clone()
}

/// Returns the final status of each note, once all have one.
async fn ends(process: &Process, notes: &[(usize, String)]) -> HashMap<String, String> {
    let mut ends = HashMap::new();
    for (_, id) in notes {
        let status = process
            .eventually_long(id, async || {
                let status = process.note(id).await["status"].as_str().expect("a status").to_owned();
                has_ended(&status).then_some(status)
            })
            .await;
        ends.insert(id.clone(), status);
    }
    ends
}

/// The usage equals a count of the notes, one by one: after kills and faults nothing counts twice or not at all.
async fn assert_usage_is_exact(process: &Process, notes: &[(usize, String)]) {
    let mut expected: BTreeMap<String, (BTreeMap<String, u64>, [u64; 5])> = BTreeMap::new();
    for (_, id) in notes {
        let note = process.note(id).await;
        let (via, status) =
            (note["via"].as_str().expect("a name"), note["status"].as_str().expect("a status"));
        let number = |at: &str| note.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        let attempts = note["attempts"].as_array().and_then(|tries| tries.last()?["n"].as_u64());
        let facts = [
            1,
            number("/audio/source/duration_ms"),
            number("/audio/source/size_bytes"),
            number("/audio/sent/size_bytes"),
            attempts.unwrap_or_default(),
        ];
        let (statuses, sums) = expected.entry(via.to_owned()).or_default();
        *statuses.entry(status.to_owned()).or_default() += 1;
        sums.iter_mut().zip(facts).for_each(|(sum, fact)| *sum += fact);
    }
    let items = list(process, "/usage?by=connection").await;
    let found = items.iter().map(|item| {
        let number = |field: &str| item[field].as_u64().expect("a number");
        // Thousandths of a second are exact in the answer.
        let ms = format!("{:.0}", item["seconds"].as_f64().expect("a number") * 1000.0);
        let sums = [
            number("notes"),
            ms.parse().expect("a number"),
            number("bytes_in"),
            number("bytes_out"),
            number("attempts"),
        ];
        let statuses = serde_json::from_value(item["by_status"].clone()).expect("counts");
        (item["key"].as_str().expect("a name").to_owned(), (statuses, sums))
    });
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
}

fn judge(sandbox: &Sandbox, notes: &[(usize, String)], ends: &HashMap<String, String>, excuses: usize) {
    let mut arrived: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, entry) in sandbox.ledger().iter().enumerate().filter(|(_, entry)| entry.form != "refused") {
        let mark = entry.reply_to.clone().or(entry.sha256.clone()).expect("known by something");
        arrived.entry(mark).or_default().push(place);
    }
    let twice: Vec<_> = arrived.values().filter(|places| places.len() > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");

    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut last: HashMap<usize, (usize, usize)> = HashMap::new();
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    for (lane, id) in notes {
        let n = numbers.entry(*lane).or_default();
        let status = ends[id].as_str();
        *counts.entry(status).or_default() += 1;
        let place = arrived.get(&ledger_key(*lane, *n)).map(|places| places[0]);
        assert!(status != "accepted" || place.is_some(), "{id} is said to be accepted and never arrived");
        assert!(status != "failed" || place.is_none(), "{id} is said to have failed and arrived");
        if let Some(place) = place {
            if let Some((before, at)) = last.get(lane) {
                assert!(*at < place, "lane {lane}: note {n} overtook note {before}");
            }
            last.insert(*lane, (*n, place));
        }
        *n += 1;
    }
    let unknown = counts.get("unknown").copied().unwrap_or_default();
    println!("{}", json!({ "ends": counts, "arrived": arrived.len(), "excuses": excuses }));
    assert!(unknown <= excuses, "{unknown} unknown, {excuses} reasons for it");
    let ended = counts.keys().all(|status| matches!(*status, "accepted" | "unknown"));
    assert!(ended, "{counts:?}");
}
