//! The filters between ffmpeg's decoder and encoders: mix to one channel, sample rate, and clock.
//!
//! Two rules are enforced here and nowhere else. Decoded sound is never cut, whatever times the file states. A gap is
//! filled with silence if the clock is ahead of the samples and most of the clock agrees with them.

use std::fmt::Write;
use std::time::Duration;

use crate::ffmpeg::run::seconds;
use crate::source::findings::Mix;

/// Sample rate at which sources are measured, in Hz.
pub(crate) const MEASURE_RATE: u32 = 8_000;

/// Seconds by which the clock must be ahead to count as a gap. Recorders that timestamp network packets stay below it.
const GAP_S: f32 = 0.06;
/// Cutoff of the filter that removes what is left of a constant part, in Hz: below any voice.
const CUTOFF_HZ: u32 = 20;
/// Seconds from which `aresample` fills a gap.
const FILLED_S: f32 = 0.05;

/// Whether the timestamps of a file are used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Samples are played one after the other, because the file has no clock, several clocks, or a wrong one.
    Counted,
    /// Gaps become silence: AMR and some recorders omit pauses. A clock that jumps by hours is followed up to this
    /// limit, so that it costs no more than a long file.
    Kept(Duration),
}

/// The filter that mixes the channels by their weights. It adds floats, because sums of 8-bit and 16-bit samples wrap around
/// at full scale here or in the resampler behind it: five equal channels arrived 4 to 11 dB too quiet (ffmpeg 5.1).
fn pan(mix: &Mix) -> String {
    let mut filter = "aformat=sample_fmts=flt|fltp,pan=mono|c0=".to_owned();
    let heard = mix.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
    for (place, (channel, weight)) in heard.enumerate() {
        // Writing to a string does not fail.
        let _ = write!(filter, "{}{weight:.6}*c{channel}", if place > 0 { "+" } else { "" });
    }
    filter.push(',');
    filter
}

/// The filters for encoding: one channel.
pub(crate) fn made(rate: u32, mix: Option<&Mix>, clock: Clock) -> String {
    chain(rate, "mono", mix, clock)
}

/// The filters for measuring: one or two channels. Two channels show whether they cancel each other out.
pub(crate) fn measured(mix: Option<&Mix>, clock: Clock) -> String {
    chain(MEASURE_RATE, "mono|stereo", mix, clock)
}

/// The filters for measuring each channel by itself.
pub(crate) fn apart() -> String {
    format!("aresample,aformat=sample_fmts=s16:sample_rates={MEASURE_RATE}")
}

/// Channels and rate are converted before the clock is applied, because silence is generated in memory: a gap of
/// minutes in eight fast channels takes gigabytes.
///
/// `rematrix_maxval` keeps two equal channels of a float codec from coming out 3 dB louder and clipping.
/// `lfe_mix_level` keeps the fourth of eight channels, which is taken for the low-frequency channel if no layout is
/// stated. `s16` removes values beyond full scale and NaN, which stall encoders. The last `asetpts` removes all
/// timestamps, so that encoders and muxers count samples, also if the rate of a source changes.
fn chain(rate: u32, layouts: &str, mix: Option<&Mix>, clock: Clock) -> String {
    let constant = match mix.map_or(0.0, |mix| mix.constant) {
        0.0 => String::new(),
        // The second filter alone would turn a constant from the first sample on into a click.
        part => format!(",dcshift={:.6},highpass=f={CUTOFF_HZ}", -part),
    };
    let mix = mix.filter(|mix| mix.is_weighted()).map(pan).unwrap_or_default();
    let clock = match clock {
        Clock::Counted => String::new(),
        Clock::Kept(limit) => {
            // The layout is named again, because the filter between could change it.
            format!(
                ",asetpts='{}',aresample=async=1:min_hard_comp={FILLED_S},aformat=channel_layouts={layouts}",
                gaps_only(limit)
            )
        }
    };
    format!(
        "{mix}aresample=rematrix_maxval=1.0:lfe_mix_level=1,\
         aformat=sample_fmts=s16:channel_layouts={layouts}:sample_rates={rate}{constant}{clock},asetpts=NAN"
    )
}

/// The time of a frame for the `aresample` that follows: the end of the samples so far, or later by a gap. `aresample`
/// would also drop sound if a frame were early; these times never are.
///
/// The deviation of each step between frames is accumulated, so that late packets compensated by others are no gap, and
/// several lost packets add up to one. Small deviations are dropped at once, because clocks drift. A clock is ignored
/// if most of its steps deviate, because some muxers count the samples of every frame twice.
///
/// The variables of the expression: 0 is the end of the samples, 1 how far the clock is ahead of them, 2 whether there
/// was a frame, 3 the gap, 4 and 5 the numbers of steps that agree and deviate, 6 the expected time of the next frame.
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
