//! Ids of chats in Linq's dialect. A chat stands for a recipient, and its id is made of it and opened again, so no chat is
//! stored and every id survives a restart.
//!
//! An id is a UUID of version 8, whose 122 free bits are a tag and the recipient, encrypted under a pad that is derived
//! from the tag (as in SIV, RFC 5297). So an id shows no phone number, and one that was not given to this tenant is not
//! opened. Any other UUID is taken for the id of a chat at Linq itself.

use uuid::Uuid;

use crate::media::Links;

/// Bits of the recipient: its kind, and its digits as a number.
const KIND: u32 = 4;
const DIGITS: u32 = 60;
const CONTENT: u32 = KIND + DIGITS;
const TAG: u32 = 122 - CONTENT;

/// Kinds of recipients that are a number: what is before and after the digits. The place of each is a part of the ids of
/// its chats.
const KINDS: [(&str, &str); 7] = [
    ("+", ""),
    ("", "@g.us"),
    ("", "@lid"),
    ("", "@newsletter"),
    ("telegram:", ""),
    ("telegram:-", ""),
    ("meta:", ""),
];

/// Numbers of Discord are larger than others, and take two bits of the kind: 12 to 15.
const DISCORD: &str = "discord:";
const DISCORD_KIND: u64 = 12;

/// The id of a native chat of Linq in `to`.
const NATIVE: &str = "linq:";

/// The id of the chat with a recipient, in its canonical spelling. `None` for a recipient that an id has no room for.
pub fn chat_id(links: &Links, tenant: &str, to: &str) -> Option<Uuid> {
    if let Some(native) = to.strip_prefix(NATIVE) {
        return Uuid::try_parse(native).ok();
    }
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|number| number.to_string() == digits);
    let discord = to.strip_prefix(DISCORD).and_then(number).filter(|number| number >> DIGITS < 4);
    let content = discord.map(|number| (DISCORD_KIND << DIGITS) + number).or_else(|| {
        KINDS.iter().zip(0_u64..).find_map(|((before, after), kind)| {
            let number = number(to.strip_prefix(before)?.strip_suffix(after)?)?;
            (number < 1 << DIGITS).then_some(kind << DIGITS | number)
        })
    })?;
    let tag = tag(links, tenant, content);
    let sealed = u128::from(tag) << CONTENT | u128::from(content ^ pad(links, tag));
    Some(spread(sealed))
}

/// The recipient of a chat.
pub fn recipient(links: &Links, tenant: &str, chat: Uuid) -> String {
    ours(links, tenant, chat).unwrap_or_else(|| format!("{NATIVE}{chat}"))
}

fn ours(links: &Links, tenant: &str, chat: Uuid) -> Option<String> {
    let sealed = gather(chat)?;
    let sealed_tag = u64::try_from(sealed >> CONTENT).ok()?;
    let content = u64::try_from(sealed & ((1 << CONTENT) - 1)).ok()? ^ pad(links, sealed_tag);
    if tag(links, tenant, content) != sealed_tag {
        return None;
    }
    if content >> DIGITS >= DISCORD_KIND {
        return Some(format!("{DISCORD}{}", content - (DISCORD_KIND << DIGITS)));
    }
    let (before, after) = KINDS.get(usize::try_from(content >> DIGITS).ok()?)?;
    Some(format!("{before}{}{after}", content & ((1 << DIGITS) - 1)))
}

fn tag(links: &Links, tenant: &str, content: u64) -> u64 {
    let text = [&content.to_be_bytes()[..], tenant.as_bytes()].concat();
    first(&links.keyed_hash("linq chat", &text)) >> (u64::BITS - TAG)
}

fn pad(links: &Links, tag: u64) -> u64 {
    first(&links.keyed_hash("linq chat pad", &tag.to_be_bytes()))
}

fn first(hash: &[u8; 32]) -> u64 {
    hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Puts 122 bits around the version and the variant of a UUID (RFC 9562, section 5.8).
fn spread(bits: u128) -> Uuid {
    let high = bits >> 74;
    let middle = bits >> 62 & 0xfff;
    let low = bits & ((1 << 62) - 1);
    Uuid::from_u128(high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low)
}

fn gather(id: Uuid) -> Option<u128> {
    let bits = id.as_u128();
    let is_ours = bits >> 76 & 0xf == 8 && bits >> 62 & 0b11 == 0b10;
    is_ours.then_some(bits >> 80 << 74 | (bits >> 64 & 0xfff) << 62 | bits & ((1 << 62) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links() -> Links {
        Links::new([7; 32])
    }

    #[test]
    fn recipient_of_a_chat_is_found_again() {
        for to in [
            "+15551234567",
            "+999999999999999",
            "+1234567",
            "120363000000000000@g.us",
            "123456789012345@lid",
            "120363000000000000@newsletter",
            "telegram:123456789",
            "telegram:-1001234567890",
            "meta:15551234567",
            "discord:80351110224678912",
            "discord:1234567890123456789",
            "discord:4611686018427387903",
            "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd",
        ] {
            let id = chat_id(&links(), "a", to).expect("an id");
            assert_eq!(recipient(&links(), "a", id), to);
            assert_eq!(chat_id(&links(), "a", to), Some(id), "the id of a chat stays the same");
        }
        for to in [
            "ann@example.com",
            "alias:family",
            "4915112345678-1546300800@g.us",
            "+",
            "@g.us",
            "+00",
            "telegram:@news",
            "discord:4611686018427387904",
        ] {
            assert_eq!(chat_id(&links(), "a", to), None, "{to}");
        }
    }

    #[test]
    fn id_is_opened_only_for_its_tenant_and_shows_no_number() {
        let id = chat_id(&links(), "a", "+15551234567").expect("an id");
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!(recipient(&links(), "b", id), format!("linq:{id}"));
        assert_eq!(recipient(&Links::new([8; 32]), "a", id), format!("linq:{id}"));
        let next = chat_id(&links(), "a", "+15551234568").expect("an id");
        assert!((id.as_u128() ^ next.as_u128()).count_ones() > 20, "{id} {next}");
    }

    proptest! {
        #[test]
        fn bits_are_spread_and_gathered(bits in 0_u128..1 << 122) {
            prop_assert_eq!(gather(spread(bits)), Some(bits));
        }

        #[test]
        fn every_number_has_a_chat(number in 1_000_000_u64..1_000_000_000_000_000) {
            let to = format!("+{number}");
            let id = chat_id(&links(), "a", &to).expect("an id");
            prop_assert_eq!(recipient(&links(), "a", id), to);
        }
    }
}
