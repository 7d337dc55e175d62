//! What must be true of a world after passes were made over it, whatever went wrong meanwhile.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use novita_sim::{Entry, Machine, Op, Outcome, World};
use respot::core::recreation::marker::Origin;
use respot::core::world::instance::InstanceId;

use super::store::Intent;

/// Everything that is judged.
pub(super) struct Evidence<'a> {
    /// The world in the end.
    pub(super) world: &'a World,
    /// Intents to create that were stored.
    pub(super) intents: &'a [Intent],
    /// Instances that the provider took away for good.
    pub(super) vanished: &'a HashSet<String>,
    /// Instances that nobody may touch.
    pub(super) untouchable: &'a [String],
    /// The cooldown that migrations must keep; `None` where the store was flushed.
    pub(super) cooldown: Option<Duration>,
    /// Whether nothing may be deleted before its replacement ran.
    pub(super) create_first: bool,
    /// Whether what is exited stays so without evidence of a reclaim, and with it what it replaces.
    pub(super) wants_evidence: bool,
}

/// Who replaced whom: the provider's own words, read by nothing but the names.
pub(super) struct Families<'a> {
    pub(super) by_id: HashMap<&'a str, &'a Machine>,
    /// Old instance -> its replacements.
    children: HashMap<&'a str, Vec<&'a Machine>>,
    /// Replacement -> old instance.
    pub(super) parent: HashMap<&'a str, &'a str>,
}

impl<'a> Families<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let by_id: HashMap<&str, &Machine> = world.ever().map(|machine| (machine.id.as_str(), machine)).collect();
        let origins: HashMap<Origin, &str> = by_id.keys().map(|id| (Origin::of(&InstanceId::new(id)), *id)).collect();
        let mut children: HashMap<&str, Vec<&Machine>> = HashMap::new();
        let mut parent = HashMap::new();
        for machine in world.ever() {
            let old = Origin::in_name(&machine.name).and_then(|origin| origins.get(&origin).copied());
            if let Some(old) = old {
                children.entry(old).or_default().push(machine);
                parent.insert(machine.id.as_str(), old);
            }
        }
        Self { by_id, children, parent }
    }

    /// The instance that everything began with.
    pub(super) fn root(&self, id: &'a str) -> &'a str {
        let mut root = id;
        while let Some(&old) = self.parent.get(root) {
            root = old;
        }
        root
    }

    pub(super) fn children(&self, id: &str) -> &[&'a Machine] {
        self.children.get(id).map_or(&[], Vec::as_slice)
    }

    /// Its replacements, and theirs.
    pub(super) fn line(&self, id: &str) -> Vec<&'a Machine> {
        let mut line = self.children(id).to_vec();
        let mut at = 0;
        while let Some(next) = line.get(at) {
            line.extend(self.children(&next.id));
            at += 1;
        }
        line
    }

    /// All instances by the one that their family began with.
    pub(super) fn all(&self) -> HashMap<&'a str, Vec<&'a Machine>> {
        let mut families: HashMap<&str, Vec<&Machine>> = HashMap::new();
        for (&id, &machine) in &self.by_id {
            families.entry(self.root(id)).or_default().push(machine);
        }
        families
    }
}

