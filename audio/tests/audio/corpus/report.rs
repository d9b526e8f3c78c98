//! Report of the results, for people.

use std::collections::BTreeMap;
use std::fmt;

use voicegate_audio::Work;

#[derive(Default)]
pub struct Report {
    pub wrong: Vec<String>,
    profiles: BTreeMap<&'static str, Row>,
}

/// Result of one cell.
pub struct Measured {
    outcome: &'static str,
    pub louder_db: Option<f64>,
    pub lag_ms: Option<f64>,
    pub longer_ms: Option<f64>,
}

#[derive(Default)]
struct Row {
    outcomes: BTreeMap<&'static str, usize>,
    /// Largest deviations of level, lag and length, with the cells in which they occurred.
    worst: [Option<(f64, String)>; 3],
}

impl Measured {
    pub fn untouched() -> Self {
        Self::new("untouched")
    }

    pub fn refused() -> Self {
        Self::new("refused")
    }

    pub fn made(work: Work) -> Self {
        Self::new(if work == Work::Transcoded { "encoded" } else { "wrapped" })
    }

    fn new(outcome: &'static str) -> Self {
        Self { outcome, louder_db: None, lag_ms: None, longer_ms: None }
    }
}

impl Report {
    pub fn add(&mut self, profile: &'static str, source: &str, measured: Measured) {
        let row = self.profiles.entry(profile).or_default();
        *row.outcomes.entry(measured.outcome).or_default() += 1;
        for (worst, found) in
            row.worst.iter_mut().zip([measured.louder_db, measured.lag_ms, measured.longer_ms])
        {
            if let Some(found) = found
                && worst.as_ref().is_none_or(|(worst, _)| found.abs() > worst.abs())
            {
                *worst = Some((found, source.to_owned()));
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (profile, row) in &self.profiles {
            writeln!(f, "{profile}: {:?}", row.outcomes)?;
            for (what, worst) in ["dB louder", "ms late", "ms longer"].iter().zip(&row.worst) {
                if let Some((worst, source)) = worst {
                    writeln!(f, "    at most {worst:+.2} {what}: {source}")?;
                }
            }
        }
        let cells: usize = self.profiles.values().flat_map(|row| row.outcomes.values()).sum();
        writeln!(f, "{cells} cells right, {} wrong", self.wrong.len())
    }
}
