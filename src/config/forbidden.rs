//! Describes which rule of `[fetch]` an address breaks, and how to allow it.

use voicegate_providers::guard::{AddressRules, Forbidden};

/// Continues a sentence that begins with the address.
pub fn way_out(why: &Forbidden, rules: &AddressRules) -> String {
    match why {
        Forbidden::Scheme => "is not https; use https, or set fetch.allow_http".to_owned(),
        Forbidden::Credentials => {
            "comes with a user name or password; leave them out, events are signed instead".to_owned()
        }
        Forbidden::NoHost => "names no host".to_owned(),
        Forbidden::Address => {
            let but = if rules.allow_networks.is_empty() { "" } else { ", nor in fetch.allow_networks" };
            format!(
                "is not on the public internet{but}; use a public address, or add its network to fetch.allow_networks"
            )
        }
    }
}
