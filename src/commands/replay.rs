//! `replay`: what availability, recoveries, calls and cost would have been under other settings. Each setting is tried by
//! real passes over a provider on paper, in virtual time. Offline; writes nothing.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Exit, Failure, Printed, Session, run};
use crate::act::{Limits, World};
use crate::cli::{Cli, ReplayArgs};
use crate::clock::Clock;
use crate::cloud::any::{Provider, ProviderWriter};
use crate::cloud::replay::PaperCloud;
use crate::core::record::execution::EXECUTIONS_KEPT;
use crate::core::record::trace::Trace;
use crate::core::record::trail::WriteCounts;
use crate::core::record::uptime::{Remembered, Uptime};
use crate::core::world::time::Timestamp;
use crate::notify::Outlets;
use crate::paths::read_text;
use crate::report::replayed::{Played, Replay, ReplayDocument};
use crate::report::{Event, Silent, human, json};
use crate::settings::{Environment, NotifySettings, Settings, SettingsError};
use crate::stop::Stop;
use crate::store::any::Store;
use crate::store::records::{self, Mode, Overview, Selection};
use crate::store::sqlite::SqliteStore;

/// The command.
///
/// # Errors
/// Exit codes 2, 4 and 6.
pub async fn command(cli: &Cli, session: &Session<'_>, args: &ReplayArgs) -> Result<Printed, Failure> {
    let environment = Environment::of_process()?;
    let changed = Settings::load(cli, &environment.clone().with(&args.changes)?)?;
    let mut idle = Vec::new();
    for change in &args.changes {
        let alone = Settings::load(cli, &environment.clone().with(std::slice::from_ref(change))?)?;
        if matters(&alone) == matters(session.settings) {
            // By its name alone: it may be a secret.
            idle.push(change.split('=').next().unwrap_or_default());
        }
    }
    let (name, trace, recorded) = match &args.trace {
        Some(path) => (path.display().to_string(), read(path)?, None),
        None => {
            let (trace, recorded) = of_store(session).await?;
            ("history".into(), trace, Some(recorded))
        }
    };
    let trace = Arc::new(trace);
    let notice = Duration::from(args.notice);
    let play = |settings: &Settings| {
        let (settings, trace, stop) = (settings.clone(), trace.clone(), session.stop.clone());
        tokio::task::spawn_blocking(move || replayed(&trace, notice, &settings, &stop))
    };
    let (is, would_be) = (play(session.settings), play(&changed));
    let is = is.await.map_err(Failure::internal)??;
    let would_be = would_be.await.map_err(Failure::internal)??;
    let most_up = recorded.is_none().then(|| trace.most_up());
    let is_idle = |change: &&String| idle.iter().any(|name| change.split('=').next() == Some(name));
    let changes: Vec<&str> = args.changes.iter().filter(|it| !is_idle(it)).map(String::as_str).collect();
    let replay = Replay { name: &name, trace: &trace, changes: &changes, idle, recorded, is, would_be, most_up };
    let document = if session.show.json() {
        json::document(&ReplayDocument::new(&replay))
    } else {
        human::replay(session.show.screen, &replay)
    };
    Ok(Printed { exit: Exit::Done, document: document.into() })
}

/// What a replay depends on.
fn matters(settings: &Settings) -> impl PartialEq + use<> {
    let Settings { interval, job_timeout, max_concurrent, policy, recreate_wait, keep_trying, blast_radius, .. } =
        settings;
    (
        (*interval, *job_timeout, *max_concurrent, *recreate_wait, *keep_trying),
        (policy.clone(), blast_radius.percent, blast_radius.force),
    )
}

