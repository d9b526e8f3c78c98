//! File descriptors: how many clients they allow.

use rustix::process::{Resource, getrlimit};

/// Kept for the database, audio, ffmpeg, providers and webhooks; of a small limit a quarter.
const RESERVE: u64 = 1024;

/// How many clients may be connected at the same time: as many as are configured, where the process may open so many
/// files.
pub fn most_clients(configured: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let most = limit.map_or(configured, |limit| allowed(configured, limit));
    if most < configured {
        tracing::warn!(
            most,
            configured,
            limit,
            "server.max_clients: at most {most} clients at the same time, because the process may open few files; \
             raise LimitNOFILE"
        );
    }
    most
}

fn allowed(configured: usize, limit: u64) -> usize {
    let most = limit - RESERVE.min(limit / 4);
    configured.min(usize::try_from(most).unwrap_or(configured)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_everything_else() {
        for (configured, limit, most) in [
            (8192, 256, 192),
            (8192, 1024, 768),
            (8192, 4096, 3072),
            (8192, 20_000, 8192),
            (10, 1024, 10),
            (5, 0, 1),
        ] {
            assert_eq!(allowed(configured, limit), most, "{configured} of {limit}");
        }
    }
}
