//! The reading actions.

mod attributes;
mod instances;
mod market;
mod network;
mod requests;
mod row;
mod status;
mod types;
mod volumes;

pub(crate) use instances::is_id;
pub(crate) use row::write_state;
