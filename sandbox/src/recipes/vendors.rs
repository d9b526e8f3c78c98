//! Tables of the requests that each API accepts, and of its answers. Sources are the vendors' pages, some of them known
//! from notes only; the links stand at each.

use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::BodyKind;

/// Public on purpose: nothing real answers to it.
pub const TOKEN: &str = "sandbox-http-token";

pub struct Vendor {
    /// The part of the path behind `/http/`.
    pub name: &'static str,
    pub path: &'static str,
    /// Headers that prove who asks.
    pub headers: &'static [(&'static str, &'static str)],
    /// A header with a key by which a repetition is known.
    pub key_header: Option<&'static str>,
    pub body: BodyKind,
    /// Each way in which a message can be described.
    pub shapes: &'static [&'static [Field]],
    pub containers: &'static [&'static str],
    /// The form in which the recipient sees audio.
    pub form: &'static str,
    pub new_id: fn() -> String,
    /// The message's id and the recipient make an answer.
    pub answer: fn(&str, &str) -> (u16, Value),
    /// A status and a reason make an answer.
    pub refuse: fn(u16, &str) -> (u16, Value),
    pub check: Option<Check>,
}

/// The address of a question about the account, and its answer.
type Check = (&'static str, fn() -> Value);

impl Vendor {
    pub fn named(name: &str) -> Option<&'static Self> {
        VENDORS.iter().find(|vendor| vendor.name == name)
    }
}

pub struct Field {
    /// A JSON pointer, or the name in a form.
    pub at: &'static str,
    pub is_required: bool,
    pub rule: Rule,
}

pub enum Rule {
    Exactly(&'static str),
    True,
    To(fn(&str) -> bool),
    Text,
    /// A text that comes back in webhooks.
    Tag,
    ReplyTo,
    Milliseconds,
    Seconds,
    /// 64 bytes as base64, none above this.
    Waveform(u8),
    /// A file with one of these media types.
    DataUri(&'static [&'static str]),
    File,
    Link {
        longest: usize,
        endings: &'static [&'static str],
    },
}

const fn must(at: &'static str, rule: Rule) -> Field {
    Field { at, is_required: true, rule }
}

const fn may(at: &'static str, rule: Rule) -> Field {
    Field { at, is_required: false, rule }
}

