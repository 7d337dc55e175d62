//! One pass decided: what became of earlier calls, one verdict for each instance, and whether the plan is safe.

pub mod bridge;
pub mod evidence;
pub mod explain;
pub mod failures;
pub mod kept;
pub mod ladder;
pub mod ledger;
pub mod market;
pub mod plan;
pub mod rules;
pub mod safety;
pub mod settle;
pub mod spell;
pub mod usage;
pub mod verdict;
