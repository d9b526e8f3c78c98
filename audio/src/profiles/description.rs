//! Descriptions of profiles in words, for people and documents.

use std::fmt;

use voicegate_providers::Container;

use crate::formats::opus::Bandwidth;
use crate::profiles::profile::{AcceptedFormat, AudioCodec, Bitrate, Profile, Rate, Recipe, Tags, VENDOR};

impl Profile {
    /// Descriptions of the formats that are sent untouched.
    pub fn accepted_formats(&self) -> Vec<String> {
        self.accepts.iter().map(ToString::to_string).collect()
    }

    /// Requirements of the target. Formats with equal conditions are listed together.
    pub fn needs(&self) -> String {
        let mut text = String::new();
        for alike in self.accepts.chunk_by(|a, b| a.conditions() == b.conditions()) {
            let names: Vec<&str> = alike.iter().map(|form| wrapped(form.container, form.codec)).collect();
            let separator = if text.is_empty() { "" } else { "; " };
            text += &format!("{separator}{}{}", names.join(" or "), alike[0].conditions());
        }
        if let Some(bytes) = self.max_bytes {
            text += &format!("; at most {bytes} bytes");
        }
        if let Some(over) = self.over_budget {
            text += &format!(", or {} without {}", over.max_bytes, over.loss.name());
        }
        text
    }

    /// Description of the encoded output.
    pub fn produces(&self) -> String {
        let Recipe { container, codec, rate, bitrate, frames_per_packet, .. } = self.makes;
        let mut text = format!("{}, mono", wrapped(container, codec));
        match rate {
            Rate::Fixed(rate) => text += &format!(", {} kHz", kilo(rate)),
            Rate::Own { least, most } => {
                text += &format!(", the source's rate from {} to {} kHz", kilo(least), kilo(most));
            }
        }
        match (codec, bitrate) {
            (AudioCodec::PcmS16, _) => text += ", 16 bits",
            (_, Bitrate { most, least }) if most == least => text += &format!(", {} kbit/s", kilo(most)),
            (_, Bitrate { most, least }) => {
                text += &format!(", {} kbit/s, for long notes down to {}", kilo(most), kilo(least));
            }
        }
        match (codec, frames_per_packet) {
            (AudioCodec::Opus, 1) => text += ", one frame of 20 ms per packet",
            (AudioCodec::Opus, count) => text += &format!(", {count} frames of 20 ms per packet"),
            (AudioCodec::Aac, _) => text += ", index first",
            _ => {}
        }
        text
    }
}

fn kilo(number: u32) -> String {
    format!("{}", f64::from(number) / 1000.0)
}

fn wrapped(container: Container, codec: AudioCodec) -> &'static str {
    match (container, codec) {
        (Container::Ogg, _) => "Ogg/Opus",
        (Container::Caf, AudioCodec::Opus) => "Opus in CAF",
        (Container::Caf, _) => "AAC in CAF",
        (Container::Mp4, _) => "AAC in M4A",
        (Container::Adts, _) => "AAC (ADTS)",
        (Container::Mp3, _) => "MP3",
        (Container::Wav, _) => "WAV with linear PCM",
        (Container::Aiff, _) => "AIFF with linear PCM",
        (Container::Amr, _) => "AMR-NB",
        _ => "other audio",
    }
}

impl fmt::Display for AcceptedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", wrapped(self.container, self.codec), self.conditions())
    }
}

impl AcceptedFormat {
    /// The conditions of a format, worded to follow its name.
    fn conditions(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write_conditions(&mut text);
        text
    }

    fn write_conditions(&self, f: &mut impl fmt::Write) -> fmt::Result {
        f.write_str(if self.channels == 1 { ", mono" } else { ", mono or stereo" })?;
        match self.rate {
            (least, most) if least == most => write!(f, ", {} kHz", kilo(most))?,
            (_, most) if most < u32::MAX && self.opus.is_none() => write!(f, ", at most {} kHz", kilo(most))?,
            _ => {}
        }
        let Some(opus) = self.opus else { return Ok(()) };
        if let Some(rate) = opus.input_rate {
            write!(f, ", {} kHz", kilo(rate))?;
        }
        if opus.bandwidth < Bandwidth::Full {
            f.write_str(", at most wideband")?;
        }
        match (opus.frame_ms, opus.frames_per_packet) {
            (Some(ms), Some(1)) => write!(f, ", one frame of {ms} ms per packet")?,
            (Some(ms), Some(count)) => write!(f, ", {count} frames of {ms} ms per packet")?,
            _ => {}
        }
        if opus.tags == Tags::Bare {
            write!(f, ", vendor `{VENDOR}` and no comments")?;
        }
        Ok(())
    }
}
