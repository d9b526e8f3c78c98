//! Makes the audio that would be sent, for whoever waits for it. Nothing is stored, and nothing is sent.
//!
//! The rules and the render cache are those of sending, so the bytes are the same. What is made here is removed when the
//! result is dropped, except for what the render cache keeps for every note.

use std::{io, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use voicegate_audio::{Hints, PcmFormat, Probed, Profile, Ready, SourceFile, Work};
use voicegate_providers::{Degrade, Form};

use super::{
    accept::inconsistent,
    ladder::{NoForm, Wanted, choose},
    read_audio::{self, Unread},
    route::strict_about_size,
    speak::speak_once,
    upload,
};
use crate::{
    config::{Connection, Tenant},
    gateway::Gateway,
    media::{AudioBytes, AudioFile, AudioInput, MemoryPermit, SpooledAudio},
    model::{
        code::{Code, Stage},
        note::{ConvertChoice, SentAudio, TextAs},
        problem::Problem,
    },
};

/// The size of the pieces in which audio is read, in bytes. A multiple of three, so that each is base64 without padding.
const PIECE: usize = 48 * 1024;

/// The thing that audio is made for.
#[derive(Clone, Copy, Debug)]
pub enum RenderTarget<'a> {
    /// A connection, in the form in which it would show the note.
    Connection(&'a Connection),
    Profile(&'static Profile),
}

/// The wishes of a request that the audio depends on.
#[derive(Debug)]
pub struct RenderRequest {
    pub audio: AudioInput,
    pub hints: Hints,
    pub convert: Option<ConvertChoice>,
    pub text: Option<String>,
    pub text_as: TextAs,
    pub degrade: Option<Degrade>,
    pub strict: bool,
}

impl RenderRequest {
    /// A request without any wish, so that the settings of the connection hold.
    pub fn new(audio: AudioInput, hints: Hints) -> Self {
        Self {
            audio,
            hints,
            convert: None,
            text: None,
            text_as: TextAs::default(),
            degrade: None,
            strict: false,
        }
    }
}

/// Audio as it would be sent.
#[derive(Debug)]
pub struct Rendered {
    /// The facts about the source. It was decoded, so it has a waveform.
    pub source: Probed,
    pub sent: SentAudio,
    file: RenderedFile,
}

/// The place of rendered audio.
#[derive(Debug)]
enum RenderedFile {
    Memory(Bytes, MemoryPermit),
    File(AudioFile),
}

/// The bytes of rendered audio, piece by piece.
pub struct Pieces {
    rest: Rest,
}

enum Rest {
    Memory { bytes: Bytes, _room: MemoryPermit },
    File(tokio::fs::File),
}

/// Makes the audio that would be sent.
///
/// # Errors
/// The problem that `POST /voice`, or the note that it would make, has with this audio.
pub async fn render(
    gateway: &Gateway,
    tenant: &Tenant,
    target: RenderTarget<'_>,
    request: RenderRequest,
) -> Result<Rendered, Problem> {
    let mut hints = request.hints;
    let source = Source::of(gateway, tenant, request.audio, &mut hints).await?;
    let _slot = gateway.render_slots.take(&tenant.name).await?;
    let probed = source.identify(gateway, tenant, &hints).await?;
    inconsistent(&probed, request.strict)?;
    let wishes = Wishes {
        convert: request.convert,
        text: request.text.as_deref(),
        text_as: request.text_as,
        degrade: request.degrade.as_ref(),
        strict: request.strict,
    };
    let (profile, choice, largest) = plan(gateway, target, &probed, &wishes)?;
    let engine = gateway.engine.for_tenant(&tenant.name);
    let cached = engine.prepared(&probed, &hints, profile, choice.into()).await;
    let ready = match cached {
        Some(ready) => ready,
        None => {
            let lent = source.path(gateway).await?;
            let input = SourceFile { path: lent.path(), hints: &hints, probed: Some(&probed) };
            engine.prepare(input, profile, choice.into()).await?
        }
    };
    let rendered = Rendered::new(ready, profile, source);
    if largest.is_some_and(|largest| rendered.sent.facts.size_bytes > largest) {
        let largest = largest.unwrap_or_default();
        let detail = format!("the provider takes at most {largest} bytes; send a shorter note");
        return Err(Problem::new(Code::AudioTooLarge, detail).stage(Stage::Encode));
    }
    Ok(rendered)
}

/// The wishes that decide on form and profile.
struct Wishes<'a> {
    convert: Option<ConvertChoice>,
    text: Option<&'a str>,
    text_as: TextAs,
    degrade: Option<&'a Degrade>,
    strict: bool,
}

/// The profile that the audio is made by, whether to convert, and the most bytes that the provider takes.
fn plan(
    gateway: &Gateway,
    target: RenderTarget<'_>,
    probed: &Probed,
    wishes: &Wishes<'_>,
) -> Result<(&'static Profile, ConvertChoice, Option<u64>), Problem> {
    let connection = match target {
        RenderTarget::Connection(connection) => connection,
        RenderTarget::Profile(profile) => {
            let choice = wishes.convert.unwrap_or_default();
            if wishes.strict {
                voicegate_audio::keep_budget(probed, profile, choice.into())?;
            }
            return Ok((profile, choice, None));
        }
    };
    let wanted = Wanted {
        degrade: wishes.degrade.unwrap_or(&connection.degrade),
        text: wishes.text,
        text_as: wishes.text_as,
        duration_ms: Some(probed.facts.duration_ms),
    };
    let unavailable = |why: String| Problem::new(Code::FormUnavailable, why).stage(Stage::Dispatch);
    let capabilities = connection.provider.capabilities();
    let rung =
        choose(capabilities, &wanted, &[], gateway.clock.now()).map_err(|NoForm(why)| unavailable(why))?;
    if rung.support.form == Form::Text {
        let why = rung.instead.unwrap_or_default();
        return Err(unavailable(format!("{why}; only the text of the note would be sent, without audio")));
    }
    if wishes.strict {
        strict_about_size(connection, probed, wishes.convert)?;
    }
    let choice = connection.choice(wishes.convert);
    let profile = connection.profile_for(rung.support.form, choice);
    Ok((profile, choice, Some(rung.support.max_bytes)))
}

/// The audio of a request, where it can be read.
enum Source {
    Spooled(SpooledAudio),
    /// A download, or an upload with the facts about it.
    File(AudioFile, Option<Box<Probed>>),
    /// Speech, with its format if no header tells it.
    Spoken(AudioFile, Option<PcmFormat>),
}

impl Source {
    /// The audio, and in `hints` what a server said about it.
    async fn of(
        gateway: &Gateway,
        tenant: &Tenant,
        audio: AudioInput,
        hints: &mut Hints,
    ) -> Result<Self, Problem> {
        Ok(match audio {
            AudioInput::Bytes(received) => Self::Spooled(received),
            AudioInput::Url { url, headers } => {
                let downloaded = read_audio::download_now(gateway, &url, &headers).await?;
                *hints = downloaded.hints(hints);
                Self::File(AudioFile::Temporary(downloaded.file), None)
            }
            AudioInput::Upload(id) => {
                let probed = upload::find(gateway, tenant, id).await?.probed;
                let file = gateway.media.upload(id).await?.ok_or_else(AudioInput::no_such_upload)?;
                Self::File(file, Some(Box::new(probed)))
            }
            AudioInput::Speech(mut wanted) => {
                let (file, format) = speak_once(gateway, tenant, &mut wanted).await?;
                Self::Spoken(file, format)
            }
        })
    }

    async fn identify(&self, gateway: &Gateway, tenant: &Tenant, hints: &Hints) -> Result<Probed, Unread> {
        match self {
            Self::Spooled(received) => read_audio::identify(gateway, tenant, received, hints).await,
            Self::File(_, Some(probed)) => Ok(Probed::clone(probed)),
            Self::Spoken(file, format) => {
                let hints = Hints { format: *format, ..Hints::default() };
                Ok(gateway.engine.for_tenant(&tenant.name).identify(file.path(), &hints).await?)
            }
            Self::File(file, None) => {
                Ok(gateway.engine.for_tenant(&tenant.name).identify(file.path(), hints).await?)
            }
        }
    }

    /// A file with the audio, which exists for as long as the returned value and this one do.
    async fn path(&self, gateway: &Gateway) -> io::Result<Lent<'_>> {
        Ok(match self {
            Self::Spooled(SpooledAudio { bytes: AudioBytes::Memory(bytes, _), .. }) => {
                Lent::Temporary(gateway.media.lend(bytes.clone()).await?)
            }
            Self::Spooled(SpooledAudio { bytes: AudioBytes::File(file), .. }) => Lent::Own(file.path()),
            Self::File(file, _) | Self::Spoken(file, _) => Lent::Own(file.path()),
        })
    }
}

