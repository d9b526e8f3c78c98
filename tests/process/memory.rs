//! Tests of the memory that a busy gateway uses.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use voicegate_sandbox::{Fault, FaultAction, Operation, Provider};

use crate::gateway::{KEY, Process};

/// Returns the peak resident set in bytes. Page cache and child processes are not included.
#[cfg(target_os = "linux")]
pub fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// Creates a WAV file of a tone, `size` bytes in all.
pub fn wav(size: u32) -> Bytes {
    let data = size - 44;
    let mut wav = Vec::with_capacity(size as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(size - 8).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    wav.extend_from_slice(&data.to_le_bytes());
    wav.extend((0..data / 2).flat_map(|n| (((f64::from(n) * 0.2).sin() * 8000.0) as i16).to_le_bytes()));
    wav.into()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn hundred_concurrent_uploads_of_ten_megabytes_take_little_memory() {
    let process = Process::with(|config| config.replace("_timeout = \"1s\"", "_timeout = \"30s\"")).await;
    // Nothing is sent to the provider, or this process would have to hold it all.
    process
        .sandbox
        .add_fault(Fault::new(Provider::LINQ, Operation::Chats, FaultAction::Stall { ms: None }).times(200));
    let before = peak(process.pid());
    let audio = wav(10_000_000);
    let uploads = stream::iter(0..100).map(|n| {
        let url = format!("{}/voice?to=%2B1555{n:07}", process.url);
        let request =
            process.http.post(url).bearer_auth(KEY).header("content-type", "audio/wav").body(audio.clone());
        async move { request.send().await.expect("an answer").status().as_u16() }
    });
    let answers: Vec<u16> = uploads.buffer_unordered(100).collect().await;
    assert_eq!(answers, [202; 100]);
    let peak = peak(process.pid());
    println!("peak: {} MB before, {} MB after", before / 1_000_000, peak / 1_000_000);
    assert!(peak <= 200_000_000, "{peak} bytes");
    let incoming = std::fs::read_dir(process.folder.path().join("media/incoming")).expect("a folder").count();
    assert_eq!(incoming, 0);
}
