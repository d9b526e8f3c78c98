//! Tests of the command line in a shell: pipes, permissions, names, and messages about missing values.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    gateway::{KEY, Process},
    keys::OTHER_KEY,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

/// Runs the executable in a folder without a configuration.
fn voicegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicegate"));
    command.args(arguments).current_dir(std::env::temp_dir()).env_remove("VOICEGATE_API_KEY");
    command
}

fn run(arguments: &[&str]) -> Output {
    voicegate(arguments).output().expect("the executable")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a configuration that only its owner can read.
fn write_config(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("voicegate.toml");
    std::fs::write(&file, text).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a mode");
    file
}

fn sound_config(folder: &Path) -> PathBuf {
    let shown = folder.display();
    let text = format!(
        "[storage]\ndatabase = \"sqlite://{shown}/v.db\"\nmedia = \"{shown}/media\"\n[tenants.a]\napi_keys = [\"{KEY}\"]\n\
         route = [\"imessage\"]\n[tenants.a.connections.imessage]\nprovider = \"linq\"\ntoken = \"t\"\n\
         base_url = \"http://127.0.0.1:1\"\n"
    );
    write_config(folder, &text)
}

#[test]
fn closed_output_pipe_ends_every_command_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound_config(folder.path());
    let speech = fixture("speech-24k.mp3");
    for arguments in [
        vec!["profiles"],
        vec!["profiles", "--json"],
        vec!["openapi"],
        vec!["keys", "new"],
        vec!["keys", "webhook"],
        vec!["inspect", path(&speech)],
        vec!["inspect", path(&speech), "--json"],
        vec!["convert", path(&speech), "-", "--profile", "mp3-1"],
        vec!["plan", path(&speech), "--config", path(&config)],
        vec!["check", "--config", path(&config)],
        vec!["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = voicegate(&arguments).stdout(writer).output().expect("the executable");
        assert!(output.status.success(), "{arguments:?}: {} {}", output.status, err(&output));
        assert_eq!(err(&output), "", "{arguments:?}");
    }
    // Nobody reads standard error, either.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = voicegate(&["keys", "new"]).stderr(writer).output().expect("the executable");
    assert!(output.status.success() && out(&output).starts_with("vg_"), "{}", output.status);
}

#[cfg(target_os = "linux")]
#[test]
fn full_output_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let output = voicegate(&["profiles"]).stdout(full).output().expect("the executable");
    assert!(
        !output.status.success() && err(&output).contains("the output cannot be written"),
        "{}",
        err(&output)
    );
}

#[test]
fn convert_reads_standard_input_and_writes_standard_output() {
    let audio = std::fs::read(fixture("speech.flac")).expect("a fixture");
    let piped = |arguments: &[&str]| piped(arguments, &audio, Stdio::piped());
    let converted = piped(&["convert", "-", "-", "--profile", "whatsapp-1"]);
    assert!(converted.status.success() && converted.stdout.starts_with(b"OggS"), "{}", err(&converted));
    assert!(err(&converted).contains("transcoded: "), "{}", err(&converted));
    let as_json = piped(&["convert", "-", "-", "--profile", "whatsapp-1", "--json"]);
    let said: Value = serde_json::from_slice(&as_json.stderr).expect("JSON on standard error");
    assert_eq!(said["made"]["size_bytes"], as_json.stdout.len());
    let inspected = piped(&["inspect", "-"]);
    assert!(inspected.status.success() && out(&inspected).contains("of flac in flac"), "{}", err(&inspected));
}

/// Runs a command with these bytes as standard input.
fn piped(arguments: &[&str], input: &[u8], stdout: Stdio) -> Output {
    let mut child = voicegate(arguments)
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable");
    child.stdin.take().expect("its input").write_all(input).expect("written");
    child.wait_with_output().expect("its output")
}

