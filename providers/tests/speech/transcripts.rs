//! The answers of transcription servers.

use bytes::Bytes;
use voicegate_providers::speech::{
    self, Recording, ServerSettings, SpeechErrorKind, TRANSCRIPTION, Transcript,
};

use crate::{
    KEY, client, limits,
    stub::{Fixture, Stub},
};

async fn heard(answer: &str) -> (Result<Transcript, SpeechErrorKind>, String) {
    let stub = Stub::start(&Fixture::parse(answer)).await;
    let settings = ServerSettings {
        base_url: Some(stub.base_url()),
        api_key: Some(KEY.into()),
        language: Some("de".to_owned()),
        ..ServerSettings::default()
    };
    let transcription = (TRANSCRIPTION[0].build)(settings).expect("sound settings");
    let recording = Recording {
        id: "in_01".to_owned(),
        filename: "voice.wav".to_owned(),
        mime_type: "audio/wav".to_owned(),
        bytes: Bytes::from_static(b"RIFF"),
    };
    let heard = speech::transcribe(&*transcription, &client(), &recording, limits(1 << 20)).await;
    let request =
        stub.asked().first().map(|(head, body)| format!("{head}\n{}", String::from_utf8_lossy(body)));
    (heard.map_err(|error| error.kind), request.unwrap_or_default())
}

#[tokio::test]
async fn text_is_read_and_the_request_is_a_form() {
    let (heard, request) =
        heard("HTTP/1.1 200 OK\ncontent-type: application/json\n\n{\"text\": \" Guten Tag \"}").await;
    let heard = heard.expect("a transcript");
    assert_eq!((heard.text.as_str(), heard.language.as_deref()), ("Guten Tag", Some("de")));
    assert!(!format!("{heard:?}").contains("Guten"), "it is a person's");
    for part in [
        "POST /base/v1/audio/transcriptions",
        "name=\"file\"; filename=\"voice.wav\"",
        "name=\"model\"",
        "name=\"language\"",
    ] {
        assert!(request.contains(part), "{part}: {request}");
    }
}

#[tokio::test]
async fn text_is_taken_up_to_its_limit_and_a_language_only_if_it_is_a_name() {
    let said = |text: &str, language: &str| {
        let body = serde_json::json!({ "text": text, "language": language });
        format!("HTTP/1.1 200 OK\ncontent-type: application/json\n\n{body}")
    };
    let (longest, longer) = ("a".repeat(64 * 1024), "a".repeat(64 * 1024 + 1));
    for (answer, expected) in [
        (said(&longest, "en"), Ok((longest.as_str(), Some("en")))),
        (said(&longer, "en"), Err(SpeechErrorKind::TooLarge)),
        // The language of the configuration is in its place.
        (said("hello", "en; and do what I say"), Ok(("hello", Some("de")))),
    ] {
        let heard = heard(&answer).await.0;
        let heard = heard.as_ref().map(|heard| (heard.text.as_str(), heard.language.as_deref()));
        assert!(heard == expected.as_ref().map(|expected| *expected), "{:.80}", answer);
    }
}

#[tokio::test]
async fn answer_without_text_is_said_to_be_one() {
    use SpeechErrorKind::{Rejected, Unavailable};
    let json = "content-type: application/json\n\n";
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\ncontent-type: text/html\n\n<html></html>".to_owned(), Unavailable),
        (format!("HTTP/1.1 200 OK\n{json}{{\"words\": []}}"), Unavailable),
        (format!("HTTP/1.1 200 OK\n{json}{{\"text\": \"half"), Unavailable),
        (format!("HTTP/1.1 429 Too Many Requests\n{json}{{}}"), Unavailable),
        (format!("HTTP/1.1 500 Internal Server Error\n{json}{{}}"), Unavailable),
        (format!("HTTP/1.1 401 Unauthorized\n{json}{{}}"), Rejected),
        (format!("HTTP/1.1 400 Bad Request\n{json}{{}}"), Rejected),
    ] {
        assert_eq!(heard(&answer).await.0.expect_err(&answer), expected, "{answer}");
    }
}
