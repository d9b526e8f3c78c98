//! The table of what each provider can do, from the adapters themselves.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use voicegate_audio::profile;
use voicegate_providers::{
    self as providers, Capabilities, Descriptor, Form, FormSupport, Intake, Proof, ReplySupport, Settings,
};

/// A secret that every provider takes: a signing secret in base64, of letters, digits and an underscore.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNk";

/// An adapter, and what a connection can do with its required settings and all secrets for callbacks.
struct Row {
    about: &'static Descriptor,
    can: Capabilities,
}

type Tell = fn(&Row) -> String;

const ROWS: [(&str, Tell); 16] = [
    ("Takes the audio by", |row| match row.can.intake() {
        Intake::Upload => "upload".to_owned(),
        Intake::Url => "link: it downloads from `server.public_url`, which must be https".to_owned(),
    }),
    ("As `voice`", |row| form(row, Form::Voice)),
    ("As `audio`", |row| form(row, Form::Audio)),
    ("As `file`", |row| form(row, Form::File)),
    ("As `text`", |row| match row.can.form(Form::Text).and_then(|support| support.caption) {
        Some(most) => format!("{most} characters"),
        None => "no".to_owned(),
    }),
    ("Everything is shown up to", |row| {
        let profile = row.can.usual_profile().and_then(profile);
        let over = profile.and_then(|profile| profile.over_budget.zip(profile.max_bytes));
        match over {
            Some((over, budget)) => {
                format!("{} bytes; larger files go out without {}", thousands(budget), over.loss.name())
            }
            None => "the limit".to_owned(),
        }
    }),
    ("With `convert = \"provider\"`", |row| {
        row.can.provider_converts.map_or("as with `auto`".to_owned(), |profile| format!("gets `{profile}`"))
    }),
    ("Recipients", |row| list(row.can.recipients.iter().map(|kind| recipient(kind)))),
    ("`reply_to`", |row| match row.can.reply {
        ReplySupport::None => "dropped with a warning".to_owned(),
        ReplySupport::MessageId => "by message id".to_owned(),
    }),
    ("Receipts", |row| {
        let words =
            row.can.receipts.iter().map(|status| json!(status).as_str().map(|word| format!("`{word}`")));
        let words = list(words.flatten());
        if words.is_empty() { "none".to_owned() } else { words }
    }),
    ("Callbacks are proved by", |row| match row.about.callbacks {
        None => "none come".to_owned(),
        Some(callbacks) => match callbacks.proof {
            Proof::Signature { window: Some(_) } => "a signature over body and time".to_owned(),
            Proof::Signature { window: None } => "a signature over the body".to_owned(),
            Proof::Token => "a token".to_owned(),
        },
    }),
    ("`voicegate callbacks register`", |row| yes_or_no(row.about.callbacks.is_some_and(|one| one.registers))),
    ("Its records can be asked for a lost note", |row| yes_or_no(row.can.look_up)),
    ("The same audio to many people", |row| {
        if row.can.media_reuse { "one upload" } else { "goes along with each note" }.to_owned()
    }),
    ("A send can be repeated safely", |row| match row.can.idempotency {
        Some(idempotency) => format!("for {} s", idempotency.window.as_secs()),
        None => "no".to_owned(),
    }),
    ("Tried against", |row| {
        let name = row.about.name;
        let corrections = format!("../providers/fixtures/{name}/spec-corrections.json");
        let has_file = Path::new(env!("CARGO_MANIFEST_DIR")).join(corrections).exists();
        let file = has_file.then_some("the vendor's API file");
        let emulator = voicegate_sandbox::providers().any(|one| one == name).then_some("emulator");
        list(file.into_iter().chain(emulator).chain(["live account: none"]).map(str::to_owned))
    }),
];

/// The capabilities of a connection of each provider, with callbacks configured.
pub fn print() -> String {
    let rows: Vec<Row> = providers::PROVIDERS.iter().filter_map(|about| connection(about)).collect();
    let mut text = String::from("| |");
    for row in &rows {
        let _ = write!(text, " `{}` |", row.about.name);
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(rows.len()));
    for (title, tell) in ROWS {
        let _ = write!(text, "| {title} |");
        for row in &rows {
            let _ = write!(text, " {} |", tell(row));
        }
        text.push('\n');
    }
    text
}

fn connection(about: &'static Descriptor) -> Option<Row> {
    let mut settings: Map<String, Value> = serde_json::from_str(about.example).ok()?;
    for name in about.secrets.iter().filter(|name| !settings.contains_key(**name)).collect::<Vec<_>>() {
        let mut more = settings.clone();
        more.insert((*name).to_owned(), json!(SECRET));
        // A recipe takes only the secrets that it names.
        if (about.build)(Settings::new(more.clone())).is_ok() {
            settings = more;
        }
    }
    let provider = (about.build)(Settings::new(settings)).ok()?;
    Some(Row { about, can: provider.capabilities().clone() })
}

/// The format, the largest file and the longest caption of a form.
fn form(row: &Row, form: Form) -> String {
    let Some(FormSupport { profile: Some(name), max_bytes, caption, .. }) = row.can.form(form) else {
        return "no".to_owned();
    };
    let made = profile(name).map(|profile| profile.produces()).unwrap_or_default();
    let format = made.split(',').next().unwrap_or_default();
    let caption = caption.map(|most| format!(", with a text of {most} characters")).unwrap_or_default();
    format!("{format} (`{name}`), {} bytes{caption}", thousands(*max_bytes))
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn yes_or_no(holds: bool) -> String {
    if holds { "yes" } else { "no" }.to_owned()
}

fn recipient(kind: &str) -> String {
    match kind {
        "phone" => "`+15551234567`".to_owned(),
        "email" => "e-mail address".to_owned(),
        jid if jid.contains('.') || matches!(jid, "newsletter" | "lid") => format!("`...@{jid}`"),
        native => format!("`{native}:ID`"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for (index, digit) in digits[first..].chars().enumerate() {
        if index % 3 == 0 && !text.is_empty() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
