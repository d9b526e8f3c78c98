//! A strict reader of Ogg files with one Opus stream (RFC 3533 and RFC 7845), and a writer.
//!
//! The reader is strict because it verifies files before they are sent: a player forgives a missing end flag or a wrong
//! granule, the voice-note bubble of a phone may not. ffmpeg still decodes a file that is refused here; it is only not
//! sent untouched.

use std::io::{self, Read, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::formats::clock::{Clock, Steps};
use crate::formats::ogg::{Damage, NO_GRANULE, Page, next_page};
use crate::formats::opus::{OpusDetail, OpusHead, OpusTags, Packet, RATE, Tally};
use crate::formats::packets::{Item, Placed, Sink};

/// A fixed serial number, so that equal input gives equal bytes. Any number will do for a file with one stream.
const SERIAL: u32 = 0x766f_6963;
/// Upper limit of a packet in bytes. A comment header with cover art needs less, and audio packets far less.
const LONGEST_PACKET: usize = 1 << 20;
/// Samples per page: one second, as encoders write it.
const PAGE_SAMPLES: u64 = RATE;

/// Treatment of granules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Granules {
    Checked,
    /// Recomputed; only the end trim of the last page is kept.
    Recounted,
    /// Recomputed without an end trim, because the file's granules are wrong.
    Ignored,
}

/// Reads a whole file and passes its header and every audio packet to `each`.
pub(crate) fn read(reader: &mut impl Read, each: Sink) -> Result<OpusDetail, Damage> {
    read_with(reader, Granules::Checked, each)
}

/// Like [`read`], for output of ffmpeg. If the clock of a damaged source jumps, so do ffmpeg's granules, although the
/// packets are whole and consecutive.
pub(crate) fn recount(reader: &mut impl Read, each: Sink) -> Result<OpusDetail, Damage> {
    read_with(reader, Granules::Recounted, each)
}

/// Like [`read`], for a file whose granules are all wrong, so that only its packets give its length. An end trim counts
/// only if the pages before it are right (RFC 7845, section 4.4), so none is applied.
///
/// # Errors
/// Any other fault, and granules that are right or that state real gaps.
pub(crate) fn count(reader: &mut impl Read, each: Sink) -> Result<OpusDetail, Damage> {
    let mut steps = Steps::of(RATE);
    let detail = read_counting(reader, Granules::Ignored, &mut steps, each)?;
    match steps.verdict() {
        Clock::Wrong => Ok(detail),
        Clock::Fits | Clock::Gaps => Err(Damage("the granules are those of a recording with gaps")),
    }
}

fn read_with(reader: &mut impl Read, granules: Granules, each: Sink) -> Result<OpusDetail, Damage> {
    read_counting(reader, granules, &mut Steps::of(RATE), each)
}

fn read_counting(
    reader: &mut impl Read,
    granules: Granules,
    steps: &mut Steps,
    each: Sink,
) -> Result<OpusDetail, Damage> {
    let first = next_page(reader)?.ok_or(Damage("the file is empty"))?;
    if !first.first || first.last || first.continued || first.lacing.len() != 1 || first.sequence != 0 {
        return Err(Damage("the first page is not that of an Opus stream"));
    }
    let head = OpusHead::parse(&first.body).ok_or(Damage("the file does not begin with an Opus header"))?;
    // Packets of other mapping families contain several streams, and their frames are counted differently (RFC 7845,
    // section 3).
    if head.mapping_family != 0 {
        return Err(Damage("the channels have a mapping of their own"));
    }

    let mut stream = Stream { serial: first.serial, next_sequence: 1, partial: Vec::new(), open: false };
    let mut tags = None;
    while tags.is_none() {
        let page = next_page(reader)?.ok_or(Damage("the comment header is missing"))?;
        let packets = stream.packets(&page)?;
        match packets.as_slice() {
            [] => {}
            [packet] if !stream.open && !page.last => {
                tags = Some(OpusTags::parse(packet).ok_or(Damage("the comment header is malformed"))?);
            }
            _ => return Err(Damage("the comment header does not have pages of its own")),
        }
    }

    let mut tally = Tally::new(&head, tags);
    each(Item::Head(head))?;
    // Samples up to the last complete packet. The start is unknown until the first granule.
    let mut position: Option<u64> = None;
    let mut start = 0;
    let mut ended = None;
    let mut stated = 0;
    while let Some(mut page) = next_page(reader)? {
        if ended.is_some() {
            return Err(Damage("there are pages after the end of the stream"));
        }
        let packets = stream.packets(&page)?;
        let mut found = Vec::with_capacity(packets.len());
        for packet in &packets {
            let facts = Packet::parse(packet).ok_or(MALFORMED)?;
            tally.add(&facts);
            found.push(facts);
        }
        let sum: u64 = found.iter().map(|facts| u64::from(facts.samples())).sum();
        if granules == Granules::Ignored && (page.last || !packets.is_empty()) {
            let last = found.last().map_or(0, |facts| u64::from(facts.samples()));
            steps.page(&page, position.map(|_| stated), sum, last);
            stated = page.granule;
            page.granule = position.unwrap_or(0) + sum;
        }
        if page.granule == NO_GRANULE {
            if !packets.is_empty() || page.last {
                return Err(Damage("a page lacks its granule"));
            }
            continue;
        }
        if packets.is_empty() && !page.last {
            return Err(Damage("a page without a finished packet has a granule"));
        }
        if granules == Granules::Recounted {
            let whole = position.unwrap_or(0) + sum;
            let trim = (stated + sum).checked_sub(page.granule).filter(|trim| page.last && *trim <= sum);
            stated = page.granule;
            page.granule = whole - trim.unwrap_or(0);
        }
        // A recording may start at any granule. Only the last page may be shorter than its packets.
        let before = match position {
            Some(position) => position,
            None if granules == Granules::Checked && page.last && trims_packets(&page, sum, &found) => {
                return Err(Damage("more is trimmed from the only page than its last packet has"));
            }
            None => {
                start = if page.last { 0 } else { page.granule.checked_sub(sum).ok_or(EARLY_GRANULE)? };
                start
            }
        };
        let after = before.checked_add(sum).ok_or(EARLY_GRANULE)?;
        if page.granule > after || page.granule < before || (!page.last && page.granule != after) {
            return Err(Damage("a granule does not fit its packets"));
        }
        position = Some(after);
        let mut end = before;
        for (data, facts) in packets.into_iter().zip(found) {
            end += u64::from(facts.samples());
            each(Item::Packet(Placed { data, facts, end: end.min(page.granule) - start }))?;
        }
        if page.last {
            ended = Some(page.granule - start);
        }
    }
    let end = ended.ok_or(Damage("the end of the stream is missing"))?;
    if stream.open {
        return Err(Damage("the last packet is incomplete"));
    }
    tally.close(end)
}

