//! Who is in a scenario: the options of its lines, and names for what the passes create. Those are called `NAME+1`,
//! `NAME+2` and so on, in the order in which the provider made them, since their ids are drawn.

use std::fmt::Write as _;
use std::time::Duration;

use novita_sim::{Entry, Fate, JobRow, Machine, Op, Outcome, Product, Spec, Volume, World, quirk};
use respot::core::recreation::marker::Origin;
use respot::core::world::instance::InstanceId;

/// The names that stand for drawn ids, and the other way round.
pub(super) struct Cast {
    /// Name and id of what was created, in that order.
    created: Vec<(String, String)>,
    /// Jobs with drawn ids, each with the name of its instance.
    jobs: Vec<(String, String)>,
}

impl Cast {
    pub(super) fn of(world: &World) -> Self {
        let mut created: Vec<(String, String)> = Vec::new();
        for entry in world.log().iter().filter(|it| it.op == Op::Create && it.outcome == Outcome::Applied) {
            let is_marked = |mark: &str| entry.name.split_once(mark).map(|(base, _)| base);
            let base = is_marked("-recreated-").or(is_marked("-bridge-")).unwrap_or(&entry.name);
            let beginning = format!("{base}+");
            let number = created.iter().filter(|(name, _)| name.starts_with(&beginning)).count() + 1;
            created.push((format!("{base}+{number}"), entry.instance.clone()));
        }
        let mut this = Self { created, jobs: Vec::new() };
        let drawn = world.jobs().iter().filter(|job| !job.id.contains('-'));
        this.jobs = drawn.map(|job| (job.id.clone(), this.name(&job.instance_id))).collect();
        this
    }

    /// The name of an instance by its id.
    pub(super) fn name(&self, id: &str) -> String {
        self.created.iter().find(|(_, known)| known == id).map_or(id, |(name, _)| name).to_owned()
    }

    /// The id of an instance by its name.
    pub(super) fn id(&self, name: &str) -> String {
        self.created.iter().find(|(known, _)| known == name).map_or(name, |(_, id)| id).to_owned()
    }

    /// A sentence with names in place of ids, without the part of a marker that is a hash, and times to the second.
    pub(super) fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, id) in &self.created {
            text = text.replace(id, name);
        }
        for (id, name) in &self.jobs {
            text = text.replace(id, &format!("of {name}"));
        }
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("-recreated-") {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
            let _ = write!(out, "{before}-recreated-*");
            rest = &after[end..];
        }
        out.push_str(rest);
        to_the_second(&out)
    }

    /// Everything there is or was, by name.
    fn everybody<'a>(&self, world: &'a World) -> Vec<(String, &'a Machine, bool)> {
        let living = world.machines().map(|machine| (self.name(&machine.id), machine, true));
        let gone = world.gone().map(|machine| (self.name(&machine.id), machine, false));
        let mut all: Vec<_> = living.chain(gone).filter(|(_, machine, _)| machine.name != "filler").collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// What became of everybody: a line each.
    pub(super) fn picture(&self, world: &World) -> String {
        let everybody = self.everybody(world);
        let mut out = String::new();
        for (name, machine, is_there) in &everybody {
            let was_deleted = world.writes(Op::Delete, &machine.id).any(|entry| entry.outcome == Outcome::Applied);
            let status = match (is_there, was_deleted) {
                (true, false) => machine.status.as_str(),
                (true, true) if machine.is_alive() => machine.status.as_str(),
                (_, true) => "deleted",
                (false, false) => "vanished",
            };
            let _ = write!(out, "  {name} {status}");
            let marked = Origin::in_name(&machine.name);
            let old = everybody.iter().find(|(_, old, _)| marked == Some(Origin::of(&InstanceId::new(&old.id))));
            match old {
                Some((old, _, _)) => {
                    let (gpus, product, cluster) = (machine.gpu_num, &machine.product_id, &machine.cluster_id);
                    let _ = writeln!(out, ", replaces {old} on {gpus} x {product} in {cluster}");
                }
                None => {
                    let _ = writeln!(out, ", migrated {}", world.accepted_migrations_of(&machine.id));
                }
            }
        }
        out
    }

    /// What one of them is made of.
    pub(super) fn portrait(&self, world: &World, name: &str) -> String {
        let id = self.id(name);
        let everybody = self.everybody(world);
        let (_, machine, _) = everybody.iter().find(|(_, machine, _)| machine.id == id).unwrap();
        let volumes: Vec<_> =
            machine.volumes.iter().map(|it| format!("{} {} at {}", it.kind, it.id, it.mount_path)).collect();
        let ports: Vec<_> = machine.ports.iter().map(|(port, kind)| format!("{port}/{kind}")).collect();
        let envs: Vec<_> = machine.envs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let rows = [
            ("name", self.named(&machine.name)),
            ("kind", machine.kind.clone()),
            ("billing", machine.billing_mode.clone()),
            ("product", format!("{} x {} in {}", machine.gpu_num, machine.product_id, machine.cluster_id)),
            ("disk", format!("{} GB", machine.rootfs_size)),
            ("image", machine.image_url.clone()),
            ("credentials", machine.image_auth_id.clone()),
            ("ports", ports.join(",")),
            ("environment", envs.join(" ")),
            ("command", machine.command.clone()),
            ("entrypoint", machine.entrypoint.clone()),
            ("volumes", volumes.join(", ")),
            ("network", machine.network_id.clone()),
        ];
        rows.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("  {key}: {value}\n")).collect()
    }

    /// The writes that reached the provider.
    pub(super) fn diary(&self, log: &[Entry]) -> String {
        let mut out = String::new();
        for Entry { at_ms: _, op, instance, name, outcome } in log {
            let subject = if *op == Op::Create { self.named(name) } else { self.name(instance) };
            let outcome = match outcome {
                Outcome::Applied => "done".into(),
                Outcome::Refused(200..300, _) => "answered, without effect".into(),
                Outcome::Refused(status, reason) => format!("refused: {status} {reason}"),
                Outcome::Lost => "lost".into(),
            };
            let _ = writeln!(out, "  {} {subject} {outcome}", op.as_str());
        }
        if out.is_empty() { "  nothing\n".into() } else { out }
    }
}

