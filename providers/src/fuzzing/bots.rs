//! Targets of the adapters of bots and business accounts: Telegram, Discord and the WhatsApp Cloud API.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{TOKEN, WEBHOOK_SECRET, answers, called, judged, note, note_to, now, receipts, settings};
use crate::{CallbackError, Container, Memory, Provider as _, discord, telegram, whatsapp_cloud};

/// Time limit of a request, after which an answer cannot have come.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

pub(super) fn telegram_answers(data: &[u8]) {
    let token = format!("123456789:{TOKEN}");
    let telegram = telegram::connection(settings(&[("token", &token)])).expect("settings that suffice");
    let note = note_to("telegram:-1001234567890/17", Container::Ogg);
    for answer in answers(data) {
        let mut memory = Memory::default();
        judged(&answer, telegram.dispatched(now(), &note, &mut memory, &answer));
    }
}

/// A body with the valid token, and one with an arbitrary token.
pub(super) fn telegram_callbacks(data: &[u8]) {
    let token = format!("123456789:{TOKEN}");
    let known = [("token", token.as_str()), ("webhook_secret", WEBHOOK_SECRET)];
    let telegram = telegram::connection(settings(&known)).expect("settings that suffice");
    const HEADER: &str = "x-telegram-bot-api-secret-token";
    let request = called(&[(HEADER, WEBHOOK_SECRET)], &[], data);
    let read = telegram.callback(&request);
    assert!(matches!(read, Ok(_) | Err(CallbackError::Malformed)), "the token is right: {read:?}");
    receipts(&telegram, &request, read, WEBHOOK_SECRET);

    let text = String::from_utf8_lossy(data);
    let tried = telegram.callback(&called(&[(HEADER, &text)], &[], b"{\"update_id\": 1}"));
    assert!(text == WEBHOOK_SECRET || tried == Err(CallbackError::Forged), "{tried:?}");
}

pub(super) fn discord_answers(data: &[u8]) {
    let discord = discord::connection(settings(&[("token", TOKEN)])).expect("settings that suffice");
    for to in ["discord:1234567890123456789", "discord:user:1234567890123456789"] {
        let note = note_to(to, Container::Ogg);
        for answer in answers(data) {
            let mut memory = Memory::default();
            judged(&answer, discord.dispatched(now(), &note, &mut memory, &answer));
            let limit = discord::limits::not_before(&answer, now(), TIMEOUT);
            let latest = now() + super::DAY + TIMEOUT;
            assert!(limit.is_none_or(|(time, _)| time >= now() && time <= latest), "{limit:?}");
        }
    }
}

pub(super) fn whatsapp_cloud_answers(data: &[u8]) {
    let known = [("access_token", TOKEN), ("phone_number_id", "106540352242922")];
    let cloud = whatsapp_cloud::connection(settings(&known)).expect("settings that suffice");
    let note = note(Container::Ogg);
    for answer in answers(data) {
        let mut memory = Memory::default();
        judged(&answer, cloud.dispatched(now(), &note, &mut memory, &answer));
    }
}

/// A body that Meta signed, bytes as a signature, and bytes as the challenge of a handshake.
pub(super) fn whatsapp_cloud_callbacks(data: &[u8]) {
    const VERIFY: &str = "secret-verify-token";
    let known = [
        ("access_token", TOKEN),
        ("phone_number_id", "106540352242922"),
        ("app_secret", WEBHOOK_SECRET),
        ("verify_token", VERIFY),
    ];
    let cloud = whatsapp_cloud::connection(settings(&known)).expect("settings that suffice");
    let header = "x-hub-signature-256";
    let request = called(&[(header, &signature(data))], &[], data);
    assert_eq!(cloud.admits(&request), Ok(()));
    let read = cloud.callback(&request);
    assert!(matches!(read, Ok(_) | Err(CallbackError::Malformed)), "signed, and not believed: {read:?}");
    receipts(&cloud, &request, read, WEBHOOK_SECRET);

    let text = String::from_utf8_lossy(data);
    let tried = cloud.callback(&called(&[(header, &text)], &[], b"{\"object\": \"page\", \"entry\": []}"));
    assert_eq!(tried, Err(CallbackError::Forged));
    let query = [("hub.mode", "subscribe"), ("hub.verify_token", VERIFY), ("hub.challenge", &*text)];
    let mut handshake = called(&[], &query, b"");
    handshake.method = reqwest::Method::GET;
    if let Ok(answered) = cloud.callback(&handshake) {
        let answer = answered.answer.expect("an answer");
        assert!(answer == text && answer.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)));
    }
}

/// The signature of a body by `X-Hub-Signature-256`.
pub(super) fn signature(body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).expect("a key").chain_update(body);
    let digits = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256={digits}")
}
