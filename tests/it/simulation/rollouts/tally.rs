//! What happened in all histories together, and whether that is enough to prove something.

use std::collections::BTreeMap;

/// What all histories together did, by its name; printed, so that nobody takes a quiet simulation for a good one.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(pub(super) BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn note(&mut self, what: &'static str) {
        self.count(what, 1);
    }

    pub(super) fn count(&mut self, what: &'static str, times: usize) {
        *self.0.entry(what).or_default() += times as u64;
    }
}

/// Each kind of trouble must have happened, or the histories prove less than they say: so often in 1000 of them.
pub(super) fn quiet(tally: &Tally) {
    let least = [
        ("steps", 15_000),
        ("passes", 12_000),
        ("killed steps", 400),
        ("suspended steps", 100),
        ("refused leases", 800),
        ("flushed", 80),
        ("faults", 15_000),
        ("store errors", 500),
        ("provider errors", 300),
        ("lost writes", 60),
        ("creates", 1_500),
        ("late creates", 3),
        ("misbilled", 20),
        ("retired", 600),
        ("reclaims", 300),
        ("waves", 150),
        ("stopped spot", 80),
        ("stopped on-demand", 30),
        ("vanished", 30),
        ("sold out", 100),
        ("pauses", 250),
        ("aborts", 100),
        ("second rollouts", 200),
        ("completed", 150),
        ("rolled back", 250),
        ("aborted", 50),
        ("held", 8),
        ("days", 2_000),
    ];
    let histories = tally.0["histories"];
    for (what, least) in least {
        let count = tally.0.get(what).copied().unwrap_or(0);
        assert!(count * 1000 >= least * histories, "too quiet, {what}: {tally:?}");
    }
}
