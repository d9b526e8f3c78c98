//! Produces the file that a profile asks for, by wrapping the packets in a new container or by encoding.

mod likeness;

use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Container};

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::job::{JobContext, blocking, scratch_file};
use crate::ffmpeg::measure::Measured;
use crate::ffmpeg::pass::{Input, Make, Measure, PassError, Passed, Tuning, not_run, pass};
use crate::ffmpeg::run::RunError;
use crate::formats::ogg::Damage;
use crate::profiles::plan::{Candidate, Convert, Work, plan, refused};
use crate::profiles::profile::{AudioCodec, Keeps, Profile, keeps_frames};
use crate::proving::verify::verify;
use crate::reading::examine::Examined;
use crate::reading::probe::{Depth, assemble, decode, from_structure, input, look, too_long};
use crate::remux::readable::readable;
use crate::remux::repaired::{Repaired, keep_frames, repaired};
use crate::remux::rewrap::{Packets, Wrap, rewrap};
use crate::source::{Hints, PcmEncoding, PcmFormat, Probed};

/// Result of a render.
#[derive(Debug)]
pub enum Render {
    /// The target accepts the source itself.
    Untouched,
    Made {
        file: NamedTempFile,
        facts: AudioFacts,
        work: Work,
        /// Names of the checks that the result passed.
        checks: Vec<&'static str>,
    },
}

/// A source on its way to a profile.
struct Job<'a> {
    context: &'a JobContext<'a>,
    path: &'a Path,
    profile: &'static Profile,
    convert: Convert,
    /// `None` if the facts came with the job, and are those of ffmpeg.
    examined: Option<Examined>,
    facts: Probed,
    /// The facts come from decoding by ffmpeg, or nothing else has to be measured.
    is_measured: bool,
    /// An untouched source may be sent without decoding it, if its structure is conclusive.
    trusts_structure: bool,
    /// Repaired copy that decoders read in place of the source.
    copy: Option<Repaired>,
    tuning: Tuning,
}

/// Produces the file for a profile from a source that was measured before.
pub(crate) async fn render(
    context: &JobContext<'_>,
    path: &Path,
    probed: &Probed,
    profile: &'static Profile,
    convert: Convert,
) -> Result<Render, AudioError> {
    let facts = probed.clone();
    let examined = if probed.findings.decoded_here {
        let hints = Hints { format: probed.detail.format, ..Hints::default() };
        Some(look(context, path, &hints).await?)
    } else {
        None
    };
    let readable = readable(context, path, probed.detail.patched.as_ref()).await?;
    let job = Job {
        context,
        path: readable.path(),
        profile,
        convert,
        is_measured: examined.is_none(),
        examined,
        facts,
        trusts_structure: false,
        copy: None,
        tuning: Tuning::Speech,
    };
    job.run().await.map(|(_, render)| render)
}

/// Reads a source and produces the file for a profile, in one pass of ffmpeg if its structure tells what to do. With
/// [`Depth::Structure`], a source that is sent untouched is not decoded if its structure is conclusive.
pub(crate) async fn read_and_render(
    context: &JobContext<'_>,
    path: &Path,
    hints: &Hints,
    depth: Depth,
    profile: &'static Profile,
    convert: Convert,
) -> Result<(Probed, Render), AudioError> {
    let examined = look(context, path, hints).await?;
    let readable = readable(context, path, examined.detail.patched.as_ref()).await?;
    let path = readable.path();
    let (facts, is_measured) = match from_structure(&examined, context.max_duration) {
        Some(facts) => (facts, false),
        // The length is checked before encoding, because a file that claims to last for hours would be encoded for
        // hours.
        None => (decode(context, path, &examined).await?, true),
    };
    let trusts_structure = depth == Depth::Structure;
    let examined = Some(examined);
    let job = Job {
        context,
        path,
        profile,
        convert,
        examined,
        facts,
        is_measured,
        trusts_structure,
        copy: None,
        tuning: Tuning::Speech,
    };
    job.run().await
}

