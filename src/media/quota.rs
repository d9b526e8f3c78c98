//! How much audio a tenant may keep: its quota, or without one its share of a disk on which room is short.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    config::{Media, Storage},
    media::disk,
    model::{code::Code, problem::Problem},
};

/// Room is short where less is free than so many times `storage.min_free`.
const SHORT: u64 = 5;

/// Audio that is on its way in, by tenant, and the disk that it goes to.
pub struct Quotas {
    arriving: Mutex<HashMap<String, u64>>,
    /// Where audio fills a disk of this machine.
    folders: Vec<PathBuf>,
    min_free: u64,
    free: fn(&Path) -> io::Result<u64>,
}

/// Bytes that count as kept until this is dropped: by then they are, or never will be.
#[derive(Debug)]
pub struct Arriving {
    quotas: Arc<Quotas>,
    tenant: String,
    bytes: u64,
}

/// Who asks, and what is kept so far.
pub struct Usage<'a> {
    pub tenant: &'a str,
    /// By tenant.
    pub kept: &'a [(String, u64)],
    /// Of the configuration.
    pub tenants: usize,
}

impl Quotas {
    pub fn new(storage: &Storage) -> Self {
        let folders = match &storage.media {
            Media::Folder(folder) => {
                Some(folder.clone()).into_iter().chain(storage.database_folder()).collect()
            }
            // What a bucket has left is nowhere to be read.
            Media::Bucket { .. } => Vec::new(),
        };
        Self { arriving: Mutex::default(), folders, min_free: storage.min_free.0, free: disk::free }
    }

    /// Counts bytes as kept that are about to be.
    pub fn arrive(self: &Arc<Self>, tenant: &str, bytes: u64) -> Arriving {
        *self.lock().entry(tenant.to_owned()).or_default() += bytes;
        Arriving { quotas: self.clone(), tenant: tenant.to_owned(), bytes }
    }

    /// How much more may be written before `storage.min_free` is reached, where that is little. Where it is reached, there
    /// is nothing to share: nobody may store anything.
    pub fn short_room(&self) -> Option<u64> {
        let free = self.folders.iter().filter_map(|folder| (self.free)(folder).ok()).min()?;
        let room = free.saturating_sub(self.min_free);
        (free < self.min_free.saturating_mul(SHORT) && room > 0).then_some(room)
    }

