//! What each gate says, and how sure it is.

use super::*;

use GateVerdict::{Approve, Refuse};

#[test]
fn performance_wants_no_less_and_good_health() {
    let rows: &[Row] = &[
        ("as good and well", |_| (), (Approve, 83), &["2 x p, 16 CPUs, 64 GB", "healthy now: memory 30.0 %"], &[]),
        ("better", |it| it.offer().cpu_per_gpu = Some(9), (Approve, 83), &["18 CPUs"], &[]),
        ("fewer CPUs", |it| it.offer().cpu_per_gpu = Some(7), (Refuse, 100), &["14 CPUs instead of 16"], &[]),
        (
            "less memory",
            |it| it.offer().memory_per_gpu = Some(31),
            (Refuse, 100),
            &["62 GB of memory instead of 64"],
            &[],
        ),
        (
            "less disk",
            |it| it.offer().max_rootfs = Some(59),
            (Refuse, 100),
            &["59 GB of disk at most instead of 60"],
            &[],
        ),
        ("as much disk", |it| it.offer().max_rootfs = Some(60), (Approve, 83), &["60 GB of disk"], &[]),
        ("CPUs not stated", |it| it.offer().cpu_per_gpu = None, (Approve, 72), &["CPUs cannot be compared"], &[]),
        ("nor its own", |it| it.member.memory_gb = None, (Approve, 72), &["GB of memory cannot be compared"], &[]),
        (
            "no sizes stated",
            |it| (it.member.rootfs_size, it.member.memory_gb, it.member.cpu_num) = (None, None, None),
            (Approve, 61),
            &["its CPU was not measured"],
            &[],
        ),
        ("GPUs not known", |it| it.member.gpu_num = None, (Refuse, 50), &["number of GPUs is unknown"], &[]),
        ("not on offer", |it| it.offered = Offered::Nothing, (Refuse, 50), &["offer is unknown"], &["resource"]),
        ("offers unread", |it| it.offered = Offered::Unknown("503".into()), (Refuse, 50), &[], &["resource"]),
        (
            "disk full",
            |it| it.metrics().disk = series(&[95]),
            (Refuse, 66),
            &["near its limits now: memory", "95.0 %"],
            &[],
        ),
        ("memory full", |it| it.metrics().memory = series(&[99]), (Refuse, 66), &["memory 99.0 %"], &[]),
        ("CPU at its end", |it| it.metrics().cpu = series(&[1520]), (Refuse, 66), &["CPU 95.0 %"], &[]),
        ("CPU nearly", |it| it.metrics().cpu = series(&[1519]), (Approve, 83), &["CPU 94.9 %"], &[]),
        ("well for hours", |it| *it.metrics() = well_for(24), (Approve, 97), &[], &[]),
        (
            "well for a while after a peak",
            |it| {
                *it.metrics() = well_for(24);
                it.metrics().memory[20].value = 99_00;
            },
            (Approve, 90),
            &[],
            &[],
        ),
        ("well some time ago", |it| it.age(1500), (Approve, 77), &[], &[]),
        ("metrics unread", |it| it.metrics = None, (Refuse, 50), &["no fresh metrics"], &[]),
        ("metrics empty", |it| it.metrics = Some(Metrics::default()), (Refuse, 50), &["no fresh metrics"], &[]),
        ("no disk measured", |it| it.metrics().disk.clear(), (Approve, 72), &["its disk was not measured"], &[]),
        (
            "unknown and less: the surer reason counts",
            |it| (it.metrics, it.offer().cpu_per_gpu) = (None, Some(1)),
            (Refuse, 100),
            &["no fresh metrics", "2 CPUs"],
            &[],
        ),
    ];
    check("performance", rows);
}

