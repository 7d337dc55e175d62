//! What may be moved to spot, and how.

use std::time::Duration;

use super::layers::{Layers, word};
use super::{Result, SettingsError, selectors};
use crate::cli::{Command, GateArgs, RolloutArgs};
use crate::core::rollout::analysis::Terms;
use crate::core::rollout::course::{Course, RollbackScope};
use crate::core::world::policy::Selector;
use crate::core::world::probe::Probe;

/// More stages than a rollout needs.
const MOST_STAGES: usize = 20;

pub(super) fn terms(gates: Option<&GateArgs>, layers: &Layers<'_>, tells: bool) -> Result<Terms> {
    let GateArgs { only, exclude, probe, may_lose } = gates.cloned().unwrap_or_default();
    let probe = layers.with_flag("--probe", probe.as_ref(), "RESPOT_PROBE");
    let probe = probe.map(|given| Probe::parse(&given.value).map_err(|allowed| given.wrong(allowed))).transpose()?;
    let may_lose = if may_lose.is_empty() { listed(layers)? } else { selectors("--may-lose", &may_lose)? };
    let quota = |name| match layers.get(name) {
        None => Ok(None),
        Some(_) => layers.number(name, 0, 1..=1_000_000).map(|quota| u32::try_from(quota).ok()),
    };
    Ok(Terms {
        only: selectors("--only", &only)?,
        exclude: selectors("--exclude", &exclude)?,
        may_lose,
        probe,
        gpu_quota: quota("RESPOT_GPU_QUOTA")?,
        instance_quota: quota("RESPOT_INSTANCE_QUOTA")?,
        tells,
    })
}

/// The patterns of the setting, with commas between them.
fn listed(layers: &Layers<'_>) -> Result<Vec<Selector>> {
    let Some(given) = layers.get("RESPOT_ROLLOUT_MAY_LOSE") else { return Ok(Vec::new()) };
    let patterns: Vec<String> =
        given.value.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect();
    selectors("RESPOT_ROLLOUT_MAY_LOSE", &patterns)
}

pub(super) fn course(command: &Command, layers: &Layers<'_>) -> Result<Course> {
    let arguments = match command {
        Command::Rollout(arguments) => arguments.clone(),
        _ => RolloutArgs::default(),
    };
    let RolloutArgs { verb: _, gates: _, yes: _, wait: _, new: _, stages, soak, max_moves, rollback } = arguments;
    let defaults = Course::default();
    let stages = match layers.with_flag("--stages", stages.as_ref(), "RESPOT_ROLLOUT_STAGES") {
        None => defaults.stages,
        Some(given) => {
            let stages = numbers(&given.value, 1..=100);
            let stages = stages.filter(|stages| stages.windows(2).all(|pair| pair[0] < pair[1]));
            stages.ok_or_else(|| {
                given.wrong("at most 20 shares in percent from 1 to 100, each greater than the one before")
            })?
        }
    };
    let soaks: Vec<u16> = match layers.with_flag("--soak", soak.as_ref(), "RESPOT_ROLLOUT_SOAK_MINUTES") {
        None => vec![5, 10, 15],
        Some(given) => numbers(&given.value, 1..=10_080)
            .ok_or_else(|| given.wrong("at most 20 times in minutes, each from 1 to 10080"))?,
    };
    // The last one holds for all further stages.
    let soak = |stage: usize| soaks.get(stage).or(soaks.last()).copied().map_or(0, u64::from);
    if max_moves == Some(0) {
        return Err(SettingsError::new("--max-moves is 0, allowed is a whole number from 1"));
    }
    let rollback = layers.with_flag("--rollback", rollback.as_ref(), "RESPOT_ROLLOUT_ROLLBACK");
    let samples = layers.number("RESPOT_PROBE_SAMPLES", u64::from(defaults.samples), 30..=1000)?;
    Ok(Course {
        soaks: (0..stages.len()).map(|stage| Duration::from_secs(60 * soak(stage))).collect(),
        stages,
        hold: Duration::from_secs(60 * layers.number("RESPOT_ROLLOUT_HOLD_MINUTES", 60, 5..=1440)?),
        rollback: word(rollback, defaults.rollback, &[("all", RollbackScope::All), ("stage", RollbackScope::Stage)])?,
        max_moves,
        samples: u32::try_from(samples).unwrap_or(defaults.samples),
    })
}

/// Numbers with commas between them; none, too many, or one out of range is no list.
fn numbers<T: std::str::FromStr + PartialOrd>(text: &str, range: std::ops::RangeInclusive<T>) -> Option<Vec<T>> {
    let numbers: Vec<T> = text
        .split(',')
        .map(|number| number.trim().trim_end_matches('%').parse().ok().filter(|number| range.contains(number)))
        .collect::<Option<_>>()?;
    (1..=MOST_STAGES).contains(&numbers.len()).then_some(numbers)
}
