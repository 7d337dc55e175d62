//! How much of the time a fleet is up on a spot market: days of passes against traces of spot capacity, in virtual time.
//!
//! `cargo bench --bench market` replays every row and compares it with its bars; `cargo bench --bench market -- "A14, 15"`
//! those whose name contains the words; `-- --quick` replays the first day of each and judges nothing.
//!
//! In each row the same fleet is left to four policies. The *oracle* is up whenever any zone has room. *eager* and *shell*
//! are loops without a memory, see [`loops`]. *respot* is the real pass, with default settings, on the stand-in for the
//! provider. Only the world is judged: what ran when, and which calls reached it.
//!
//! What makes a replay: the room of each zone follows the trace, tick by tick. A pass is made shortly before the end of
//! every n-th tick, and time stands still meanwhile. Instance k begins in zone k mod n. An instance runs two minutes after
//! it was created or migrated, unless the room goes first. Migrations stay in their zone. Whether an instance was up is
//! read off the world at the end of each tick.

mod figures;
mod loops;
mod replay;
mod rows;
#[expect(dead_code, clippy::unwrap_used, reason = "it is a test's, and tests use more of it")]
#[path = "../../tests/it/simulation/store.rs"]
mod store;
mod trace;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use figures::{Figures, count};
use replay::{Who, replay};
use rows::{Column, MOST_RECLAIMS, ROWS, Row};
use tokio::time::Instant;
use trace::Trace;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own word for `harness = false`.
    arguments.retain(|argument| argument != "--bench");
    let quick = arguments.iter().any(|argument| argument == "--quick");
    arguments.retain(|argument| argument != "--quick");
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|word| name.contains(word.as_str()));
    let rows: Vec<&Row> = ROWS.iter().filter(|row| wanted(&row.name())).collect();
    if rows.is_empty() {
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    print(HEAD);
    let mut missed = 0;
    replay_all(&rows, quick.then_some(1), |row, result| {
        print(&row.name());
        let result = match result {
            Ok(result) => result,
            Err(why) => {
                missed += 1;
                return print(&format!("  FAILED: {why}"));
            }
        };
        let faults = if quick { Vec::new() } else { faults(row, &result) };
        missed += usize::from(!faults.is_empty());
        for line in result.lines(&faults) {
            print(&line);
        }
    });
    print(&format!("{} rows in {} s, {missed} of them missed", rows.len(), begun.elapsed().as_secs()));
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a row came to.
struct Replayed {
    oracle: f64,
    eager: Figures,
    shell: Figures,
    /// `None` where the program does not have the settings yet.
    program: Option<Figures>,
}

/// Replays rows on all cores and hands on what they came to, in the order of the table.
fn replay_all(rows: &[&Row], most_days: Option<u64>, mut done: impl FnMut(&Row, Result<Replayed, String>)) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let work = |sender: mpsc::Sender<_>| {
        while let Some((number, row)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|it| Some((it, rows.get(it)?)))
        {
            sender.send((number, replay_row(row, most_days))).expect("the table is being printed");
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        let mut early: Vec<Option<Result<Replayed, String>>> = rows.iter().map(|_| None).collect();
        let mut at = 0;
        for (number, result) in results {
            early[number] = Some(result);
            while let Some(result) = early.get_mut(at).and_then(Option::take) {
                done(rows[at], result);
                at += 1;
            }
        }
    });
}

fn replay_row(row: &Row, most_days: Option<u64>) -> Result<Replayed, String> {
    let trace = Trace::read(row.source, most_days)?;
    let setups = row.setups(&trace);
    let replayed = |who: &Who, most_living| Figures::of_all(setups.iter().map(|setup| replay(setup, who, most_living)));
    let could_run: u64 = (0..trace.ticks).map(|tick| u64::from(trace.room_for(row.fleet, tick))).sum();
    let program =
        row.policy().map(|policy| replayed(&Who::Program(Box::new(policy), row.keep_trying()), row.most_living()));
    Ok(Replayed {
        oracle: could_run as f64 / f64::from(row.fleet) / count(trace.ticks),
        eager: replayed(&Who::Eager, 1),
        shell: replayed(&Who::Shell, 1),
        program,
    })
}

