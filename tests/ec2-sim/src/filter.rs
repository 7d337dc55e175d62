//! The filters of listings (1.7).

use crate::error::{Answer, ApiError};
use crate::form::Form;

/// The filters of a call: each has a name and values. Values are alternatives; all filters must hold.
#[derive(Clone, Debug)]
pub(crate) struct Filters(Vec<(String, Vec<String>)>);

impl Filters {
    /// Reads the filters of a call. `known` are the names that its action has; `tag:KEY` and `tag-key` are always known.
    pub(crate) fn read(form: &Form, known: &[&str]) -> Answer<Self> {
        let mut filters = Vec::new();
        for place in form.members("Filter") {
            let name = form.need(&format!("Filter.{place}.Name"))?;
            let values: Vec<_> = form.list(&format!("Filter.{place}.Value")).into_iter().map(str::to_owned).collect();
            if values.is_empty() {
                return Err(ApiError::missing(&format!("Filter.{place}.Value.1")));
            }
            if values.len() > 200 {
                let message = "The maximum number of filter values specified on a single call is 200";
                return Err(ApiError::new("FilterLimitExceeded", message));
            }
            if !known.contains(&name) && !name.starts_with("tag:") && name != "tag-key" {
                return Err(ApiError::new("InvalidParameterValue", format!("The filter '{name}' is invalid")));
            }
            filters.push((name.to_owned(), values));
        }
        Ok(Self(filters))
    }

    /// Whether all filters hold for a row whose values of each name `facts` tells.
    pub(crate) fn keep(&self, facts: impl Fn(&str) -> Vec<String>) -> bool {
        self.0.iter().all(|(name, wanted)| {
            let has = facts(name);
            has.iter().any(|value| wanted.iter().any(|pattern| is_like(pattern, value)))
        })
    }

    /// The values of a filter, if it is there.
    pub(crate) fn values(&self, name: &str) -> Option<&[String]> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, values)| values.as_slice())
    }
}

/// The values of the filters about tags.
pub(crate) fn tag_facts(name: &str, tags: &[(&str, &str)]) -> Vec<String> {
    match name.strip_prefix("tag:") {
        Some(key) => tags.iter().filter(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned()).collect(),
        None => tags.iter().map(|(key, _)| (*key).to_owned()).collect(),
    }
}

/// Whether a value fits a pattern, in which `*` stands for anything and `?` for one letter.
pub(crate) fn is_like(pattern: &str, value: &str) -> bool {
    let pattern: Vec<_> = pattern.chars().collect();
    let value: Vec<_> = value.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut back = None;
    while seen < value.len() {
        match pattern.get(at) {
            Some('*') => {
                back = Some((at, seen));
                at += 1;
            }
            Some(letter) if *letter == '?' || *letter == value[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    at = star + 1;
                    seen = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == '*')
}
