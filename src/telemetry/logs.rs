//! Logs: one line per event on standard error, as text on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// rmcp logs whole messages below this level, with recipients and words in them.
const QUIET: &str = "rmcp=warn";

/// Initialises the log. The filter comes from `RUST_LOG`; by default it is the gateway's own events from `info` on.
pub fn init(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,voicegate=info"));
    let filter = match QUIET.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    match format {
        Format::Text => logs.with_target(false).with_ansi(terminal).init(),
        Format::Auto if terminal => logs.with_target(false).init(),
        // Spans are logged once, as a list from the outermost to the innermost.
        Format::Auto | Format::Json => logs.json().with_current_span(false).init(),
    }
}
