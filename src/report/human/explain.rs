//! Why a pass acts on an instance or skips it.

use std::fmt::Write as _;

use super::table::Column::{Left, Prose, Right};
use super::table::{painted, table};
use super::{Color, Screen, ago, labeled, life, to_the_second};
use crate::core::pass::explain::{Checked, RuleOutcome};
use crate::core::pass::ledger::{Call, Observation, Stamp};
use crate::core::pass::market::score_in_words;
use crate::core::world::instance::InstanceId;
use crate::core::world::money::Usd;
use crate::core::world::time::Timestamp;
use crate::report::document::Number;
use crate::report::explained::{CallPart, Explained, JournalPart, PlacePart};
use crate::report::text::{together, visible};

/// The verdict and its reason, then the facts about the instance, the rules, and what earlier passes recorded. `failed`
/// means that the provider could not be reached.
#[must_use]
pub fn explain(screen: Screen, explained: &Explained, failed: bool, now: Timestamp) -> String {
    let Explained { instance_id, rules, ids, events, .. } = explained;
    let mut out = String::new();
    if let Some(detail) = &explained.detail {
        let verdict = explained.verdict.unwrap_or_default();
        let colon = if verdict.is_empty() { "" } else { ": " };
        let text = screen.sentences(&visible(&format!("{verdict}{colon}{detail}")));
        let color = if verdict == "skip" { Color::Yellow } else { Color::Green };
        let _ = writeln!(out, "{}{}\n", screen.paint(verdict, color), &text[verdict.len()..]);
    }
    let mut fact = |label: &str, text: &str| labeled(&mut out, screen, label, &visible(text));
    let name = explained.instance_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let status = match &explained.status {
        _ if failed => "the provider could not be reached".into(),
        Some(status) => format!("status {status}"),
        None => "not listed".into(),
    };
    let billing = explained.billing.as_ref().map_or(String::new(), |billing| format!(", billing {billing}"));
    fact("instance", &format!("{instance_id}{name}, {status}{billing}"));
    let when = |at: Timestamp| {
        let since = match ago(at, now) {
            since if since == "now" => "just now".to_owned(),
            since => format!("{since} ago"),
        };
        format!("{since} {}", together(&format!("({})", to_the_second(at))))
    };
    explained.next_pass.iter().for_each(|next| fact("next pass", next));
    explained.refused.iter().for_each(|why| fact("but", &format!("the whole pass is refused: {why}")));
    if let Some(Observation { notice, first_seen_at, last_seen_at, .. }) = &explained.observations {
        let announced = format!("{}, reclaim at {}", notice.spot_status, to_the_second(notice.reclaim_at));
        fact(
            "reclaim",
            &format!("{announced}; first seen {}, last seen {}", when(*first_seen_at), when(*last_seen_at)),
        );
    }
    match &explained.last_attempt {
        Some(Stamp::At(at)) => fact("migrated", &format!("last attempt {}", when(*at))),
        Some(Stamp::Unreadable(text)) => fact("migrated", &format!("last attempt {text:?}, not a valid time")),
        None => {}
    }
    if let Some(CallPart { called_at, job_id, call }) = &explained.in_flight {
        let known = match call {
            Call::Accepted => "accepted, not finished yet",
            Call::Begun | Call::Unknown => "outcome unknown: there was no clear response",
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
        let heading = screen.sentences("rules in order; the first that stops or acts decides");
        let _ = writeln!(out, "\n{heading}");
        out.push_str(&self::rules(screen, rules));
    }
    if !explained.places.is_empty() {
        let heading =
            screen.sentences("places for a replacement in order, then those that are not asked; for all its GPUs");
        let _ = writeln!(out, "\n{heading}");
        out.push_str(&self::places(screen, &explained.places));
    }
    if !events.is_empty() {
        let id = visible(instance_id.as_str());
        let heading = screen.sentences(&format!("latest events; for all of them: respot history --instance {id}"));
        let _ = writeln!(out, "\n{heading}");
        life::events(&mut out, screen, events, false, now);
    }
    out
}

fn rules(screen: Screen, rules: &[Checked]) -> String {
    let row = |Checked { rule, outcome, detail }: &Checked| {
        // An arrow marks the rule that decides, so that it is visible without color.
        let mark = if outcome.decides() { ">" } else { " " };
        let answer = match outcome {
            RuleOutcome::DoesNotApply => "-".into(),
            RuleOutcome::Stops => painted(screen, "stops", Color::Yellow),
            RuleOutcome::Acts => painted(screen, "acts", Color::Green),
            RuleOutcome::Passes | RuleOutcome::WouldStop | RuleOutcome::WouldAct => {
                outcome.into_str().replace('_', " ")
            }
        };
        vec![format!("{mark} {}", rule.replace('_', " ")), answer, visible(detail)]
    };
    let rows: Vec<Vec<String>> = rules.iter().map(row).collect();
    table(screen, &[Left("  RULE"), Left("ANSWER"), Prose("FACTS")], &rows, &[])
}

fn places(screen: Screen, places: &[PlacePart]) -> String {
    let row = |(at, it): (usize, &PlacePart)| {
        let order = if it.left_out.is_some() { "-".into() } else { format!("{}", at + 1) };
        let notes = [
            it.is_own.then(|| "its own".to_owned()),
            (it.has_stock == Some(false)).then(|| "no stock".into()),
            (it.ours > 0).then(|| format!("holds {} of ours", it.ours)),
            it.left_out.clone(),
        ];
        let notes: Vec<String> = notes.into_iter().flatten().collect();
        let usd = |amount: &Option<Number<Usd>>| amount.as_ref().map_or_else(|| "-".into(), |it| it.0.to_string());
        let score = it.score.as_ref().and_then(|it| u128::try_from(it.0.micros()).ok());
        let score = score.map_or_else(|| "-".into(), score_in_words);
        vec![order, visible(&it.cluster_id), visible(&it.product_id), usd(&it.price), score, visible(&notes.join("; "))]
    };
    let rows: Vec<Vec<String>> = places.iter().enumerate().map(row).collect();
    let columns = [Right(" "), Left("CLUSTER"), Left("PRODUCT"), Right("USD/H"), Right("SCORE"), Prose("FACTS")];
    table(screen, &columns, &rows, &[])
}

fn recreation(journal: &JournalPart, asked: &InstanceId, when: &dyn Fn(Timestamp) -> String) -> String {
    let JournalPart { instance_id, step, since, opened_at, cause, replacement, marker, failures, last_error, .. } =
        journal;
    let mut text = if instance_id == asked { String::new() } else { format!("replaces {instance_id}; ") };
    let _ = write!(text, "{step} since {}, started {}: {cause}", when(*since), when(*opened_at));
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
        let _ = write!(text, "; failed {failures} times in a row, last: {error}");
    }
    if let Some(until) = journal.quarantined_until {
        let _ = write!(text, "; left alone until {}", to_the_second(until));
    }
    text
}
