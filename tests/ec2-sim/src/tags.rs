//! Tags: reading, the rules about them, and CreateTags.

use std::collections::BTreeMap;

use crate::error::{Answer, ApiError};
use crate::form::Form;
use crate::world::World;
use crate::xml::Xml;

/// The tags of a list `LIST.N.Key`, `LIST.N.Value`.
pub(crate) fn read_tags(form: &Form, list: &str) -> Answer<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for number in form.members(list) {
        let key = form.need(&format!("{list}.{number}.Key"))?;
        let value = form.owned(&format!("{list}.{number}.Value")).unwrap_or_default();
        if tags.insert(key.to_owned(), value).is_some() {
            return Err(ApiError::new("InvalidParameterValue", format!("Duplicate tag key '{key}' specified.")));
        }
    }
    Ok(tags)
}

/// The rules about tags that a caller sets.
pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Answer<()> {
    for (key, value) in tags {
        if key.to_ascii_lowercase().starts_with("aws:") {
            let message = "Tag keys starting with 'aws:' are reserved for internal use";
            return Err(ApiError::new("InvalidTagKey.Malformed", message));
        }
        if key.chars().count() > 128 || value.chars().count() > 256 {
            let message = "Tag keys have at most 128 characters, and tag values 256.";
            return Err(ApiError::new("InvalidParameterValue", message));
        }
    }
    check_count(tags.len())
}

fn check_count(count: usize) -> Answer<()> {
    if count > 50 {
        return Err(ApiError::new("TagLimitExceeded", "You have reached the maximum of 50 tags per resource."));
    }
    Ok(())
}

impl World {
    pub(crate) fn create_tags(&mut self, region: &str, form: &Form) -> Answer<String> {
        let ids = form.list("ResourceId");
        let tags = read_tags(form, "Tag")?;
        if ids.is_empty() {
            return Err(ApiError::missing("resourceIdSet"));
        }
        if tags.is_empty() {
            return Err(ApiError::missing("tagSet"));
        }
        check_tags(&tags)?;
        for id in &ids {
            let present = self.tags_of(region, id)?;
            let fresh = tags.keys().filter(|key| !present.contains_key(*key)).count();
            let counted = present.keys().filter(|key| !key.starts_with("aws:")).count();
            check_count(counted + fresh)?;
        }
        form.unless_dry_run()?;
        self.effects += 1;
        let seen_from = self.now + self.rules.tags_visible_after_ms;
        for id in ids {
            if let Some(instance) = self.instance_mut(id) {
                for key in tags.keys().filter(|key| !instance.tags.contains_key(*key)) {
                    instance.tag_times.insert(key.clone(), (seen_from, i64::MAX));
                }
                instance.tags.extend(tags.clone());
            } else if let Some(volume) = self.volumes.get_mut(id) {
                volume.tags.extend(tags.clone());
            } else if let Some(request) = self.request_mut(id) {
                request.tags.extend(tags.clone());
            }
        }
        let mut xml = Xml::new();
        xml.text("return", true);
        Ok(xml.into_text())
    }

    fn tags_of(&self, region: &str, id: &str) -> Answer<&BTreeMap<String, String>> {
        if id.starts_with("i-") {
            let slots = self.shown_slots(region, &[id])?;
            return slots.first().map(|&slot| &self.instances[slot].tags).ok_or_else(|| ApiError::no_instance(&[id]));
        }
        if id.starts_with("sir-") {
            let places = self.shown_requests(region, &[id])?;
            let tags = places.first().map(|&place| &self.requests[place].tags);
            return tags.ok_or_else(|| ApiError::new("InvalidSpotInstanceRequestID.NotFound", id));
        }
        if id.starts_with("vol-") {
            let volume = self.volumes.get(id).filter(|volume| !volume.is_deleted && volume.region == region);
            let message = format!("The volume '{id}' does not exist.");
            return volume.map(|volume| &volume.tags).ok_or_else(|| ApiError::new("InvalidVolume.NotFound", message));
        }
        Err(ApiError::new("InvalidID", format!("The ID '{id}' is not valid")))
    }
}
