//! Which target groups an instance is in, was in, and is to be put into.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::cloud::CloudError;

/// Target groups, each with its port: `web:8000`.
pub(super) type Groups = BTreeSet<String>;

/// What is to be put into target groups, by region and instance.
pub(super) type Targets = BTreeMap<(usize, String), Groups>;

/// The target groups of the settings, as they are now.
#[derive(Debug, Default)]
pub(super) struct Balance {
    pub(super) targets: Targets,
    /// By region and name.
    pub(super) read: HashSet<(usize, String)>,
    /// The names of those that could not be read, and why.
    pub(super) unread: Vec<(String, CloudError)>,
}

impl Balance {
    /// The groups that an instance is in.
    pub(super) fn of(&self, region: usize, id: &str) -> Groups {
        self.targets.get(&(region, id.to_owned())).cloned().unwrap_or_default()
    }

    pub(super) fn is_read(&self, region: usize, group: &str) -> bool {
        let name = group.split_once(':').map_or(group, |(name, _)| name);
        self.read.contains(&(region, name.to_owned()))
    }
}

/// The target groups of an instance that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// Those that it is in, as far as that is known.
    now: Groups,
    /// Those that it is or was in, so that no pass puts it back where a person has taken it out.
    ever: Groups,
    /// Those that it is still to be put into, since what it replaces was in them.
    to_enter: Groups,
    /// Those of them that were read, so that it is known to be missing there.
    pub(super) missing: Groups,
}

impl Membership {
    /// From what was known of it, as [`Self::mark`] wrote it, from the groups that it is in, those of them that `is_read`
    /// says were read, and from its tag.
    pub(super) fn seen(known: &str, now: &Groups, is_read: impl Fn(&str) -> bool, tag: &str) -> Self {
        let mut parts = known.split('+').skip(1).map(groups);
        let (known_now, mut ever) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let unread = known_now.iter().filter(|group| !is_read(group));
        let now: Groups = now.iter().chain(unread).cloned().collect();
        ever.extend(known_now.iter().chain(&now).cloned());
        let to_enter: Groups = groups(tag).difference(&ever).cloned().collect();
        let missing = to_enter.iter().filter(|group| is_read(group)).cloned().collect();
        Self { now, ever, to_enter, missing }
    }

    /// Completes the mark of what an instance is made of.
    pub(super) fn mark(&self, made_of: &str) -> String {
        match self.ever.is_empty() {
            true => made_of.to_owned(),
            false => format!("{made_of}+{}+{}", words(&self.now), words(&self.ever)),
        }
    }

    /// As a tag of its replacement.
    pub(super) fn tag(&self) -> String {
        words(&self.now.union(&self.to_enter).cloned().collect())
    }
}

/// From a tag or a mark.
pub(super) fn groups(words: &str) -> Groups {
    words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// As in a tag or a mark.
pub(super) fn words(groups: &Groups) -> String {
    groups.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row: what was known of an instance, the groups that it is in, those that could not be read, its tag; what is
    /// known then, what it lacks, and what its replacement is told.
    #[test]
    fn what_was_taken_out_by_a_person_stays_out() {
        let rows: &[(&str, &str, &str, &str, &str, &str, &str)] = &[
            ("m", "", "", "", "m", "", ""),
            ("m", "web:80", "", "", "m+web:80+web:80", "", "web:80"),
            ("m+web:80+web:80", "", "", "", "m++web:80", "", ""),
            ("m++web:80", "", "", "web:80", "m++web:80", "", ""),
            ("m", "", "", "web:80", "m", "web:80", "web:80"),
            ("", "web:80", "", "api:80 web:80", "m+web:80+web:80", "api:80", "api:80 web:80"),
            ("m+web:80+web:80", "", "web:80", "", "m+web:80+web:80", "", "web:80"),
            ("", "", "web:80", "web:80", "m", "", "web:80"),
            ("", "", "web:80", "api:80 web:80", "m", "api:80", "api:80 web:80"),
            ("m+api:80 web:80+api:80 web:80", "", "web:80", "", "m+web:80+api:80 web:80", "", "web:80"),
        ];
        for (known, now, unread, tag, mark, missing, told) in rows {
            let seen = Membership::seen(known, &groups(now), |group| group != *unread, tag);
            let found = (seen.mark("m"), words(&seen.missing), seen.tag());
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_str()),
                (*mark, *missing, *told),
                "{known}, {now}"
            );
        }
    }
}
