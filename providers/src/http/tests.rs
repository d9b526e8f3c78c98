//! Mistakes in recipes and in connections, and what is shown of them.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    capabilities::interned,
    draft::{Body, Draft},
    template::Template,
    *,
};
use crate::{ConfigError, ReceiptStatus, Settings, parse_recipient};

fn recipe(change: impl FnOnce(&mut Value)) -> Value {
    let mut recipe = json!({
        "url": "{{base_url}}/send", "auth": {"bearer": "{{token}}"}, "audio": "link", "recipient": "digits",
        "fields": {"to": "{{to}}", "audio": "{{audio}}"}, "id": ["/id"], "forms": {"voice": "whatsapp-3"},
    });
    change(&mut recipe);
    recipe
}

fn settings(recipe: Value) -> Map<String, Value> {
    let settings =
        json!({"base_url": "https://api.example.com", "token": "secret-hunter2", "recipe": recipe});
    settings.as_object().cloned().expect("an object")
}

fn built(settings: Map<String, Value>) -> Result<Http, ConfigError> {
    connection(Settings::new(settings))
}

fn refused(recipe: Value) -> String {
    let error = built(settings(recipe)).expect_err("refused").to_string();
    assert!(!error.contains("hunter2"), "{error}");
    error
}

#[test]
fn mistake_is_named_by_its_key_with_a_suggestion() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 34] = [
        (|r| r["methd"] = json!("POST"), "recipe: methd: there is no such key; did you mean `method`?"),
        (
            |r| r["method"] = json!("PSOT"),
            "method: expected one of POST, PUT, PATCH, GET; did you mean `POST`?",
        ),
        (|r| r["method"] = json!("GET"), "method: expected POST, PUT or PATCH"),
        (|r| drop(r.as_object_mut().map(|r| r.remove("url"))), "url: is required, and missing"),
        (
            |r| r["url"] = json!("{{baseurl}}/x"),
            "url: there is no placeholder {{baseurl}}; did you mean {{base_url}}?",
        ),
        (|r| r["url"] = json!("https://{{to}}.example.com/x"), "url: expected {{base_url}}/path"),
        (|r| r["url"] = json!("{{base_url}}{{to}}"), "url: expected {{base_url}}/path"),
        (|r| r["url"] = json!("ftp://x/y"), "url: expected {{base_url}}/path"),
        (
            |r| r["auth"] = json!({"baerer": "{{token}}"}),
            "auth.baerer: there is no such key; did you mean `bearer`?",
        ),
        (
            |r| r["auth"] = json!({"bearer": "{{token}}", "query": ["t", "x"]}),
            "auth: expected exactly one of",
        ),
        (
            |r| r["auth"] = json!({"header": ["X Y", "{{token}}"]}),
            "auth.header[0]: expected the name of a header",
        ),
        (
            |r| r["auth"] = json!({"bearer": {"env": "TOKEN"}}),
            "auth.bearer: expected a text; secrets stand in the connection",
        ),
        (|r| r["auth"] = json!({"bearer": "{{to}}"}), "auth: {{to}} is no credential"),
        (
            |r| r["body"] = json!("multiprt"),
            "body: expected one of json, form, multipart; did you mean `multipart`?",
        ),
        (|r| r["audio"] = json!("part"), "fields.audio: with audio = \"part\" the body is \"multipart\""),
        (
            |r| drop(r.as_object_mut().map(|r| r.remove("audio"))),
            "audio: is required, because the fields have {{audio}}",
        ),
        (
            |r| r["recipient"] = json!("e.164"),
            "recipient: expected one of e164, digits, c.us, s.whatsapp.net, raw; did you mean `e164`?",
        ),
        (|r| r["fields"]["a"]["b"] = json!("{{reply}}"), "fields.a.b: there is no placeholder {{reply}}"),
        (|r| r["fields"]["x"] = json!({"env": "X"}), "fields.x: secrets stand in the connection"),
        (
            |r| r["fields"]["ms"] = json!("{{duration}}"),
            "duration: is required, because {{duration}} is used: ms, s or s_float",
        ),
        (|r| r["fields"]["w"] = json!("{{waveform}}"), "waveform: is required, because {{waveform}} is used"),
        (|r| r["fields"]["m"] = json!("{{media}}"), "fields.m: {{media}} needs `upload`"),
        (|r| r["fields"]["t"] = json!("{{text}}"), "fields.t: {{text}} is there only where a text takes"),
        (
            |r| r["fields"] = json!({"audio": "{{audio}}"}),
            "fields: nothing here and nothing in the URL is {{to}}",
        ),
        (|r| r["fields"] = json!({"to": "{{to}}"}), "fields: nothing here is {{audio}}"),
        (|r| r["id"] = json!("id"), "id: expected a JSON pointer such as /message/id"),
        (|r| r["id"] = json!([]), "id: expected at least one JSON pointer"),
        (
            |r| r["answers"] = json!([{"status": 99, "kind": "rejected"}]),
            "answers[0].status: expected a status such as 429",
        ),
        (
            |r| r["answers"] = json!([{"status": "4xx", "kind": "rate_limit"}]),
            "answers[0].kind: expected one of accepted",
        ),
        (
            |r| r["answers"] = json!([{"pattern": "(", "kind": "rejected"}]),
            "answers[0].pattern: expected a regular expression: unclosed group",
        ),
        (|r| r["forms"] = json!({"bubble": "x"}), "forms: expected one of voice, audio, file, text"),
        (
            |r| r["repeatable"] = json!("24h"),
            "repeatable: the provider can know a repetition only by {{note_id}}",
        ),
        (
            |r| r["callback"] = json!({"id": "/id", "status": "/s", "statuses": {"x": "read"}}),
            "callback: expected exactly one of hmac and token",
        ),
        (
            |r| {
                r["callback"] = json!({"token": true, "id": "/id", "status": "/s", "statuses": {"x": "raed"}})
            },
            "callback.statuses.x: expected one of accepted, sent, delivered, read, played, failed; did you mean `read`?",
        ),
    ];
    for (change, expected) in cases {
        let error = refused(recipe(change));
        assert!(error.contains(expected), "{error}\n  instead of {expected}");
    }
    assert!(refused(json!("whapy")).contains("did you mean `whapi`?"));
    assert!(refused(json!("./no/such.toml")).contains("./no/such.toml cannot be read"));
    assert!(refused(json!(7)).contains("expected a file's name, a table, or one of gowa"));
}

