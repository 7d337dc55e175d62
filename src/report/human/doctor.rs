//! What `doctor` found: a line for each check, and below it how to fix what is wrong.

use std::fmt::Write as _;

use super::{Color, Screen, counted, folded, short};
use crate::report::json::{CheckPart, CheckStatus, DoctorDocument};
use crate::report::text::visible;

/// Columns of a check before its text: status and name.
const INDENT: usize = 4 + 2 + 16 + 1;

/// The findings, and a line that counts failures and warnings.
#[must_use]
pub fn doctor(screen: Screen, document: &DoctorDocument) -> String {
    let mut out = String::new();
    for CheckPart { check, status, detail, mend, duration } in &document.checks {
        let (sign, color) = match status {
            CheckStatus::Ok => ("ok  ", Color::Green),
            CheckStatus::Warning => ("warn", Color::Yellow),
            CheckStatus::Failed => ("FAIL", Color::Red),
            CheckStatus::Skipped => ("-   ", Color::Dim),
        };
        let took = duration.map_or_else(String::new, |_| format!(" ({})", short(*duration)));
        let found = visible(&format!("{detail}{took}"));
        let mut lines = folded(&format!("{sign}  {check:<16} "), &found, screen.width);
        // The arrow stands out to the left, so that text to be copied starts in one column.
        let hint = mend.iter().flat_map(|mend| folded(&format!("{:INDENT$}-> ", ""), &visible(mend), screen.width));
        lines.extend(hint);
        let found = lines.join("\n");
        let _ = writeln!(out, "{}{}", screen.paint(sign, color), &found[sign.len()..]);
    }
    let count = |wanted: CheckStatus| document.checks.iter().filter(|it| it.status == wanted).count();
    let (failed, warnings) = (count(CheckStatus::Failed), count(CheckStatus::Warning));
    let verdict = match failed {
        0 => screen.paint("all is well", Color::Green),
        failed => screen.paint(&format!("{} failed", counted(failed, "check")), Color::Red),
    };
    let warnings = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
    let _ = writeln!(out, "\n{verdict}{warnings}");
    out
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    fn findings() -> DoctorDocument {
        let part = |check, status, detail: &str, mend: Option<&str>, duration| CheckPart {
            check,
            status,
            detail: detail.into(),
            mend: mend.map(Into::into),
            duration,
        };
        let long = "https://api.example.com/gpu-instance/openapi answers, but wants to be called less often than it is";
        let checks = vec![
            part("api", CheckStatus::Warning, long, Some("set MIGRATION_INTERVAL_MINUTES to more"), Some(48)),
            part("store", CheckStatus::Failed, "cannot be reached: \u{1b}[2J", Some(long), None),
            part("termination-file", CheckStatus::Ok, "/dev/termination-log can be written", None, None),
            part("webhook", CheckStatus::Skipped, "WEBHOOK_URL is not set", None, None),
        ];
        DoctorDocument { ok: false, checks }
    }

    const NARROW: &str = "
warn  api              https://api.example.com/gpu-instance/openapi answers, but
                       wants to be called less often than it is (48 ms)
                       -> set MIGRATION_INTERVAL_MINUTES to more
FAIL  store            cannot be reached: \\u{1b}[2J
                       -> https://api.example.com/gpu-instance/openapi answers,
                          but wants to be called less often than it is
ok    termination-file /dev/termination-log can be written
-     webhook          WEBHOOK_URL is not set

1 check failed, 1 warning
";

    #[test]
    fn it_fits_the_screen_and_does_not_rely_on_color() {
        let screen = Screen { width: Some(80), color: false };
        let drawn = doctor(screen, &findings());
        assert_eq!(drawn, NARROW[1..]);
        assert!(drawn.lines().all(|line| line.width() <= 80));

        let colored = doctor(Screen { color: true, ..screen }, &findings());
        for painted in ["\u{1b}[33mwarn", "\u{1b}[31mFAIL", "\u{1b}[32mok", "\u{1b}[31m1 check failed"] {
            assert!(colored.contains(painted), "{colored:?}");
        }

        let wide = doctor(Screen { width: None, color: false }, &findings());
        // Two hints, the empty line and the verdict.
        assert_eq!(wide.lines().count(), findings().checks.len() + 4);
    }
}
