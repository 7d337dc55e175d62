//! respot brings reclaimed GPU spot instances back.
//!
//! A GPU cloud sells spot instances at about half price and takes them back when it pleases. A reclaimed instance ends
//! as `exited`; respot notices, asks the provider to migrate it, follows what becomes of that, and creates anew what
//! failed to migrate. It is one shot per invocation: a scheduler calls it, its memory between the calls is in Redis or in
//! an embedded SQLite file.
//!
//! # The picture
//!
//! Read the world into a value; decide with a function that cannot fail and cannot wait; print the decision, or carry
//! it out.
//!
//! ```text
//! settings -> lease -> observe ---> plan ---> check ---> survey ---> settle ---> apply ---> record ---> tell
//!                      Snapshot     Plan      Unsafe?    Prepared   Tidings    Attempts   Execution   Outgoing
//!                      Ledger       one verdict an instance, each with its reason
//! ```
//!
//! A dry run ends after `survey`, which reads what the recreations of the plan need beyond the listings: of what an
//! instance is made, and where there is room for it. It comes after `check`, so that a plan that is refused asks the
//! provider nothing more. Recovery after a crash is not a path of its own: what an earlier pass left open is part of the
//! ledger, and `plan` settles it on every pass; `settle` stores what it found before anything new is begun.
//!
//! `apply` sends what recreations can send at once, then the migrations, and waits for replacements last: a wait of two
//! minutes should not delay the migration of what was reclaimed meanwhile.
//!
//! # What is told
//!
//! [`core::record::news`] names what a look brought to light; it becomes an event in the same commit as the change that makes
//! it old news, so that neither a crash nor a second look loses or doubles it. [`notify`] delivers events when the pass
//! is recorded and before its lease is given back, since what was taken must be struck off under the lease. Everything
//! else that is told (ping, metrics, the termination message) is told by the command, when the lease is free again.
//!
//! Every write to the provider is on record before it is sent, [`act::audit`]: an entry travels with the commit that
//! allows the call, its end with the next one.
//!
//! # A recreation
//!
//! [`core::recreation::journal`] is the whole story in three functions: what was done (`apply`), what is seen (`see`), what comes next
//! (`next`). [`core::pass::failures`] tells what needs a replacement and which instances are replacements; [`core::recreation::marker`] is
//! the name by which they are known. [`core::recreation::blueprint`] is what they are made of and where they go.
//!
//! # A rollout
//!
//! [`core::rollout::analysis`] says which on-demand instances could be spot and what speaks against it. [`core::rollout`] moves them:
//! a state machine in the store, of which each call takes one step. Moving an instance is a recreation with another billing
//! mode and a reason of its own, so that the journal and its guarantees are the same; [`core::recreation::journal::moves`] is what
//! differs: the old instance is well, and stays until the whole rollout has passed. Passes leave alone what a rollout
//! moves. [`core::rollout::quality`] judges measurements of [`measure`], and what cannot be told is held, never passed.
//!
//! # The invariants
//!
//! 1. **A dry run cannot write**: it holds [`cloud::CloudRead`] and [`store::StoreRead`], which have no method that
//!    does. A rehearsal holds [`cloud::Rehearsal`] in place of a writer.
//! 2. **Writing takes the lease**: every commit names a [`store::Lease`], and the store compares its token.
//! 3. **Intent before act**: the migration time and the open call are stored before the request is sent. No store, no
//!    request.
//! 4. **Unknown is an outcome**: what a timeout, a cut connection or a 5xx leaves open is found out by looking, in this
//!    pass or a later one, never by sending again.
//! 5. **Absence is proved only by a complete listing**, and facts are never made up: unknown words survive as
//!    `Other(word)` and are left alone.
//! 6. **The replacement's name proves what it replaces**: it is derived from the old instance, so that a store that has
//!    forgotten everything doubles nothing. Two that bear one marker are one too many.
//! 7. **Deletion comes last**: of the old instance, once its replacement was seen running, and both are looked at once more
//!    right before. In the order delete-first only when the whole specification is in the journal.
//! 8. **Nothing that runs is deleted for the sake of what has not proved itself**: an on-demand instance goes when its
//!    successor runs, is billed as spot, answers, and every stage of its rollout has soaked and passed its gate.
//! 9. **The clock enters once**, in [`clock`]; everything that decides takes `now`.
//!
//! # The modules, in reading order
//!
//! * [`core`]: the world as values, the policy, the plan, the summary. Pure. [`core::pass::rules`] is the order of a
//!   verdict; [`core::pass::explain`] goes through the same rules to the end, [`core::record::life`] tells what happened before.
//! * [`cloud::novita`]: the provider. Its client works on a [`cloud::transport::Transport`], so that a stand-in takes the
//!   network's place *below* paging, retries and pacing: a simulation exercises the code that production runs, where a
//!   stand-in for the whole client would not.
//! * [`store`]: the memory. A store knows keys, maps and a lease; what records mean is written once, in
//!   [`store::records`], for both stores. Two dumb stores and one clever layer, since two clever stores would drift.
//! * [`act`]: carries out a plan: [`act::migrate`], [`act::recreate`].
//! * [`measure`]: samples of a probe, summed up.
//! * [`notify`]: who is told, apart from the log.
//! * [`report`]: events become log lines and progress; documents for people, for scripts and for Prometheus.
//! * [`commands`]: from settings to an exit code.
//! * [`settings`], [`cli`], [`clock`], [`stop`], [`tls`]: the edges.
//!
//! Imports point one way: `main -> commands -> { act, measure, notify } -> { cloud, store, report } -> core`, siblings do not
//! import each other; the small edges `clock`, `stop` and `tls` may be used by all but `core`. A test reads the sources
//! and keeps it so.

pub mod act;
pub mod clock;
pub mod cloud;
pub mod commands;
pub mod core;
pub mod measure;
pub mod notify;
pub mod report;
pub mod settings;
pub mod stop;
pub mod store;
pub mod tls;

pub use settings::cli;
