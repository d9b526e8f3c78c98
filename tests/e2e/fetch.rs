//! `audio.url`: the requests of a download, and the problems that failed downloads cause.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use voicegate::model::clock::Clock as _;

use crate::harness::{World, attempts, fixture, read};

/// A request to the server: its path and the caller's secret header.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server that answers with `answer` and records the requests.
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
    send_to(world, "+15551234567", url).await
}

/// Sends a note to a recipient with no other waiting note.
async fn send_to(world: &World, to: &str, url: &str) -> String {
    let body = json!({ "to": to, "audio": { "url": url, "headers": { "X-Secret": "s3cret" } } });
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
    let note: voicegate::model::note::NoteId = id.parse().expect("an id");
    let kept = world.gateway.store.note(note, None).await.expect("read").expect("kept");
    assert_eq!(kept.source, voicegate::model::note::AudioSource::Stored, "the secret is forgotten");
}

#[tokio::test]
async fn redirect_does_not_bypass_the_address_rules() {
    let world = World::start().await;
    for target in ["http://10.0.0.1/a", "http://[::1]:1/a", "file:///etc/passwd", "http://169.254.169.254/"] {
        let (url, _) = serve(move |_| redirect(target.to_owned())).await;
        let id = send(&world, &url).await;
        let note = world.until_status(&id, "failed").await;
        assert_eq!(note["error"]["code"], "source_forbidden", "{target}: {note}");
    }
}

#[tokio::test]
async fn failed_download_reports_the_status() {
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
async fn oversized_download_is_refused_and_removed() {
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
async fn gateway_without_ffmpeg_is_not_ready() {
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
    world.gateway.audio_test.run(&world.gateway).await;
    let (status, checks) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        checks["checks"]["ffmpeg"]["reason"].as_str().is_some_and(|why| why.contains("ffmpeg")),
        "{checks}"
    );

    let whole = World::start().await;
    whole.gateway.audio_test.run(&whole.gateway).await;
    let answer = whole.http.get(format!("{}/readyz", whole.url)).send().await.expect("an answer");
    let (status, checks): (_, Value) = read(answer).await;
    assert_eq!(status, StatusCode::OK, "{checks}");
}

/// A cache that serves files in slices, or a server that is still creating the file, may serve the whole file later.
#[tokio::test]
async fn incomplete_download_is_retried() {
    let world = World::start().await;
    let part = || fixture("speech-24k.mp3")[..4000].to_vec();
    for (number, (status, range)) in [
        (StatusCode::PARTIAL_CONTENT, Some("bytes 0-3999/9000")),
        (StatusCode::PARTIAL_CONTENT, None),
        (StatusCode::OK, Some("bytes 0-3999/9000")),
        (StatusCode::ACCEPTED, None),
        (StatusCode::NO_CONTENT, None),
    ]
    .into_iter()
    .enumerate()
    {
        let (url, _) = serve(move |_| {
            let mut response = (status, part()).into_response();
            if let Some(range) = range {
                response.headers_mut().insert(header::CONTENT_RANGE, range.parse().expect("a value"));
            }
            response
        })
        .await;
        let id = send_to(&world, &format!("+1555000000{number}"), &url).await;
        let note = world.until(&id, |note| attempts(note) == 1 && note["status"] == "queued").await;
        let error = &note["attempts"][0]["error"];
        assert_eq!(error["code"], "source_unreachable", "{status} {range:?}: {note}");
        assert!(error["detail"].as_str().expect("text").contains(status.as_str()), "{error}");
    }
    // A partial answer whose range is the whole file is accepted.
    let (url, _) = serve(|_| {
        let bytes = fixture("speech-24k.mp3");
        let range = format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len());
        ([(header::CONTENT_RANGE, range)], bytes).into_response()
    })
    .await;
    let id = send(&world, &url).await;
    world.until_status(&id, "accepted").await;
}

