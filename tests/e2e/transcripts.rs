//! Transcripts of received notes: the words, and what is said where there are none.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    harness::{read, whole},
    house::{House, path},
    waha_server::Answer,
};

/// A gateway whose received notes are written down by the sandbox, and the sandbox's address.
async fn with_transcription() -> (House, String) {
    let house = House::start().await;
    let file = house.world.folder.path().join("config.toml");
    let config = std::fs::read_to_string(file).expect("the configuration");
    let sandbox = config.split("base_url = \"").find_map(|rest| rest.split_once("/linq\""));
    let sandbox = sandbox.expect("the sandbox's address").0.to_owned();
    let more = format!(
        "[tenants.a.inbound]\ntranscribe = \"ears\"\n[tenants.a.transcription.ears]\nkind = \"openai\"\n\
         base_url = \"{sandbox}/openai\"\napi_key = \"sandbox-openai-key\"\n"
    );
    house.world.reconfigure(|config| config + &more).expect("reloaded");
    (house, sandbox)
}

/// A recording of a text, spoken by the sandbox.
async fn spoken(house: &House, sandbox: &str, text: &str) -> Answer {
    let body = json!({ "model": "m", "voice": "v", "input": text, "response_format": "mp3" });
    let request = house.world.http.post(format!("{sandbox}/openai/v1/audio/speech"));
    let answer = request.bearer_auth("sandbox-openai-key").json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    Answer::Audio(whole(answer).await.into())
}

#[tokio::test]
async fn words_follow_the_announcement() {
    let (house, sandbox) = Box::pin(with_transcription()).await;
    let recording = Box::pin(spoken(&house, &sandbox, "Is my parcel here yet?")).await;
    house.say("T1", recording).await;
    let told = house.bot.told(2).await;
    assert_eq!([told[0].kind(), told[1].kind()], ["voice.received", "voice.transcribed"]);
    assert_eq!(told[0].body["data"]["transcript"], Value::Null);
    let note = &told[1].body["data"];
    let expected =
        json!({ "text": "Is my parcel here yet?", "language": null, "with": "ears", "untrusted": true });
    assert_eq!(note["transcript"], expected, "{note}");
    assert_eq!(note["id"], told[0].body["data"]["id"]);
    let shown = house.world.get(&format!("/received/{}", path(&note["id"]))).send().await.expect("an answer");
    assert_eq!(read(shown).await.1["transcript"], expected);
}

#[tokio::test]
async fn note_without_words_says_so() {
    let (house, sandbox) = Box::pin(with_transcription()).await;
    let openai = voicegate_sandbox::Provider::named("openai").expect("an emulator");
    let fault = |status| {
        let action = voicegate_sandbox::FaultAction::Status {
            status,
            body: None,
            headers: Default::default(),
            retry_after: None,
        };
        voicegate_sandbox::Fault::new(openai, voicegate_sandbox::Operation::Transcription, action)
    };
    // A fault that passes is asked again; one that stays is told, and so is a refusal, at once.
    for (message, faults, tries, code) in [
        ("T1", fault(500).times(1), 2, None),
        ("T2", fault(500).times(99), 7, Some("speech_unavailable")),
        ("T3", fault(401).times(99), 1, Some("speech_rejected")),
    ] {
        house.world.sandbox.forget_faults();
        house.world.sandbox.add_fault(faults);
        let asked = || {
            let requests = house.world.sandbox.requests();
            requests.iter().filter(|request| request.operation == "transcription").count()
        };
        let (before, heard) = (house.bot.count().borrow().len(), asked());
        let recording = Box::pin(spoken(&house, &sandbox, "hello")).await;
        house.say(message, recording).await;
        house.world.pass_until_told(&house.bot, before + 2).await;
        let told = house.bot.told(before + 2).await;
        let transcript = &told[before + 1].body["data"]["transcript"];
        match code {
            None => assert_eq!(transcript["text"], "hello", "{message}: {transcript}"),
            Some(code) => {
                let error = &transcript["error"];
                assert_eq!(
                    (&error["code"], &error["stage"]),
                    (&json!(code), &json!("speech")),
                    "{transcript}"
                );
                assert_eq!(transcript["text"], Value::Null, "no words are made up");
                assert!(!transcript.to_string().contains("sandbox-openai-key"), "{transcript}");
            }
        }
        assert_eq!(asked() - heard, tries, "{message}");
    }
}

#[tokio::test]
async fn transcription_server_that_limits_its_rate_is_asked_for_longer_than_a_broken_one() {
    let (house, sandbox) = Box::pin(with_transcription()).await;
    let openai = voicegate_sandbox::Provider::named("openai").expect("an emulator");
    let busy = voicegate_sandbox::FaultAction::RateLimit { retry_after: 5 };
    let busy = voicegate_sandbox::Fault::new(openai, voicegate_sandbox::Operation::Transcription, busy);
    let recording = Box::pin(spoken(&house, &sandbox, "hello")).await;
    house.world.sandbox.add_fault(busy.times(9));
    house.say("T1", recording).await;
    house.world.pass_until_told(&house.bot, 2).await;
    let transcript = &house.bot.told(2).await[1].body["data"]["transcript"];
    assert_eq!(transcript["text"], "hello", "{transcript}");
}
