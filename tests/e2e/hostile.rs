//! Hostile and unusual files, as uploads and as URLs. Each affects only its own request.
//!
//! The test makes a thousand requests, or `HOSTILE_REQUESTS` (`make hostile`), in an order that `SEED` reproduces.

#[path = "../support/rows.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine alone")]
pub mod rows;

use std::sync::Arc;

use axum::{extract::Path, http::header};
use bytes::Bytes;
use futures_util::StreamExt;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use rows::{Accepted, Refused, Row, rows};
use serde_json::{Value, json};
use voicegate_sandbox::{NewChat, Service};

use crate::harness::{World, attempts, fixture, read};

/// The number of requests. The first round is a warm-up, and the memory after it is the limit for later rounds.
const REQUESTS: usize = 1000;
const IN_FLIGHT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    Upload,
    Url,
}

/// The media types that callers and servers state. None of them is believed.
const CLAIMS: [&str; 5] = [
    "application/octet-stream",
    "audio/mpeg",
    "audio/ogg; codecs=opus",
    "audio/wav",
    "audio/x-none; a=\"b\"",
];

/// A row with its bytes, which are created once.
struct Case {
    row: Row,
    bytes: Bytes,
}

/// The number of heaps of glibc. Memory freed in one is not reused in the others, which would look like growth.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Runs a test again in a process with one heap, because the setting is read only at the start of a process. Returns whether
/// this is that process.
pub fn has_one_heap(test: &str) -> bool {
    if std::env::var_os(ARENAS).is_some_and(|count| count == "1") {
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let mut again = std::process::Command::new(program);
    let ended = again.args(["--exact", test, "--nocapture"]).env(ARENAS, "1").status().expect("a process");
    assert!(ended.success(), "see above");
    false
}

#[test]
fn every_hostile_file_gets_its_verdict_as_upload_and_as_url() {
    if has_one_heap("hostile::every_hostile_file_gets_its_verdict_as_upload_and_as_url") {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(send_them_all());
    }
}

async fn send_them_all() {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let seed = number("SEED").unwrap_or_else(rand::random);
    let requests = number("HOSTILE_REQUESTS").map_or(REQUESTS, |requests| requests as usize);
    println!("{requests} requests, SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cases: Arc<Vec<Case>> =
        Arc::new(rows().into_iter().map(|row| Case { bytes: row.bytes().into(), row }).collect());
    let world = World::start().await;
    let host = serve(cases.clone()).await;
    for number in 0..100 {
        let handles = vec![recipient(number)];
        world.sandbox.add_chat(NewChat { handles, service: Some(Service::IMessage), ..NewChat::default() });
    }

    let mut sizes = Vec::new();
    let each: Vec<(usize, Door)> =
        (0..cases.len()).flat_map(|index| [(index, Door::Upload), (index, Door::Url)]).collect();
    assert!(requests > each.len(), "{requests} requests are not one for each file and door: {}", each.len());
    for round in 0..requests.div_ceil(each.len()) {
        let mut jobs = each.clone();
        jobs.shuffle(&mut random);
        jobs.truncate(requests - round * each.len());
        let wrong: Vec<String> = futures_util::stream::iter(jobs.iter().enumerate())
            .map(async |(place, (index, door))| {
                let sending = Sending { world: &world, host: &host, place, index: *index, round };
                let case = &cases[*index];
                let verdict = sending.send(case, *door).await;
                verdict.err().map(|why| format!("{} by {door:?} in round {round}: {why}", case.row.name))
            })
            .buffer_unordered(IN_FLIGHT)
            .filter_map(std::future::ready)
            .collect()
            .await;
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));

        let good = jobs.iter().filter(|(index, _)| cases[*index].row.accepted.is_some()).count();
        assert_eq!(world.delivered("linq").len() + world.delivered("wawp").len(), good);
        assert_eq!(world.dispatches(), good, "what was refused reached no provider");
        assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
        assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
        #[cfg(target_os = "linux")]
        assert_eq!(children(), 0);
        // The emulators keep the audio that they received.
        world.sandbox.clear();
        sizes.push(resident_kib());
    }
    // A leak grows with every round; the memory of one heavy round is released after the next.
    let sent_kib = cases.iter().map(|case| case.bytes.len() as u64).sum::<u64>() * 2 / 1024;
    println!("in memory after each round: {sizes:?} KiB; sent in each: {sent_kib} KiB");
    let later = sizes[sizes.len() / 2..].iter().min();
    assert!(later <= Some(&(sizes[0] + sent_kib * 3 / 4)), "{sizes:?}");

    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
}

