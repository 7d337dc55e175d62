//! What HTTP headers say of times.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use super::time::Timestamp;

/// The longest wait that is believed. One that no budget allows is as good, and nothing overflows with it.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Reads an HTTP date, for example `Sun, 06 Nov 1994 08:49:37 GMT`, which is also a date of RFC 2822.
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    let moment = DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp::from_millis(moment.as_millisecond()))
}

/// How long a `Retry-After` asks to wait, in either form that HTTP allows: seconds, or a date, which is compared with the
/// `Date` of the same answer.
#[must_use]
pub fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        text.parse().map_or(LONGEST_WAIT, Duration::from_secs)
    } else {
        http_date(text)?.since(http_date(date?)?)
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("1994-11-06T08:49:37.000Z")),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some("2024-02-29T23:59:59.000Z")),
            // Obsolete forms, and text that is not a date.
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("0", None),
            ("", None),
        ] {
            assert_eq!(http_date(text).map(|moment| moment.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        const NOW: &str = "Thu, 29 Feb 2024 23:59:30 GMT";
        for (text, date, secs) in [
            ("2", None, Some(2)),
            (" 120 ", None, Some(120)),
            ("18446744073709551615", None, Some(3600)),
            ("99999999999999999999999", None, Some(3600)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(NOW), Some(29)),
            ("Thu, 29 Feb 2024 23:59:00 GMT", Some(NOW), Some(0)),
            ("Fri, 30 Dec 2050 23:59:59 GMT", Some(NOW), Some(3600)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(NOW), None),
            ("Thu, 29 Feb 2024 23:59:59 GMT", None, None),
            ("-1", None, None),
            ("soon", None, None),
            ("", None, None),
        ] {
            assert_eq!(retry_after(text, date).map(|wait| wait.as_secs()), secs, "{text:?}");
        }
    }
}
