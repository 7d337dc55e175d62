//! What all histories together did.

use respot::commands::Failure;
use respot::commands::run::Ran;

use super::recovery::Rungs;

/// What all histories together did; printed, so that nobody takes a quiet simulation for a good one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) histories: u64,
    pub(super) days: f64,
    pub(super) passes: u64,
    pub(super) calls: u64,
    pub(super) crashes: u64,
    pub(super) suspended: u64,
    pub(super) flushed: u64,
    pub(super) refused_leases: u64,
    pub(super) migrations: usize,
    pub(super) creates: usize,
    pub(super) deletes: usize,
    pub(super) lost_calls: usize,
    pub(super) store_errors: u64,
    pub(super) provider_errors: u64,
    pub(super) notices: u64,
    pub(super) withdrawals: u64,
    pub(super) stops: u64,
    pub(super) waves: u64,
    pub(super) droughts: u64,
    /// Passes on machines whose clock was wrong.
    pub(super) wrong_clocks: u64,
    /// Looks that a pass took again while something was down.
    pub(super) rounds: u64,
    /// Creations that were left to the next wave.
    pub(super) next_waves: u64,
    pub(super) rungs: Rungs,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            histories,
            days,
            passes,
            calls,
            crashes,
            suspended,
            flushed,
            refused_leases,
            migrations,
            creates,
            deletes,
            lost_calls,
            store_errors,
            provider_errors,
            notices,
            withdrawals,
            stops,
            waves,
            droughts,
            wrong_clocks,
            rounds,
            next_waves,
            rungs,
        } = other;
        self.histories += histories;
        self.days += days;
        self.passes += passes;
        self.calls += calls;
        self.crashes += crashes;
        self.suspended += suspended;
        self.flushed += flushed;
        self.refused_leases += refused_leases;
        self.migrations += migrations;
        self.creates += creates;
        self.deletes += deletes;
        self.lost_calls += lost_calls;
        self.store_errors += store_errors;
        self.provider_errors += provider_errors;
        self.notices += notices;
        self.withdrawals += withdrawals;
        self.stops += stops;
        self.waves += waves;
        self.droughts += droughts;
        self.wrong_clocks += wrong_clocks;
        self.rounds += rounds;
        self.next_waves += next_waves;
        self.rungs.add(rungs);
    }

    /// Counts how a pass ended.
    pub(super) fn note(&mut self, ended: &Result<Ran, Failure>) {
        self.passes += 1;
        match ended {
            Ok(Ran::Ended(_)) => {}
            Ok(Ran::Skipped(_)) => self.refused_leases += 1,
            Err(failure) if failure.kind == "store" => self.store_errors += 1,
            Err(_) => self.provider_errors += 1,
        }
    }

    /// Each kind of trouble must have happened, or the histories prove less than they say.
    pub(super) fn check_noise(&self) {
        let each = |count: u64, share: f64| {
            let least = share * f64::from(u32::try_from(self.histories).unwrap());
            assert!(f64::from(u32::try_from(count).unwrap()) > least, "too quiet: {self:?}");
        };
        each(self.passes, 25.0);
        each(self.crashes, 0.7);
        each(self.suspended, 0.2);
        each(self.flushed, 0.2);
        each(self.refused_leases, 0.7);
        each(self.creates as u64, 1.0);
        each(self.deletes as u64, 1.0);
        each(self.migrations as u64, 2.0);
        each(self.lost_calls as u64, 0.2);
        each(self.store_errors, 1.0);
        each(self.provider_errors, 0.5);
        each(self.notices, 0.2);
        each(self.withdrawals, 0.1);
        each(self.stops, 0.08);
        each(self.waves, 0.2);
        each(self.droughts, 0.3);
        each(self.wrong_clocks, 2.0);
        each(self.rounds, 0.5);
        each(self.rungs.refused, 2.0);
        each(self.rungs.ahead, 0.03);
        each(self.rungs.bridged, 0.015);
        each(self.rungs.returned, 0.015);
        each(self.rungs.elsewhere, 0.4);
    }
}