fn read(path: &Path) -> Result<Trace, Failure> {
    let shown = path.display();
    let text = read_text(path).map_err(|error| SettingsError {
        message: format!("cannot read the trace {shown}: {error}"),
        hint: Some("name a readable file with --trace".into()),
    })?;
    Trace::of_text(&text).map_err(|why| {
        let hint = "it is JSON such as {\"gap_seconds\": 300, \"zones\": {\"us-east-1a_v100\": [[1, 12], [0, 3]]}}";
        SettingsError { message: format!("{shown} is not a trace: {why}"), hint: Some(hint.into()) }.into()
    })
}

/// What the passes of the store saw, and what came of it.
async fn of_store(session: &Session<'_>) -> Result<(Trace, Uptime), Failure> {
    let now = session.clock.now();
    let all = Selection { limit: EXECUTIONS_KEPT, ..Selection::default() };
    let store = session.open_to_read().await?;
    let Overview { executions, down, ended_spells, days, markets, unread, .. } =
        records::overview(&store, &all, now).await?;
    session.reporter.event(Event::Unread { records: &unread });
    let (instance_days, unread) = records::instance_days(&store, now).await?;
    session.reporter.event(Event::Unread { records: &unread });
    let from = executions.iter().map(|it| it.execution.started_at).min().unwrap_or(now);
    let remembered = Remembered { open: &down, ended: &ended_spells, days: &days };
    let trace = Trace::of_history(&executions, (remembered, &instance_days, &markets), from, now).ok_or_else(|| {
        SettingsError {
            message: "no downtime is stored, so that there is nothing to replay".into(),
            hint: Some(
                "replay a public trace with --trace FILE, or let passes run until something was reclaimed".into(),
            ),
        }
    })?;
    Ok((trace, Uptime::of(remembered, from, now)))
}

/// One replay, on a runtime of its own whose time passes at once.
fn replayed(trace: &Trace, notice: Duration, settings: &Settings, stop: &Stop) -> Result<Played, Failure> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().map_err(Failure::internal)?;
    // The ids of passes are drawn, too.
    fastrand::seed(1);
    runtime.block_on(passes(trace, notice, settings, stop))
}

async fn passes(trace: &Trace, notice: Duration, settings: &Settings, stop: &Stop) -> Result<Played, Failure> {
    let clock = Clock::starting_at(trace.from);
    let counts = Cell::new(WriteCounts::default());
    let cloud = Provider::Paper(PaperCloud::new(trace, notice, &clock, &counts));
    let store = Store::Sqlite(SqliteStore::in_memory(clock.clone())?);
    let none = NotifySettings::default();
    let outlets = Outlets::new(&none, &settings.proxies, &Silent).map_err(Failure::internal)?;
    let limits = Limits::new(settings, Mode::Real);
    let begun = Instant::now();
    let at = |time: Timestamp| begun + time.since(trace.from);
    let mut next = trace.from;
    loop {
        if let Some(cause) = stop.cause() {
            return Err(Failure::stopped(cause));
        }
        sleep_until(at(next)).await;
        let pass = World {
            cloud: &cloud,
            store: &store,
            limits: &limits,
            clock: &clock,
            stop: &Stop::default(),
            reporter: &Silent,
        };
        // One that is refused as unsafe, for example, is part of what would have been.
        if let Err(failure) = run::run(&pass, &ProviderWriter::Cloud(&cloud), &outlets).await
            && failure.exit != Exit::Unsafe
        {
            return Err(failure);
        }
        if next == trace.to {
            break;
        }
        while next <= clock.now() {
            next = next + settings.interval;
        }
        next = next.min(trace.to);
    }
    let Overview { down, ended_spells, days, .. } = records::overview(&store, &Selection::default(), trace.to).await?;
    let remembered = Remembered { open: &down, ended: &ended_spells, days: &days };
    let mut uptime = Uptime::of(remembered, trace.from, trace.to);
    // Those that were never down run in every replay.
    uptime.instances += trace.steady;
    uptime.running_seconds += trace.steady_usage.running_seconds;
    uptime.usage.add(trace.steady_usage);
    Ok(Played { uptime, tally: counts.get() })
}
