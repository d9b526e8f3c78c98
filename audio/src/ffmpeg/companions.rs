//! Files for several profiles of one source, which one run of ffmpeg encodes together: it decodes the source once.

use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::ffmpeg::pass::{Make, Tuning};
use crate::profiles::profile::Profile;
use crate::source::findings::Mix;

/// The profiles for which a source is rendered, and files that were encoded for them in advance.
#[derive(Debug)]
pub(crate) struct Companions {
    /// In the order in which they are rendered.
    profiles: Vec<&'static Profile>,
    made: Mutex<Vec<Companion>>,
}

#[derive(Debug)]
struct Companion {
    /// See [`described`].
    make: (&'static str, u32, u32, Tuning),
    mix: Option<Mix>,
    file: NamedTempFile,
}

impl Companions {
    pub fn of(profiles: &[&'static Profile]) -> Self {
        Self { profiles: profiles.to_vec(), made: Mutex::default() }
    }

    /// The profiles that are rendered after this one.
    pub fn after(&self, profile: &Profile) -> &[&'static Profile] {
        let place = self.profiles.iter().position(|other| other.name == profile.name);
        place.map_or(&[], |place| &self.profiles[place + 1..])
    }

    /// Keeps files that were encoded with this mix of the channels.
    pub fn keep(&self, mix: Option<&Mix>, files: impl Iterator<Item = (Make, NamedTempFile)>) {
        let kept = files
            .filter_map(|(make, file)| Some(Companion { make: described(make)?, mix: mix.cloned(), file }));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
    }

    /// Takes the file of exactly this encoding, if it was made.
    pub fn take(&self, make: Make, mix: Option<&Mix>) -> Option<NamedTempFile> {
        let make = described(make)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let place = made.iter().position(|other| other.make == make && other.mix.as_ref() == mix)?;
        Some(made.swap_remove(place).file)
    }
}

/// Whatever the bytes of an encoding depend on, apart from the source.
fn described(make: Make) -> Option<(&'static str, u32, u32, Tuning)> {
    match make {
        Make::Encode { profile, rate, bits, tuning } => Some((profile.name, rate, bits, tuning)),
        Make::Copy | Make::Samples { .. } => None,
    }
}
