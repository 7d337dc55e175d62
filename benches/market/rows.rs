//! The table: which fleet on which market, and what the program must reach there.

use std::time::Duration;

use novita_sim::{Hint, Notice, Rules, Spec};
use respot::core::world::money::Usd;
use respot::core::world::policy::{BridgePolicy, Eligibility, NoticePolicy, Policy};
use respot::settings::rows::KEEP_TRYING;

use crate::replay::Setup;
use crate::trace::{A, A14, B, C, D, E, F, Source, Trace};

/// One line of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) source: Source,
    /// Between passes.
    pub(crate) minutes: u64,
    pub(crate) fleet: u32,
    pub(crate) column: Column,
    pub(crate) bars: Bars,
}

/// What is different from a market without notice, with default settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Plain,
    /// Instances are told an hour before they are taken, and the program acts on it.
    Notice,
    /// The program may use instances on demand as a bridge.
    Bridge,
    /// A pass goes on trying for four minutes while anything is down.
    KeepsTrying,
    /// The product list does not say what is in stock.
    NoHint,
    /// The product list says that everything is in stock.
    AlwaysYes,
    /// Every fourth instance is tied to its cluster by a network volume.
    SomeTied,
    /// All of them are.
    AllTied,
    /// One in five migrations fails and leaves its instance `migrating`.
    FailingJobs,
    /// People stop instances now and then, and want them to stay so: only what was reclaimed is brought back.
    Stops,
    /// The same where everything that is exited is brought back.
    StopsIgnored,
}

/// What must be reached; 0 and infinity ask for nothing.
#[derive(Clone, Copy)]
pub(crate) struct Bars {
    /// The least share of the time that instances are up, in percent.
    pub(crate) up: f64,
    /// The same as a multiple of what the eager loop reaches.
    pub(crate) of_eager: f64,
    /// The most refused calls for each spell.
    pub(crate) refused: f64,
    /// The most instances that are started after their users stopped them.
    pub(crate) woken: usize,
    /// The most that an hour up may cost, in hours of spot.
    pub(crate) cost: f64,
    /// The longest that an instance may be down, in minutes.
    pub(crate) spell: u64,
}

/// Instances that the provider takes while they run: at most so many times as from the eager loop. A pass that goes on
/// trying takes room sooner than a loop that looks once in an interval can, and loses it more often: it is not held to this.
pub(crate) const MOST_RECLAIMS: f64 = 1.10;

const NONE: Bars =
    Bars { up: 0.0, of_eager: 0.0, refused: f64::INFINITY, woken: 0, cost: f64::INFINITY, spell: u64::MAX };

impl Bars {
    const fn up(up: f64) -> Self {
        Self { up, ..NONE }
    }

    const fn of_eager(self, of_eager: f64) -> Self {
        Self { of_eager, ..self }
    }

    const fn refused(self, refused: f64) -> Self {
        Self { refused, ..self }
    }
}

const fn row(source: Source, minutes: u64, column: Column, bars: Bars) -> Row {
    Row { source, minutes, fleet: 9, column, bars }
}

const fn fleet(fleet: u32, row: Row) -> Row {
    Row { fleet, ..row }
}

use Column::{AllTied, AlwaysYes, Bridge, FailingJobs, KeepsTrying, NoHint, Plain, SomeTied, Stops, StopsIgnored};

/// The share of the eager loop's availability that is enough without notice.
const EAGER: f64 = 0.995;

pub(crate) const ROWS: &[Row] = &[
    row(A14, 15, Plain, Bars::up(95.2).of_eager(EAGER).refused(1.5)),
    row(A14, 5, Plain, Bars::up(96.3).of_eager(EAGER)),
    row(A, 15, Plain, Bars::up(97.4).of_eager(EAGER).refused(1.0)),
    row(A, 5, Plain, Bars::up(98.2).of_eager(EAGER)),
    row(B, 15, Plain, Bars::up(84.2).of_eager(EAGER).refused(1.5)),
    row(B, 5, Plain, Bars::up(87.0).of_eager(EAGER)),
    fleet(18, row(C, 15, Plain, Bars::up(73.2).of_eager(EAGER).refused(3.0))),
    fleet(18, row(C, 5, Plain, Bars::up(75.5).of_eager(EAGER))),
    row(D, 15, Plain, Bars::up(74.4).of_eager(EAGER).refused(12.0)),
    row(D, 5, Plain, Bars::up(75.7).of_eager(EAGER)),
    row(E, 15, Plain, NONE),
    row(E, 5, Plain, NONE),
    row(F, 15, Plain, NONE),
    row(F, 5, Plain, NONE),
    row(A14, 15, Column::Notice, Bars::up(98.4).of_eager(1.010)),
    row(A14, 5, Column::Notice, Bars::up(98.5)),
    row(A, 15, Column::Notice, Bars::up(99.3).of_eager(1.008)),
    row(A, 5, Column::Notice, Bars::up(99.4)),
    row(B, 15, Column::Notice, Bars::up(93.8).of_eager(1.032)),
    row(B, 5, Column::Notice, Bars::up(94.9)),
    fleet(18, row(C, 15, Column::Notice, Bars::up(84.6).of_eager(1.015))),
    fleet(18, row(C, 5, Column::Notice, Bars::up(86.0))),
    row(D, 15, Column::Notice, Bars::up(83.0)),
    row(D, 5, Column::Notice, Bars::up(84.3)),
    row(A14, 15, Bridge, Bars::up(97.0)),
    row(A14, 5, Bridge, Bars::up(97.9)),
    row(A, 15, Bridge, Bars { cost: 1.04, spell: 45, ..Bars::up(98.0) }),
    row(A, 5, Bridge, Bars { cost: 1.04, spell: 45, ..Bars::up(98.7) }),
    row(B, 15, Bridge, Bars::up(93.0)),
    row(B, 5, Bridge, Bars::up(96.2)),
    fleet(18, row(C, 15, Bridge, Bars::up(93.3))),
    fleet(18, row(C, 5, Bridge, Bars::up(94.7))),
    row(D, 15, Bridge, Bars::up(95.1)),
    row(D, 5, Bridge, Bars::up(96.1)),
    row(A14, 15, KeepsTrying, Bars::up(95.7)),
    fleet(18, row(C, 15, KeepsTrying, Bars::up(74.7))),
    row(A, 15, NoHint, Bars::up(97.3)),
    row(A, 15, AlwaysYes, Bars::up(97.3)),
    row(A, 15, SomeTied, Bars::up(84.1)),
    row(A, 15, AllTied, Bars::up(61.1)),
    row(A, 15, FailingJobs, Bars::up(97.3)),
    row(A, 15, Stops, NONE),
    row(A, 15, StopsIgnored, Bars { woken: usize::MAX, ..NONE }),
    fleet(60, row(A, 15, Plain, Bars::up(97.4).refused(0.3))),
];

