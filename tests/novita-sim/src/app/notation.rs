//! Scripts of applications as text, for control calls and command lines.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::{App, AppKind, Change, Condition, Fact, Pace, Than};

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseAppError(String);

impl Display for ParseAppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseAppError {}

fn bad(text: impl Display) -> ParseAppError {
    ParseAppError(text.to_string())
}

type Result<T> = std::result::Result<T, ParseAppError>;

const KEYS: &str = "base, jitter, errors, error-time, hangs, boot, spot, spot-errors, spot-hangs, when, all, all-errors, \
                    all-hangs, all-when";

/// `kind:port` and then, in any order, `key=value`: times like `20ms`, `1500us`, `30s`, `10m`; shares like `1%`; a change
/// of pace as a share with a sign, `+3%`, or as a time.
///
/// ```
/// use novita_sim::App;
/// let text = "http:8080 base=20ms jitter=1ms errors=1% boot=30s spot=+3% spot-errors=2% when=moved>=50%,up>=10m";
/// assert_eq!(text.parse::<App>().expect(text).to_string(), text);
/// ```
impl FromStr for App {
    type Err = ParseAppError;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let head = words.next().unwrap_or_default();
        let (kind, port) = head.split_once(':').ok_or_else(|| bad(format_args!("{head:?} is no \"http:PORT\"")))?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| bad(format_args!("{head:?} has no port")))?;
        let mut app = match kind {
            "http" => Self::http(port),
            "tcp" => Self::tcp(port),
            _ => return Err(bad(format_args!("{kind:?} is neither http nor tcp"))),
        };
        for word in words {
            app.set(word)?;
        }
        let is_idle = |change: &Change| {
            !change.when.is_empty() && *change == Change { when: change.when.clone(), ..Change::default() }
        };
        for (change, name) in [(&app.spot, "when"), (&app.all, "all-when")] {
            if is_idle(change) {
                return Err(bad(format_args!("{name} without anything that changes")));
            }
        }
        Ok(app)
    }
}

impl App {
    fn set(&mut self, word: &str) -> Result<()> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let (change, rest) = match key {
            "when" => (&mut self.spot, "when"),
            key if key == "all" || key.starts_with("all-") => (&mut self.all, key.get(4..).unwrap_or("pace")),
            key if key == "spot" || key.starts_with("spot-") => (&mut self.spot, key.get(5..).unwrap_or("pace")),
            _ => {
                match key {
                    "base" => self.base_us = micros(value)?,
                    "jitter" => self.jitter_us = micros(value)?,
                    "errors" => self.errors = rate(value)?,
                    "error-time" => self.error_us = Some(micros(value)?),
                    "boot" => self.boot_ms = millis(value)?,
                    "hangs" if word == key => self.hangs = true,
                    _ => return Err(unknown(word)),
                }
                return Ok(());
            }
        };
        match rest {
            "pace" => change.pace = pace(value)?,
            "errors" => change.errors = Some(rate(value)?),
            "hangs" if word == key => change.hangs = true,
            "when" => change.when = value.split(',').map(str::parse).collect::<Result<_>>()?,
            _ => return Err(unknown(word)),
        }
        Ok(())
    }
}

fn unknown(word: &str) -> ParseAppError {
    bad(format_args!("{word:?} means nothing; known are {KEYS}"))
}

impl FromStr for Condition {
    type Err = ParseAppError;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            bad(format_args!("{text:?} is no condition like \"moved>=50%\", \"time<...\", \"up>=10m\", \"sample>=50\""))
        };
        let place = text.find(['<', '>']).ok_or_else(wrong)?;
        let (what, rest) = text.split_at(place);
        let (is, value) = match (rest.strip_prefix(">="), rest.strip_prefix('>'), rest.strip_prefix('<')) {
            (Some(value), _, _) => (Than::AtLeast, value),
            (None, Some(value), _) => (Than::Above, value),
            (None, None, Some(value)) => (Than::Below, value),
            (None, None, None) => return Err(wrong()),
        };
        let (what, value) = match what {
            "moved" => {
                let percent = value.strip_suffix('%').and_then(|value| value.parse::<u8>().ok());
                (Fact::Moved, percent.filter(|percent| *percent <= 100).map(i64::from).ok_or_else(wrong)?)
            }
            "time" => (Fact::Time, value.parse().map_err(|_| wrong())?),
            "up" => (Fact::Up, millis(value)?),
            "sample" => (Fact::Sample, value.parse::<u32>().map_err(|_| wrong())?.into()),
            _ => return Err(wrong()),
        };
        Ok(Self { what, is, value })
    }
}

