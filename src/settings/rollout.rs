//! What may be moved to spot, and how.

use std::time::Duration;

use secrecy::SecretString;

use super::cli::{Command, GateArgs, RolloutArgs};
use super::layers::Layers;
use super::{Result, SettingsError, rows, selectors};
use crate::core::rollout::course::Course;
use crate::core::rollout::findings::Terms;

pub(super) fn terms(gates: &GateArgs, layers: &Layers<'_>, tells: bool) -> Result<Terms> {
    let GateArgs { only, exclude, probe: _, may_lose } = gates;
    Ok(Terms {
        only: selectors("--only", only)?,
        exclude: selectors("--exclude", exclude)?,
        may_lose: match may_lose.as_slice() {
            [] => layers.optional(&rows::RESPOT_ROLLOUT_MAY_LOSE)?.unwrap_or_default(),
            patterns => selectors("--may-lose", patterns)?,
        },
        probe: layers.optional(&rows::RESPOT_PROBE)?,
        gpu_quota: layers.optional(&rows::RESPOT_GPU_QUOTA)?,
        instance_quota: layers.optional(&rows::RESPOT_INSTANCE_QUOTA)?,
        notifies: tells,
    })
}

/// The operator's command that moves traffic.
#[derive(Clone, Debug)]
pub struct HookSetting {
    pub command: SecretString,
    pub limit: Duration,
}

pub(super) fn hook(layers: &Layers<'_>) -> Result<Option<HookSetting>> {
    let limit = layers.value(&rows::RESPOT_ROLLOUT_HOOK_TIMEOUT_MS)?;
    Ok(layers.optional(&rows::RESPOT_ROLLOUT_HOOK)?.map(|command| HookSetting { command, limit }))
}

pub(super) fn course(command: &Command, layers: &Layers<'_>) -> Result<Course> {
    let max_moves = match command {
        Command::Rollout(RolloutArgs { max_moves, .. }) => *max_moves,
        _ => None,
    };
    if max_moves == Some(0) {
        return Err(SettingsError::new("invalid value \"0\" for --max-moves: expected at least 1"));
    }
    let stages = layers.value(&rows::RESPOT_ROLLOUT_STAGES)?;
    let soaks = layers.value(&rows::RESPOT_ROLLOUT_SOAK_MINUTES)?;
    // The last one applies to all further stages.
    let soak = |stage: usize| soaks.get(stage).or(soaks.last()).copied().map_or(0, u64::from);
    Ok(Course {
        soaks: (0..stages.len()).map(|stage| Duration::from_secs(60 * soak(stage))).collect(),
        stages,
        hold: layers.value(&rows::RESPOT_ROLLOUT_HOLD_MINUTES)?,
        rollback: layers.value(&rows::RESPOT_ROLLOUT_ROLLBACK)?,
        max_moves,
        samples: layers.value(&rows::RESPOT_PROBE_SAMPLES)?,
    })
}
