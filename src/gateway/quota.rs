//! Checks whether a tenant may store more audio.

use super::Gateway;
use crate::{
    media::quota::{Arriving, Usage},
    model::problem::Problem,
};

impl Gateway {
    /// Checks whether a tenant may store `bytes` of audio in addition, which count as stored until the returned value
    /// is dropped. Zero stands for an unknown size.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub async fn room_for(&self, tenant: &str, bytes: u64) -> Result<Arriving, Problem> {
        // The bytes count before the stored ones are read, so that a concurrent request that is being committed is not
        // missed.
        let arriving = self.quotas.arrive(tenant, bytes);
        let live = self.live();
        let quota = live.tenants.get(tenant).and_then(|tenant| tenant.max_storage);
        let room = if quota.is_none() { self.quotas.short_room() } else { None };
        if quota.is_none() && room.is_none() {
            return Ok(arriving);
        }
        let kept = self.store.kept_audio().await?;
        let usage = Usage { tenant, kept: &kept, tenants: live.tenants.iter().count() };
        match (quota, room) {
            (Some(quota), _) => self.quotas.judge(&arriving, &usage, quota)?,
            (None, Some(room)) => self.quotas.judge_share(&usage, room)?,
            (None, None) => {}
        }
        Ok(arriving)
    }
}