#[test]
fn convert_says_nothing_on_the_standard_output_that_carries_audio() {
    let audio = std::fs::read(fixture("speech.flac")).expect("a fixture");
    let folder = tempfile::tempdir().expect("a folder");
    for target in ["-", "/dev/stdout"] {
        // Standard output is a file here, so that what is written to it twice shows.
        let file = folder.path().join("redirected");
        let stdout = std::fs::File::create(&file).expect("a file");
        let made = piped(
            &["convert", "/dev/stdin", target, "--profile", "whatsapp-1", "--json"],
            &audio,
            stdout.into(),
        );
        assert!(made.status.success(), "{target}: {}", err(&made));
        let said: Value = serde_json::from_slice(&made.stderr).expect("JSON on standard error");
        let written = std::fs::read(&file).expect("the file");
        assert!(written.starts_with(b"OggS"), "{target}");
        assert_eq!(said["made"]["size_bytes"], written.len(), "{target}");
    }
    for garbage in [&b"no audio at all, and not a little of it"[..], b""] {
        let refused =
            piped(&["convert", "-", "-", "--profile", "whatsapp-1", "--json"], garbage, Stdio::piped());
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{}", out(&refused));
        let said: Value = serde_json::from_slice(&refused.stderr).expect("JSON on standard error");
        assert_eq!(said["error"]["code"], "audio_unreadable", "{said}");
    }
}

#[test]
fn new_file_gets_the_usual_permissions() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source.mp3");
    std::fs::copy(fixture("speech-24k.mp3"), &source).expect("copied");
    std::fs::set_permissions(&source, Permissions::from_mode(0o400)).expect("a mode");
    // `linq-1` keeps the source, `mp3-1` converts it.
    for (mask, mode) in [("022", 0o644), ("027", 0o640), ("077", 0o600)] {
        for (profile, name) in [("linq-1", "kept.mp3"), ("whatsapp-1", "made.ogg")] {
            let target = folder.path().join(format!("{mask}-{name}"));
            let script = format!("umask {mask}; exec \"$0\" convert \"$1\" \"$2\" --profile {profile}");
            let status = Command::new("sh")
                .args(["-c", &script, env!("CARGO_BIN_EXE_voicegate"), path(&source), path(&target)])
                .stdout(Stdio::null())
                .status();
            assert!(status.expect("a shell").success());
            assert_eq!(std::fs::metadata(&target).expect("made").mode() & 0o777, mode, "{mask} {name}");
        }
    }
}

#[test]
fn output_name_with_another_format_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let speech = fixture("speech-24k.mp3");
    for (name, profile, better) in [
        ("out.mp3", "whatsapp-1", "out.ogg"),
        ("out.M4A", "linq-1", "out.mp3"),
        ("out.wav", "imessage-caf-1", "out.caf"),
    ] {
        let target = folder.path().join(name);
        let output = run(&["convert", path(&speech), path(&target), "--profile", profile]);
        assert!(!output.status.success() && err(&output).contains(better), "{name}: {}", err(&output));
        assert!(!target.exists(), "{name}");
    }
    for (name, profile) in [("out.opus", "whatsapp-1"), ("out", "whatsapp-1"), ("out.mp3", "linq-1")] {
        let target = folder.path().join(name);
        assert!(
            run(&["convert", path(&speech), path(&target), "--profile", profile]).status.success(),
            "{name}"
        );
    }
}

