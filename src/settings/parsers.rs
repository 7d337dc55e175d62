//! How the text of a setting becomes a value, for everything that is not an address.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{SecretSlice, SecretString};
use strum::VariantNames;
use tracing::level_filters::LevelFilter;

use crate::core::world::money::Usd;
use crate::core::world::policy::{OptIn, Selector};
use crate::core::world::probe::Probe;

/// Why a text is not a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) problem: String,
    pub(super) hint: Option<&'static str>,
    /// Whether the text may hold a secret and is left out of the message.
    pub(super) hidden: bool,
}

impl Invalid {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), hint: None, hidden: false }
    }

    pub(super) fn expected(what: impl Display) -> Self {
        Self::new(format!("expected {what}"))
    }

    pub(super) fn hidden(problem: impl Into<String>, hint: &'static str) -> Self {
        Self { problem: problem.into(), hint: Some(hint), hidden: true }
    }
}

type Parsed<T> = Result<T, Invalid>;

/// A value without what files and editors wrap it in: blanks, line ends, a byte order mark. Quotes around it are an error:
/// only a shell removes them, and whether they belong to the value cannot be known.
pub(super) fn unwrapped(text: &str) -> Parsed<&str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let is_quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return Err(Invalid::hidden("the value is in quotes", "remove the quotes: only a shell does that by itself"));
    }
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(Invalid::hidden(format!("it contains the control character {c:?}"), "remove it")),
        None => Ok(text),
    }
}

/// Any text.
pub(super) fn text(text: &str) -> Parsed<String> {
    Ok(text.into())
}

/// A path. Only a shell knows what `~` stands for.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.starts_with('~') {
        let hint = "write the home directory in full, for example /home/user, or ./~ for a file of that name";
        return Err(Invalid { hint: Some(hint), ..Invalid::new("~ is only expanded by a shell") });
    }
    Ok(text.into())
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Invalid::expected("true or false")),
    }
}

/// One of the words of an enum.
pub(super) fn word<T: FromStr + VariantNames>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| Invalid::expected(T::VARIANTS.join(" or ")))
}

pub(super) fn integer<T: TryFrom<u32>>(text: &str, range: RangeInclusive<u32>) -> Parsed<T> {
    let number = text.parse().ok().filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Invalid::expected(format_args!("a whole number from {} to {}", range.start(), range.end())))
}

pub(super) fn millis(text: &str, range: RangeInclusive<u32>) -> Parsed<Duration> {
    integer(text, range).map(Duration::from_millis)
}

pub(super) fn minutes(text: &str, range: RangeInclusive<u32>) -> Parsed<Duration> {
    integer(text, range).map(|minutes: u64| Duration::from_secs(60 * minutes))
}

/// Minutes of which 0 means a default, and fewer than 5 are too few for a pass to fall into them.
pub(super) fn lead_minutes(text: &str, range: RangeInclusive<u32>) -> Parsed<Duration> {
    let lead = minutes(text, range.clone())?;
    if lead.is_zero() { Ok(lead) } else { minutes(text, 5..=*range.end()) }
}

/// An amount in USD with at most two decimals.
pub(super) fn dollars(text: &str, range: RangeInclusive<u32>) -> Parsed<Usd> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let cents = format!("{decimals:0<2}").parse().ok().filter(|cents: &u32| *cents < 100 && !decimals.starts_with('+'));
    let cents = cents.and_then(|cents| whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(cents));
    let (least, most) = (range.start(), range.end());
    let cents = cents.filter(|cents| (least * 100..=most * 100).contains(cents));
    cents.map(|cents| Usd::from_micros(i64::from(cents) * 10_000)).ok_or_else(|| {
        Invalid::expected(format_args!("an amount from {least} to {most} USD, with at most two decimals"))
    })
}

pub(super) fn hours(text: &str, range: RangeInclusive<u32>) -> Parsed<Duration> {
    integer(text, range).map(|hours: u64| Duration::from_secs(3600 * hours))
}

/// More stages than a rollout needs.
const LONGEST_LIST: usize = 20;

/// Whole numbers separated by commas; a percent sign may follow each.
pub(super) fn integers<T: TryFrom<u32>>(text: &str, range: RangeInclusive<u32>) -> Parsed<Vec<T>> {
    let expected = format!("at most {LONGEST_LIST} whole numbers from {} to {}", range.start(), range.end());
    let number = |text: &str| integer(text.trim().trim_end_matches('%'), range.clone()).ok();
    let numbers: Option<Vec<T>> = text.split(',').map(number).collect();
    numbers
        .filter(|numbers| numbers.len() <= LONGEST_LIST)
        .ok_or_else(|| Invalid::expected(format_args!("{expected}, separated by commas")))
}

