//! Tenants, routes, and the promise that a provider can be replaced by configuration alone.

use reqwest::StatusCode;

use crate::harness::{KEY, NEW_KEY, OTHER_KEY, World, fixture, read};

#[tokio::test]
async fn changing_the_route_moves_the_same_request_to_the_other_provider() {
    let world = World::start().await;
    let first = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&first, "accepted").await;
    assert_eq!((world.delivered("linq").len(), world.delivered("wawp").len()), (1, 0));

    world
        .reconfigure(|config| config.replacen("route = [\"imessage\"]", "route = [\"whatsapp\"]", 1))
        .expect("a sound configuration");
    let second = world.accept("", fixture("speech-24k.mp3")).await;
    let note = world.until_status(&second, "accepted").await;
    assert_eq!((world.delivered("linq").len(), world.delivered("wawp").len()), (1, 1));
    assert_eq!(note["provider"], "wawp");
    let arrived = &world.delivered("wawp")[0];
    assert_eq!(arrived.problems, [""; 0]);
    assert_eq!(arrived.conversation, "15551234567@c.us");
}

#[tokio::test]
async fn invalid_reload_changes_nothing() {
    let world = World::start().await;
    let error =
        world.reconfigure(|config| config.replace("[fetch]", "[fetch]\nspeed = 1")).expect_err("refused");
    assert!(error.to_string().contains("fetch"), "{error}");
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
}

#[tokio::test]
async fn removed_key_is_refused_after_a_reload() {
    let world = World::start().await;
    world.reconfigure(|config| config.replace(KEY, NEW_KEY)).expect("a sound configuration");
    let response = world.get("/voice/vn_x").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn note_of_another_tenant_is_not_found() {
    let world = World::start().await;
    let id = world.accept("", fixture("speech-24k.mp3")).await;
    world.until_status(&id, "accepted").await;
    let absent = format!("vn_{}", uuid::Uuid::now_v7());
    let mut answers = Vec::new();
    for id in [&id, &absent] {
        for path in [format!("/voice/{id}"), format!("/voice/{id}/audio")] {
            let request = world.http.get(format!("{}{path}", world.url)).bearer_auth(OTHER_KEY);
            let request = request.header("x-request-id", "the-same");
            answers.push(read(request.send().await.expect("an answer")).await);
        }
    }
    assert_eq!(answers[0].0, StatusCode::NOT_FOUND);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");

    // It is not found through a reply either.
    let reply = world
        .http
        .post(format!("{}/voice?to=%2B15551234567&via=imessage&reply_to={id}", world.url))
        .bearer_auth(OTHER_KEY)
        .header("content-type", "audio/mpeg")
        .body(fixture("speech-24k.mp3"));
    let (_, note) = read(reply.send().await.expect("an answer")).await;
    assert_eq!(note["reply_to"], serde_json::Value::Null);
}

#[tokio::test]
async fn alias_resolves_to_a_recipient_on_each_connection() {
    let world = World::start().await;
    for via in ["imessage", "whatsapp"] {
        let request = world.post_raw(&format!("to=alias:family&via={via}"), fixture("speech-24k.mp3"));
        let (status, note) = read(request.send().await.expect("an answer")).await;
        assert_eq!((status, note["to"].as_str()), (StatusCode::ACCEPTED, Some("alias:family")));
        world.until_status(note["id"].as_str().expect("an id"), "accepted").await;
    }
    assert_eq!(world.delivered("linq")[0].conversation, "f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd");
    assert_eq!(world.delivered("wawp")[0].conversation, "120363000000000000@g.us");
}
