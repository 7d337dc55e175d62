mod gates;

use std::time::Duration;

use super::*;
use crate::core::pass::market::{Market, Markets};
use crate::core::rollout::findings::{Fittings, Offered, Probed, Usage};
use crate::core::rollout::gates::{Certainty, Evidence, Gate, GateVerdict, Weight};
use crate::core::rollout::metrics::{Metrics, Point};
use crate::core::world::instance::{Billing, Instance, Status};
use crate::core::world::market::{Offer, Quota};
use crate::core::world::policy::Selector;
use crate::core::world::probe::Probe;
use crate::core::world::time::Seconds;

const NOW: i64 = 1_768_478_400;

/// An instance that every gate approves, and everything that is known about it.
#[derive(Clone)]
struct Case {
    member: ListedInstance,
    offered: Offered,
    metrics: Option<Metrics>,
    probed: Probed,
    usage: Usage,
    markets: Markets,
    terms: Terms,
}

fn pattern(text: &str) -> Selector {
    Selector::parse(text).expect("a pattern")
}

fn place() -> Place {
    Place { product: "p".into(), cluster: "c".into() }
}

fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

/// One point a quarter of an hour, the last one a minute ago; in percent.
fn series(values: &[u32]) -> Vec<Point> {
    let count = i64::try_from(values.len()).expect("few");
    let at = |n: i64| Timestamp::from_secs(NOW - 60 - 900 * (count - 1 - n));
    values.iter().zip(0..).map(|(value, n)| Point { at: at(n), value: value * 100 }).collect()
}

fn offer() -> Offer {
    Offer {
        product_id: "p".into(),
        price: Some(Usd::from_micros(400_000)),
        on_demand_price: Some(Usd::from_micros(1_000_000)),
        cpu_per_gpu: Some(8),
        memory_per_gpu: Some(32),
        max_rootfs: Some(200),
        available: true,
        stock: Stock::High,
        ..Offer::default()
    }
}

fn well() -> Metrics {
    well_for(1)
}

/// So many points of each.
fn well_for(points: usize) -> Metrics {
    let of = |percent: u32| series(&vec![percent; points]);
    Metrics { cpu: of(400), memory: of(30), disk: of(20), gpu: series(&[70; 30]), unreported: None }
}

fn member(id: &str) -> ListedInstance {
    let instance = Instance {
        id: InstanceId::new(id),
        name: format!("train-{id}").as_str().into(),
        status: Status::Running,
        billing: Billing::OnDemand,
        reclaim: None,
        marker: None,
        aside: None,
        place: Some(std::sync::Arc::new(place())),
        gpus: 1,
        created_at: None,
        started_at: Seconds::new(NOW - 86_400),
        stopped_at: None,
    };
    ListedInstance {
        instance,
        product_name: "P".into(),
        gpu_num: Some(2),
        cpu_num: Some(16),
        memory_gb: Some(64),
        rootfs_size: Some(60),
        fittings: Ok(Fittings {
            addressed: Some("its ports 8080".into()),
            disk: "container disk",
            ..Fittings::default()
        }),
        endpoints: Vec::new(),
    }
}

fn case() -> Case {
    Case {
        member: member("a"),
        offered: Offered::Offer(offer()),
        metrics: Some(well()),
        probed: Probed::Passed(Duration::from_millis(12)),
        usage: Usage { instances: 3, gpus: 6, is_complete: true },
        markets: Markets::new(),
        terms: Terms {
            may_lose: vec![pattern("train-*")],
            probe: Some(Probe::Http { port: 8080, path: "/health?token=secret".into() }),
            gpu_quota: Some(8),
            instance_quota: Some(4),
            notifies: true,
            ..Terms::default()
        },
    }
}

impl Case {
    fn judge(&self) -> Opportunity {
        let Self { member, offered, metrics, probed, usage, markets, terms } = self.clone();
        judge(&member, &Findings { offered, metrics, probed, usage, markets: &markets }, &terms, now())
    }

    fn offer(&mut self) -> &mut Offer {
        match &mut self.offered {
            Offered::Offer(offer) => offer,
            other => panic!("{other:?}"),
        }
    }

