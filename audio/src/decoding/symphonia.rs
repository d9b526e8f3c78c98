//! One decoder of symphonia, packet by packet.

use symphonia_bundle_mp3::MpaDecoder;
use symphonia_codec_aac::AacDecoder;
use symphonia_core::audio::layouts::{CHANNEL_LAYOUT_MONO, CHANNEL_LAYOUT_STEREO};
use symphonia_core::audio::{Audio, GenericAudioBufferRef};
use symphonia_core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_MP3};
use symphonia_core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia_core::packet::PacketRef;
use symphonia_core::units::{Duration, Timestamp};

use crate::decoding::NotDecoded;
use crate::decoding::output::Output;

pub(crate) struct Decoder(Box<dyn AudioDecoder>);

impl Decoder {
    /// A decoder of AAC-LC.
    pub fn aac(rate: u32, channels: u8) -> Result<Self, NotDecoded> {
        let layout = match channels {
            1 => CHANNEL_LAYOUT_MONO,
            2 => CHANNEL_LAYOUT_STEREO,
            _ => return Err(NotDecoded::Unknown),
        };
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_sample_rate(rate).with_channels(layout);
        let decoder = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default());
        Ok(Self(Box::new(decoder.map_err(|_| NotDecoded::Unknown)?)))
    }

    pub fn mp3() -> Result<Self, NotDecoded> {
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_MP3);
        let decoder = MpaDecoder::try_new(&parameters, &AudioDecoderOptions::default());
        Ok(Self(Box::new(decoder.map_err(|_| NotDecoded::Unknown)?)))
    }

    pub fn decode(&mut self, packet: &[u8], output: &mut Output<'_>) -> Result<(), NotDecoded> {
        let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        let decoded = self.0.decode_ref(&packet).map_err(|_| NotDecoded::Failed)?;
        let GenericAudioBufferRef::F32(sound) = decoded else { return Err(NotDecoded::Unknown) };
        let rate = sound.spec().rate();
        match (sound.num_planes(), sound.plane(0), sound.plane(1)) {
            (1, Some(only), _) => output.take(&[only], rate),
            (2, Some(left), Some(right)) => output.take(&[left, right], rate),
            _ => Err(NotDecoded::Unknown),
        }
    }
}
