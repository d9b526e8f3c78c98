//! Keeps Opus packets and wraps them anew; nothing is decoded.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use tempfile::NamedTempFile;
use voicegate_providers::Container;

use super::error::{AudioError, AudioErrorKind};
use super::ogg_opus::{self, Damage, Writer};
use super::opus::OpusHead;
use super::pass::{Bench, scratch_file};
use super::probe::not_run;
use super::profile::VENDOR;
use super::render::blocking;
use super::webm;

/// Where Opus packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packets {
    /// The caller's Ogg, whose granules say how long it is.
    Ogg,
    /// What our ffmpeg has just encoded.
    EncodedOgg,
    /// WebM or Matroska.
    Webm,
    Caf,
}

/// How kept packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrap {
    pub container: Container,
    /// Written into the header where given, else the source's is kept.
    pub input_rate: Option<u32>,
    /// Frames in each packet (the last may have fewer); `None` keeps packets as they are.
    pub frames_per_packet: Option<u8>,
}

/// Keeps the packets and writes the headers anew.
pub(super) async fn rewrap(
    bench: &Bench<'_>,
    source: &Path,
    packets: Packets,
    wrap: Wrap,
) -> Result<NamedTempFile, AudioError> {
    let output = scratch_file(bench.scratch).map_err(|error| not_run(&error, "encode"))?;
    let (source, target) = (source.to_owned(), output.path().to_owned());
    blocking(move || Ok(rewrap_file(&source, &target, packets, wrap)))
        .await?
        .map_err(|Damage(reason)| {
            AudioError::encode(AudioErrorKind::Internal, format!("the packets could not be kept: {reason}"))
        })
        .map(|()| output)
}

const UNWRITTEN: Damage = Damage("the new file could not be written");

pub(super) fn rewrap_file(source: &Path, target: &Path, packets: Packets, wrap: Wrap) -> Result<(), Damage> {
    let unread = |_: io::Error| Damage("the source could not be read");
    if wrap.container != Container::Ogg || wrap.frames_per_packet.is_some() {
        return Err(Damage("nothing writes this wrapper"));
    }
    let read_ogg = match packets {
        Packets::Ogg => ogg_opus::read,
        Packets::EncodedOgg => ogg_opus::recount,
        Packets::Caf => return Err(Damage("nothing reads this wrapper")),
        Packets::Webm => {
            let bytes = std::fs::read(source).map_err(unread)?;
            let head = webm::read(&bytes, &mut |_| Ok(()))?.head();
            let mut writer = writer(target, head, wrap.input_rate)?;
            webm::read(&bytes, &mut |packet| writer.push(packet).map_err(|_| UNWRITTEN))?;
            return writer.finish().map(drop).map_err(|_| UNWRITTEN);
        }
    };
    let open = || File::open(source).map(BufReader::new).map_err(unread);
    let head = read_ogg(&mut open()?, &mut |_| Ok(()))?.head();
    let mut writer = writer(target, head, wrap.input_rate)?;
    read_ogg(&mut open()?, &mut |packet| writer.push(packet).map_err(|_| UNWRITTEN))?;
    writer.finish().map(drop).map_err(|_| UNWRITTEN)
}

fn writer(target: &Path, head: OpusHead, input_rate: Option<u32>) -> Result<Writer<BufWriter<File>>, Damage> {
    let head = OpusHead { input_rate: input_rate.unwrap_or(head.input_rate), ..head };
    let file = File::create(target).map_err(|_| UNWRITTEN)?;
    Writer::new(BufWriter::new(file), &head, VENDOR).map_err(|_| UNWRITTEN)
}