/// What is not as it must be.
fn faults(row: &Row, replayed: &Replayed) -> Vec<String> {
    let Replayed { oracle: _, eager, shell: _, program } = replayed;
    let Some(program) = program else { return Vec::new() };
    let mut faults: Vec<String> = program.broken.clone();
    let mut least = |what: &str, is: f64, bar: f64| {
        if is < bar {
            faults.push(format!("{what} {is:.3}, at least {bar:.3}"));
        }
    };
    least("up %", program.up * 100.0, row.bars.up);
    least("of eager", program.up / eager.up, row.bars.of_eager);
    let mut most = |what: &str, is: f64, bar: f64| {
        if is > bar {
            faults.push(format!("{what} {is:.2}, at most {bar:.2}"));
        }
    };
    most("refused", program.refused(), row.bars.refused);
    most("woken", count(program.woken), count(row.bars.woken));
    most("cost", program.cost, row.bars.cost);
    most("minutes down", program.spell(100).as_secs_f64() / 60.0, row.bars.spell as f64);
    if !matches!(row.column, Column::FailingJobs | Column::KeepsTrying | Column::Stops | Column::StopsIgnored) {
        most("reclaims", count(program.reclaims), count(eager.reclaims) * MOST_RECLAIMS);
    }
    for (code, times) in &program.exits {
        if *code > 1 {
            faults.push(format!("exit code {code}, {times} times"));
        }
    }
    faults
}

/// Over the lines of a row. Times to recovery are minutes, times lost hours in an instance-month by cause; accepted and
/// refused calls are for each spell; moves for each instance-day; the cost for each hour up.
const HEAD: &str = concat!(
    "           up % /eager /oracle |   p50   p95 worst |  lost noticing no room held back coming up |",
    " reclaims moves accepted refused | most  cost on demand",
);

impl Replayed {
    fn lines(&self, faults: &[String]) -> Vec<String> {
        let Self { oracle, eager, shell, program } = self;
        let mut lines = vec![format!("  oracle {:6.2}", oracle * 100.0)];
        let named = [("eager", Some(eager)), ("shell", Some(shell)), ("respot", program.as_ref())];
        for (name, figures) in named {
            lines.push(match figures {
                Some(figures) => self.line(name, figures),
                None => format!("  {name} has no such setting yet"),
            });
        }
        if let Some(woken) = program.as_ref().map(|program| program.woken).filter(|woken| *woken > 0) {
            lines.push(format!("  {woken} were started after their users had stopped them"));
        }
        lines.extend(faults.iter().map(|fault| format!("  MISSED: {fault}")));
        lines
    }

    fn line(&self, name: &str, figures: &Figures) -> String {
        let Figures { up, lost, reclaims, moves_a_day, most_at_once, cost, on_demand, .. } = figures;
        let minutes = |percent: usize| figures.spell(percent).as_secs() / 60;
        let [noticing, no_room, held_back, coming_up] = lost;
        format!(
            "  {name:<6} {:6.2} {:6.3}  {:6.3} | {:5} {:5} {:5} | {:5.1} {noticing:8.1} {no_room:7.1} {held_back:9.1} \
             {coming_up:9.1} | {reclaims:8} {moves_a_day:5.2} {:8.2} {:7.2} | {most_at_once:4} {cost:5.3} {:8.1}%",
            up * 100.0,
            up / self.eager.up,
            up / self.oracle,
            minutes(50),
            minutes(95),
            minutes(100),
            figures.lost_in_all(),
            figures.accepted(),
            figures.refused(),
            on_demand * 100.0,
        )
    }
}

#[expect(clippy::disallowed_macros, reason = "a bench prints its table")]
fn print(line: &str) {
    println!("{line}");
}