fn digits(text: &str) -> bool {
    (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(digits)
}

fn is_jid(text: &str, servers: &[&str]) -> bool {
    text.rsplit_once('@').is_some_and(|(user, server)| {
        servers.contains(&server) && !user.is_empty() && user.bytes().all(|b| b.is_ascii_digit() || b == b'-')
    })
}

fn hexadecimal() -> String {
    Uuid::new_v4().simple().to_string().to_uppercase()
}

fn whatsapp_id() -> String {
    format!("3EB0{}", &hexadecimal()[..18])
}

const OGG: &[&str] = &["ogg"];
const ANY_LINK: Rule = Rule::Link { longest: 2000, endings: &[] };

pub static VENDORS: &[Vendor] = &[
    // https://developer.z-api.io/en/message/send-message-audio
    Vendor {
        name: "z-api",
        path: "/instances/SANDBOX3C01/token/sandbox-http-token/send-audio",
        headers: &[("client-token", "sandbox-client-token")],
        key_header: None,
        body: BodyKind::Json,
        shapes: &[&[
            must("/phone", Rule::To(|to| digits(to) || to.ends_with("-group"))),
            must("/audio", Rule::DataUri(&["audio/ogg", "audio/mpeg"])),
            may("/waveform", Rule::True),
            may("/messageId", Rule::ReplyTo),
        ]],
        containers: &["ogg", "mp3"],
        form: "voice",
        new_id: whatsapp_id,
        answer: |id, _| {
            (200, json!({"zaapId": "3999984263738042930CD6ECDE9VDWSA", "messageId": id, "id": id}))
        },
        refuse: |status, why| match status {
            401 => (403, json!({"error": "null not allowed"})),
            _ => (status, json!({"error": why})),
        },
        check: Some((
            "/instances/SANDBOX3C01/token/sandbox-http-token/status",
            || json!({"connected": true, "error": "You are already connected.", "smartphoneConnected": true}),
        )),
    },
    // https://docs.ultramsg.com/api/post/messages/voice
    Vendor {
        name: "ultramsg",
        path: "/instance1150/messages/voice",
        headers: &[],
        key_header: None,
        body: BodyKind::Form,
        shapes: &[&[
            must("token", Rule::Exactly(TOKEN)),
            must("to", Rule::To(|to| e164(to) || is_jid(to, &["c.us", "g.us"]))),
            must("audio", ANY_LINK),
            may("msgId", Rule::ReplyTo),
            may("referenceId", Rule::Tag),
        ]],
        containers: OGG,
        form: "voice",
        new_id: || (Uuid::new_v4().as_u128() % 1_000_000).to_string(),
        answer: |id, _| {
            (200, json!({"sent": "true", "message": "ok", "id": id.parse::<u64>().unwrap_or_default()}))
        },
        // Refusals have status 200 there.
        refuse: |_, why| (200, json!({"error": [why]})),
        check: None,
    },
    // https://whapi.readme.io/reference/sendmessagevoice
    Vendor {
        name: "whapi",
        path: "/messages/voice",
        headers: &[("authorization", "Bearer sandbox-http-token")],
        key_header: None,
        body: BodyKind::Json,
        shapes: &[&[
            must("/to", Rule::To(|to| digits(to) || is_jid(to, &["s.whatsapp.net", "g.us", "newsletter"]))),
            must("/media", Rule::DataUri(&["audio/ogg"])),
            may("/waveform", Rule::Waveform(127)),
            may("/quoted", Rule::ReplyTo),
        ]],
        containers: OGG,
        form: "voice",
        new_id: || format!("{}-gPQ", &hexadecimal()[..20]),
        answer: |id, to| {
            let message = json!({"id": id, "from_me": true, "type": "voice", "chat_id": format!("{to}@s.whatsapp.net"),
                                 "status": "pending"});
            (200, json!({"sent": true, "message": message}))
        },
        refuse: |status, why| (status, json!({"error": {"code": status, "message": why}})),
        check: Some(("/health", || json!({"status": {"code": 4, "text": "AUTH"}}))),
    },
    // https://github.com/asternic/wuzapi/blob/79ee4cd/API.md
    Vendor {
        name: "wuzapi",
        path: "/chat/send/audio",
        headers: &[("token", TOKEN)],
        key_header: None,
        body: BodyKind::Json,
        shapes: &[&[
            must("/Phone", Rule::To(|to| digits(to) || is_jid(to, &["g.us"]))),
            must("/Audio", Rule::DataUri(&["audio/ogg"])),
            may("/PTT", Rule::True),
            may("/Seconds", Rule::Seconds),
            may("/Waveform", Rule::Waveform(100)),
        ]],
        containers: OGG,
        form: "voice",
        new_id: whatsapp_id,
        answer: |id, _| (200, json!({"code": 200, "data": {"Details": "Sent", "Id": id}, "success": true})),
        refuse: |status, why| (status, json!({"code": status, "error": why, "success": false})),
        check: Some((
            "/session/status",
            || json!({"code": 200, "data": {"Connected": true, "LoggedIn": true}, "success": true}),
        )),
    },
    // https://github.com/aldinokemal/go-whatsapp-web-multidevice/blob/51f7b19/docs/openapi.yaml
    Vendor {
        name: "gowa",
        path: "/send/audio",
        // admin:sandbox-http-token
        headers: &[("authorization", "Basic YWRtaW46c2FuZGJveC1odHRwLXRva2Vu")],
        key_header: None,
        body: BodyKind::Multipart,
        shapes: &[&[
            must("phone", Rule::To(|to| is_jid(to, &["s.whatsapp.net", "g.us", "newsletter", "lid"]))),
            must("audio", Rule::File),
            may("ptt", Rule::True),
            may("reply_message_id", Rule::ReplyTo),
        ]],
        containers: OGG,
        form: "voice",
        new_id: whatsapp_id,
        answer: |id, _| {
            (
                200,
                json!({"code": "SUCCESS", "message": "Success", "results": {"message_id": id, "status": "sent"}}),
            )
        },
        refuse: |status, why| {
            let code = if status == 400 { "VALIDATION_ERROR".to_owned() } else { status.to_string() };
            (status, json!({"code": code, "message": why}))
        },
        check: Some(("/app/status", || {
            json!({"code": "SUCCESS", "message": "Connection status retrieved",
                      "results": {"is_connected": true, "is_logged_in": true, "device_id": "sandbox"}})
        })),
    },
    // https://docs.loopmessage.com/imessage-conversation-api/send-message
    Vendor {
        name: "loopmessage",
        path: "/api/v1/message/send/",
        headers: &[("authorization", TOKEN), ("loop-secret-key", "sandbox-loop-secret")],
        key_header: None,
        body: BodyKind::Json,
        shapes: &[&[
            must("/recipient", Rule::To(|to| e164(to) || to.contains('@'))),
            may("/text", Rule::Text),
            must(
                "/media_url",
                Rule::Link { longest: 256, endings: &[".mp3", ".wav", ".m4a", ".caf", ".aac"] },
            ),
            must("/audio_message", Rule::True),
            must("/sender_name", Rule::Exactly("voice@imsg.example")),
            may("/reply_to_id", Rule::ReplyTo),
            may("/passthrough", Rule::Tag),
        ]],
        containers: &["mp3", "wav", "mp4", "caf", "adts"],
        form: "voice",
        new_id: || Uuid::new_v4().to_string().to_uppercase(),
        answer: |id, to| (200, json!({"message_id": id, "success": true, "recipient": to, "text": ""})),
        refuse: |status, why| (status, json!({"success": false, "code": 160, "message": why})),
        check: None,
    },
    // https://sendblue.co/docs/voice-note/, https://docs.sendblue.com/api/resources/messages/methods/send
    Vendor {
        name: "sendblue",
        path: "/api/send-message",
        headers: &[("sb-api-key-id", "sandbox-key-id"), ("sb-api-secret-key", TOKEN)],
        key_header: None,
        body: BodyKind::Json,
        shapes: &[&[
            must("/number", Rule::To(e164)),
            must("/from_number", Rule::Exactly("+15005550006")),
            must("/media_url", Rule::Link { longest: 2000, endings: &[".caf"] }),
        ]],
        containers: &["caf"],
        form: "voice",
        new_id: || Uuid::new_v4().to_string(),
        answer: |id, to| {
            (
                202,
                json!({"status": "QUEUED", "message_handle": id, "number": to, "is_outbound": true,
                       "error_code": null, "error_message": null}),
            )
        },
        refuse: |status, why| {
            (status, json!({"status": "ERROR", "error_code": status, "error_message": why}))
        },
        check: None,
    },
    // https://developers.line.biz/en/reference/messaging-api/#send-push-message
    Vendor {
        name: "line",
        path: "/v2/bot/message/push",
        headers: &[("authorization", "Bearer sandbox-http-token")],
        key_header: Some("x-line-retry-key"),
        body: BodyKind::Json,
        shapes: &[
            &[
                must("/to", Rule::To(is_line)),
                must("/messages/0/type", Rule::Exactly("audio")),
                must("/messages/0/originalContentUrl", ANY_LINK),
                must("/messages/0/duration", Rule::Milliseconds),
            ],
            &[
                must("/to", Rule::To(is_line)),
                must("/messages/0/type", Rule::Exactly("text")),
                must("/messages/0/text", Rule::Text),
            ],
        ],
        containers: &["mp4"],
        form: "audio",
        new_id: || (Uuid::new_v4().as_u128() % 1_000_000_000_000_000_000).to_string(),
        answer: |id, _| (200, json!({"sentMessages": [{"id": id, "quoteToken": "sandbox"}]})),
        refuse: |status, why| (status, json!({"message": why})),
        check: Some((
            "/v2/bot/info",
            || json!({"userId": "U0", "basicId": "@sandbox", "displayName": "Sandbox"}),
        )),
    },
    // https://www.twilio.com/docs/messaging/api/message-resource
    Vendor {
        name: "twilio-whatsapp",
        path: "/2010-04-01/Accounts/ACsandbox/Messages.json",
        // ACsandbox:sandbox-http-token
        headers: &[("authorization", "Basic QUNzYW5kYm94OnNhbmRib3gtaHR0cC10b2tlbg==")],
        key_header: None,
        body: BodyKind::Form,
        shapes: &[&[
            must("To", Rule::To(|to| to.strip_prefix("whatsapp:").is_some_and(e164))),
            must("From", Rule::Exactly("whatsapp:+15005550006")),
            must("MediaUrl", ANY_LINK),
        ]],
        containers: &["ogg", "mp3", "adts", "amr"],
        form: "voice",
        new_id: || format!("MM{}", Uuid::new_v4().simple()),
        answer: |id, to| {
            (201, json!({"sid": id, "to": to, "status": "queued", "num_media": "1", "error_code": null}))
        },
        refuse: |status, why| {
            (status, json!({"code": 20000 + u32::from(status), "message": why, "status": status}))
        },
        check: Some((
            "/2010-04-01/Accounts/ACsandbox.json",
            || json!({"sid": "ACsandbox", "status": "active"}),
        )),
    },
];

fn is_line(to: &str) -> bool {
    to.starts_with(['U', 'C', 'R']) && to.len() > 1 && to.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
