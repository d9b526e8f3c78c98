//! Examples of bodies and answers. A test validates each against its schema.

use serde_json::{Value, json};
use utoipa::openapi::{Content, OpenApi, RefOr, example::ExampleBuilder};

use super::operations;

pub const NOTE: &str = "vn_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41";
const RECEIVED: &str = "in_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41";
const UPLOAD: &str = "med_01985c3a-1f0a-7e44-8c2d-90b7a1f3e6d5";

/// Adds the examples to their operations.
pub fn add(document: &mut OpenApi) {
    for (_, _, operation) in operations(document) {
        let id = operation.operation_id.clone().unwrap_or_default();
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            for (kind, content) in &mut body.content {
                for (name, summary, value) in request(&id, kind) {
                    put(content, name, summary, value);
                }
            }
        }
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            for content in response.content.values_mut() {
                for (name, summary, value) in answer(&id, status) {
                    put(content, name, summary, value);
                }
            }
        }
    }
}

fn put(content: &mut RefOr<Content>, name: &str, summary: &str, value: Value) {
    if let RefOr::T(content) = content {
        let example = ExampleBuilder::new().summary(summary).value(Some(value)).build();
        content.examples.insert(name.to_owned(), example.into());
    }
}

type Examples = Vec<(&'static str, &'static str, Value)>;

fn request(operation: &str, kind: &str) -> Examples {
    let url = "https://bot.example/greeting.mp3";
    let data = "data:audio/mpeg;base64,SUQzBAAAAAAA";
    match (operation, kind) {
        ("sendVoice" | "planVoice", "application/json") => vec![
            ("by_url", "Audio by URL", json!({ "to": "+15551234567", "audio": { "url": url } })),
            (
                "inside",
                "Audio in the request, with all other fields",
                json!({
                    "to": "+15551234567",
                    "audio": { "data": data, "filename": "greeting.mp3" },
                    "via": "imessage",
                    "convert": "auto",
                    "text": "Your parcel is here.",
                    "strict": false,
                    "expires_in": "10m",
                    "metadata": { "order": 7 },
                }),
            ),
            (
                "uploaded",
                "Audio uploaded before",
                json!({ "to": "alias:family", "audio": { "media_id": UPLOAD } }),
            ),
            (
                "answer",
                "An answer to a received note, in its conversation",
                json!({ "reply_to": RECEIVED, "audio": { "url": url } }),
            ),
            (
                "spoken",
                "A text that a server speaks",
                json!({ "to": "+15551234567", "audio": { "speech": { "text": "Your parcel is here." } } }),
            ),
            (
                "raw_speech",
                "Raw samples of a text-to-speech service, by preset",
                json!({ "to": "+15551234567", "audio": { "url": "https://bot.example/speech", "format": "openai-pcm" } }),
            ),
        ],
        ("renderAudio", "application/json") => vec![
            ("by_url", "Audio by URL", json!({ "audio": { "url": url } })),
            ("inside", "Audio in the request", json!({ "audio": { "data": data }, "convert": "always" })),
        ],
        ("renderAudio", "multipart/form-data") => {
            vec![("form", "A form; `audio` stands for the file", json!({ "audio": "(the file)" }))]
        }
        ("recoverVoice", "application/json") => vec![(
            "outage",
            "Everything that failed during an outage of one connection",
            json!({ "status": ["failed", "expired"], "since": "2026-11-21T10:00:00Z", "via": "whatsapp" }),
        )],
        ("uploadAudio", "application/json") => vec![
            ("by_url", "Audio by URL", json!({ "audio": { "url": url } })),
            ("inside", "Audio in the request", json!({ "audio": { "data": data } })),
        ],
        ("sendVoice" | "planVoice", "multipart/form-data") => vec![(
            "form",
            "A form; `audio` stands for the file",
            json!({ "to": "+15551234567", "audio": "(the file)", "via": "whatsapp", "metadata": { "order": 7 } }),
        )],
        ("uploadAudio", "multipart/form-data") => {
            vec![("form", "A form; `audio` stands for the file", json!({ "audio": "(the file)" }))]
        }
        _ => Vec::new(),
    }
}

