//! From on-demand to spot: the analysis, the stages of a rollout and the quality gate between them.

pub mod analysis;
pub mod course;
pub mod findings;
pub mod gates;
pub mod members;
pub mod metrics;
pub mod quality;
pub mod report;
pub mod steps;
pub mod traffic;
