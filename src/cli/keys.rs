//! `voicegate keys new` and `voicegate keys webhook`

use std::process::ExitCode;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use crate::config::hash_key;

/// 256 random bits, with a prefix by which secret scanners and people know what it is.
pub fn generate() -> String {
    format!("vg_{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

pub fn new() -> ExitCode {
    let key = generate();
    println!("{key}");
    eprintln!(
        "\nGive the line above to the bot; it is not shown again. In the configuration of its tenant:\n"
    );
    eprintln!("api_keys = [\"sha256:{}\"]", hex::encode(hash_key(&key)));
    ExitCode::SUCCESS
}

/// A secret of Standard Webhooks: <https://github.com/standard-webhooks/standard-webhooks>
pub fn webhook() -> ExitCode {
    println!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()));
    eprintln!(
        "\nGive the line above to the bot, which verifies events with it. In the configuration of its tenant:\n"
    );
    eprintln!("webhook = {{ url = \"https://...\", secrets = [{{ env = \"WEBHOOK_SECRET\" }}] }}");
    ExitCode::SUCCESS
}