#[test]
fn roles_have_the_same_names_everywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound_config(folder.path());
    let (speech, recorded) = (fixture("speech-24k.mp3"), fixture("recorder-wideband.ogg"));
    let target = folder.path().join("out");
    let convert =
        |source: &Path, profile| out(&run(&["convert", path(source), path(&target), "--profile", profile]));
    for (said, work) in [
        (convert(&speech, "linq-1"), "none: "),
        (convert(&recorded, "whatsapp-2"), "remuxed: "),
        (convert(&speech, "whatsapp-1"), "transcoded: "),
        (out(&run(&["plan", path(&speech), "--config", path(&config)])), "imessage (linq, linq-1): none, "),
        (out(&run(&["inspect", path(&speech)])), "linq-1          none\n"),
        (out(&run(&["inspect", path(&recorded)])), "whatsapp-2      remuxed, about "),
        (out(&run(&["inspect", path(&speech)])), "whatsapp-1      transcoded, about "),
    ] {
        assert!(said.contains(work), "{work} in {said}");
        for other in ["untouched", "wrapped", "as it is", ": encoded"] {
            assert!(!said.contains(other), "{other} in {said}");
        }
    }
}

#[test]
fn configuration_option_is_accepted_before_and_after_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound_config(folder.path());
    let (config, speech) = (path(&config).to_owned(), fixture("speech-24k.mp3"));
    let speech = path(&speech);
    for arguments in [
        vec!["callbacks", "status", "nobody", "--config", &config],
        vec!["callbacks", "--config", &config, "status", "nobody"],
        vec!["--config", &config, "callbacks", "status", "nobody"],
    ] {
        assert!(err(&run(&arguments)).contains("there is no connection \"nobody\""), "{arguments:?}");
    }
    for arguments in [
        vec!["plan", speech, "--config", &config],
        vec!["plan", "--config", &config, speech],
        vec!["--config", &config, "plan", speech],
    ] {
        assert!(out(&run(&arguments)).starts_with("imessage (linq, "), "{arguments:?}");
    }
    let by_variable = voicegate(&["plan", speech]).env("VOICEGATE_CONFIG", &config).output();
    assert!(out(&by_variable.expect("the executable")).starts_with("imessage (linq, "));
}

#[test]
fn send_names_its_missing_options() {
    let speech = fixture("speech-24k.mp3");
    let help = out(&run(&["send", "--help"]));
    assert!(help.contains("VOICEGATE_API_KEY") && help.contains("VOICEGATE_URL"), "{help}");
    let send = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = voicegate(&[&["send", path(&speech), "--to", "+15551234567"], more].concat());
        let output = command.envs(variables.iter().copied()).output().expect("the executable");
        assert!(!output.status.success());
        err(&output)
    };
    let error = send(&[], &[]);
    assert!(error.contains("VOICEGATE_API_KEY") && error.contains("VOICEGATE_URL"), "{error}");
    let error = send(&[("VOICEGATE_API_KEY", KEY)], &["--url", "http://127.0.0.1:1"]);
    assert!(
        error.contains("http://127.0.0.1:1 does not answer") && error.contains("VOICEGATE_URL"),
        "{error}"
    );
    assert!(!error.contains(KEY), "{error}");
    let error = send(&[("VOICEGATE_URL", "voice.example")], &["--key", KEY]);
    assert!(error.contains("expected an http or https URL, such as"), "{error}");
}

#[tokio::test]
async fn json_of_send_has_the_field_order_of_the_api() {
    let process = Process::start().await;
    let speech = fixture("speech-24k.mp3");
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_voicegate"))
        .args(["send", path(&speech), "--to", "+15551234567", "--json", "--url", &process.url])
        .env("VOICEGATE_API_KEY", KEY)
        .output()
        .await
        .expect("the executable");
    let said = out(&output);
    let members: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
    let id = serde_json::from_str::<Value>(&said).expect("JSON")["id"].as_str().expect("an id").to_owned();
    let request = process.http.get(format!("{}/voice/{id}", process.url)).bearer_auth(KEY);
    let mut answer = request.send().await.expect("an answer");
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("the body") {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text).expect("text");
    // No field of the note has the name of an earlier nested field.
    let place =
        |member: &&str| text.find(&format!("\"{member}\":")).unwrap_or_else(|| panic!("{member} in {text}"));
    assert_eq!(members[..4], ["id", "status", "to", "via"], "{said}");
    let mut sorted = members.clone();
    sorted.sort_unstable();
    assert_ne!(members, sorted, "the order of the alphabet");
    let top: Vec<usize> = members
        .iter()
        .filter(|member| text.matches(&format!("\"{member}\":")).count() == 1)
        .map(place)
        .collect();
    assert!(top.len() > 5 && top.is_sorted(), "{members:?} in {text}");
}

