//! What runs on the machines: an application that answers as a script says, so that its latency and its errors are known
//! exactly. Nothing here is random: the same samples bring the same answers.

mod notation;
mod serving;

pub use notation::ParseAppError;
pub(crate) use serving::{Apps, endpoints};

/// An application, which is part of an image: every machine of the image runs it, on a port that it exposes.
///
/// How long good answers take goes through a pattern, `base - jitter`, `base`, `base + jitter`, so that the median of
/// five or more is `base`. Failures are spread evenly: of each 10 000 samples in a row exactly as many fail as the script
/// says, and of each `n` samples with a whole number of them, exactly that number.
///
/// ```
/// use novita_sim::{App, Change, Condition};
///
/// let slower_on_spot = App::http(8080).base_us(70_000).spot(Change::to_us(75_000));
/// let breaks_half_way = App::http(8080).spot(Change::errors(500).when(Condition::moved_above(50)));
/// let same = "http:8080 base=20ms spot-errors=5% when=moved>50%".parse::<App>().expect("a script");
/// assert_eq!(breaks_half_way, same);
/// # assert_ne!(slower_on_spot, same);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The port it listens on.
    pub port: u16,
    /// What it speaks.
    pub kind: AppKind,
    /// How long an answer takes, in microseconds.
    pub base_us: u64,
    /// How far good answers are from that, in turn: below, at it, above.
    pub jitter_us: u64,
    /// How many of 10 000 samples fail.
    pub errors: u32,
    /// How long a failure takes; as long as a good answer without jitter if `None`.
    pub error_us: Option<u64>,
    /// Whether it never answers.
    pub hangs: bool,
    /// So long after its machine started it does not listen yet. The world's time.
    pub boot_ms: i64,
    /// What is different on every machine.
    pub all: Change,
    /// What is different on spot machines, after that.
    pub spot: Change,
}

/// What an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppKind {
    /// HTTP: 200 or 500 for every path.
    Http,
    /// It accepts connections and says nothing. The script is followed in process alone: over real sockets connections are
    /// accepted at once, always.
    Tcp,
}

/// How an application is different while all conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// How long an answer takes.
    pub pace: Pace,
    /// How many of 10 000 samples fail; as before if `None`.
    pub errors: Option<u32>,
    /// Whether it never answers.
    pub hangs: bool,
    /// When; always if there is none.
    pub when: Vec<Condition>,
}

/// How long an answer takes, compared with before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As before.
    #[default]
    Same,
    /// Longer by so many millionths, rounded to the next microsecond below; negative for shorter.
    By(i64),
    /// So many microseconds.
    To(u64),
}

/// A condition: what is compared, how, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is compared.
    pub what: Fact,
    /// How.
    pub is: Than,
    /// With what.
    pub value: i64,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The share of spot among the running spot and on-demand machines of the world, in percent.
    Moved,
    /// The world's time in Unix milliseconds.
    Time,
    /// Milliseconds since the machine started.
    Up,
    /// How many samples this port of this machine has answered.
    Sample,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Than {
    /// At least.
    AtLeast,
    /// More than.
    Above,
    /// Less than.
    Below,
}

impl App {
    /// One that speaks HTTP: 20 ms, every time.
    #[must_use]
    pub fn http(port: u16) -> Self {
        Self {
            port,
            kind: AppKind::Http,
            base_us: 20_000,
            jitter_us: 0,
            errors: 0,
            error_us: None,
            hangs: false,
            boot_ms: 0,
            all: Change::default(),
            spot: Change::default(),
        }
    }

    /// One that accepts connections, and nothing else.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self { kind: AppKind::Tcp, ..Self::http(port) }
    }

    /// How long an answer takes, in microseconds.
    #[must_use]
    pub fn base_us(self, base_us: u64) -> Self {
        Self { base_us, ..self }
    }

    /// How far good answers are from that, in turn: below, at it, above.
    #[must_use]
    pub fn jitter_us(self, jitter_us: u64) -> Self {
        Self { jitter_us, ..self }
    }

    /// How many of 10 000 samples fail.
    #[must_use]
    pub fn errors(self, per_10_000: u32) -> Self {
        Self { errors: per_10_000, ..self }
    }

    /// How long a failure takes, in microseconds.
    #[must_use]
    pub fn error_us(self, error_us: u64) -> Self {
        Self { error_us: Some(error_us), ..self }
    }

    /// It never answers.
    #[must_use]
    pub fn hangs(self) -> Self {
        Self { hangs: true, ..self }
    }

    /// So long after its machine started it does not listen yet.
    #[must_use]
    pub fn boot_ms(self, boot_ms: i64) -> Self {
        Self { boot_ms, ..self }
    }

    /// What is different on spot machines.
    #[must_use]
    pub fn spot(self, spot: Change) -> Self {
        Self { spot, ..self }
    }

    /// What is different on every machine, for example because a database is slow.
    #[must_use]
    pub fn all(self, all: Change) -> Self {
        Self { all, ..self }
    }

    /// Whether it looks at other machines.
    pub(crate) fn looks_around(&self) -> bool {
        self.all.when.iter().chain(&self.spot.when).any(|it| it.what == Fact::Moved)
    }

    /// Its next answer.
    pub(crate) fn answer(&self, scene: &Scene, counts: &mut Counts) -> Knock {
        let number = counts.asked;
        counts.asked += 1;
        let (mut base, mut errors, mut hangs) = (self.base_us, self.errors, self.hangs);
        for (change, applies) in [(&self.all, true), (&self.spot, scene.is_spot)] {
            if applies && change.when.iter().all(|it| it.holds(scene, number)) {
                base = change.pace.of(base);
                errors = change.errors.unwrap_or(errors);
                hangs |= change.hangs;
            }
        }
        if hangs {
            return Knock { took_us: 0, said: Said::Nothing };
        }
        let failed_of = |samples: u64| samples * u64::from(errors.min(10_000)) / 10_000;
        if failed_of(number + 1) > failed_of(number) {
            return Knock { took_us: self.error_us.unwrap_or(base), said: Said::Failed };
        }
        let took_us = match counts.good % 3 {
            0 => base.saturating_sub(self.jitter_us),
            1 => base,
            _ => base + self.jitter_us,
        };
        counts.good += 1;
        Knock { took_us, said: Said::Fine }
    }
}

