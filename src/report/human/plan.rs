//! A plan, and what a pass made of it.

use std::fmt::Write as _;

use super::table::Column::{Left, Prose, Right};
use super::table::{painted, table};
use super::{Color, Screen, color_of, counted, short};
use crate::core::pass::plan::Plan;
use crate::core::pass::verdict::{Decision, Skip, Verdict};
use crate::core::record::execution::{Attempt, Execution, Outcome, Summary};
use crate::core::world::instance::{Billing, Instance, Status};
use crate::core::world::policy::Policy;
use crate::report::text::visible;

/// The plan: what will be done, then what is left alone and why. Instances that need no explanation are only counted,
/// unless `all` asks for every row.
#[must_use]
pub fn plan(screen: Screen, instances: &[Instance], plan: &Plan, policy: &Policy, all: bool) -> String {
    let mut plain = Counts::default();
    let mut shown = plan.actions(instances);
    for (instance, decision) in plan.rows(instances).filter(|(_, decision)| decision.verdict() == Verdict::Skip) {
        match plainly(instance, decision).filter(|_| !all) {
            Some(reason) => plain.add(reason),
            None => shown.push((instance, decision)),
        }
    }
    let row = |(instance, decision): (&Instance, &Decision)| {
        let word = decision.verdict().into_str();
        let verdict = match decision.verdict() {
            Verdict::Migrate => painted(screen, word, Color::Green),
            Verdict::Recreate | Verdict::Resume => painted(screen, word, Color::Cyan),
            Verdict::Skip => word.into(),
        };
        let (id, status) = (visible(instance.id.as_str()), visible(instance.status.as_str()));
        vec![id, screen.name(&instance.name), status, verdict, visible(&decision.detail(instance, policy))]
    };
    let rows: Vec<Vec<String>> = shown.into_iter().map(row).collect();
    let columns = [Left("INSTANCE"), Left("NAME"), Left("STATUS"), Left("VERDICT"), Prose("REASON")];
    let mut out =
        if rows.is_empty() { String::new() } else { table(screen, &columns, &rows, &["STATUS", "NAME"]) + "\n" };
    if !plain.0.is_empty() {
        let _ = writeln!(out, "{}", screen.sentences(&format!("not listed: {} (--all lists them)", plain.in_words())));
    }
    let _ = writeln!(out, "{}", plan_counts(screen, plan));
    out
}

/// Why an instance is left alone, if that is as it should be: it runs, or the operator left it out.
fn plainly(instance: &Instance, decision: &Decision) -> Option<String> {
    match (decision, &instance.billing) {
        (Decision::Skip(Skip::NotExited { failed_job: None }), _) => {
            (instance.status == Status::Running).then(|| "running".into())
        }
        (Decision::Skip(Skip::OutOfScope), Billing::OnDemand) => Some("on demand".into()),
        (Decision::Skip(Skip::OutOfScope), billing) => Some(visible(billing.as_str())),
        (Decision::Skip(Skip::NotSelected | Skip::Excluded { .. }), _) => Some(decision.reason().replace('_', " ")),
        _ => None,
    }
}

/// How many there are of each reason.
#[derive(Default)]
struct Counts(Vec<(String, usize)>);

impl Counts {
    fn add(&mut self, reason: String) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.0.push((reason, 1)),
        }
    }

    /// `38 running, 4 on demand`: the most frequent first.
    fn in_words(mut self) -> String {
        self.0.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let counts: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        counts.join(", ")
    }
}

/// The plan in one line: how many, and why the others are left alone.
#[must_use]
pub fn plan_counts(screen: Screen, plan: &Plan) -> String {
    let mut reasons = Counts::default();
    let skips = plan.decisions.iter().filter(|decision| decision.verdict() == Verdict::Skip);
    skips.for_each(|decision| reasons.add(decision.reason().replace('_', " ")));
    let mut actions = format!("{} to migrate", plan.count(Verdict::Migrate));
    for (verdict, words) in [(Verdict::Recreate, "to recreate"), (Verdict::Resume, "to resume")] {
        let count = plan.count(verdict);
        if count > 0 {
            let _ = write!(actions, ", {count} {words}");
        }
    }
    let why = if reasons.0.is_empty() { String::new() } else { format!(" ({})", reasons.in_words()) };
    let listed = counted(plan.decisions.len() - plan.absent.len(), "instance");
    let skipped = plan.count(Verdict::Skip);
    screen.sentences(&format!("{listed}: {actions}, {skipped} left alone{why}"))
}

