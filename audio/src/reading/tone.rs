//! A tone of our own: an ffmpeg that does not get through it does not work, whatever it says about other audio.

use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::ffmpeg::job::Bench;
use crate::reading::probe::{decode_once, look};
use crate::source::Hints;

/// The tone takes some tens of milliseconds; on a busy machine more.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether ffmpeg works, at this moment.
pub(crate) async fn is_heard(bench: &Bench<'_>) -> bool {
    let heard = async {
        let tone = file(bench.scratch).ok()?;
        let bench = Bench { timeout: bench.timeout.min(TIMEOUT), ..*bench };
        let examined = look(&bench, tone.path(), &Hints::default()).await.ok()?;
        decode_once(&bench, tone.path(), &examined).await.ok()
    };
    let is_heard = heard.await.is_some();
    if !is_heard {
        tracing::error!("ffmpeg does not work at the moment");
    }
    is_heard
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
