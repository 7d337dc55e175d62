//! The markets during a pass: what its calls learn is shared by all workers, and goes with the next commit into the store.
//!
//! The first call to a market of which it is not known that it has room goes alone; the others wait for its answer. So a
//! market without room costs one refused call, however many instances would go there. So does an account that may not have
//! more: the first creation of a billing mode goes alone, too.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokio::sync::Notify;

use crate::cloud::CloudRead;
use crate::core::pass::bridge::{Bridge, Bridges, KnownBridges};
use crate::core::pass::ladder::Board;
use crate::core::recreation::blueprint::Prepared;
use crate::core::world::instance::{Billing, InstanceId, Place};
use crate::core::world::market::OfferQuery;
use crate::core::world::money::Usd;
use crate::core::world::policy::BridgePolicy;
use crate::core::world::time::Timestamp;
use crate::store::records::Change;

/// The longest time spent on reading prices.
const PATIENCE_WITH_PRICES: Duration = Duration::from_secs(5);

/// What a pass knows of markets.
#[derive(Debug, Default)]
pub struct SharedBoard {
    board: RefCell<Board>,
    /// Where a first call is under way.
    asking: RefCell<HashSet<Place>>,
    /// Where a call of this pass was accepted.
    open: RefCell<HashSet<Place>>,
    answered: Notify,
    /// Why nothing more is created in this pass, by what it is billed as.
    closed: RefCell<Vec<(Billing, String)>>,
    /// What the account may have more of, as an answer of this pass showed, and what the first creation asks for.
    granted: RefCell<Vec<Billing>>,
    ordering: RefCell<Vec<Billing>>,
    bridges: RefCell<KnownBridges>,
    changed_bridges: RefCell<BTreeSet<InstanceId>>,
    has_asked_prices: Cell<bool>,
}

/// Whether a market may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turnout {
    Ask,
    /// It refused meanwhile, and is not asked again before this time.
    Rests(Timestamp),
}

/// The right to send the first creation of a billing mode, which the others wait for.
pub(super) struct OrderTurn<'a> {
    board: &'a SharedBoard,
    billing: Option<Billing>,
}

impl Drop for OrderTurn<'_> {
    fn drop(&mut self) {
        if let Some(billing) = self.billing.take() {
            self.board.ordering.borrow_mut().retain(|it| *it != billing);
            self.board.answered.notify_waiters();
        }
    }
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

    /// Reads the prices of the markets where instances are, if they are unknown or old; once in a pass, and for a few seconds
    /// at most. Savings are reported by them.
    pub async fn read_prices<C: CloudRead>(&self, cloud: &C, now: Timestamp) {
        let is_due = self.board.borrow().lacks_prices(now) && !self.has_asked_prices.replace(true);
        if !is_due {
            return;
        }
        let (cluster_id, product_name, billing) = (None, String::new(), "spot".to_owned());
        let query = OfferQuery { cluster_id, product_name, gpu_num: 1, billing };
        if let Ok(Ok(offers)) = tokio::time::timeout(PATIENCE_WITH_PRICES, cloud.offers(&query)).await {
            self.board.borrow_mut().state_prices(&offers, now);
        }
    }

    /// A creation was refused for money, a quota, a limit of calls or the key: any other of its billing would be, too.
    pub(super) fn close(&self, billing: &Billing, why: &str) {
        self.closed.borrow_mut().push((billing.clone(), why.to_owned()));
    }

    /// Waits until it is known whether the account may have more of this billing. The first who asks orders, and the others
    /// wait until its turn is dropped; `Err` says why nothing more is created.
    pub(super) async fn order_turn(&self, billing: &Billing) -> Result<OrderTurn<'_>, String> {
        loop {
            if let Some(why) = self.closed(billing) {
                return Err(why);
            }
            if self.granted.borrow().contains(billing) {
                return Ok(OrderTurn { board: self, billing: None });
            }
            if !self.ordering.borrow().contains(billing) {
                self.ordering.borrow_mut().push(billing.clone());
                return Ok(OrderTurn { board: self, billing: Some(billing.clone()) });
            }
            self.answered.notified().await;
        }
    }

    /// The account may have more of this billing, as far as an answer says.
    pub(super) fn grant(&self, billing: &Billing) {
        if !self.granted.borrow().contains(billing) {
            self.granted.borrow_mut().push(billing.clone());
        }
    }

    /// Whether something is not created any more in this pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.closed.borrow().is_empty()
    }

    /// Why nothing more of this billing is created in this pass, if so.
    pub(super) fn closed(&self, billing: &Billing) -> Option<String> {
        self.closed.borrow().iter().find(|(closed, _)| closed == billing).map(|(_, why)| why.clone())
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
