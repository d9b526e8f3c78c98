//! `audio.url`: who is asked for what, and what a bad answer becomes.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::harness::{World, attempts, fixture, read};

/// What a server was asked: path and the caller's secret header.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server that answers with `answer` and remembers what it was asked.
async fn serve(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> (String, Asked) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Asked::default();
    let log = asked.clone();
    let app = Router::new().fallback(async move |request: Request| {
        let path = request.uri().path().to_owned();
        let secret =
            request.headers().get("x-secret").and_then(|value| value.to_str().ok()).map(str::to_owned);
        log.lock().expect("a log").push((path.clone(), secret));
        answer(&path)
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

fn redirect(to: String) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

async fn send(world: &World, url: &str) -> String {
    let body = json!({ "to": "+15551234567", "audio": { "url": url, "headers": { "X-Secret": "s3cret" } } });
    let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
    assert_eq!(status, 202, "{note}");
    note["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn the_callers_headers_go_to_the_first_host_only() {
    let world = World::start().await;
    let (second, second_asked) = serve(|_| fixture("speech-24k.mp3").into_response()).await;
    let (first, first_asked) = serve(move |path| match path {
        "/start" => redirect("/moved".to_owned()),
        _ => redirect(format!("{second}/audio")),
    })
    .await;
    let id = send(&world, &format!("{first}/start")).await;
    world.until_status(&id, "accepted").await;
    let secret = Some("s3cret".to_owned());
    let asked = first_asked.lock().expect("a log").clone();
    assert_eq!(asked, [("/start".to_owned(), secret.clone()), ("/moved".to_owned(), secret)]);
    assert_eq!(*second_asked.lock().expect("a log"), [("/audio".to_owned(), None)]);
    let note: voicegate::note::NoteId = id.parse().expect("an id");
    let kept = world.gateway.store.note(note, None).await.expect("read").expect("kept");
    assert_eq!(kept.source, voicegate::note::Source::Stored, "the secret is forgotten");
}

#[tokio::test]
async fn a_redirect_does_not_lead_around_the_address_rules() {
    let world = World::start().await;
    for target in ["http://10.0.0.1/a", "http://[::1]:1/a", "file:///etc/passwd", "http://169.254.169.254/"] {
        let (url, _) = serve(move |_| redirect(target.to_owned())).await;
        let id = send(&world, &url).await;
        let note = world.until_status(&id, "failed").await;
        assert_eq!(note["error"]["code"], "source_forbidden", "{target}: {note}");
    }
}

#[tokio::test]
async fn a_bad_answer_is_told_with_its_status() {
    let world = World::start().await;
    for (status, expected, says) in [
        (StatusCode::NOT_FOUND, "failed", "404"),
        (StatusCode::FORBIDDEN, "failed", "403"),
        (StatusCode::SERVICE_UNAVAILABLE, "queued", "503"),
    ] {
        let (url, _) = serve(move |_| status.into_response()).await;
        let id = send(&world, &url).await;
        let note = world.until(&id, |note| attempts(note) == 1 && note["status"] == expected).await;
        let error = &note["attempts"][0]["error"];
        assert_eq!((&error["code"], &error["stage"]), (&json!("source_unreachable"), &json!("fetch")));
        assert!(error["detail"].as_str().expect("text").contains(says), "{error}");
    }
}

#[tokio::test]
async fn too_much_is_refused_and_nothing_is_left() {
    let world = World::with(|config| format!("{config}\n[audio]\nmax_bytes = \"64 KiB\"\n")).await;
    for chunked in [false, true] {
        let (url, _) = serve(move |_| {
            let bytes = vec![0_u8; 100_000];
            if chunked {
                let pieces = bytes
                    .chunks(1000)
                    .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
                    .collect::<Vec<_>>();
                axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response()
            } else {
                bytes.into_response()
            }
        })
        .await;
        let id = send(&world, &url).await;
        let note = world.until_status(&id, "failed").await;
        assert_eq!(
            (&note["error"]["code"], &note["error"]["status"]),
            (&json!("audio_too_large"), &json!(413))
        );
    }
    assert_eq!(world.stray_files(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn a_gateway_without_ffmpeg_says_so_and_is_not_ready() {
    let world = World::with(|config| format!("{config}\n[audio]\nffmpeg = \"/nowhere/ffmpeg\"\n")).await;
    let ready = async || {
        let answer = world.http.get(format!("{}/readyz", world.url)).send().await.expect("an answer");
        read(answer).await
    };
    let (status, checks) = ready().await;
    assert_eq!(
        (status, &checks["checks"]["database"]["status"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("ok"))
    );
    world.gateway.test_audio().await;
    let (status, checks) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        checks["checks"]["ffmpeg"]["reason"].as_str().is_some_and(|why| why.contains("ffmpeg")),
        "{checks}"
    );

    let whole = World::start().await;
    whole.gateway.test_audio().await;
    let answer = whole.http.get(format!("{}/readyz", whole.url)).send().await.expect("an answer");
    let (status, checks): (_, Value) = read(answer).await;
    assert_eq!(status, StatusCode::OK, "{checks}");
}