fn answer(operation: &str, status: &str) -> Examples {
    match (operation, status) {
        ("sendVoice" | "resendVoice", "202") => vec![("queued", "Just taken", queued())],
        ("planVoice", "200") => vec![("two", "Over two connections", plan())],
        ("sendVoice" | "getVoice", "200") => vec![("accepted", "With the provider", accepted())],
        ("cancelVoice", "200") => vec![("canceled", "Called off", canceled())],
        ("listVoice", "200") => {
            vec![("page", "The only page", json!({ "items": [accepted()], "next_cursor": null }))]
        }
        ("getReceived", "200") => vec![("received", "A question on WhatsApp", received())],
        ("listReceived", "200") => {
            vec![("page", "The only page", json!({ "items": [received()], "next_cursor": null }))]
        }
        ("uploadAudio", "201") | ("getUpload", "200") => {
            vec![("upload", "A sample of ten seconds", upload())]
        }
        ("listEventAttempts", "200") => vec![("two", "Taken at the second try", event_attempts())],
        ("recoverVoice", "202") => vec![("begun", "Just ordered", task(0, 0))],
        ("getTask", "200") => vec![("running", "Under way", task(350, 2))],
        ("getUsage", "200") => vec![("day", "By day", usage())],
        ("listConnections", "200") => vec![("two", "iMessage and WhatsApp", connections())],
        ("getHealth", "200") => vec![("ok", "Alive", json!("ok\n"))],
        ("getReadiness", "200") => vec![("ready", "All is well", readiness(None))],
        ("getReadiness", "503") => {
            vec![("starting", "Just started", readiness(Some("the self-test is still running")))]
        }
        _ => Vec::new(),
    }
}

fn waveform() -> Value {
    (0..64_u32).map(|step| (step * 37 % 61) + step % 7 * 5).collect::<Vec<_>>().into()
}