/// Downloads are never decompressed. The format is always decided by the bytes.
#[tokio::test(flavor = "multi_thread")]
async fn content_encoding_of_a_download_is_ignored() {
    let world = World::start().await;
    let packed = rows().into_iter().find(|row| row.name == "voice.mp3.gz").expect("a row").bytes();
    for (bytes, end, code) in
        [(packed, "failed", json!("audio_unreadable")), (fixture("speech-24k.mp3"), "accepted", Value::Null)]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/voice.mp3", listener.local_addr().expect("an address"));
        let app =
            axum::Router::new().fallback(async move || ([(header::CONTENT_ENCODING, "gzip")], bytes.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let body = json!({ "to": crate::harness::PHONE, "audio": { "url": url } });
        let (_, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
        let note = world.until_status(note["id"].as_str().expect("an id"), end).await;
        assert_eq!(note["error"]["code"], code, "{note}");
    }
}

/// The number of recipients. There are more than notes in flight, because notes to one recipient wait for each other.
fn recipient(number: usize) -> String {
    format!("+1555000{:04}", number % 100)
}

/// One request with a file.
struct Sending<'a> {
    world: &'a World,
    host: &'a str,
    place: usize,
    index: usize,
    round: usize,
}

impl Sending<'_> {
    async fn send(&self, case: &Case, door: Door) -> Result<(), String> {
        let (via, profile) = match (self.round + usize::from(door == Door::Url)) % 2 {
            0 => ("imessage", "linq-1"),
            _ => ("whatsapp", "whatsapp-1"),
        };
        let wait = (self.round + self.index).is_multiple_of(2);
        let request = match door {
            Door::Upload => self.upload(case, via),
            Door::Url => self.url(case, via),
        };
        let request = if wait { request.header("prefer", "wait=60") } else { request };
        let (status, answer) = read(request.send().await.expect("an answer")).await;
        let judged = match (&case.row.refused, &case.row.accepted) {
            (Some(refused), _) if door == Door::Upload || wait => refused_like(&answer, refused)
                .and_then(|()| if status == refused.status { Ok(()) } else { Err(String::new()) }),
            (Some(_), _) if status == 202 => Ok(()),
            (None, _) if status == if wait { 200 } else { 202 } => Ok(()),
            _ => Err("the status is wrong".to_owned()),
        };
        judged.map_err(|why| format!("{why} {status} {answer}"))?;
        let Some(id) = answer["id"].as_str() else {
            return if door == Door::Upload { Ok(()) } else { Err(format!("no id: {answer}")) };
        };
        let note = self
            .world
            .until(id, |note| ["failed", "accepted"].iter().any(|end| note["status"] == *end))
            .await;
        let judged = match (&case.row.refused, &case.row.accepted) {
            (Some(refused), _) => refused_like(&note["error"], refused),
            (None, Some(expected)) => accepted_like(&note, expected, profile),
            (None, None) => Err("no verdict".to_owned()),
        };
        let once = if attempts(&note) == 1 { Ok(()) } else { Err("tried again".to_owned()) };
        judged.and(once).map_err(|why| format!("{why} {note}"))
    }

    fn upload(&self, case: &Case, via: &str) -> reqwest::RequestBuilder {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("to", &recipient(self.place)).append_pair("via", via);
        query.append_pair("filename", &case.row.name);
        if let Some(format) = &case.row.format {
            query.append_pair("format", &serde_json::to_string(format).expect("JSON"));
        }
        self.world
            .post_raw(&query.finish(), Vec::new())
            .header(header::CONTENT_TYPE, CLAIMS[self.place % CLAIMS.len()])
            .body(case.bytes.clone())
    }

    fn url(&self, case: &Case, via: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/{}", self.host, self.index);
        let mut audio = json!({ "url": url, "filename": case.row.name });
        if let Some(format) = &case.row.format {
            audio["format"] = json!(format);
        }
        self.world.post_json(&json!({ "to": recipient(self.place), "via": via, "audio": audio }))
    }
}

fn refused_like(problem: &Value, expected: &Refused) -> Result<(), String> {
    let found = (&problem["code"], &problem["stage"], &problem["status"]);
    if found != (&json!(expected.code), &json!(expected.stage), &json!(expected.status)) {
        return Err("another problem".to_owned());
    }
    let says = problem["detail"].as_str().is_some_and(|detail| detail.contains(&expected.says));
    if says { Ok(()) } else { Err("another explanation".to_owned()) }
}

fn accepted_like(note: &Value, expected: &Accepted, profile: &str) -> Result<(), String> {
    let lasts = note["audio"]["source"]["duration_ms"].as_u64().unwrap_or_default();
    if note["audio"]["sent"]["work"] != expected.work[profile] {
        return Err("other work".to_owned());
    }
    if lasts.abs_diff(expected.ms) > 120 { Err("another length".to_owned()) } else { Ok(()) }
}

/// Serves every file under its number, with various media types.
async fn serve(cases: Arc<Vec<Case>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let file = async move |Path(index): Path<usize>| {
        ([(header::CONTENT_TYPE, CLAIMS[index % CLAIMS.len()])], cases[index].bytes.clone())
    };
    let app = axum::Router::new().route("/{index}", axum::routing::get(file));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// The child processes of this one that are still running.
#[cfg(target_os = "linux")]
pub fn children() -> usize {
    let own = std::process::id();
    let tasks = std::fs::read_dir(format!("/proc/{own}/task")).expect("tasks").flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}

/// The anonymous memory of this process; 0 if it cannot be read.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
