//! The URL of a PostgreSQL database.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// The value of `storage.database`, checked for mistakes that sqlx would ignore.
///
/// # Errors
/// A sentence that says what was expected. It never contains the password.
pub fn postgres_options(url: &str) -> Result<PgConnectOptions, String> {
    const KNOWN: [&str; 7] = ["host", "port", "user", "dbname", "sslmode", "sslrootcert", "application_name"];
    let expected = "expected \"postgres://USER:PASSWORD@HOST/DATABASE\"";
    let parsed: url::Url = url.parse().map_err(|error| format!("{expected}: {error}"))?;
    for (key, _) in parsed.query_pairs() {
        if !KNOWN.contains(&key.as_ref()) {
            return Err(format!("there is no parameter \"{key}\"; known are {}", KNOWN.join(", ")));
        }
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| expected.to_owned())?;
    if options.get_database().is_none() {
        return Err(format!("{expected}; the name of the database is missing"));
    }
    Ok(match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("voicegate"),
    })
}
