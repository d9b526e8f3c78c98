//! The suite that every adapter passes. It goes by `PROVIDERS` and by the files in `fixtures/`, so that a new
//! adapter is tested by being registered; `README.md` says what to bring.

mod account;
mod callback;
mod checks;
mod fetch;
mod fixture;
mod form;
mod run;
mod stub;

use libtest_mimic::{Arguments, Trial};
use voicegate_providers::{Descriptor, PROVIDERS};

use crate::{
    checks::{At, Outcome},
    fixture::Fixture,
    run::{Ask, Gone},
};

/// Ends that every provider has, so every adapter shows how it reads them.
const OWED: &[&str] = &["ok", "unauthorized", "rejected", "rate_limited", "outcome_unknown", "unexpected"];

/// Ends of requests that are no sends. Only adapters that claim a look-up need its fixtures.
const OWED_ANSWERS: &[&str] = &["ok", "unauthorized"];

/// Statuses with which a provider may repeat what it was told.
const STATUSES: [&str; 3] = ["400 Bad Request", "500 Internal Server Error", "200 OK"];

fn main() {
    let arguments = Arguments::from_args();
    // The test runner starts a process for each of some two thousand tests, which would read all fixtures each time.
    let only = arguments.filter.as_deref().filter(|_| arguments.exact);
    let adapter = only.and_then(|test| test.split("::").next());
    let trials = PROVIDERS
        .iter()
        .filter(|descriptor| adapter.is_none_or(|adapter| adapter == descriptor.name))
        .flat_map(|descriptor| trials(descriptor))
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trials(descriptor: &'static Descriptor) -> Vec<Trial> {
    let name = |test: &str| format!("{}::{test}", descriptor.name);
    let fixtures = fixture::load_all(descriptor.name, "send");
    let have = names(&fixtures);
    let shown: Vec<_> =
        fixtures.iter().filter(|fixture| fixture.expected.is_none()).map(|fixture| fixture.form).collect();
    let mut trials = vec![
        Trial::test(name("forms"), move || {
            let provider = run::build(descriptor, run::example(descriptor));
            let missing: Vec<_> = provider.capabilities().forms.iter().map(|support| support.form).collect();
            let missing: Vec<_> = missing.into_iter().filter(|form| !shown.contains(form)).collect();
            checks::ensure(missing.is_empty(), || format!("no ok fixture for the forms {missing:?}"))
        }),
        Trial::test(name("settings"), || checks::settings(descriptor)),
        Trial::test(name("capabilities"), || checks::capabilities(descriptor)),
        Trial::test(name("fixtures"), move || owed(descriptor, "send", OWED, &have)),
    ];
    trials.extend(fixtures.iter().cloned().map(|fixture| {
        let test = name(&format!("send::{}", fixture.name));
        Trial::test(test, move || wait(checks::send(descriptor, &fixture)))
    }));
    let ok = fixtures.into_iter().find(|fixture| fixture.name == "ok");
    trials.extend(Ask::ALL.into_iter().flat_map(|ask| account_trials(ask, descriptor, ok.as_ref())));
    trials.extend(callback_trials(descriptor));
    trials.extend(fetch_trials(descriptor));
    trials.extend(ok.iter().flat_map(|ok| generated(descriptor, ok)));
    trials
}

fn names(fixtures: &[Fixture]) -> Vec<String> {
    fixtures.iter().map(|fixture| fixture.name.clone()).collect()
}

/// Everything about one kind of question.
fn account_trials(ask: Ask, descriptor: &'static Descriptor, send: Option<&Fixture>) -> Vec<Trial> {
    let name = |test: String| format!("{}::{}::{test}", descriptor.name, ask.folder());
    let fixtures = fixture::load_all(descriptor.name, ask.folder());
    let ok = fixtures.iter().find(|fixture| fixture.name == "ok").cloned();
    let have = names(&fixtures);
    let registers = descriptor.callbacks.is_some_and(|callbacks| callbacks.registers);
    let built = run::build(descriptor, run::example(descriptor));
    let (looks, shows) = (built.capabilities().look_up, built.capabilities().presence.is_some());
    let mut trials = vec![Trial::test(name("fixtures".to_owned()), move || match ask {
        Ask::Presence if !shows => checks::ensure(have.is_empty(), || "a sign that nobody shows".into()),
        Ask::LookUp if !looks => checks::ensure(have.is_empty(), || "a look-up that nobody makes".into()),
        Ask::Register | Ask::Status if !registers => {
            checks::ensure(have.is_empty(), || "a registration that nobody makes".into())
        }
        _ => owed(descriptor, ask.folder(), OWED_ANSWERS, &have),
    })];
    trials.extend(fixtures.into_iter().map(|fixture| {
        let send = send.cloned();
        Trial::test(name(fixture.name.clone()), move || {
            wait(account::account(ask, descriptor, &fixture, send.as_ref()))
        })
    }));
    let Some(ok) = ok else { return trials };
    for place in 0..ok.script.len() {
        for (fault, answer, kinds) in checks::faults() {
            // A sign has nothing to read in the answer to it.
            if ask == Ask::Presence && checks::answer_is_success(&answer) {
                continue;
            }
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("fault::{}::{fault}", place + 1)), move || {
                wait(account::fault(ask, descriptor, &ok, place, answer, kinds))
            }));
        }
        for status in STATUSES {
            if ask == Ask::Presence && status.starts_with('2') {
                continue;
            }
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("echo::{}::{}", place + 1, &status[..3])), move || {
                wait(account::echo(ask, descriptor, &ok, place, status))
            }));
        }
    }
    trials.push(Trial::test(name("refused".to_owned()), move || {
        wait(account::refused_connection(ask, descriptor, &ok))
    }));
    trials
}

