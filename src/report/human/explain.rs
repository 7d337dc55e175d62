//! Why an instance was, or was not, acted on.

use std::fmt::Write as _;

use super::table::{Cell, prose};
use super::{Color, Screen, ago, folded, life, to_the_second};
use crate::core::pass::explain::{Checked, RuleOutcome};
use crate::core::pass::ledger::{Call, Observation, Stamp};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::explained::{CallPart, Explained, JournalPart};
use crate::report::text::{together, visible};

/// The answer first, then the rules it follows from, then what earlier passes left behind. `failed` is whether the
/// provider could not be asked.
#[must_use]
pub fn explain(screen: Screen, explained: &Explained, failed: bool, now: Timestamp) -> String {
    let Explained { instance_id, rules, ids, events, .. } = explained;
    let mut out = String::new();
    let name = explained.instance_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let status = match &explained.status {
        _ if failed => "the provider could not be asked".into(),
        Some(status) => format!("status {status}"),
        None => "not listed".into(),
    };
    let billing = explained.billing.as_ref().map_or(String::new(), |billing| format!(", billing {billing}"));
    let _ = writeln!(out, "{}", visible(&format!("{instance_id}{name}: {status}{billing}")));
    let mut fact = |name: &str, text: &str| {
        for line in folded(&format!("  {name:<10}  "), &visible(text), screen.width) {
            let _ = writeln!(out, "{line}");
        }
    };
    let when = |at: Timestamp| format!("{} ago {}", ago(at, now), together(&format!("({})", to_the_second(at))));
    match (explained.verdict, &explained.detail) {
        (Some(verdict), detail) => fact("verdict", &format!("{verdict}: {}", detail.as_deref().unwrap_or_default())),
        (None, Some(detail)) => fact("became", detail),
        (None, None) => {}
    }
    explained.next_pass.iter().for_each(|next| fact("next pass", next));
    explained.refused.iter().for_each(|why| fact("but", &format!("the pass as a whole is refused: {why}")));
    if let Some(Observation { notice, first_seen_at, last_seen_at }) = &explained.observations {
        let announced = format!("{}, reclaim at {}", notice.spot_status, to_the_second(notice.reclaim_at));
        fact(
            "reclaim",
            &format!("{announced}; first seen {}, last seen {}", when(*first_seen_at), when(*last_seen_at)),
        );
    }
    match &explained.last_attempt {
        Some(Stamp::At(at)) => fact("migrated", &format!("last attempt {}", when(*at))),
        Some(Stamp::Unreadable(text)) => fact("migrated", &format!("last attempt {text:?}, which is not a time")),
        None => {}
    }
    if let Some(CallPart { called_at, job_id, call }) = &explained.in_flight {
        let known = match call {
            Call::Accepted => "was accepted, its end is not seen yet",
            Call::Begun | Call::Unknown => "is in doubt: no clear answer came",
        };
        fact("open call", &format!("migrate, {}, {known} [{job_id}]", when(*called_at)));
    }
    if let Some(journal) = &explained.journal {
        fact("recreation", &recreation(journal, instance_id, &when));
    }
    if ids.len() > 1 {
        let ids: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
        fact("chain", &ids.join(" -> "));
    }
    if !rules.is_empty() {
        let heading = screen.sentences("rules, in their order; the first that stops or acts makes the verdict");
        let _ = writeln!(out, "\n{heading}");
        out.push_str(&table(screen, rules));
    }
    if !events.is_empty() {
        let id = visible(instance_id.as_str());
        let heading = screen.sentences(&format!("last events; all of them: respot history --instance {id}"));
        let _ = writeln!(out, "\n{heading}");
        life::events(&mut out, screen, events, false, now);
    }
    out
}

fn table(screen: Screen, rules: &[Checked]) -> String {
    let mut rows = vec![(["  RULE", "ANSWER"].map(Cell::new).to_vec(), "FACTS".to_owned())];
    for Checked { rule, outcome, detail } in rules {
        let answer = match outcome {
            RuleOutcome::DoesNotApply => "-".into(),
            other => other.into_str().replace('_', " "),
        };
        let answer = Cell::new(answer);
        // An arrow marks the rule that decides, so that it is visible without color.
        let mark = if outcome.decides() { ">" } else { " " };
        let cells = vec![
            Cell::new(format!("{mark} {}", rule.replace('_', " "))),
            match outcome {
                RuleOutcome::Stops => answer.paint(Color::Yellow),
                RuleOutcome::Acts => answer.paint(Color::Green),
                RuleOutcome::Passes | RuleOutcome::WouldStop | RuleOutcome::WouldAct | RuleOutcome::DoesNotApply => {
                    answer
                }
            },
        ];
        rows.push((cells, visible(detail)));
    }
    prose(screen, &rows)
}

fn recreation(journal: &JournalPart, asked: &InstanceId, when: &dyn Fn(Timestamp) -> String) -> String {
    let JournalPart { instance_id, step, since, opened_at, cause, replacement, marker, failures, last_error, .. } =
        journal;
    let mut text = if instance_id == asked { String::new() } else { format!("it replaces {instance_id}; ") };
    let _ = write!(text, "{step} since {}, begun {}: {cause}", when(*since), when(*opened_at));
    match replacement {
        Some(replacement) if replacement != asked => {
            let _ = write!(text, "; its replacement is {replacement}, named {marker}");
        }
        Some(_) => {}
        None => {
            let _ = write!(text, "; its replacement will be named {marker}");
        }
    }
    if let (1.., Some(error)) = (failures, last_error) {
        let _ = write!(text, "; failed {failures} in a row, the last one: {error}");
    }
    if let Some(until) = journal.quarantined_until {
        let _ = write!(text, "; left alone until {}", to_the_second(until));
    }
    text
}
