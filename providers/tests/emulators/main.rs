//! The adapters, held against the emulators of the sandbox.

#[path = "../conformance/fixture.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod fixture;
#[path = "../conformance/run.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod run;
#[path = "../conformance/stub.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod stub;

mod faults;
mod receiving;
mod recipes;
mod sending;
