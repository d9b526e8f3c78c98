//! `cargo run -p voicegate-sandbox --example serve [ADDRESS]`: the sandbox alone, with its default credentials.

use voicegate_sandbox::{Sandbox, SandboxOptions};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9090".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("inbox: http://{}/", listener.local_addr()?);
    Sandbox::new(SandboxOptions::default()).serve(listener).await;
    Ok(())
}
