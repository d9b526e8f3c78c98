//! Tests of a database that is full, failing, locked, unreachable, or whose files are removed.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    faults::{EDQUOT, EIO, ENOSPC, Faults},
    gateway::{KEY, Process, sample},
    server::Server,
    shared::on,
};

/// Timeout far above the time of a refusal, and far below that of clients.
const REFUSED_BY: Duration = Duration::from_secs(25);

/// Sends a note that cannot be stored now, and returns code and status of the answer, which has a `Retry-After`.
async fn refused(process: &Process) -> (StatusCode, String) {
    let asked = Instant::now();
    let request = process.http.post(format!("{}/voice?to=%2B15551234567", process.url)).bearer_auth(KEY);
    let answer = request.header("content-type", "audio/mpeg").body(sample()).send().await.expect("an answer");
    let status = answer.status();
    assert!(asked.elapsed() < REFUSED_BY, "it took {:?}", asked.elapsed());
    assert!(answer.headers().contains_key("retry-after"), "{status}");
    let problem: Value = answer.json().await.expect("a problem");
    (status, problem["code"].as_str().expect("a code").to_owned())
}

async fn readiness(process: &Process) -> (StatusCode, Value) {
    let answer = process.http.get(format!("{}/readyz", process.url)).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

/// Waits until `/readyz` has this status, and returns its body.
async fn until_ready_is(process: &Process, status: StatusCode) -> Value {
    let wanted = async || {
        let (is, ready) = readiness(process).await;
        (is == status).then_some(ready)
    };
    process.eventually(&format!("/readyz is {status}"), wanted).await
}

fn database(process: &Process) -> PathBuf {
    process.folder.path().join("voicegate.db")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Opens the file as another program.
async fn foreign(process: &Process) -> SqliteConnection {
    let options =
        SqliteConnectOptions::new().filename(database(process)).busy_timeout(Duration::from_secs(30));
    options.connect().await.expect("a connection")
}

#[tokio::test]
async fn failing_disk_refuses_notes_and_recovers_without_a_restart() {
    let faults = Faults::build();
    let process = Process::with_environment("all", faults.environment(), |config| config).await;
    let mut accepted = vec![process.accept("").await];
    for (operation, errno, expected) in [
        ("write", ENOSPC, vec![(507, "storage_full")]),
        ("write", EDQUOT, vec![(507, "storage_full"), (503, "overloaded")]),
        ("flush", EIO, vec![(503, "overloaded")]),
    ] {
        process.until_status(accepted.last().expect("one"), "accepted").await;
        faults.begin(operation, errno, "-wal");
        let unready = until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE);
        let answers = tokio::join!(refused(&process), refused(&process), unready);
        for (status, code) in [&answers.0, &answers.1] {
            let is_expected = |(wanted, name): &(u16, &str)| *status == *wanted && code == name;
            assert!(expected.iter().any(is_expected), "{operation} {errno}: {status} {code}");
        }
        assert_eq!(answers.2["checks"]["database"]["status"], "failed", "{}", answers.2);
        faults.end();
        until_ready_is(&process, StatusCode::OK).await;
        accepted.push(process.accept("").await);
    }
    for id in &accepted {
        process.until_status(id, "accepted").await;
    }
    assert_eq!(process.dispatches(), accepted.len(), "what was refused is not sent");
    let log = process.logged();
    assert!(log.contains("the database takes no writes") && log.contains("takes writes again"), "{log}");
}

#[tokio::test]
async fn single_failed_write_delays_notes_only_briefly() {
    let faults = Faults::build();
    let mut process = Process::with_environment("all", faults.environment(), |config| config).await;
    let mut ids = Vec::new();
    for (operation, errno) in [("write", EIO), ("flush", EIO), ("write", ENOSPC), ("flush", ENOSPC)] {
        faults.once(operation, errno, "-wal");
        ids.push(process.accept("").await);
        assert!(faults.is_over(), "{operation} has failed");
    }
    // Commits after a failure survive a crash, once.
    process.kill();
    process.launch().await;
    for id in &ids {
        let end = async || {
            let note = process.note(id).await;
            matches!(note["status"].as_str(), Some("accepted" | "unknown")).then_some(())
        };
        process.eventually("an end", end).await;
    }
    assert!(process.dispatches() <= ids.len());
}

/// Starts a server that sends its audio slowly. Returns its URL and the number of requests.
async fn slow_audio() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/a.mp3", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = client.read(&mut [0; 4096]).await;
                tokio::time::sleep(Duration::from_millis(700)).await;
                let audio = sample();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", audio.len());
                let _ = client.write_all(&[head.as_bytes(), &audio].concat()).await;
            });
        }
    });
    (url, asked)
}

