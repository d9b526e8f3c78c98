//! Makes what a profile produces: wraps the packets anew, or encodes.

use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Container};

use super::error::{AudioError, AudioErrorKind};
use super::examine::Examined;
use super::ffmpeg::RunError;
use super::pass::{Bench, Make, PassError, Passed, pass};
use super::plain::readable;
use super::plan::{Convert, Work, plan, refused};
use super::probe::{Depth, assemble, decode, from_structure, input, look, not_run, too_long};
use super::profile::{AudioCodec, Keeps, Profile};
use super::rewrap::{Packets, Wrap, rewrap};
use super::source::{Hints, Probed};
use super::verify::verify;

/// What a render came to.
#[derive(Debug)]
pub enum Render {
    /// The source itself is what the target accepts.
    Untouched,
    Made {
        file: NamedTempFile,
        facts: AudioFacts,
        work: Work,
        /// What was verified on the result.
        checks: Vec<&'static str>,
    },
}

/// A source on its way to a profile, and what is known of it.
struct Job<'a> {
    bench: &'a Bench<'a>,
    path: &'a Path,
    profile: &'static Profile,
    convert: Convert,
    /// `None` where the facts came with the job.
    examined: Option<Examined>,
    facts: Probed,
    /// The facts are those of decoding.
    is_measured: bool,
}

/// Makes what the profile asks for out of a source that is measured already.
pub(super) async fn render(
    bench: &Bench<'_>,
    path: &Path,
    probed: &Probed,
    profile: &'static Profile,
    convert: Convert,
) -> Result<Render, AudioError> {
    let facts = probed.clone();
    let readable = readable(bench, path, probed.detail.plain.as_ref()).await?;
    let path = readable.path();
    let job = Job { bench, path, profile, convert, examined: None, facts, is_measured: true };
    job.run().await.map(|(_, render)| render)
}

/// The same for any source, and its facts: in one pass of ffmpeg, wherever its structure tells what has to be done.
/// With [`Depth::Structure`] they are not of decoding where the structure is sure.
pub(super) async fn read_and_render(
    bench: &Bench<'_>,
    path: &Path,
    hints: &Hints,
    depth: Depth,
    profile: &'static Profile,
    convert: Convert,
) -> Result<(Probed, Render), AudioError> {
    let examined = look(bench, path, hints).await?;
    let readable = readable(bench, path, examined.detail.plain.as_ref()).await?;
    let path = readable.path();
    let (facts, is_measured) = match from_structure(&examined, bench.max_duration) {
        Some(facts) => (facts, depth == Depth::Structure),
        // Encoded before it is known how long it is, a file that claims to go on for hours would be encoded for hours.
        None => (decode(bench, path, &examined).await?, true),
    };
    Job { bench, path, profile, convert, examined: Some(examined), facts, is_measured }.run().await
}

