//! Waveform and duration, which Discord's clients draw and the sender has to tell.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// Clients take one point per 100 ms of sound and at most 256:
/// <https://docs.discord.com/developers/resources/message#voice-messages>
const POINT_MS: u64 = 100;
const MOST_POINTS: usize = 256;

/// The loudest bar that we measure.
const FULL: u16 = 100;

pub(super) fn seconds(duration_ms: u64) -> Value {
    // Milliseconds are exact in a double for longer than anybody talks.
    #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53 ms")]
    let seconds = duration_ms as f64 / 1000.0;
    json!(seconds)
}

/// One byte per point, the loudest of the bars that fall into it.
pub(super) fn waveform(bars: &[u8], duration_ms: u64) -> String {
    let most = usize::try_from(duration_ms / POINT_MS).unwrap_or(MOST_POINTS);
    let points = most.min(bars.len()).clamp(1, MOST_POINTS);
    let point = |index: usize| {
        let (from, to) = (index * bars.len() / points, (index + 1) * bars.len() / points);
        let loudest = bars.get(from..to).unwrap_or_default().iter().max().copied().unwrap_or_default();
        u8::try_from(u16::from(loudest).min(FULL) * 255 / FULL).unwrap_or(u8::MAX)
    };
    BASE64_STANDARD.encode((0..points).map(point).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(bars: &[u8], duration_ms: u64) -> Vec<u8> {
        BASE64_STANDARD.decode(waveform(bars, duration_ms)).expect("base64")
    }

    #[test]
    fn a_short_note_has_a_point_per_tenth_of_a_second() {
        let bars: Vec<u8> = (0..64).collect();
        assert_eq!(points(&bars, 50).len(), 1);
        assert_eq!(points(&bars, 2000).len(), 20);
        assert_eq!(points(&bars, 6400).len(), 64);
        assert_eq!(points(&bars, 60_000).len(), 64);
        assert_eq!(points(&[7; 300], 60_000).len(), 256);
    }

    #[test]
    fn peaks_survive_and_full_loudness_is_255() {
        let mut bars = [0; 64];
        (bars[0], bars[40]) = (50, 100);
        let points = points(&bars, 1000);
        assert_eq!(points.len(), 10);
        assert_eq!((points[0], points[6]), (127, 255));
        assert_eq!(points.iter().filter(|point| **point > 0).count(), 2);
    }

    #[test]
    fn a_duration_is_a_number_of_seconds() {
        assert_eq!(seconds(3020), json!(3.02));
    }
}