impl Row {
    pub(crate) fn name(&self) -> String {
        let Self { source, minutes, fleet, column, bars: _ } = self;
        let column = match column {
            Plain => "",
            Column::Notice => ", notice",
            Bridge => ", bridge",
            KeepsTrying => ", keeps trying, at every phase",
            NoHint => ", no hint",
            AlwaysYes => ", hint always yes",
            SomeTied => ", some tied",
            AllTied => ", all tied",
            FailingJobs => ", failing jobs",
            Stops => ", people stop some",
            StopsIgnored => ", people stop some in vain",
        };
        format!("{}, {minutes} min, fleet of {fleet}{column}", source.name)
    }

    /// The settings of the program; `None` where it does not have them yet.
    pub(crate) fn policy(&self) -> Option<Policy> {
        match self.column {
            Plain | NoHint | AlwaysYes | SomeTied | AllTied | FailingJobs | StopsIgnored => Some(Policy::default()),
            Stops => Some(Policy { eligibility: Eligibility::Reclaimed, ..Policy::default() }),
            KeepsTrying => Some(Policy::default()),
            Column::Notice => {
                let minutes = (2 * self.minutes).max(20);
                let lead = Duration::from_secs(60 * minutes);
                Some(Policy { notice: Some(NoticePolicy { lead, overlap: Duration::ZERO }), ..Policy::default() })
            }
            Bridge => {
                let per_day = Usd::from_micros(10_000 * 1_000_000);
                Some(Policy { bridge: BridgePolicy { per_day, ..BridgePolicy::DEFAULT }, ..Policy::default() })
            }
        }
    }

    /// How long its passes go on trying.
    pub(crate) fn keep_trying(&self) -> Duration {
        if self.column == KeepsTrying { KEEP_TRYING } else { Duration::ZERO }
    }

    /// How many of a lineage may live at once.
    pub(crate) fn most_living(&self) -> usize {
        if matches!(self.column, Column::Notice | Bridge) { 2 } else { 1 }
    }

    /// The replays that make the row: one, or one for each tick of the interval at which passes may begin. What a pass
    /// gains by going on depends on where in the interval room comes back.
    pub(crate) fn setups<'a>(&self, trace: &'a Trace) -> Vec<Setup<'a>> {
        let Self { fleet, minutes, column, .. } = *self;
        let phases = if column == KeepsTrying { trace.every(minutes) } else { 1 };
        (0..phases).map(|phase| Setup { trace, fleet, minutes, phase, column }).collect()
    }
}

impl Column {
    /// How the market differs.
    pub(crate) fn rules(self, rules: &mut Rules) {
        match self {
            NoHint => rules.hint = Hint::Absent,
            AlwaysYes => rules.hint = Hint::AlwaysYes,
            FailingJobs => rules.fail_migrations = 0.2,
            Column::Notice => rules.notice = Notice::Grace { withdrawn: 0.0, tick_ms: 0 },
            Plain | Bridge | KeepsTrying | SomeTied | AllTied | Stops | StopsIgnored => {}
        }
    }

    /// How often a day people stop an instance, if they do.
    pub(crate) fn stops_a_day(self) -> Option<f64> {
        matches!(self, Stops | StopsIgnored).then_some(0.1)
    }

    /// Instance number k, as it begins.
    pub(crate) fn instance(self, number: u32, spec: Spec) -> Spec {
        let is_tied = match self {
            SomeTied => number.is_multiple_of(4),
            AllTied => true,
            _ => false,
        };
        if is_tied { spec.network_volume(&format!("vol-{number}"), "/data") } else { spec }
    }
}
