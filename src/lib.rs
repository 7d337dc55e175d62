//! respot brings reclaimed GPU spot instances back.
//!
//! A GPU cloud sells spot instances at about half price and reclaims them at any time. A reclaimed instance is `exited`.
//! respot finds it, asks the provider to migrate it, follows the migration, and recreates the instance if the migration
//! fails. Each call of the program does one piece of work: a scheduler calls it, and its memory between calls is Redis or
//! an embedded SQLite file.
//!
//! # The idea
//!
//! Read the world into a value; decide with a function that cannot fail and cannot wait; print the decision, or carry it
//! out.
//!
//! # One pass
//!
//! ```text
//! settings -> lease -> observe --------> prepare -------> settle ------> act -------> record -----> deliver
//!                      Snapshot, Ledger  what recreations what earlier   migrate,     Execution     events, ping,
//!                      plan, check       need beyond the  passes started recreate                   metrics
//!                                        listings
//! ```
//!
//! | step | where |
//! |---|---|
//! | parse, load settings, start logging, listen to signals | `main`, [`commands::start`], [`settings`] |
//! | choose the command | [`commands::dispatch`]; one file or folder in [`commands`] for each command |
//! | take the lease, open the record, renew the lease | `commands::run::lease` |
//! | read provider and store, plan, check, prepare | [`commands::observe`]; the plan is [`core::pass::plan`] |
//! | store what became of earlier calls, emit what is new | `commands::run::record`, [`core::record::news`] |
//! | act | [`act`]: [`act::migrate`], [`act::recreate`] |
//! | close the record, deliver events, give back the lease | `commands::run::record`, [`notify`] |
//! | print | [`report`] |
//!
//! A pass has one round, or several: the next one observes again, at once while many reclaimed instances are recreated in
//! waves, and after a minute while one of them is down and the pass goes on trying. Within a round a migration that is
//! refused for lack of room leads to a creation elsewhere ([`core::pass::ladder`] chooses the market), and where no market
//! has room, to an on-demand instance that stands in ([`core::pass::bridge`]). What markets answer is shared by all workers
//! ([`act::board`]) and stored with the next commit.
//!
//! `dry-run` and `explain` end after `prepare`. They hold no writer. A pass sends what recreations can send at once, then
//! the migrations, and waits for replacements last, so that the wait delays no migration. Recovery after a crash is not a
//! path of its own: the ledger holds what earlier passes left open, and every plan settles it.
//!
//! # Where a change goes
//!
//! | change | files |
//! |---|---|
//! | a new reason to skip | a variant of `Skip` with its name and sentence in [`core::pass::verdict`]; if a new question leads to it, a variant of `Rule` with its answer and its facts in [`core::pass::rules`]; the compiler names the rest |
//! | a new event | a name and a constructor in [`core::record::outbox`]; [`core::record::news`] if it is found by observing, [`act`] if it follows an action |
//! | a new setting | one row in `settings::rows`, and its field in [`settings`] |
//! | a new column in `history` | the field in [`core::record::execution`], then `report::human::history`, `report::csv` and [`report::json`]; the command is [`commands::history`] |
//! | a provider's new error word | `cloud::novita::refusal`; a new status of an instance or a job: [`core::world::instance`] |
//! | a new rung of the ladder, or another order of markets | [`core::pass::rules`] for when, [`core::pass::ladder`] for where |
//! | a new step of a recreation | [`core::recreation::journal`]: `apply`, `observe`, `next` |
//! | a new command | a variant in [`cli`], a file in [`commands`] with its `command()`, a line in [`commands::dispatch`] |
//! | a new provider | a folder in [`cloud`] beside [`cloud::novita`] and [`cloud::ec2`], behind the same traits |
//! | a new store | [`store`]: the two traits; the records stay as they are |
//!
//! # The rooms
//!
//! ```text
//! main -> commands -> { act, measure, notify } -> { cloud, store, report } -> core
//! core:   world < recreation < pass < rollout < record        each may use those before it
//! ```
//!
//! * [`core`] decides, and is pure: no clock, no environment, no I/O. [`core::world`] has instances, jobs, time and policy.
//!   [`core::recreation`] has the journal of one recreation, the marker in a replacement's name, and what it is made of.
//!   [`core::pass`] has the ledger, the rules, the memory of markets, the plan and its explanation. [`core::rollout`] moves instances from
//!   on-demand to spot. [`core::record`] has what is remembered and reported: executions, lives of instances, events,
//!   health.
//! * [`cloud`] has the provider's traits and the request engine; the provider itself is a folder below.
//! * [`store`] knows keys, maps and a lease. What the records mean is written once, in [`store::records`].
//! * [`act`] carries out decisions. [`measure`] probes instances. [`notify`] delivers events.
//! * [`report`] turns events into log lines and progress, and results into tables, JSON, CSV and metrics.
//! * [`settings`], [`credentials`], [`clock`], [`stop`] and [`tls`] are the edges; all but `core` may use the last three.
//!
//! Tests read the sources and check the order of the rooms, that no files form a circle, that no type name occurs twice, and
//! that no file is longer than 600 lines.
//!
//! # The invariants
//!
//! 1. **A dry run cannot write.** It holds [`cloud::CloudRead`] and [`store::StoreRead`], which have no method that writes.
//!    A rehearsal has [`cloud::Rehearsal`] in place of the provider's writer.
//! 2. **Writing takes the lease.** Every commit names a [`store::Lease`], and the store compares its token.
//! 3. **Intent before act.** The migration time and the open call are stored before the request is sent, and the audit
//!    trail with them. Without the store nothing is sent.
//! 4. **Unknown is an outcome.** After a timeout, a cut connection or a 5xx, later observation shows the effect. The request
//!    is not repeated blindly.
//! 5. **Only a complete listing proves absence**, and facts are never invented: unknown words survive as `Other(word)` and
//!    are left alone.
//! 6. **The marker proves what a replacement replaces.** It is derived from the old instance, so that even an empty store
//!    leads to no duplicate. Of two instances with one marker, the less advanced one is deleted.
//! 7. **Deletion comes last.** The old instance is deleted after its replacement was seen running, and both are checked
//!    again right before. In the order delete-first, the whole specification is in the journal before.
//! 8. **A rollout deletes no on-demand instance before its successor has proved itself**: it runs, is billed as spot,
//!    answers, and every stage of the rollout has soaked and passed its gate. What cannot be measured is held, not passed.
//! 9. **What replaces a reclaimed instance needs evidence** ([`core::pass::evidence`]): a person may have stopped it and want
//!    its disk. What runs is deleted ahead of a reclaim only while the reclaim is still announced.
//! 10. **Lack of room is no failure**, and one refusal is enough: it counts for every instance that asks the same market.
//! 11. **The clock enters once**, in [`clock`]; everything that decides takes `now`. The first answer of the provider corrects
//!     it, and what is stored of times ahead of it counts as now.

pub mod act;
pub mod clock;
pub mod cloud;
pub mod commands;
pub mod core;
pub mod credentials;
pub mod measure;
pub mod notify;
mod paths;
pub mod proxies;
pub mod report;
pub mod settings;
pub mod shell;
pub mod stop;
pub mod store;
pub mod tls;

pub use settings::cli;