/// Units of time, the largest first, in microseconds.
const UNITS: [(&str, u64); 5] = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

fn micros(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let micros = unit.and_then(|(_, unit)| number.parse::<u64>().ok()?.checked_mul(*unit));
    micros.ok_or_else(|| bad(format_args!("{text:?} is no time like 20ms, 1500us or 30s")))
}

fn millis(text: &str) -> Result<i64> {
    let micros = micros(text)?;
    let whole = i64::try_from(micros / 1_000).ok().filter(|_| micros % 1_000 == 0);
    whole.ok_or_else(|| bad(format_args!("{text:?} is no whole number of milliseconds")))
}

/// Per 10 000.
fn rate(text: &str) -> Result<u32> {
    let rate = percent(text, 2).and_then(|rate| u32::try_from(rate).ok()).filter(|rate| *rate <= 10_000);
    rate.ok_or_else(|| bad(format_args!("{text:?} is no share from 0% to 100% with two decimals at most")))
}

fn pace(text: &str) -> Result<Pace> {
    let wrong = || bad(format_args!("{text:?} is neither a change like +3% nor a time like 21ms"));
    match text.split_at_checked(1) {
        Some(("+", share)) => Ok(Pace::By(percent(share, 4).ok_or_else(wrong)?)),
        Some(("-", share)) => Ok(Pace::By(-percent(share, 4).filter(|ppm| *ppm <= 1_000_000).ok_or_else(wrong)?)),
        _ => micros(text).map(Pace::To).map_err(|_| wrong()),
    }
}

/// A percentage as a whole number of its smallest decimals.
fn percent(text: &str, decimals: usize) -> Option<i64> {
    let text = text.strip_suffix('%')?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = whole.len() <= 9 && !whole.is_empty() && part.len() <= decimals;
    let digits = format!("{whole}{part:0<decimals$}");
    let is_number = is_number && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

/// The other way round.
struct Percent(u64, usize);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, decimals) = *self;
        let digits = format!("{value:0>width$}", width = decimals + 1);
        let (whole, part) = digits.split_at(digits.len() - decimals);
        match part.trim_end_matches('0') {
            "" => write!(f, "{whole}%"),
            part => write!(f, "{whole}.{part}%"),
        }
    }
}

struct Micros(u64);

impl Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(fits).filter(|_| self.0 > 0).unwrap_or(&("us", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

fn as_micros(millis: i64) -> Micros {
    Micros(u64::try_from(millis).unwrap_or(0).saturating_mul(1_000))
}

impl Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, kind, base_us, jitter_us, errors, error_us, hangs, boot_ms, all, spot } = self;
        let kind = if *kind == AppKind::Http { "http" } else { "tcp" };
        write!(f, "{kind}:{port} base={}", Micros(*base_us))?;
        if *jitter_us > 0 {
            write!(f, " jitter={}", Micros(*jitter_us))?;
        }
        if *errors > 0 {
            write!(f, " errors={}", Percent(u64::from(*errors), 2))?;
        }
        if let Some(error_us) = error_us {
            write!(f, " error-time={}", Micros(*error_us))?;
        }
        if *hangs {
            f.write_str(" hangs")?;
        }
        if *boot_ms > 0 {
            write!(f, " boot={}", as_micros(*boot_ms))?;
        }
        write_change(f, all, "all", "all-when")?;
        write_change(f, spot, "spot", "when")
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &Change, name: &str, when_name: &str) -> fmt::Result {
    let Change { pace, errors, hangs, when } = change;
    match *pace {
        Pace::Same => {}
        Pace::By(ppm) => {
            let sign = if ppm < 0 { '-' } else { '+' };
            write!(f, " {name}={sign}{}", Percent(ppm.unsigned_abs(), 4))?;
        }
        Pace::To(us) => write!(f, " {name}={}", Micros(us))?,
    }
    if let Some(errors) = errors {
        write!(f, " {name}-errors={}", Percent(u64::from(*errors), 2))?;
    }
    if *hangs {
        write!(f, " {name}-hangs")?;
    }
    for (number, condition) in when.iter().enumerate() {
        match number {
            0 => write!(f, " {when_name}={condition}")?,
            _ => write!(f, ",{condition}")?,
        }
    }
    Ok(())
}

impl Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, is, value } = *self;
        let is = match is {
            Than::AtLeast => ">=",
            Than::Above => ">",
            Than::Below => "<",
        };
        match what {
            Fact::Moved => write!(f, "moved{is}{value}%"),
            Fact::Time => write!(f, "time{is}{value}"),
            Fact::Up => write!(f, "up{is}{}", as_micros(value)),
            Fact::Sample => write!(f, "sample{is}{value}"),
        }
    }
}
