//! The client libraries: their generated parts, their own tests against the executable, and their packages; and the
//! document and the recipes that are made for other programs.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn at(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// A program that `scripts/setup.sh --test` installs.
fn tool(path: &str) -> PathBuf {
    let tool = at("target/tools/clients").join(path);
    assert!(tool.exists(), "{} is missing; run: scripts/setup.sh --test", tool.display());
    tool
}

fn python() -> Command {
    let mut command = Command::new(tool("venv/bin/python"));
    command.env("PYTHONPATH", at("clients/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a command to its end; returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .env("VOICEGATE_EXECUTABLE", env!("CARGO_BIN_EXE_voicegate"))
        .env("NO_PROXY", "127.0.0.1,localhost")
        .env("no_proxy", "127.0.0.1,localhost")
        .stdin(Stdio::null())
        .output()
        .expect("a program");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    println!("{stdout}{stderr}");
    stdout
}

/// All files below a folder, by their path.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).expect("below it").to_owned());
            }
        }
    }
    found
}

fn names(paths: &BTreeSet<PathBuf>, extension: &str) -> BTreeSet<String> {
    let wanted = paths.iter().filter(|path| path.extension() == Some(OsStr::new(extension)));
    wanted.map(|path| path.display().to_string()).collect()
}

#[test]
fn generated_parts_are_fresh() {
    tool("node_modules");
    let folder = tempfile::tempdir().expect("a folder");
    run(Command::new(at("scripts/clients.sh")).arg(folder.path()));
    let printed = files(folder.path());
    assert!(printed.len() > 5, "{printed:?}");
    for path in printed {
        let text = |root: &Path| std::fs::read_to_string(root.join(&path)).unwrap_or_default();
        let (fresh, kept) = (text(folder.path()), text(&at("clients")));
        assert!(fresh == kept, "clients/{} is stale; run: make clients", path.display());
    }
}

#[test]
fn typescript_client_works_with_the_gateway() {
    let tests = ["client", "events", "retries"].map(|name| format!("test/{name}.test.js"));
    run(Command::new("node").arg("--test").args(tests).current_dir(at("clients/typescript")));
}

#[test]
fn python_client_works_with_the_gateway() {
    run(python().args(["-W", "error", "-m", "unittest", "-v"]).current_dir(at("clients/python/tests")));
}

#[test]
fn python_client_is_typed_strictly() {
    let cache = tempfile::tempdir().expect("a folder");
    let check = ["-m", "mypy", "--cache-dir"];
    run(python().args(check).arg(cache.path()).current_dir(at("clients/python")));
}

#[test]
fn npm_package_has_code_types_and_licences_and_nothing_else() {
    let text =
        run(Command::new("npm").args(["pack", "--dry-run", "--json"]).current_dir(at("clients/typescript")));
    let packed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let packed: BTreeSet<String> = packed
        .pointer("/0/files")
        .and_then(serde_json::Value::as_array)
        .expect("files")
        .iter()
        .filter_map(|file| Some(file["path"].as_str()?.to_owned()))
        .collect();
    let mut expected: BTreeSet<String> =
        ["README.md", "LICENSE-APACHE", "LICENSE-MIT", "package.json"].map(str::to_owned).into();
    for folder in ["src", "types", "generated"] {
        let below = files(&at("clients/typescript").join(folder));
        expected.extend(below.iter().map(|path| format!("{folder}/{}", path.display())));
    }
    assert_eq!(packed, expected);
    licences_are_those_of_the_repository("clients/typescript");
}

#[test]
fn npm_package_installs_into_an_empty_project_without_a_registry() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("package.json"), r#"{"type": "module"}"#).expect("written");
    let install = ["install", "--offline", "--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new("npm").args(install).arg(at("clients/typescript")).current_dir(folder.path()));
    let program = r#"import * as all from "voicegate"; console.log(Object.keys(all).sort().join(" "));"#;
    std::fs::write(folder.path().join("bot.mjs"), program).expect("written");
    let printed = run(Command::new("node").arg("bot.mjs").current_dir(folder.path()));
    assert!(printed.contains("Voicegate") && printed.contains("verifyWebhook"), "{printed}");
}

#[test]
fn wheel_has_code_types_and_licences_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    // The build must not leave anything in the tree.
    let source = folder.path().join("source");
    for path in files(&at("clients/python")) {
        if path.components().any(|part| part.as_os_str() == "__pycache__") {
            continue;
        }
        let copy = source.join(&path);
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("created");
        std::fs::copy(at("clients/python").join(&path), copy).expect("copied");
    }
    let build =
        ["-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"];
    run(python().args(build).arg("--wheel-dir").arg(folder.path()).arg(&source));
    let installed = folder.path().join("installed");
    let wheel = folder.path().join("voicegate-0.2.0-py3-none-any.whl");
    let install = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--target"];
    run(python().args(install).arg(&installed).arg(wheel));
    let mut found = files(&installed);
    found.retain(|path| !path.components().any(|part| part.as_os_str() == "__pycache__"));
    let mut expected = files(&at("clients/python/src"));
    expected.retain(|path| !path.components().any(|part| part.as_os_str() == "__pycache__"));
    assert_eq!(names(&found, "py"), names(&expected, "py"));
    assert!(found.contains(Path::new("voicegate/py.typed")), "{found:?}");
    let facts = "voicegate-0.2.0.dist-info";
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(found.contains(&Path::new(facts).join("licenses").join(licence)), "{found:?}");
    }
    assert!(found.iter().all(|path| path.starts_with("voicegate") || path.starts_with(facts)), "{found:?}");
    let program = "import voicegate; print(voicegate.Voicegate('http://127.0.0.1:1', 'k'))";
    let printed =
        run(python().args(["-c", program]).env("PYTHONPATH", &installed).current_dir(folder.path()));
    assert_eq!(printed.trim(), "Voicegate('http://127.0.0.1:1')");
    licences_are_those_of_the_repository("clients/python");
}

fn licences_are_those_of_the_repository(client: &str) {
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = |path: PathBuf| std::fs::read_to_string(path).expect("a licence");
        assert_eq!(text(at(client).join(licence)), text(at(licence)), "{client}/{licence}");
    }
}

#[test]
fn openapi_document_is_valid_for_strict_validators() {
    run(python().args(["-m", "openapi_spec_validator", "docs/openapi.json"]).current_dir(ROOT));
    let redocly = tool("node_modules/@redocly/cli/bin/cli.js");
    run(Command::new("node")
        .arg(redocly)
        .args(["lint", "--config", "tests/clients/redocly.yaml", "docs/openapi.json"])
        .env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true")
        .current_dir(ROOT));
}

#[test]
fn n8n_workflows_use_only_what_the_nodes_have() {
    tool("n8n/nodes.json");
    run(Command::new("node").arg("tests/clients/n8n.mjs").arg(at("target/tools/clients")).current_dir(ROOT));
}
