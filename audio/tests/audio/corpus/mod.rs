//! Sources of every kind with every profile. Results are judged by other tools and by their sound.
//!
//! Every format and every value occurs, each with every other profile. `CORPUS=all` (`make corpus`) takes every pair of
//! values with every profile, and some long sources; a number takes that many sources of every format. `CORPUS_ONLY` takes
//! only the sources with one of these parts, separated by commas, in their names.

mod make;
mod pairs;
mod report;
mod shape;
pub mod table;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use make::{Recipe, Source};
use report::{Measured, Report};
use sha2::{Digest, Sha256};
use table::{Table, Target};
use voicegate_audio::{AudioError, AudioErrorKind, Convert, Hints, Probed, Profile, Render, Work};

use crate::sound::Sound;
use crate::tools::Bench;

/// Level in dB below which a codec's output counts as silence.
const SILENCE_DB: f64 = -55.0;
const NEARLY_SILENCE_DB: f64 = -50.0;
const LEVEL_DB: f64 = 1.0;
const LAG_MS: f64 = 10.0;
/// Permitted difference of one of 64 bars, on a scale of 100. Shorter sound is mostly edges.
const BAR: f32 = 25.0;
const BARS_FROM_MS: f64 = 1_000.0;

#[test]
fn every_conversion_of_the_corpus_is_correct() {
    let started = Instant::now();
    let asked = std::env::var("CORPUS").ok();
    let table = Table::read();
    let sources = sources(&table, asked.as_deref().unwrap_or("1"));
    println!("{} sources after {:.1?}", sources.len(), started.elapsed());

    let judge = Judge {
        runtime: tokio::runtime::Runtime::new().unwrap(),
        bench: Bench::with(|options| options.timeout = Duration::from_secs(300)),
        targets: table::targets(),
        every_profile: asked.is_some(),
        report: Mutex::default(),
    };
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(source) = sources.get(place) else { break };
                    judge.source(place, source);
                }
            });
        }
    });
    let report = judge.report.into_inner().unwrap();
    println!("{report}after {:.1?}", started.elapsed());
    assert!(report.wrong.is_empty(), "\n{}", report.wrong.join("\n"));
    assert_eq!(judge.bench.leftovers(), Vec::<std::path::PathBuf>::new());
    assert_eq!(crate::tools::children(), Vec::<u32>::new());
}

/// Sources with one or two channels in every format: at `rates` rates each, with contents, layouts and lengths in turn.
pub fn narrow(rates: usize) -> Vec<Source> {
    let table = Table::read();
    let contents: Vec<_> = table.content.iter().map(|(name, content)| (name.as_str(), content)).collect();
    let layouts: Vec<_> = table.layout.iter().map(|(name, layout)| (name.as_str(), layout)).collect();
    let layouts: Vec<_> = layouts.into_iter().filter(|(_, layout)| layout.channels <= 2).collect();
    let lengths: Vec<u32> = table.lengths.iter().copied().filter(|&length| length >= 500).collect();
    let mut turn = 0;
    let mut recipes = Vec::new();
    for format in &table.format {
        for step in 0..rates.min(table.rates.len()) {
            turn += 1;
            let rate = table.rates[(turn * 3 + step) % table.rates.len()];
            let layout = layouts[turn % layouts.len()];
            if format.takes(layout.1.channels, rate) {
                let content = contents[turn % contents.len()];
                recipes.push(Recipe { format, content, layout, rate, length: lengths[turn % lengths.len()] });
            }
        }
    }
    make::make(&recipes)
}

fn sources(table: &Table, asked: &str) -> Vec<Source> {
    let all = asked == "all";
    let rounds = if all { usize::MAX } else { asked.parse().expect("CORPUS is `all` or a number") };
    let choices = pairs::choose(table, rounds);
    let contents: Vec<_> = table.content.iter().collect();
    let layouts: Vec<_> = table.layout.iter().collect();
    let mut recipes: Vec<Recipe> = choices
        .into_iter()
        .map(|[format, content, layout, rate, length]| Recipe {
            format: &table.format[format],
            content: (contents[content].0, contents[content].1),
            layout: (layouts[layout].0, layouts[layout].1),
            rate: table.rates[rate],
            length: table.lengths[length],
        })
        .collect();
    if all {
        recipes.extend(table.long.iter().map(|long| {
            let (layout, channels) = table.layout.get_key_value(&long.layout).expect("a layout");
            let (content, speech) = table.content.get_key_value("speech").expect("speech");
            let format = table.format.iter().find(|format| format.name == long.format).expect("a format");
            Recipe {
                format,
                content: (content, speech),
                layout: (layout, channels),
                rate: long.rate,
                length: long.length,
            }
        }));
    }
    let only = std::env::var("CORPUS_ONLY").ok();
    let wanted =
        |name: &str| only.as_deref().is_none_or(|parts| parts.split(',').any(|part| name.contains(part)));
    recipes.retain(|recipe| wanted(&recipe.name()));
    let mut sources = make::make(&recipes);
    sources.extend(make::ready(table).filter(|source| wanted(&source.name)));
    sources
}