#[tokio::test]
async fn gateway_recovers_within_seconds_after_a_foreign_lock() {
    let networks = "[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[storage]";
    let process = Process::with(|config| config.replace("[storage]", networks)).await;
    let (url, asked) = slow_audio().await;
    let mut foreign = foreign(&process).await;
    let mut ids = Vec::new();
    for number in 0..8 {
        let to = format!("+1555123450{number}");
        let body = json!({ "to": to, "via": "whatsapp", "audio": { "url": url } });
        let request = process.http.post(format!("{}/voice", process.url)).bearer_auth(KEY).json(&body);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let note: Value = answer.json().await.expect("JSON");
        ids.push(note["id"].as_str().expect("an id").to_owned());
    }
    // The notes are being prepared.
    process.eventually("the downloads", async || (asked.load(Ordering::SeqCst) > 0).then_some(())).await;
    foreign.execute("BEGIN IMMEDIATE").await.expect("the lock");
    // This is longer than the timeouts of a request and of a progress write.
    let (status, code) = refused(&process).await;
    assert_eq!((status, &*code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    let ready = until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(ready["checks"]["database"]["status"], "failed", "{ready}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    foreign.execute("ROLLBACK").await.expect("let go");
    until_ready_is(&process, StatusCode::OK).await;
    ids.push(process.accept("").await);
    for id in &ids {
        process.until_status(id, "accepted").await;
    }
    assert_eq!(process.dispatches(), ids.len());
}

#[tokio::test]
async fn deleted_database_accepts_nothing() {
    let mut process = Process::start().await;
    let id = process.accept("").await;
    process.until_status(&id, "accepted").await;
    let (file, kept) = (database(&process), beside(&database(&process), ".kept"));
    std::fs::rename(&file, &kept).expect("renamed");
    let (status, code) = refused(&process).await;
    assert_eq!((status, &*code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    let ready = until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE).await;
    let reason = ready["checks"]["database"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("deleted or moved") && reason.contains("restarted"), "{reason}");
    // A file with this name may be another database, so only a restart can help.
    std::fs::copy(&kept, &file).expect("copied");
    assert_eq!(refused(&process).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(process.logged().contains("nothing is accepted or sent any more"), "{}", process.logged());
    process.kill();
    std::fs::rename(&kept, &file).expect("renamed");
    process.launch().await;
    assert_eq!(process.note(&id).await["status"], "accepted");
    process.accept("").await;
}

#[tokio::test]
async fn overwritten_pages_are_found_by_background_checks() {
    let process = Process::start().await;
    let mut file = std::fs::OpenOptions::new().write(true).open(database(&process)).expect("the file");
    let length = file.metadata().expect("its length").len();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4096)).expect("a place");
    let garbage = vec![0xAB; usize::try_from(length - 4096).expect("small")];
    std::io::Write::write_all(&mut file, &garbage).expect("written");
    let ready = until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE).await;
    let reason = ready["checks"]["database"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("damaged"), "{reason}");
    assert_eq!(refused(&process).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let mut answer = process.http.get(format!("{}/metrics", process.url)).send().await.expect("an answer");
    let mut metrics = String::new();
    while let Some(piece) = answer.chunk().await.expect("a body") {
        metrics.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(metrics.contains("voicegate_database_out_of_order{} 1"), "{metrics}");
    assert!(metrics.contains("voicegate_database_up{} 0"), "{metrics}");
}

#[tokio::test]
async fn requests_wait_briefly_for_a_missing_postgresql_and_are_then_refused() {
    let Some(server) = Server::start() else { return };
    let process = Process::with(on(&server.url)).await;
    let before = process.accept("via=whatsapp").await;
    process.until_status(&before, "accepted").await;
    server.stop().await;
    let (status, code) = refused(&process).await;
    assert_eq!((status, &*code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE).await;
    server.begin().await;
    until_ready_is(&process, StatusCode::OK).await;
    let after = process.accept("via=whatsapp").await;
    process.until_status(&after, "accepted").await;
}

#[tokio::test]
async fn read_only_postgresql_makes_the_gateway_unready() {
    let Some(server) = Server::start() else { return };
    let process = Process::with(on(&server.url)).await;
    let mut operator = sqlx::PgConnection::connect(&server.url).await.expect("a connection");
    let mut set = async |value: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        operator.execute(sqlx::AssertSqlSafe(sql)).await.expect("set");
        operator.execute("SELECT pg_reload_conf()").await.expect("reloaded");
    };
    set("on").await;
    until_ready_is(&process, StatusCode::SERVICE_UNAVAILABLE).await;
    let (status, code) = refused(&process).await;
    assert_eq!((status, &*code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    set("off").await;
    until_ready_is(&process, StatusCode::OK).await;
    process.accept("via=whatsapp").await;
}
