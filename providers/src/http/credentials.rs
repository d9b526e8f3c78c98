//! The credentials of a connection, in the place that the recipe's `auth` names.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::SecretString;

use super::{
    draft::Header,
    recipe::Auth,
    template::{Template, Values, escaped},
};

/// A shorter text is no secret, and would be taken out of every sentence.
pub(super) const MIN_SECRET: usize = 6;

#[derive(Default)]
pub(super) struct Credentials {
    pub headers: Vec<Header>,
    /// A parameter of the query: its name and its value, both escaped.
    pub query: Option<(String, String)>,
    /// The parts of the headers, one of which a provider may repeat in its words.
    pub secrets: Vec<SecretString>,
}

impl Credentials {
    /// `fixed` has the values that the recipe needs, or stand-ins for them.
    pub fn new(auth: Option<&Auth>, fixed: &Values) -> Self {
        let mut credentials = Self::default();
        let Some(auth) = auth else { return credentials };
        let value = |template: &Template| template.text(fixed).unwrap_or_default();
        if let Some(token) = &auth.bearer {
            credentials.add("authorization", format!("Bearer {}", value(token)));
        }
        if let Some((name, token)) = &auth.header {
            credentials.add(name, value(token));
        }
        if let Some((user, password)) = &auth.basic {
            let pair = format!("{}:{}", value(user), value(password));
            let pair =
                if fixed.masked { format!("[base64 of {pair}]") } else { BASE64_STANDARD.encode(pair) };
            credentials.add("authorization", format!("Basic {pair}"));
        }
        if let Some((name, token)) = &auth.query {
            let token = value(token);
            let shown = if fixed.masked { token } else { escaped(&token) };
            credentials.query = Some((escaped(name), shown));
        }
        credentials
    }

    fn add(&mut self, name: &str, value: String) {
        let parts = value.split(' ').filter(|part| part.len() >= MIN_SECRET);
        self.secrets.extend(parts.map(SecretString::from));
        self.headers.push(Header { name: name.to_owned(), value, is_secret: true });
    }
}
