//! Files that are not what they seem: each costs its own request and nothing more.

use serde_json::json;

use crate::harness::{World, fixture, read};

#[tokio::test]
async fn each_bad_file_gets_its_code_and_the_next_note_goes_out() {
    let world = World::start().await;
    let silence = hours_of_silence(world.folder.path());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("page.mp3", fixture("page.mp3"), "audio_unreadable"),
        ("empty.mp3", Vec::new(), "audio_unreadable"),
        ("random.mp3", fixture("random.mp3"), "audio_unreadable"),
        ("silent-video.mp4", fixture("silent-video.mp4"), "audio_unsupported"),
        ("playlist-file.m3u8", fixture("playlist-file.m3u8"), "audio_unreadable"),
        ("playlist-url.mp3", fixture("playlist-url.mp3"), "audio_unreadable"),
        ("concat.mp3", fixture("concat.mp3"), "audio_unreadable"),
        ("truncated-moov-first.m4a", fixture("truncated-moov-first.m4a"), "audio_unreadable"),
        ("truncated-moov-last.m4a", fixture("truncated-moov-last.m4a"), "audio_unreadable"),
        ("silence.ogg", silence, "audio_too_long"),
        ("samples.pcm", fixture("speech.s16le"), "audio_format_required"),
        ("samples", fixture("speech.s16le"), "audio_unreadable"),
    ];
    let requests = cases.iter().cycle().take(3 * cases.len()).map(|(name, bytes, code)| {
        let request = world.post_raw(&format!("to=%2B15551234567&filename={name}"), bytes.clone());
        async move {
            let (status, problem) = read(request.send().await.expect("an answer")).await;
            assert_eq!((status.as_u16(), &problem["code"]), (422, &json!(code)), "{name}: {problem}");
            assert_eq!(problem["stage"], "probe", "{name}");
        }
    });
    use futures_util::StreamExt;
    futures_util::stream::iter(requests).buffer_unordered(8).collect::<Vec<()>>().await;

    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(world.gateway.store.queue_depth().await.expect("a number"), 0);
    #[cfg(target_os = "linux")]
    assert_eq!(children(), 0);
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
}

#[tokio::test]
async fn by_url_the_same_file_fails_the_note_with_the_same_code() {
    let world = World::start().await;
    for (name, code) in [("page.mp3", "audio_unreadable"), ("silent-video.mp4", "audio_unsupported")] {
        let url = serve_once(fixture(name)).await;
        let body = json!({ "to": "+15551234567", "audio": { "url": url } });
        let (_, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
        let note = world.until_status(note["id"].as_str().expect("an id"), "failed").await;
        assert_eq!(
            (&note["error"]["code"], &note["error"]["stage"]),
            (&json!(code), &json!("probe")),
            "{name}"
        );
    }
    assert_eq!(world.dispatches(), 0);
}

/// Serves `bytes` to whoever comes.
async fn serve_once(bytes: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/a.mp3", listener.local_addr().expect("an address"));
    let app = axum::Router::new().fallback(async move || bytes.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

/// Two hours in less than 3 MB: a minute of it, 120 times.
fn hours_of_silence(folder: &std::path::Path) -> Vec<u8> {
    let (minute, hours) = (folder.join("minute.ogg"), folder.join("silence.ogg"));
    ffmpeg(
        &["-f", "lavfi", "-t", "60", "-i", "anullsrc=r=8000:cl=mono", "-c:a", "libopus", "-b:a", "6k"],
        &minute,
    );
    let minute = minute.to_str().expect("UTF-8");
    ffmpeg(&["-stream_loop", "119", "-i", minute, "-c", "copy"], &hours);
    let bytes = std::fs::read(&hours).expect("the silence");
    assert!(bytes.len() < 3_000_000, "{}", bytes.len());
    bytes
}

fn ffmpeg(args: &[&str], output: &std::path::Path) {
    let made =
        std::process::Command::new("ffmpeg").args(["-loglevel", "error"]).args(args).arg(output).status();
    assert!(made.expect("ffmpeg").success());
}

/// Processes started by this one that are still there.
#[cfg(target_os = "linux")]
fn children() -> usize {
    let own = std::process::id();
    let tasks = std::fs::read_dir(format!("/proc/{own}/task")).expect("tasks").flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .map(|children| children.split_whitespace().count())
        .sum()
}