    /// Whether what arrives for a tenant fits into its quota.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub fn judge(&self, arriving: &Arriving, usage: &Usage<'_>, quota: u64) -> Result<(), Problem> {
        let used = self.used(usage);
        // Nothing fits where nothing is left, whatever size it turns out to have.
        if used > quota || (arriving.bytes == 0 && used >= quota) {
            let detail = "this tenant keeps as much audio as its max_storage allows; delete uploads, erase notes that \
                          have ended, or wait until some were kept for long enough";
            return Err(Problem::new(Code::QuotaExceeded, detail));
        }
        Ok(())
    }

    /// Whether a tenant without a quota may keep more although only `room` is left: no more than is left then for the
    /// others, or half of an even share.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub fn judge_share(&self, usage: &Usage<'_>, room: u64) -> Result<(), Problem> {
        let used = self.used(usage);
        let left = room.saturating_sub(self.lock().values().sum());
        let others = usage.kept.iter().filter(|(tenant, bytes)| tenant != usage.tenant && *bytes > 0).count();
        let sharing = u64::try_from((others + 1).max(2)).unwrap_or(u64::MAX);
        let all = usage.kept.iter().map(|(_, bytes)| bytes).sum::<u64>().saturating_add(room);
        if usage.tenants > 1 && used > left.max(all / (2 * sharing)) {
            let detail = "room for audio is short, and this tenant keeps more than its share; delete uploads, erase notes \
                          that have ended, or wait until some were kept for long enough";
            return Err(Problem::new(Code::QuotaExceeded, detail));
        }
        Ok(())
    }

    /// What the tenant keeps, what arrives included.
    fn used(&self, usage: &Usage<'_>) -> u64 {
        let kept =
            usage.kept.iter().find(|(tenant, _)| tenant == usage.tenant).map_or(0, |(_, bytes)| *bytes);
        kept.saturating_add(self.lock().get(usage.tenant).copied().unwrap_or_default())
    }

    /// Plain numbers, which no panic leaves half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let mut arriving = self.quotas.lock();
        if let Some(bytes) = arriving.get_mut(&self.tenant) {
            *bytes = bytes.saturating_sub(self.bytes);
        }
        arriving.retain(|_, bytes| *bytes > 0);
    }
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas").field("min_free", &self.min_free).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn quotas(free: fn(&Path) -> io::Result<u64>) -> Arc<Quotas> {
        let folders = vec![PathBuf::from("media")];
        Arc::new(Quotas { arriving: Mutex::default(), folders, min_free: 100 * MIB, free })
    }

    fn usage<'a>(tenant: &'a str, kept: &'a [(String, u64)]) -> Usage<'a> {
        Usage { tenant, kept, tenants: 3 }
    }

    fn kept(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(tenant, mib)| ((*tenant).to_owned(), mib * MIB)).collect()
    }

    #[test]
    fn what_arrives_counts_until_it_is_kept_or_gone() {
        let quotas = quotas(|_| Ok(u64::MAX));
        let kept = kept(&[("a", 6), ("b", 90)]);
        let first = quotas.arrive("a", 3 * MIB);
        quotas.judge(&first, &usage("a", &kept), 10 * MIB).expect("nine of ten");
        let second = quotas.arrive("a", 2 * MIB);
        let problem = quotas.judge(&second, &usage("a", &kept), 10 * MIB).expect_err("eleven of ten");
        assert_eq!((problem.code.as_str(), problem.status), ("quota_exceeded", 507));
        drop(first);
        quotas.judge(&second, &usage("a", &kept), 10 * MIB).expect("eight of ten");
        drop(second);
        assert!(quotas.lock().is_empty());
        let unknown = quotas.arrive("a", 0);
        quotas.judge(&unknown, &usage("a", &kept), 6 * MIB).expect_err("full");
        quotas.judge(&unknown, &usage("a", &kept), 7 * MIB).expect("not full");
    }

    #[test]
    fn room_is_short_below_five_times_the_least() {
        assert_eq!(quotas(|_| Ok(500 * MIB)).short_room(), None);
        assert_eq!(quotas(|_| Ok(499 * MIB)).short_room(), Some(399 * MIB));
        assert_eq!(quotas(|_| Ok(9)).short_room(), None);
        assert_eq!(quotas(|_| Err(io::ErrorKind::Unsupported.into())).short_room(), None);
    }

    /// One tenant uploads for as long as it may; then others still find room, and so do further ones.
    #[test]
    fn no_tenant_takes_the_room_of_all_others() {
        let (size, mut room, mut kept) = (20 * MIB, 260 * MIB, kept(&[]));
        let quotas = quotas(|_| Ok(0));
        let mut stored = Vec::new();
        for tenant in ["greedy", "second", "third"] {
            let mut count = 0;
            loop {
                let arriving = quotas.arrive(tenant, size);
                if size > room || quotas.judge_share(&usage(tenant, &kept), room).is_err() {
                    break;
                }
                drop(arriving);
                room -= size;
                count += 1;
                match kept.iter_mut().find(|(known, _)| known == tenant) {
                    Some((_, bytes)) => *bytes += size,
                    None => kept.push((tenant.to_owned(), size)),
                }
            }
            stored.push(count);
        }
        assert_eq!(stored, [6, 3, 2], "{room} left");
    }

    #[test]
    fn who_keeps_little_is_let_in_although_somebody_keeps_nearly_everything() {
        let quotas = quotas(|_| Ok(0));
        let kept = kept(&[("greedy", 9000), ("modest", 300)]);
        let _arriving = quotas.arrive("modest", MIB);
        quotas.judge_share(&usage("modest", &kept), 100 * MIB).expect("below half of an even share");
        quotas.judge_share(&usage("greedy", &kept), 100 * MIB).expect_err("above");
        let alone = Usage { tenants: 1, ..usage("greedy", &kept) };
        quotas.judge_share(&alone, 100 * MIB).expect("there is nobody to share with");
    }
}
