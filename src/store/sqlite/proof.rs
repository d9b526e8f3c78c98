//! What a transaction leaves behind, by which it can be told whether it was committed.

use sqlx::SqliteConnection;

use crate::{
    model::note::{Note, NoteId},
    store::{Change, Claim, Received, Step, connection_key},
};

#[derive(Clone, Debug)]
pub enum Proof {
    /// There is a note of this id.
    Note(NoteId),
    /// The note's document reads like this.
    Document(NoteId, String),
    /// The delivery has this fence.
    Leased { delivery: i64, fence: i64 },
    /// The delivery is not under way with this fence any more.
    LetGo { delivery: i64, fence: i64 },
    /// The callback was taken in.
    Callback { connection: String, id: String },
}

impl Proof {
    /// Of a note that was saved as it is.
    pub fn saved(note: &Note) -> Option<Self> {
        Some(Self::Document(note.id, serde_json::to_string(note).ok()?))
    }

    pub fn leased(claim: &Claim) -> Self {
        Self::Leased { delivery: claim.delivery, fence: claim.fence }
    }

    pub fn let_go(claim: &Claim) -> Self {
        Self::LetGo { delivery: claim.delivery, fence: claim.fence }
    }

    pub fn written(claim: &Claim, change: &Change) -> Option<Self> {
        match change.step {
            Step::Progress | Step::Dispatching | Step::Again => Self::saved(&change.note),
            // Receipts may have changed the document further.
            Step::Retry { .. } | Step::Hold { .. } | Step::Done => Some(Self::let_go(claim)),
        }
    }

    /// All events of a callback are taken in together, so one speaks for them. A callback without any leaves nothing.
    pub fn received(received: &Received) -> Option<Self> {
        let connection = connection_key(&received.tenant, &received.connection);
        let id = received.events.first()?.id.clone();
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
            Self::LetGo { delivery, fence } => sqlx::query_scalar(
                "SELECT NOT EXISTS (SELECT 1 FROM deliveries
                                    WHERE id = $1 AND fence = $2 AND lease_until IS NOT NULL)",
            )
            .bind(delivery)
            .bind(fence),
            Self::Callback { connection, id } => sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM callbacks WHERE connection = $1 AND id = $2)",
            )
            .bind(connection)
            .bind(id),
        };
        query.fetch_one(connection).await
    }
}