/// The path of a source.
enum Lent<'a> {
    Own(&'a Path),
    /// A copy of bytes in memory, removed when dropped.
    Temporary(tempfile::NamedTempFile),
}

impl Lent<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::Own(path) => path,
            Self::Temporary(file) => file.path(),
        }
    }
}

impl Rendered {
    fn new(ready: Arc<Ready>, profile: &'static Profile, source: Source) -> Self {
        let probed = ready.source.clone();
        let (facts, work, checks) = match &ready.made {
            None => (&ready.source.facts, Work::None, [].as_slice()),
            Some(made) => (&made.facts, made.work, made.checks.as_slice()),
        };
        let checks = checks.iter().map(|&check| check.to_owned()).collect();
        let sent = SentAudio { facts: facts.clone(), profile: profile.name.to_owned(), work, checks };
        let file = match (&ready.made, source) {
            (Some(made), _) => {
                let path = made.path().to_owned();
                RenderedFile::File(AudioFile::Cached(ready, path))
            }
            (None, Source::Spooled(SpooledAudio { bytes: AudioBytes::Memory(bytes, room), .. })) => {
                RenderedFile::Memory(bytes, room)
            }
            (None, Source::Spooled(SpooledAudio { bytes: AudioBytes::File(file), .. })) => {
                RenderedFile::File(AudioFile::Temporary(file))
            }
            (None, Source::File(file, _) | Source::Spoken(file, _)) => RenderedFile::File(file),
        };
        Self { source: probed, sent, file }
    }

    /// Opens the audio.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn pieces(self) -> io::Result<Pieces> {
        let rest = match self.file {
            RenderedFile::Memory(bytes, room) => Rest::Memory { bytes, _room: room },
            // The name of the file is no longer needed once it is open.
            RenderedFile::File(file) => Rest::File(tokio::fs::File::open(file.path()).await?),
        };
        Ok(Pieces { rest })
    }

    /// Reads the whole audio into memory. For audio that is known to be small, or whose memory is accounted for.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn bytes(self) -> io::Result<Bytes> {
        let size = usize::try_from(self.sent.facts.size_bytes).unwrap_or_default();
        let mut pieces = self.pieces().await?;
        let mut all = BytesMut::with_capacity(size);
        while let Some(piece) = pieces.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

impl Pieces {
    /// The next piece. Every piece but the last has the same size, which is a multiple of three.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = match &mut self.rest {
            Rest::Memory { bytes, .. } => bytes.split_to(bytes.len().min(PIECE)),
            Rest::File(file) => {
                let mut piece = Vec::with_capacity(PIECE);
                file.take(PIECE as u64).read_to_end(&mut piece).await?;
                Bytes::from(piece)
            }
        };
        Ok((!piece.is_empty()).then_some(piece))
    }
}
