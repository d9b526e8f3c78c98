//! The documentation as the gateway serves it.

use crate::demo::Demo;

/// What a client without a key gets: head and body.
fn get(demo: &Demo, path: &str) -> (String, String) {
    let url = format!("{}{path}", demo.url);
    let output = demo.command("curl").args(["-sS", "-i", &url]).output().expect("curl");
    let answer = String::from_utf8(output.stdout).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_owned())
}

/// The values of an attribute.
fn values<'a>(html: &'a str, attribute: &'a str) -> impl Iterator<Item = &'a str> {
    let lead = [attribute, "=\""].concat();
    let rest = html.split(lead.as_str()).skip(1).collect::<Vec<_>>();
    rest.into_iter().filter_map(|rest| rest.split('"').next())
}

#[test]
fn pages_need_no_key_and_no_other_host() {
    let demo = Demo::start();
    let (_, index) = get(&demo, "/docs");
    let pages: Vec<&str> = values(&index, "href").filter(|href| href.starts_with("/docs/")).collect();
    assert!(pages.len() > 8, "{pages:?}");
    for page in
        pages.into_iter().map(|page| page.split('#').next().unwrap_or_default()).chain(["/docs", "/docs/"])
    {
        let (head, body) = get(&demo, page);
        assert!(head.starts_with("http/1.1 200"), "{page}: {head}");
        if page == "/docs/style.css" {
            assert!(head.contains("content-type: text/css") && !body.contains("url("), "{head}");
            continue;
        }
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{page}: {head}");
        assert!(
            head.contains(
                "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self';"
            ),
            "{page}: {head}"
        );
        let loaded: Vec<_> = values(&body, "src").collect();
        assert_eq!(loaded, ["/docs/docs.js"], "{page} loads something else");
        assert_eq!(body.matches("<script").count(), 1, "{page}");
        let sheets: Vec<_> = body.lines().filter(|line| line.contains("rel=\"stylesheet\"")).collect();
        assert_eq!(sheets, ["<link rel=\"stylesheet\" href=\"/docs/style.css\">"], "{page}");
    }
    let (head, _) = get(&demo, "/docs/no-such-page");
    assert!(head.starts_with("http/1.1 404") && head.contains("application/problem+json"), "{head}");
}

#[test]
fn wrong_address_is_a_page_for_people_and_a_problem_for_programs() {
    let demo = Demo::start();
    for path in ["/docs/no-such-page", "/no-such-path"] {
        let mut curl = demo.command("curl");
        curl.args(["-sS", "-i", "-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"]);
        let answer = curl.arg(format!("{}{path}", demo.url)).output().expect("curl");
        let answer = String::from_utf8(answer.stdout).expect("text");
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("There is no such page") && answer.contains("href=\"/docs\""), "{path}");
        let (head, _) = get(&demo, path);
        assert!(head.contains("application/problem+json"), "{path}: {head}");
    }
}

#[test]
fn the_type_of_a_problem_leads_to_its_section() {
    let demo = Demo::start();
    for path in ["/no/such/path", "/voice/vn_0"] {
        let (_, problem) = get(&demo, path);
        let problem: serde_json::Value = serde_json::from_str(&problem).expect("a problem");
        let (page, anchor) =
            problem["type"].as_str().and_then(|kind| kind.split_once('#')).expect("an address");
        let (head, body) = get(&demo, page);
        assert!(head.starts_with("http/1.1 200"), "{page}: {head}");
        assert!(values(&body, "id").any(|id| id == anchor), "{page} has no section {anchor}");
        assert_eq!(problem["code"], anchor);
    }
}
