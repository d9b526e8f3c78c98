//! One line of the report.

use std::fmt;

use anstyle::{AnsiColor, Style};

/// A finding and its severity.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    verdict: Verdict,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// The operator should know it, but the gateway works.
    Note,
    /// It must be corrected. The text says how.
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Note => "note",
            Self::Fail => "FAIL",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => AnsiColor::Green.on_default(),
            Self::Note => AnsiColor::Yellow.on_default(),
            Self::Fail => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl Line {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, text: text.into() }
    }

    pub fn note(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, text: text.into() }
    }

    pub fn fail(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, text: text.into() }
    }

    pub fn is_failure(&self) -> bool {
        self.verdict == Verdict::Fail
    }
}

/// `{line:#}` is printed with colours.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = (self.verdict.word(), &self.text);
        if f.alternate() {
            let style = self.verdict.style();
            write!(f, "{style}{word}{style:#}  {text}")
        } else {
            write!(f, "{word}  {text}")
        }
    }
}
