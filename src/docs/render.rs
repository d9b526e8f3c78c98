//! Markdown to HTML, with anchors as mdBook makes them, so that one link works in both.

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::{address, slug};

/// The languages of an example, in the order in which they are offered.
const LANGUAGES: [(&str, &str); 3] = [("sh", "curl"), ("python", "Python"), ("ts", "TypeScript")];

pub struct Article {
    /// The heading as HTML, like everything here.
    pub title: String,
    pub html: String,
    pub sections: Vec<Section>,
}

pub struct Section {
    pub level: u8,
    pub id: String,
    pub html: String,
}

pub fn render(markdown: &str) -> Article {
    let options = Options::ENABLE_TABLES;
    // Raw HTML contains only comments for authors of the pages.
    let events: Vec<_> = Parser::new_ext(markdown, options)
        .filter(|event| {
            !matches!(
                event,
                Event::Html(_)
                    | Event::InlineHtml(_)
                    | Event::Start(Tag::HtmlBlock)
                    | Event::End(TagEnd::HtmlBlock)
            )
        })
        .map(readdress)
        .collect();
    let (events, sections) = with_anchors(events);
    let mut body = String::new();
    html::push_html(&mut body, with_tabs(with_frames(events)).into_iter());
    // A heading without a text is none for a screen reader.
    let body = body.replace("<th></th>", "<td></td>");
    let title = sections.first().map_or(String::new(), |section| section.html.clone());
    Article { title, html: body, sections }
}

/// Links between files become links between pages.
fn readdress(event: Event<'_>) -> Event<'_> {
    let Event::Start(Tag::Link { link_type, dest_url, title, id }) = event else { return event };
    let (file, anchor) = dest_url.split_once('#').map_or((&*dest_url, None), |(file, id)| (file, Some(id)));
    let dest_url = if file.ends_with(".md") && !file.contains("://") {
        let anchor = anchor.map_or(String::new(), |id| format!("#{id}"));
        CowStr::from(format!("{}{anchor}", address(&slug(file))))
    } else {
        dest_url
    };
    Event::Start(Tag::Link { link_type, dest_url, title, id })
}

/// Gives every heading its id, and a link to itself.
fn with_anchors(events: Vec<Event<'_>>) -> (Vec<Event<'_>>, Vec<Section>) {
    let mut sections: Vec<Section> = Vec::new();
    let mut out = Vec::with_capacity(events.len());
    let mut events = events.into_iter();
    while let Some(event) = events.next() {
        let Event::Start(Tag::Heading { level, classes, attrs, .. }) = event else {
            out.push(event);
            continue;
        };
        let inside: Vec<_> =
            events.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_)))).collect();
        let mut id = anchor(&inside);
        let taken = sections.iter().filter(|section| section.id == id).count();
        if taken > 0 {
            id = format!("{id}-{taken}");
        }
        let mut html = String::new();
        html::push_html(&mut html, inside.iter().cloned());
        let link = format!("<a class=\"anchor\" href=\"#{id}\" aria-label=\"Link to this section\">#</a>");
        out.push(Event::Start(Tag::Heading { level, id: Some(id.clone().into()), classes, attrs }));
        out.extend(inside);
        out.push(Event::InlineHtml(link.into()));
        out.push(Event::End(TagEnd::Heading(level)));
        sections.push(Section { level: level as u8, id, html });
    }
    (out, sections)
}

/// mdBook's rule: lower case, a dash for a space, and of the rest only what a name may hold.
fn anchor(heading: &[Event<'_>]) -> String {
    let mut id = String::new();
    for event in heading {
        if let Event::Text(text) | Event::Code(text) = event {
            id.extend(text.chars().filter_map(|c| match c {
                c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
                c if c.is_whitespace() => Some('-'),
                _ => None,
            }));
        }
    }
    id
}

/// A wide table scrolls by itself instead of widening a phone's page.
fn with_frames(events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Event::Start(Tag::Table(_)) => out.extend([Event::Html("<div class=\"table\">".into()), event]),
            Event::End(TagEnd::Table) => out.extend([event, Event::Html("</div>".into())]),
            _ => out.push(event),
        }
    }
    out
}

/// Examples of the same thing that follow one another become one, with a choice of the language.
fn with_tabs(events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let mut out = Vec::with_capacity(events.len());
    let mut index = 0;
    while index < events.len() {
        let group = group(&events[index..]);
        if group.len() < 2 {
            out.push(events[index].clone());
            index += 1;
            continue;
        }
        let labels: String = group
            .iter()
            .map(|(language, _)| {
                let name = LANGUAGES.iter().find(|(known, _)| known == language).map_or("", |(_, name)| name);
                format!("<label for=\"in-{language}\">{name}</label>")
            })
            .collect();
        out.push(Event::Html(format!("<div class=\"tabs\"><div class=\"choice\">{labels}</div>").into()));
        for (language, length) in group {
            out.push(Event::Html(format!("<div class=\"tab in-{language}\">").into()));
            out.extend_from_slice(&events[index..index + length]);
            out.push(Event::Html("</div>".into()));
            index += length;
        }
        out.push(Event::Html("</div>".into()));
    }
    out
}

/// The examples that begin here, each in a language of its own: language and number of events.
fn group(events: &[Event<'_>]) -> Vec<(&'static str, usize)> {
    let mut found: Vec<(&'static str, usize)> = Vec::new();
    let mut rest = events;
    while let Some(Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info)))) = rest.first() {
        let word = info.split(' ').next().unwrap_or_default();
        let Some((language, _)) = LANGUAGES.into_iter().find(|(language, _)| *language == word) else {
            break;
        };
        let end = rest.iter().position(|event| matches!(event, Event::End(TagEnd::CodeBlock)));
        let Some(end) = end.filter(|_| found.iter().all(|(other, _)| *other != language)) else { break };
        found.push((language, end + 1));
        rest = &rest[end + 1..];
    }
    found
}
