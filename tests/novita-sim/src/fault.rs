//! What can go wrong between a client and the provider, as data: a rule says which calls it strikes and what happens to
//! them. Every rule has a compact text form, so that a scenario file or a command line can write it.

use std::fmt;
use std::str::FromStr;

use crate::api::Op;

/// A rule: calls that match are struck.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Which calls.
    pub when: Match,
    /// What happens to them.
    pub what: What,
}

/// Which calls a rule strikes. Everything that is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// The kind of call.
    pub op: Option<Op>,
    /// The instance the call is about; for a create, the name asked for. A `*` at its end stands for any rest.
    pub instance: Option<String>,
    /// Strikes from the nth matching call on, counted from 1 since the rule was added; once, unless `times` says more.
    pub nth: Option<u32>,
    /// Strikes only this share of the matching calls, in percent.
    pub percent: Option<u8>,
    /// How often the rule strikes before it is spent.
    pub times: Option<u32>,
}

/// What happens to a call that is struck.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The effect takes place at once, the answer comes this much later (milliseconds). Delays of several rules add up.
    Delay(u64),
    /// No connection: the client knows that nothing was sent. Over HTTP, where one port cannot refuse a single call, this
    /// is the same as [`What::CutBefore`].
    Refuse,
    /// The connection drops before the call has an effect. The client cannot know.
    CutBefore,
    /// The effect takes place, then the connection drops without an answer.
    CutAfter,
    /// The connection drops at once; the call takes effect this much later (milliseconds), like a request that was stuck
    /// in a queue.
    Late(u64),
    /// Another answer than the world's.
    Status {
        /// The HTTP status.
        code: u16,
        /// The machine name of the error; one that fits the status if `None`.
        reason: Option<String>,
        /// The text for people; invented if `None`.
        message: Option<String>,
        /// The value of `Retry-After`, sent as it is.
        retry_after: Option<String>,
        /// Whether the call takes effect all the same.
        effect: bool,
    },
    /// The effect takes place; the answer is 200 with JSON that breaks off.
    Malformed,
    /// The effect takes place; the answer announces its whole length, and the connection drops half way.
    Truncated,
    /// No effect; the answer is 200 with a web page, as from a proxy in between.
    Html,
    /// The effect takes place; the answer is 200 without a body.
    Empty,
    /// No answer ever.
    Hang {
        /// Whether the call takes effect.
        effect: bool,
    },
    /// The effect takes place; the body of the answer never ends.
    EndlessBody,
    /// Listings: every page is full of rows never seen before.
    EndlessPages,
    /// Listings: every page is the first.
    SamePage,
    /// Listings: each row comes twice.
    DuplicateRows,
    /// Listings: there is nothing, and the total agrees.
    NoRows,
    /// Listings: the first row of a page cannot be read: half a character in its name, or its id under a second name.
    BadRow,
    /// Listings: the first row of a page has no id.
    NamelessRow,
    /// Listings: `total` is wrong by this much.
    LyingTotal(i64),
}

impl Fault {
    /// A rule for every call of one kind.
    #[must_use]
    pub fn on(op: Op, what: What) -> Self {
        Self { when: Match { op: Some(op), ..Match::default() }, what }
    }

    /// A rule for every call.
    #[must_use]
    pub fn any(what: What) -> Self {
        Self { when: Match::default(), what }
    }

    /// Only for this instance; for a create, for this name. A `*` at its end stands for any rest.
    #[must_use]
    pub fn instance(mut self, id: &str) -> Self {
        self.when.instance = Some(id.to_owned());
        self
    }

    /// Beginning with the nth matching call.
    #[must_use]
    pub fn nth(mut self, nth: u32) -> Self {
        self.when.nth = Some(nth);
        self
    }

    /// Spent after so many strikes.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.when.times = Some(times);
        self
    }

    /// Only this share of the matching calls, in percent.
    #[must_use]
    pub fn percent(mut self, percent: u8) -> Self {
        self.when.percent = Some(percent);
        self
    }
}

impl What {
    /// An error answer without effect.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::Status { code, reason: None, message: None, retry_after: None, effect: false }
    }

    /// 429 with a `Retry-After`, as sent.
    #[must_use]
    pub fn too_many_requests(retry_after: &str) -> Self {
        Self::Status {
            code: 429,
            reason: Some("RATE_LIMIT_EXCEEDED".into()),
            message: None,
            retry_after: Some(retry_after.to_owned()),
            effect: false,
        }
    }
}

