//! Tests of the checks of providers, webhooks and the public address.

use std::collections::BTreeMap;

use serde_json::json;
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use super::World;
use crate::keys::OTHER_KEY;

#[tokio::test]
async fn each_connection_reports_its_own_problem() {
    let world = World::new().await;
    let more = r#"
[tenants.b]
api_keys = ["{OTHER_KEY}"]
[tenants.b.connections.gone]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "OTHER0000001"
access_token = "sandbox-wawp-token"
[tenants.b.connections.nobody]
provider = "linq"
base_url = "http://127.0.0.1:1"
token = "S3CRET"
[tenants.b.connections.wrong]
provider = "linq"
base_url = "{sandbox}/linq"
token = "S3CRET"
[tenants.b.connections.wrong2]
provider = "wawp"
base_url = "{sandbox}/wawp"
instance_id = "SANDBOX00001"
access_token = "S3CRET"
[tenants.b.connections.wrong3]
provider = "linq"
base_url = "{sandbox}/wawp"
token = "S3CRET"
"#;
    let more = more.replace("{OTHER_KEY}", OTHER_KEY);
    let answer = world.check_with(&["--online"], &[], r#"from = "+1 202 555 9876""#, &more).await;
    let lines = answer.about("tenants.");
    // The trace differs in each answer.
    let lines: Vec<&str> = lines.iter().map(|line| line.split(", trace ").next().unwrap_or(line)).collect();
    assert_eq!(
        lines,
        [
            "FAIL  tenants.a.connections.imessage: the line in from, +1202•••9876, is not on the account, which has 1 \
             line: +1205•••5597 HEALTHY; name one of these or leave from out (status 200",
            "ok    tenants.a.connections.whatsapp: instance WORKING",
            "FAIL  tenants.b.connections.gone: the provider knows no such session: check instance_id, or link the \
             session again (status 404, code invalid_session)",
            "FAIL  tenants.b.connections.nobody: no connection to the provider came about; check base_url, and that \
             this machine may reach it",
            "FAIL  tenants.b.connections.wrong: the provider refused the token; renew it (status 401, code 2004",
            "FAIL  tenants.b.connections.wrong2: the provider refused the access token; renew it (status 401, code \
             invalid_token)",
            "FAIL  tenants.b.connections.wrong3: the provider has nothing at this address; check base_url (status 404)",
        ]
    );
}

#[tokio::test]
async fn unlinked_session_is_reported_with_instructions() {
    let world = World::new().await;
    let scan = json!({"status": "SCAN_QR_CODE", "qr": "S3CRET"});
    world.fault(Provider::WAWP, Operation::Session, 200, Some(scan));
    let answer = world.check(&["--online"], "").await;
    assert_eq!(
        answer.about("tenants.a.connections.whatsapp"),
        [
            "FAIL  tenants.a.connections.whatsapp: the WhatsApp session is not linked; scan its QR code with the phone, \
             at the provider's dashboard (status 200, code SCAN_QR_CODE)"
        ]
    );
}

#[tokio::test]
async fn failing_provider_fails_the_check() {
    let world = World::new().await;
    world.fault(Provider::LINQ, Operation::Lines, 500, None);
    world.fault(Provider::WAWP, Operation::Session, 429, None);
    let answer = world.check(&["--online"], "").await;
    let [linq, wawp] = &answer.about("tenants.")[..] else { panic!("{:?}", answer.lines) };
    let fault = "FAIL  tenants.a.connections.imessage: the provider has a fault; try again later (status 500, code 3006, trace ";
    assert!(linq.starts_with(fault), "{linq}");
    assert_eq!(
        *wawp,
        "FAIL  tenants.a.connections.whatsapp: the provider limits the rate of this account; try again later (status \
         429, code too_many_requests)"
    );
}

#[tokio::test]
async fn unresponsive_provider_times_out() {
    let world = World::new().await;
    let stall = FaultAction::Stall { ms: None };
    world.sandbox.add_fault(Fault::new(Provider::LINQ, Operation::Lines, stall));
    let answer = world.check_with(&["--online"], &[], r#"timeout = "1s""#, "").await;
    assert_eq!(
        answer.about("tenants."),
        [
            "FAIL  tenants.a.connections.imessage: the provider gave no whole answer in time; check base_url, or try \
             again later",
            "ok    tenants.a.connections.whatsapp: instance WORKING",
        ]
    );
}

#[tokio::test]
async fn webhook_is_checked_like_real_deliveries() {
    let world = World::new().await;
    let hook = |name: &str, url: &str| {
        let hash = hex::encode(voicegate::config::hash_key(name));
        format!(
            "[tenants.{name}]\napi_keys = [\"sha256:{hash}\"]\nwebhook = {{ url = \"{url}\", secrets = [\"whsec_UzNDUkVUUzNDUkVUUzNDUkVU\"] }}\n"
        )
    };
    let fetch = "[fetch]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n";
    let more = [
        hook("answers", "{sandbox}/hooks/S3CRET?token=S3CRET"),
        hook("broken", "{sandbox}/linq/broken?token=S3CRET"),
        hook("moved", "{sandbox}/linq/moved?token=S3CRET"),
        hook("nobody", "http://127.0.0.1:1/hooks?token=S3CRET"),
        hook("tls", &world.sandbox_url.replace("http://", "https://")),
        fetch.to_owned(),
    ];
    for (path, status) in [("broken", 503), ("moved", 308)] {
        let action = FaultAction::Status { status, body: None, headers: BTreeMap::new(), retry_after: None };
        let fault = Fault::new(Provider::LINQ, Operation::Other, action);
        world.sandbox.add_fault(Fault { path: Some(path.to_owned()), ..fault });
    }
    let answer = world.check(&["--online"], &more.concat()).await;
    let hooks: Vec<&str> =
        answer.lines.iter().map(String::as_str).filter(|l| l.contains(".webhook: ")).collect();
    let secure = world.sandbox_url.replace("http://", "https://");
    assert_eq!(
        hooks,
        [
            "ok    tenants.answers.webhook: SANDBOX answers 404 Not Found to HEAD",
            "note  tenants.broken.webhook: SANDBOX answers 503 Service Unavailable; look at its log",
            "note  tenants.moved.webhook: SANDBOX answers 308 Permanent Redirect; redirects are not followed, name the \
             last address",
            "FAIL  tenants.nobody.webhook: http://127.0.0.1:1 does not answer (Connection refused (os error 111)); start \
             the bot, or let this machine reach it",
            &format!(
                "FAIL  tenants.tls.webhook: {secure} has faulty TLS (received corrupt message of type \
                 InvalidContentType); replace its certificate, or correct the port"
            ),
        ]
    );
}

#[tokio::test]
async fn public_url_must_lead_to_a_gateway() {
    let world = World::new().await;
    let ask = async |url: &str| {
        let answer = world.check_with(&["--online"], &[("VOICEGATE__SERVER__PUBLIC_URL", url)], "", "").await;
        answer.about("server.public_url").concat()
    };
    assert_eq!(
        ask(&format!("{}/base", world.sandbox_url)).await,
        "FAIL  server.public_url: SANDBOX answers 404 Not Found at /healthz, which is not the answer of a gateway; forward it to \
         server.listen (127.0.0.1:8080)"
    );
    let secure = world.sandbox_url.replace("http://", "https://");
    assert_eq!(
        ask(&secure).await,
        format!(
            "FAIL  server.public_url: {secure} has faulty TLS (received corrupt message of type InvalidContentType); \
             replace the certificate of the proxy in front, or correct the port"
        )
    );
    world.fault(Provider::LINQ, Operation::Other, 502, None);
    assert_eq!(
        ask(&format!("{}/linq", world.sandbox_url)).await,
        "note  server.public_url: SANDBOX answers 502 Bad Gateway; no gateway seems to run behind it at the moment"
    );
}
