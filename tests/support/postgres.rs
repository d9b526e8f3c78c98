//! A PostgreSQL database for one test, on the server that `VOICEGATE_TEST_POSTGRES` names.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;
use uuid::Uuid;

const SERVER: &str = "VOICEGATE_TEST_POSTGRES";

/// Made for one test, and dropped with this.
pub struct Database {
    server: Url,
    name: String,
}

impl Database {
    /// `None` where there is no server; then the test has nothing to test.
    pub async fn make() -> Option<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            println!("skipped: {SERVER} names no PostgreSQL; scripts/with-postgres.sh starts one");
            return None;
        };
        let database = Self {
            server: server.parse().expect("a URL"),
            name: format!("voicegate_test_{}", Uuid::new_v4().simple()),
        };
        database.on_server("CREATE DATABASE").await;
        Some(database)
    }

    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    async fn on_server(&self, command: &str) {
        let with = if command.starts_with("DROP") { "WITH (FORCE)" } else { "" };
        let mut server = PgConnection::connect(self.server.as_str()).await.expect("the server");
        let statement = format!("{command} {} {with}", self.name);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.expect("executed");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The runtime of the test is about to end, and cannot be waited on from here.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(self.on_server("DROP DATABASE IF EXISTS"));
            });
        });
    }
}
