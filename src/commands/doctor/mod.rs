//! `doctor`: is everything there that a pass needs? Every check is made, whatever the others find, each within
//! five seconds, and whatever is wrong comes with the command or the setting that mends it.
//!
//! It changes nothing. Of the provider it holds the reading half; the store it writes to and cleans up, which alone
//! proves that it can be written; receivers are connected to and told nothing, since a ping would count as a pass.

mod files;
mod provider;
mod receivers;
mod state;

use std::time::Duration;

use futures_util::future::join;

use super::{Exit, Output, Presentation};
use crate::core::world::time::millis;
use crate::report::human;
use crate::report::json::{self, CheckPart, CheckStatus, DoctorDocument};
use crate::settings::{Origins, Settings};

/// How long a check waits for an answer. Shorter than a pass would wait, since somebody sits and watches.
const LIMIT: Duration = Duration::from_secs(5);

/// What a check found, and which exit code it makes if it failed.
struct Finding {
    part: CheckPart,
    exit: Exit,
}

impl Finding {
    fn new(check: &'static str, status: CheckStatus, detail: impl Into<String>) -> Self {
        let part = CheckPart { check, status, detail: detail.into(), mend: None, duration: None };
        Self { part, exit: Exit::Done }
    }

    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Ok, detail)
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Skipped, detail)
    }

    fn warning(check: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Warning, detail).mend(mend)
    }

    fn failed(check: &'static str, exit: Exit, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { exit, ..Self::new(check, CheckStatus::Failed, detail).mend(mend) }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.part.mend = Some(mend.into());
        self
    }

    fn took(mut self, duration: Duration) -> Self {
        self.part.duration = Some(millis(duration));
        self
    }
}

/// Makes every check.
///
/// The exit code is the one that a pass would end with: it reads its settings (2), opens the store (4) and asks the
/// provider (3), in this order; 1 when only what a pass can do without is broken.
pub async fn examine(settings: &Settings, send_test_event: bool, show: Presentation) -> Output {
    let mut findings = configuration(settings);
    findings.extend(files::secrets(&settings.origins.secret_files));
    // Not beside the others: the embedded store blocks the thread, and they measure time.
    let store = state::check(&settings.store).await;
    let (provider, receivers) = join(provider::check(settings), receivers::check(settings, send_test_event)).await;
    findings.extend(provider);
    findings.extend(store);
    findings.extend(receivers);

    let exit = [Exit::Usage, Exit::Store, Exit::Provider, Exit::ActionsFailed]
        .into_iter()
        .find(|exit| findings.iter().any(|finding| finding.exit == *exit))
        .unwrap_or(Exit::Done);
    let checks = findings.into_iter().map(|finding| finding.part).collect();
    let document = DoctorDocument { ok: exit == Exit::Done, checks };
    let document = if show.json() { json::document(&document) } else { human::doctor(show.screen, &document) };
    Output { exit, document }
}

/// Settings that cannot be used end the program before this: what is left is where they came from.
fn configuration(settings: &Settings) -> Vec<Finding> {
    const NAME: &str = "settings";
    let Origins { file, from_file, from_environment, .. } = &settings.origins;
    let file = match file {
        Some(path) => format!("{} decides {}", path.display(), listed(from_file)),
        None => "no configuration file".into(),
    };
    let environment = format!("the environment decides {}", listed(from_environment));
    let mut findings = vec![Finding::ok(NAME, format!("{file}; {environment}"))];
    findings.extend(settings.warnings.iter().map(|it| Finding::warning(NAME, &it.message, &it.fix)));
    if !settings.enabled {
        let mend = "set MIGRATION_ENABLED=true, or remove it";
        findings.push(Finding::warning(NAME, "passes are switched off by MIGRATION_ENABLED", mend));
    }
    findings
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
