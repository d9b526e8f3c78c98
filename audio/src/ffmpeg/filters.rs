//! The filters between ffmpeg's decoder and its encoders: the mix to one channel, the rate, and the clock.
//!
//! Two rules hold here and nowhere else. Nothing that decodes is ever cut, whatever the file says about time. A gap is
//! filled with silence where the clock is ahead of the samples, as long as most of the clock fits the samples.

use std::fmt::Write;
use std::time::Duration;

use crate::ffmpeg::run::seconds;
use crate::source::findings::Mix;

/// Rate at which sources are measured, in Hz.
pub(crate) const MEASURE_RATE: u32 = 8_000;

/// A clock that is ahead by more is a gap, in seconds. Recorders that stamp what the network brings are ahead by less.
const GAP_S: f32 = 0.06;
/// From here on `aresample` fills one.
const FILLED_S: f32 = 0.05;

/// Whether the times that a file states count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// One sample after the other: the file has no clock, several clocks, or a wrong one.
    Counted,
    /// Gaps become silence: AMR leaves its pauses out, and so do recorders. A clock that jumps by hours is followed up
    /// to this limit, so that it costs no more than a long file.
    Kept(Duration),
}

/// The filter that mixes the channels by their weights.
fn pan(mix: &Mix) -> String {
    let mut filter = "pan=mono|c0=".to_owned();
    let heard = mix.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
    for (place, (channel, weight)) in heard.enumerate() {
        // Writing to a text does not fail.
        let _ = write!(filter, "{}{weight:.6}*c{channel}", if place > 0 { "+" } else { "" });
    }
    filter.push(',');
    filter
}

/// The sound in one channel, as it is encoded.
pub(crate) fn made(rate: u32, mix: Option<&Mix>, clock: Clock) -> String {
    chain(rate, "mono", mix, clock)
}

/// The sound in one or two channels, as it is measured. Two, so that channels that cancel each other out are noticed.
pub(crate) fn measured(mix: Option<&Mix>, clock: Clock) -> String {
    chain(MEASURE_RATE, "mono|stereo", mix, clock)
}

/// Every channel by itself.
pub(crate) fn apart() -> String {
    format!("aresample,aformat=sample_fmts=s16:sample_rates={MEASURE_RATE}")
}

/// First the channels and the rate, then the clock, because silence is made in memory: a gap of minutes in eight fast
/// channels takes gigabytes.
///
/// `rematrix_maxval`: without it two equal channels of a float codec come out 3 dB louder, and clip. `lfe_mix_level`:
/// where nothing says which channel is which, the fourth of eight is taken for the one with the deep sounds, and is
/// left out otherwise. `s16`: numbers beyond full scale, or none at all, bring encoders to a standstill. The last
/// `asetpts` takes all times away, so that encoders and muxers count samples, also where the rate of a source changes.
fn chain(rate: u32, layouts: &str, mix: Option<&Mix>, clock: Clock) -> String {
    let mix = mix.map(pan).unwrap_or_default();
    let clock = match clock {
        Clock::Counted => String::new(),
        Clock::Kept(limit) => {
            // Named once more, since a filter that could change the layout stands between.
            format!(
                ",asetpts='{}',aresample=async=1:min_hard_comp={FILLED_S},aformat=channel_layouts={layouts}",
                gaps_only(limit)
            )
        }
    };
    format!(
        "{mix}aresample=rematrix_maxval=1.0:lfe_mix_level=1,\
         aformat=sample_fmts=s16:channel_layouts={layouts}:sample_rates={rate}{clock},asetpts=NAN"
    )
}

/// The time of a frame, for an `aresample` that follows: where the samples end so far, or later by a gap. That one
/// would also throw sound away where a frame is early; the times that come out of this never are.
///
/// A step from one frame to the next that does not fit the samples between the two is remembered, so that late packets
/// which others make up for are no gap, and losses of a packet each add up to one. Small differences are forgotten at
/// once: clocks drift. A clock of which most steps do not fit is not followed, because muxers exist that count twice the
/// samples of every frame.
///
/// The numbers of the expression: 0 is where the samples end, 1 by how much the clock is ahead of them, 2 whether there
/// was a frame, 3 the gap, 4 and 5 how many steps fitted and how many did not, 6 the time that the file should state next.
fn gaps_only(limit: Duration) -> String {
    let limit = seconds(limit);
    [
        "if(not(ld(2)),st(0,if(isnan(PTS),0,PTS));st(6,PTS);st(2,1))",
        "st(3,if(isnan(PTS-ld(6)),0,PTS-ld(6)))",
        "if(gt(abs(ld(3)),NB_SAMPLES/2+SR/500),st(1,ld(1)+ld(3));st(5,ld(5)+1),st(4,ld(4)+1))",
        "st(6,if(isnan(PTS),ld(6),PTS)+NB_SAMPLES)",
        &format!("if(gt(ld(5),ld(4))+lt(ld(1),-SR*{GAP_S}),st(1,0))"),
        &format!("st(3,if(gt(ld(1),SR*{GAP_S}),max(0,min(ld(1),{limit}*SR-ld(0))),0))"),
        "if(ld(3),st(1,0))",
        "st(0,ld(0)+ld(3)+NB_SAMPLES)",
        "ld(0)-NB_SAMPLES",
    ]
    .join(";")
}
