//! The evidence by which a failed commit is checked: a row that exists only if it was made.

use sqlx::SqliteConnection;

use crate::{
    model::{
        id::ReceivedId,
        note::{Note, NoteId},
    },
    store::{Change, Claim, Claims, JobLease, ReceiptBatch, ReceiptOutcome, Step, connection_key},
};

#[derive(Clone, Debug)]
pub enum Proof {
    /// A note with this id exists.
    Note(NoteId),
    /// The note has this document.
    Document(NoteId, String),
    /// The delivery has this fence.
    Leased { delivery: i64, fence: i64 },
    /// The delivery is no longer leased with this fence.
    LeaseEnded { delivery: i64, fence: i64 },
    /// A received note with this id exists.
    Received(ReceivedId),
    /// The callback was processed.
    Callback { connection: String, id: String },
}

impl Proof {
    /// Proof of a saved note.
    pub fn saved(note: &Note) -> Option<Self> {
        Some(Self::Document(note.id, serde_json::to_string(note).ok()?))
    }

    pub fn leased(claims: &Claims) -> Option<Self> {
        claims.leases().next().map(|(delivery, fence)| Self::Leased { delivery, fence })
    }

    pub fn job_ended(lease: &JobLease) -> Self {
        Self::LeaseEnded { delivery: lease.delivery, fence: lease.fence }
    }

    pub fn lease_ended(claim: &Claim) -> Self {
        Self::LeaseEnded { delivery: claim.delivery, fence: claim.fence }
    }

    pub fn written(claim: &Claim, change: &Change) -> Option<Self> {
        match change.step {
            Step::Progress | Step::Dispatching | Step::Again => Self::saved(&change.note),
            // Receipts may have changed the document further, so the lease is checked instead.
            Step::Retry { .. } | Step::Hold { .. } | Step::Done => Some(Self::lease_ended(claim)),
        }
    }

    /// All events of a callback are processed together, so one is enough. A callback without any leaves no trace.
    pub fn received(received: &ReceiptBatch, reception: &ReceiptOutcome) -> Option<Self> {
        if let Some(&id) = reception.received.first() {
            return Some(Self::Received(id));
        }
        let connection = connection_key(&received.tenant, &received.connection);
        let id = received.receipts.first()?.id.clone();
        Some(Self::Callback { connection, id })
    }

    pub async fn look(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let query = match self {
            Self::Note(id) => {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM notes WHERE id = $1)").bind(id.to_string())
            }
            Self::Document(id, doc) => {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM notes WHERE id = $1 AND doc = $2)")
                    .bind(id.to_string())
                    .bind(doc)
            }
            Self::Leased { delivery, fence } => {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = $1 AND fence = $2)")
                    .bind(delivery)
                    .bind(fence)
            }
            Self::LeaseEnded { delivery, fence } => sqlx::query_scalar(
                "SELECT NOT EXISTS (SELECT 1 FROM deliveries
                                    WHERE id = $1 AND fence = $2 AND lease_until IS NOT NULL)",
            )
            .bind(delivery)
            .bind(fence),
            Self::Received(id) => sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM received WHERE id = $1)")
                .bind(id.to_string()),
            Self::Callback { connection, id } => sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM callbacks WHERE connection = $1 AND id = $2)",
            )
            .bind(connection)
            .bind(id),
        };
        query.fetch_one(connection).await
    }
}