impl Change {
    /// An answer takes so many microseconds.
    #[must_use]
    pub fn to_us(us: u64) -> Self {
        Self { pace: Pace::To(us), ..Self::default() }
    }

    /// An answer takes so many millionths longer.
    #[must_use]
    pub fn slower_ppm(ppm: i64) -> Self {
        Self { pace: Pace::By(ppm), ..Self::default() }
    }

    /// So many of 10 000 samples fail.
    #[must_use]
    pub fn errors(per_10_000: u32) -> Self {
        Self::default().and_errors(per_10_000)
    }

    /// And so many of 10 000 samples fail.
    #[must_use]
    pub fn and_errors(self, per_10_000: u32) -> Self {
        Self { errors: Some(per_10_000), ..self }
    }

    /// It never answers.
    #[must_use]
    pub fn hangs() -> Self {
        Self { hangs: true, ..Self::default() }
    }

    /// Only under this condition; under all of several.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.when.push(condition);
        self
    }
}

impl Pace {
    fn of(self, base: u64) -> u64 {
        match self {
            Self::Same => base,
            Self::By(ppm) => {
                let whole = i128::from(base) * (1_000_000 + i128::from(ppm)) / 1_000_000;
                u64::try_from(whole).unwrap_or(0)
            }
            Self::To(us) => us,
        }
    }
}

impl Condition {
    const fn new(what: Fact, is: Than, value: i64) -> Self {
        Self { what, is, value }
    }

    /// At least this share of the running machines is spot, in percent.
    #[must_use]
    pub fn moved_at_least(percent: u8) -> Self {
        Self::new(Fact::Moved, Than::AtLeast, percent.into())
    }

    /// More than this share of the running machines is spot, in percent.
    #[must_use]
    pub fn moved_above(percent: u8) -> Self {
        Self::new(Fact::Moved, Than::Above, percent.into())
    }

    /// From this time of the world on.
    #[must_use]
    pub fn from_ms(time: i64) -> Self {
        Self::new(Fact::Time, Than::AtLeast, time)
    }

    /// Before this time of the world.
    #[must_use]
    pub fn before_ms(time: i64) -> Self {
        Self::new(Fact::Time, Than::Below, time)
    }

    /// From so long after the machine's start on.
    #[must_use]
    pub fn up_for_ms(ms: i64) -> Self {
        Self::new(Fact::Up, Than::AtLeast, ms)
    }

    /// After so many samples.
    #[must_use]
    pub fn after_samples(samples: u32) -> Self {
        Self::new(Fact::Sample, Than::AtLeast, samples.into())
    }

    fn holds(self, scene: &Scene, number: u64) -> bool {
        let (spot, running) = (i64::from(scene.spot), i64::from(scene.running));
        // Shares are compared as products: nothing is rounded.
        let (left, right) = match self.what {
            Fact::Moved => (100 * spot, self.value * running.max(1)),
            Fact::Time => (scene.now, self.value),
            Fact::Up => (scene.up_ms, self.value),
            Fact::Sample => (i64::try_from(number).unwrap_or(i64::MAX), self.value),
        };
        match self.is {
            Than::AtLeast => left >= right,
            Than::Above => left > right,
            Than::Below => left < right,
        }
    }
}

/// What an application can see of its surroundings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene {
    pub(crate) now: i64,
    pub(crate) up_ms: i64,
    pub(crate) is_spot: bool,
    /// Running spot machines.
    pub(crate) spot: u32,
    /// Running spot and on-demand machines.
    pub(crate) running: u32,
}

/// How often one port of a machine was asked, and how often it answered well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    asked: u64,
    good: u64,
}

/// What came of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// What was said.
    pub said: Said,
}

/// What an application, or the lack of one, said to a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A good answer.
    Fine,
    /// A bad answer; over HTTP 500.
    Failed,
    /// Nothing, for ever.
    Nothing,
    /// Nobody listens there.
    Refused,
    /// Somebody listens there who does not speak HTTP.
    Closed,
}
