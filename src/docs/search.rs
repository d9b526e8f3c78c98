//! The search index: the text of every section, which the script of the pages searches in the browser.

use std::sync::LazyLock;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde::Serialize;

use super::{
    SOURCES, address,
    render::{Section, render},
    slug,
};

/// The index as JSON, at `/docs/search.json`.
pub static INDEX: LazyLock<String> = LazyLock::new(|| {
    let entries: Vec<Entry> = SOURCES.iter().flat_map(|(file, text)| entries(file, text)).collect();
    serde_json::to_string(&entries).unwrap_or_default()
});

#[derive(Debug, Serialize)]
struct Entry {
    address: String,
    /// The title of the page.
    page: String,
    /// The heading of the section.
    title: String,
    text: String,
}

fn entries(file: &str, markdown: &str) -> Vec<Entry> {
    let address = address(&slug(file));
    let mut sections = render(markdown).sections.into_iter();
    let mut entries: Vec<Entry> = Vec::new();
    let mut page = String::new();
    let mut in_heading = false;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                in_heading = true;
                let id = sections.next().map_or(String::new(), |Section { id, .. }| id);
                let address = if entries.is_empty() { address.clone() } else { format!("{address}#{id}") };
                entries.push(Entry {
                    address,
                    page: page.clone(),
                    title: String::new(),
                    text: String::new(),
                });
            }
            Event::End(TagEnd::Heading(_)) => {
                in_heading = false;
                if let [first] = entries.as_mut_slice() {
                    page = first.title.clone();
                    first.page = page.clone();
                }
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(entry) = entries.last_mut() {
                    if in_heading { entry.title.push_str(&text) } else { entry.text.push_str(&text) }
                }
            }
            // Words of two lines or cells are not one word.
            Event::SoftBreak | Event::HardBreak | Event::End(_) => {
                if let Some(entry) = entries.last_mut().filter(|entry| !entry.text.ends_with(' ')) {
                    entry.text.push(' ');
                }
            }
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_in_the_index_with_its_address_and_text() {
        let text = "# Page\nintro\n## A `b`\nsome *words*\n\n| x | y |\n|---|---|\n| 1 | 2 |\n";
        let entries = entries("page.md", text);
        let found: Vec<_> =
            entries.iter().map(|e| (&*e.address, &*e.page, &*e.title, e.text.trim())).collect();
        assert_eq!(
            found,
            [
                ("/docs/page", "Page", "Page", "intro"),
                ("/docs/page#a-b", "Page", "A b", "some words x y 1 2"),
            ]
        );
    }
}