/// The rules in force, with how often each has matched and struck.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    rules: Vec<Armed>,
    rng: fastrand::Rng,
}

#[derive(Clone, Debug)]
struct Armed {
    fault: Fault,
    matched: u32,
    struck: u32,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), rng: fastrand::Rng::with_seed(seed ^ 0xfa17) }
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.rules.push(Armed { fault, matched: 0, struck: 0 });
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The sum of the delays, and the first other rule that strikes. Rules behind it do not see the call.
    pub(crate) fn strike(&mut self, op: Op, instance: Option<&str>) -> (u64, Option<What>) {
        let mut delay = 0;
        for rule in &mut self.rules {
            if !rule.strikes(op, instance, &mut self.rng) {
                continue;
            }
            match &rule.fault.what {
                What::Delay(ms) => delay += ms,
                what => return (delay, Some(what.clone())),
            }
        }
        (delay, None)
    }
}

impl Armed {
    fn strikes(&mut self, op: Op, instance: Option<&str>, rng: &mut fastrand::Rng) -> bool {
        let Match { op: wanted, instance: target, nth, percent, times } = &self.fault.when;
        if wanted.is_some_and(|wanted| wanted != op) || target.as_deref().is_some_and(|target| !fits(target, instance))
        {
            return false;
        }
        self.matched += 1;
        let limit = times.or(nth.map(|_| 1));
        if nth.is_some_and(|nth| self.matched < nth)
            || limit.is_some_and(|limit| self.struck >= limit)
            || percent.is_some_and(|percent| rng.u8(..100) >= percent)
        {
            return false;
        }
        self.struck += 1;
        true
    }
}

/// Whether an instance is the one that a rule names.
fn fits(target: &str, instance: Option<&str>) -> bool {
    instance.is_some_and(|instance| match target.strip_suffix('*') {
        Some(beginning) => instance.starts_with(beginning),
        None => instance == target,
    })
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFaultError(String);

impl fmt::Display for ParseFaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ParseFaultError {}

fn bad(text: impl fmt::Display) -> ParseFaultError {
    ParseFaultError(text.to_string())
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, ParseFaultError> {
    text.parse().map_err(|_| bad(format_args!("{text:?} is no {what}")))
}

/// `op[/instance][@nth][%percent]:what[=value][,key=value...][*times]`
///
/// ```
/// use novita_sim::Fault;
/// for rule in ["migrate:cut-after*3", "list@2:status=503,retry-after=1", "any%10:delay=500", "create/x-*:hang,effect"] {
///     assert_eq!(rule.parse::<Fault>().expect(rule).to_string(), rule);
/// }
/// ```
impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (when, what) = text.trim().split_once(':').ok_or_else(|| bad(format_args!("no \":\" in {text:?}")))?;
        let (what, times) = match what.rsplit_once('*') {
            Some((what, times)) => (what, Some(number(times, "count of strikes")?)),
            None => (what, None),
        };
        let mut when: Match = when.parse()?;
        when.times = times;
        if when.nth == Some(0) || when.times == Some(0) {
            return Err(bad(format_args!("counts begin at 1 in {text:?}")));
        }
        Ok(Self { when, what: what.parse()? })
    }
}

impl FromStr for Match {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, percent) = match text.split_once('%') {
            Some((text, percent)) => (text, Some(number::<u8>(percent, "percentage")?)),
            None => (text, None),
        };
        if percent.is_some_and(|percent| percent > 100) {
            return Err(bad("more than 100 percent"));
        }
        let (text, nth) = match text.split_once('@') {
            Some((text, nth)) => (text, Some(number(nth, "number of a call")?)),
            None => (text, None),
        };
        let (op, instance) = match text.split_once('/') {
            Some((op, id)) => (op, Some(unescape(id)?)),
            None => (text, None),
        };
        let op = match op {
            "any" => None,
            op => Some(Op::from_word(op).ok_or_else(|| {
                let words: Vec<_> = Op::ALL.iter().map(|op| op.as_str()).collect();
                bad(format_args!("{op:?} is no call: any, {}", words.join(", ")))
            })?),
        };
        Ok(Self { op, instance, nth, percent, times: None })
    }
}