impl Job<'_> {
    async fn run(mut self) -> Result<(Probed, Render), AudioError> {
        self.copy = repaired(self.context, self.path, self.facts.facts.container, &self.facts.detail).await?;
        let mut tried = None;
        loop {
            let candidates = self.candidates()?;
            let untried = |candidate: &&Candidate| tried.is_none_or(|tried| tried < **candidate);
            let Some(&candidate) = candidates.iter().find(untried) else {
                // All permitted conversions were tried and failed verification.
                return Err(refused(self.profile));
            };
            let render = match candidate.work {
                Work::None => Ok(Render::Untouched),
                Work::Remuxed => self.keep_packets(self.profile.limit(candidate.over_budget)).await,
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
                // Kept packets that fail verification are no error of ours: encoding comes next, if it is permitted.
                Err(error) if candidate.work == Work::Remuxed && error.kind == AudioErrorKind::Internal => {
                    tracing::debug!(profile = self.profile.name, %error, "the packets could not be kept");
                    tried = Some(candidate);
                }
                // As speech, libopus distorts some tones so much that they no longer sound like the source.
                Err(error) if candidate.work == Work::Transcoded && self.tune(error.kind) => {
                    tracing::debug!(profile = self.profile.name, %error, "encoding again, not as speech");
                }
                Err(error) => return Err(error),
                Ok(render) => {
                    // Decoding may have ruled out this conversion, for example because of another stream or codec.
                    if tried.is_some() || self.candidates()?.first() == Some(&candidate) {
                        return Ok((self.facts, render));
                    }
                }
            }
        }
    }

    /// Tunes the encoder differently, after a result that failed verification. Returns `false` if everything was tried, or if
    /// there is nothing to tune.
    fn tune(&mut self, failure: AudioErrorKind) -> bool {
        let next = match self.tuning {
            Tuning::Speech => Tuning::Sound,
            Tuning::Sound => Tuning::Tone,
            Tuning::Tone => return false,
        };
        let tunes = failure == AudioErrorKind::Internal && self.profile.makes.codec == AudioCodec::Opus;
        if tunes {
            self.tuning = next;
        }
        tunes
    }

    /// Permitted conversions, best first.
    fn candidates(&self) -> Result<Vec<Candidate>, AudioError> {
        plan(&self.facts, self.profile, self.convert)
    }

    /// Decodes the source for its facts, unless that has been done already.
    async fn measure(&mut self) -> Result<(), AudioError> {
        if self.facts.findings.decoded_here {
            return Ok(());
        }
        if let Some(examined) = self.examined.as_ref().filter(|_| !self.is_measured) {
            self.facts = decode(self.context, self.path, examined).await?;
            self.is_measured = true;
        }
        Ok(())
    }

    /// Keeps the packets. The file may have `limit` bytes.
    async fn keep_packets(&mut self, limit: Option<u64>) -> Result<Render, AudioError> {
        let container = self.facts.facts.container;
        if keeps_frames(container) {
            let file = self.frames(container).await?;
            return self.prove(file, container, limit, Work::Remuxed).await;
        }
        let (file, container) = match self.profile.keeps {
            Keeps::Opus(_) => {
                let packets = self.packets();
                let packed = self.facts.detail.opus.as_ref().and_then(|opus| opus.frames_per_packet);
                let wrap = Wrap {
                    container: self.profile.makes.container,
                    input_rate: self.profile.kept_input_rate(),
                    frames_per_packet: self.profile.kept_frames_per_packet().filter(|&n| packed != Some(n)),
                };
                (rewrap(self.context, self.path, packets, wrap).await?, wrap.container)
            }
            Keeps::Aac { .. } | Keeps::Nothing => (self.pass(Make::Copy).await?, Container::Mp4),
        };
        self.prove(file, container, limit, Work::Remuxed).await
    }

    /// The container in which the Opus packets of the source are found.
    fn packets(&self) -> Packets {
        match self.facts.facts.container {
            Container::Ogg if self.facts.detail.counted => Packets::CountedOgg,
            Container::Ogg => Packets::Ogg,
            Container::Caf => Packets::Caf,
            _ => Packets::Webm,
        }
    }

    /// Copies the frames of the source into a file of their own.
    async fn frames(&self, container: Container) -> Result<NamedTempFile, AudioError> {
        let file = scratch_file(self.context.scratch).map_err(|error| not_run(&error, Stage::Encode))?;
        let (source, target) = (self.path.to_owned(), file.path().to_owned());
        blocking(move || Ok(keep_frames(&source, &target, container))).await?.map_err(|Damage(reason)| {
            AudioError::encode(AudioErrorKind::Internal, format!("the frames could not be kept: {reason}"))
        })?;
        Ok(file)
    }

    async fn encode(&mut self) -> Result<Render, AudioError> {
        let bits = self.profile.bitrate(self.facts.facts.duration_ms);
        let mut file = self.encode_at(bits).await?;
        // Encoders exceed the bit rate that is asked for where the sound is hard to encode.
        if let Some(lower) = self.profile.lower_bitrate(bits, self.facts.facts.duration_ms, size_of(&file)) {
            file = self.encode_at(lower).await?;
        }
        // A result that exceeds the budget nevertheless is sent, if the target takes it.
        self.prove(file, self.profile.makes.container, self.profile.limit(true), Work::Transcoded).await
    }

    /// Encodes the source at a bit rate, in bits per second.
    async fn encode_at(&mut self, bits: u32) -> Result<NamedTempFile, AudioError> {
        let recipe = &self.profile.makes;
        let source = &self.facts.facts;
        let rate = recipe.sample_rate(source.sample_rate);
        let make = Make::Encode { profile: self.profile, rate, bits, tuning: self.tuning };
        let mut file = if self.facts.detail.varies {
            // Encoders lose buffered samples if their input changes format, so they receive samples of one format.
            let samples = self.pass(Make::Samples { rate }).await?;
            let format = PcmFormat { encoding: PcmEncoding::S16le, sample_rate: rate, channels: 1 };
            let (container, format) = (Container::Pcm, Some(format));
            let input = Input { path: samples.path(), container, format, track: 0, counted: true, mix: None };
            let passed = self.ran(pass(self.context, input, &[make], Measure::Nothing).await)?;
            self.file_of(passed).await?
        } else {
            match self.made_before(make) {
                Some(file) => file,
                None => self.pass(make).await?,
            }
        };
        if recipe.codec == AudioCodec::Opus {
            // ffmpeg names itself in the headers; a recorder would not.
            let wrap = Wrap {
                container: recipe.container,
                input_rate: Some(recipe.input_rate),
                frames_per_packet: Some(recipe.frames_per_packet).filter(|&count| count > 1),
            };
            file = rewrap(self.context, file.path(), Packets::EncodedOgg, wrap).await?;
        }
        Ok(file)
    }

    /// One pass of ffmpeg that produces a file, and measures the source if that has not been done yet. A second pass
    /// follows if the channels turn out to need another mix. Files for profiles that come later are produced
    /// beside it, unless they are what makes the pass fail.
    async fn pass(&mut self, make: Make) -> Result<NamedTempFile, AudioError> {
        let (path, container) = match &self.copy {
            Some(copy) => (copy.file.path(), copy.container),
            None => (self.path, self.facts.facts.container),
        };
        let unmeasured = self.examined.as_ref().filter(|_| !self.is_measured);
        let measure = if unmeasured.is_some() { Measure::Sound } else { Measure::Nothing };
        let facts = &self.facts;
        let mut mix = facts.findings.mix.clone();
        let mut cancels = false;
        let mut makes = vec![make];
        makes.extend(self.makes_for_later(make));
        let mut passed = loop {
            let input = input(path, container, &facts.detail, mix.as_ref());
            let outcome = pass(self.context, input, &makes, measure).await;
            if makes.len() > 1 && !matches!(&outcome, Ok(passed) if passed.success) {
                makes.truncate(1);
                continue;
            }
            let passed = self.ran(outcome)?;
            let found = passed.measured.as_ref().and_then(Measured::mix);
            match found.filter(|_| passed.success && mix.is_none()) {
                Some((found, cancel)) => (mix, cancels) = (Some(found), cancel),
                None => break passed,
            }
        };
        let later = passed.files.split_off(1.min(passed.files.len()));
        if let Some(companions) = self.context.companions {
            companions.keep(mix.as_ref(), makes.into_iter().skip(1).zip(later));
        }
        if passed.success
            && let Some(examined) = unmeasured
        {
            match assemble(self.context, examined, &passed, mix, cancels) {
                Ok(facts) => (self.facts, self.is_measured) = (facts, true),
                // A verdict against the source needs more than one run.
                Err(error) if error.kind.is_verdict() => self.measure().await?,
                Err(error) => return Err(error),
            }
        }
        self.file_of(passed).await
    }

    /// The file that was made beside another one, if it is what would be made now.
    fn made_before(&self, make: Make) -> Option<NamedTempFile> {
        self.context.companions?.take(make, self.facts.findings.mix.as_ref())
    }

    /// Encodings for the profiles that are rendered after this one.
    fn makes_for_later(&self, make: Make) -> Vec<Make> {
        let Make::Encode { tuning: Tuning::Speech, .. } = make else { return Vec::new() };
        let later = self.context.companions.map(|companions| companions.after(self.profile));
        let encodes = |profile: &&'static Profile| {
            let candidates = plan(&self.facts, profile, self.convert).unwrap_or_default();
            candidates.first().is_some_and(|first| first.work == Work::Transcoded)
        };
        later
            .unwrap_or_default()
            .iter()
            .copied()
            .filter(encodes)
            .map(|profile| self.encoding(profile))
            .collect()
    }

    /// The encoding for a profile, at the bit rate that is tried first.
    fn encoding(&self, profile: &'static Profile) -> Make {
        let AudioFacts { duration_ms, sample_rate, .. } = self.facts.facts;
        let (rate, bits) = (profile.makes.sample_rate(sample_rate), profile.bitrate(duration_ms));
        Make::Encode { profile, rate, bits, tuning: Tuning::Speech }
    }

    fn ran(&self, outcome: Result<Passed, PassError>) -> Result<Passed, AudioError> {
        match outcome {
            Ok(passed) => Ok(passed),
            Err(PassError::Run(RunError::TooMuch)) => Err(too_long(self.context.max_duration)),
            // The machine may be busy, or the file may never end. A few more attempts are made, not attempts for the
            // life of the note.
            Err(PassError::Run(RunError::Timeout)) => Err(AudioError::encode(
                AudioErrorKind::Slow,
                format!("making the file took longer than {} s", self.context.timeout.as_secs()),
            )),
            Err(error) => Err(not_run(&error, Stage::Encode)),
        }
    }

    async fn file_of(&mut self, passed: Passed) -> Result<NamedTempFile, AudioError> {
        let Passed { success, log, files, .. } = passed;
        let file = files.into_iter().next();
        match file {
            Some(file) if success => Ok(file),
            file => {
                let error = self.not_made(&log, file.as_ref().map_or(0, size_of));
                // If nothing is known to be wrong with ffmpeg, the source may be at fault.
                if error.kind == AudioErrorKind::Internal && !lacks_encoder(&log) {
                    self.measure().await?;
                }
                Err(error)
            }
        }
    }

    /// The error for a run of ffmpeg that failed after so many bytes of output.
    fn not_made(&self, log: &[u8], size: u64) -> AudioError {
        let text = String::from_utf8_lossy(log);
        let said = text.lines().rfind(|line| line.contains("[error]") || line.contains("[fatal]"));
        tracing::warn!(said = said.unwrap_or_default(), "ffmpeg failed to make a file");
        match (lacks_encoder(log), size >= self.context.max_output) {
            (true, _) => AudioError::encode(
                AudioErrorKind::Internal,
                "this ffmpeg lacks an encoder; it needs libopus, aac and libmp3lame",
            ),
            (_, true) => AudioError::encode(AudioErrorKind::TooLarge, "the result would be too large"),
            _ => AudioError::encode(AudioErrorKind::Internal, "ffmpeg failed to make the file"),
        }
    }

    /// Reads back the produced file, which may have `limit` bytes, and verifies it.
    async fn prove(
        &self,
        file: NamedTempFile,
        container: Container,
        limit: Option<u64>,
        work: Work,
    ) -> Result<Render, AudioError> {
        let profile = self.profile;
        let path = file.path().to_owned();
        let facts = self.facts.facts.clone();
        let encoded = work == Work::Transcoded;
        let proven =
            blocking(move || Ok(verify(&path, container, &facts, (profile, limit), encoded))).await?;
        let reason = match proven {
            Ok(proven) => {
                return Ok(Render::Made { file, facts: proven.facts, work, checks: proven.checks });
            }
            Err(reason) => reason,
        };
        let most = limit.unwrap_or(u64::MAX).min(self.context.max_output);
        // ffmpeg stops silently shortly before its size limit, and the file is then too short.
        if encoded && size_of(&file) >= most - most / 50 {
            return Err(AudioError::encode(
                AudioErrorKind::TooLarge,
                format!("even re-encoded, this audio is larger than the {most} bytes that fit"),
            ));
        }
        tracing::warn!(profile = profile.name, ?work, %reason, "a produced file failed verification");
        Err(AudioError::encode(
            AudioErrorKind::Internal,
            format!("the file produced for {} failed verification: it {reason}", profile.name),
        ))
    }
}

fn lacks_encoder(log: &[u8]) -> bool {
    String::from_utf8_lossy(log).lines().any(|line| line.contains("Unknown encoder"))
}

fn size_of(file: &NamedTempFile) -> u64 {
    file.as_file().metadata().map_or(0, |metadata| metadata.len())
}