/// What a pass did: a table of its actions and a closing line.
#[must_use]
pub fn pass(screen: Screen, execution: &Execution, attempts: &[Attempt], counts: &str) -> String {
    let mut out = String::new();
    if !attempts.is_empty() {
        out.push_str(&self::attempts(screen, attempts));
        out.push('\n');
    }
    let rehearsal = if execution.dry_run { "rehearsal " } else { "" };
    let Summary { migrated_instances: migrated, recreated_instances: recreated, error_count: errors, .. } =
        execution.summary;
    let _ = writeln!(out, "{counts}");
    let (status, took) = (execution.status.into_str(), short(execution.duration));
    let closing = screen.sentences(&format!(
        "{rehearsal}{status} in {took}: {migrated} migrated, {recreated} recreated, {errors} failed or unknown"
    ));
    let _ = writeln!(out, "{}", closing.replacen(status, &screen.paint(status, color_of(execution.status)), 1));
    out
}

/// A table of actions.
pub(super) fn attempts(screen: Screen, attempts: &[Attempt]) -> String {
    let row = |attempt: &Attempt| {
        let color = match attempt.outcome {
            Outcome::Done | Outcome::Accepted => Color::Green,
            Outcome::NoRoom | Outcome::Unknown | Outcome::Skipped => Color::Yellow,
            Outcome::Failed => Color::Red,
        };
        vec![
            visible(attempt.instance_id.as_str()),
            screen.name(&attempt.instance_name),
            attempt.action.into_str().into(),
            painted(screen, attempt.outcome.into_str(), color),
            attempt.response_time.map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
            visible(&attempt.reason),
        ]
    };
    // Several attempts on one instance are told in their order.
    let mut in_order: Vec<&Attempt> = attempts.iter().collect();
    in_order.sort_by_key(|attempt| attempt.at);
    let rows: Vec<Vec<String>> = in_order.into_iter().map(row).collect();
    let columns = [Left("INSTANCE"), Left("NAME"), Left("ACTION"), Left("OUTCOME"), Right("ANSWER"), Prose("REASON")];
    table(screen, &columns, &rows, &["ANSWER", "NAME"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pass::ledger::Ledger;
    use crate::core::pass::plan::plan as decide;
    use crate::core::world::instance::InstanceId;
    use crate::core::world::policy::Selector;
    use crate::core::world::snapshot::{Listing, Snapshot};
    use crate::core::world::time::Timestamp;

    const EXITED: &str = "i1        t1    exited    migrate  no previous migration\n";
    const STARTING: &str = "i2        t2    starting  skip     status is starting\n";

    fn instance((number, status, billing): (usize, &str, &str)) -> Instance {
        Instance {
            id: InstanceId::new(&format!("i{number}")),
            name: format!("t{number}").into(),
            status: Status::from_word(status),
            billing: Billing::from_word(billing),
            reclaim: None,
            marker: None,
            aside: None,
            place: None,
            gpus: 1,
            created_at: None,
            started_at: None,
            stopped_at: None,
        }
    }

    /// The rows below the header, and what is only counted.
    #[test]
    fn what_is_as_it_should_be_is_counted() {
        let exclude_t5 = Policy { exclude: vec![Selector::parse("t5").expect("a pattern")], ..Policy::default() };
        let fleet = [
            (1, "exited", "spot"),
            (2, "starting", "spot"),
            (3, "running", "spot"),
            (4, "running", ""),
            (5, "running", "spot"),
            (6, "running", "onDemand"),
            (7, "exited", "monthly"),
        ];
        for (numbers, policy, rows, counted) in [
            (&[1, 2][..], Policy::default(), [EXITED, STARTING].concat(), ""),
            (&[3, 4], Policy::default(), String::new(), "2 running"),
            (
                &[1, 2, 3, 4, 5, 6, 7],
                Policy::default(),
                [EXITED, STARTING].concat(),
                "3 running, 1 monthly, 1 on demand",
            ),
            (&[1, 3, 5], exclude_t5, EXITED.replace("exited  ", "exited"), "1 excluded, 1 running"),
        ] {
            let chosen = fleet.iter().filter(|(number, ..)| numbers.contains(number));
            let instances: Vec<Instance> = chosen.copied().map(instance).collect();
            let now = Timestamp::from_secs(1_700_000_000);
            let (instances, jobs) = (Listing::complete(instances), Listing::complete(Vec::new()));
            let abilities = Default::default();
            let snapshot = Snapshot { taken_at: now, instances, jobs, abilities };
            let decided = decide(&snapshot, &Ledger::default(), &policy, now);
            let at =
                |width, all| plan(Screen { width, color: false }, &snapshot.instances.items, &decided, &policy, all);
            let drawn = at(Some(80), false);
            let (table, end) = drawn.split_once("\n\n").unwrap_or(("", &drawn));
            let below: String = table.lines().skip(1).map(|line| format!("{line}\n")).collect();
            assert_eq!(below, rows, "{numbers:?}");
            let line = format!("not listed: {counted} (--all lists them)\n");
            assert_eq!(end.starts_with(&line), !counted.is_empty(), "{numbers:?}: {drawn}");
            let whole = at(Some(80), true);
            assert!(!whole.contains("not listed"), "{whole}");
            assert!(snapshot.instances.items.iter().all(|it| whole.contains(&format!("\n{} ", it.id))), "{whole}");
        }
    }
}
