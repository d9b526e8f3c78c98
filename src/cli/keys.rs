//! `voicegate keys new` and `voicegate keys webhook`

use std::process::ExitCode;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};

use super::out;
use crate::config::hash_key;

/// Makes a key of 256 random bits, with a prefix by which people and secret scanners recognise it.
pub fn generate() -> String {
    format!("vg_{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

pub fn new() -> anyhow::Result<ExitCode> {
    let key = generate();
    out::line(&key)?;
    out::remark(
        "\nGive the line above to the bot; it is not shown again. In the configuration of its tenant:\n",
    );
    out::remark(format_args!("api_keys = [\"sha256:{}\"]", hex::encode(hash_key(&key))));
    Ok(ExitCode::SUCCESS)
}

/// Makes a secret for Standard Webhooks: <https://github.com/standard-webhooks/standard-webhooks>
pub fn generate_webhook() -> String {
    format!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>()))
}

pub fn webhook() -> anyhow::Result<ExitCode> {
    out::line(generate_webhook())?;
    out::remark(
        "\nGive the line above to the bot, which verifies events with it. In the configuration of its tenant:\n",
    );
    out::remark("webhook = { url = \"https://...\", secrets = [{ env = \"WEBHOOK_SECRET\" }] }");
    Ok(ExitCode::SUCCESS)
}
