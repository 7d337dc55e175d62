//! What became of whom: instances and their replacements, recognised by name in the provider's world, and what must be
//! true of them at any moment.

use std::collections::{BTreeMap, BTreeSet};

use novita_sim::{Entry, Machine, Op, Outcome, World};
use serde_json::Value;

use crate::harness::Stage;

/// The name that an instance and all its replacements share.
pub(crate) fn base(name: &str) -> &str {
    let marks = ["-recreated-", "-bridge-"].into_iter().filter_map(|mark| name.rsplit_once(mark));
    marks.filter(|(_, id)| id.len() == 12).map(|(base, _)| base).next().unwrap_or(name)
}

/// The writes of one kind that took effect, in order.
pub(crate) fn applied(world: &World, op: Op) -> impl Iterator<Item = &Entry> {
    world.log().iter().filter(move |entry| entry.op == op && entry.outcome == Outcome::Applied)
}

/// The instance with this name and its replacements, as far as they live.
pub(crate) fn living<'a>(world: &'a World, name: &'a str) -> Vec<&'a Machine> {
    world.machines().filter(|machine| machine.is_alive() && base(&machine.name) == name).collect()
}

/// Whatever was created or migrated, the store knows of the intent. Answers its journal.
pub(crate) fn recorded_before(stage: &Stage) -> Vec<Value> {
    let (log, dump) = (stage.provider.with(|world| world.log().to_vec()), stage.dump());
    let journal = dump.iter().filter(|(key, _)| key.contains("recreations["));
    let journal: Vec<Value> = journal.map(|(_, text)| serde_json::from_str(text).expect("JSON")).collect();
    for entry in log.iter().filter(|entry| entry.outcome == Outcome::Applied) {
        let is_recorded = match entry.op {
            Op::Create => journal.iter().any(|it| it["marker"] == entry.name.as_str()),
            Op::Migrate => dump.keys().any(|key| key.ends_with(&format!("migration-times:{}", entry.instance))),
            _ => true,
        };
        assert!(is_recorded, "no intent for {entry:?}, only {dump:?}");
    }
    journal
}

/// Each of these has exactly one successor that lives, itself or a replacement, and it runs.
pub(crate) fn each_has_one(world: &World, names: &[String]) {
    for name in names {
        let found: Vec<(&str, &str)> =
            living(world, name).into_iter().map(|it| (it.name.as_str(), it.status.as_str())).collect();
        assert!(matches!(found[..], [(_, "running")]), "{name} lives on as {found:?}\n{}", story(world, name));
    }
}

/// Whatever ever ran was deleted only when another one of the same name had run, and was not deleted itself.
pub(crate) fn deleted_last(world: &World) {
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    for entry in applied(world, Op::Delete) {
        deleted.insert(&entry.instance);
        let name = base(&entry.name);
        if world.ever().any(|it| it.id == entry.instance && it.first_ran_at == 0) {
            continue;
        }
        let ran = world.ever().any(|it| {
            base(&it.name) == name
                && !deleted.contains(it.id.as_str())
                && it.first_ran_at != 0
                && it.first_ran_at <= entry.at_ms
        });
        assert!(ran, "{} was deleted before another ran\n{}", entry.name, story(world, name));
    }
}

/// Whatever was created, all others of the same name were deleted before.
pub(crate) fn deleted_first(world: &World) {
    let mut deleted: BTreeSet<&str> = BTreeSet::new();
    let mut made: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let created: BTreeSet<&str> = applied(world, Op::Create).map(|entry| entry.instance.as_str()).collect();
    for machine in world.ever().filter(|machine| !created.contains(machine.id.as_str())) {
        made.entry(base(&machine.name)).or_default().push(&machine.id);
    }
    for entry in world.log().iter().filter(|entry| entry.outcome == Outcome::Applied) {
        if entry.op == Op::Delete {
            deleted.insert(&entry.instance);
        } else if entry.op == Op::Create {
            let others = made.entry(base(&entry.name)).or_default();
            let all_gone = others.iter().all(|id| deleted.contains(id));
            assert!(all_gone, "{} was created beside another\n{}", entry.name, story(world, base(&entry.name)));
            others.push(&entry.instance);
        }
    }
}

/// No instance was migrated or deleted twice, and of none were two replacements made.
pub(crate) fn nothing_twice(world: &World) {
    let mut done: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for entry in world.log().iter().filter(|entry| entry.outcome == Outcome::Applied) {
        let what = if entry.op == Op::Create { entry.name.as_str() } else { entry.instance.as_str() };
        *done.entry((entry.op.as_str(), what)).or_default() += 1;
    }
    let twice: Vec<_> = done.into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// All writes about one name, for a failed assertion.
pub(crate) fn story(world: &World, name: &str) -> String {
    let log = world.log().iter().filter(|entry| base(&entry.name) == name);
    let lines = log.map(|it| format!("  {} {} {} {} {:?}", it.at_ms, it.op.as_str(), it.instance, it.name, it.outcome));
    let ever = world.ever().filter(|it| base(&it.name) == name);
    let ever = ever.map(|it| format!("  {} {} {} ran {}", it.id, it.name, it.status, it.first_ran_at));
    lines.chain(ever).collect::<Vec<_>>().join("\n")
}

/// A world in which what takes the provider minutes takes it moments, so that a pass sees the end of what it began.
pub(crate) fn quick(seed: u64) -> World {
    let mut world = World::new(seed);
    let rules = world.rules_mut();
    rules.create_step_ms = 30;
    rules.action_step_ms = 20;
    rules.visible_after_ms = 20;
    rules.migrate_pulling_ms = 30;
    rules.migrate_running_ms = 60;
    world
}
