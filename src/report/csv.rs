//! Tables for spreadsheets, as RFC 4180 has it: one line of names, then one line a row. Column names are part of the
//! contract: they are added to at the end, never changed.

use super::text::visible;
use crate::core::record::execution::{Execution, Recorded, Summary};
use crate::core::record::life::{Conclusion, LifeEvent};
use crate::core::world::instance::InstanceId;
use crate::core::world::time::Timestamp;

const PASSES: [&str; 15] = [
    "jobId",
    "status",
    "startedAt",
    "completedAt",
    "duration",
    "dryRun",
    "totalInstances",
    "exitedInstances",
    "eligibleInstances",
    "migratedInstances",
    "recreatedInstances",
    "skippedInstances",
    "errorCount",
    "error",
    "noRoomInstances",
];

/// One row a pass.
#[must_use]
pub fn passes(executions: &[Recorded]) -> String {
    let row = |recorded: &Recorded| {
        let Execution { job_id, status, started_at, completed_at, duration, dry_run, summary, error, error_kind: _ } =
            &recorded.execution;
        let Summary {
            total_instances,
            exited_instances,
            eligible_instances,
            migrated_instances,
            recreated_instances,
            skipped_instances,
            error_count,
            no_room_instances,
        } = summary;
        [
            outside(job_id),
            status.into_str().into(),
            started_at.to_string(),
            own(completed_at.as_ref()),
            own(duration.as_ref()),
            dry_run.to_string(),
            total_instances.to_string(),
            exited_instances.to_string(),
            eligible_instances.to_string(),
            migrated_instances.to_string(),
            recreated_instances.to_string(),
            skipped_instances.to_string(),
            error_count.to_string(),
            outside(error.as_deref().unwrap_or_default()),
            no_room_instances.to_string(),
        ]
    };
    document(PASSES, executions.iter().map(row))
}

const EVENTS: [&str; 13] = [
    "at",
    "lastAt",
    "times",
    "jobId",
    "dryRun",
    "instanceId",
    "instanceName",
    "event",
    "outcome",
    "reason",
    "errorKind",
    "newInstanceId",
    "responseTime",
];

/// One row an event.
#[must_use]
pub fn events(events: &[LifeEvent]) -> String {
    let row = |event: &LifeEvent| {
        let LifeEvent {
            at,
            last_at,
            times,
            job_id,
            dry_run,
            instance_id,
            instance_name,
            event,
            outcome,
            reason,
            error_kind,
            new_instance_id,
            response_time,
        } = event;
        [
            at.to_string(),
            own::<Timestamp>(last_at.as_ref()),
            times.to_string(),
            outside(job_id.as_deref().unwrap_or_default()),
            dry_run.to_string(),
            outside(instance_id.as_str()),
            outside(instance_name),
            event.into_str().into(),
            outcome.map_or("", Conclusion::into_str).into(),
            outside(reason.as_deref().unwrap_or_default()),
            error_kind.map_or("", |kind| kind.into_str()).into(),
            outside(new_instance_id.as_ref().map_or("", InstanceId::as_str)),
            own(response_time.as_ref()),
        ]
    };
    document(EVENTS, events.iter().map(row))
}

/// A value of our own making, which no spreadsheet takes for something else.
fn own<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(String::new, ToString::to_string)
}

/// A text from outside. A spreadsheet takes for a formula what begins like one, so an apostrophe goes before it, which
/// it takes for "this is a text"; what a terminal would act on is made visible.
fn outside(text: &str) -> String {
    let text = visible(text);
    let begins_like_a_formula =
        text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}', '|', '%']);
    if begins_like_a_formula { format!("'{text}") } else { text }
}

pub(super) fn document<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut out = header.join(",") + "\r\n";
    for row in rows {
        out += &row.map(|field| quoted(&field)).join(",");
        out += "\r\n";
    }
    out
}

fn quoted(field: &str) -> String {
    let is_plain = !field.contains([',', '"', '\r', '\n', '\'']) && field.trim() == field;
    if is_plain { field.into() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_from_outside_stay_texts_and_in_their_column() {
        for (field, written) in [
            ("train-7", "train-7"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\r\nlines", "two\\u{d}\\u{a}lines"),
            ("it's", "\"it's\""),
            (" padded ", "\" padded \""),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" =1", "\"' =1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("\t=1", "\\u{9}=1"),
            ("\u{1b}[31m=1", "\\u{1b}[31m=1"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(quoted(&outside(field)), written, "{field:?}");
        }
    }

    #[test]
    fn nothing_gives_the_names_of_the_columns() {
        assert_eq!(passes(&[]), PASSES.join(",") + "\r\n");
        assert_eq!(events(&[]), EVENTS.join(",") + "\r\n");
    }
}
