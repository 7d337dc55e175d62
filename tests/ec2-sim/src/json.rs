//! The bodies of the JSON services: read strictly, so that a misspelt member is found.

use serde_json::Value;

use crate::accepted::{Wanted, accepted};
use crate::error::{Answer, ApiError};
use crate::form::{Form, matches};

/// A body.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// What was sent; null if it was no JSON.
    pub(crate) value: Value,
    /// Its plain values by names with dots, as a form has them. Lists count from 1.
    leaves: Vec<(String, Value)>,
}

impl Document {
    pub(crate) fn parse(body: &str) -> Self {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        let mut leaves = Vec::new();
        gather(String::new(), &value, &mut leaves);
        Self { value, leaves }
    }

    /// The same as a form.
    pub(crate) fn form(&self) -> Form {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Form::of(self.leaves.iter().map(|(name, value)| (name.clone(), text(value))).collect())
    }

    /// Refuses what is no JSON, names that the action does not know, and values that are not of their kind. The real
    /// services pass over unknown names.
    pub(crate) fn check(&self, action: &str) -> Answer<()> {
        if !self.value.is_object() {
            return Err(ApiError::new("SerializationException", "The body is no JSON object"));
        }
        let known = accepted(action);
        for (name, value) in &self.leaves {
            let Some((_, wanted)) = known.iter().find(|(pattern, _)| matches(pattern, name)) else {
                let message = format!("The member {name} is not recognized");
                return Err(ApiError::new("SerializationException", message));
            };
            let is_right = match wanted {
                Wanted::Text | Wanted::Time => value.is_string(),
                Wanted::Flag => value.is_boolean(),
                Wanted::Number => value.is_i64() || value.is_u64(),
                Wanted::Seconds => value.is_number(),
                Wanted::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            };
            if !is_right {
                let message = format!("The member {name} is {value}, which is not {wanted}");
                return Err(ApiError::new("SerializationException", message));
            }
        }
        Ok(())
    }
}

/// Empty lists, empty structures and nulls leave nothing.
fn gather(name: String, value: &Value, leaves: &mut Vec<(String, Value)>) {
    let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Null => {}
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                gather(below(&(place + 1).to_string()), item, leaves);
            }
        }
        Value::Object(members) => {
            for (member, value) in members {
                gather(below(member), value, leaves);
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => leaves.push((name, value.clone())),
    }
}