/// Without the milliseconds of its times.
fn to_the_second(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('.') {
        out.push_str(before);
        let is_time =
            after.len() > 3 && after.as_bytes()[..3].iter().all(u8::is_ascii_digit) && after[3..].starts_with('Z');
        rest = if is_time { &after[3..] } else { after };
        if !is_time {
            out.push('.');
        }
    }
    out + rest
}

/// What happens in the provider's world without respot. `false` if nothing did.
pub(super) fn happens(world: &mut World, words: &[&str]) -> bool {
    let cast = Cast::of(world);
    let words: Vec<String> = words.iter().map(|word| cast.id(word)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["late", time] => world.rules_mut().visible_after_ms = millis(time),
        ["reclaim", id] => return world.reclaim_now(id),
        ["notify", id] => return world.reclaim(id),
        ["withdrawn", id] => return world.withdraw_reclaim(id),
        ["stop", id] => return world.user_stop(id),
        ["vanish", id] => return world.vanish(id),
        ["set", id, status] => return world.set_status(id, status),
        ["start", id] => {
            let now = world.now_ms();
            return world.set_status(id, "running") && world.edit(id, |machine| machine.last_started_at = now);
        }
        ["change", id, option] => {
            let Some(machine) = world.get(id) else { return false };
            let spec = dressed(Spec::running("x").with(|it| *it = machine.clone()), option);
            let mut changed = None;
            let _ = spec.with(|machine| changed = Some(machine.clone()));
            return changed.is_some_and(|changed| world.edit(id, |machine| *machine = changed));
        }
        ["copy", id, name] => {
            let Some(machine) = world.get(id).cloned() else { return false };
            let copy = Spec::running(&machine.name).started_ago_ms(0).with(|it| *it = machine);
            world.add(copy.id(name));
        }
        ["sold-out", id] => return edit(world, id, |product| product.stock = 0),
        ["sold-out", id, "in", ref clusters @ ..] => {
            let clusters = clusters.iter().map(ToString::to_string).collect();
            return edit(world, id, |product| product.sold_out_in = clusters);
        }
        ["in-stock", id] => {
            return edit(world, id, |product| {
                (product.stock, product.hint_lies) = (u32::MAX, false);
                product.sold_out_in.clear();
            });
        }
        ["spot-sold-out", id] => return edit(world, id, |product| product.spot_sold_out = true),
        ["spot-in-stock", id] => return edit(world, id, |product| product.spot_sold_out = false),
        ["hint-lies", id] => return edit(world, id, |product| product.hint_lies = true),
        ["price", id, price] => return edit(world, id, |product| product.spot_price = price.parse().ok()),
        ["withdraw", id] => return world.withdraw_product(id).is_some(),
        ["product", id, ref options @ ..] => world.add_product(product(id, options)),
        ["quota", "instances", count] => world.rules_mut().instance_quota = count.parse().ok(),
        ["quota", "gpus", count] => world.rules_mut().gpu_quota = count.parse().ok(),
        ["balance", word] => world.rules_mut().balance = word == "enough",
        ["creations", word] => {
            world.rules_mut().stuck_creates = f64::from(u8::from(word == "stuck"));
            world.rules_mut().exit_after_create = f64::from(u8::from(word == "exit"));
        }
        ["undeletable", ref statuses @ ..] => {
            world.rules_mut().refuse_delete_while = statuses.iter().map(ToString::to_string).collect();
        }
        ["deletions", time] => world.rules_mut().action_step_ms = millis(time),
        ["failed-jobs-stay-in-sight"] => world.rules_mut().wire.get_keeps_failed_jobs = true,
        _ => return false,
    }
    true
}