    /// The provider tells what may be had at once.
    fn quota(&mut self, limit: Result<u64, String>) {
        self.offer().quota = Some(Quota { what: "vCPUs".into(), limit, used: 4, more: 4 });
    }

    fn fittings(&mut self) -> &mut Fittings {
        self.member.fittings.as_mut().expect("fittings")
    }

    /// How often its market accepted and refused calls.
    fn asked(&mut self, accepted: u64, refused: u64) {
        let market = Market { accepted, refused, ..Market::unseen(now()) };
        self.markets.insert(place(), market);
    }

    /// Its metrics are that much older.
    fn age(&mut self, seconds: u64) {
        let Metrics { cpu, memory, disk, gpu, .. } = self.metrics();
        for point in cpu.iter_mut().chain(memory).chain(disk).chain(gpu) {
            point.at = point.at - Duration::from_secs(seconds);
        }
    }

    fn metrics(&mut self) -> &mut Metrics {
        self.metrics.as_mut().expect("metrics")
    }
}

/// What is changed, the verdict of one gate with its confidence, and what it says. The other two gates stand as they were
/// unless the row says that they refuse, too.
type Row = (&'static str, fn(&mut Case), (GateVerdict, u8), &'static [&'static str], &'static [&'static str]);

fn check(gate: &str, rows: &[Row]) {
    for (what, change, expected, says, others) in rows {
        let mut case = case();
        change(&mut case);
        let judged = case.judge();
        for (name, found) in judged.gates.all() {
            if name == gate {
                let texts: Vec<&str> = found.evidence.iter().map(|it| it.text.as_str()).collect();
                assert_eq!((found.verdict(), found.confidence()), *expected, "{what}: {texts:?}");
                for part in *says {
                    assert!(texts.iter().any(|text| text.contains(part)), "{what}: {part:?} is not in {texts:?}");
                }
                assert!(!texts.iter().any(|text| text.contains("secret")), "{what}: {texts:?}");
                assert_eq!(found.verdict() == GateVerdict::Refuse, found.against().count() > 0);
            } else {
                assert_eq!(found.verdict() == GateVerdict::Refuse, others.contains(&name), "{what}: {name} {found:?}");
            }
        }
        assert_eq!(judged.approved, expected.0 == GateVerdict::Approve && others.is_empty(), "{what}");
    }
}

#[test]
fn costs_are_those_of_all_gpus_in_whole_units() {
    // Prices per GPU, GPUs; costs, saving, hundredths of a percent.
    type Micros = Option<i64>;
    const MOST: i64 = i64::MAX;
    let rows: &[(Micros, Micros, Option<u32>, [Micros; 2], Micros, Option<u64>)] = &[
        (Some(67_000), Some(33_500), Some(1), [Some(67_000), Some(33_500)], Some(33_500), Some(5_000)),
        (Some(67_000), Some(33_500), Some(8), [Some(536_000), Some(268_000)], Some(268_000), Some(5_000)),
        (Some(3), Some(2), Some(1), [Some(3), Some(2)], Some(1), Some(3_333)),
        (Some(3), Some(1), Some(1), [Some(3), Some(1)], Some(2), Some(6_667)),
        (Some(50_000), Some(50_000), Some(2), [Some(100_000), Some(100_000)], None, None),
        (Some(50_000), Some(50_001), Some(1), [Some(50_000), Some(50_001)], None, None),
        (Some(50_000), None, Some(1), [Some(50_000), None], None, None),
        (None, Some(50_000), Some(1), [None, Some(50_000)], None, None),
        (Some(67_000), Some(33_500), None, [None, None], None, None),
        (Some(MOST), Some(1), Some(2), [Some(MOST), Some(2)], Some(MOST - 2), Some(10_000)),
    ];
    for row @ (on_demand, spot, gpus, costs, saving, share) in rows {
        let mut case = case();
        let usd = |micros: Micros| micros.map(Usd::from_micros);
        (case.offer().on_demand_price, case.offer().price) = (usd(*on_demand), usd(*spot));
        case.member.gpu_num = *gpus;
        let judged = case.judge();
        assert_eq!([judged.current_cost, judged.spot_cost], costs.map(usd), "{row:?}");
        assert_eq!((judged.saving(), judged.saving_share()), (usd(*saving), *share), "{row:?}");
        assert!(!judged.approved || saving.is_some(), "{row:?}");
        let why = judged.why_none();
        let expected = match (costs, saving) {
            ([_, None], _) => "not sold as spot",
            ([None, _], _) => "its price is not known",
            (_, _) => "spot is not cheaper",
        };
        assert_eq!(why, expected, "{row:?}");
    }
}

#[test]
fn risk_is_measured_or_medium() {
    use Risk::{High, Low, Medium};
    // Instance-hours seen, reclaims, stock.
    let rows: &[(Option<(u64, u64)>, Stock, Risk, Option<u64>)] = &[
        (None, Stock::High, Medium, None),
        (Some((0, 0)), Stock::High, Medium, None),
        (Some((99, 0)), Stock::High, Medium, None),
        (Some((99, 50)), Stock::High, Medium, None),
        // No reclaim in a hundred hours does not prove that there are few.
        (Some((100, 0)), Stock::High, Medium, Some(0)),
        (Some((729, 0)), Stock::High, Medium, Some(0)),
        (Some((730, 0)), Stock::High, Low, Some(0)),
        (Some((730, 1)), Stock::Normal, Low, Some(1_369)),
        (Some((1_459, 2)), Stock::High, Medium, Some(1_370)),
        (Some((1_460, 2)), Stock::High, Low, Some(1_369)),
        (Some((336, 2)), Stock::High, Medium, Some(5_952)),
        (Some((335, 2)), Stock::High, High, Some(5_970)),
        (Some((100, 1)), Stock::High, High, Some(10_000)),
        (Some((730, 0)), Stock::Unstated, Low, Some(0)),
        (Some((730, 0)), Stock::Low, Medium, Some(0)),
        (Some((100, 1)), Stock::Low, High, Some(10_000)),
        (Some((730, 0)), Stock::None, High, Some(0)),
        (None, Stock::None, High, None),
    ];
    for row @ (seen, stock, risk, rate) in rows {
        let mut case = case();
        case.offer().stock = *stock;
        if let Some((hours, reclaims)) = *seen {
            let market = Market { instance_seconds: hours * 3600, reclaims, ..Market::default() };
            case.markets.insert(place(), market);
        }
        let judged = case.judge();
        assert_eq!((judged.risk, judged.market.and_then(|it| it.rate())), (*risk, *rate), "{row:?}");
        // What is not deployable has no stock, whatever the word for it.
        case.offer().available = false;
        assert_eq!(case.judge().risk, High, "{row:?}");
    }
    // What was seen elsewhere says nothing here.
    let mut case = case();
    for (product, cluster) in [("p", "other"), ("other", "c")] {
        let place = Place { product: product.into(), cluster: cluster.into() };
        case.markets.insert(place, Market { instance_seconds: 1 << 30, ..Market::default() });
    }
    assert_eq!((case.judge().risk, case.judge().market), (Medium, None));
    case.offered = Offered::Nothing;
    assert_eq!(case.judge().risk, Medium);
}

#[test]
fn the_workload_is_that_of_the_metrics() {
    let mut case = case();
    assert_eq!(case.judge().workload, Workload::Stable);
    case.metrics().gpu = series(&[0, 90].repeat(20));
    assert_eq!(case.judge().workload, Workload::Burst);
    case.metrics().gpu.clear();
    case.metrics().cpu = series(&[16 * 10, 16 * 80].repeat(20));
    assert_eq!(case.judge().workload, Workload::Burst, "by all its CPUs");
    case.metrics = None;
    assert_eq!(case.judge().workload, Workload::Unknown);
}

#[test]
fn the_safest_come_first_then_what_saves_most() {
    // Id, risk, saving; in the order in which they are found.
    let rows = [
        ("e", Risk::High, Some(9)),
        ("d", Risk::Medium, Some(5)),
        ("c", Risk::Medium, Some(5)),
        ("g", Risk::Low, None),
        ("b", Risk::Medium, Some(7)),
        ("f", Risk::Low, None),
        ("a", Risk::Low, Some(1)),
    ];
    let opportunity = |(id, risk, saving): &(&str, Risk, Option<i64>)| Opportunity {
        instance: InstanceId::new(id),
        risk: *risk,
        current_cost: Some(Usd::from_micros(100_000)),
        spot_cost: saving.map(|saving| Usd::from_micros(100_000 - saving)),
        approved: *id == "b" || *id == "e",
        ..case().judge()
    };
    let analysis = Analysis::new(rows.iter().map(opportunity).collect(), None, vec![]);
    let ids: Vec<&str> = analysis.opportunities.iter().map(|it| it.instance.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e", "f", "g"]);
    let usd = Usd::from_micros;
    let (total, approved) = (analysis.total(), analysis.approved());
    assert_eq!((total.count, total.hourly, approved.count, approved.hourly), (5, usd(27), 2, usd(16)));
    assert_eq!((total.hourly.monthly(), total.hourly.annual()), (usd(27 * 730), usd(27 * 8_760)));
    assert_eq!(Analysis::default().total(), TotalSaving::default());
}

#[test]
fn usage_counts_what_is_not_going() {
    let with = |status: Status, gpus: Option<u32>| {
        let mut member = member("x");
        (member.instance.status, member.gpu_num) = (status, gpus);
        member
    };
    let members = [
        with(Status::Running, Some(2)),
        with(Status::Exited, Some(4)),
        with(Status::Removing, Some(8)),
        with(Status::Removed, None),
        with(Status::Migrating, Some(1)),
    ];
    assert_eq!(Usage::of(&members, true), Usage { instances: 3, gpus: 7, is_complete: true });
    assert!(!Usage::of(&members, false).is_complete);
    let unknown = [with(Status::Running, None), with(Status::Running, Some(1))];
    assert_eq!(Usage::of(&unknown, true), Usage { instances: 2, gpus: 1, is_complete: false });
}

#[test]
fn terms_choose_by_name_or_id() {
    // Only, exclude, whether it is considered.
    for (only, exclude, expected) in [
        (&[][..], &[][..], true),
        (&["train-*"], &[], true),
        (&["a"], &[], true),
        (&["b", "train-?"], &[], true),
        (&["infer-*"], &[], false),
        (&[], &["train-*"], false),
        (&["train-*"], &["a"], false),
    ] {
        let list = |patterns: &[&str]| patterns.iter().map(|it| pattern(it)).collect();
        let terms = Terms { only: list(only), exclude: list(exclude), ..Terms::default() };
        assert_eq!(terms.cover(&member("a").instance), expected, "{only:?} {exclude:?}");
    }
}

#[test]
fn only_what_is_known_to_be_on_demand_and_runs_is_a_candidate() {
    for (billing, status, expected) in [
        (Billing::OnDemand, Status::Running, true),
        (Billing::OnDemand, Status::Exited, false),
        (Billing::Spot, Status::Running, false),
        (Billing::Monthly, Status::Running, false),
        (Billing::Unstated, Status::Running, false),
    ] {
        let mut member = member("a");
        (member.instance.billing, member.instance.status) = (billing, status);
        assert_eq!(member.is_on_demand(), expected, "{member:?}");
    }
    assert!(member("a").query().is_some());
    for change in [|it: &mut ListedInstance| it.gpu_num = None, |it: &mut ListedInstance| it.instance.place = None] {
        let mut member = member("a");
        change(&mut member);
        assert_eq!(member.query(), None, "a question with a part made up");
    }
    let elsewhere = Offer { product_id: "q".into(), ..offer() };
    assert_eq!(Offered::among(std::slice::from_ref(&elsewhere), "p"), Offered::Nothing);
    assert_eq!(Offered::among(&[elsewhere, offer()], "p"), Offered::Offer(offer()));
}