struct Judge {
    runtime: tokio::runtime::Runtime,
    bench: Bench,
    targets: Vec<(&'static Profile, Target)>,
    every_profile: bool,
    report: Mutex<Report>,
}

/// Reading and rendering separately, or in one step.
#[derive(Clone, Copy)]
enum Way {
    TwoSteps,
    OneStep,
}

/// Results of reading a source, by the engine and by ffmpeg alone.
struct Read<'a> {
    source: &'a Source,
    hints: Hints,
    probed: Probed,
    sound: Sound,
}

impl Judge {
    fn source(&self, place: usize, source: &Source) {
        let read = match self.read(source) {
            Ok(read) => read,
            Err(why) => return self.report.lock().unwrap().wrong.push(format!("{}: {why}", source.name)),
        };
        for (row, (profile, target)) in self.targets.iter().enumerate() {
            let turn = place + row;
            if turn % 2 == 1 && !self.every_profile {
                continue;
            }
            let convert = [Convert::Auto, Convert::Always][turn / 2 % 2];
            let way = [Way::TwoSteps, Way::OneStep][turn / 4 % 2];
            let outcome = self.cell(&read, profile, target, convert, way);
            let mut report = self.report.lock().unwrap();
            match outcome {
                Ok(measured) => report.add(profile.name, &source.name, measured),
                Err(why) => {
                    report.wrong.push(format!("{} for {} ({convert:?}): {why}", source.name, profile.name));
                }
            }
        }
    }

    fn read<'a>(&self, source: &'a Source) -> Result<Read<'a>, String> {
        let sound = Sound::of_source(&source.path, source.format, source.clock)?;
        let hints = Hints { filename: Some(source.name.clone()), format: source.format, ..Hints::default() };
        let probed = self.runtime.block_on(self.bench.engine.probe(&source.path, &hints));
        let probed = probed.map_err(|error| format!("{error:?}"))?;
        let facts = &probed.facts;
        if source.channels.is_some_and(|channels| (channels, channels) != (facts.channels, sound.channels)) {
            return Err(format!("has {} channels, or {}", facts.channels, sound.channels));
        }
        let longer = facts.duration_ms as f64 - sound.length_ms();
        if longer.abs() > 20.0 {
            return Err(format!("{longer:.1} ms longer than what decodes: {facts:?}"));
        }
        // Encoders fill up their last frame, and not all containers can record that.
        let made = source.length_ms.map_or(0.0, |length| sound.length_ms() - f64::from(length));
        if !(-30.0..=600.0).contains(&made) {
            return Err(format!("the corpus itself is wrong: {made:.1} ms longer than ordered"));
        }
        let bytes = std::fs::read(&source.path).map_err(|error| error.to_string())?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let known =
            self.bench.engine.recognise(&bytes, &sha256, &hints).map_err(|error| format!("{error:?}"))?;
        match known {
            Some(known) if (&known.facts, &known.detail) != (&probed.facts, &probed.detail) => {
                Err(format!("is recognised as {known:?}, and decodes as {probed:?}"))
            }
            _ => Ok(Read { source, hints, probed, sound }),
        }
    }

    /// The outer error means that the source was identified differently than before.
    async fn render(
        &self,
        read: &Read<'_>,
        profile: &'static Profile,
        convert: Convert,
        way: Way,
    ) -> Result<Result<Render, AudioError>, String> {
        let engine = &self.bench.engine;
        let path = &read.source.path;
        match way {
            Way::TwoSteps => Ok(engine.render(path, &read.probed, profile, convert).await),
            Way::OneStep => match engine.convert(path, &read.hints, profile, convert).await {
                Ok((again, _))
                    if (&again.facts, &again.detail) != (&read.probed.facts, &read.probed.detail) =>
                {
                    Err(format!("was read as {:?}, and now as {again:?}", read.probed))
                }
                converted => Ok(converted.map(|(_, render)| render)),
            },
        }
    }

    fn cell(
        &self,
        read: &Read,
        profile: &'static Profile,
        target: &Target,
        convert: Convert,
        way: Way,
    ) -> Result<Measured, String> {
        let rendered = self.runtime.block_on(self.render(read, profile, convert, way))?;
        let (file, facts, work) = match rendered {
            Ok(Render::Made { file, facts, work, .. }) => (file, facts, work),
            Ok(Render::Untouched) => {
                let container =
                    serde_json::to_value(read.probed.facts.container).map_err(|error| error.to_string())?;
                let may = target.untouched.iter().any(|kept| container == kept.as_str());
                let may = may && read.probed.facts.channels <= 2 && convert == Convert::Auto;
                return if may { Ok(Measured::untouched()) } else { Err("was left as it is".to_owned()) };
            }
            Err(error) => {
                let may = matches!(error.kind, AudioErrorKind::TooLarge | AudioErrorKind::TooLong)
                    && read.probed.facts.duration_ms > target.sure_ms;
                return if may { Ok(Measured::refused()) } else { Err(format!("{error:?}")) };
            }
        };
        let is_over = read.probed.facts.duration_ms > target.sure_ms;
        let most = target.over_bytes.filter(|_| is_over).or(target.max_bytes);
        if most.is_some_and(|most| facts.size_bytes > most) {
            return Err(format!("has {} bytes", facts.size_bytes));
        }
        if convert == Convert::Always && work != Work::Transcoded {
            return Err(format!("is {work:?}"));
        }
        // Kept packets have the channels of the source.
        let (shape, channels) = if work == Work::Transcoded {
            (&target.encoded, 1)
        } else {
            (&target.wrapped, read.probed.facts.channels)
        };
        let says_ms = shape::check(file.path(), shape, channels, work)?;
        let sound = Sound::of(file.path())?;
        if !sound.said.is_empty() {
            return Err(format!("ffmpeg complains: {}", sound.said));
        }
        let mut measured = compare(read, &sound, work)?;
        let length_ms = says_ms.unwrap_or(sound.length_ms());
        measured.longer_ms = Some(length_ms - read.sound.length_ms());
        let told = facts.duration_ms as f64 - length_ms;
        // Decoded sound beyond the stated length is the rest of a frame, or decoder delay.
        let around = sound.length_ms() - length_ms;
        let right = measured.longer_ms.is_some_and(|longer| longer.abs() <= target.tolerance_ms)
            && told.abs() <= 1.0
            && (-1.0..=66.0).contains(&around);
        if right {
            Ok(measured)
        } else {
            Err(format!(
                "{:.1?} ms longer, {told:.1} ms more told, {around:.1} ms around",
                measured.longer_ms
            ))
        }
    }
}

