//! Reads what somebody calls audio, and makes of it what a messenger shows as a voice note.
//!
//! The bytes decide what a file is, never its name. An [`Engine`] reads a source ([`Engine::probe`]), says what a
//! target needs ([`plan()`], with a [`Profile`] of [`PROFILES`]), and makes it ([`Engine::prepare`]) with the least
//! work: the bytes as they are, the same packets in another container, or a new encoding. What was made is read back
//! and compared with the source before it is handed out. ffmpeg decodes and encodes, as a confined child process;
//! containers are read and written in Rust.
//!
//! ```no_run
//! use std::path::Path;
//! use voicegate_audio::{Convert, Engine, EngineOptions, Hints, Source, profile};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(EngineOptions::default())?;
//! let source = Path::new("answer.mp3");
//! let hints = Hints::default();
//!
//! let probed = engine.probe(source, &hints).await?;
//! println!("{} ms of {}", probed.facts.duration_ms, probed.facts.mime_type);
//!
//! let target = profile("whatsapp-1").ok_or("no such profile")?;
//! let source = Source { path: source, hints: &hints, probed: Some(&probed) };
//! let ready = engine.prepare(source, target, Convert::Auto).await?;
//! match &ready.made {
//!     Some(file) => println!("{} made: {:?}", file.work, file.path()),
//!     None => println!("the source itself is what the target accepts"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An [`AudioError`] says whether the file is at fault, the machine is, or the caller asked for too much. Whoever wants
//! numbers sets an [`Observer`] in the [`EngineOptions`]. The crate knows no configuration, no database, no HTTP and no
//! metrics.
//!
//! Its rooms, from the top down. A test reads this table: no room imports from its own floor or a higher one.
//!
//! | Rooms | Contents |
//! |---|---|
//! | `fuzzing` | Fuzz targets, not in a release build |
//! | `engine` | The pool of workers in front of everything below |
//! | `making` | The steps from a source to a file that is proven, and the files that are kept for the next caller |
//! | `proving`, `reading` | Reading back what was made; sniffing, examining and probing a source |
//! | `copies` | Copies of a source that need no decoder |
//! | `ffmpeg` | One run of ffmpeg: arguments, confinement, what its end means, what it measured |
//! | `profiles` | What each target accepts, and what that takes |
//! | `source` | The facts about a source, and what its owner says of it |
//! | `formats` | Readers and writers of Ogg, CAF, MP4, MPEG, IFF, WAV, WebM and Opus headers |
//! | `error`, `observer` | Failures, and the trait that is told what happens |
//! | `voicegate_providers` | The words for containers, codecs and facts |

mod copies;
mod engine;
mod error;
mod ffmpeg;
mod formats;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fuzzing;
mod making;
mod observer;
mod profiles;
mod proving;
mod reading;
mod source;
#[cfg(test)]
mod tests;

pub use engine::{Engine, EngineOptions, Source};
pub use error::{AudioError, AudioErrorKind};
pub use ffmpeg::confine::{Confinement, confinement};
pub use ffmpeg::descriptors::is_exhausted;
pub use formats::opus::{Bandwidth, OpusDetail};
pub use formats::plain::Plain;
pub use making::kept::{Ready, ReadyFile};
pub use making::render::Render;
pub use observer::{Observer, Unobserved};
pub use profiles::plan::{Convert, Work, plan};
pub use profiles::profile::{Foreseen, Profile, profile};
pub use profiles::table::PROFILES;
pub use proving::verify::CHECKS;
pub use reading::hexadecimal::HexDigits;
pub use source::findings::{Contradiction, Findings};
pub use source::presets::{Preset, SERVICES, Service, presets};
pub use source::{Hints, PcmEncoding, PcmFormat, Probed, SourceDetail};
