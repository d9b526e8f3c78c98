//! Limits on the audio that a tenant may store: its quota or, without a quota, its share of a disk that is nearly full.

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

/// Multiple of `storage.min_free` below which room is short.
const SHORT: u64 = 5;

/// Bytes of incoming audio by tenant, and the disks on which audio is stored.
pub struct Quotas {
    arriving: Mutex<HashMap<String, u64>>,
    /// Folders on disks of this machine that audio fills.
    folders: Vec<PathBuf>,
    min_free: u64,
    free: fn(&Path) -> io::Result<u64>,
}

/// Bytes that count as stored until this value is dropped. By then they are stored, or were abandoned.
#[derive(Debug)]
pub struct Arriving {
    quotas: Arc<Quotas>,
    tenant: String,
    bytes: u64,
}

/// A tenant that wants to store audio, and the bytes stored so far.
pub struct Usage<'a> {
    pub tenant: &'a str,
    /// Stored bytes by tenant.
    pub kept: &'a [(String, u64)],
    /// Number of configured tenants.
    pub tenants: usize,
}

impl Quotas {
    pub fn new(storage: &Storage) -> Self {
        let folders = match &storage.media {
            Media::Folder(folder) => {
                Some(folder.clone()).into_iter().chain(storage.database_folder()).collect()
            }
            // A bucket does not report its free space.
            Media::Bucket { .. } => Vec::new(),
        };
        Self { arriving: Mutex::default(), folders, min_free: storage.min_free.0, free: disk::free }
    }

    /// Counts bytes as stored that are about to be.
    pub fn arrive(self: &Arc<Self>, tenant: &str, bytes: u64) -> Arriving {
        *self.lock().entry(tenant.to_owned()).or_default() += bytes;
        Arriving { quotas: self.clone(), tenant: tenant.to_owned(), bytes }
    }

    /// Bytes that may be written before `storage.min_free` is reached, if few are left. Returns `None` if it is reached
    /// already, because then nobody may store anything.
    pub fn short_room(&self) -> Option<u64> {
        let free = self.folders.iter().filter_map(|folder| (self.free)(folder).ok()).min()?;
        let room = free.saturating_sub(self.min_free);
        (free < self.min_free.saturating_mul(SHORT) && room > 0).then_some(room)
    }

    /// Checks whether incoming audio fits the quota of a tenant.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub fn judge(&self, arriving: &Arriving, usage: &Usage<'_>, quota: u64) -> Result<(), Problem> {
        let used = self.used(usage);
        // With a full quota nothing fits, whatever its size will be.
        if used > quota || (arriving.bytes == 0 && used >= quota) {
            let detail = "this tenant keeps as much audio as its max_storage allows; delete uploads, erase notes that \
                          have ended, or wait until some were kept for long enough";
            return Err(Problem::new(Code::QuotaExceeded, detail));
        }
        Ok(())
    }

    /// Checks whether a tenant without a quota may store more although only `room` is left: up to the room that then
    /// remains for others, or up to half of an equal share.
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

    /// Bytes that the tenant stores, including incoming ones.
    fn used(&self, usage: &Usage<'_>) -> u64 {
        let kept =
            usage.kept.iter().find(|(tenant, _)| tenant == usage.tenant).map_or(0, |(_, bytes)| *bytes);
        kept.saturating_add(self.lock().get(usage.tenant).copied().unwrap_or_default())
    }

    /// A panic cannot leave these numbers half updated, so a poisoned lock is safe to use.
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
    fn incoming_audio_counts_against_the_quota() {
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
    fn room_is_short_below_five_times_min_free() {
        assert_eq!(quotas(|_| Ok(500 * MIB)).short_room(), None);
        assert_eq!(quotas(|_| Ok(499 * MIB)).short_room(), Some(399 * MIB));
        assert_eq!(quotas(|_| Ok(9)).short_room(), None);
        assert_eq!(quotas(|_| Err(io::ErrorKind::Unsupported.into())).short_room(), None);
    }

    /// One tenant uploads as much as it may. Then others still find room, and so do further ones.
    #[test]
    fn one_tenant_cannot_use_all_remaining_space() {
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
    fn small_tenant_may_store_beside_a_large_one() {
        let quotas = quotas(|_| Ok(0));
        let kept = kept(&[("greedy", 9000), ("modest", 300)]);
        let _arriving = quotas.arrive("modest", MIB);
        quotas.judge_share(&usage("modest", &kept), 100 * MIB).expect("below half of an even share");
        quotas.judge_share(&usage("greedy", &kept), 100 * MIB).expect_err("above");
        let alone = Usage { tenants: 1, ..usage("greedy", &kept) };
        quotas.judge_share(&alone, 100 * MIB).expect("there is nobody to share with");
    }
}
