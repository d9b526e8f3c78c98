//! The examples, taken out of the pages.

use std::path::Path;

pub struct Example {
    /// `docs/http.md`
    pub page: String,
    pub line: usize,
    pub text: String,
    pub prints: Option<String>,
}

impl Example {
    pub fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// A file name that leads back to the page.
    pub fn file(&self, extension: &str) -> String {
        let page =
            Path::new(&self.page).with_extension("").to_string_lossy().to_lowercase().replace('/', "-");
        format!("{page}-{}.{extension}", self.line)
    }
}

/// Every runnable example in `language`, page by page.
pub fn examples(language: &str) -> Vec<Example> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages =
        ["README.md", "clients/python/README.md", "clients/typescript/README.md"].map(str::to_owned).to_vec();
    for entry in std::fs::read_dir(root.join("docs")).expect("the docs folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        pages.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    pages.sort();
    pages
        .into_iter()
        .flat_map(|page| {
            let text = std::fs::read_to_string(root.join(&page)).expect("a page");
            of_page(&page, &text, language)
        })
        .collect()
}

fn of_page(page: &str, text: &str, language: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let (mut inside, mut ours) = (false, false);
    for (index, line) in text.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            let mut words = info.split_whitespace();
            ours = !inside && words.next() == Some(language) && words.next() == Some("run");
            inside = !inside;
            if ours {
                let prints = words.next().and_then(|word| word.strip_prefix("prints=")).map(str::to_owned);
                found.push(Example { page: page.to_owned(), line: index + 1, text: String::new(), prints });
            }
        } else if ours && let Some(example) = found.last_mut() {
            example.text.push_str(line);
            example.text.push('\n');
        }
    }
    found
}
