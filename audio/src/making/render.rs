//! Makes what a profile produces: wraps the packets anew, or encodes.

use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Container};

use crate::copies::mended::{keep_frames, mended};
use crate::copies::readable::readable;
use crate::copies::rewrap::{Packets, Wrap, rewrap};
use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::job::{Bench, blocking, scratch_file};
use crate::ffmpeg::measure::Measured;
use crate::ffmpeg::pass::{Input, Make, Measure, PassError, Passed, not_run, pass};
use crate::ffmpeg::run::RunError;
use crate::formats::ogg::Damage;
use crate::profiles::plan::{Convert, Work, plan, refused};
use crate::profiles::profile::{AudioCodec, Keeps, Profile, keeps_frames};
use crate::proving::heard::{Likeness, compare, heard};
use crate::proving::verify::verify;
use crate::reading::examine::Examined;
use crate::reading::probe::{Depth, assemble, decode, from_structure, input, look, too_long};
use crate::source::{Hints, PcmEncoding, PcmFormat, Probed};

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
    /// What goes as it is may go on the word of its structure.
    trusts_structure: bool,
    /// What decoders read in place of the source.
    copy: Option<NamedTempFile>,
}

/// Makes what the profile asks for out of a source that is measured already.
pub(crate) async fn render(
    bench: &Bench<'_>,
    path: &Path,
    probed: &Probed,
    profile: &'static Profile,
    convert: Convert,
) -> Result<Render, AudioError> {
    let facts = probed.clone();
    let readable = readable(bench, path, probed.detail.plain.as_ref()).await?;
    let job = Job {
        bench,
        path: readable.path(),
        profile,
        convert,
        examined: None,
        facts,
        is_measured: true,
        trusts_structure: false,
        copy: None,
    };
    job.run().await.map(|(_, render)| render)
}

/// The same for any source, and its facts: in one pass of ffmpeg, wherever its structure tells what has to be done.
/// With [`Depth::Structure`] they are not of decoding where the structure is sure and the source goes as it is.
pub(crate) async fn read_and_render(
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
        Some(facts) => (facts, false),
        // Encoded before it is known how long it is, a file that claims to go on for hours would be encoded for hours.
        None => (decode(bench, path, &examined).await?, true),
    };
    let trusts_structure = depth == Depth::Structure;
    let examined = Some(examined);
    let job =
        Job { bench, path, profile, convert, examined, facts, is_measured, trusts_structure, copy: None };
    job.run().await
}