/// Everything about what comes in.
fn callback_trials(descriptor: &'static Descriptor) -> Vec<Trial> {
    let name = |test: &str| format!("{}::callback::{test}", descriptor.name);
    let fixtures = callback::load_all(descriptor.name);
    if descriptor.callbacks.is_none() {
        return vec![Trial::test(name("fixtures"), move || {
            checks::ensure(fixtures.is_empty(), || "callbacks of a provider that never calls".into())
        })];
    }
    let have: Vec<String> = fixtures.iter().map(|fixture| fixture.name.clone()).collect();
    let owed = callback::owed(descriptor, &fixtures);
    let voices = callback::missing_voices(descriptor, &fixtures);
    let mut trials = vec![Trial::test(name("fixtures"), move || {
        let has = |kind: &&String| have.iter().any(|name| name.split('.').next() == Some(kind.as_str()));
        let voices = voices.iter().map(|name| (*name).to_owned());
        let missing: Vec<String> = owed.iter().filter(|kind| !has(kind)).cloned().chain(voices).collect();
        checks::ensure(missing.is_empty(), || {
            format!("fixtures/{}/callback/ has no .http file for: {}", descriptor.name, missing.join(", "))
        })
    })];
    for fixture in fixtures {
        let (genuine, test) = (fixture.is_genuine(), fixture.name.clone());
        let again = fixture.clone();
        trials.push(Trial::test(name(&test), move || callback::callback(descriptor, &fixture)));
        if genuine {
            let forged = name(&format!("{test}::forgeries"));
            trials.push(Trial::test(forged, move || callback::forgeries(descriptor, &again)));
        }
    }
    trials
}

