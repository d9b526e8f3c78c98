//! The documentation that the gateway serves of itself: the Markdown of the `docs` folder, rendered once.
//!
//! The same files are an mdBook source, and read well as they are. So the renderer adds what a page of its own
//! needs and no more: anchors, navigation, and one switch for the language of all examples.

mod render;
mod search;

use std::sync::LazyLock;

use render::{Article, render};
pub use search::INDEX as SEARCH;

/// The one style sheet, at `/docs/style.css`.
pub const STYLE: &str = include_str!("style.css");

/// The script of all pages, at `/docs/docs.js`.
pub const SCRIPT: &str = include_str!("docs.js");

const TEMPLATE: &str = include_str!("page.html");

/// The table of contents; the navigation is made of it.
const SUMMARY: &str = include_str!("../../docs/SUMMARY.md");

macro_rules! sources {
    ($($file:literal),* $(,)?) => {
        /// Every page's file name and text.
        const SOURCES: &[(&str, &str)] = &[$(($file, include_str!(concat!("../../docs/", $file)))),*];
    };
}

sources![
    "index.md",
    "concepts.md",
    "http.md",
    "inbound.md",
    "clients.md",
    "n8n.md",
    "api.md",
    "errors.md",
    "SKILL.md",
    "providers.md",
    "recipes.md",
    "dialects.md",
    "configuration.md",
    "operations.md",
    "benchmarks.md",
    "ARCHITECTURE.md",
];

struct Page {
    slug: String,
    html: String,
}

static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let articles: Vec<_> = SOURCES.iter().map(|(file, text)| (slug(file), render(text))).collect();
    let pages = articles.iter().enumerate();
    let neighbour = |index: Option<usize>| index.and_then(|index| articles.get(index));
    pages
        .map(|(index, (slug, article))| {
            let turn = turn(neighbour(index.checked_sub(1)), neighbour(Some(index + 1)));
            Page { slug: slug.clone(), html: lay_out(slug, article, &turn) }
        })
        .collect()
});

/// The page at `/docs/{slug}`, as HTML.
pub fn page(slug: &str) -> Option<&'static str> {
    PAGES.iter().find(|page| page.slug == slug).map(|page| page.html.as_str())
}

/// The page for people who followed a wrong address.
pub fn absent() -> &'static str {
    static ABSENT: LazyLock<String> = LazyLock::new(|| {
        let text = "# There is no such page\n\nThe address is wrong, or the page has moved. \
                    Search for it, or begin with the [quick start](index.md).";
        lay_out("", &render(text), "")
    });
    &ABSENT
}

/// The last part of a page's address: `ARCHITECTURE.md` is at `/docs/architecture`.
fn slug(file: &str) -> String {
    file.trim_end_matches(".md").to_ascii_lowercase()
}

/// A page's address.
fn address(slug: &str) -> String {
    if slug == "index" { "/docs".to_owned() } else { format!("/docs/{slug}") }
}

/// Puts an article into the frame that all pages share. `slug` marks its place in the navigation.
fn lay_out(slug: &str, article: &Article, turn: &str) -> String {
    let here = format!("<a href=\"{}\"", address(slug));
    let navigation =
        render(SUMMARY).html.replace(&format!("{here}>"), &format!("{here} aria-current=\"page\">"));
    TEMPLATE
        .replace("{title}", &article.title)
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{navigation}", &navigation)
        .replace("{turn}", turn)
        .replace("{article}", &article.html.replacen("</h1>", &format!("</h1>{}", contents(article)), 1))
}

/// "On this page", where there is enough on it.
fn contents(article: &Article) -> String {
    let sections: Vec<_> = article.sections.iter().filter(|section| section.level == 2).collect();
    if sections.len() < 3 {
        return String::new();
    }
    let items: String = sections
        .iter()
        .map(|section| format!("<li><a href=\"#{}\">{}</a></li>", section.id, section.html))
        .collect();
    format!("<details class=\"contents\"><summary>On this page</summary><ul>{items}</ul></details>")
}

/// The way to the page before and the page after.
fn turn(before: Option<&(String, Article)>, after: Option<&(String, Article)>) -> String {
    let link = |class: &str, page: Option<&(String, Article)>| {
        page.map_or(String::new(), |(slug, article)| {
            format!("<a class=\"{class}\" href=\"{}\">{}</a>", address(slug), article.title)
        })
    };
    format!("{}{}", link("before", before), link("after", after))
}

#[cfg(test)]
mod tests;