#[tokio::test]
async fn unreachable_source_reports_the_reason() {
    let world = World::start().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let refused = format!("http://{}/", closed.local_addr().expect("an address"));
    drop(closed);
    let (plain, _) = serve(|_| StatusCode::OK.into_response()).await;
    for (to, url, says) in [
        ("+15550000001", "http://no-such-host.invalid/a.mp3".to_owned(), "host name"),
        ("+15550000002", refused, "refuses"),
        ("+15550000003", plain.replace("http:", "https:"), "TLS"),
    ] {
        let id = send_to(&world, to, &url).await;
        let note = world.until(&id, |note| attempts(note) == 1).await;
        let error = &note["attempts"][0]["error"];
        assert_eq!(error["code"], "source_unreachable", "{note}");
        let detail = error["detail"].as_str().expect("text");
        assert!(detail.contains(says) && !detail.contains("invalid"), "{detail}");
    }
}

#[tokio::test]
async fn names_of_the_gateways_own_machine_are_refused_at_once() {
    let world = World::with(|config| config.replace("allow_networks = [\"127.0.0.0/8\"]", "")).await;
    for host in ["localhost", "localhost.", "a.localhost", "A.LOCALHOST.", "127.0.0.1."] {
        let body = json!({ "to": "+15551234567", "audio": { "url": format!("https://{host}/a.mp3") } });
        let (status, problem) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(
            (status.as_u16(), &problem["code"]),
            (422, &json!("source_forbidden")),
            "{host}: {problem}"
        );
    }
}

#[tokio::test]
async fn samples_without_a_header_are_known_by_what_the_server_says() {
    let world = World::start().await;
    let samples = || vec![7_u8; 48_000];
    let (url, _) = serve(move |path| match path {
        "/typed" => ([(header::CONTENT_TYPE, "audio/L16;rate=24000")], samples()).into_response(),
        _ => samples().into_response(),
    })
    .await;
    for (number, path) in ["typed", "secret-token/named.pcm"].into_iter().enumerate() {
        let id = send_to(&world, &format!("+1555123000{number}"), &format!("{url}/{path}")).await;
        let note = world.until_status(&id, "failed").await;
        assert_eq!(note["error"]["code"], "audio_format_required", "{note}");
        let body = json!({ "to": "+15551234567", "audio": { "url": format!("{url}/{path}") } });
        let request = world.http.post(format!("{}/voice/plan", world.url)).bearer_auth(crate::harness::KEY);
        let (status, problem) = read(request.json(&body).send().await.expect("an answer")).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("audio_format_required")), "{problem}");
    }
}

#[tokio::test]
async fn audio_that_was_never_downloaded_is_downloaded_by_a_resend() {
    let world = World::start().await;
    let (url, asked) = serve(|_| fixture("speech-24k.mp3").into_response()).await;
    let resend = async |id: &str| {
        let request = world.http.post(format!("{}/voice/{id}/resend", world.url));
        read(request.bearer_auth(crate::harness::KEY).send().await.expect("an answer")).await
    };
    let canceled = async |audio: Value| {
        let at = (world.clock.now() + Duration::from_secs(3600)).to_string();
        let body = json!({ "to": "+15551234567", "audio": audio, "send_at": at });
        let (status, note) = read(world.post_json(&body).send().await.expect("an answer")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{note}");
        let id = note["id"].as_str().expect("an id").to_owned();
        let cancel = world.http.post(format!("{}/voice/{id}/cancel", world.url));
        assert!(
            cancel.bearer_auth(crate::harness::KEY).send().await.expect("an answer").status().is_success()
        );
        id
    };
    let (status, note) = resend(&canceled(json!({ "url": format!("{url}/a.mp3") })).await).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{note}");
    world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    assert_eq!(asked.lock().expect("a log").len(), 1);
    // Queries and headers may be secrets and are not kept, so these cannot be downloaded any more.
    for audio in [
        json!({ "url": format!("{url}/a.mp3?sig=S") }),
        json!({ "url": format!("{url}/a.mp3"), "headers": { "X-Secret": "s" } }),
    ] {
        let (status, problem) = resend(&canceled(audio).await).await;
        assert_eq!((status.as_u16(), &problem["code"]), (410, &json!("media_expired")), "{problem}");
    }
}
