//! The pages in a real browser. scripts/setup.sh --test installs Chromium; where there is none, this says that it was
//! skipped.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::demo::Demo;

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
    let Some(browser) = browser() else {
        println!("skipped: there is no Chromium here; scripts/setup.sh --test installs one");
        return;
    };
    assert!(axe().is_file(), "axe-core is missing; run scripts/setup.sh --test");
    let demo = Demo::start(&["--listen", "127.0.0.1:0", "--sandbox", "127.0.0.1:0"], Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let pictures = std::env::var_os("PICTURES").map_or_else(|| folder.path().to_owned(), PathBuf::from);
    let mut node = Command::new("node");
    node.arg(script)
        .arg(browser)
        .arg(folder.path().join("profile"))
        .arg(demo.exported("VOICEGATE_URL"))
        .arg(demo.inbox().trim_end_matches('/'))
        .arg(demo.exported("VOICEGATE_API_KEY"))
        .arg(axe())
        .arg(pictures)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .stdin(Stdio::null());
    let ended = tokio::task::spawn_blocking(move || node.output().expect("Node")).await.expect("ended");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}{said}", String::from_utf8_lossy(&ended.stdout));
}

#[tokio::test]
async fn console_sends_shows_repeats_finds_and_plans_notes() {
    use_as_a_person_does("tests/pages/console.mjs").await;
}

#[tokio::test]
async fn documentation_is_searched_and_copied_and_is_accessible_like_the_inbox() {
    use_as_a_person_does("tests/pages/docs.mjs").await;
}
