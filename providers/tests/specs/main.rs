//! Requests and recorded answers of the adapters, held against the vendors' own API files. The environment variable
//! `PROVIDER_SPECS` names their folder; without it every test says that it was skipped.

#[path = "../conformance/callback.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod callback;
#[path = "../conformance/checks.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod checks;
#[path = "../conformance/fixture.rs"]
mod fixture;
#[path = "../conformance/form.rs"]
mod form;
#[path = "../conformance/run.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod run;
#[path = "../conformance/stub.rs"]
mod stub;

mod cloud;
mod discord;
mod linq;
mod openapi;
mod whatsapp_web;