#[test]
fn resource_wants_stock_and_room_for_two() {
    let rows: &[Row] = &[
        (
            "plenty",
            |_| (),
            (Approve, 89),
            &["spot stock of p in c: many left", "6 GPUs in use plus 2 more, 8 allowed"],
            &[],
        ),
        ("enough", |it| it.offer().stock = Stock::Normal, (Approve, 89), &["enough left"], &[]),
        ("few", |it| it.offer().stock = Stock::Low, (Approve, 83), &["few left"], &[]),
        ("not stated", |it| it.offer().stock = Stock::Unstated, (Approve, 83), &["not reported"], &[]),
        ("none", |it| it.offer().stock = Stock::None, (Refuse, 67), &["none left"], &[]),
        ("not deployable", |it| it.offer().available = false, (Refuse, 67), &["none left"], &[]),
        ("not sold as spot", |it| it.offer().price = None, (Refuse, 100), &["p is not sold as spot in c"], &[]),
        ("not on offer", |it| it.offered = Offered::Nothing, (Refuse, 100), &["not sold as spot"], &["performance"]),
        (
            "offers unread",
            |it| it.offered = Offered::Unknown("GET /v1/products: 503".into()),
            (Refuse, 50),
            &["unknown: GET /v1/products: 503"],
            &["performance"],
        ),
        ("one GPU too many", |it| it.usage.gpus = 7, (Refuse, 100), &["no quota for both at once: 7 GPUs"], &[]),
        ("one instance too many", |it| it.usage.instances = 4, (Refuse, 100), &["4 instances in use plus 1 more"], &[]),
        ("GPU quota unknown", |it| it.terms.gpu_quota = None, (Approve, 72), &["set RESPOT_GPU_QUOTA"], &[]),
        ("instance quota unknown", |it| it.terms.instance_quota = None, (Approve, 72), &["RESPOT_INSTANCE_QUOTA"], &[]),
        (
            "neither",
            |it| (it.terms.gpu_quota, it.terms.instance_quota) = (None, None),
            (Approve, 56),
            &["the quota of GPUs", "the quota of instances"],
            &[],
        ),
        (
            "not all is listed",
            |it| it.usage.is_complete = false,
            (Approve, 73),
            &["more GPUs than the list shows"],
            &[],
        ),
        (
            "a network volume",
            |it| it.fittings().network_volumes.push("v".into()),
            (Approve, 92),
            &["its network volume v is in c"],
            &[],
        ),
        ("fittings unread", |it| it.member.fittings = Err("x".into()), (Approve, 89), &[], &["application"]),
        ("a quota it tells", |it| it.quota(Ok(8)), (Approve, 83), &["4 vCPUs in use plus 4 more, 8 allowed"], &[]),
        ("and no room in it", |it| it.quota(Ok(7)), (Refuse, 100), &["no quota for both at once: 4 vCPUs"], &[]),
        ("and it does not", |it| it.quota(Err("no".into())), (Approve, 58), &["quota of vCPUs is unknown: no"], &[]),
        ("room was found", |it| it.asked(4, 0), (Approve, 95), &["many left; it accepted 4 of 4 calls"], &[]),
        ("room was not found", |it| it.asked(0, 4), (Approve, 76), &["it accepted 0 of 4 calls"], &[]),
        (
            "and none is left",
            |it| {
                it.asked(0, 4);
                it.offer().stock = Stock::None;
            },
            (Refuse, 86),
            &["none left"],
            &[],
        ),
        (
            "every doubt there is",
            |it| {
                (it.terms.gpu_quota, it.terms.instance_quota) = (None, None);
                it.offer().stock = Stock::Low;
            },
            (Approve, 50),
            &[],
            &[],
        ),
    ];
    check("resource", rows);
}

#[test]
fn application_wants_consent_and_a_sign_of_life() {
    let rows: &[Row] = &[
        (
            "consented, notified, up",
            |_| (),
            (Approve, 89),
            &["(60 GB) may be lost: it matches train-*", "http:8080 passed within 12 ms", "a webhook is notified"],
            &[],
        ),
        ("by id", |it| it.terms.may_lose = vec![pattern("a")], (Approve, 89), &["it matches a"], &[]),
        (
            "no consent",
            |it| it.terms.may_lose = vec![pattern("x*")],
            (Refuse, 100),
            &["would be lost: allow that with --may-lose"],
            &[],
        ),
        ("size not stated", |it| it.member.rootfs_size = None, (Approve, 89), &["its container disk may be lost"], &[]),
        (
            "local volumes",
            |it| {
                it.fittings().local_volumes = vec!["/scratch".into()];
                it.terms.may_lose.clear();
            },
            (Refuse, 100),
            &["(60 GB) and the data at /scratch would be lost"],
            &[],
        ),
        (
            "no webhook, but it may be lost",
            |it| it.terms.notifies = false,
            (Approve, 89),
            &["ports 8080 may change"],
            &[],
        ),
        (
            "no webhook",
            |it| (it.terms.notifies, it.terms.may_lose) = (false, vec![]),
            (Refuse, 100),
            &["no webhook is notified of new addresses of its ports 8080: set WEBHOOK_URL"],
            &[],
        ),
        ("no ports", |it| it.fittings().addressed = None, (Approve, 89), &["it has no ports"], &[]),
        (
            "protected",
            |it| it.fittings().obstacles = vec!["it is protected".into()],
            (Refuse, 100),
            &["protected"],
            &[],
        ),
        (
            "a volume",
            |it| it.fittings().consents = vec!["v stays".into()],
            (Approve, 92),
            &["v stays: it matches"],
            &[],
        ),
        ("no probe", |it| it.terms.probe = None, (Refuse, 100), &["set RESPOT_PROBE or --probe"], &[]),
        (
            "probe failed",
            |it| it.probed = Probed::Failed("refused".into()),
            (Refuse, 67),
            &["http:8080 failed: refused"],
            &[],
        ),
        ("not asked", |it| it.probed = Probed::Unasked, (Refuse, 50), &["was not run"], &[]),
        ("another probe", |it| it.terms.probe = Some(Probe::Tcp { port: 22 }), (Approve, 89), &["tcp:22 passed"], &[]),
        (
            "a command",
            |it| it.terms.probe = Some(Probe::Command("check --key secret".into())),
            (Approve, 89),
            &["the probe's command passed"],
            &[],
        ),
        (
            "fittings unread",
            |it| it.member.fittings = Err("its volumeMounts".into()),
            (Refuse, 50),
            &["is unknown: its volumeMounts"],
            &[],
        ),
    ];
    check("application", rows);
}

/// A failed probe refuses alone, and gives no other reason.
#[test]
fn what_is_refused_says_why_and_nothing_else() {
    let mut case = case();
    case.probed = Probed::Failed("no".into());
    let judged = case.judge();
    assert_eq!(judged.gates.application.against().collect::<Vec<_>>(), ["the probe http:8080 failed: no"]);
    assert!(judged.gates.performance.against().next().is_none());
    let unknown = (0..20).map(|_| Evidence { weight: Weight::For(Certainty::UNKNOWN), text: String::new() }).collect();
    assert_eq!(Gate { evidence: unknown }.confidence(), 50, "where nothing is known, the odds are even");
    assert_eq!((Approve.into_str(), Refuse.into_str()), ("approve", "refuse"));
}
