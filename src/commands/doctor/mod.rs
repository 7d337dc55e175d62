//! `doctor`: checks everything that a pass needs. All checks run whatever the others find, each within five seconds, and
//! every problem comes with the command or the setting that fixes it.
//!
//! It changes nothing: of the provider it holds the reading half, what it writes to the store to prove that it can be
//! written is removed, and receivers are only connected to, since a ping would count as a pass.

mod ec2;
mod files;
mod provider;
mod receivers;
mod state;

use std::time::Duration;

use futures_util::future::join;

use super::{Exit, Presentation, Printed};
use crate::core::world::time::millis;
use crate::report::human;
use crate::report::json::{self, CheckPart, CheckStatus, DoctorDocument};
use crate::settings::{Origins, Settings};

/// How long a check waits for an answer; shorter than in a pass, since a person is waiting.
const LIMIT: Duration = Duration::from_secs(5);

/// The result of a check, and its exit code if it failed.
struct Finding {
    part: CheckPart,
    exit: Exit,
}

impl Finding {
    fn new(check: &'static str, status: CheckStatus, detail: impl Into<String>, fix: Option<String>) -> Self {
        let part = CheckPart { check, status, detail: detail.into(), mend: fix, duration: None };
        Self { part, exit: Exit::Done }
    }

    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Ok, detail, None)
    }

    fn skipped(check: &'static str, detail: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Skipped, detail, None)
    }

    fn warning(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, CheckStatus::Warning, detail, Some(fix.into()))
    }

    fn failed(check: &'static str, exit: Exit, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit, ..Self::new(check, CheckStatus::Failed, detail, Some(fix.into())) }
    }

    fn took(mut self, duration: Duration) -> Self {
        self.part.duration = Some(millis(duration));
        self
    }
}

/// Runs every check.
///
/// The exit code is the one that a pass would end with: it reads its settings (2), opens the store (4) and calls the
/// provider (3), in this order; 1 if only something broke that a pass can do without.
pub async fn examine(settings: &Settings, send_test_event: bool, show: Presentation) -> Printed {
    let mut findings = configuration(settings);
    findings.extend(files::secrets(&settings.origins.secret_files));
    // Not concurrently: the embedded store blocks the thread, and the other checks measure time.
    let store = state::check(settings).await;
    let cloud = async {
        match &settings.ec2 {
            Some(ec2) => ec2::check(settings, ec2).await,
            None => provider::check(settings).await,
        }
    };
    let (provider, receivers) = join(cloud, receivers::check(settings, send_test_event)).await;
    findings.extend(provider);
    findings.extend(store);
    findings.extend(receivers);

    let exit = [Exit::Usage, Exit::Store, Exit::Provider, Exit::Unsafe, Exit::ActionsFailed]
        .into_iter()
        .find(|exit| findings.iter().any(|finding| finding.exit == *exit))
        .unwrap_or(Exit::Done);
    let checks = findings.into_iter().map(|finding| finding.part).collect();
    let document = DoctorDocument { ok: exit == Exit::Done, checks };
    let document = if show.json() { json::document(&document) } else { human::doctor(show.screen, &document) };
    Printed { exit, document: document.into() }
}

/// Invalid settings have ended the program before: what is left is where they came from.
fn configuration(settings: &Settings) -> Vec<Finding> {
    const NAME: &str = "settings";
    let Origins { file, from_file, from_environment, .. } = &settings.origins;
    let listed = |names: &[&str]| if names.is_empty() { "nothing".into() } else { names.join(", ") };
    let file = match file {
        Some(path) => format!("{} from {}", listed(from_file), path.display()),
        None => "no configuration file".into(),
    };
    let environment = listed(from_environment);
    let mut findings = vec![Finding::ok(NAME, format!("{file}; {environment} from the environment"))];
    findings.extend(settings.warnings.iter().map(|it| Finding::warning(NAME, &it.message, &it.fix)));
    if !settings.enabled {
        let fix = "set MIGRATION_ENABLED=true, or unset it";
        findings.push(Finding::warning(NAME, "passes are turned off by MIGRATION_ENABLED", fix));
    }
    findings
}
