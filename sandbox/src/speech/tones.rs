//! A made-up voice: each character is a tone of its own, so that every text sounds different, and can be read back from a
//! recording of it.

/// The characters that have a tone. Any other one sounds like a space.
const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz0123456789 .,?!'-:;&@+";

/// MP3 of every tone: three frames of 192 bytes each (24 kHz, 64 kbit/s, mono) that depend on no other frame.
const MP3: &[u8] = include_bytes!("tones.mp3frames");
const MP3_TONE: usize = 3 * 192;

/// The length of a tone: three frames of MP3.
const TONE: f64 = 3.0 * 576.0 / 24_000.0;

/// The longest text that is spoken whole, in characters.
const LONGEST: usize = 4_096;

fn frequency(tone: usize) -> f64 {
    500.0 + 50.0 * tone as f64
}

/// The tones of a text.
pub(super) fn tones(text: &str) -> Vec<usize> {
    let space = ALPHABET.find(' ').unwrap_or_default();
    let tone = |c: char| c.to_lowercase().next().and_then(|c| ALPHABET.find(c)).unwrap_or(space);
    text.trim().chars().take(LONGEST).map(tone).collect()
}

/// The text that has these tones, as far as tones tell.
pub(super) fn text_of(tones: &[usize]) -> String {
    tones.iter().filter_map(|tone| ALPHABET.chars().nth(*tone)).collect()
}

/// Samples of 16 bit. A faster voice has shorter tones. Like a voice, a tone has harmonics and a breath of noise: encoders
/// distort pure tones that change all the time.
pub(super) fn samples(tones: &[usize], rate: u32, speed: f64) -> Vec<i16> {
    let rate = f64::from(rate);
    let each = TONE * rate / speed;
    let end = (each * tones.len() as f64) as usize;
    let (mut phase, mut noise) = (0.0_f64, 1_u32);
    let sample = |n: usize| {
        let (tone, place) = ((n as f64 / each) as usize, (n as f64 % each) / each);
        let fade = 0.6 + 0.4 * (place.min(1.0 - place) * 6.0).min(1.0);
        let frequency = tones.get(tone).map_or(0.0, |tone| frequency(*tone));
        phase = (phase + std::f64::consts::TAU * frequency / rate) % std::f64::consts::TAU;
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let breath = f64::from(noise >> 16) / 65_536.0 - 0.5;
        let voice = 6_000.0 * phase.sin() + 1_500.0 * (2.0 * phase).sin() + 700.0 * (3.0 * phase).sin();
        (fade * voice + 300.0 * breath) as i16
    };
    (0..end).map(sample).collect()
}

/// The text in MP3, at the usual speed.
pub(super) fn mp3(tones: &[usize]) -> Vec<u8> {
    tones.iter().flat_map(|tone| &MP3[tone * MP3_TONE..(tone + 1) * MP3_TONE]).copied().collect()
}

/// The tones that are heard in a recording. `None` if it is something else than this voice.
pub(super) fn heard(samples: &[i16], rate: u32) -> Option<Vec<usize>> {
    const QUIET: i16 = 500;
    let start = samples.iter().position(|sample| sample.saturating_abs() > QUIET)?;
    let end = samples.iter().rposition(|sample| sample.saturating_abs() > QUIET)?;
    let sound = &samples[start..=end];
    let each = TONE * f64::from(rate);
    let count = (sound.len() as f64 / each).round() as usize;
    let tones: Option<Vec<usize>> = (0..count)
        .map(|tone| {
            // The middle of a tone, where its neighbours are not heard.
            let from = (each * (tone as f64 + 0.25)) as usize;
            let middle = sound.get(from..(from + (each / 2.0) as usize).min(sound.len()))?;
            loudest(middle, f64::from(rate))
        })
        .collect();
    tones.filter(|tones| !tones.is_empty())
}

/// The tone that is heard, if it is clearly louder than everything else.
fn loudest(samples: &[i16], rate: f64) -> Option<usize> {
    let power = |tone: usize| {
        // Goertzel's algorithm.
        let factor = 2.0 * (std::f64::consts::TAU * frequency(tone) / rate).cos();
        let (one, two) = samples
            .iter()
            .fold((0.0, 0.0), |(one, two), sample| (f64::from(*sample) + factor * one - two, one));
        one * one + two * two - factor * one * two
    };
    let total: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    let tone = (0..ALPHABET.len()).max_by(|a, b| power(*a).total_cmp(&power(*b)))?;
    // A pure tone has all of its power in one place.
    let share = power(tone) * 2.0 / (total.max(1.0) * samples.len() as f64);
    (share > 0.5).then_some(tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_back_from_its_sound() {
        for text in ["hello, who is there?", "a", "the parcel 7 is here: 10-12 o'clock!"] {
            for rate in [16_000, 24_000, 48_000] {
                let spoken = samples(&tones(text), rate, 1.0);
                let heard = heard(&spoken, rate).unwrap_or_default();
                assert_eq!(text_of(&heard), text, "{rate}");
            }
        }
        let noise: Vec<i16> = (0..48_000_i32).map(|n| (n.wrapping_mul(7919) % 9_001) as i16).collect();
        assert_eq!(heard(&noise, 16_000), None);
        assert_eq!(heard(&[0; 9_000], 16_000), None);
    }

    #[test]
    fn every_character_has_its_own_frames() {
        assert_eq!(MP3.len(), ALPHABET.len() * MP3_TONE);
        let all: std::collections::BTreeSet<Vec<u8>> = (0..ALPHABET.len()).map(|tone| mp3(&[tone])).collect();
        assert_eq!(all.len(), ALPHABET.len());
    }
}
