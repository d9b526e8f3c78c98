//! Check of an account: its lines, which are also the usual read-only probe of a token.

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::{
    Linq,
    errors::{Refusal, Step},
};
use crate::{
    Context, Recipient, SendError, SendErrorKind, masked_number,
    wire::{self, Answer, NoAnswer},
};

/// Lines that are named; an account may have hundreds.
const NAMED: usize = 5;

/// <https://docs.linqapp.com/guides/phone-numbers/>
#[derive(Deserialize)]
struct Line {
    phone_number: String,
    reputation: Option<Reputation>,
}

#[derive(Deserialize)]
struct Reputation {
    /// HEALTHY, AT_RISK or CRITICAL so far. A line of any reputation sends.
    status: Option<String>,
}

impl Linq {
    /// Asks for the account's lines and looks for the one in `from`.
    pub(super) async fn lines(&self, cx: &Context) -> Result<String, SendError> {
        // `/v3/phonenumbers`, which older pages name, is deprecated.
        let request = self.request(Method::GET, self.api.join(&["v3", "phone_numbers"]), None);
        let answer = wire::call(cx, request).await.map_err(NoAnswer::in_check)?;
        self.read_lines(cx.now, &answer)
    }

    /// Reads the answer.
    pub(crate) fn read_lines(&self, now: Timestamp, answer: &Answer) -> Result<String, SendError> {
        #[derive(Deserialize)]
        struct Body {
            phone_numbers: Vec<Line>,
        }
        if !answer.status.is_success() {
            let secrets = self.secrets(&[]);
            return Err(Refusal::read(answer, now, &secrets).into_error(Step::Check));
        }
        let misconfigured = |detail: String| {
            Err(SendError::new(SendErrorKind::Misconfigured, detail)
                .from_upstream(self.not_understood(&[], answer)))
        };
        let Ok(Body { phone_numbers: lines }) = serde_json::from_slice(&answer.body) else {
            return misconfigured("the answer is not this provider's; check base_url".into());
        };
        if lines.is_empty() {
            return misconfigured("the account has no line to send from; the provider assigns one".into());
        }
        let named: Vec<String> = lines.iter().take(NAMED).map(|line| self.describe(line)).collect();
        let more = if lines.len() > NAMED { ", ..." } else { "" };
        let count = if lines.len() == 1 { "1 line".to_owned() } else { format!("{} lines", lines.len()) };
        let all = format!("{count}: {}{more}", named.join(", "));
        let Some(from) = &self.from else { return Ok(all) };
        match lines.iter().find(|line| line.is(from)) {
            Some(line) => Ok(format!("from {}, {count} in all", self.describe(line))),
            None => misconfigured(format!(
                "the line in from, {}, is not on the account, which has {all}; name one of these or leave from out",
                masked_number(from)
            )),
        }
    }

    fn describe(&self, line: &Line) -> String {
        let secrets = self.secrets(&[]);
        let status = line.reputation.as_ref().and_then(|reputation| reputation.status.as_deref());
        let status = status.and_then(|status| wire::identifier(status, &secrets));
        let number = masked_number(&line.phone_number);
        status.map_or_else(|| number.clone(), |status| format!("{number} {status}"))
    }
}

impl Line {
    fn is(&self, number: &str) -> bool {
        matches!(Recipient::parse(&self.phone_number, std::iter::empty), Ok(Recipient::Phone(own)) if own == number)
    }
}