/// Whether a file of one page would be trimmed by more than its last packet. No encoder pads that much, and no other
/// page shows that the granules count these samples.
fn trims_packets(page: &Page, sum: u64, found: &[Packet]) -> bool {
    let last = found.last().map_or(0, |facts| u64::from(facts.samples()));
    page.granule + last <= sum && found.len() > 1
}

impl Steps {
    /// Checks the step from the previous granule to that of this page, whose last packet has `last` samples. The first
    /// page may start anywhere, and the last page may be trimmed.
    fn page(&mut self, page: &Page, before: Option<u64>, sum: u64, last: u64) {
        let sum = i128::from(sum);
        let trimmed = if page.last { i128::from(last) } else { 0 };
        let advance = match before {
            _ if page.granule == NO_GRANULE => -1,
            Some(before) => i128::from(page.granule) - i128::from(before),
            None => i128::from(page.granule).min(sum),
        };
        self.add(1, advance + if advance < sum { trimmed.min(sum - advance) } else { 0 }, sum, 0);
    }
}

pub(crate) const MALFORMED: Damage = Damage("an audio packet is malformed");
const EARLY_GRANULE: Damage = Damage("the first granule is too small");

/// Joins the segments of pages into packets.
struct Stream {
    serial: u32,
    next_sequence: u32,
    partial: Vec<u8>,
    /// The last page ended within a packet.
    open: bool,
}

impl Stream {
    /// The packets that end on this page.
    fn packets(&mut self, page: &Page) -> Result<Vec<Vec<u8>>, Damage> {
        if page.serial != self.serial || page.first {
            return Err(Damage("there is more than one stream"));
        }
        if page.sequence != self.next_sequence {
            return Err(Damage("a page is missing"));
        }
        self.next_sequence = self.next_sequence.wrapping_add(1);
        if page.continued != self.open {
            return Err(Damage("a packet is incomplete"));
        }
        let mut packets = Vec::new();
        let mut body = page.body.as_slice();
        for &length in &page.lacing {
            let (segment, rest) =
                body.split_at_checked(usize::from(length)).ok_or(Damage("a page is shorter than it says"))?;
            body = rest;
            if self.partial.len() + segment.len() > LONGEST_PACKET {
                return Err(Damage("a packet is too long"));
            }
            self.partial.extend_from_slice(segment);
            self.open = length == 255;
            if !self.open {
                packets.push(std::mem::take(&mut self.partial));
            }
        }
        Ok(packets)
    }
}

/// Writes an Opus stream: first the headers, then packet by packet.
pub(crate) struct Writer<W: Write> {
    pages: PacketWriter<'static, W>,
    /// The last packet, held back because it may end the stream.
    pending: Option<Placed>,
    /// End of the previous page, in samples at 48 kHz.
    page_start: u64,
    /// Number of segments of up to 255 bytes on this page, which holds 255.
    segments: usize,
}

impl<W: Write> Writer<W> {
    pub fn new(output: W, head: &OpusHead, vendor: &str) -> io::Result<Self> {
        let mut pages = PacketWriter::new(output);
        pages.write_packet(head.to_bytes(), SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        pages.write_packet(OpusTags::bare(vendor), SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        Ok(Self { pages, pending: None, page_start: 0, segments: 0 })
    }

    pub fn push(&mut self, packet: Placed) -> io::Result<()> {
        let next = packet.data.len() / 255 + 1;
        let Some(Placed { data, end, .. }) = self.pending.replace(packet) else {
            self.segments = next;
            return Ok(());
        };
        let ends_page = end - self.page_start >= PAGE_SAMPLES || self.segments + next > usize::from(u8::MAX);
        self.segments = if ends_page { next } else { self.segments + next };
        if ends_page {
            self.page_start = end;
        }
        let info = if ends_page { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
        self.pages.write_packet(data, SERIAL, info, end)
    }

    pub fn finish(mut self) -> io::Result<W> {
        if let Some(Placed { data, end, .. }) = self.pending.take() {
            self.pages.write_packet(data, SERIAL, PacketWriteEndInfo::EndStream, end)?;
        }
        let mut output = self.pages.into_inner();
        output.flush()?;
        Ok(output)
    }
}
