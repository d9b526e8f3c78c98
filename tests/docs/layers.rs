//! The rooms of the gateway and of the audio engine lie on floors: whatever imports comes from above what it imports.
//! The tables that a reader sees, in `docs/ARCHITECTURE.md` and on the page of the audio crate, are the tables here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// An import: the file that has it, from the root of the repository, and the room or crate that it names.
type Import = (String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The floor of each room, by a table whose rows go from the top to the bottom and begin with rooms in backticks.
fn floors(page: &str, heading: &str) -> BTreeMap<String, usize> {
    let table = page.split_once(heading).unwrap_or_else(|| panic!("there is no {heading}")).1;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.trim_start_matches("//!").trim())
        .skip_while(|line| !line.starts_with("| Modules"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2).collect())
        .collect();
    assert!(rows.len() > 3, "{heading}: there is no table");
    let floors = rows.iter().rev().enumerate();
    floors.flat_map(|(floor, rooms)| rooms.iter().map(move |room| ((*room).to_owned(), floor))).collect()
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every room and every crate of ours that the source names: in `use`, or in the middle of the code. `depth` is how many
/// modules its file is away from the root of the crate.
fn named(source: &str, depth: usize) -> BTreeSet<String> {
    let stream: TokenStream = source.parse().expect("Rust");
    let mut found = BTreeSet::new();
    walk(stream, depth, &mut found);
    found
}

fn walk(stream: TokenStream, depth: usize, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    let is_path = |at: usize| {
        let colon =
            |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
        colon(tokens.get(at)) && colon(tokens.get(at + 1))
    };
    let word = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    };
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => walk(group.stream(), depth, found),
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                if ident.starts_with("voicegate_") && is_path(index + 1) {
                    found.insert(ident);
                    continue;
                }
                // From here the path may reach the root of the crate.
                let mut at = index;
                let mut supers = 0;
                while word(at).is_some_and(|word| word == "super") && is_path(at + 1) {
                    (supers, at) = (supers + 1, at + 3);
                }
                let is_root = match ident.as_str() {
                    "crate" if is_path(index + 1) => {
                        at = index + 3;
                        true
                    }
                    // Only the first `super` of a path counts.
                    "super" => {
                        supers >= depth && (index < 3 || !(is_path(index - 2) && word(index - 3).is_some()))
                    }
                    _ => false,
                };
                if is_root {
                    first_words(tokens.get(at), found);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The first word of a path, or of each path in braces.
fn first_words(token: Option<&TokenTree>, found: &mut BTreeSet<String>) {
    match token {
        Some(TokenTree::Ident(room)) => {
            found.insert(room.to_string());
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let mut begins = true;
            for token in group.stream() {
                match &token {
                    TokenTree::Ident(room) if begins => {
                        found.insert(room.to_string());
                        begins = false;
                    }
                    TokenTree::Punct(punct) if punct.as_char() == ',' => begins = true,
                    _ => begins = false,
                }
            }
        }
        _ => {}
    }
}

/// How many modules a file is away from the root of its crate, and its room.
fn place(file: &Path, source: &Path) -> (usize, String) {
    let path = file.strip_prefix(source).expect("a file of the crate").with_extension("");
    let parts: Vec<String> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let is_mod = parts.last().is_some_and(|last| last == "mod");
    (parts.len() - usize::from(is_mod), parts[0].clone())
}

/// Imports that go to the same floor or a higher one, and rooms that the table lacks.
fn upward(floors: &BTreeMap<String, usize>, source: &Path) -> Vec<Import> {
    let mut wrong = Vec::new();
    for file in sources(source) {
        let (depth, room) = place(&file, source);
        // Tests of the whole crate may use all of it.
        if matches!(room.as_str(), "lib" | "main" | "tests") {
            continue;
        }
        let name = file.strip_prefix(root()).expect("a file of ours").display().to_string();
        for named in named(&read(&file), depth) {
            wrong.extend(is_upward(floors, &room, &named).then(|| (name.clone(), named)));
        }
    }
    wrong
}

fn is_upward(floors: &BTreeMap<String, usize>, room: &str, named: &str) -> bool {
    match (floors.get(room), floors.get(named)) {
        _ if room == named => false,
        (Some(from), Some(to)) => to >= from,
        // Another crate of ours has to be in the table; any other word is an item of the room itself.
        (Some(_), None) => named.starts_with("voicegate_"),
        (None, _) => true,
    }
}

/// The rooms that are there: the modules of `lib.rs`.
fn rooms(source: &Path) -> BTreeSet<String> {
    let library = read(&source.join("lib.rs"));
    let modules = library.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    modules.filter(|room| room != "tests").collect()
}

fn judge(page: &str, heading: &str, source: &Path, crates: &[&str]) {
    let floors = floors(page, heading);
    let drawn: BTreeSet<String> = floors.keys().cloned().collect();
    let mut there = rooms(source);
    there.extend(crates.iter().map(|name| (*name).to_owned()));
    assert_eq!(drawn, there, "{heading}: rooms of the table, rooms of lib.rs");
    assert_eq!(upward(&floors, source), [], "{heading}: imports that point upwards");
}

#[test]
fn no_room_of_the_gateway_imports_from_its_own_floor_or_a_higher_one() {
    let page = read(&root().join("docs/ARCHITECTURE.md"));
    let crates = ["voicegate_audio", "voicegate_providers", "voicegate_sandbox"];
    judge(&page, "## The layers", &root().join("src"), &crates);
}

#[test]
fn no_room_of_the_audio_engine_imports_from_its_own_floor_or_a_higher_one() {
    let source = root().join("audio/src");
    let page = read(&source.join("lib.rs"));
    judge(&page, "Its modules", &source, &["voicegate_providers"]);
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let source = r#"
        //! [`crate::cli`] in a comment and "crate::http" in a text are no imports.
        use crate::{config::{self, Tenant}, model::note::Note, store};
        use super::super::view;
        use voicegate_audio::Engine;
        const TEXT: &str = "crate::docs::page";
        fn f() -> crate::gateway::Gateway { tracing::info!(x = ?crate::delivery::f()); super::near::g() }
        pub(crate) struct X;
    "#;
    let found = named(source, 2);
    let expected =
        ["config", "delivery", "gateway", "model", "store", "view", "voicegate_audio"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}

#[test]
fn an_upward_import_and_one_on_the_same_floor_are_wrong() {
    let floors = floors(
        "## F\n\n| Modules | |\n|---|---|\n| `c` | |\n| `a`, `b` | |\n| `low` | |\n| `x` | |\n",
        "## F",
    );
    for (room, named, wrong) in [
        ("a", "low", false),
        ("a", "a", false),
        ("a", "b", true),
        ("a", "c", true),
        ("low", "a", true),
        ("a", "Item", false),
        ("a", "voicegate_new", true),
        ("new", "low", true),
    ] {
        assert_eq!(is_upward(&floors, room, named), wrong, "{room} -> {named}");
    }
}
