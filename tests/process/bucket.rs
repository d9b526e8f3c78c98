//! Tests of several processes that share only a database and a bucket.

use crate::{
    gateway::{KEY, Process, sample},
    postgres_server::Database,
    s3::{BUCKET, Server},
};

/// A size that is too large to be kept beside the note.
fn large() -> Vec<u8> {
    let mut audio = Vec::new();
    while audio.len() <= 256 << 10 {
        audio.extend(sample());
    }
    audio
}

#[tokio::test]
async fn one_process_accepts_and_another_sends() {
    let Some(database) = Database::make().await else { return };
    let server = Server::start().await;
    let shared = |config: String| {
        let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
        for line in &mut lines {
            if line.starts_with("database = ") {
                *line = format!("database = \"{}\"", database.url());
            } else if line.starts_with("media = ") {
                *line = format!("media = \"s3://{BUCKET}\"");
            }
        }
        lines.join("\n")
    };
    let api = Process::with_environment("api", server.environment(), shared).await;
    let worker = Process::with_environment("worker", server.environment(), shared).await;
    for (index, via) in ["imessage", "whatsapp"].into_iter().enumerate() {
        let (status, note) = api.send(&format!("via={via}"), large()).await;
        assert_eq!(status, 202, "{note}");
        let id = note["id"].as_str().expect("an id");
        let note = api.until_status(id, "accepted").await;
        let arrived = worker.sandbox.ledger();
        assert_eq!(arrived.len(), index + 1, "{arrived:?}");
        assert_eq!(arrived[index].problems, [""; 0]);
        assert_eq!(note["audio"]["sent"]["sha256"], arrived[index].sha256.clone().expect("a hash"));
        // The link is made by one process and served by the other.
        let heard = api.http.get(format!("{}/voice/{id}/audio", api.url)).bearer_auth(KEY);
        let mut answer = heard.send().await.expect("an answer");
        let mut heard = Vec::new();
        while let Some(chunk) = answer.chunk().await.expect("a body") {
            heard.extend_from_slice(&chunk);
        }
        assert_eq!(heard, worker.sandbox.audio(&arrived[index].id).expect("its audio"));
    }
    assert_eq!(worker.dispatches(), 2);
    assert_eq!(api.dispatches(), 0);
    assert!(!api.folder.path().join("media").exists() && !worker.folder.path().join("media").exists());
}
