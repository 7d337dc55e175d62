//! The state of the service as one value: what `status` shows to people, to scripts and to Prometheus.

use crate::core::pass::market::Markets;
use crate::core::pass::spell::{DaySums, Spell};
use crate::core::record::advice::Advice;
use crate::core::record::downtime::{RecoveryFigures, Storm};
use crate::core::record::execution::{Recorded, Totals};
use crate::core::record::health::Diagnosis;
use crate::core::record::indicators::{HOURS, Hour, Indicators};
use crate::core::record::outbox::Outgoing;
use crate::core::recreation::journal::{Recreation, Step};
use crate::core::rollout::course::Fleet;
use crate::core::world::instance::InstanceId;
use crate::core::world::policy::{BridgePolicy, NoticePolicy};
use crate::core::world::time::Timestamp;

use super::json::StatusDocument;

/// The state of the service.
#[derive(Debug)]
pub struct Figures<'a> {
    pub now: Timestamp,
    pub document: StatusDocument<'a>,
    pub diagnosis: Diagnosis,
    /// Passes, newest first.
    pub passes: &'a [Recorded],
    /// Totals over all real passes.
    pub totals: Totals,
    /// Recreations that are open, or ended without a successor, by the old instance.
    pub recreations: &'a [(InstanceId, Recreation)],
    /// Events that no receiver took yet, oldest first.
    pub outbox: &'a [Outgoing],
    /// How well the last day went.
    pub indicators: Indicators,
    /// What happened in each hour of it, the oldest first.
    pub hours: [Hour; HOURS],
    pub advice: Vec<Advice>,
    /// The last one.
    pub rollout: Option<&'a Fleet>,
    pub markets: &'a Markets,
    /// When announced reclaims are to come true, the first of them first.
    pub announced: Vec<Timestamp>,
    pub notice: Option<NoticePolicy>,
    pub bridge: BridgePolicy,
    /// What is down, the longest first.
    pub down: &'a [(InstanceId, Spell)],
    /// Many of one market that went down at once.
    pub storm: Option<Storm>,
    /// Downtime of all time; none before the first look.
    pub downtime: Option<&'a DaySums>,
    /// How what went down was brought back in the last day, week and month.
    pub recovery: [RecoveryFigures; 3],
}

impl<'a> Figures<'a> {
    /// Recreations that go on by themselves.
    pub fn open(&self) -> impl Iterator<Item = &'a (InstanceId, Recreation)> {
        let now = self.now;
        self.recreations.iter().filter(move |(_, it)| it.quarantined_until(now).is_none() && !it.step.is_over())
    }

    /// Recreations that are left alone for a while after repeated failures.
    pub fn quarantined(&self) -> impl Iterator<Item = &'a (InstanceId, Recreation)> {
        let now = self.now;
        self.recreations.iter().filter(move |(_, it)| it.quarantined_until(now).is_some())
    }

    /// Recreations that ended without a successor.
    pub fn ended(&self) -> impl Iterator<Item = &'a (InstanceId, Recreation)> {
        self.recreations.iter().filter(|(_, it)| matches!(it.step, Step::Ended))
    }
}
