//! Keeps Opus packets, or at least their frames, and writes them into a new container without decoding.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::Container;

use crate::error::{AudioError, AudioErrorKind, Stage};
use crate::ffmpeg::job::{JobContext, blocking, scratch_file};
use crate::ffmpeg::pass::not_run;
use crate::formats::framing::Reframe;
use crate::formats::ogg::Damage;
use crate::formats::opus::{OpusDetail, OpusHead};
use crate::formats::packets::{Item, Placed, Sink};
use crate::formats::{caf_opus, ogg_opus, webm};
use crate::profiles::profile::VENDOR;

/// Source of the Opus packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packets {
    /// The caller's Ogg file, whose granules give its length.
    Ogg,
    /// The caller's Ogg file, whose granules are wrong.
    CountedOgg,
    /// Ogg that our ffmpeg has just encoded.
    EncodedOgg,
    /// The caller's WebM or Matroska file.
    Webm,
    Caf,
}

/// Parameters of the new container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrap {
    /// [`Container::Ogg`] or [`Container::Caf`].
    pub container: Container,
    /// Rate of the original to state in the header, in Hz; `None` keeps the source's.
    pub input_rate: Option<u32>,
    /// Frames per packet (the last packet may have fewer); `None` keeps packets as they are.
    pub frames_per_packet: Option<u8>,
}

/// Keeps the packets and writes new headers.
pub(crate) async fn rewrap(
    context: &JobContext<'_>,
    source: &Path,
    packets: Packets,
    wrap: Wrap,
) -> Result<NamedTempFile, AudioError> {
    let output = scratch_file(context.scratch).map_err(|error| not_run(&error, Stage::Encode))?;
    let (source, target) = (source.to_owned(), output.path().to_owned());
    blocking(move || Ok(rewrap_file(&source, &target, packets, wrap)))
        .await?
        .map_err(|Damage(reason)| {
            AudioError::encode(AudioErrorKind::Internal, format!("the packets could not be kept: {reason}"))
        })
        .map(|()| output)
}

const UNREAD: Damage = Damage("the source could not be read");
const UNWRITTEN: Damage = Damage("the new file could not be written");
const NO_HEADER: Damage = Damage("the source has no header");

/// Opens a file for writing. An empty file is not truncated, because ext4 would then flush it on close, for nothing: it
/// is removed soon. <https://docs.kernel.org/admin-guide/ext4.html> (`auto_da_alloc`)
fn emptied(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}

/// Reads the source and writes the target in one go. After an error the content of the target is undefined.
pub(crate) fn rewrap_file(source: &Path, target: &Path, packets: Packets, wrap: Wrap) -> Result<(), Damage> {
    let output = BufWriter::new(emptied(target).map_err(|_| UNWRITTEN)?);
    rewrap_with(|each| read_packets(source, packets, each), output, wrap).map(drop)
}

/// Reads the header and every packet of a file.
pub(crate) fn read_packets(source: &Path, packets: Packets, each: Sink) -> Result<OpusDetail, Damage> {
    let open = || File::open(source).map(BufReader::new).map_err(|_| UNREAD);
    match packets {
        Packets::Ogg => ogg_opus::read(&mut open()?, each),
        Packets::CountedOgg => ogg_opus::count(&mut open()?, each),
        Packets::EncodedOgg => ogg_opus::recount(&mut open()?, each),
        Packets::Caf => caf_opus::read(&mut open()?, each),
        Packets::Webm => webm::read(&std::fs::read(source).map_err(|_| UNREAD)?, each),
    }
}

/// Writes the packets that `read` passes on.
pub(crate) fn rewrap_with<W: Write>(
    read: impl FnOnce(Sink) -> Result<OpusDetail, Damage>,
    output: W,
    wrap: Wrap,
) -> Result<W, Damage> {
    let mut unopened = Some(output);
    let mut output = None;
    let mut reframe = wrap.frames_per_packet.map(Reframe::new);
    read(&mut |item| match (item, &mut output, &mut reframe) {
        (Item::Head(head), None, _) => {
            output = unopened.take().map(|file| Output::new(file, &head, wrap)).transpose()?;
            Ok(())
        }
        (Item::Packet(packet), Some(output), None) => output.push(packet),
        (Item::Packet(packet), Some(output), Some(reframe)) => {
            reframe.push(&packet, &mut |packet| output.push(packet))
        }
        (Item::Head(_), Some(_), _) | (Item::Packet(_), None, _) => Err(NO_HEADER),
    })?;
    let mut output = output.ok_or(NO_HEADER)?;
    if let Some(mut reframe) = reframe {
        reframe.finish(&mut |packet| output.push(packet))?;
    }
    output.finish()
}

/// A file that is being written.
struct Output<W: Write> {
    wrapper: Wrapper<W>,
    /// End of the last packet, in samples at 48 kHz.
    end: u64,
}

enum Wrapper<W: Write> {
    Ogg(ogg_opus::Writer<W>),
    Caf(caf_opus::Writer, W),
}

impl<W: Write> Output<W> {
    fn new(file: W, head: &OpusHead, wrap: Wrap) -> Result<Self, Damage> {
        let wrapper = match wrap.container {
            Container::Ogg => {
                let head =
                    OpusHead { input_rate: wrap.input_rate.unwrap_or(head.input_rate), ..head.clone() };
                Wrapper::Ogg(ogg_opus::Writer::new(file, &head, VENDOR).map_err(|_| UNWRITTEN)?)
            }
            Container::Caf => Wrapper::Caf(caf_opus::Writer::new(head, wrap.input_rate)?, file),
            _ => return Err(Damage("Opus is wrapped in Ogg or CAF only")),
        };
        Ok(Self { wrapper, end: 0 })
    }

    fn push(&mut self, packet: Placed) -> Result<(), Damage> {
        // Sound after the end is not played, and players differ about packets without any audible sample.
        if packet.end <= self.end {
            return Ok(());
        }
        self.end = packet.end;
        match &mut self.wrapper {
            Wrapper::Ogg(writer) => writer.push(packet).map_err(|_| UNWRITTEN),
            Wrapper::Caf(writer, _) => {
                writer.push(&packet);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<W, Damage> {
        match self.wrapper {
            Wrapper::Ogg(writer) => writer.finish(),
            Wrapper::Caf(writer, file) => writer.finish(file),
        }
        .map_err(|_| UNWRITTEN)
    }
}
