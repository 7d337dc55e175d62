//! respot brings reclaimed GPU spot instances back.
pub mod clock;
pub mod core;
pub mod novita;
pub mod stop;
pub mod store;