#[test]
fn json_of_plan_and_profiles_has_the_field_order_of_the_api() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound_config(folder.path());
    let speech = fixture("speech-24k.mp3");
    let members = |output: Output, indent: &str| -> Vec<String> {
        let lead = format!("{indent}\"");
        let name = |line: &str| Some(line.strip_prefix(&lead)?.split('"').next()?.to_owned());
        out(&output).lines().filter_map(name).collect()
    };
    let planned = members(run(&["plan", path(&speech), "--config", path(&config), "--json"]), "      ");
    assert_eq!(planned[..5], ["connection", "provider", "verdict", "profile", "work"]);
    let listed = members(run(&["profiles", "--json"]), "    ");
    assert_eq!(listed[..3], ["name", "target", "accepts"]);
    let inspected = members(run(&["inspect", path(&speech), "--json"]), "  ");
    assert_eq!(inspected, ["audio", "waveform", "intact", "other_streams", "opus", "warnings", "profiles"]);
}

#[test]
fn failures_are_coloured_only_on_a_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = sound_config(folder.path());
    let arguments = ["check", "--config", path(&config)];
    let check = |variables: &[(&str, &str)]| {
        let mut command = voicegate(&arguments);
        command
            .env("VOICEGATE__AUDIO__FFMPEG", "/nonexistent")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE");
        out(&command.envs(variables.iter().copied()).output().expect("the executable"))
    };
    const RED: &str = "\u{1b}[31mFAIL\u{1b}[0m  audio.ffmpeg";
    assert!(check(&[]).contains("\nFAIL  audio.ffmpeg") && !check(&[]).contains('\u{1b}'));
    assert!(check(&[("CLICOLOR_FORCE", "1")]).contains(RED));
    // Python's pty provides a terminal.
    let on_terminal = |variables: &[(&str, &str)]| {
        let program = "import pty, sys; pty.spawn(sys.argv[1:])";
        let mut command = Command::new("python3");
        command.args(["-c", program, env!("CARGO_BIN_EXE_voicegate")]).args(arguments);
        command.env("VOICEGATE__AUDIO__FFMPEG", "/nonexistent").env("TERM", "xterm").env_remove("NO_COLOR");
        out(&command.envs(variables.iter().copied()).output().expect("python3"))
    };
    let said = on_terminal(&[]);
    assert!(said.contains(RED), "{said:?}");
    let plain = on_terminal(&[("NO_COLOR", "1")]);
    assert!(plain.contains("FAIL  audio.ffmpeg") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn every_configuration_mistake_gets_its_own_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[server]\nlisten = \":8180\"\npublic_url = \"voice.example.com\"\nmax_bodi = 1\n[audio]\n\
                max_duration = \"soon\"\n[tenants.a]\napi_keys = [\"x\"]\nrout = []\nroute = [\"fax\"]\n\
                webhook = { url = \"http://bot.example\", secrets = [{ env = \"NOT_SET_ANYWHERE\" }] }\n\
                [tenants.a.connections.imessage]\nprovider = \"link\"\n";
    let config = write_config(folder.path(), text);
    let places = [2, 3, 4, 6, 8, 9, 10, 11, 11, 13].map(|line| format!("{}:{line}: ", config.display()));
    for command in ["check", "serve"] {
        let output = run(&[command, "--config", path(&config)]);
        let said = err(&output);
        assert!(!output.status.success() && out(&output).is_empty(), "{said}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 10, "{said}");
        for (line, place) in lines.iter().zip(&places) {
            assert!(line.starts_with(place), "{place} in {said}");
        }
    }
}

#[tokio::test]
async fn warnings_for_the_operator_appear_at_the_start_and_in_check() {
    let variables = [("VOICEGATE_LISTEN".to_owned(), ":1".to_owned())].into();
    let process = Process::with_environment("all", variables, |config| config).await;
    let file = process.folder.path().join("config.toml");
    let variable = "VOICEGATE_LISTEN: this variable names no key, so it has no effect; did you mean \
                    `VOICEGATE__SERVER__LISTEN`?";
    assert!(process.logged().contains(variable), "{}", process.logged());
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a mode");
    let output = voicegate(&["check", "--config", path(&file)]).env("VOICEGATE_LISTEN", ":1").output();
    let said = out(&output.expect("the executable"));
    assert!(said.contains(&format!("note  {variable}\n")), "{said}");
    assert!(said.contains("other users can read this file (its mode is 644)"), "{said}");
    assert!(!said.contains(KEY) && !said.contains("sandbox-linq-token"), "{said}");
    process.signal("-HUP");
    let told = "tenants.a.api_keys[0] and 2 more; chmod 600";
    process.eventually("the warning", async || process.logged().contains(told).then_some(())).await;
}

/// `docs/operations.md` says which requests use a proxy.
#[tokio::test]
async fn environment_proxy_applies_to_providers_and_not_to_webhooks() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", proxy.local_addr().expect("an address"));
    let asked = tokio::spawn(async move {
        let mut asked = Vec::new();
        loop {
            let (mut stream, _) = proxy.accept().await.expect("a client");
            let mut head = [0; 1024];
            let length = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap_or_default();
            let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
            asked.push(line.clone());
            let answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            if line.contains("provider.invalid") {
                return asked;
            }
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let shown = folder.path().display();
    let config = write_config(
        folder.path(),
        &format!(
            "[storage]\ndatabase = \"sqlite://{shown}/v.db\"\nmedia = \"{shown}/media\"\n[fetch]\nallow_http = true\n\
             [tenants.a]\napi_keys = [\"{OTHER_KEY}\"]\nwebhook = {{ url = \"http://bot.invalid/\", secrets = \
             [\"whsec_UzNDUkVUUzNDUkVUUzNDUkVU\"] }}\n[tenants.a.connections.imessage]\nprovider = \"linq\"\n\
             token = \"t\"\nbase_url = \"http://provider.invalid\"\n"
        ),
    );
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_voicegate"))
        .args(["check", "--online", "--config", path(&config)])
        .env("HTTP_PROXY", &address)
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env_remove("no_proxy")
        .output()
        .await
        .expect("the executable");
    assert!(out(&output).contains("http://bot.invalid cannot be resolved"), "{}", out(&output));
    let asked = asked.await.expect("what it was asked");
    assert!(asked.iter().any(|line| line.starts_with("GET http://provider.invalid/")), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("bot.invalid")), "{asked:?}");
}

#[test]
fn check_recipe_shows_the_request_without_secrets() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/recipes/whapi.toml");
    let shown = run(&["check", "--recipe", path(&recipe), "--to", "+15551234567", "--dry-run"]);
    assert!(shown.status.success(), "{}", err(&shown));
    let request = out(&shown);
    assert!(request.contains("POST https://") && request.contains("15551234567"), "{request}");
    assert!(request.contains("[token]"), "{request}");

    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.toml");
    std::fs::write(&broken, "urll = \"https://api.example.com\"\n").expect("written");
    let refused = run(&["check", "--recipe", path(&broken), "--to", "+15551234567", "--dry-run"]);
    assert!(!refused.status.success() && err(&refused).contains("urll"), "{}", err(&refused));

    let nobody = run(&["check", "--recipe", path(&recipe), "--to", "nobody", "--dry-run"]);
    assert!(!nobody.status.success() && err(&nobody).contains("--to"), "{}", err(&nobody));
}
