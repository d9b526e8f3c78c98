//! Logs: one line per event on standard error, as text on a terminal and as JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Reads `RUST_LOG`; without it the gateway's own events from `info` on.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,voicegate=info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    match format {
        LogFormat::Pretty => logs.with_target(false).with_ansi(terminal).init(),
        LogFormat::Auto if terminal => logs.with_target(false).init(),
        // Each span once, in the list from the outermost to the innermost.
        LogFormat::Auto | LogFormat::Json => logs.json().with_current_span(false).init(),
    }
}
