//! What can go wrong between a client and the world, as data with a text form.
//!
//! A rule is `ACTION[@N|@N-M|@all][:what]`. `ACTION` is the name of an action or `*`; `@N` strikes the Nth call of it
//! since the rule was added, and is `@1` when nothing is said. `what` is one of:
//!
//! | what | means |
//! |---|---|
//! | `code=NAME[,status=N][,message=TEXT][,after]` | this error; with `after` the call took effect all the same |
//! | `cut-before` | the connection drops before the call has an effect |
//! | `cut-after` | the call takes effect, then the connection drops without an answer |
//! | `html` | a web page with status 502, and no effect |
//! | `empty` | the call takes effect, the answer has no body |
//! | `delay=MS` | the call takes effect at once, the answer comes later |
//!
//! Without `what` it is `code=InternalError,status=500`.

use std::fmt;
use std::str::FromStr;

use crate::error::status_of;

/// A rule about what goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The action it is about; `None` for all.
    pub action: Option<String>,
    /// The first call it strikes, counted from 1.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What happens.
    pub what: What,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An error is answered.
    Code {
        /// Its code.
        code: String,
        /// Its status.
        status: u16,
        /// Its text.
        message: Option<String>,
        /// Whether the call took effect all the same.
        after: bool,
    },
    /// The connection drops before the effect.
    CutBefore,
    /// The connection drops after the effect.
    CutAfter,
    /// A web page; no effect.
    Html,
    /// No body; the call took effect.
    Empty,
    /// The answer comes so many milliseconds later.
    Delay(u64),
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

fn bad(why: impl fmt::Display) -> ParseFaultError {
    ParseFaultError(format!("{why}; a rule is ACTION[@N|@N-M|@all][:what]"))
}

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (head, what) = text.trim().split_once(':').unwrap_or((text.trim(), "code=InternalError"));
        let (action, when) = head.split_once('@').unwrap_or((head, "1"));
        if action.is_empty() {
            return Err(bad("there is no action"));
        }
        let place = |text: &str| {
            let place = text.parse().ok().filter(|place| *place > 0);
            place.ok_or_else(|| bad(format_args!("{text:?} is no number of a call")))
        };
        let (first, last) = match when.split_once('-') {
            _ if when == "all" => (1, u64::MAX),
            Some((first, last)) => (place(first)?, place(last)?),
            None => (place(when)?, place(when)?),
        };
        Ok(Self { action: Some(action.to_owned()).filter(|action| action != "*"), first, last, what: what.parse()? })
    }
}

impl FromStr for What {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cut-before" => return Ok(Self::CutBefore),
            "cut-after" => return Ok(Self::CutAfter),
            "html" => return Ok(Self::Html),
            "empty" => return Ok(Self::Empty),
            _ => {}
        }
        if let Some(ms) = text.strip_prefix("delay=") {
            return ms.parse().map(Self::Delay).map_err(|_| bad(format_args!("{ms:?} is no number of milliseconds")));
        }
        let Some(rest) = text.strip_prefix("code=") else { return Err(bad(format_args!("{text:?} is no fault"))) };
        let mut parts = rest.split(',');
        let code = parts.next().unwrap_or_default().to_owned();
        let (mut status, mut message, mut after) = (status_of(&code), None, false);
        for part in parts {
            match part.split_once('=') {
                Some(("status", text)) => {
                    let code = text.parse().ok().filter(|code| (200..600).contains(code));
                    status = code.ok_or_else(|| bad(format_args!("{text:?} is no HTTP status")))?;
                }
                Some(("message", text)) => message = Some(text.to_owned()),
                None if part == "after" => after = true,
                _ => return Err(bad(format_args!("{part:?} does not go with a code"))),
            }
        }
        Ok(Self::Code { code, status, message, after })
    }
}

/// The rules in force, with how many calls each has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Vec<(Fault, u64)>);

impl Script {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push((fault, 0));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The sum of the delays, and the first other rule that strikes.
    pub(crate) fn strike(&mut self, action: &str) -> (u64, Option<What>) {
        let (mut delay, mut struck) = (0, None);
        for (fault, seen) in &mut self.0 {
            if fault.action.as_deref().is_some_and(|wanted| wanted != action) {
                continue;
            }
            *seen += 1;
            if !(fault.first..=fault.last).contains(seen) {
                continue;
            }
            match &fault.what {
                What::Delay(ms) => delay += ms,
                what if struck.is_none() => struck = Some(what.clone()),
                _ => {}
            }
        }
        (delay, struck)
    }
}