/// Index and difference of the bar that differs most from the source's bars at the same time and beside it.
fn furthest_bar(source: &Sound, made: &Sound) -> (usize, f32) {
    let (expected, found) = (source.bars(made), made.bars(source));
    let off = |place: usize| {
        let near = &expected[place.saturating_sub(1)..(place + 2).min(expected.len())];
        let least = near.iter().copied().fold(f32::MAX, f32::min);
        let most = near.iter().copied().fold(0.0, f32::max);
        (least - found[place]).max(found[place] - most).max(0.0)
    };
    (0..found.len()).map(|place| (place, off(place))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default()
}

/// Checks that the output is as loud as the source, at the same time, bar by bar, and not more clipped.
fn compare(read: &Read, made: &Sound, work: Work) -> Result<Measured, String> {
    let mut measured = Measured::made(work);
    let (before, after) = (read.sound.level(), made.level());
    if before < SILENCE_DB {
        let silent = after < NEARLY_SILENCE_DB;
        return if silent { Ok(measured) } else { Err(format!("{before:.1} dB became {after:.1} dB")) };
    }
    if read.sound.is_short() {
        let near = after > NEARLY_SILENCE_DB && after < before + 3.0;
        return if near { Ok(measured) } else { Err(format!("{before:.1} dB became {after:.1} dB")) };
    }
    // Many channels are as loud as their mean at least, and as the loudest of them at most.
    let louder = after - after.clamp(before, read.sound.loudest_level().max(before));
    measured.louder_db = read.source.level_db.is_none().then_some(louder);
    if louder.abs() > read.source.level_db.unwrap_or(LEVEL_DB) {
        return Err(format!("{before:.1} dB became {after:.1} dB"));
    }
    if !read.source.spikes && read.sound.peak() < 0.9 && made.peak() >= 1.0 {
        return Err(format!("clips: {} became {}", read.sound.peak(), made.peak()));
    }
    if made.length_ms() >= BARS_FROM_MS {
        let (place, off) = furthest_bar(&read.sound, made);
        if off > read.source.bar.unwrap_or(BAR) {
            return Err(format!("bar {place} is off by {off:.0} of 100"));
        }
    }
    if read.source.lag {
        let (lag, likeness) = made.lag_behind(&read.sound);
        measured.lag_ms = Some(lag);
        if lag.abs() > LAG_MS || likeness < 0.5 {
            return Err(format!("starts {lag:.1} ms late, and is alike by {likeness:.2}"));
        }
    }
    Ok(measured)
}