impl Job<'_> {
    async fn run(mut self) -> Result<(Probed, Render), AudioError> {
        self.copy = mended(self.bench, self.path, self.facts.facts.container, &self.facts.detail).await?;
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
            let render = match render {
                Ok(Render::Untouched) if self.trusts_structure => Ok(Render::Untouched),
                Ok(render) => {
                    self.measure().await?;
                    self.compare(render).await
                }
                error => error,
            };
            match render {
                // Kept packets that do not hold are no failure of ours; encoding comes next, if it may.
                Err(error) if work == Work::Remuxed && error.kind == AudioErrorKind::Internal => {
                    tracing::debug!(profile = self.profile.name, %error, "the packets could not be kept");
                    tried = Some(work);
                }
                Err(error) => return Err(error),
                Ok(render) => {
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
        let container = self.facts.facts.container;
        if keeps_frames(container) {
            let file = self.frames(container).await?;
            return self.prove(file, container, Work::Remuxed).await;
        }
        let (file, container) = match self.profile.keeps {
            Keeps::Opus(_) => {
                let facts = &self.facts;
                let packets = match facts.facts.container {
                    Container::Ogg if facts.detail.counted => Packets::CountedOgg,
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

    /// The frames of the source in a file of their own.
    async fn frames(&self, container: Container) -> Result<NamedTempFile, AudioError> {
        let file = scratch_file(self.bench.scratch).map_err(|error| not_run(&error, "encode"))?;
        let (source, target) = (self.path.to_owned(), file.path().to_owned());
        blocking(move || Ok(keep_frames(&source, &target, container))).await?.map_err(|Damage(reason)| {
            AudioError::encode(AudioErrorKind::Internal, format!("the frames could not be kept: {reason}"))
        })?;
        Ok(file)
    }

    async fn encode(&mut self) -> Result<Render, AudioError> {
        let recipe = &self.profile.makes;
        let source = &self.facts.facts;
        let rate = recipe.sample_rate(source.sample_rate);
        let bits = self.profile.bitrate(source.duration_ms);
        let make = Make::Encode { profile: self.profile, rate, bits };
        let mut file = if self.facts.detail.varies {
            // An encoder loses what it holds back where its input changes, so it is given samples that do not.
            let samples = self.pass(Make::Samples { rate }).await?;
            let format = PcmFormat { encoding: PcmEncoding::S16le, sample_rate: rate, channels: 1 };
            let (container, format) = (Container::Pcm, Some(format));
            let input = Input { path: samples.path(), container, format, track: 0, counted: true, mix: None };
            let passed = self.ran(pass(self.bench, input, make, Measure::Nothing).await)?;
            self.file_of(passed).await?
        } else {
            self.pass(make).await?
        };
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

    /// One pass of ffmpeg that makes a file, and measures the source where that has not been done. Two where that shows
    /// that the channels cancel each other out.
    async fn pass(&mut self, make: Make) -> Result<NamedTempFile, AudioError> {
        let path = self.copy.as_ref().map_or(self.path, |copy| copy.path());
        let unmeasured = self.examined.as_ref().filter(|_| !self.is_measured);
        let measure = if unmeasured.is_some() { Measure::Sound } else { Measure::Nothing };
        let facts = &self.facts;
        let mut mix = facts.findings.mix.clone();
        let mut cancels = false;
        let passed = loop {
            let input = input(path, facts.facts.container, &facts.detail, mix.as_ref());
            let passed = self.ran(pass(self.bench, input, make, measure).await)?;
            let found = passed.measured.as_ref().and_then(Measured::cancelled);
            match found.filter(|_| passed.success && mix.is_none()) {
                Some(found) => (mix, cancels) = (Some(found), true),
                None => break passed,
            }
        };
        if passed.success
            && let Some(examined) = unmeasured
        {
            match assemble(self.bench, examined, &passed, mix, cancels) {
                Ok(facts) => (self.facts, self.is_measured) = (facts, true),
                // A verdict against the source is that of more than one run.
                Err(error) if error.kind.is_verdict() => self.measure().await?,
                Err(error) => return Err(error),
            }
        }
        self.file_of(passed).await
    }

    fn ran(&self, outcome: Result<Passed, PassError>) -> Result<Passed, AudioError> {
        match outcome {
            Ok(passed) => Ok(passed),
            Err(PassError::Run(RunError::TooMuch)) => Err(too_long(self.bench.max_duration)),
            // A busy machine or a file that never ends: a few more times, not for as long as the note lives.
            Err(PassError::Run(RunError::Timeout)) => Err(AudioError::encode(
                AudioErrorKind::Slow,
                format!("making the file took longer than {} s", self.bench.timeout.as_secs()),
            )),
            Err(error) => Err(not_run(&error, "encode")),
        }
    }

    async fn file_of(&mut self, passed: Passed) -> Result<NamedTempFile, AudioError> {
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

impl Job<'_> {
    /// Holds the sound of what was made against that of the source, which was measured by itself.
    ///
    /// Decoders of our own are asked first. Where they know better than to agree, or where there is none and something
    /// about the source is out of the ordinary, ffmpeg decodes the made file, and its word counts.
    async fn compare(&self, render: Render) -> Result<Render, AudioError> {
        let Render::Made { file, facts, work, mut checks } = render else { return Ok(render) };
        let Probed { detail, findings, facts: source, .. } = &self.facts;
        let (path, container) = (file.path().to_owned(), facts.container);
        let (bars, loudest, lasts) = (findings.bars.clone(), findings.loudest, source.duration_ms);
        let first = blocking(move || {
            // A decoder that gives up in the middle of its work has no opinion.
            let heard = std::panic::catch_unwind(|| heard(&path, container, lasts)).ok().flatten();
            Ok(heard.map(|sound| compare(&bars, loudest, lasts, &sound)))
        })
        .await?;
        let is_odd = !detail.intact || findings.mix.is_some() || !findings.contradictions.is_empty();
        let likeness = match first {
            None if is_odd || container == Container::Amr => self.decoded(&file, &facts).await?,
            Some(Likeness::Differs(_)) => self.decoded(&file, &facts).await?,
            likeness => likeness,
        };
        match likeness {
            Some(Likeness::Differs(bar)) => {
                tracing::warn!(
                    profile = self.profile.name,
                    ?work,
                    bar,
                    "a made file does not sound like its source"
                );
                Err(AudioError::encode(
                    AudioErrorKind::Internal,
                    format!("what was made for {} does not sound like the source", self.profile.name),
                ))
            }
            Some(Likeness::Alike) => {
                checks.push("sound");
                Ok(Render::Made { file, facts, work, checks })
            }
            Some(Likeness::Unclear) | None => Ok(Render::Made { file, facts, work, checks }),
        }
    }

    /// The same by ffmpeg, in a run of its own.
    async fn decoded(
        &self,
        file: &NamedTempFile,
        facts: &AudioFacts,
    ) -> Result<Option<Likeness>, AudioError> {
        let Probed { findings, facts: source, .. } = &self.facts;
        let (path, container) = (file.path(), facts.container);
        let input = Input { path, container, format: None, track: 0, counted: true, mix: None };
        let measure = Measure::First(source.duration_ms);
        let passed = self.ran(pass(self.bench, input, Make::Nothing, measure).await)?;
        let measured = passed.measured.filter(|_| passed.success);
        Ok(measured.map(|made| compare(&findings.bars, findings.loudest, source.duration_ms, &made.audible)))
    }
}

fn lacks_encoder(log: &[u8]) -> bool {
    String::from_utf8_lossy(log).lines().any(|line| line.contains("Unknown encoder"))
}

fn size_of(file: &NamedTempFile) -> u64 {
    file.as_file().metadata().map_or(0, |metadata| metadata.len())
}
