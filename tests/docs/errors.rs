//! The page of errors, held against the source: what can be emitted is explained, and nothing else is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use voicegate::model::code::{Code, WarningCode};

const PAGE: &str = include_str!("../../docs/errors.md");

/// Headings of this level that are a code: the code, and what follows up to the next heading.
fn sections(level: &str) -> Vec<(&'static str, &'static str)> {
    let sections = PAGE.split("\n#").filter_map(|section| {
        let (code, text) = section.strip_prefix(&level[1..])?.strip_prefix(" `")?.split_once("`\n")?;
        Some((code, text))
    });
    sections.collect()
}

#[test]
fn every_code_has_a_section_and_every_section_a_code() {
    let explained: BTreeSet<&str> = sections("##").into_iter().map(|(code, _)| code).collect();
    let known: BTreeSet<&str> = Code::ALL.iter().map(Code::as_str).collect();
    assert_eq!(explained, known, "sections of docs/errors.md, codes in src/model/code.rs");
    assert_eq!(sections("##").len(), Code::ALL.len(), "a code has two sections");
}

#[test]
fn a_section_has_the_status_of_its_code_an_example_and_what_to_do() {
    for (code, text) in sections("##") {
        let known = Code::from(code);
        let (status, title) = (known.status(), known.title());
        assert!(text.contains(&format!("**{status}** {title}.")), "{code}: **{status}** {title}.");
        assert!(text.contains("**What to do.**"), "{code} does not say what to do");
        let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
        let example = example.unwrap_or_else(|| panic!("{code} has no example"));
        let example: serde_json::Value =
            serde_json::from_str(example).unwrap_or_else(|error| panic!("{code}: {error}"));
        assert_eq!(example["code"], code);
        assert_eq!(example["type"], format!("/docs/errors#{code}"));
        assert_eq!((&example["status"], &example["title"]), (&status.into(), &title.into()), "{code}");
        serde_json::from_value::<voicegate::model::problem::Problem>(example).expect("a problem");
    }
}

/// The compiler refuses a mistyped code. Nothing but this refuses one that no line of the source can emit.
#[test]
fn every_code_is_emitted_somewhere() {
    let mut emitted = BTreeSet::new();
    for (path, source) in sources() {
        // The document of the API names every code, and so does the list itself.
        if path.ends_with("openapi/problems.rs") || path.ends_with("model/code.rs") {
            continue;
        }
        let production = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        emitted.extend(
            production
                .split("Code::")
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()),
        );
        // The tables of other crates from a kind of failure to its code.
        for body in source.split("fn code(self) -> &'static str {").skip(1) {
            let body = body.split("\n    }\n").next().unwrap_or_default();
            for code in literals_after(body, "=> ").into_iter().chain(literals_after(body, "=> {")) {
                let known = Code::from(code.as_str());
                assert!(Code::ALL.contains(&known), "{}: there is no code {code}", path.display());
                emitted.insert(format!("{known:?}"));
            }
        }
    }
    let never: Vec<_> = Code::ALL.iter().filter(|code| !emitted.contains(&format!("{code:?}"))).collect();
    assert!(never.is_empty(), "explained, but never emitted: {never:?}");
}

#[test]
fn every_warning_has_a_section_and_every_section_a_warning() {
    let known: BTreeSet<&str> = WarningCode::ALL.iter().map(WarningCode::as_str).collect();
    let explained: BTreeSet<&str> = sections("###").into_iter().map(|(code, _)| code).collect();
    assert_eq!(explained, known, "sections of docs/errors.md, warnings in src/model/code.rs");
}

/// The text literals that follow directly, or after white space.
fn literals_after(source: &str, lead: &str) -> Vec<String> {
    let literals = source.split(lead).skip(1).filter_map(|rest| {
        let (literal, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        Some(literal.to_owned())
    });
    literals.collect()
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) =
        (vec![root.join("src"), root.join("providers/src"), root.join("audio/src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("a source");
                found.push((path, source));
            }
        }
    }
    found
}