impl FromStr for What {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (name, value) = match head.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (head, None),
        };
        let wanted = || value.ok_or_else(|| bad(format_args!("{name:?} needs a value: \"{name}=...\"")));
        let mut what = match name {
            "delay" => Self::Delay(number(wanted()?, "number of milliseconds")?),
            "late" => Self::Late(number(wanted()?, "number of milliseconds")?),
            "lying-total" => Self::LyingTotal(number(wanted()?, "difference")?),
            "status" => {
                let code = number(wanted()?, "HTTP status")?;
                if !(200..=599).contains(&code) {
                    return Err(bad(format_args!("\"{code}\" is no HTTP status")));
                }
                Self::status(code)
            }
            "refuse" => Self::Refuse,
            "cut-before" => Self::CutBefore,
            "cut-after" => Self::CutAfter,
            "malformed" => Self::Malformed,
            "truncated" => Self::Truncated,
            "html" => Self::Html,
            "empty" => Self::Empty,
            "hang" => Self::Hang { effect: false },
            "endless-body" => Self::EndlessBody,
            "endless-pages" => Self::EndlessPages,
            "same-page" => Self::SamePage,
            "duplicate-rows" => Self::DuplicateRows,
            "no-rows" => Self::NoRows,
            "bad-row" => Self::BadRow,
            "nameless-row" => Self::NamelessRow,
            _ => return Err(bad(format_args!("{name:?} is no fault"))),
        };
        if value.is_some()
            && !matches!(what, Self::Delay(_) | Self::Late(_) | Self::LyingTotal(_) | Self::Status { .. })
        {
            return Err(bad(format_args!("{name:?} takes no value")));
        }
        for part in parts {
            match (&mut what, part.split_once('=')) {
                (Self::Status { reason, .. }, Some(("reason", text))) => *reason = Some(unescape(text)?),
                (Self::Status { message, .. }, Some(("message", text))) => *message = Some(unescape(text)?),
                (Self::Status { retry_after, .. }, Some(("retry-after", text))) => *retry_after = Some(unescape(text)?),
                (Self::Status { effect, .. } | Self::Hang { effect }, None) if part == "effect" => *effect = true,
                _ => return Err(bad(format_args!("{part:?} does not go with {name:?}"))),
            }
        }
        Ok(what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Match { op, instance, nth, percent, times } = &self.when;
        f.write_str(op.map_or("any", Op::as_str))?;
        if let Some(id) = instance {
            match id.strip_suffix('*') {
                Some(beginning) => write!(f, "/{}*", escape(beginning))?,
                None => write!(f, "/{}", escape(id))?,
            }
        }
        if let Some(nth) = nth {
            write!(f, "@{nth}")?;
        }
        if let Some(percent) = percent {
            write!(f, "%{percent}")?;
        }
        write!(f, ":{}", self.what)?;
        match times {
            Some(times) => write!(f, "*{times}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay(ms) => write!(f, "delay={ms}"),
            Self::Late(ms) => write!(f, "late={ms}"),
            Self::LyingTotal(by) => write!(f, "lying-total={by}"),
            Self::Status { code, reason, message, retry_after, effect } => {
                write!(f, "status={code}")?;
                for (key, value) in [("reason", reason), ("message", message), ("retry-after", retry_after)] {
                    if let Some(value) = value {
                        write!(f, ",{key}={}", escape(value))?;
                    }
                }
                f.write_str(if *effect { ",effect" } else { "" })
            }
            Self::Hang { effect } => f.write_str(if *effect { "hang,effect" } else { "hang" }),
            Self::Refuse => f.write_str("refuse"),
            Self::CutBefore => f.write_str("cut-before"),
            Self::CutAfter => f.write_str("cut-after"),
            Self::Malformed => f.write_str("malformed"),
            Self::Truncated => f.write_str("truncated"),
            Self::Html => f.write_str("html"),
            Self::Empty => f.write_str("empty"),
            Self::EndlessBody => f.write_str("endless-body"),
            Self::EndlessPages => f.write_str("endless-pages"),
            Self::SamePage => f.write_str("same-page"),
            Self::DuplicateRows => f.write_str("duplicate-rows"),
            Self::NoRows => f.write_str("no-rows"),
            Self::BadRow => f.write_str("bad-row"),
            Self::NamelessRow => f.write_str("nameless-row"),
        }
    }
}