fn edit(world: &mut World, id: &str, change: impl FnOnce(&mut Product)) -> bool {
    world.product_mut(id).map(change).is_some()
}

fn millis(time: &str) -> i64 {
    i64::try_from(super::duration(time).as_millis()).unwrap()
}

/// An instance with one option more.
pub(super) fn dressed(spec: Spec, option: &str) -> Spec {
    let (name, value) = option.split_once('=').unwrap();
    let value = if value == "none" { "" } else { value };
    let text = value.to_owned();
    match (name, value) {
        ("billing", mode) => spec.billing(mode),
        ("stopped", time) => spec.stopped_ago_ms(millis(time)),
        ("started", time) => spec.started_ago_ms(millis(time)),
        ("notified", time) => spec.notified(millis(time)),
        ("fate", "succeeds") => spec.fate(Fate::Succeeds),
        ("fate", "stuck") => spec.fate(Fate::FailsStuck),
        ("fate", "back") => spec.fate(Fate::FailsBack),
        ("fate", "no-stock") => spec.fate(Fate::NoStock),
        ("fate", "endless") => spec.fate(Fate::NeverEnds),
        ("product", value) => {
            let (gpus, id) = value.split_once('*').unwrap_or(("1", value));
            spec.product(id, gpus.parse().unwrap())
        }
        ("product-name", _) => spec.with(|machine| machine.product_name = Some(text)),
        ("gpus", "") => spec.with(|machine| machine.gpu_num = 0),
        ("disk", value) => spec.with(|machine| machine.rootfs_size = value.parse().unwrap_or(0)),
        ("cluster", id) => spec.cluster(id),
        ("image", _) => spec.with(|machine| machine.image_url = text),
        ("credentials", _) => spec.with(|machine| machine.image_auth_id = text),
        ("kind", _) => spec.with(|machine| machine.kind = text),
        ("command", _) => spec.with(|machine| machine.command = text),
        ("entrypoint", _) => spec.with(|machine| machine.entrypoint = text),
        ("ports", value) => spec.with(|machine| {
            let ports = value.split(',').map(|port| port.split_once('/').unwrap_or((port, "")));
            machine.ports = ports.map(|(port, kind)| (port.parse().unwrap(), kind.to_owned())).collect();
        }),
        ("env", value) => {
            let (key, value) = value.split_once('=').unwrap();
            spec.env(key, value)
        }
        ("volume", value) => {
            let (id, mount) = value.split_once(':').unwrap();
            spec.network_volume(id, mount)
        }
        ("local-volume", _) => spec.with(|machine| {
            machine.volumes.push(Volume { kind: "local".into(), id: String::new(), size: 20, mount_path: text });
        }),
        ("network", id) => spec.network(id),
        ("fields", "missing") => spec.quirks(quirk::MISSING),
        ("fields", "null") => spec.quirks(quirk::NULL),
        ("fields", "loose") => spec.quirks(quirk::ALL & !quirk::MISSING),
        _ => panic!("no such option: {option}"),
    }
}

/// A job of an instance; its id is the instance's name and a number.
pub(super) fn job(world: &World, name: &str, instance: &str, state: &str, ago: Duration, options: &[&str]) -> JobRow {
    let number = world.jobs().iter().filter(|job| job.instance_id == instance).count() + 1;
    let created_at = world.now_ms() - i64::try_from(ago.as_millis()).unwrap();
    let mut job = JobRow { id: format!("{name}-{number}"), ..JobRow::migration(instance, state, created_at) };
    for option in options {
        let (key, value) = option.split_once('=').unwrap();
        match (key, value) {
            ("kind", "auto") => job.kind = "autoInstanceMigrate".into(),
            ("kind", "save") => job.kind = "saveImage".into(),
            ("error", "none") => (job.error, job.error_message) = (String::new(), String::new()),
            ("error", text) => job.error_message = text.into(),
            ("hidden", time) => job.visible_at = world.now_ms() + millis(time),
            _ => panic!("no such option: {option}"),
        }
    }
    job
}

/// A product that a scenario brings along.
pub(super) fn product(id: &str, options: &[&str]) -> Product {
    let mut product = Product {
        id: id.into(),
        name: String::new(),
        cpu_per_gpu: 16,
        memory_per_gpu: 62,
        max_rootfs: 200,
        clusters: Vec::new(),
        price: 100_000,
        spot_price: None,
        stock: u32::MAX,
        sold_out_in: Vec::new(),
        spot_sold_out: false,
        hint_lies: false,
    };
    for option in options {
        let (key, value) = option.split_once('=').unwrap();
        match key {
            "name" => product.name = value.into(),
            "price" => product.spot_price = value.parse().ok(),
            "clusters" => product.clusters = value.split(',').map(str::to_owned).collect(),
            "largest-disk" => product.max_rootfs = value.parse().unwrap(),
            _ => panic!("no such option: {option}"),
        }
    }
    product
}
