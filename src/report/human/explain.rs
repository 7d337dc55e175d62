//! Why an instance was, or was not, acted on.

use std::fmt::Write as _;

use super::table::{Cell, prose};
use super::{Color, Screen, ago, folded, life, to_the_second};
use crate::core::pass::explain::{Checked, RuleOutcome};
use crate::core::record::life::LifeEvent;
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;
use crate::report::explained::{CallPart, ExplainDocument, JournalPart, ObservationPart};
use crate::report::text::{together, visible};

/// The answer first, then the rules it follows from, then what earlier passes left behind.
#[must_use]
pub fn explain(screen: Screen, document: &ExplainDocument<'_>, events: &[LifeEvent], now: Timestamp) -> String {
    let ExplainDocument {
        error: _,
        instance_id,
        instance_name,
        status,
        billing,
        verdict,
        reason: _,
        detail,
        until: _,
        next_pass,
        refused,
        rules,
        observations,
        last_attempt,
        in_flight,
        journal,
        ids,
        attempts: _,
    } = document;
    let mut out = String::new();
    let name = instance_name.map_or(String::new(), |name| format!(" ({name})"));
    let status = status.map_or("not listed".into(), |status| format!("status {status}"));
    let status = if document.error.is_some() { "the provider could not be asked".into() } else { status };
    let billing = billing.map_or(String::new(), |billing| format!(", billing {billing}"));
    let _ = writeln!(out, "{}", visible(&format!("{instance_id}{name}: {status}{billing}")));
    let mut fact = |name: &str, text: &str| {
        for line in folded(&format!("  {name:<10}  "), &visible(text), screen.width) {
            let _ = writeln!(out, "{line}");
        }
    };
    let when = |at: Timestamp| format!("{} ago {}", ago(at, now), together(&format!("({})", to_the_second(at))));
    if let Some(verdict) = verdict {
        fact("verdict", &format!("{verdict}: {}", detail.unwrap_or_default()));
    } else if let Some(detail) = detail {
        fact("became", detail);
    }
    next_pass.iter().for_each(|next| fact("next pass", next));
    refused.iter().for_each(|why| fact("but", &format!("the pass as a whole is refused: {why}")));
    if let Some(ObservationPart { spot_status, reclaim_at, first_seen_at, last_seen_at }) = *observations {
        let announced = format!("{spot_status}, reclaim at {}", to_the_second(reclaim_at));
        fact("reclaim", &format!("{announced}; first seen {}, last seen {}", when(first_seen_at), when(last_seen_at)));
    }
    if let Some(last) = last_attempt {
        let at = last.parse().map_or_else(|_| format!("{last:?}, which is no time"), when);
        fact("migrated", &format!("last attempt {at}"));
    }
    if let Some(CallPart { called_at, job_id, call }) = *in_flight {
        let known = match call {
            crate::core::pass::ledger::Call::Accepted => "was accepted, its end is not seen yet",
            _ => "is in doubt: no clear answer came",
        };
        fact("open call", &format!("migrate, {}, {known} [{job_id}]", when(called_at)));
    }
    if let Some(journal) = journal {
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
        // Readable without colour: the rule that decides bears an arrow.
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

fn recreation(journal: &JournalPart<'_>, asked: &InstanceId, when: &dyn Fn(Timestamp) -> String) -> String {
    let JournalPart {
        instance_id,
        step,
        since,
        opened_at,
        cause,
        replacement,
        marker,
        failures,
        last_error,
        quarantined_until,
        job_id: _,
    } = journal;
    let mut text = if *instance_id == asked { String::new() } else { format!("it replaces {instance_id}; ") };
    let _ = write!(text, "{step} since {}, begun {}: {cause}", when(*since), when(*opened_at));
    match replacement {
        Some(replacement) if *replacement != asked => {
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
    if let Some(until) = quarantined_until {
        let _ = write!(text, "; left alone until {}", to_the_second(*until));
    }
    text
}
