//! Identifies audio from any source, and converts it into what a messenger shows as a voice note.
//!
//! The bytes of a file decide its format, never its name. An [`Engine`] reads a source ([`Engine::probe`]), plans the
//! conversion for a target ([`plan()`], with a [`Profile`] of [`PROFILES`]), and produces the file ([`Engine::prepare`])
//! with the least conversion: the untouched bytes, the same packets in another container, or a new encoding. A produced
//! file is read back and compared with the source before it is returned. Containers are read and written in Rust, and
//! clean files of common kinds are decoded in this process by memory-safe decoders; ffmpeg decodes everything else, and
//! encodes, as a confined child process.
//!
//! ```no_run
//! use std::path::Path;
//! use voicegate_audio::{Convert, Engine, EngineOptions, Hints, SourceFile, profile};
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
//! let source = SourceFile { path: source, hints: &hints, probed: Some(&probed) };
//! let ready = engine.prepare(source, target, Convert::Auto).await?;
//! match &ready.made {
//!     Some(file) => println!("{}: {:?}", file.work, file.path()),
//!     None => println!("the target accepts the source itself"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An [`AudioError`] says whether the file is at fault, the machine is, or the caller exceeded a limit. An [`Observer`]
//! in the [`EngineOptions`] receives events for metrics. The crate depends on no configuration, database, HTTP or metrics.
//!
//! Its modules, from the top down. A test reads this table: no module imports from its own row or from one above it.
//!
//! | Modules | Contents |
//! |---|---|
//! | `fuzzing` | Fuzz targets, not in a release build |
//! | `engine` | The pool of workers in front of everything below |
//! | `making` | The steps from a source to a verified file, and the render cache |
//! | `proving`, `reading` | Verification of produced files; identification, examination and decoding of a source |
//! | `remux` | Copies of a source that are written without decoding it |
//! | `decoding` | Decoders in this process, which measure clean sources and verify produced files |
//! | `ffmpeg` | One run of ffmpeg: arguments, confinement, interpretation of its exit and its measurements |
//! | `profiles` | Formats that each target accepts, and the conversion a source needs |
//! | `source` | Facts about a source, and the hints of its owner |
//! | `formats` | Readers and writers of Ogg, CAF, MP4, MPEG, IFF, WAV, WebM and Opus headers |
//! | `error`, `observer` | Errors, and the trait that receives events |
//! | `voicegate_providers` | Types for containers, codecs and facts |

mod decoding;
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
mod remux;
mod source;
#[cfg(test)]
mod tests;

pub use engine::{Engine, EngineOptions, SourceFile};
pub use error::{AudioError, AudioErrorKind, Stage};
pub use ffmpeg::confine::{Confinement, confinement};
pub use ffmpeg::descriptors::is_exhausted;
pub use formats::opus::{Bandwidth, OpusDetail};
pub use formats::patched::PatchedFile;
pub use making::render::Render;
pub use making::render_cache::{Ready, ReadyFile};
pub use observer::{Observer, Unobserved};
pub use profiles::plan::{Candidate, Convert, Expected, Work, expect, keep_budget, plan};
pub use profiles::profile::{Foreseen, Loss, OverBudget, Profile, profile};
pub use profiles::table::PROFILES;
pub use proving::verify::CHECKS;
pub use reading::hexadecimal::HexDigits;
pub use source::findings::{Contradiction, Findings};
pub use source::presets::{Preset, SERVICES, Service, presets};
pub use source::{Hints, PcmEncoding, PcmFormat, Probed, SourceDetail};
