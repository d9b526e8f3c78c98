//! The API keys of the tests: made by `voicegate keys new`, since the configuration takes no others.

/// Of tenant `a`.
pub const KEY: &str = "vg_T8nX2qv0cJ5hRk1yZbWm7sLpE4uGfAoD9iNtQxYwV3c";
/// Of nobody, until it replaces another.
#[allow(dead_code, reason = "only some tests replace a key")]
pub const NEW_KEY: &str = "vg_q3WzN8eKcT1vYbR6hXjP0mSfU5gLdA9iO2aQxJ7tHrE";
/// Of tenant `b`.
#[allow(dead_code, reason = "only some tests have a second tenant")]
pub const OTHER_KEY: &str = "vg_e6HjC0rPzK9wUaM3gXvB7dYtS2oLnQf8iV5cRk1xTbE";