fn source() -> Value {
    json!({
        "container": "mp3",
        "codec": "mp3",
        "mime_type": "audio/mpeg",
        "duration_ms": 9870,
        "size_bytes": 158_000,
        "sample_rate": 24_000,
        "channels": 1,
        "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    })
}

pub fn received() -> Value {
    let file = |part: &str, facts: Value| {
        let mut file = facts;
        file["url"] = json!(format!("/received/{RECEIVED}/audio?as={part}"));
        file
    };
    let native = json!({
        "container": "ogg",
        "codec": "opus",
        "mime_type": "audio/ogg; codecs=opus",
        "duration_ms": 9870,
        "size_bytes": 24_412,
        "sample_rate": 16_000,
        "channels": 1,
        "sha256": "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9",
    });
    json!({
        "id": RECEIVED,
        "status": "received",
        "from": "+15551234567",
        "conversation": "+15551234567",
        "group": false,
        "sender_name": "Ann",
        "via": "whatsapp",
        "provider": "waha",
        "provider_message_id": "false_15551234567@c.us_3EB0A1B2C3D4E5F6",
        "reply_to": null,
        "sent_at": "2026-11-21T10:00:00.000Z",
        "received_at": "2026-11-21T10:00:00.412Z",
        "form": "voice",
        "audio": { "native": file("native", native), "renders": { "mp3-1": file("mp3-1", source()) } },
        "waveform": waveform(),
        "transcript": null,
        "error": null,
    })
}

fn plan() -> Value {
    json!({
        "audio": source(),
        "connections": [
            {
                "connection": "imessage",
                "provider": "linq",
                "verdict": "warning",
                "profile": "linq-1",
                "work": "none",
                "audio": {
                    "container": "mp3",
                    "codec": "mp3",
                    "mime_type": "audio/mpeg",
                    "duration_ms": 9870,
                    "size_bytes": 158_000,
                    "sample_rate": 24_000,
                    "channels": 1,
                },
                "form": "voice",
                "forms": [
                    {"form": "voice", "profile": "linq-1", "max_bytes": 10_000_000, "max_duration_ms": null, "caption": null,
                     "chosen": true, "caption_fits": null, "reason": null, "until": null},
                    {"form": "audio", "profile": "linq-1", "max_bytes": 10_000_000, "max_duration_ms": null, "caption": null,
                     "chosen": false, "caption_fits": null, "reason": null, "until": null},
                ],
                "reasons": [{
                    "code": "reply_unsupported",
                    "detail": "replies are not possible over this connection, so the note is sent as a message of its own",
                }],
            },
            {
                "connection": "whatsapp",
                "provider": "wawp",
                "verdict": "ok",
                "profile": "whatsapp-1",
                "work": "transcoded",
                "audio": {
                    "container": "ogg",
                    "codec": "opus",
                    "mime_type": "audio/ogg; codecs=opus",
                    "duration_ms": 9870,
                    "size_bytes": 30_699,
                    "sample_rate": 16_000,
                    "channels": 1,
                },
                "form": "voice",
                "forms": [
                    {"form": "voice", "profile": "whatsapp-1", "max_bytes": 16_000_000, "max_duration_ms": null, "caption": null,
                     "chosen": true, "caption_fits": null, "reason": null, "until": null},
                ],
                "reasons": [],
            },
        ],
    })
}

fn queued() -> Value {
    let at = "2026-11-21T10:00:00.000Z";
    json!({
        "id": NOTE,
        "status": "queued",
        "to": "+15551234567",
        "via": "whatsapp",
        "provider": "wawp",
        "provider_message_id": null,
        "reply_to": null,
        "resend_of": null,
        "form": null,
        "audio": { "source": source(), "sent": null, "waveform": waveform(), "speech": null },
        "attempts": [],
        "warnings": [],
        "stalled": false,
        "next_attempt_at": at,
        "error": null,
        "metadata": { "order": 7 },
        "created_at": at,
        "updated_at": at,
        "accepted_at": null,
        "sent_at": null,
        "delivered_at": null,
        "read_at": null,
        "played_at": null,
    })
}

fn accepted() -> Value {
    let end = "2026-11-21T10:00:00.812Z";
    let mut note = queued();
    note["status"] = json!("accepted");
    note["provider_message_id"] = json!("true_15551234567@c.us_3EB0A1B2C3D4E5F6");
    note["form"] = json!("voice");
    note["audio"]["sent"] = json!({
        "container": "ogg",
        "codec": "opus",
        "mime_type": "audio/ogg; codecs=opus",
        "duration_ms": 9870,
        "size_bytes": 28_412,
        "sample_rate": 16_000,
        "channels": 1,
        "sha256": "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9",
        "profile": "whatsapp-1",
        "work": "transcoded",
        "checks": ["ogg_pages", "opus_headers", "opus_packets", "granules", "duration", "profile"],
    });
    note["attempts"] = json!([{
        "n": 1,
        "connection": "whatsapp",
        "outcome": "accepted",
        "at": "2026-11-21T10:00:00.004Z",
        "took_ms": 808,
        "trace": null,
        "error": null,
    }]);
    note["next_attempt_at"] = Value::Null;
    note["updated_at"] = json!(end);
    note["accepted_at"] = json!(end);
    note
}

fn canceled() -> Value {
    let mut note = queued();
    note["status"] = json!("canceled");
    note["next_attempt_at"] = Value::Null;
    note
}

/// The note of an event: after it reached a status, or when it stalled.
pub fn note_at(change: &str) -> Value {
    let at = json!("2026-11-21T10:00:00.812Z");
    let mut note = if change == "canceled" { canceled() } else { accepted() };
    match change {
        "stalled" => note["stalled"] = json!(true),
        status => note["status"] = json!(status),
    }
    let receipts = ["sent", "delivered", "read", "played"];
    for receipt in
        receipts.iter().take(receipts.iter().position(|one| *one == change).map_or(0, |last| last + 1))
    {
        note[format!("{receipt}_at")] = at.clone();
    }
    if matches!(change, "failed" | "expired") {
        note["error"] = json!({
            "type": "/docs/errors#provider_rejected",
            "title": "The provider refused the note",
            "status": 424,
            "detail": "the provider refused the note",
            "code": "provider_rejected",
            "id": NOTE,
            "stage": "dispatch",
        });
    }
    if matches!(change, "failed" | "expired" | "unknown") {
        note["accepted_at"] = Value::Null;
        note["provider_message_id"] = Value::Null;
        note["attempts"][0]["outcome"] = json!(if change == "unknown" { "unknown" } else { "refused" });
    }
    note
}

fn upload() -> Value {
    json!({
        "id": UPLOAD,
        "audio": source(),
        "waveform": waveform(),
        "created_at": "2026-11-21T09:00:00.000Z",
        "expires_at": "2026-11-28T09:00:00.000Z",
    })
}

fn event_attempts() -> Value {
    json!({
        "items": [
            { "at": "2026-11-21T10:00:00.812Z", "status": 503, "took_ms": 210, "error": "the bot answered 503" },
            { "at": "2026-11-21T10:00:03.104Z", "status": 204, "took_ms": 48, "error": null },
        ],
    })
}

fn task(done: u32, failed: u32) -> Value {
    let failures = if failed > 0 { json!({ "media_expired": failed }) } else { json!({}) };
    json!({
        "id": "task_01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41",
        "kind": "recover",
        "status": "running",
        "total": 1200,
        "done": done,
        "failed": failed,
        "skipped": 0,
        "failures": failures,
        "waiting": null,
        "error": null,
        "created_at": "2026-11-21T12:00:00.000Z",
        "updated_at": "2026-11-21T12:00:00.000Z",
        "ended_at": null,
    })
}

fn usage() -> Value {
    json!({
        "from": "2026-11-01",
        "to": "2026-11-30",
        "items": [
            {
                "key": "2026-11-30",
                "notes": 128,
                "seconds": 1263.4,
                "bytes_in": 5_218_304,
                "bytes_out": 2_510_336,
                "attempts": 131,
                "by_status": { "failed": 8, "played": 120 },
            },
        ],
    })
}

fn connections() -> Value {
    json!({
        "webhook": { "health": "ok", "health_detail": null, "failing_since": null, "paused_at": null },
        "items": [
            {
                "name": "imessage",
                "provider": "linq",
                "health": "ok",
                "health_detail": null,
                "conversations_closed_until": null,
                "capabilities": {
                    "profile": "linq-1",
                    "audio": {
                        "accepts": ["MP3, mono or stereo, at most 48 kHz", "AAC in M4A, mono or stereo, at most 48 kHz"],
                        "makes": "AAC in M4A, mono, the source's rate from 16 to 48 kHz, 64 kbit/s, index first",
                        "max_bytes": 10_000_000,
                        "max_duration_ms": null,
                    },
                    "convert": "auto",
                    "provider_converts": false,
                    "intake": "upload",
                    "max_bytes": 10_000_000,
                    "recipients": ["phone", "email", "linq"],
                    "reply": "none",
                    "caption": false,
                    "presence": true,
                    "idempotent_send": false,
                    "degrade": ["audio"],
                    "forms": [
                        {"form": "voice", "profile": "linq-1", "intake": "upload", "max_bytes": 10_000_000,
                         "max_duration_ms": null, "caption": null},
                        {"form": "audio", "profile": "linq-1", "intake": "upload", "max_bytes": 10_000_000,
                         "max_duration_ms": null, "caption": null},
                    ],
                },
            },
            {
                "name": "whatsapp",
                "provider": "wawp",
                "health": "paused",
                "health_detail": "the provider asked to slow down; nothing is sent before 2026-11-21T10:05:00.000Z",
                "conversations_closed_until": null,
                "capabilities": {
                    "profile": "whatsapp-1",
                    "audio": {
                        "accepts": [
                            "Ogg/Opus, mono, 16 kHz, at most wideband, one frame of 20 ms per packet, \
                             vendor `Recorder` and no comments",
                        ],
                        "makes": "Ogg/Opus, mono, 16 kHz, 24 kbit/s, one frame of 20 ms per packet",
                        "max_bytes": 16_000_000,
                        "max_duration_ms": null,
                    },
                    "convert": "auto",
                    "provider_converts": true,
                    "intake": "url",
                    "max_bytes": 16_000_000,
                    "recipients": ["phone", "c.us", "g.us", "newsletter", "lid"],
                    "reply": "messageid",
                    "caption": false,
                    "presence": false,
                    "idempotent_send": false,
                    "degrade": ["audio"],
                    "forms": [
                        {"form": "voice", "profile": "whatsapp-1", "intake": "url", "max_bytes": 16_000_000,
                         "max_duration_ms": null, "caption": null},
                    ],
                },
            },
        ],
    })
}

fn readiness(reason: Option<&str>) -> Value {
    let ok = json!({ "status": "ok" });
    let ffmpeg = match reason {
        None => json!({ "status": "ok", "confinement": "enforced" }),
        Some(reason) => json!({ "status": "failed", "reason": reason }),
    };
    json!({
        "status": if reason.is_some() { "failed" } else { "ok" },
        "checks": { "database": ok, "media": ok, "ffmpeg": ffmpeg, "disk": ok },
    })
}
