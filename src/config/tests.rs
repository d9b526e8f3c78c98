use super::*;

/// The API key in [`TENANT`].
const KEY: &str = "vg_mJfZfdqDDVAfhohF95ysrINSzg2aWiK3_sA0-oTgK2Y";

fn load_inline(inline: &str) -> Result<(Config, Tenants), Mistakes> {
    load(&Layers { only_defaults: true, inline: Some(inline.to_owned()), ..Layers::default() }, None)
}

const TENANT: &str = r#"
    [tenants.a]
    api_keys = ["vg_mJfZfdqDDVAfhohF95ysrINSzg2aWiK3_sA0-oTgK2Y"]
    route = ["imessage"]
    [tenants.a.connections.imessage]
    provider = "linq"
    token = "t"
"#;

#[test]
fn the_built_in_layer_has_no_tenant() {
    let (config, tenants) = load_inline("").expect("the defaults are sound");
    assert_eq!(config.server.listen.port(), 8080);
    assert_eq!(tenants.iter().count(), 0);
}

#[test]
fn every_mistake_names_its_key() {
    for (inline, key) in [
        ("[server]\nlisten = \"nowhere\"", "server.listen"),
        ("[server]\nlisten_on = 1", "listen_on"),
        ("[server]\nproxy = \"ftp://proxy:21\"", "server.proxy"),
        ("[server]\nproxy = \"off\"", "server.proxy"),
        ("[server]\nproxy = { env = \"NOT_SET_ANYWHERE\" }", "server.proxy"),
        ("[server]\nmax_headers = \"1 KiB\"", "server.max_headers"),
        ("[server]\nmax_clients = 0", "server.max_clients"),
        ("[server]\nmemory = 5", "server.memory"),
        ("[server]\nrequest_rate = \"0/1s\"", "server.request_rate"),
        (&TENANT.replace("api_keys", "request_rate = \"lots\"\napi_keys"), "tenants.a.request_rate"),
        ("[audio]\nmax_duration = \"soon\"", "audio.max_duration"),
        ("[delivery]\nmax_queue = \"many\"", "delivery.max_queue"),
        ("[fetch]\nallow_networks = [\"10.0.0.0/99\"]", "fetch.allow_networks[0]"),
        ("[storage]\ndatabase = \"mysql://x\"", "storage.database"),
        ("[storage]\nmedia = \"gs://x\"", "storage.media"),
        ("[dialects]\nwait = \"61s\"", "dialects.wait"),
        ("[dialects]\nwiat = \"20s\"", "dialects.wiat"),
        ("[telemetry]\notlp = \"collector:4318\"", "telemetry.otlp"),
        ("[telemetry]\notlp = \"https://me:S3CRET@collector\"", "telemetry.otlp"),
        ("[telemetry]\noltp = \"http://collector:4318\"", "telemetry.oltp"),
        ("[storage]\nscratch = \"\"", "storage.scratch"),
        ("[servr]\nlisten = 1", "servr"),
        (&TENANT.replace("\"t\"", "\"t\"\ndegrade = [\"voice\"]"), "tenants.a.connections.imessage.degrade"),
        (
            &TENANT
                .replace("\"t\"", "\"t\"\nopen_chat = \"text\"\nopening_text = \"Hi from www.example.com\""),
            "tenants.a.connections.imessage.opening_text",
        ),
        (&TENANT.replace("token = \"t\"", ""), "tenants.a.connections.imessage"),
        (&TENANT.replace("token", "tokn"), "tenants.a.connections.imessage"),
        (
            &TENANT.replace("token = \"t\"", "token = { env = \"NOT_SET_ANYWHERE\" }"),
            "tenants.a.connections.imessage.token",
        ),
        (&TENANT.replace("\"linq\"", "\"pigeon\""), "tenants.a.connections.imessage.provider"),
        (&TENANT.replace("[\"imessage\"]", "[\"imessage\", \"fax\"]"), "tenants.a.route[1]"),
        (&TENANT.replace("[\"vg_mJfZfdqDDVAfhohF95ysrINSzg2aWiK3_sA0-oTgK2Y\"]", "[]"), "tenants.a.api_keys"),
        (&TENANT.replace("\"t\"", "\"t\"\nprofile = \"linq-9\""), "tenants.a.connections.imessage.profile"),
        (
            &TENANT.replace("\"t\"", "\"t\"\nprofile = \"whatsapp-1\""),
            "tenants.a.connections.imessage.profile",
        ),
        (&TENANT.replace("[\"imessage\"]", "[\"imessage\", \"imessage\"]"), "tenants.a.route[1]"),
        (&format!("{TENANT}\n[tenants.a.aliases.x]\nimessage = \"bob\""), "tenants.a.aliases.x.imessage"),
        (&TENANT.replace("\"t\"", "\"t\"\nconcurrency = 0"), "tenants.a.connections.imessage.concurrency"),
        (
            &TENANT.replace("\"t\"", "\"t\"\ndegrade = [\"smoke\"]"),
            "tenants.a.connections.imessage.degrade[0]",
        ),
    ] {
        let mistakes = load_inline(inline).expect_err(inline).to_string();
        assert!(mistakes.contains(key), "expected {key} in: {mistakes}");
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for inline in [
        TENANT.replace("[\"vg_mJfZfdqDDVAfhohF95ysrINSzg2aWiK3_sA0-oTgK2Y\"]", "\"S3CRET\""),
        TENANT.replace("\"t\"", "\"t\"\nconcurrency = \"S3CRET\""),
        TENANT.replace("\"t\"", "[\"S3CRET\"]"),
        TENANT.replace("\"vg_mJfZfdqDDVAfhohF95ysrINSzg2aWiK3_sA0-oTgK2Y\"", "\"sha256:S3CRET\""),
    ] {
        let mistakes = load_inline(&inline).expect_err(&inline).to_string();
        assert!(!mistakes.contains("S3CRET"), "{mistakes}");
    }
}

#[test]
fn a_webhook_is_kept_and_not_shown() {
    // A key made from the text S3CRETS3CRETS3CRET.
    let key = "whsec_UzNDUkVUUzNDUkVUUzNDUkVU";
    let webhook = format!(
        "route = []\nwebhook = {{ url = \"https://bot.example/h/S3CRET?k=S3CRET\", secrets = [\"{key}\"] }}"
    );
    let inline = TENANT.replace("route = [\"imessage\"]", &webhook);
    let (_, tenants) = load_inline(&inline).expect("sound");
    let tenant = tenants.get("a").expect("the tenant");
    assert_eq!(tenant.webhook.as_ref().map(|webhook| webhook.keys.len()), Some(1));
    let shown = format!("{tenants:?}");
    assert!(shown.contains("https://bot.example") && !shown.contains("S3CRET"), "{shown}");
    assert!(!shown.contains("UzNDUkVU"), "{shown}");
    for (wrong, key) in [
        (inline.replace("https://bot", "ftp://bot"), "tenants.a.webhook.url"),
        (
            inline.replace(&format!("\"{key}\""), "{ env = \"NOT_SET_ANYWHERE\" }"),
            "tenants.a.webhook.secrets[0]",
        ),
        (inline.replace("whsec_", ""), "tenants.a.webhook.secrets[0]"),
        (inline.replace("VUUzNDUkVUUzNDUkVU", "VU"), "tenants.a.webhook.secrets[0]"),
        (inline.replace(&format!("\"{key}\""), ""), "tenants.a.webhook.secrets"),
        (inline.replace("https://bot", "//bot"), "tenants.a.webhook.url"),
    ] {
        let mistakes = load_inline(&wrong).expect_err(&wrong).to_string();
        assert!(mistakes.contains(key) && !mistakes.contains("S3CRET"), "{mistakes}");
    }
}

#[test]
fn a_secret_for_callbacks_may_be_a_list_while_one_replaces_another() {
    let with = |secrets: &str| {
        let setting = format!("\"t\"\nwebhook_secret = {secrets}");
        load_inline(&TENANT.replace("\"t\"", &setting)).map(|(_, tenants)| {
            tenants.get("a").expect("the tenant").connections["imessage"]
                .provider
                .capabilities()
                .receipts
                .clone()
        })
    };
    let file = tempfile::NamedTempFile::new().expect("a scratch file");
    std::fs::write(file.path(), "whsec_YSBzZWNyZXQ=\n").expect("room for it");
    let list = format!("[\"whsec_YW5vdGhlcg==\", {{ file = {:?} }}]", file.path());
    for secrets in ["\"whsec_YSBzZWNyZXQ=\"", &list] {
        assert!(with(secrets).is_ok_and(|receipts| !receipts.is_empty()), "{secrets}");
    }
    let key = "tenants.a.connections.imessage.webhook_secret";
    for (wrong, key) in [
        ("[\"YQ==\", { env = \"NOT_SET_ANYWHERE\" }]", format!("{key}[1]: ")),
        ("[]", format!("{key}: ")),
        ("\"S3CRET!\"", format!("{key}: ")),
        ("[\"YQ==\", [\"S3CRET\"]]", format!("{key}: ")),
    ] {
        let mistakes = with(wrong).expect_err(wrong).to_string();
        assert!(mistakes.contains(&key) && !mistakes.contains("S3CRET"), "{mistakes}");
    }
}

#[test]
fn two_tenants_cannot_share_a_key() {
    let both = format!("{TENANT}{}", TENANT.replace("tenants.a", "tenants.b"));
    let mistakes = load_inline(&both).expect_err("refused").to_string();
    assert!(mistakes.contains("tenants.b.api_keys[0]"), "{mistakes}");
    assert!(!mistakes.contains(KEY), "{mistakes}");
}

#[test]
fn the_documented_file_is_whole() {
    // Every commented-out key of the sample is accepted when it is uncommented.
    let is_key = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let sample: String = DEFAULTS
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
        .map(|line| line.replace("{ env = \"METRICS_TOKEN\" }", &format!("{KEY:?}")))
        .collect::<Vec<_>>()
        .join("\n");
    let sample = sample.replace("http://127.0.0.1:8080", "https://voice.example");
    let environment = [
        ("VOICEGATE_DEMO_KEY", KEY),
        ("WEBHOOK_SECRET", "whsec_UzNDUkVUUzNDUkVUUzNDUkVU"),
        ("LINQ_TOKEN", "t"),
        ("LINQ_WEBHOOK_SECRET", "whsec_YSBzZWNyZXQ="),
        ("WAWP_TOKEN", "t"),
        ("WAWP_CALLBACK_TOKEN", KEY),
        ("SPEECH_API_KEY", "t"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let layers = Layers { only_defaults: true, inline: Some(sample), environment, ..Layers::default() };
    let (_, tenants) = load(&layers, None).expect("the sample is sound");
    assert_eq!(tenants.warnings, Vec::<String>::new());
    assert_eq!(tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["demo"]);
}

/// The mistakes of a configuration file, without the name of the file.
fn mistakes_of_file(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("voicegate.toml");
    std::fs::write(&file, text).expect("written");
    let Mistakes(mistakes) = load(&Layers::of_file(Some(file)), None).expect_err("refused");
    let folder = format!("{}/", folder.path().display());
    mistakes.into_iter().map(|mistake| mistake.replacen(&folder, "", 1)).collect()
}

#[test]
fn every_mistake_is_reported_at_once_with_file_line_key_and_what_was_expected() {
    let text = r#"[server]
listen = ":8180"
public_url = "voice.example.com"
max_bodi = "25 MiB"
[audio]
max_duration = "soon"
workers = true
[fetch]
allow_networks = ["10.0.0.0/8", "10.0.0.0/99"]
[tenants.a]
api_keys = ["x", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "${VOICE_KEY}"]
rout = ["imessage"]
routes.support = ["imessage", "whatsap"]
webhook = { url = "http://bot.example/hooks", secrets = ["whsec_x"] }
[tenants.a.connections.imessage]
provider = "linq"
token = "$LINQ_TOKEN"
intake = "uplaod"
timeout = "0s"
[tenants.a.connections.whatsapp]
provider = "wap"
[tenants.a.connections.other]
provider = "wawp"
instanceid = "A1"
access_token = ""
callback_token = "short"
degrade = 7
"#;
    let expected = [
        "2: server.listen: expected an address and a port, such as \"127.0.0.1:8180\" for this machine alone or \
         \"0.0.0.0:8180\" for all that reach it",
        "3: server.public_url: expected an http or https URL without user name and query, such as \
         \"https://voice.example.com\"",
        "4: server.max_bodi: there is no such key; did you mean `max_body`?",
        "6: audio.max_duration: \"soon\" is not a duration; write it like \"30s\", \"10m\", \"1h\" or \"7d\"",
        "7: audio.workers: expected a whole number",
        "9: fetch.allow_networks[1]: expected a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
        "11: tenants.a.api_keys[0]: can be guessed: it has fewer than 128 random bits by its form; `voicegate keys new` \
         makes one, and its \"sha256:HEX\" is what belongs here",
        "11: tenants.a.api_keys[1]: 64 hexadecimal digits are the hash of a key and not the key: write \"sha256:HEX\"; \
         `voicegate keys new` makes a key and its hash",
        "11: tenants.a.api_keys[2]: variables inside a text are not replaced; write { env = \"VOICE_KEY\" } instead",
        "12: tenants.a.rout: there is no such key; did you mean `route`?",
        "13: tenants.a.routes.support[1]: there is no such connection; did you mean `whatsapp`?",
        "14: tenants.a.webhook.secrets[0]: expected whsec_ and base64 of at least 16 bytes; `voicegate keys webhook` makes \
         one",
        "14: tenants.a.webhook.url: http://bot.example is not https; use https, or set fetch.allow_http",
        "17: tenants.a.connections.imessage.token: variables inside a text are not replaced; write { env = \
         \"LINQ_TOKEN\" } instead",
        "18: tenants.a.connections.imessage.intake: expected `upload` or `url`; did you mean `upload`?",
        "19: tenants.a.connections.imessage.timeout: expected a duration above zero",
        "21: tenants.a.connections.whatsapp.provider: there is no such provider; did you mean `wawp`?",
        "24: tenants.a.connections.other.instanceid: there is no such key; did you mean `instance_id`?",
        "25: tenants.a.connections.other.access_token: expected a text that is not empty",
        "26: tenants.a.connections.other.callback_token: expected at least 16 characters, chosen at random",
        "27: tenants.a.connections.other.degrade: expected a list",
    ];
    let expected: Vec<String> = expected.iter().map(|line| format!("voicegate.toml:{line}")).collect();
    let mut reported = mistakes_of_file(text);
    // The order of two mistakes on one line is not defined.
    reported.sort_by_key(|line| {
        let mut parts = line.splitn(4, ':');
        let number = parts.nth(1).and_then(|number| number.parse::<usize>().ok());
        (number, parts.next().map(str::to_owned))
    });
    assert_eq!(reported, expected);
}

#[test]
fn what_is_missing_is_reported_where_it_belongs() {
    let text = "[tenants.a]\nroute = []\nwebhook = { secrets = [] }\n[tenants.a.connections.x]\n\
                timeout = \"soon\"\n[tenants.a.connections.y]\nprovider = \"wawp\"\nfile_fields = 7\n";
    assert_eq!(
        mistakes_of_file(text),
        [
            "voicegate.toml:1: tenants.a.api_keys: expected at least one key; `voicegate keys new` makes one",
            "voicegate.toml:3: tenants.a.webhook.url: is required, and missing",
            "voicegate.toml:4: tenants.a.connections.x.provider: is required, and missing",
            "voicegate.toml:5: tenants.a.connections.x.timeout: \"soon\" is not a duration; write it like \"30s\", \"10m\", \
             \"1h\" or \"7d\"",
            "voicegate.toml:6: tenants.a.connections.y.instance_id: is required, and missing",
            "voicegate.toml:6: tenants.a.connections.y.access_token: is required, and missing",
            "voicegate.toml:6: server.public_url: expected an https URL, because the provider of \
             tenants.a.connections.y downloads the audio from it",
            "voicegate.toml:8: tenants.a.connections.y.file_fields: expected a text",
        ]
        .map(str::to_owned)
        .as_slice()
    );
}

#[test]
fn what_is_no_toml_is_one_line_with_its_place() {
    let reported = mistakes_of_file("[server]\nlisten = \"127.0.0.1:1\nmemory = 1\n");
    assert!(
        matches!(reported.as_slice(), [line] if line.starts_with("voicegate.toml:2:") && !line.contains('\n'))
    );
    let Mistakes(reported) = load(&Layers::of_file(Some("nowhere.toml".into())), None).expect_err("refused");
    assert_eq!(reported, ["nowhere.toml: the file cannot be read: entity not found"]);
}

fn load_with(inline: &str, variables: &[(&str, &str)]) -> Result<Tenants, Mistakes> {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let inline = Some(inline.to_owned());
    load(&Layers { only_defaults: true, inline, environment, ..Layers::default() }, None)
        .map(|(_, tenants)| tenants)
}

#[test]
fn a_mistake_in_a_variable_names_it() {
    let variables = [
        ("VOICEGATE__SERVER__LISTEN", ":8180"),
        ("VOICEGATE__FETCH__ALLOW_HTTP", "perhaps"),
        ("VOICEGATE__AUDIO__TIMEOUT", "0s"),
    ];
    let Mistakes(reported) = load_with("", &variables).expect_err("refused");
    let [timeout, http, listen] = reported.as_slice() else { panic!("{reported:?}") };
    assert!(
        http.starts_with("VOICEGATE__FETCH__ALLOW_HTTP: fetch.allow_http: expected true or false"),
        "{http}"
    );
    assert!(listen.starts_with("VOICEGATE__SERVER__LISTEN: server.listen: expected an address"), "{listen}");
    assert!(timeout.starts_with("VOICEGATE__AUDIO__TIMEOUT: audio.timeout: expected"), "{timeout}");
}

#[test]
fn a_variable_that_names_no_key_is_reported_and_stops_nothing() {
    let variables = [
        ("VOICEGATE__SERVER__LISTN", "127.0.0.1:1"),
        ("VOICEGATE__SERVR__LISTEN", "127.0.0.1:1"),
        ("VOICEGATE_LISTEN", "127.0.0.1:1"),
        ("VOICEGATE_URL", "http://127.0.0.1:8080"),
        ("VOICEGATE__SERVER__LISTEN", "127.0.0.1:2"),
    ];
    let mut reported = load_with("", &variables).expect("sound").warnings;
    reported.sort();
    let why = "this variable names no key, so it has no effect; did you mean `VOICEGATE__SERVER__LISTEN`?";
    let names = ["VOICEGATE_LISTEN", "VOICEGATE__SERVER__LISTN", "VOICEGATE__SERVR__LISTEN"];
    assert_eq!(reported, names.map(|name| format!("{name}: {why}")));
}

#[test]
fn a_key_that_can_be_guessed_is_refused_where_it_is_written_and_reported_elsewhere() {
    let with = |keys: &str, value: &str| {
        load_with(&TENANT.replace(&format!("{KEY:?}"), keys), &[("KEY_OF_A", value)])
    };
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    for (key, expected) in [
        ("x", "voicegate keys new"),
        (hash, "\"sha256:HEX\""),
        (&hash.to_uppercase(), "\"sha256:HEX\""),
        (&format!("SHA256:{hash}"), "expected sha256: and 64"),
        (&format!("sha256-{hash}"), "expected sha256: and 64"),
        ("sha256:9f86", "expected sha256: and 64"),
        ("018f3c52-7b1e-4c6a-9d2f-3b5e7a9c1d04", "voicegate keys new"),
    ] {
        let reported = with(&format!("{key:?}"), "").expect_err(key).to_string();
        assert!(reported.contains("tenants.a.api_keys[0]: ") && reported.contains(expected), "{reported}");
        assert!(key.len() < 3 || !reported.contains(key), "{reported}");
    }
    assert_eq!(with(&format!("\"sha256:{hash}\""), "").expect("sound").warnings, Vec::<String>::new());
    for (value, warnings) in [("x", 1), (hash, 1), (KEY, 0)] {
        let tenants = with("{ env = \"KEY_OF_A\" }", value).expect("sound");
        assert_eq!(tenants.warnings.len(), warnings, "{:?}", tenants.warnings);
    }
}

#[test]
fn a_token_for_metrics_that_can_be_guessed_is_reported() {
    let with = |token: &str| {
        load_with(&format!("[server]\nmetrics_token = {token:?}"), &[]).expect("sound").warnings
    };
    assert!(matches!(with("S3CRET").as_slice(), [line] if line.contains("metrics_token: can be guessed")));
    assert_eq!(with(KEY), Vec::<String>::new());
}

#[test]
fn webhook_in_a_dialect_has_the_secrets_of_its_product() {
    let webhook = |settings: &str| {
        let line = format!("route = []\nwebhook = {{ url = \"https://bot.example/h\", {settings} }}");
        load_inline(&TENANT.replace("route = [\"imessage\"]", &line))
    };
    let loaded = webhook(
        "secrets = [\"any text that WAHA has\"], dialect = \"waha\", headers = { X-Mine = \"S3CRET\" }",
    );
    let (_, tenants) = loaded.expect("sound");
    let tenant = tenants.get("a").expect("the tenant");
    let webhook_of_a = tenant.webhook.as_ref().expect("a webhook");
    assert_eq!(webhook_of_a.dialect, WebhookDialect::Waha);
    assert_eq!(webhook_of_a.headers[0].0, "x-mine");
    assert!(!format!("{tenants:?}").contains("S3CRET"));
    for (settings, key) in [
        ("secrets = [\"any text\"], dialect = \"linq\"", "tenants.a.webhook.secrets[0]"),
        ("secrets = [\"any text\"]", "tenants.a.webhook.secrets[0]"),
        ("secrets = [], dialect = \"waha\"", "tenants.a.webhook.secrets"),
        ("secrets = [\"x\"], dialect = \"whatsapp\"", "tenants.a.webhook.dialect"),
        ("secrets = [\"x\"], dialect = \"waha\", headers = { \"a b\" = \"c\" }", "tenants.a.webhook.headers"),
        (
            "secrets = [\"x\"], dialect = \"waha\", headers = { Host = \"c\" }",
            "tenants.a.webhook.headers.Host",
        ),
    ] {
        let mistakes = webhook(settings).expect_err(settings).to_string();
        assert!(mistakes.contains(key), "{settings}: {mistakes}");
    }
}

#[test]
fn a_webhook_that_can_never_be_reached_is_a_mistake() {
    let with = |url: &str, fetch: &str| {
        let webhook = format!(
            "route = []\nwebhook = {{ url = {url:?}, secrets = [\"whsec_UzNDUkVUUzNDUkVUUzNDUkVU\"] }}"
        );
        load_with(&format!("{}\n{fetch}", TENANT.replace("route = [\"imessage\"]", &webhook)), &[])
    };
    let local = "[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]";
    for (url, fetch, why) in [
        ("http://bot.example/h", "", "is not https"),
        ("https://10.1.2.3/h", "", "is not on the public internet; use"),
        ("https://[::1]/h", "", "is not on the public internet; use"),
        ("http://192.168.1.1/h", local, "is not on the public internet, nor in fetch.allow_networks"),
        ("https://me:S3CRET@bot.example/h", "", "comes with a user name or password"),
        ("bot.example/h?S3CRET", "", "such as \"https://bot.example/hooks\""),
        ("${HOOK}", "", "not replaced"),
    ] {
        let reported = with(url, fetch).expect_err(url).to_string();
        assert!(reported.contains("tenants.a.webhook.url: ") && reported.contains(why), "{reported}");
        assert!(!reported.contains("S3CRET"), "{reported}");
    }
    for (url, fetch) in [("https://bot.example/h", ""), ("http://127.0.0.1:1/h", local)] {
        assert!(with(url, fetch).is_ok(), "{url}");
    }
}

#[test]
fn receipts_that_cannot_come_are_reported() {
    let with = |url: &str, base: &str| {
        let secret = format!("\"t\"\nwebhook_secret = \"whsec_YSBzZWNyZXQ=\"{base}");
        load_with(&format!("[server]\npublic_url = {url:?}\n{}", TENANT.replace("\"t\"", &secret)), &[])
            .expect("sound")
            .warnings
    };
    let reported = with("http://127.0.0.1:8080", "");
    assert!(
        matches!(reported.as_slice(), [line] if line.contains("imessage: no receipts will come")),
        "{reported:?}"
    );
    assert_eq!(with("https://voice.example", ""), Vec::<String>::new());
    assert_eq!(with("http://127.0.0.1:8080", "\nbase_url = \"http://127.0.0.1:1\""), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_file_with_secrets_that_others_can_read_is_reported() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("voicegate.toml");
    let warnings = |text: &str, mode: u32| {
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("a mode");
        load(&Layers::of_file(Some(file.clone())), None).expect("sound").1.warnings
    };
    let open = warnings(TENANT, 0o644);
    let [line] = open.as_slice() else { panic!("{open:?}") };
    for part in ["its mode is 644", "tenants.a.api_keys[0] and 1 more", "chmod 600"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(warnings(TENANT, 0o640).len(), 1);
    assert_eq!(warnings(TENANT, 0o600), Vec::<String>::new());
    let path = folder.path().join("secret");
    std::fs::write(&path, KEY).expect("written");
    let kept_elsewhere = TENANT
        .replace(&format!("{KEY:?}"), &format!("{{ file = {path:?} }}"))
        .replace("\"t\"", &format!("{{ file = {path:?} }}"));
    assert_eq!(warnings(&kept_elsewhere, 0o644), Vec::<String>::new());
}

#[test]
fn settings_of_a_recipe_may_be_secrets_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client-token");
    std::fs::write(&file, "from-the-file\n").expect("written");
    let with = |token: &str| {
        TENANT.replace(
            "provider = \"linq\"\n    token = \"t\"",
            &format!(
                "provider = \"http\"\n    recipe = \"z-api\"\n    token = \"t\"\n    \
                 settings = {{ instance = \"i\", client_token = {token} }}"
            ),
        )
    };
    load_inline(&with(&format!("{{ file = \"{}\" }}", file.display()))).expect("a secret in a file");
    let mistakes =
        load_inline(&with("{ file = \"/nowhere/at/all\" }")).expect_err("there is no such file").to_string();
    assert!(mistakes.contains("tenants.a.connections.imessage.settings.client_token"), "{mistakes}");
}
