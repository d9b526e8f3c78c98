//! The place of a span in its trace, as W3C Trace Context writes it.
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A trace and a span in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceContext {
    /// Reads a `traceparent`. `None` if it is malformed; the specification says to go on as if there were none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_matches([' ', '\t']).split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = hex(version, 2).filter(|_| version != "ff")?;
        // Later versions may have more parts.
        if version == "00" && parts.next().is_some() {
            return None;
        }
        let flags = u8::from_str_radix(hex(flags, 2)?, 16).ok()?;
        let (trace, span) =
            (TraceId::from_hex(hex(trace, 32)?).ok()?, SpanId::from_hex(hex(span, 16)?).ok()?);
        let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        // Only the flag whose meaning is known is passed on.
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        is_valid.then_some(Self { trace, span, flags })
    }

    pub(super) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace: context.trace_id(),
            span: context.span_id(),
            flags: context.trace_flags(),
        })
    }

    pub(super) fn span_context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, true, TraceState::NONE)
    }
}

/// `text`, if it has this many lower-case hexadecimal digits and nothing else.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && is_hex).then_some(text)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_is_read_and_written() {
        assert_eq!(TraceContext::parse(GOOD).map(|context| context.to_string()).as_deref(), Some(GOOD));
        for (text, read) in [
            // Unknown flags are not passed on.
            (GOOD.replace("-01", "-ff"), GOOD.to_owned()),
            (GOOD.replace("-01", "-00"), GOOD.replace("-01", "-00")),
            // A later version is read as far as it is known.
            (format!("cc{}-what-the-future-brings", &GOOD[2..]), GOOD.to_owned()),
            (format!(" {GOOD} "), GOOD.to_owned()),
        ] {
            assert_eq!(TraceContext::parse(&text).map(|context| context.to_string()), Some(read), "{text}");
        }
    }

    #[test]
    fn malformed_traceparent_is_no_traceparent() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }
}
