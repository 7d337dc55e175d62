//! Spells as events in the life of an instance.

use std::time::Duration;

use crate::core::pass::spell::{DownFrom, Lost, Part, Spell, SpellEnd};
use crate::core::record::life::{EventKind, Life, LifeEvent, blank};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::{Timestamp, in_words};

/// Adds the spells of an instance to its life; of one that no pass acted on, those with its id or name.
pub fn add_spells<'a>(life: &mut Life, spells: impl Iterator<Item = &'a Spell>, wanted: &str, now: Timestamp) {
    let is_unknown = life.ids.is_empty();
    for spell in spells {
        let is_wanted = is_unknown && (spell.name == wanted || spell.ids.iter().any(|id| id.as_str() == wanted));
        if !is_wanted && !spell.ids.iter().any(|id| life.ids.contains(id)) {
            continue;
        }
        for id in &spell.ids {
            if !life.ids.contains(id) {
                life.ids.push(id.clone());
            }
        }
        if let Some(first) = spell.ids.first() {
            life.names.entry(first.clone()).or_insert_with(|| spell.name.clone());
        }
        life.events.extend(events(spell, now));
    }
    life.events.sort_by_key(|event| (event.at, event.event));
}

fn events(spell: &Spell, now: Timestamp) -> Vec<LifeEvent> {
    let (Some(first), Some(last)) = (spell.ids.first(), spell.ids.last()) else { return Vec::new() };
    let event = |at: Timestamp, id: &InstanceId, event: EventKind, reason: String| LifeEvent {
        reason: Some(reason),
        ..blank(at, id, &spell.name, event)
    };
    let noticed = in_words(spell.seen_at.since(spell.down_at));
    let from = match spell.down_from {
        DownFrom::Stop => format!("by the provider's stop time; noticed after {noticed}"),
        DownFrom::Reclaim => format!("by the announced time of the reclaim; noticed after {noticed}"),
        DownFrom::FirstLook => "as a pass first saw it; it may have stopped before".into(),
    };
    let kind = match spell.end {
        Some(SpellEnd::Ahead) => return Vec::new(),
        Some(SpellEnd::InPlace | SpellEnd::Elsewhere | SpellEnd::Bridged) => Some(EventKind::UpAgain),
        Some(SpellEnd::GivenUp) => Some(EventKind::GivenUp),
        None => None,
    };
    let lasted = lasted(spell, now);
    match kind.zip(spell.ended_at) {
        Some((kind, ended_at)) => {
            let new = Some(last.clone()).filter(|_| spell.end != Some(SpellEnd::InPlace) && last != first);
            let up = event(ended_at, first, kind, format!("after {lasted}"));
            vec![event(spell.down_at, first, EventKind::Down, from), LifeEvent { new_instance_id: new, ..up }]
        }
        None => vec![event(spell.down_at, first, EventKind::Down, format!("{from}; so far {lasted}"))],
    }
}

/// `34 min: noticing 10 min, no room 24 min`.
fn lasted(spell: &Spell, now: Timestamp) -> String {
    let mut lost = Lost::default();
    for (part, from, to) in spell.stretches(now) {
        lost.add(part, to.as_millis() - from.as_millis());
    }
    let words = |millis: i64| in_words(Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
    let parts = Part::ALL.into_iter().filter(|part| lost.of(*part) >= 1000);
    let parts: Vec<String> =
        parts.map(|part| format!("{} {}", part.into_str().replace('_', " "), words(lost.of(part)))).collect();
    format!("{}: {}", words(spell.length(now)), parts.join(", "))
}
