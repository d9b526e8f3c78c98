//! Opus packets without their container, and CAF around them. iPhones record voice notes like this:
//! <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>.

use super::{Kind, opus, webm};

/// Opus counts at this rate, whatever the recorder's was.
const RATE: f64 = 48_000.0;
/// `kAudioChannelLayoutTag_Mono` and `_Stereo`.
const LAYOUTS: [u32; 2] = [(100 << 16) | 1, (101 << 16) | 2];

/// The fields of an Opus header, RFC 7845 section 5.1.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub channels: u8,
    pub pre_skip: u16,
    pub input_rate: u32,
}

impl Head {
    /// `None` also where CAF has no place for a field: a gain, a channel mapping.
    pub fn read(header: &[u8]) -> Option<Self> {
        let fields = header.strip_prefix(b"OpusHead")?.get(..11)?;
        let [version, channels, skip_low, skip_high, r0, r1, r2, r3, rest @ ..] =
            <[u8; 11]>::try_from(fields).ok()?;
        let is_plain = version == 1 && matches!(channels, 1 | 2) && rest == [0, 0, 0];
        is_plain.then_some(Self {
            channels,
            pre_skip: u16::from_le_bytes([skip_low, skip_high]),
            input_rate: u32::from_le_bytes([r0, r1, r2, r3]),
        })
    }
}

/// A recording in Opus.
pub(super) struct Recording {
    pub head: Head,
    /// Each packet with its samples.
    packets: Vec<(Vec<u8>, u32)>,
    /// Samples of all packets.
    all: u64,
    /// The sample at which playing ends.
    end: u64,
}

impl Recording {
    /// `end` tells the end from the number of all samples. `None` if a packet is not valid, or there is none.
    pub fn new(head: Head, packets: Vec<Vec<u8>>, end: impl FnOnce(u64) -> u64) -> Option<Self> {
        let timed = |packet: Vec<u8>| opus::samples(&packet).map(|samples| (packet, samples));
        let packets: Vec<(Vec<u8>, u32)> = packets.into_iter().map(timed).collect::<Option<_>>()?;
        let all = packets.iter().map(|(_, samples)| u64::from(*samples)).sum();
        let end = end(all).min(all);
        (u64::from(head.pre_skip) < end).then_some(Self { head, packets, all, end })
    }

    /// The number of samples that are heard.
    pub fn played(&self) -> u64 {
        self.end - u64::from(self.head.pre_skip)
    }

    /// The packet table and the packets follow the description.
    fn caf(&self) -> Vec<u8> {
        let first = self.packets.first().map_or(0, |(_, samples)| *samples);
        let alike = self.packets.iter().all(|(_, samples)| *samples == first);
        let mut table = (self.packets.len() as u64).to_be_bytes().to_vec();
        table.extend(self.played().to_be_bytes());
        table.extend(u32::from(self.head.pre_skip).to_be_bytes());
        // A packet has at most 5760 samples, and nobody cuts off more than a few of them.
        table.extend(u32::try_from(self.all - self.end).unwrap_or(u32::MAX).to_be_bytes());
        for (packet, samples) in &self.packets {
            push_number(&mut table, packet.len());
            if !alike {
                push_number(&mut table, *samples as usize);
            }
        }
        let mut description = RATE.to_be_bytes().to_vec();
        description.extend(b"opus");
        for number in [0, 0, if alike { first } else { 0 }, u32::from(self.head.channels), 0] {
            description.extend(number.to_be_bytes());
        }
        let layout = [LAYOUTS[usize::from(self.head.channels) - 1], 0, 0].map(u32::to_be_bytes).concat();
        // The number of edits comes before the packets.
        let packets = self.packets.iter().map(|(packet, _)| packet.as_slice());
        let data: Vec<u8> = std::iter::once([0; 4].as_slice()).chain(packets).flatten().copied().collect();

        let mut file = b"caff\0\x01\0\0".to_vec();
        let chunks = [(b"desc", description), (b"chan", layout), (b"pakt", table), (b"data", data)];
        for (kind, content) in chunks {
            file.extend(kind);
            file.extend((content.len() as u64).to_be_bytes());
            file.extend(content);
        }
        file
    }
}

/// Seven bits per byte, most significant first; the top bit says that more follow.
fn push_number(table: &mut Vec<u8>, number: usize) {
    let groups = (1..5).rev().filter(|group| number >> (7 * group) != 0);
    table.extend(groups.map(|group| 0x80 | (number >> (7 * group) & 0x7f) as u8));
    table.push((number & 0x7f) as u8);
}

/// The packets of a recording as they are, in CAF. `None` if it is not plain Opus in Ogg or WebM.
pub(crate) fn in_caf(bytes: &[u8]) -> Option<Vec<u8>> {
    let recording = match Kind::sniff(bytes) {
        Kind::Ogg => opus::recording(bytes),
        Kind::Webm => webm::recording(bytes),
        _ => None,
    };
    Some(recording?.caf())
}