impl Job<'_> {
    async fn run(mut self) -> Result<(Probed, Render), AudioError> {
        let mut tried = None;
        loop {
            let candidates = self.candidates()?;
            let Some(&work) = candidates.iter().find(|work| tried.is_none_or(|tried| tried < **work)) else {
                // Everything that was allowed was tried, and did not hold.
                return Err(refused(self.profile));
            };
            let render = match work {
                Work::None => Ok(Render::Untouched),
                Work::Remuxed => self.keep_packets().await,
                Work::Transcoded => self.encode().await,
            };
            match render {
                // Kept packets that do not hold are no failure of ours; encoding comes next, if it may.
                Err(error) if work == Work::Remuxed && error.kind == AudioErrorKind::Internal => {
                    tracing::debug!(profile = self.profile.name, %error, "the packets could not be kept");
                    tried = Some(work);
                }
                Err(error) => return Err(error),
                Ok(render) => {
                    self.measure().await?;
                    // Decoding may have shown what speaks against it: another stream, or another codec.
                    if tried.is_some() || self.candidates()?.first() == Some(&work) {
                        return Ok((self.facts, render));
                    }
                }
            }
        }
    }

    /// What may be done, least first.
    fn candidates(&self) -> Result<Vec<Work>, AudioError> {
        plan(&self.facts, self.profile, self.convert)
    }

    /// Decodes for the facts, where no pass has done it yet.
    async fn measure(&mut self) -> Result<(), AudioError> {
        if let Some(examined) = self.examined.as_ref().filter(|_| !self.is_measured) {
            self.facts = decode(self.bench, self.path, examined).await?;
            self.is_measured = true;
        }
        Ok(())
    }

    async fn keep_packets(&mut self) -> Result<Render, AudioError> {
        let (file, container) = match self.profile.keeps {
            Keeps::Opus(_) => {
                let facts = &self.facts;
                let packets = match facts.facts.container {
                    Container::Ogg => Packets::Ogg,
                    Container::Caf => Packets::Caf,
                    _ => Packets::Webm,
                };
                let packed = facts.detail.opus.as_ref().and_then(|opus| opus.frames_per_packet);
                let wrap = Wrap {
                    container: self.profile.makes.container,
                    input_rate: self.profile.kept_input_rate(),
                    frames_per_packet: self.profile.kept_frames_per_packet().filter(|&n| packed != Some(n)),
                };
                (rewrap(self.bench, self.path, packets, wrap).await?, wrap.container)
            }
            Keeps::Aac { .. } | Keeps::Nothing => (self.pass(Make::Copy).await?, Container::Mp4),
        };
        self.prove(file, container, Work::Remuxed).await
    }

    async fn encode(&mut self) -> Result<Render, AudioError> {
        let recipe = &self.profile.makes;
        let source = &self.facts.facts;
        let rate = recipe.sample_rate(source.sample_rate);
        let bits = self.profile.bitrate(source.duration_ms);
        let mut file = self.pass(Make::Encode { profile: self.profile, rate, bits }).await?;
        if recipe.codec == AudioCodec::Opus {
            // ffmpeg names itself in the headers; a recorder would not.
            let wrap = Wrap {
                container: recipe.container,
                input_rate: Some(recipe.input_rate),
                frames_per_packet: Some(recipe.frames_per_packet).filter(|&count| count > 1),
            };
            file = rewrap(self.bench, file.path(), Packets::EncodedOgg, wrap).await?;
        }
        self.prove(file, recipe.container, Work::Transcoded).await
    }

    /// One pass of ffmpeg that makes a file, and measures the source where that has not been done.
    async fn pass(&mut self, make: Make) -> Result<NamedTempFile, AudioError> {
        let unmeasured = self.examined.as_ref().filter(|_| !self.is_measured);
        let facts = &self.facts;
        let input = input(self.path, facts.facts.container, &facts.detail);
        let passed = match pass(self.bench, input, make, unmeasured.is_some()).await {
            Ok(passed) => passed,
            Err(PassError::Run(RunError::TooMuch)) => return Err(too_long(self.bench.max_duration)),
            Err(PassError::Run(RunError::Timeout)) => {
                return Err(AudioError::encode(
                    AudioErrorKind::Slow,
                    format!("making the file took longer than {} s", self.bench.timeout.as_secs()),
                ));
            }
            Err(error) => return Err(not_run(&error, "encode")),
        };
        if passed.success
            && let Some(examined) = unmeasured
        {
            match assemble(self.bench, examined, &passed) {
                Ok(facts) => (self.facts, self.is_measured) = (facts, true),
                // A verdict against the source is that of more than one run.
                Err(error) if error.kind.is_verdict() => self.measure().await?,
                Err(error) => return Err(error),
            }
        }
        match passed {
            Passed { success: true, file: Some(file), .. } => Ok(file),
            passed => {
                let error = self.not_made(&passed);
                // Where nothing is known to be wrong on this side, it may be the source.
                if error.kind == AudioErrorKind::Internal && !lacks_encoder(&passed.log) {
                    self.measure().await?;
                }
                Err(error)
            }
        }
    }

    /// ffmpeg ran, and failed.
    fn not_made(&self, passed: &Passed) -> AudioError {
        let log = String::from_utf8_lossy(&passed.log);
        let said = log.lines().rfind(|line| line.contains("[error]") || line.contains("[fatal]"));
        tracing::warn!(said = said.unwrap_or_default(), "ffmpeg failed to make a file");
        let size = passed.file.as_ref().map_or(0, size_of);
        match (lacks_encoder(&passed.log), size >= self.bench.max_output) {
            (true, _) => AudioError::encode(
                AudioErrorKind::Internal,
                "this ffmpeg lacks an encoder; it needs libopus, aac and libmp3lame",
            ),
            (_, true) => AudioError::encode(AudioErrorKind::TooLarge, "the result would be too large"),
            _ => AudioError::encode(AudioErrorKind::Internal, "ffmpeg failed to make the file"),
        }
    }

    /// Reads back what was made.
    async fn prove(
        &self,
        file: NamedTempFile,
        container: Container,
        work: Work,
    ) -> Result<Render, AudioError> {
        let profile = self.profile;
        let path = file.path().to_owned();
        let facts = self.facts.facts.clone();
        let encoded = work == Work::Transcoded;
        let proven = blocking(move || Ok(verify(&path, container, &facts, profile, encoded))).await?;
        let reason = match proven {
            Ok(proven) => {
                return Ok(Render::Made { file, facts: proven.facts, work, checks: proven.checks });
            }
            Err(reason) => reason,
        };
        let most = profile.max_bytes.unwrap_or(u64::MAX).min(self.bench.max_output);
        // ffmpeg stops quietly a little before its limit, and what it wrote is then too short.
        if encoded && size_of(&file) >= most - most / 50 {
            return Err(AudioError::encode(
                AudioErrorKind::TooLarge,
                format!("even re-encoded, this audio is larger than the {most} bytes that fit"),
            ));
        }
        tracing::warn!(profile = profile.name, ?work, %reason, "a made file did not prove right");
        Err(AudioError::encode(
            AudioErrorKind::Internal,
            format!("what was made for {} did not prove right: it {reason}", profile.name),
        ))
    }
}

fn lacks_encoder(log: &[u8]) -> bool {
    String::from_utf8_lossy(log).lines().any(|line| line.contains("Unknown encoder"))
}

fn size_of(file: &NamedTempFile) -> u64 {
    file.as_file().metadata().map_or(0, |metadata| metadata.len())
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AudioError> + Send + 'static,
) -> Result<T, AudioError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a step of the audio engine failed");
        AudioError::encode(AudioErrorKind::Internal, "a step of the audio engine failed")
    })?
}