/// Everything about the audio of received notes.
fn fetch_trials(descriptor: &'static Descriptor) -> Vec<Trial> {
    let name = |test: String| format!("{}::fetch::{test}", descriptor.name);
    let fixtures = fixture::load_all(descriptor.name, "fetch");
    let have = names(&fixtures);
    let mut trials = vec![Trial::test(name("fixtures".to_owned()), move || {
        if callback::receives(descriptor) {
            return owed(descriptor, "fetch", fetch::OWED, &have);
        }
        checks::ensure(have.is_empty(), || "audio of a provider over which nothing is received".into())
    })];
    let ok = fixtures.iter().find(|fixture| fixture.name == "ok").cloned();
    for fixture in fixtures {
        let again = fixture.clone();
        if fixture.expected.is_none() {
            let canary = name(format!("{}::canary", fixture.name));
            trials.push(Trial::test(canary, move || wait(fetch::canary(descriptor, &again))));
        }
        let test = name(fixture.name.clone());
        trials.push(Trial::test(test, move || wait(fetch::fetch(descriptor, &fixture))));
    }
    let Some(ok) = ok else { return trials };
    for place in 0..ok.script.len() {
        for (fault, answer, kinds) in checks::faults() {
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("fault::{}::{fault}", place + 1)), move || {
                wait(fetch::fault(descriptor, &ok, place, answer, kinds))
            }));
        }
        for status in STATUSES {
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("echo::{}::{}", place + 1, &status[..3])), move || {
                wait(fetch::echo(descriptor, &ok, place, status))
            }));
        }
        let ok = ok.clone();
        trials.push(Trial::test(name(format!("redirect::{}", place + 1)), move || {
            wait(fetch::redirect(descriptor, &ok, place))
        }));
    }
    let other = ok.clone();
    trials.push(Trial::test(name("limit".to_owned()), move || wait(fetch::limit(descriptor, &other))));
    trials.push(Trial::test(name("refused".to_owned()), move || {
        wait(fetch::refused_connection(descriptor, &ok))
    }));
    trials
}

fn owed(descriptor: &Descriptor, what: &str, kinds: &[&str], have: &[String]) -> Outcome {
    let has = |kind: &&&str| have.iter().any(|name| name.split('.').next() == Some(**kind));
    let missing: Vec<&str> = kinds.iter().filter(|kind| !has(kind)).copied().collect();
    checks::ensure(missing.is_empty() && have.iter().any(|name| name == "ok"), || {
        format!("fixtures/{}/{what}/ has no .http file for: {}", descriptor.name, missing.join(", "))
    })
}

/// Everything that follows from `send/ok.http` alone.
fn generated(descriptor: &'static Descriptor, ok: &Fixture) -> Vec<Trial> {
    let name = |test: String| format!("{}::{test}", descriptor.name);
    let mut trials = Vec::new();
    for (place, exchange) in ok.script.iter().enumerate() {
        let last = place + 1 == ok.script.len();
        let at = if last { At::Dispatch } else { At::Prepare(place) };
        let step =
            if last { "dispatch".to_owned() } else { format!("prepare_{}_{}", place + 1, exchange.method) };
        for (fault, answer, kinds) in checks::faults() {
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("fault::{step}::{fault}")), move || {
                wait(checks::fault(descriptor, &ok, at, answer, kinds))
            }));
        }
        for status in STATUSES {
            let ok = ok.clone();
            trials.push(Trial::test(name(format!("echo::{step}::{}", &status[..3])), move || {
                wait(checks::echo(descriptor, &ok, at, status))
            }));
        }
    }
    for (test, gone) in [("prepare", Gone::BeforePrepare), ("dispatch", Gone::BeforeDispatch)] {
        let ok = ok.clone();
        trials.push(Trial::test(name(format!("refused::{test}")), move || {
            wait(checks::refused_connection(descriptor, &ok, gone))
        }));
    }
    let (large, other) = (ok.clone(), ok.clone());
    trials.push(Trial::test(name("too_large".into()), move || wait(checks::too_large(descriptor, &large))));
    trials
        .push(Trial::test(name("other_forms".into()), move || wait(checks::other_forms(descriptor, &other))));
    trials
}

fn wait(check: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(check)
}
