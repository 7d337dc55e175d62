//! One pass decided: what became of earlier calls, one verdict for each instance, and whether the plan is safe.

pub mod explain;
pub mod exposure;
pub mod failures;
pub mod ledger;
pub mod plan;
pub mod rules;
pub mod safety;
pub mod settle;
pub mod verdict;
