//! Tests of `voicegate convert`, `inspect`, `profiles` and `plan` on files.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::keys::KEY;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

fn voicegate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.args(arguments).current_dir(std::env::temp_dir()).output().expect("the executable")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(output)))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn converted_file_passes_inspect() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = json(&voicegate(&["profiles", "--json"]));
    let names: Vec<&str> = profiles
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert!(names.len() >= 10 && voicegate(&["profiles"]).status.success());
    for name in names {
        let made = folder.path().join(name);
        let arguments = ["convert", path(&fixture("speech.flac")), path(&made), "--profile", name, "--json"]
            .map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let converted = voicegate(&arguments);
        assert!(converted.status.success(), "{name}: {}", text(&converted));
        let said = json(&converted);
        assert_eq!((&said["work"], &said["profile"]), (&"transcoded".into(), &name.into()));
        assert_eq!(said["made"]["size_bytes"], std::fs::metadata(&made).expect("a file").len());

        let inspected = json(&voicegate(&["inspect", path(&made), "--json"]));
        assert_eq!(inspected["audio"]["sha256"], said["made"]["sha256"], "{name}");
        assert_eq!(inspected["audio"]["codec"], said["made"]["codec"], "{name}");
        let verdict =
            inspected["profiles"].as_array().expect("a list").iter().find(|one| one["profile"] == name);
        assert_eq!(verdict.expect("a verdict")["work"], "none", "{name}: {inspected}");
    }
}

#[test]
fn impossible_conversion_fails_with_a_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.ogg");
    let page = fixture("page.mp3");
    for (arguments, says) in [
        (vec!["inspect", path(&page)], "audio_unreadable"),
        (vec!["inspect", path(folder.path())], "is not a file"),
        (vec!["inspect", "nowhere.mp3"], "cannot be read"),
        (vec!["convert", path(&page), path(&out), "--profile", "whatsapp-1"], "audio_unreadable"),
        (vec!["convert", path(&page), path(&out), "--profile", "fax-1"], "there is no such profile"),
        (vec!["convert", path(&page), path(&page), "--profile", "mp3-1"], "the same file"),
    ] {
        let output = voicegate(&arguments);
        assert!(!output.status.success() && text(&output).contains(says), "{arguments:?}: {}", text(&output));
    }
    let speech = fixture("speech-24k.mp3");
    let arguments =
        ["convert", path(&speech), path(&out), "--profile", "whatsapp-1", "--convert", "never", "--json"];
    assert_eq!(json(&voicegate(&arguments))["error"]["code"], "convert_refused");
    assert!(!out.exists());
}

#[test]
fn plan_follows_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config.toml");
    let text_of = "[tenants.a]\napi_keys = [\"KEY\"]\nroute = [\"imessage\", \"whatsapp\"]\n\
        [tenants.a.connections.imessage]\nprovider = \"linq\"\ntoken = \"t\"\nbase_url = \"http://127.0.0.1:1\"\n\
        [tenants.a.connections.whatsapp]\nprovider = \"wawp\"\ninstance_id = \"i\"\naccess_token = \"t\"\n\
        base_url = \"http://127.0.0.1:1\"\nprofile = \"whatsapp-2\"\n";
    std::fs::write(&config, text_of.replace("KEY", KEY)).expect("written");
    let speech = fixture("recorder-wideband.ogg");
    let output = voicegate(&["plan", path(&speech), "--config", path(&config), "--json"]);
    let planned = json(&output);
    let work: Vec<&Value> =
        planned["connections"].as_array().expect("a list").iter().map(|one| &one["work"]).collect();
    assert_eq!(work, ["transcoded", "remuxed"], "{planned}");
    let shown = text(&voicegate(&["plan", path(&speech), "--config", path(&config), "--via", "whatsapp"]));
    assert!(shown.starts_with("whatsapp (wawp, whatsapp-2): remuxed, 3.0"), "{shown}");
    let shown = voicegate(&["plan", path(&speech), "--config", path(&config), "--via", "fax"]);
    assert!(!shown.status.success() && text(&shown).contains("no connection or route"), "{}", text(&shown));
}
