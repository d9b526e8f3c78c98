//! Statements of the pages that were false once.

use std::path::Path;

use crate::examples::examples;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The part of a page below a heading, as far as the next one of its level.
fn section(page: &str, heading: &str) -> String {
    let (_, rest) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}"));
    let level = heading.split(' ').next().unwrap_or_default();
    rest.split(&format!("\n{level} ")).next().unwrap_or_default().to_owned()
}

#[test]
fn planning_is_there_and_has_its_examples() {
    let planning = section(&page("docs/http.md"), "## Planning");
    for language in ["sh", "python", "ts"] {
        let told = examples(language).into_iter().filter(|example| example.text.contains("/voice/plan"));
        assert_eq!(told.count(), 1, "{language}");
        assert!(planning.contains(&format!("```{language} run prints=")), "{language}");
    }
    let missing = section(&page("README.md"), "## Limits");
    assert!(!missing.contains("plan") && !missing.contains("without sending"), "{missing}");
}

#[test]
fn received_notes_and_speech_are_not_called_missing() {
    let missing = section(&page("README.md"), "## Limits");
    for word in ["people send to the bot", "speech", "not supported yet"] {
        assert!(!missing.contains(word), "{word}: {missing}");
    }
    let http = page("docs/http.md");
    assert!(!http.contains("\n## Not there yet\n"), "what was missing is there");
    assert!(section(&http, "## Rendering").contains("(#a-text-instead-of-audio)"));
}

#[test]
fn what_is_installed_is_a_release_build() {
    let install = section(&page("docs/operations.md"), "## Install");
    assert!(install.contains("target/release/voicegate") && !install.contains("install -m 755 target/debug"));
    assert!(page("Makefile").contains("\nrelease: setup"), "make release, as the page says");
}

#[test]
fn a_build_time_says_where_it_was_measured() {
    let measured = section(&page("docs/operations.md"), "### How long a build takes");
    for fact in ["min", "cores of", "Rust 1.", "from nothing"] {
        assert!(measured.contains(fact), "{fact}");
    }
    for name in ["README.md", "docs/index.md"] {
        let text = page(name);
        assert!(text.contains("operations.md#how-long-a-build-takes"), "{name}");
        assert!(!text.contains("minutes on two cores"), "{name}");
    }
}

#[test]
fn whoever_finds_a_hole_is_told_how_to_report_it() {
    let security = page("SECURITY.md");
    for part in ["## Report a vulnerability", "in private", "## What is in scope", "## What is not"] {
        assert!(security.contains(part), "{part}");
    }
    for name in ["README.md", "CONTRIBUTING.md"] {
        assert!(page(name).contains("(SECURITY.md)"), "{name}");
    }
}

#[test]
fn the_way_to_providers_through_a_proxy_is_told() {
    let operations = page("docs/operations.md");
    let proxy = section(&operations, "### Through a proxy to the providers");
    for word in ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "never use a proxy"] {
        assert!(proxy.contains(word), "{word}");
    }
}
