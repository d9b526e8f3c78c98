use std::{collections::BTreeSet, path::Path};

use super::*;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
}

/// Every link of a page, as written.
fn links(markdown: &str) -> Vec<String> {
    use pulldown_cmark::{Event, Parser, Tag};
    Parser::new(markdown)
        .filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. }) => Some(dest_url.to_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn summary_folder_and_gateway_have_the_same_pages() {
    let in_summary = links(SUMMARY);
    let served: Vec<_> = SOURCES.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(in_summary, served, "in SUMMARY.md, served by the gateway");
    let on_disk: BTreeSet<_> = std::fs::read_dir(folder())
        .expect("the docs folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".md") && name != "SUMMARY.md")
        .collect();
    assert_eq!(on_disk, served.into_iter().collect(), "in the folder, served by the gateway");
}

#[test]
fn every_link_leads_somewhere() {
    let articles: Vec<_> = SOURCES.iter().map(|(file, text)| (*file, render(text))).collect();
    for (file, text) in SOURCES {
        for link in links(text).iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { file } else { target };
            let article = articles.iter().find(|(name, _)| *name == target);
            let (_, article) =
                article.unwrap_or_else(|| panic!("docs/{file}: {link}: there is no such page"));
            let found = anchor.is_empty() || article.sections.iter().any(|section| section.id == anchor);
            assert!(found, "docs/{file}: {link}: there is no such section");
        }
    }
}

#[test]
fn a_page_has_its_frame() {
    let errors = page("errors").expect("the page");
    assert!(errors.contains("<a href=\"/docs/errors\" aria-current=\"page\">"), "marked in the navigation");
    assert!(
        errors.contains("<h2 id=\"audio_unreadable\"><code>audio_unreadable</code>"),
        "an anchor for each code"
    );
    for place in ["{title}", "{version}", "{navigation}", "{article}", "{turn}"] {
        assert!(TEMPLATE.contains(place) && !errors.contains(place), "{place} is filled");
    }
    assert!(page("no-such-page").is_none());
}

#[test]
fn links_between_files_become_links_between_pages() {
    let html = render("[a](errors.md#not_found) [b](index.md) [c](https://example.com/x.md) [d](#here)").html;
    for address in ["/docs/errors#not_found", "/docs\"", "https://example.com/x.md", "\"#here\""] {
        assert!(html.contains(address), "{address} in {html}");
    }
}

#[test]
fn headings_have_unique_anchors_as_in_mdbook() {
    let ids: Vec<_> = render("# What's new?\n## `a_b` and C\n## Same\n## Same\n")
        .sections
        .into_iter()
        .map(|s| s.id)
        .collect();
    assert_eq!(ids, ["whats-new", "a_b-and-c", "same", "same-1"]);
}

#[test]
fn examples_in_several_languages_share_one_place() {
    let html = render("```sh run\na\n```\n```python run\nb\n```\n\ntext\n\n```sh\nc\n```\n").html;
    assert_eq!(html.matches("class=\"tabs\"").count(), 1, "{html}");
    assert_eq!(html.matches("<label for=").count(), 2, "{html}");
    assert_eq!(html.matches("<pre>").count(), 3, "{html}");
}

#[test]
fn comments_and_raw_html_are_left_out() {
    let html = render("<!-- printed: x -->\n\ntext <b>bold</b>\n").html;
    assert!(!html.contains("printed") && !html.contains("<b>"), "{html}");
}
