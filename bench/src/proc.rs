//! Figures of processes, from Linux: <https://man7.org/linux/man-pages/man5/proc.5.html>.

use std::{fs, path::Path};

use anyhow::Context;

/// Ticks per second in `/proc/PID/stat` and `/proc/stat`.
const TICKS: f64 = 100.0;

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Busy {
    /// Processor time of the process itself.
    pub own: f64,
    /// Processor time of its children that have ended.
    pub children: f64,
}

impl Busy {
    pub fn since(self, before: Self) -> Self {
        Self { own: self.own - before.own, children: self.children - before.children }
    }

    pub fn all(self) -> f64 {
        self.own + self.children
    }
}

/// Processor time that a process used so far; `None` where that cannot be read.
pub fn busy(pid: u32) -> Option<Busy> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let seconds = |user, system| Some((ticks(user)? + ticks(system)?) / TICKS);
    Some(Busy { own: seconds(11, 12)?, children: seconds(13, 14)? })
}

/// Time of all processors so far, busy and idle, in seconds; `None` where that cannot be read.
pub fn machine() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let numbers: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|number| number.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; what guests used is part of user.
    let [user, nice, system, idle, waiting, irq, softirq, steal, ..] = numbers[..] else { return None };
    Some(((user + nice + system + irq + softirq + steal) / TICKS, (idle + waiting) / TICKS))
}

/// A figure of `/proc/PID/status`, such as `VmRSS:`, in bytes.
pub fn memory(pid: u32, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such figure")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// From here on `VmHWM:` is the peak since now.
pub fn forget_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot be forgotten")
}

/// The processes that a process has started and that are still there.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    // Each thread has those that it started.
    tasks
        .into_iter()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
