//! The recipes that come with voicegate: `recipe = "NAME"` in a connection.

/// Name and text of each.
pub(super) const RECIPES: &[(&str, &str)] = &[
    ("gowa", include_str!("../../recipes/gowa.toml")),
    ("line", include_str!("../../recipes/line.toml")),
    ("loopmessage", include_str!("../../recipes/loopmessage.toml")),
    ("sendblue", include_str!("../../recipes/sendblue.toml")),
    ("twilio-whatsapp", include_str!("../../recipes/twilio-whatsapp.toml")),
    ("ultramsg", include_str!("../../recipes/ultramsg.toml")),
    ("whapi", include_str!("../../recipes/whapi.toml")),
    ("wuzapi", include_str!("../../recipes/wuzapi.toml")),
    ("z-api", include_str!("../../recipes/z-api.toml")),
];

pub(super) fn find(name: &str) -> Option<&'static str> {
    RECIPES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
