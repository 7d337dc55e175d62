//! Replacing an instance: the journal of a replacement, its name, what it is made of and where it goes.

pub mod blueprint;
pub mod journal;
pub mod marker;
