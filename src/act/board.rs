//! The markets during a pass: what its calls learn is shared by all workers, and goes with the next commit into the store.
//!
//! The first call to a market of which it is not known that it has room goes alone; the others wait for its answer. So a
//! market without room costs one refused call, however many instances would go there.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeSet, HashSet};

use tokio::sync::Notify;

use crate::core::pass::bridge::{Bridge, Bridges, KnownBridges};
use crate::core::pass::ladder::Board;
use crate::core::recreation::blueprint::Prepared;
use crate::core::world::instance::{InstanceId, Place};
use crate::core::world::money::Usd;
use crate::core::world::policy::BridgePolicy;
use crate::core::world::time::Timestamp;
use crate::store::records::Change;

/// What a pass knows of markets.
#[derive(Debug, Default)]
pub struct SharedBoard {
    board: RefCell<Board>,
    /// Where a first call is under way.
    asking: RefCell<HashSet<Place>>,
    /// Where a call of this pass was accepted.
    open: RefCell<HashSet<Place>>,
    answered: Notify,
    /// Why nothing more is created in this pass.
    closed: RefCell<Option<String>>,
    bridges: RefCell<KnownBridges>,
    changed_bridges: RefCell<BTreeSet<InstanceId>>,
}

/// Whether a market may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turnout {
    Ask,
    /// It refused meanwhile, and is not asked again before this time.
    Rests(Timestamp),
}

impl SharedBoard {
    /// Begins a round with what it observed.
    pub fn begin(&self, board: Board, bridges: KnownBridges) {
        *self.board.borrow_mut() = board;
        *self.bridges.borrow_mut() = bridges;
        self.open.borrow_mut().clear();
    }

    #[must_use]
    pub fn board(&self) -> Ref<'_, Board> {
        self.board.borrow()
    }

    /// Waits until it is known whether a market may be asked for this many GPUs. After [`Turnout::Ask`] the caller says
    /// how it ended: [`Self::accepted`], [`Self::refused`] or [`Self::unanswered`].
    pub(super) async fn turn(&self, place: &Place, gpus: u32, now: impl Fn() -> Timestamp) -> Turnout {
        loop {
            if let Some(until) = self.board.borrow().rests(place, gpus, now()) {
                return Turnout::Rests(until);
            }
            if self.open.borrow().contains(place) || self.asking.borrow_mut().insert(place.clone()) {
                return Turnout::Ask;
            }
            self.answered.notified().await;
        }
    }

    pub(super) fn accepted(&self, place: &Place, now: Timestamp) {
        self.board.borrow_mut().accept(place, now);
        self.open.borrow_mut().insert(place.clone());
        self.unanswered(place);
    }

    pub(super) fn refused(&self, place: &Place, gpus: u32, now: Timestamp) {
        self.board.borrow_mut().refuse(place, gpus, now);
        self.open.borrow_mut().remove(place);
        self.unanswered(place);
    }

    /// The call says nothing about the market: the next one asks.
    pub(super) fn unanswered(&self, place: &Place) {
        self.asking.borrow_mut().remove(place);
        self.answered.notify_waiters();
    }

    /// What the provider stated while a replacement was prepared.
    pub fn state(&self, prepared: &Prepared, now: Timestamp) {
        self.board.borrow_mut().state(prepared, now);
    }

    /// A creation was refused for money, a quota or the key: any other would be, too.
    pub(super) fn close(&self, why: &str) {
        self.closed.borrow_mut().get_or_insert_with(|| why.to_owned());
    }

    /// Whether nothing more is created in this pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Why nothing more is created in this pass, if so.
    pub(super) fn closed(&self) -> Option<String> {
        self.closed.borrow().clone()
    }

    /// Puts an on-demand instance that is to stand in for `old` on record, if the budget allows it.
    pub(super) fn open_bridge(&self, old: &InstanceId, price: Usd, policy: &BridgePolicy, now: Timestamp) -> bool {
        let mut bridges = self.bridges.borrow_mut();
        if bridges.recorded.get(old).is_some_and(|bridge| bridge.closed_at.is_none()) {
            return true;
        }
        let may_open = bridges.may_open(price, policy, now);
        if may_open {
            let bridge = Bridge::open(price, bridges.recorded.get(old), now);
            bridges.recorded.insert(old.clone(), bridge);
            self.changed_bridges.borrow_mut().insert(old.clone());
        }
        may_open
    }

    /// The bridges on record.
    #[must_use]
    pub fn bridges(&self) -> Bridges {
        self.bridges.borrow().recorded.clone()
    }

    /// It was not created after all.
    pub(super) fn forget_bridge(&self, old: &InstanceId) {
        let mut bridges = self.bridges.borrow_mut();
        if let Some(left) = bridges.recorded.remove(old).and_then(Bridge::undone) {
            bridges.recorded.insert(old.clone(), left);
        }
        self.changed_bridges.borrow_mut().insert(old.clone());
    }

    /// What is not stored yet.
    pub(super) fn unsaved(&self) -> Vec<Change> {
        let markets = self.board.borrow_mut().take_changed().into_iter();
        let markets = markets.map(|(place, market)| Change::Market(place, market));
        let changed = std::mem::take(&mut *self.changed_bridges.borrow_mut()).into_iter();
        let bridges = self.bridges.borrow();
        let bridges = changed.map(|old| Change::Bridge(old.clone(), bridges.recorded.get(&old).copied()));
        markets.chain(bridges).collect()
    }
}
