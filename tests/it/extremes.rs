//! Numbers from outside at the ends of their ranges and beyond, wherever one comes in: the wire, its headers, the store,
//! `--now`. Nothing is computed with them that can overflow: a pass ends in a verdict or an error, never in an abort.

use std::time::Duration;

use novita_sim::{InProcess, Spec, World};
use respot::act::{self, Limits};
use respot::clock::Clock;
use respot::cloud::novita::client::Client;
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::commands::run;
use respot::core::world::money::Usd;
use respot::core::world::policy::{BridgePolicy, NoticePolicy, Policy};
use respot::core::world::time::Timestamp;
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::records::Mode;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, each, side_by_side};
use crate::simulation::store::Memory;

/// Where a number was.
const NUMBERS: [&str; 14] = [
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775",
    "-9223372036854775",
    "4294967296",
    "253402300800",
    "-1",
    "0",
    "1e308",
    "-1e308",
    "0.5",
    "99999999999999999999999999",
];

/// Replaces numbers in a text, be they in quotes or not; what belongs to a word stays.
fn distorted(text: &str, chance: &mut fastrand::Rng, one_in: u8) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let after = rest[length..].chars().next().unwrap_or(' ');
        let is_number = length > 0 && !before.is_alphanumeric() && !"-_.".contains(before) && !after.is_alphabetic();
        if is_number && !"-_.:".contains(after) && chance.u8(..one_in) == 0 {
            out.push_str(NUMBERS[chance.usize(..NUMBERS.len())]);
        } else {
            out.push_str(&rest[..length.max(first.len_utf8())]);
        }
        let step = length.max(first.len_utf8());
        before = rest[..step].chars().next_back().unwrap_or(' ');
        rest = &rest[step..];
    }
    out
}

fn fleet(seed: u64) -> World {
    let mut world = World::new(seed);
    for number in 0..6 {
        let name = format!("m-{number}");
        world.add(match number {
            0 => Spec::exited(&name).id("gone").stopped_ago_ms(3 * 3_600_000),
            1 => Spec::stuck(&name, 7_200_000),
            2 => Spec::exited(&name).billing("onDemand"),
            3 => Spec::running(&name).notified(15 * 60_000),
            _ => Spec::running(&name),
        });
    }
    world
}

/// A provider whose numbers are wrong now and then.
#[derive(Clone)]
struct Liar(InProcess, std::rc::Rc<std::cell::RefCell<fastrand::Rng>>);

impl Transport for Liar {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let response = self.0.exchange(request).await?;
        let mut chance = self.1.borrow_mut();
        let one_in = [2, 10, 40][chance.usize(..3)];
        let mut number = || NUMBERS[chance.usize(..NUMBERS.len())].to_owned();
        let (retry_after, date) = (Some(number()), Some(number()));
        if chance.u8(..8) == 0 {
            let others = ["2", "Fri, 31 Dec 9999 23:59:59 GMT", "soon"].map(|it| Some(it.to_owned()));
            let retry_after = if chance.bool() { retry_after } else { others[chance.usize(..3)].clone() };
            return Ok(Response { status: 429, retry_after, date, body: Vec::new() });
        }
        let body = distorted(&String::from_utf8_lossy(&response.body), &mut chance, one_in);
        Ok(Response { body: body.into_bytes(), ..response })
    }
}

#[test]
fn no_number_of_the_provider_stops_a_pass() {
    let policy = Policy {
        notice: Some(NoticePolicy { lead: Duration::from_secs(1200), overlap: Duration::from_secs(600) }),
        bridge: BridgePolicy { per_day: Usd::from_micros(10_000_000), ..BridgePolicy::DEFAULT },
        ..Policy::default()
    };
    let mut ended = 0;
    for seed in 0..250 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        ended += runtime.block_on(async {
            let provider = InProcess::new(fleet(seed));
            let chance = std::rc::Rc::new(fastrand::Rng::with_seed(seed).into());
            let clock = Clock::starting_at(Timestamp::from_millis(novita_sim::DAWN_MS));
            let (store, mut ended) = (Memory::new(seed), 0);
            for _ in 0..4 {
                let cloud = Client::new(Liar(provider.clone(), std::rc::Rc::clone(&chance)));
                let limits = Limits { keep_trying: Duration::ZERO, ..Limits::of(&policy, Mode::Real) };
                let (stop, reporter) = (Stop::default(), &Silent);
                let world =
                    act::World { cloud: &cloud, store: &store, limits: &limits, clock: &clock, stop: &stop, reporter };
                ended += usize::from(run::run(&world, &cloud, &NoReceiver).await.is_ok());
                tokio::time::sleep(Duration::from_secs(900)).await;
            }
            ended
        });
    }
    assert!(ended > 200, "{ended} of 1000 passes got further than the listing");
}

/// What reads the store, and what a pass does with it.
const COMMANDS: [&str; 13] = [
    "status",
    "status -o json",
    "status -o prometheus",
    "status --check",
    "history",
    "history -o json --limit 1000",
    "history --instance gone",
    "history --writes",
    "markets",
    "explain gone",
    "rollout status",
    "dry-run -o json",
    "run",
];

/// Stores what a dump calls `key`.
fn put(stage: &Stage, key: &str, value: &str) {
    let key = key.trim_start_matches("respot:");
    match key.split_once('[').and_then(|(map, field)| Some((map, field.strip_suffix(']')?))) {
        Some((map, field)) => stage.put_field(map, field, value),
        None => stage.put(key, value),
    }
}

#[test]
fn no_number_in_the_store_and_no_time_stops_a_command() {
    let seeds: Vec<(u64, Kind)> = (0..12).map(|seed| (seed, BOTH[usize::from(seed % 6 == 5)])).collect();
    side_by_side(&seeds, 4, |(seed, kind)| {
        let mut chance = fastrand::Rng::with_seed(*seed);
        let stage = Stage::new(*kind, fleet(*seed));
        let call = |words: &str| stage.call(words).env("RESPOT_NOTICE", "on").env("RESPOT_BRIDGE_USD_PER_DAY", "9");
        stage.provider.with(|world| world.reclaim_now("gone"));
        for _ in 0..3 {
            drop(call("run --force").env("MIGRATION_RECREATE_WAIT_MS", "0").output());
            stage.provider.with(|world| world.advance(HOUR / 2));
        }
        stage.end_lease();
        let kept = stage.dump();
        for (at, words) in COMMANDS.iter().enumerate() {
            for (key, value) in &kept {
                put(&stage, key, &distorted(value, &mut chance, [1, 3, 12][at % 3]));
            }
            let output = call(words).env("MIGRATION_RECREATE_WAIT_MS", "0").limit(90).output();
            assert!((0..=6).contains(&output.code()), "{words} ended with {}: {}", output.code(), output.all());
            stage.end_lease();
        }
        // Then what is stored is right and the clock is not.
        for (key, value) in &kept {
            put(&stage, key, value);
        }
        for now in [i64::MIN / 1_000_000, -62_135_596_800_000, 0, 253_402_300_799_000] {
            each(&["status", "status -o prometheus", "history", "markets", "dry-run"], |words| {
                let output = call(words).now(Some(now)).output();
                assert!((0..=6).contains(&output.code()), "{words} at {now}: {}", output.all());
            });
        }
        stage.provider.with(|world| world.advance(MINUTE));
    });
}