pub(super) fn increasing<T: TryFrom<u32> + PartialOrd>(text: &str, range: RangeInclusive<u32>) -> Parsed<Vec<T>> {
    let expected = format!("numbers from {} to {}, each greater than the one before", range.start(), range.end());
    let numbers: Vec<T> = integers(text, range)?;
    let is_increasing = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    if is_increasing { Ok(numbers) } else { Err(Invalid::expected(expected)) }
}

/// Numbers as [`integers`] reads them.
pub(super) fn list(numbers: &[impl ToString]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn log_level(text: &str) -> Parsed<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(Invalid::expected("error, warn, info, debug or trace")),
    }
}

/// A command, which may hold a secret.
pub(super) fn command(text: &str) -> Parsed<SecretString> {
    Ok(text.into())
}

pub(super) fn probe(text: &str) -> Parsed<Probe> {
    Probe::parse(text).map_err(Invalid::expected)
}

pub(super) fn selectors(text: &str) -> Parsed<Vec<Selector>> {
    let parse = |text: &str| Selector::parse(text).map_err(|error| Invalid::new(format!("pattern {text:?}: {error}")));
    text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(parse).collect()
}

/// Words separated by commas.
pub(super) fn words(text: &str) -> Parsed<Vec<String>> {
    let is_plain = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
    };
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    match words.iter().find(|word| !is_plain(word)) {
        Some(word) => Err(Invalid::new(format!(
            "{word:?} has other characters than lower-case letters, digits, dots and hyphens"
        ))),
        None => Ok(words.into_iter().map(Into::into).collect()),
    }
}

pub(super) fn opt_in(text: &str) -> Parsed<OptIn> {
    match text.split_once('=') {
        None if text == "*" => Ok(OptIn::Everything),
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok(OptIn::Tag { key: key.into(), value: Some(value.into()) })
        }
        None if !text.is_empty() => Ok(OptIn::Tag { key: text.into(), value: None }),
        _ => Err(Invalid::expected("a tag: key=value, key or *")),
    }
}

/// ARNs separated by commas.
pub(super) fn target_groups(text: &str) -> Parsed<Vec<String>> {
    let arns = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let is_group = |arn: &&str| {
        let parts: Vec<&str> = arn.split(':').collect();
        matches!(parts.as_slice(), ["arn", _, "elasticloadbalancing", region, _, group] if !region.is_empty() && group.starts_with("targetgroup/"))
    };
    match arns.clone().find(|arn| !is_group(arn)) {
        Some(arn) => Err(Invalid::new(format!("{arn:?} is no ARN of a target group"))),
        None => Ok(arns.map(Into::into).collect()),
    }
}

pub(super) fn account(text: &str) -> Parsed<String> {
    let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_account { Ok(text.into()) } else { Err(Invalid::expected("twelve digits")) }
}

/// `type=other+another,…`.
pub(super) fn stand_ins(text: &str) -> Parsed<BTreeMap<String, Vec<String>>> {
    let expected = || Invalid::expected("type=other+another, for example g5.xlarge=g6.xlarge+g5.2xlarge");
    let mut kinds = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let (kind, others) = entry.split_once('=').ok_or_else(expected)?;
        let others = words(&others.replace('+', ","))?;
        if others.is_empty() || words(kind)?.len() != 1 {
            return Err(expected());
        }
        kinds.insert(kind.trim().to_owned(), others);
    }
    Ok(kinds)
}

const COPY_AGAIN: &str = "copy it again; its value is not shown here";

pub(super) fn api_key(text: &str) -> Parsed<SecretString> {
    if text.is_empty() {
        Err(Invalid::hidden("the key is empty", COPY_AGAIN))
    } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.into())
    } else {
        Err(Invalid::hidden("a key contains no spaces and no special characters", COPY_AGAIN))
    }
}

/// 32 bytes in base64.
pub(super) fn sealing_key(text: &str) -> Parsed<SecretSlice<u8>> {
    match STANDARD.decode(text) {
        Ok(bytes) if bytes.len() == 32 => Ok(bytes.into()),
        Ok(_) | Err(_) => {
            Err(Invalid::hidden("it is not 32 bytes in base64", "make one with: openssl rand -base64 32"))
        }
    }
}

/// Text, or bytes in base64 as Standard Webhooks writes them.
pub(super) fn signing_secret(text: &str) -> Parsed<SecretSlice<u8>> {
    let bytes = match text.strip_prefix("whsec_") {
        None => Ok(text.as_bytes().to_vec()),
        Some(encoded) => STANDARD.decode(encoded),
    };
    match bytes {
        Ok(bytes) if bytes.is_empty() => Err(Invalid::hidden("the secret is empty", COPY_AGAIN)),
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Invalid::hidden("what follows whsec_ is not valid base64", COPY_AGAIN)),
    }
}
