//! The requests that speech servers get.

use serde_json::{Value, json};
use voicegate_providers::speech::{self, SPEECH, ServerSettings, Utterance};

use crate::{
    KEY, built, client, limits,
    stub::{Fixture, Stub},
};

async fn asked(kind: &str, format: Option<&str>, utterance: Utterance<'_>) -> (String, Value) {
    let stub =
        Stub::start(&Fixture::parse("HTTP/1.1 200 OK\ncontent-type: audio/wav\n\n{{wav 9600 9600}}")).await;
    let speech = built(kind, stub.base_url(), format);
    let mut out = std::io::Cursor::new(Vec::new());
    speech::speak(&*speech, &client(), &utterance, limits(1 << 20), &mut out).await.expect("spoken");
    let [(head, body)] = stub.asked().try_into().expect("one request");
    (head, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test]
async fn openai_is_asked_as_its_reference_has_it() {
    let plain = Utterance { text: "hello", speed: Some(1.0), ..Utterance::default() };
    let (head, body) = asked("openai", Some("pcm"), plain).await;
    assert!(head.starts_with("POST /base/v1/audio/speech HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("authorization: bearer {KEY}")), "{head}");
    let expected =
        json!({"model": "gpt-4o-mini-tts", "input": "hello", "voice": "anna", "response_format": "pcm"});
    assert_eq!(body, expected);
    let wishes = Utterance { text: "x", voice: Some("otto"), instructions: Some("calmly"), speed: Some(1.5) };
    let (_, body) = asked("openai", None, wishes).await;
    let expected = json!({
        "model": "gpt-4o-mini-tts", "input": "x", "voice": "otto", "response_format": "wav",
        "instructions": "calmly", "speed": 1.5,
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn elevenlabs_is_asked_as_its_reference_has_it() {
    let plain = Utterance { text: "hello", voice: Some("a/b?c"), speed: Some(1.1), ..Utterance::default() };
    let (head, body) = asked("elevenlabs", Some("pcm_16000"), plain).await;
    let line = "POST /base/v1/text-to-speech/a%2Fb%3Fc?output_format=pcm_16000 HTTP/1.1";
    assert!(head.starts_with(line), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("xi-api-key: {KEY}")), "{head}");
    let expected =
        json!({"text": "hello", "model_id": "eleven_multilingual_v2", "voice_settings": {"speed": 1.1}});
    assert_eq!(body, expected);
}

#[test]
fn wishes_that_a_server_cannot_fulfil_are_known_before_it_is_asked() {
    let server = |kind: &str, voice: Option<&str>| {
        let settings = ServerSettings { voice: voice.map(str::to_owned), ..ServerSettings::default() };
        (SPEECH.iter().find(|known| known.name == kind).expect("a kind").build)(settings).expect("sound")
    };
    let plain = Utterance { text: "hello", ..Utterance::default() };
    let instructed = Utterance { instructions: Some("calmly"), ..plain };
    assert_eq!(server("openai", None).judge(&instructed), Ok(()));
    let field = |unfit: Result<(), speech::Unfit>| unfit.expect_err("a wish too many").field;
    assert_eq!(field(server("elevenlabs", None).judge(&plain)), "voice");
    assert_eq!(server("elevenlabs", None).judge(&Utterance { voice: Some("x"), ..plain }), Ok(()));
    assert_eq!(field(server("elevenlabs", Some("x")).judge(&instructed)), "instructions");
}

#[test]
fn settings_are_judged_by_name_and_never_shown() {
    let build = |settings: ServerSettings| {
        (SPEECH[0].build)(settings).map(|speech| format!("{speech:?}")).map_err(|error| error.key)
    };
    let shown =
        build(ServerSettings { api_key: Some(KEY.into()), ..ServerSettings::default() }).expect("sound");
    assert!(!shown.contains(KEY), "{shown}");
    for (key, settings) in [
        ("base_url", ServerSettings { base_url: Some("ftp://x".into()), ..ServerSettings::default() }),
        ("base_url", ServerSettings { base_url: Some("http://x/v1/".into()), ..ServerSettings::default() }),
        ("api_key", ServerSettings { api_key: Some("a\nb".into()), ..ServerSettings::default() }),
        ("model", ServerSettings { model: Some(" ".into()), ..ServerSettings::default() }),
        ("format", ServerSettings { format: Some("m p 3".into()), ..ServerSettings::default() }),
    ] {
        assert_eq!(build(settings), Err(key.to_owned()));
    }
}