#[test]
fn mistake_in_a_recipe_file_names_the_file() {
    let folder = std::env::temp_dir().join(format!("voicegate-recipe-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("mine.toml");
    let name = file.to_str().expect("UTF-8");
    std::fs::write(&file, bundled::find("gowa").expect("a recipe")).expect("a file");
    let mut own = settings(json!(name));
    own.insert("settings".to_owned(), json!({"user": "admin"}));
    assert!(built(own.clone()).is_ok());
    for (text, expected) in [
        ("url = \"{{base_url}}/x\"\nurl = 3", "mine.toml: line 2: this is no TOML"),
        (
            "url = \"{{base_url}}/x\"\nforms = { voice = \"a\" }\nid = \"/id\"",
            "mine.toml: recipient: is required",
        ),
        (
            "url = \"{{base_url}}/x\"\nrecipient = \"raw\"\nforms = { voice = \"a\" }\n[fields]\nid = \"/id\"",
            "mine.toml: id: is required, and missing; one stands below [fields]",
        ),
        (
            "url = \"{{base_url}}/x\"\nrecipient = \"raw\"\nforms = { voice = \"a\" }\nid = \"/id\"\n[fields]\nanswers = [{ kind = \"rejected\" }]",
            "recipe: fields.answers: this is a key of the recipe, and stands below [fields]",
        ),
    ] {
        std::fs::write(&file, text).expect("a file");
        let error = built(own.clone()).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder");
}

#[test]
fn settings_that_the_recipe_uses_are_required() {
    let with_setting = recipe(|r| r["fields"]["instance"] = json!("{{settings.instance}}"));
    for (key, change) in [
        ("settings: instance: is required", json!({})),
        ("is `instence` there meant to be it?", json!({"settings": {"instence": "x"}})),
        ("settings: instance: expected a text", json!({"settings": {"instance": {"env": "X"}}})),
        (
            "settings: user: the recipe has no {{settings.user}}",
            json!({"settings": {"instance": "i", "user": "u"}}),
        ),
        ("base_url: is required", json!({"base_url": null, "settings": {"instance": "x"}})),
        ("token: expected a text that is not empty", json!({"token": null, "settings": {"instance": "x"}})),
        ("token: a credential has characters", json!({"token": "hunter2\n", "settings": {"instance": "x"}})),
        (
            "webhook_secret: the recipe reads no signed callbacks",
            json!({"webhook_secret": "hunter2", "settings": {"instance": "x"}}),
        ),
        (
            "callback_token: the recipe reads no callbacks",
            json!({"callback_token": "hunter2", "settings": {"instance": "x"}}),
        ),
    ] {
        let mut settings = settings(with_setting.clone());
        settings.extend(change.as_object().cloned().expect("an object"));
        let error = built(settings).expect_err(key).to_string();
        assert!(error.contains(key) && !error.contains("hunter2"), "{error}\n  instead of {key}");
    }
}

#[test]
fn every_recipe_that_comes_with_voicegate_is_sound() {
    for (name, text) in bundled::RECIPES {
        let recipe = Recipe::parse(text).unwrap_or_else(|why| panic!("{name}: {why}"));
        sound::judge(&recipe).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn documentation_shows_every_recipe_as_it_is() {
    let page = include_str!("../../../docs/recipes.md");
    for (name, text) in bundled::RECIPES {
        assert!(
            page.contains(text.trim_end()),
            "docs/recipes.md does not show providers/recipes/{name}.toml as it is"
        );
    }
}

#[test]
fn documentation_names_every_key_and_every_placeholder() {
    let page = include_str!("../../../docs/recipes.md");
    let keys = [
        "base_url",
        "method",
        "url",
        "auth",
        "headers",
        "body",
        "audio",
        "link_max",
        "recipient",
        "recipients",
        "duration",
        "waveform",
        "fields",
        "id",
        "answers",
        "upload",
        "check",
        "forms",
        "max_bytes",
        "max_caption",
        "max_text",
        "repeatable",
        "overrides",
        "callback",
    ];
    let message = words::read::<Recipe>(json!({"?": 1})).err().expect("no such key");
    for key in keys {
        assert!(message.contains(key), "{key} is no key: {message}");
        assert!(page.contains(&format!("\n| `{key}` |")), "docs/recipes.md has no row for `{key}`");
    }
    let known = message.split("known are ").nth(1).expect("a list");
    assert_eq!(known.split(", ").count(), keys.len(), "a key is missing here: {known}");
    let names = Template::parse("{{?}}").err().expect("no such placeholder");
    for name in
        names.split("known are ").nth(1).expect("a list").trim_end_matches(" and settings.NAME").split(", ")
    {
        assert!(
            page.contains(&format!("| `{{{{{name}}}}}` |")),
            "docs/recipes.md has no row for {{{{{name}}}}}"
        );
    }
}

/// The code blocks of a kind in the part of the page that leads to a first recipe.
fn blocks(kind: &str) -> Vec<String> {
    let page = include_str!("../../../docs/recipes.md");
    let (lead, _) = page.split_once("## The connection's keys").expect("the end of the lead");
    let begin = format!("```{kind}\n");
    lead.split(&begin)
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block.replace("\n   ", "\n")))
        .collect()
}

#[test]
fn preview_of_the_documented_example_is_the_documented_text() {
    let recipe = blocks("toml").pop().expect("the whole recipe");
    let recipe = serde_json::to_value(recipe.parse::<toml::Table>().expect("TOML")).expect("a table");
    let to = parse_recipient("+15551234567").expect("a recipient");
    let shown = preview(Settings::new(Map::from_iter([("recipe".to_owned(), recipe)])), &to).expect("shown");
    let expected = blocks("text").into_iter().find(|block| block.contains("POST")).expect("the request");
    let plain = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
    assert_eq!(plain(&shown).replace("https://[base_url]", "https://api.example.com"), plain(&expected));
}

#[test]
fn preview_contains_no_secret() {
    let to = parse_recipient("+15551234567").expect("a recipient");
    for (name, text) in bundled::RECIPES {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let used =
            lines.flat_map(|line| line.split("{{settings.").skip(1)).filter_map(|rest| rest.split_once("}}"));
        let own: Map<String, Value> = used.map(|(name, _)| (name.to_owned(), json!("hunter2"))).collect();
        let settings = json!({
            "recipe": name, "base_url": "https://api.example.com", "token": "secret-hunter2", "settings": own,
        });
        let map = settings.as_object().cloned().expect("an object");
        let built = connection(Settings::new(map.clone())).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!format!("{built:?}").contains("hunter2"), "{name}: {built:?}");
        let shown = match preview(Settings::new(map), &to) {
            Ok(shown) => shown,
            // LINE has ids of its own alone.
            Err(error) => {
                assert_eq!((*name, error.key.as_str()), ("line", "to"), "{error}");
                let own = parse_recipient("http:U4af4980629").expect("a recipient");
                preview(Settings::new(Map::from_iter([("recipe".to_owned(), json!(name))])), &own)
                    .expect("shown")
            }
        };
        assert!(!shown.contains("hunter2") && shown.contains("[token]"), "{name}: {shown}");
        let method = shown.lines().nth(1).unwrap_or_default();
        assert!(method.starts_with("POST https://"), "{name}: {shown}");
    }
}

#[test]
fn a_preview_shows_the_request_as_it_would_be() {
    let to = parse_recipient("+15551234567").expect("a recipient");
    let shown =
        preview(Settings::new(Map::from_iter([("recipe".to_owned(), json!("z-api"))])), &to).expect("shown");
    let expected = "# voice, made by the profile whatsapp-1\n\
        POST https://api.z-api.io/instances/[settings.instance]/token/[token]/send-audio\n\
        accept: application/json\n\
        content-type: application/json\n\
        client-token: [settings.client_token]\n\
        \n\
        {\n  \"audio\": \"data:[media type];base64,[base64 of voice.ogg]\",\n  \
        \"messageId\": \"[reply_to, where there is one]\",\n  \"phone\": \"15551234567\",\n  \"waveform\": true\n}\n";
    assert_eq!(shown, expected);
    let twilio =
        preview(Settings::new(Map::from_iter([("recipe".to_owned(), json!("twilio-whatsapp"))])), &to);
    let twilio = twilio.expect("shown");
    for line in [
        "authorization: Basic [base64 of [settings.account]:[token]]",
        "To=whatsapp:+15551234567",
        "MediaUrl=https://[public_url]/m/[token of the file]/voice.ogg",
    ] {
        assert!(twilio.contains(line), "{twilio}");
    }
    let upload = recipe(|r| {
        r["fields"]["audio"] = json!("{{media}}");
        r["upload"] = json!({"url": "{{base_url}}/media", "fields": {"file": "{{audio}}"}, "id": "/id"});
    });
    let shown = preview(Settings::new(Map::from_iter([("recipe".to_owned(), upload)])), &to).expect("shown");
    for line in
        ["POST https://[base_url]/media", "file: [the audio as a file]", "[id from the upload's answer]"]
    {
        assert!(shown.contains(line), "{shown}");
    }
    let email = parse_recipient("ann@example.com").expect("a recipient");
    let error = preview(Settings::new(Map::from_iter([("recipe".to_owned(), json!("z-api"))])), &email);
    assert_eq!(error.expect_err("refused").key, "to");
}

#[test]
fn a_credential_in_the_query_is_escaped() {
    let with_query = recipe(|r| r["auth"] = json!({"query": ["access token", "{{token}}"]}));
    let mut settings = settings(with_query);
    settings.insert("token".to_owned(), json!("a&b=c"));
    let http = built(settings).expect("sound");
    let url = Template::parse("{{base_url}}/send?x=1").expect("a template");
    let draft = Draft::new(http.recipe.method, &url, &http.fixed, Vec::new(), Body::None).expect("a URL");
    assert_eq!(http.with_query(draft).url, "https://api.example.com/send?x=1&access%20token=a%26b%3Dc");
}

fn request(
    headers: &[(&'static str, &'static str)],
    query: &[(&str, &str)],
    body: &'static str,
) -> CallbackRequest {
    let header = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
    };
    CallbackRequest {
        method: http::Method::POST,
        headers: headers.iter().map(header).collect(),
        query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: Bytes::from_static(body.as_bytes()),
        now: Timestamp::from_second(1_767_225_600).expect("a time"),
    }
}

#[test]
fn a_receipt_may_come_as_a_form() {
    let settings = json!({"recipe": "twilio-whatsapp", "token": "secret", "callback_token": "0123456789abcdef",
                          "settings": {"account": "AC1", "from": "+15005550006"}});
    let http = built(settings.as_object().cloned().expect("an object")).expect("sound");
    let kind = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let body = "MessageSid=MM01&MessageStatus=undelivered&To=whatsapp%3A%2B15551234567";
    let heard = http.callback(&request(&[kind], &[("token", "0123456789abcdef")], body)).expect("genuine");
    let receipts: Vec<_> =
        heard.receipts().map(|receipt| (receipt.message_id.as_str(), receipt.status)).collect();
    assert_eq!(receipts, [("MM01", ReceiptStatus::Failed)]);
    let forged = http.callback(&request(&[kind], &[("token", "0123456789abcdeF")], body));
    assert_eq!(forged, Err(CallbackError::Forged));
    assert_eq!(http.admits(&request(&[kind], &[], "")), Err(CallbackError::Forged));
}

#[test]
fn a_token_may_come_in_a_header_and_names_the_note() {
    let settings = json!({"recipe": "loopmessage", "token": "secret", "callback_token": "0123456789abcdef",
                          "settings": {"secret_key": "k", "sender_name": "n"}});
    let http = built(settings.as_object().cloned().expect("an object")).expect("sound");
    let body = r#"{"alert_type": "message_sent", "message_id": "2BC4", "passthrough": "vn_1"}"#;
    let heard =
        http.callback(&request(&[("x-voicegate-token", "0123456789abcdef")], &[], body)).expect("genuine");
    let receipt = heard.receipts().next().expect("a receipt");
    assert_eq!((receipt.message_id.as_str(), receipt.correlation_id.as_deref()), ("2BC4", Some("vn_1")));
    let in_the_query = http.callback(&request(&[], &[("token", "0123456789abcdef")], body));
    assert_eq!(in_the_query, Err(CallbackError::Forged));
}

#[test]
fn missing_hmac_is_refused_before_the_body_is_read() {
    let settings = json!({"recipe": "gowa", "base_url": "https://x.example", "token": "secret", "settings": {"user": "u"},
                          "webhook_secret": "key"});
    let http = built(settings.as_object().cloned().expect("an object")).expect("sound");
    let admits = |value: &'static str| http.admits(&request(&[("x-hub-signature-256", value)], &[], ""));
    let sound = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(admits(sound), Ok(()));
    for wrong in [
        "sha256=",
        "sha256=00",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "sha256=zz",
    ] {
        assert_eq!(admits(wrong), Err(CallbackError::Forged), "{wrong}");
    }
}

#[test]
fn kinds_of_recipients_are_listed_once() {
    let first = interned(&[Kind::Phone, Kind::Group]);
    assert_eq!(first, ["g.us", "phone"]);
    assert!(std::ptr::eq(first, interned(&[Kind::Group, Kind::Phone, Kind::Phone])));
}
