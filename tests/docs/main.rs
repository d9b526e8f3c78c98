//! Every example of the documentation that is marked `run`, as a reader would run it: against the demo, in a folder
//! with a recording, with address and key in the environment.
//!
//! A fence like ```` ```python run prints=accepted ```` is run, has to end well, and has to print that word.

mod demo;
mod errors;
mod examples;
mod layers;
mod queries;
mod served;
mod true_today;

use std::{fmt::Write as _, path::Path, process::Command};

use demo::Demo;
use examples::{Example, examples};

/// What scripts/setup.sh installs: a Python with requests, and tsc.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");

#[test]
fn every_curl_example_works() {
    let demo = Demo::start();
    run_all(&examples("sh"), |example| {
        let mut command = demo.command("sh");
        command.arg("-eu").arg(demo.write(&example.file("sh"), &example.text));
        command
    });
}

#[test]
fn every_python_example_works() {
    let python = tool("venv/bin/python");
    let demo = Demo::start();
    run_all(&examples("python"), |example| {
        let mut command = demo.command(&python);
        command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/src"));
        command.arg(demo.write(&example.file("py"), &example.text));
        command
    });
}

#[test]
fn every_typescript_example_compiles_strictly_and_works() {
    let tsc = tool("node_modules/typescript/bin/tsc");
    let demo = Demo::start();
    let examples = examples("ts");
    for example in &examples {
        demo.write(&example.file("ts"), &example.text);
    }
    demo.write("package.json", r#"{"type": "module"}"#);
    demo.write("tsconfig.json", include_str!("tsconfig.json"));
    demo.link("node_modules/voicegate", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/typescript"));
    let types = format!("{TOOLS}/node_modules/@types");
    let compiled = demo.command("node").args([&tsc, "--typeRoots", &types]).output().expect("node");
    assert!(compiled.status.success(), "names are PAGE-LINE:\n{}", String::from_utf8_lossy(&compiled.stdout));
    run_all(&examples, |example| {
        let mut command = demo.command("node");
        command.arg(Path::new("out").join(example.file("js")));
        command
    });
}

#[test]
fn what_python_can_do_typescript_can_and_both_send_every_kind_of_body() {
    let (python, typescript) = (examples("python"), examples("ts"));
    assert_eq!(python.len(), typescript.len());
    for (language, examples) in [("python", python), ("ts", typescript)] {
        let all: String = examples.iter().map(|example| example.text.as_str()).collect();
        for sign in ["data", "multipart", "Content-Type", "media_id", "Idempotency-Key", "format"] {
            let found = all.contains(sign)
                || (sign == "multipart" && (all.contains("FormData") || all.contains("files=")));
            assert!(found, "{language}: no example has {sign}");
        }
    }
}

fn tool(path: &str) -> String {
    let tool = format!("{TOOLS}/{path}");
    assert!(Path::new(&tool).exists(), "{tool} is missing; run: scripts/setup.sh --test");
    tool
}

/// Runs each, and tells of all that fail.
fn run_all(examples: &[Example], command: impl Fn(&Example) -> Command) {
    assert!(!examples.is_empty(), "there are no examples");
    let mut failures = String::new();
    for example in examples {
        println!("{}", example.place());
        let output = command(example).output().expect("the interpreter");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let promised = example.prints.as_deref().unwrap_or_default();
        if !output.status.success() || !promised.split('|').any(|word| stdout.contains(word)) {
            let why = if output.status.success() {
                format!("did not print {promised}")
            } else {
                output.status.to_string()
            };
            let _ = writeln!(
                failures,
                "\n==== {}: {why}\n{}\n---- stdout\n{stdout}\n---- stderr\n{stderr}",
                example.place(),
                example.text
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
