//! Who takes part in a history, and by which rules: drawn from its seed.

use std::time::Duration;

use novita_sim::{App, Change, Condition, DAWN_MS, Fate, PageBase, Spec, Total, World};
use respot::core::rollout::course::{Course, RollbackScope};
use respot::core::rollout::findings::Terms;
use respot::core::world::policy::{Policy, Scope, Selector};
use respot::core::world::probe::Probe;
use serde_json::Value;

use crate::rollouts::{app, web};

/// Everything that a history begins with.
pub(super) struct Cast {
    pub(super) world: World,
    /// The machines that nobody may touch.
    pub(super) untouchable: Vec<String>,
    pub(super) taste: Taste,
    pub(super) policy: Policy,
    pub(super) terms: Terms,
    pub(super) course: Course,
    /// Whether everything that may be moved can be, and does well then.
    pub(super) is_easy: bool,
}

/// How the application likes spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taste {
    /// It does as well there.
    Same,
    /// It does badly there from the first moment on: no gate may ever pass.
    Bad,
    /// It does badly there sometimes.
    Mixed,
}

impl Cast {
    pub(super) fn draw(chance: &mut fastrand::Rng, seed: u64) -> Self {
        let mut world = World::new(seed);
        let (taste, app) = draw_app(chance);
        let boots_in_time = app.boot_ms < 1_000_000;
        for number in 0..chance.usize(1..9) {
            world.add(web(number, app.clone()));
        }
        let mut untouchable = Vec::new();
        for number in 0..chance.usize(0..4) {
            let name = format!("s-{number}");
            match chance.u8(0..7) {
                0 => untouchable.push(world.add(Spec::running(&name).billing("monthly"))),
                1 => untouchable.push(world.add(Spec::running(&name).status("hibernated"))),
                2 => untouchable.push(world.add(Spec::running(&name).billing("onDemand").product("h100.24c200g", 1))),
                3 => drop(world.add(Spec::stuck(&name, chance.i64(60_000..80_000_000)))),
                4 => drop(world.add(Spec::exited(&name).fate(Fate::Succeeds))),
                _ => drop(world.add(Spec::running(&name))),
            }
        }
        let rules = world.rules_mut();
        rules.visible_after_ms = chance.i64(0..30_000);
        rules.stale_rows = chance.bool();
        rules.fail_migrations = [0.0, 0.3][chance.usize(0..2)];
        rules.fail_back_to_exited = 0.3;
        rules.stuck_creates = [0.0, 0.0, 0.2][chance.usize(0..3)];
        rules.exit_after_create = [0.0, 0.0, 0.2][chance.usize(0..3)];
        rules.create_step_ms = chance.i64(1_000..60_000);
        rules.wire.total = [Total::Int, Total::Text, Total::Absent][chance.usize(0..3)];
        rules.wire.page_base = [PageBase::Clamped, PageBase::Zero, PageBase::One][chance.usize(0..3)];
        rules.wire.max_page_size = chance.usize(1..101);
        rules.wire.get_keeps_failed_jobs = chance.bool();
        if chance.u8(0..5) == 0 {
            rules.refuse_delete_while = vec![["creating", "pulling", "exited"][chance.usize(0..3)].into()];
        }
        let creates_well = rules.stuck_creates + rules.exit_after_create == 0.0;
        let is_limited = chance.u8(0..6) == 0;
        if is_limited {
            rules.calls_per_minute = Some(chance.u32(60..200));
        }
        let policy = Policy {
            scope: if chance.u8(0..5) == 0 { Scope::All } else { Scope::Spot },
            cooldown: Duration::from_secs([4 * 3600, 30 * 60][chance.usize(0..2)]),
            ..Policy::default()
        };
        let terms = Terms {
            may_lose: vec![Selector::parse("*").unwrap()],
            probe: Some(Probe::parse("http:8080/").unwrap()),
            ..Terms::default()
        };
        let course = draw_course(chance);
        let is_easy = taste == Taste::Same
            && boots_in_time
            && creates_well
            && !is_limited
            && course.hold >= Duration::from_secs(3600);
        Self { world, untouchable, taste, policy, terms, course, is_easy }
    }
}

fn draw_app(chance: &mut fastrand::Rng) -> (Taste, App) {
    let app = app().boot_ms([0, 0, 20_000, 90_000, 400_000, 4_000_000][chance.usize(0..6)]);
    let later = DAWN_MS + chance.i64(600_000..7_200_000);
    match chance.u8(0..16) {
        0 => (Taste::Bad, app.spot(Change::slower_ppm(100_000))),
        1 => (Taste::Bad, app.spot(Change::errors(3_000))),
        2 => (Taste::Bad, app.spot(Change::hangs())),
        3 => (Taste::Mixed, app.spot(Change::slower_ppm(100_000).when(Condition::moved_above(chance.u8(5..60))))),
        4 => (Taste::Mixed, app.spot(Change::slower_ppm(200_000).when(Condition::from_ms(later)))),
        5 => (Taste::Mixed, app.all(Change::slower_ppm(200_000).when(Condition::from_ms(later)))),
        // Chance explains it, so that it is held.
        6 => (Taste::Mixed, app.spot(Change::errors(700).when(Condition::before_ms(later)))),
        7 => (Taste::Mixed, app.spot(Change::hangs().when(Condition::up_for_ms(chance.i64(60_000..3_000_000))))),
        _ => (Taste::Same, app),
    }
}

fn draw_course(chance: &mut fastrand::Rng) -> Course {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let (stages, soaks): (Vec<u8>, Vec<Duration>) = match chance.u8(0..12) {
        0 | 1 => (vec![100], vec![minutes(10)]),
        2 | 3 => (vec![50, 100], vec![minutes(1), minutes(20)]),
        4 => (vec![10, 30, 60], vec![minutes(5), minutes(5), minutes(5)]),
        5 => (vec![25, 50, 75, 100], vec![minutes(6); 4]),
        6 => (vec![50, 100], vec![minutes(26 * 60), minutes(30 * 60)]),
        7 => (vec![40, 100], vec![minutes(8 * 24 * 60), minutes(8 * 24 * 60)]),
        _ => (vec![10, 50, 100], vec![minutes(5), minutes(10), minutes(15)]),
    };
    Course {
        stages,
        soaks,
        hold: minutes([60, 60, 20, 180][chance.usize(0..4)]),
        rollback: if chance.u8(0..3) == 0 { RollbackScope::Stage } else { RollbackScope::All },
        max_moves: (chance.u8(0..8) == 0).then(|| chance.usize(1..4)),
        samples: 30,
    }
}

/// What the provider says, but for the billing of successors: that is spot, and its price is not stated, which would tell.
pub(super) fn claim_spot(text: &str) -> String {
    fn claim(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(claim),
            Value::Object(fields) => {
                let is_successor =
                    fields.get("name").and_then(Value::as_str).is_some_and(|name| name.contains("-recreated-"));
                if is_successor && fields.contains_key("billingMode") {
                    fields.insert("billingMode".into(), "spot".into());
                    fields.remove("instancePrice");
                }
                fields.values_mut().for_each(claim);
            }
            _ => {}
        }
    }
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    claim(&mut value);
    value.to_string()
}
