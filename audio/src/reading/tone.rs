//! A test tone: if ffmpeg cannot decode it, ffmpeg does not work, whatever it reports about other audio.

use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::ffmpeg::job::JobContext;
use crate::reading::probe::{decode_once, look};
use crate::source::Hints;

/// Time limit. The tone takes tens of milliseconds, and more on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether ffmpeg can decode the tone at this moment.
pub(crate) async fn decodes(context: &JobContext<'_>) -> bool {
    let decoding = async {
        let tone = file(context.scratch).ok()?;
        let context = JobContext { timeout: context.timeout.min(TIMEOUT), ..*context };
        let examined = look(&context, tone.path(), &Hints::default()).await.ok()?;
        decode_once(&context, tone.path(), &examined).await.ok()
    };
    let decodes = decoding.await.is_some();
    if !decodes {
        tracing::error!("ffmpeg does not work at the moment");
    }
    decodes
}

/// Half a second of 440 Hz as WAV.
pub(crate) fn file(folder: &Path) -> io::Result<NamedTempFile> {
    const RATE: u32 = 16_000;
    let samples = (0..RATE / 2).map(|index| {
        let phase = f64::from(index) * 440.0 * std::f64::consts::TAU / f64::from(RATE);
        (phase.sin() * 8_000.0) as i16
    });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let mut wav = Vec::with_capacity(44 + data.len());
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(36 + RATE).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&RATE.to_le_bytes());
    wav.extend_from_slice(&(RATE * 2).to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend_from_slice(&RATE.to_le_bytes());
    wav.extend_from_slice(&data);
    let file = tempfile::Builder::new().prefix("tone-").tempfile_in(folder)?;
    std::fs::write(file.path(), wav)?;
    Ok(file)
}
