//! Parses ffmpeg's description of its input from its log.

use ffmpeg_sidecar::event::{FfmpegEvent, Stream};
use ffmpeg_sidecar::log_parser::FfmpegLogParser;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct InputLog {
    /// The requested audio stream.
    pub audio: Option<AudioStream>,
    /// Number of other streams, without cover pictures and attachments.
    pub other_streams: u32,
    /// Number of audio streams.
    pub audio_streams: u32,
    pub declared_ms: Option<u64>,
    /// The stream exists, but this ffmpeg has no decoder for it.
    pub no_decoder: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AudioStream {
    pub codec: String,
    /// Sample rate in Hz; 0 if ffmpeg could not tell.
    pub sample_rate: u32,
    /// Number of channels; `None` if the layout's name does not tell.
    pub channels: Option<u16>,
}

impl InputLog {
    /// Parses the log. `track` is the index of the requested stream among the audio streams.
    pub fn read(stderr: &[u8], track: u32) -> Self {
        let mut log = Self::default();
        let lines = input_lines(stderr);
        let mut parser = FfmpegLogParser::new(lines.as_bytes());
        loop {
            match parser.parse_next_event() {
                Ok(FfmpegEvent::LogEOF) => break,
                Ok(FfmpegEvent::ParsedDuration(duration)) => {
                    log.declared_ms = Some((duration.duration.max(0.0) * 1000.0) as u64);
                }
                Ok(FfmpegEvent::ParsedInputStream(stream)) => log.stream(&stream, track),
                // An audio stream without a rate, or a picture without dimensions.
                Ok(FfmpegEvent::Log(_, line)) if line.contains(": Audio:") => {
                    let stream = AudioStream { codec: codec_of(&line), sample_rate: 0, channels: None };
                    log.audio_stream(stream, track);
                }
                Ok(FfmpegEvent::Log(_, line)) if line.contains(": Video:") && !is_picture(&line) => {
                    log.other_streams += 1;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(stderr);
        log.no_decoder = text.lines().any(|line| {
            // "Decoder (codec ac4) not found for input stream #0:0", and since ffmpeg 6 "Decoding requested, but no
            // decoder found for: ac4".
            line.contains("Decoder (codec") && line.contains("not found")
                || line.contains("no decoder found for")
        });
        log
    }

    fn stream(&mut self, stream: &Stream, track: u32) {
        if let Some(audio) = stream.audio_data() {
            let found = AudioStream {
                codec: stream.format.clone(),
                sample_rate: audio.sample_rate,
                channels: channel_count(&audio.channels),
            };
            self.audio_stream(found, track);
        } else if !is_picture(&stream.raw_log_message) {
            self.other_streams += 1;
        }
    }

    fn audio_stream(&mut self, stream: AudioStream, track: u32) {
        if self.audio_streams == track {
            self.audio = Some(stream);
        } else {
            self.other_streams += 1;
        }
        self.audio_streams += 1;
    }
}

fn is_picture(line: &str) -> bool {
    line.contains("(attached pic)") || line.contains(": Attachment:")
}

fn codec_of(line: &str) -> String {
    let name = line.split(": Audio:").nth(1).unwrap_or_default().trim_start();
    name.split([' ', '(', ',']).next().unwrap_or_default().to_owned()
}

/// The lines that describe the input. Tags contain arbitrary text of the sender, but ffmpeg indents them deeper. Other
/// characters than ASCII are replaced, because the parser counts characters and slices bytes.
fn input_lines(stderr: &[u8]) -> String {
    let ascii: String =
        stderr.iter().map(|&byte| if byte.is_ascii() { char::from(byte) } else { '?' }).collect();
    let mut lines = String::new();
    for line in ascii.split(['\n', '\r']) {
        let Some(said) = line.strip_prefix("[info] ") else { continue };
        if said.starts_with("Stream mapping:") || said.starts_with("Output #") {
            break;
        }
        if said.starts_with("Input #") || said.starts_with("  Duration: ") || said.starts_with("  Stream #") {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// Number of channels of a layout by ffmpeg's name for it: `mono`, `stereo`, `5.1(side)`, `11 channels`.
fn channel_count(layout: &str) -> Option<u16> {
    let layout = layout.trim();
    match layout {
        "mono" => return Some(1),
        "stereo" | "downmix" => return Some(2),
        "quad" | "quad(side)" => return Some(4),
        "hexagonal" => return Some(6),
        "octagonal" | "cube" => return Some(8),
        _ => {}
    }
    if let Some((count, _)) = layout.split_once(" channel") {
        return count.parse().ok();
    }
    let (front, low) = layout.split('(').next()?.trim().split_once('.')?;
    front.parse::<u16>().ok()?.checked_add(low.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_not_taken_for_streams() {
        let log = b"[info] Input #0, mp3, from 'file:x':\n[info]   Metadata:\n\
            [info]     Stream #0:0: Audio: evil, 1 Hz, mono: x\n[info]     title           : Stream mapping:\n\
            [info]   Duration: 00:00:03.02, start: 0.046, bitrate: 32 kb/s\n\
            [info]   Stream #0:0: Audio: mp3 (mp3float), 24000 Hz, mono, fltp, 32 kb/s\n\
            [info]   Stream #0:1: Video: png, rgb24(pc), 8x8, 90k tbr, 90k tbn (attached pic)\n\
            [info] Stream mapping:\n[info]   Stream #0:0 -> #0:0 (mp3 (mp3float) -> pcm_s16le (native))\n\
            [info] Output #0, s16le, to 'pipe:1':\n[info]   Stream #0:0: Audio: pcm_s16le, 8000 Hz, mono, s16\n";
        let read = InputLog::read(log, 0);
        let audio = AudioStream { codec: "mp3".into(), sample_rate: 24_000, channels: Some(1) };
        assert_eq!(
            read,
            InputLog { audio: Some(audio), declared_ms: Some(3_020), audio_streams: 1, ..Default::default() }
        );
    }

    #[test]
    fn requested_stream_is_read() {
        let log = b"[info] Input #0, mov, from 'file:x':\n[info]   Duration: 00:00:03.00, start: 0.0, bitrate: 32 kb/s\n\
            [info]   Stream #0:0[0x1](und): Audio: none (apac / 0x63617061), 48000 Hz, 1 channels, 64 kb/s (default)\n\
            [info]   Stream #0:1[0x2](und): Audio: aac (LC) (mp4a / 0x6134706D), 48000 Hz, mono, fltp, 64 kb/s\n";
        let heard = |track| InputLog::read(log, track).audio.map(|audio| audio.codec);
        assert_eq!(heard(0).as_deref(), Some("none"));
        assert_eq!(heard(1).as_deref(), Some("aac"));
        assert_eq!(heard(2), None);
        assert_eq!(InputLog::read(log, 1).other_streams, 1);
    }

    #[test]
    fn layout_names_give_channel_counts() {
        for (name, count) in [
            ("mono", Some(1)),
            ("5.1(side)", Some(6)),
            ("7.1", Some(8)),
            ("11 channels", Some(11)),
            ("?", None),
        ] {
            assert_eq!(channel_count(name), count, "{name}");
        }
        assert_eq!(channel_count("1 channels (FL)"), Some(1));
    }

    #[test]
    fn odd_lines_do_no_harm() {
        let log = "[info] Input #0, mov, from 'x':\n[info]   Stream #0:0: Audio: none (é(é,é), 0 channels\n";
        assert_eq!(InputLog::read(log.as_bytes(), 0).audio.map(|audio| audio.sample_rate), Some(0));
    }
}
