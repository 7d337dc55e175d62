//! The parameters of a call.

use crate::accepted::{Wanted, accepted};
use crate::error::{Answer, ApiError};

/// The parameters of a call, as names with dots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    pub(crate) fn parse(text: &str) -> Self {
        Self { pairs: url::form_urlencoded::parse(text.as_bytes()).into_owned().collect() }
    }

    /// The parameters that something else than a form says.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The value of a parameter, "" included.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    pub(crate) fn need(&self, name: &str) -> Answer<&str> {
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(|| ApiError::missing(name))
    }

    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// A boolean; `None` if it was not given. [`Form::check`] has refused all other words.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|word| word == "true")
    }

    /// A whole number. [`Form::check`] has refused what is none.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        self.get(name).and_then(|text| text.parse().ok())
    }

    /// Whether there is a parameter of this name or below it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(known, _)| known == name || is_below(known, name))
    }

    /// The numbers that a list has members for, in order.
    pub(crate) fn members(&self, list: &str) -> Vec<u32> {
        let below = self.pairs.iter().filter_map(|(known, _)| known.strip_prefix(list)?.strip_prefix('.'));
        let mut members: Vec<_> =
            below.filter_map(|rest| rest.split('.').next().and_then(|number| number.parse().ok())).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The values of a list of plain values, in order.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let members = self.members(name).into_iter();
        members.filter_map(|member| self.get(&format!("{name}.{member}"))).collect()
    }

    /// Whether the call is a rehearsal.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.flag("DryRun") == Some(true)
    }

    /// Ends a rehearsal.
    pub(crate) fn unless_dry_run(&self) -> Answer<()> {
        if self.is_dry_run() {
            let message = "Request would have succeeded, but DryRun flag is set.";
            return Err(ApiError::new("DryRunOperation", message));
        }
        Ok(())
    }

    /// Everything that makes a call the same call, for tokens.
    pub(crate) fn fingerprint(&self, without: &[&str]) -> String {
        let mut pairs: Vec<_> = self.pairs.iter().filter(|(name, _)| !without.contains(&name.as_str())).collect();
        pairs.sort();
        format!("{pairs:?}")
    }

    /// Refuses names that the action does not know, and values that are not of their kind.
    pub(crate) fn check(&self, action: &str) -> Answer<()> {
        let known = accepted(action);
        let mut seen = std::collections::BTreeSet::new();
        for (name, value) in &self.pairs {
            if matches!(name.as_str(), "Action" | "Version") {
                continue;
            }
            if !seen.insert(name) {
                let message = format!("The parameter {name} is given more than once");
                return Err(ApiError::new("InvalidQueryParameter", message));
            }
            let Some((_, wanted)) = known.iter().find(|(pattern, _)| matches(pattern, name)) else {
                return Err(ApiError::new("UnknownParameter", format!("The parameter {name} is not recognized")));
            };
            let is_right = match wanted {
                Wanted::Text => true,
                Wanted::Flag => matches!(value.as_str(), "true" | "false"),
                Wanted::Number => value.parse::<i64>().is_ok(),
                Wanted::Time | Wanted::Seconds => parse_time(value).is_some(),
                Wanted::Word(words) => words.contains(&value.as_str()),
            };
            if !is_right {
                let why = format!("It is not {wanted}.");
                return Err(ApiError::value(name, value, &why));
            }
        }
        Ok(())
    }
}

/// A time as the API takes it, in Unix milliseconds.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a name fits a pattern, in which `#` stands for a number from 1.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('.'), name.split('.'));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some("#"), Some(number)) if is_place(number) => {}
            (Some(pattern), Some(name)) if pattern == name && pattern != "#" => {}
            _ => return false,
        }
    }
}

fn is_place(text: &str) -> bool {
    !text.starts_with('0') && text.len() < 6 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
