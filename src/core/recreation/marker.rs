//! Markers: the name of a replacement says what it replaces, so that it is recognized without the store.

use std::fmt;

use strum::VariantArray as _;

use crate::core::world::instance::{Instance, InstanceId};

/// What stands between the base of a name and the short id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(const_into_str)]
pub enum Mark {
    #[strum(serialize = "-recreated-")]
    Recreated,
    /// Of an on-demand instance that stands in for a spot instance.
    #[strum(serialize = "-bridge-")]
    Bridge,
}

/// Whether this is the name of an on-demand instance that stands in for a spot instance.
#[must_use]
pub fn is_bridge(name: &str) -> bool {
    Origin::after(Mark::Bridge, name).is_some()
}

/// The greatest length of a name in characters (`novita-api.md` section 2.3).
const LONGEST_NAME: usize = 255;

/// Characters of a marker's first part, which the old instance alone decides.
const ORIGIN_LENGTH: usize = 8;
/// Characters of its second part, which the failed job decides.
const CAUSE_LENGTH: usize = 4;

/// The part of a marker that says which instance it replaces: 40 bits of the id's hash. The id alone is enough to derive
/// it, so that a replacement is recognized even with an empty store and after the failed job has left the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin([u8; ORIGIN_LENGTH]);

impl Origin {
    /// Of an instance that is, or might be, replaced.
    #[must_use]
    pub fn of(id: &InstanceId) -> Self {
        Self(letters(hash(&[id.as_str()])))
    }

    /// Of what an instance replaces, if it has a marker.
    #[must_use]
    pub fn replaced_by(instance: &Instance) -> Option<Self> {
        Self::in_name(instance.marker.as_deref()?)
    }

    /// Reads it from the name of a replacement; `None` if the name has no marker.
    #[must_use]
    pub fn in_name(name: &str) -> Option<Self> {
        Mark::VARIANTS.iter().find_map(|mark| Self::after(*mark, name))
    }

    fn after(mark: Mark, name: &str) -> Option<Self> {
        let (before, id) = name.split_at_checked(name.len().checked_sub(ORIGIN_LENGTH + CAUSE_LENGTH)?)?;
        if !before.ends_with(mark.into_str()) || !id.bytes().all(|byte| LETTERS.contains(&byte)) {
            return None;
        }
        id.as_bytes().first_chunk().copied().map(Self)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The name of the replacement: `<base>-recreated-<short id>`, the short id from the old instance and what decided that
/// there is to be one: its failed job, or a rollout.
#[must_use]
pub fn replacement_name(old: &InstanceId, old_name: &str, decided_by: &str) -> String {
    marked_name(Mark::Recreated, old, old_name, decided_by)
}

/// The same with another mark.
#[must_use]
pub fn marked_name(mark: Mark, old: &InstanceId, old_name: &str, decided_by: &str) -> String {
    let mark = mark.into_str();
    let Origin(origin) = Origin::of(old);
    let cause: [u8; CAUSE_LENGTH] = letters(hash(&[old.as_str(), decided_by]));
    let base = base_of(old_name);
    let base = if base.is_empty() { old.as_str() } else { base };
    let room = LONGEST_NAME - mark.len() - ORIGIN_LENGTH - CAUSE_LENGTH;
    let base: String = base.chars().take(room).collect();
    format!("{base}{mark}{}{}", String::from_utf8_lossy(&origin), String::from_utf8_lossy(&cause))
}

/// The letters that end a marker, for providers that keep them in a tag.
#[must_use]
pub fn letters_of_marker(marker: &str) -> Option<&str> {
    Origin::in_name(marker)?;
    marker.get(marker.len() - ORIGIN_LENGTH - CAUSE_LENGTH..)
}

/// The marker that ends with these letters, of the replacement of `old` that is called `name`.
#[must_use]
pub fn marker_of_letters(old: &InstanceId, name: &str, letters: &str) -> Option<String> {
    let base = base_of(name);
    let base = if base.is_empty() { old.as_str() } else { base };
    Some(format!("{base}{}{letters}", Mark::Recreated.into_str())).filter(|marker| Origin::in_name(marker).is_some())
}

/// The name without the suffixes of earlier recreations, ours or those of scripts that write a time there.
#[must_use]
pub fn base_of(name: &str) -> &str {
    let mut base = name;
    loop {
        let marked = Mark::VARIANTS.iter().filter_map(|mark| base.rsplit_once(mark.into_str()));
        let Some((before, id)) = marked.max_by_key(|(before, _)| before.len()) else { break };
        let is_id =
            (6..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !is_id || before.is_empty() {
            break;
        }
        base = before;
    }
    base
}

/// Digits and lower-case letters that cannot be taken for each other.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// FNV-1a with a final mix (that of SplitMix64). Its values are part of the names in the provider's world, so they must
/// never change, which the hashers of libraries do not promise.
pub(in crate::core) fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        // The byte between two parts is in no text, so that ("ab", "c") differs from ("a", "bc").
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn letters<const N: usize>(hash: u64) -> [u8; N] {
    let mut rest = hash;
    std::array::from_fn(|_| {
        let letter = LETTERS[usize::from((rest & 31) as u8)];
        rest >>= 5;
        letter
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: &str, name: &str, job: Option<&str>) -> String {
        replacement_name(&InstanceId::new(id), name, job.unwrap_or_default())
    }

    /// The provider keeps the names: with another derivation, existing replacements are no longer recognized.
    #[test]
    fn the_derivation_never_changes() {
        assert_eq!(named("a1b2c3d4e5f60718", "train-7", Some("q9w8e7r6t5y4u3i2")), "train-7-recreated-66t881xrxh4k");
        assert_eq!(named("a1b2c3d4e5f60718", "train-7", None), "train-7-recreated-66t881xr1b39");
    }

    #[test]
    fn a_replacement_is_recognized_by_the_old_id_alone() {
        let old = InstanceId::new("a1b2c3d4e5f60718");
        for job in [None, Some("j1"), Some("j2")] {
            assert_eq!(Origin::in_name(&named("a1b2c3d4e5f60718", "train", job)), Some(Origin::of(&old)));
        }
        assert_ne!(named("a", "n", Some("j1")), named("a", "n", Some("j2")), "the failed job is part of it");
        for name in ["train", "train-recreated-", "train-recreated-v2", "train-recreated-0123456789AB", "recreated"] {
            assert_eq!(Origin::in_name(name), None, "{name}");
        }
        assert_ne!(Origin::of(&InstanceId::new("ab")), Origin::of(&InstanceId::new("ba")));
    }

    #[test]
    fn suffixes_are_replaced_and_names_stay_short() {
        let base = |name: &str| named("a", name, None).rsplit_once("-recreated-").unwrap().0.to_owned();
        let once = named("x", "train", Some("j"));
        let twice = named("y", &once, Some("k"));
        for (name, expected) in [
            ("train", "train"),
            (once.as_str(), "train"),
            (twice.as_str(), "train"),
            ("train-recreated-1758000000000", "train"),
            ("train-recreated-v2", "train-recreated-v2"),
            ("train-recreated-UPPERCASE", "train-recreated-UPPERCASE"),
            ("-recreated-0123456789ab", "-recreated-0123456789ab"),
            ("", "a"),
        ] {
            assert_eq!(base(name), expected, "{name:?}");
        }
        for name in ["x".repeat(300), "ü".repeat(300), "x".repeat(255)] {
            let name = named("a", &name, None);
            assert_eq!(name.chars().count(), LONGEST_NAME);
            assert!(Origin::in_name(&name).is_some());
        }
    }
}
