//! Metrics that the kernel provides about this process. They are available on Linux only.

use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};

use super::names::{
    PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_MEMORY, PROCESS_START, PROCESS_THREADS,
};

/// `USER_HZ`, the unit in which the kernel reports times: 100 on every platform of Rust on Linux.
/// <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
const TICKS: f64 = 100.0;

pub fn read(registry: &mut Registry) {
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        PROCESS_MAX_FDS.read(registry, [([], limit as f64)]);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is open for this reading.
        PROCESS_FDS.read(registry, [([], open.count().saturating_sub(1) as f64)]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
    };
    if let Some(kib) = line("VmRSS:") {
        PROCESS_MEMORY.read(registry, [([], kib * 1024.0)]);
    }
    if let Some(threads) = line("Threads:") {
        PROCESS_THREADS.read(registry, [([], threads)]);
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may contain anything. Numbers follow it, from the third field on.
    let fields: Vec<f64> = stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| {
        rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()
    });
    let field = |number: usize| fields.get(number - 3).copied();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        PROCESS_CPU.read(registry, (user + system) / TICKS);
    }
    let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(boot), Some(start)) = (boot, field(22)) {
        PROCESS_START.read(registry, [([], boot + start / TICKS)]);
    }
}
