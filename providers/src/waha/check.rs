//! Questions to the server about the session and about itself.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;

use super::{Waha, errors::judge_state};
use crate::{
    Context, SendError, SendErrorKind, Upstream, masked_number, whatsapp_web,
    wire::{self, NoAnswer, Step},
};

/// The end of a time lock is nice to know; the next connection does not wait for it any longer than this.
const LOCK_TIMEOUT: Duration = Duration::from_millis(700);

/// The first version whose image without a licence sends audio.
const FIRST_FREE: [u32; 3] = [2026, 6, 1];

impl Waha {
    /// Until when WhatsApp lets this sender open no new conversations, where the server's version can say: since 2026.8.1,
    /// <https://github.com/devlikeapro/waha/releases>. The refusal stands without it.
    pub(super) async fn time_lock(&self, cx: &Context) -> Option<Timestamp> {
        let quick = Context { timeout: cx.timeout.min(LOCK_TIMEOUT), ..cx.clone() };
        let request = self.request(Method::GET, &["api", "sessions", &self.session, "timelock"], None);
        let answer = wire::call(&quick, request).await.ok()?;
        if answer.status.is_success() { time_lock_end(&answer.json(), cx.now) } else { None }
    }

    /// The session as the server knows it: <https://waha.devlike.pro/docs/how-to/sessions/#get-session>.
    pub(super) async fn session(&self, cx: &Context) -> Result<Value, SendError> {
        let session =
            self.ask(cx, self.request(Method::GET, &["api", "sessions", &self.session], None)).await?;
        if session["status"].is_string() {
            return Ok(session);
        }
        let detail = "the answer is not this provider's; check base_url";
        Err(SendError::new(SendErrorKind::Misconfigured, detail))
    }

    pub(super) async fn state(&self, cx: &Context) -> Result<String, SendError> {
        let session = self.session(cx).await?;
        let state = session["status"].as_str().unwrap_or_default();
        if state != "WORKING" {
            let (kind, detail) = judge_state(state, Step::Check);
            let code = wire::identifier(state, &self.secrets(&[]));
            return Err(SendError::new(kind, detail).from_upstream(Upstream { code, ..Upstream::default() }));
        }
        let mut report = "session WORKING".to_owned();
        if let Some(number) = session["me"]["id"].as_str().filter(|id| id.ends_with("@c.us")) {
            report += &format!(" as {}", masked_number(number));
        }
        if let Some(version) = self.version(cx).await? {
            report += &format!(", {version}");
        }
        if let Some(end) = time_lock_end(&session["me"]["reachoutTimelock"], cx.now) {
            report += &format!("; WhatsApp lets it open no new conversations until {end:.0}");
        }
        Ok(report)
    }

    /// The server's version, engine and edition. A key that is good for one session alone may not ask.
    async fn version(&self, cx: &Context) -> Result<Option<String>, SendError> {
        let request = self.request(Method::GET, &["api", "server", "version"], None);
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        if matches!(answer.status.as_u16(), 401 | 403 | 404) {
            return Ok(None);
        }
        let told = self.read_answer(cx.now, &answer)?;
        let secrets = self.secrets(&[]);
        let word = |key: &str| told[key].as_str().and_then(|text| wire::identifier(text, &secrets));
        let Some(version) = word("version") else {
            let detail = "the answer is not this provider's; check base_url";
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        };
        let tier = word("tier").unwrap_or_default();
        if tier == "CORE" && is_before(&version, FIRST_FREE) {
            let detail =
                format!("WAHA Core {version} sends no voice notes; update the server to 2026.6.1 or later");
            return Err(SendError::new(SendErrorKind::Misconfigured, detail));
        }
        let engine = word("engine").unwrap_or_default();
        let words: Vec<String> =
            ["WAHA".to_owned(), version, tier, engine].into_iter().filter(|word| !word.is_empty()).collect();
        Ok(Some(words.join(" ")))
    }
}

/// The end of a time lock that holds: a number of seconds or milliseconds, or a date.
fn time_lock_end(lock: &Value, now: Timestamp) -> Option<Timestamp> {
    if lock["isActive"] == false {
        return None;
    }
    let end = &lock["timeEnforcementEnds"];
    let end = whatsapp_web::time(end).or_else(|| end.as_str()?.parse().ok())?;
    (end > now).then_some(end)
}

/// Whether `2026.5.1` is before a version; what has another form is not.
fn is_before(version: &str, other: [u32; 3]) -> bool {
    let parts: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
    parts.is_some_and(|parts| parts.len() == 3 && parts.as_slice() < other.as_slice())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_end_of_a_time_lock_is_read_in_every_form() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let end: Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        for (lock, expected) in [
            (json!({"isActive": true, "timeEnforcementEnds": 1_767_312_000}), Some(end)),
            (json!({"isActive": true, "timeEnforcementEnds": 1_767_312_000_000_i64}), Some(end)),
            (json!({"timeEnforcementEnds": "2026-01-02T00:00:00Z"}), Some(end)),
            (json!({"isActive": false, "timeEnforcementEnds": 1_767_312_000}), None),
            (json!({"isActive": true, "timeEnforcementEnds": 1_767_225_600}), None),
            (json!({"isActive": true, "timeEnforcementEnds": null}), None),
            (json!(null), None),
        ] {
            assert_eq!(time_lock_end(&lock, now), expected, "{lock}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, before) in [
            ("2026.5.9", true),
            ("2024.10.8", true),
            ("2026.6.1", false),
            ("2026.10.1", false),
            ("dev", false),
        ] {
            assert_eq!(is_before(version, FIRST_FREE), before, "{version}");
        }
    }
}
