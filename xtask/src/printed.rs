//! The parts of the pages that the code prints: between `<!-- printed: NAME -->` and `<!-- end -->`.

use std::fmt::Write as _;

use voicegate_providers::{self as providers, Capabilities, Form, Intake, ReplySupport, Settings};

use voicegate::{http, model::code::Code, telemetry::metrics::names::ALL};
use voicegate_audio::{CHECKS, PROFILES, SERVICES};

use crate::{api, configuration};

/// `page` with its printed parts as the code has them now.
///
/// # Errors
/// Names the part that nobody prints, or that has no end.
pub fn fill(page: &str) -> Result<String, String> {
    const BEGIN: &str = "<!-- printed: ";
    const CLOSE: &str = " -->\n";
    const END: &str = "<!-- end -->";
    let mut filled = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(CLOSE).ok_or("a marker has no name")?;
        let (_, after) = after.split_once(END).ok_or_else(|| format!("{name}: there is no {END}"))?;
        let text = print(name).ok_or_else(|| format!("{name}: there is no such part"))?;
        let _ = write!(filled, "{before}{BEGIN}{name}{CLOSE}\n{}\n\n{END}", text.trim());
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn print(name: &str) -> Option<String> {
    match name {
        "api" => Some(api::print(&http::document())),
        "checks" => Some(checks()),
        "codes" => Some(codes()),
        "configuration" => Some(configuration::print()),
        "metrics" => Some(metrics()),
        "presets" => Some(presets()),
        "profiles" => Some(profiles()),
        "providers" => Some(capabilities()),
        _ => None,
    }
}

fn metrics() -> String {
    let mut text = "| Metric | Kind | Unit | Labels | |\n|---|---|---|---|---|\n".to_owned();
    for about in ALL.iter().map(|metric| metric.about()) {
        let labels: Vec<_> = about.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (about.name, about.kind, about.help());
        let unit = about.unit().unwrap_or_default();
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join(", "));
    }
    text
}

fn codes() -> String {
    let mut text = "| Code | Status | |\n|---|---|---|\n".to_owned();
    for (code, status, title) in Code::ALL.iter().map(|code| (code, code.status(), code.title())) {
        let _ = writeln!(text, "| [`{code}`](#{code}) | {status} | {title} |");
    }
    text
}

fn checks() -> String {
    let mut text = "| Check | Meaning |\n|---|---|\n".to_owned();
    for (name, meaning) in CHECKS {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text
}

fn presets() -> String {
    let mut text =
        "| `format` | Service | Setting at the service | Equivalent format |\n|---|---|---|---|\n".to_owned();
    for service in SERVICES {
        for preset in service.presets {
            let same = serde_json::to_string(&preset.format).unwrap_or_default();
            let (name, asked_for) = (preset.name, preset.asked_for);
            let _ = writeln!(
                text,
                "| `{name}` | [{}]({}) | `{asked_for}` | `{same}` |",
                service.name, service.source
            );
        }
    }
    text
}

fn profiles() -> String {
    let mut text = "| Profile | Accepts untouched | Produces |\n|---|---|---|\n".to_owned();
    for profile in PROFILES {
        let _ = writeln!(text, "| `{}` | {} | {} |", profile.name, profile.needs(), profile.produces());
    }
    text
}

/// What a connection of each provider can do with the least that it must be told.
fn capabilities() -> String {
    let built = providers::PROVIDERS.iter().filter_map(|descriptor| {
        let example = serde_json::from_str(descriptor.example).ok()?;
        let provider = (descriptor.build)(Settings::new(example)).ok()?;
        Some((descriptor.name, provider.capabilities().clone()))
    });
    let built: Vec<(&str, Capabilities)> = built.collect();
    type Tell = fn(&Capabilities) -> String;
    let rows: [(&str, Tell); 9] = [
        ("Takes the audio by", |c| match c.intake() {
            Intake::Upload => "upload".to_owned(),
            Intake::Url => "link: it downloads from `server.public_url`, which must be https".to_owned(),
        }),
        ("Profile", |c| format!("`{}`", c.usual_profile().unwrap_or_default())),
        ("Shows a note as", |c| {
            c.forms.iter().map(|support| word(support.form)).collect::<Vec<_>>().join(", ")
        }),
        ("Longest caption", |c| {
            let longest = c.forms.iter().find_map(|support| support.caption);
            longest.map_or("none".to_owned(), |most| format!("{most} characters"))
        }),
        ("With `convert = \"provider\"`", |c| {
            c.provider_converts.map_or("as with `auto`".to_owned(), |profile| format!("gets `{profile}`"))
        }),
        ("Largest file", |c| format!("{} bytes", thousands(c.max_bytes()))),
        ("Recipients", |c| c.recipients.iter().map(|kind| recipient(kind)).collect::<Vec<_>>().join(", ")),
        ("`reply_to`", |c| match c.reply {
            ReplySupport::None => "dropped with a warning".to_owned(),
            ReplySupport::MessageId => "by message id".to_owned(),
        }),
        ("A send can be repeated safely", |c| if c.idempotency.is_some() { "yes" } else { "no" }.to_owned()),
    ];
    let mut text = String::from("| |");
    for (name, _) in &built {
        let _ = write!(text, " `{name}` |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(built.len()));
    for (title, tell) in rows {
        let _ = write!(text, "| {title} |");
        for (_, capabilities) in &built {
            let _ = write!(text, " {} |", tell(capabilities));
        }
        text.push('\n');
    }
    text
}

fn word(form: Form) -> &'static str {
    match form {
        Form::Voice => "`voice`",
        Form::Audio => "`audio`",
        Form::File => "`file`",
        Form::Text => "`text`",
    }
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
