//! The pages in a real browser. scripts/setup.sh --test installs Chromium; where there is none, this says that it was
//! skipped.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

use crate::{
    demo::Demo,
    gateway::{KEY, Process},
};

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const MACOS: &str = "/Applications/Chromium.app/Contents/MacOS/Chromium";

/// The browser that `CHROMIUM` names, or one on the `PATH`.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHROMIUM").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    on_path.chain([PathBuf::from(MACOS)]).find(|program| program.is_file())
}

/// The packages that scripts/setup.sh has installed from `tests/docs/package-lock.json`.
fn axe() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("tools/node_modules/axe-core/axe.min.js")
}

/// Runs a script of `tests/pages` against a demo. `PICTURES` names a folder for its screenshots.
async fn use_as_a_person_does(script: &'static str) {
    let Some(browser) = browser() else { return skipped() };
    let demo = Demo::start(&["--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"], Vec::new()).await;
    let [gateway, key] = ["VOICEGATE_URL", "VOICEGATE_API_KEY"].map(|name| demo.exported(name));
    run(script, browser, [gateway, demo.inbox().trim_end_matches('/'), key]).await;
}

fn skipped() {
    println!("skipped: there is no Chromium here; scripts/setup.sh --test installs one");
}

/// Runs a script in a browser against a gateway, the sandbox and a key.
async fn run(script: &'static str, browser: PathBuf, [gateway, sandbox, key]: [&str; 3]) {
    assert!(axe().is_file(), "axe-core is missing; run scripts/setup.sh --test");
    let folder = tempfile::tempdir().expect("a folder");
    let pictures = std::env::var_os("PICTURES").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let mut node = Command::new("node");
    node.arg(script)
        .arg(browser)
        .arg(folder.path().join("profile"))
        .args([gateway, sandbox, key])
        .arg(axe())
        .arg(pictures)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || node.output().expect("Node")).await.expect("ended");
    let said = String::from_utf8_lossy(&ended.stderr);
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{told}{said}");
    print!("{told}");
}

#[tokio::test]
async fn console_sends_shows_repeats_finds_and_plans_notes() {
    use_as_a_person_does("tests/pages/console.mjs").await;
}

#[tokio::test]
async fn documentation_is_searched_and_copied_and_is_accessible_like_the_inbox() {
    use_as_a_person_does("tests/pages/docs.mjs").await;
}

#[tokio::test]
async fn console_finds_a_note_among_100_000() {
    let Some(browser) = browser() else { return skipped() };
    let process = Process::start().await;
    let note = process.accept("via=whatsapp").await;
    process.until_status(&note, "accepted").await;
    let mut database = SqliteConnectOptions::new()
        .filename(process.folder.path().join("voicegate.db"))
        .connect()
        .await
        .expect("the database");
    let multiply = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
        INSERT INTO notes (id, tenant, status, created_at, has_audio, doc, recipient, via)
        SELECT printf('vn_01980000-0000-7000-8000-%012x', n), tenant, status, created_at, has_audio,
            replace(replace(doc, id, printf('vn_01980000-0000-7000-8000-%012x', n)), recipient, printf('+1666%07d', n)),
            printf('+1666%07d', n), via
        FROM notes CROSS JOIN numbers WHERE id = $1";
    sqlx::query(multiply).bind(&note).execute(&mut database).await.expect("100,000 notes");
    run("tests/pages/many.mjs", browser, [&process.url, "", KEY]).await;
}
