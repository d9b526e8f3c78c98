//! Whether a tenant may keep more audio.

use super::Gateway;
use crate::{
    media::quota::{Arriving, Usage},
    model::problem::Problem,
};

impl Gateway {
    /// Whether a tenant may keep so much more audio; it counts as kept until the answer is dropped. Zero: as much as it
    /// turns out to be.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub async fn room_for(&self, tenant: &str, bytes: u64) -> Result<Arriving, Problem> {
        // Counted before what is kept is read, so that no other request is overlooked that is just being committed.
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
