//! The audit trail of a pass: every write to the provider, on record before it is sent.
//!
//! The next commit takes new entries along, so that they cost no round trip of their own: the intent with the step that
//! allows the call, the answer with the step after.

use std::cell::RefCell;

use crate::cloud::{CloudError, Effect};
use crate::core::record::trail::{ProviderWrite, WriteCall, WriteOutcome};
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::time::Timestamp;
use crate::store::records::Change;

/// The writes of a pass so far.
#[derive(Debug, Default)]
pub struct Audit(RefCell<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    write: ProviderWrite,
    is_saved: bool,
}

/// A write that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(usize);

impl Audit {
    /// Puts a write on record. The caller commits before it sends.
    pub(super) fn begin(
        &self,
        call: WriteCall,
        (id, name): (&InstanceId, &str),
        market: Option<&Place>,
        at: Timestamp,
    ) -> Ticket {
        let write = ProviderWrite {
            at,
            call,
            instance_id: id.clone(),
            instance_name: name.to_owned(),
            outcome: WriteOutcome::Unknown,
            error_kind: None,
            error: None,
            new_instance_id: None,
            market: market.cloned(),
            response_time: None,
        };
        let mut entries = self.0.borrow_mut();
        entries.push(Entry { write, is_saved: false });
        Ticket(entries.len() - 1)
    }

    /// Puts its end on record.
    pub(super) fn end(
        &self,
        Ticket(at): Ticket,
        answer: Result<Option<&InstanceId>, &CloudError>,
        response_time: i64,
    ) -> ProviderWrite {
        let mut entries = self.0.borrow_mut();
        let Entry { write, is_saved } = &mut entries[at];
        *is_saved = false;
        write.response_time = Some(response_time);
        match answer {
            Ok(created) => {
                write.outcome = WriteOutcome::Accepted;
                write.new_instance_id = created.cloned();
            }
            Err(error) => {
                write.outcome = match error.effect {
                    Effect::NotSent => WriteOutcome::NotSent,
                    Effect::Refused => WriteOutcome::Refused,
                    Effect::Possible => WriteOutcome::Unknown,
                };
                write.response_time = write.response_time.filter(|_| error.effect != Effect::NotSent);
                write.error_kind = Some(error.kind);
                write.error = Some(error.to_string());
            }
        }
        write.clone()
    }

    /// Entries that are not stored yet.
    pub(super) fn unsaved(&self) -> Vec<Change> {
        let mut entries = self.0.borrow_mut();
        let unsaved = entries.iter_mut().enumerate().filter(|(_, entry)| !entry.is_saved);
        unsaved
            .map(|(at, entry)| {
                entry.is_saved = true;
                Change::Write(at, entry.write.clone())
            })
            .collect()
    }

    /// All entries, for the record of the pass. They need not be stored separately any more.
    #[must_use]
    pub fn close(&self) -> Vec<ProviderWrite> {
        let mut entries = self.0.borrow_mut();
        entries.iter_mut().for_each(|entry| entry.is_saved = true);
        entries.iter().map(|entry| entry.write.clone()).collect()
    }
}
