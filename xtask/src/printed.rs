//! The parts of the pages that the code prints: between `<!-- printed: NAME -->` and `<!-- end -->`.

use std::fmt::Write as _;

use voicegate::{http, model::code::Code, telemetry::metrics::names::ALL};
use voicegate_audio::{CHECKS, PROFILES, SERVICES};

use crate::{api, configuration, matrix};

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
        "providers" => Some(matrix::print()),
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