/// The characters with a meaning in a rule, and the one that begins an escape.
const SPECIAL: [char; 6] = ['~', ':', ',', '*', '@', '%'];

/// Writes characters with a meaning as `~` and two hexadecimal digits.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if SPECIAL.contains(&c) {
            out.push_str(&format!("~{:02x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn unescape(text: &str) -> Result<String, ParseFaultError> {
    let mut pieces = text.split('~');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let byte = piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let (Some(byte), Some(rest)) = (byte, piece.get(2..)) else {
            return Err(bad(format_args!("\"~{piece}\" is no escape in {text:?}")));
        };
        out.push(char::from(byte));
        out.push_str(rest);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back_as_written() {
        for text in [
            "migrate:cut-after*3",
            "list@2:status=503,retry-after=1",
            "migrate/a1b2c3d4e5f60718:hang",
            "any%10:cut-before",
            "jobs:delay=500",
            "create/web-1@2%50:late=60000*4",
            "create/train-7-recreated-*@1:cut-after",
            "create/a~2ab*:late=400000*1",
            "create/*:empty",
            "get:status=400,reason=CONFLICT,message=no~2c really~3a no,effect",
            "list:lying-total=-3",
            "list:no-rows*1",
            "any:refuse",
            "list:endless-pages",
            "list:same-page",
            "jobs:duplicate-rows",
            "migrate:hang,effect*1",
            "delete:malformed",
            "delete:truncated",
            "delete:html",
            "products:empty",
            "list:endless-body",
        ] {
            assert_eq!(text.parse::<Fault>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn errors_name_the_bad_part() {
        for (text, part) in [
            ("migrate", "no \":\""),
            ("fly:hang", "\"fly\""),
            ("list@x:hang", "\"x\""),
            ("list@0:hang", "begin at 1"),
            ("list%101:hang", "100 percent"),
            ("list:hang*many", "\"many\""),
            ("list:explode", "\"explode\""),
            ("list:delay", "\"delay\" needs a value"),
            ("list:delay=soon", "\"soon\""),
            ("list:hang=1", "\"hang\" takes no value"),
            ("list:status=99", "\"99\""),
            ("list:status=500,colour=red", "\"colour=red\""),
            ("list:html,effect", "\"effect\""),
            ("list:status=500,message=~zz", "\"~zz\""),
        ] {
            let error = text.parse::<Fault>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_counts_its_own_calls() {
        let strikes = |rule: &str, calls: &[(Op, Option<&str>)]| -> Vec<bool> {
            let mut script = Script::new(1);
            script.add(rule.parse().expect(rule));
            calls.iter().map(|(op, id)| script.strike(*op, *id).1.is_some()).collect()
        };
        let lists = [(Op::List, None); 4];
        assert_eq!(strikes("list:html", &lists), [true, true, true, true]);
        assert_eq!(strikes("list:html*2", &lists), [true, true, false, false]);
        assert_eq!(strikes("list@2:html", &lists), [false, true, false, false]);
        assert_eq!(strikes("list@2:html*2", &lists), [false, true, true, false]);
        assert_eq!(strikes("any%0:html", &lists), [false; 4]);
        assert_eq!(strikes("any%100:html", &lists), [true; 4]);
        assert_eq!(strikes("jobs:html", &lists), [false; 4]);
        let mixed = [(Op::Migrate, Some("a")), (Op::Migrate, Some("b")), (Op::Get, Some("b"))];
        assert_eq!(strikes("migrate/b:html", &mixed), [false, true, false]);
        let creates = [(Op::Create, Some("web-1")), (Op::Create, Some("web-1-recreated-x")), (Op::Create, None)];
        assert_eq!(strikes("create/web-1:html", &creates), [true, false, false]);
        assert_eq!(strikes("create/web-1*:html", &creates), [true, true, false]);
        assert_eq!(strikes("create/web-1-recreated-*:html", &creates), [false, true, false]);
        assert_eq!(strikes("create/*:html", &creates), [true, true, false]);
    }

    #[test]
    fn delays_add_up_in_front_of_the_first_other_rule() {
        let mut script = Script::new(1);
        for rule in ["any:delay=5", "list:delay=7", "list:html", "list:hang"] {
            script.add(rule.parse().expect(rule));
        }
        assert_eq!(script.strike(Op::List, None), (12, Some(What::Html)));
        assert_eq!(script.strike(Op::Jobs, None), (5, None));
    }
}
