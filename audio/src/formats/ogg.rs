//! Ogg pages (RFC 3533) of any codec, and the consecutive recordings of a file.

use std::io::{self, Read, Seek, SeekFrom};

use crate::formats::opus::{OpusHead, RATE};

/// The granule of a page on which no packet ends.
pub(crate) const NO_GRANULE: u64 = u64::MAX;
/// Limit on resynchronisations in a damaged file. Each may cost the checksum of a whole page.
const MOST_GAPS: usize = 100;
/// Seconds up to which the first page may end. A later end shows that the granules begin in the middle of a recording.
const LATEST_FIRST_SECOND: u64 = 3;

/// Description of a fault in a container, in its own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage(pub &'static str);

impl From<io::Error> for Damage {
    fn from(_: io::Error) -> Self {
        Damage("the file ends in the middle of a page")
    }
}

pub(crate) struct Page {
    pub continued: bool,
    pub first: bool,
    pub last: bool,
    pub granule: u64,
    pub serial: u32,
    pub sequence: u32,
    pub lacing: Vec<u8>,
    pub body: Vec<u8>,
}

/// Reads the next page, or returns `None` at the end of the file.
pub(crate) fn next_page(reader: &mut impl Read) -> Result<Option<Page>, Damage> {
    let mut header = [0_u8; 27];
    let mut filled = 0;
    while filled < header.len() {
        match reader.read(&mut header[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(Damage("the file ends in the middle of a page")),
            count => filled += count,
        }
    }
    if !header.starts_with(b"OggS\0") {
        return Err(Damage("there are bytes between the pages"));
    }
    let mut lacing = vec![0; usize::from(header[26])];
    reader.read_exact(&mut lacing)?;
    let mut body = vec![0; lacing.iter().map(|&length| usize::from(length)).sum()];
    reader.read_exact(&mut body)?;

    let [.., c0, c1, c2, c3, _] = header;
    let stated = u32::from_le_bytes([c0, c1, c2, c3]);
    header[22..26].fill(0);
    if stated != checksum(&[&header, &lacing, &body]) {
        return Err(Damage("the checksum of a page is wrong"));
    }
    let [_, _, _, _, _, flags, g0, g1, g2, g3, g4, g5, g6, g7, s0, s1, s2, s3, n0, n1, n2, n3, ..] = header;
    Ok(Some(Page {
        continued: flags & 1 != 0,
        first: flags & 2 != 0,
        last: flags & 4 != 0,
        granule: u64::from_le_bytes([g0, g1, g2, g3, g4, g5, g6, g7]),
        serial: u32::from_le_bytes([s0, s1, s2, s3]),
        sequence: u32::from_le_bytes([n0, n1, n2, n3]),
        lacing,
        body,
    }))
}

/// CRC-32 as Ogg uses it: polynomial 0x04c11db7, no reflection, no inversion.
fn checksum(parts: &[&[u8]]) -> u32 {
    parts.iter().flat_map(|part| part.iter()).fold(0, |crc: u32, &byte| {
        let index = (crc >> 24) ^ u32::from(byte);
        (crc << 8) ^ CRC_TABLE[index as usize]
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000_0000 != 0 { (value << 1) ^ 0x04c1_1db7 } else { value << 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// One of several consecutive recordings in a file ("chained", RFC 3533 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// `None` for a codec with unknown granules, or for several streams at once.
    pub codec: Option<LinkCodec>,
    pub duration_ms: u64,
}

/// Parameters of a decoder. Most decoders cannot change them in the middle of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkCodec {
    Opus { channels: u8 },
    Vorbis { channels: u8, rate: u32 },
}

/// A link whose pages are being read.
struct Open {
    codec: Option<LinkCodec>,
    pre_skip: u64,
    serial: u32,
    first: Option<u64>,
    last: u64,
}

impl Open {
    fn new(page: &Page) -> Self {
        let vorbis = page.body.strip_prefix(b"\x01vorbis\0\0\0\0").and_then(|rest| rest.first_chunk::<5>());
        let (codec, pre_skip) = match (OpusHead::parse(&page.body), vorbis) {
            (Some(head), _) => (Some(LinkCodec::Opus { channels: head.channels }), u64::from(head.pre_skip)),
            (None, Some(&[channels, r0, r1, r2, r3])) => {
                (Some(LinkCodec::Vorbis { channels, rate: u32::from_le_bytes([r0, r1, r2, r3]) }), 0)
            }
            (None, None) => (None, 0),
        };
        Self { codec, pre_skip, serial: page.serial, first: None, last: 0 }
    }

    /// Whether a page contains audio. Header pages have a granule of 0.
    fn counts(&self, page: &Page) -> bool {
        !page.first && page.serial == self.serial && !matches!(page.granule, 0 | NO_GRANULE)
    }

    fn close(self) -> Link {
        let rate = match self.codec {
            Some(LinkCodec::Vorbis { rate, .. }) => u64::from(rate.max(1)),
            _ => RATE,
        };
        let first = self.first.unwrap_or(0);
        let start = if first > rate * LATEST_FIRST_SECOND { first } else { self.pre_skip };
        let samples = u128::from(self.last.saturating_sub(start));
        let duration_ms = u64::try_from(samples * 1000 / u128::from(rate)).unwrap_or(u64::MAX);
        Link { codec: self.codec, duration_ms }
    }
}

/// The recordings in a file. Damaged pages are skipped.
pub(crate) fn links(reader: &mut (impl Read + Seek)) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    let mut open: Option<Open> = None;
    let mut in_headers = false;
    let mut gaps = 0;
    let mut position = 0;
    loop {
        reader.seek(SeekFrom::Start(position))?;
        let page = match next_page(reader) {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(_) => {
                gaps += 1;
                match next_sign(reader, position + 1)? {
                    Some(found) if gaps <= MOST_GAPS => position = found,
                    _ => break,
                }
                continue;
            }
        };
        position += (27 + page.lacing.len() + page.body.len()) as u64;
        match &mut open {
            Some(link) if page.first && in_headers => link.codec = None,
            Some(link) if link.counts(&page) => {
                link.first.get_or_insert(page.granule);
                link.last = link.last.max(page.granule);
            }
            _ if page.first => links.extend(open.replace(Open::new(&page)).map(Open::close)),
            _ => {}
        }
        in_headers = page.first;
    }
    links.extend(open.map(Open::close));
    Ok(links)
}

/// Whether the pages at the start have zeros in place of checksums. If any page has a checksum, a page with a wrong one
/// is damaged.
pub(crate) fn lacks_checksums(reader: &mut (impl Read + Seek)) -> io::Result<bool> {
    /// Number of pages to check: headers and some audio.
    const LOOKED_AT: u32 = 100;
    reader.seek(SeekFrom::Start(0))?;
    let mut pages = 0;
    while pages < LOOKED_AT {
        let mut header = [0; 27];
        if reader.read_exact(&mut header).is_err() || !header.starts_with(b"OggS\0") {
            break;
        }
        if header[22..26] != [0; 4] {
            return Ok(false);
        }
        let mut lacing = vec![0; usize::from(header[26])];
        if reader.read_exact(&mut lacing).is_err() {
            break;
        }
        let body: i64 = lacing.iter().map(|&length| i64::from(length)).sum();
        reader.seek_relative(body)?;
        pages += 1;
    }
    Ok(pages > 1)
}

/// Offset at which the next page may begin.
fn next_sign(reader: &mut (impl Read + Seek), from: u64) -> io::Result<Option<u64>> {
    const SIGN: &[u8] = b"OggS\0";
    reader.seek(SeekFrom::Start(from))?;
    let mut position = from;
    let mut window = Vec::new();
    loop {
        let count = reader.by_ref().take(64 << 10).read_to_end(&mut window)?;
        if let Some(at) = window.windows(SIGN.len()).position(|bytes| bytes == SIGN) {
            return Ok(Some(position + at as u64));
        }
        if count == 0 {
            return Ok(None);
        }
        let done = window.len().saturating_sub(SIGN.len() - 1);
        window.drain(..done);
        position += done as u64;
    }
}
