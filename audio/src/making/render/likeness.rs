//! Compares the sound of a produced file with that of its source.

use tempfile::NamedTempFile;
use voicegate_providers::{AudioFacts, Container};

use super::Job;
use crate::decoding::NotDecoded;
use crate::error::{AudioError, AudioErrorKind};
use crate::ffmpeg::job::blocking;
use crate::ffmpeg::pass::{Input, Measure, Tuning, pass};
use crate::making::render::Render;
use crate::profiles::plan::Work;
use crate::profiles::profile::{AudioCodec, Keeps, keeps_frames};
use crate::proving::kept::{Beginning, compare_beginnings, has_same_frames};
use crate::proving::likeness::{Comparison, Likeness, compare, compare_steady, decode_natively, is_steady};
use crate::source::Probed;
use crate::source::findings::Mix;

impl Job<'_> {
    /// Compares the sound of the produced file with that of the source, which was measured separately.
    ///
    /// The built-in decoders are used first. If they find a difference, or if none applies and the source is unusual,
    /// ffmpeg decodes the produced file, and its result counts. Kept Opus frames have to be those of the source; if the
    /// source is not unusual, only the beginnings are decoded then.
    pub(super) async fn compare(&self, render: Render) -> Result<Render, AudioError> {
        let Render::Made { file, facts, work, mut checks } = render else { return Ok(render) };
        let Probed { detail, findings, .. } = &self.facts;
        let compare = self.comparison(work);
        let is_odd = !detail.intact || findings.mix.is_some() || !findings.contradictions.is_empty();
        let source_container = self.facts.facts.container;
        let keeps_opus = work == Work::Remuxed
            && matches!(self.profile.keeps, Keeps::Opus(_))
            && !keeps_frames(source_container);
        let first = if keeps_opus {
            let beginning = self.kept(&file, facts.container).await?;
            checks.push("kept_frames");
            match beginning {
                _ if is_odd => self.decode_natively(&file, facts.container, compare).await?,
                Beginning::Alike => Ok(Likeness::Alike),
                Beginning::Differs => Err(NotDecoded::Failed),
                Beginning::Unknown => Err(NotDecoded::Unknown),
            }
        } else {
            self.decode_natively(&file, facts.container, compare).await?
        };
        let likeness = match first {
            Err(NotDecoded::Unknown) if is_odd || facts.container == Container::Amr => {
                self.decoded(&file, &facts, work, compare).await?
            }
            Err(NotDecoded::Unknown) => None,
            Err(NotDecoded::Failed | NotDecoded::Limit) | Ok(Likeness::Differs(_)) => {
                self.decoded(&file, &facts, work, compare).await?
            }
            Ok(likeness) => Some(likeness),
        };
        match likeness {
            Some(Likeness::Differs(bar)) => {
                tracing::warn!(
                    profile = self.profile.name,
                    ?work,
                    bar,
                    "a produced file does not sound like its source"
                );
                Err(AudioError::encode(
                    AudioErrorKind::Internal,
                    format!("the file produced for {} does not sound like the source", self.profile.name),
                ))
            }
            Some(Likeness::Alike) => {
                checks.push("sound");
                Ok(Render::Made { file, facts, work, checks })
            }
            Some(Likeness::Unclear) | None => Ok(Render::Made { file, facts, work, checks }),
        }
    }

    /// Compares strictly if the sound is steady and the encoder can be tuned differently.
    fn comparison(&self, work: Work) -> Comparison {
        let is_tunable = work == Work::Transcoded
            && self.profile.makes.codec == AudioCodec::Opus
            && self.tuning != Tuning::Tone;
        let Probed { findings, facts, .. } = &self.facts;
        if is_tunable && is_steady(&findings.bars, facts.duration_ms) { compare_steady } else { compare }
    }

    /// Checks that a file with kept Opus packets has the frames of the source, and decodes the beginnings of both.
    async fn kept(&self, file: &NamedTempFile, container: Container) -> Result<Beginning, AudioError> {
        let (source, made, packets) = (self.path.to_owned(), file.path().to_owned(), self.packets());
        let (source_container, samples) = (self.facts.facts.container, self.facts.detail.opus.as_ref());
        let samples = samples.map_or(0, |opus| opus.samples);
        let kept = blocking(move || {
            Ok(has_same_frames(&source, packets, &made, container).map(|()| {
                // A built-in decoder that panics gives no verdict.
                let compared = std::panic::catch_unwind(|| {
                    compare_beginnings((&source, source_container), (&made, container), samples)
                });
                compared.unwrap_or(Beginning::Unknown)
            }))
        });
        kept.await?.map_err(|reason| {
            tracing::warn!(
                profile = self.profile.name,
                reason,
                "a file with kept packets failed verification"
            );
            AudioError::encode(
                AudioErrorKind::Internal,
                format!("the file produced for {} failed verification: it {reason}", self.profile.name),
            )
        })
    }

    /// Decodes the produced file with a built-in decoder, and compares its sound.
    async fn decode_natively(
        &self,
        file: &NamedTempFile,
        container: Container,
        compare: Comparison,
    ) -> Result<Result<Likeness, NotDecoded>, AudioError> {
        let Probed { findings, facts: source, .. } = &self.facts;
        let path = file.path().to_owned();
        let (bars, loudest, lasts) = (findings.bars.clone(), findings.loudest, source.duration_ms);
        blocking(move || {
            // A built-in decoder that panics gives no verdict.
            let decoded = std::panic::catch_unwind(|| decode_natively(&path, container, lasts));
            let decoded = decoded.unwrap_or(Err(NotDecoded::Failed));
            Ok(decoded.map(|sound| compare(&bars, loudest, lasts, &sound)))
        })
        .await
    }

    /// Decodes the produced file with ffmpeg in a separate run, and compares its sound. Kept packets still have the constant
    /// part of the source, without which the source was measured.
    async fn decoded(
        &self,
        file: &NamedTempFile,
        facts: &AudioFacts,
        work: Work,
        compare: Comparison,
    ) -> Result<Option<Likeness>, AudioError> {
        let Probed { findings, facts: source, .. } = &self.facts;
        let (path, container) = (file.path(), facts.container);
        let constant =
            findings.mix.as_ref().filter(|_| work == Work::Remuxed).map_or(0.0, |mix| mix.constant);
        let mix = Mix { constant, ..Mix::default() };
        let input = Input { path, container, format: None, track: 0, counted: true, mix: Some(&mix) };
        let measure = Measure::First(source.duration_ms);
        let passed = self.ran(pass(self.context, input, &[], measure).await)?;
        let measured = passed.measured.filter(|_| passed.success);
        Ok(measured.map(|made| compare(&findings.bars, findings.loudest, source.duration_ms, &made.audible)))
    }
}