/// The first thing that is wrong, if anything is.
pub(super) fn judge(evidence: &Evidence<'_>) -> Result<(), String> {
    let Evidence { world, intents, vanished, untouchable, cooldown, create_first, wants_evidence } = evidence;
    let families = Families::of(world);
    for (root, members) in families.all() {
        let living: Vec<&str> =
            members.iter().filter(|it| it.is_alive() && is_there(world, it)).map(|it| &*it.id).collect();
        let waits = *wants_evidence && members.iter().any(|it| it.status == "exited" && is_there(world, it));
        // After a flush only names tell, and they do not tell of a twin of one that was replaced since.
        let mut names = HashSet::new();
        let are_strangers = cooldown.is_none() && members.iter().any(|it| !names.insert(&it.name));
        if living.len() > 1 && !waits && !are_strangers {
            return Err(format!("{root} was doubled: {living:?}"));
        }
        if living.is_empty() && !members.iter().any(|member| vanished.contains(&member.id)) {
            return Err(format!("{root} was lost"));
        }
    }
    for id in *untouchable {
        if world.log().iter().any(|entry| entry.instance == *id && entry.outcome == Outcome::Applied) {
            return Err(format!("{id} was to be left alone"));
        }
    }
    check_creates(world.log(), intents)?;
    let deletions: HashMap<&str, i64> = world
        .log()
        .iter()
        .filter(|entry| entry.op == Op::Delete && entry.outcome == Outcome::Applied)
        .map(|entry| (entry.instance.as_str(), entry.at_ms))
        .collect();
    for (&id, &at) in deletions.iter().filter(|_| *create_first) {
        check_deletion(id, at, &families, &deletions)?;
    }
    if let Some(cooldown) = cooldown {
        // What is tied to its cluster is migrated again after another reclaim, whenever that was.
        let is_tied = |it: &&Machine| !it.network_id.is_empty() || it.volumes.iter().any(|it| it.kind == "network");
        let tied: HashSet<&str> = world.ever().filter(is_tied).map(|machine| machine.id.as_str()).collect();
        check_cooldown(world.log(), *cooldown, &tied)?;
    }
    Ok(())
}

fn is_there(world: &World, machine: &Machine) -> bool {
    world.get(&machine.id).is_some()
}

/// No create without an intent that was stored before it, and no two for one intent.
pub(super) fn check_creates(log: &[Entry], intents: &[Intent]) -> Result<(), String> {
    let mut stored: HashMap<&str, Vec<i64>> = HashMap::new();
    for (marker, at) in intents {
        stored.entry(marker).or_default().push(*at);
    }
    let mut sent: HashMap<&str, usize> = HashMap::new();
    for entry in log.iter().filter(|entry| entry.op == Op::Create) {
        // A refusal that asks to come back later is one call with the next attempt.
        if matches!(&entry.outcome, Outcome::Refused(429, _)) {
            continue;
        }
        let sent = sent.entry(entry.name.as_str()).or_default();
        *sent += 1;
        let before = stored
            .get(entry.name.as_str())
            .map_or(0, |times| times.iter().filter(|stored_at| **stored_at <= entry.at_ms).count());
        if *sent > before {
            return Err(format!("{} was created {sent} times with {before} intents in the journal", entry.name));
        }
    }
    Ok(())
}

/// What is deleted has a replacement that ran before, or is a replacement whose old instance is there, or whose twin, or what
/// replaced that one.
fn check_deletion(id: &str, at: i64, families: &Families<'_>, deletions: &HashMap<&str, i64>) -> Result<(), String> {
    let was_there = |id: &str| deletions.get(id).is_none_or(|deleted| *deleted >= at);
    let ran = |machine: &&Machine| machine.first_ran_at > 0 && machine.first_ran_at <= at && was_there(&machine.id);
    let replaced = families.children(id).iter().any(ran);
    let given_up = families.parent.get(id).is_some_and(|old| {
        let twin = families.line(old).iter().any(|twin| twin.id != id && ran(twin));
        was_there(old) || twin
    });
    if replaced || given_up { Ok(()) } else { Err(format!("{id} was deleted before its replacement ran")) }
}

/// One migration for each decision: never two within the cooldown.
fn check_cooldown(log: &[Entry], cooldown: Duration, tied: &HashSet<&str>) -> Result<(), String> {
    // A call may arrive up to a minute after the time that was recorded for it.
    let tolerance = 90_000;
    let least = i64::try_from(cooldown.as_millis()).unwrap() - tolerance;
    let mut last: HashMap<&str, i64> = HashMap::new();
    for entry in log.iter().filter(|entry| entry.op == Op::Migrate && entry.outcome == Outcome::Applied) {
        if let Some(before) = last.insert(&entry.instance, entry.at_ms)
            && entry.at_ms - before < least
            && !tied.contains(entry.instance.as_str())
        {
            return Err(format!("{} was migrated twice within {} ms", entry.instance, entry.at_ms - before));
        }
    }
    Ok(())
}
