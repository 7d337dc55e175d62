//! What passes did: executions, the trail of one instance, events to deliver, health and advice.

pub mod advice;
pub mod downtime;
pub mod execution;
pub mod health;
pub mod indicators;
pub mod invoice;
pub mod life;
pub mod news;
pub mod outbox;
pub mod trace;
pub mod trail;
pub mod uptime;
