//! What is shown of markets, notices and bridges is what passes saw: `markets`, `status`, `dry-run`, `explain`.

use novita_sim::{Spec, World};
use serde_json::Value;

use crate::harness::{BOTH, HOUR, Kind, MINUTE, Stage, keys};

const PRODUCT: &str = "4090.16c62g";

/// Two that run in one market, which has no room any more; the same product is to be had in `eu-xx-2`.
fn fleet(kind: Kind) -> Stage {
    let mut world = World::new(71);
    (world.rules_mut().create_step_ms, world.rules_mut().visible_after_ms) = (0, 0);
    for id in ["a", "b"] {
        world.add(Spec::running(&format!("train-{id}")).id(id));
    }
    world.withdraw_product("4090.12c50g.v2");
    world.product_mut(PRODUCT).expect("a product").sold_out_in = vec!["us-xx-1".into()];
    Stage::new(kind, world)
}

fn market<'a>(document: &'a Value, cluster: &str) -> &'a Value {
    let all = document["markets"].as_array().expect("markets");
    all.iter().find(|it| it["clusterId"] == cluster).unwrap_or_else(|| panic!("no {cluster} in {document:#}"))
}

#[test]
fn markets_are_what_passes_saw_of_them() {
    for kind in BOTH {
        let stage = fleet(kind);
        let shown = |words: &str| stage.call(words).unset("NOVITA_API_KEY").output().ends_with(0);
        let nothing = shown("markets").stdout;
        assert!(nothing.starts_with("no market is known yet: ") && nothing.lines().count() == 1, "{nothing}");
        assert_eq!(shown("markets -o json").json()["markets"], Value::Array(vec![]));
        stage.pass(0);
        let first = shown("markets -o json").json();
        let home = market(&first, "us-xx-1");
        assert_eq!(
            keys(home),
            "clusterId instanceHours lastRefusalAt lastRoomAt ours price productId reclaims reclaimsPer1000Hours \
             restsUntil score steadyMs stock"
        );
        assert_eq!((&home["productId"], &home["ours"]), (&PRODUCT.into(), &2.into()));
        assert_eq!((&home["lastRefusalAt"], &home["lastRoomAt"]), (&Value::Null, &Value::Null));

        stage.provider.advance(5 * MINUTE);
        stage.provider.with(|world| assert!(world.reclaim_now("a")));
        stage.provider.advance(10 * MINUTE);
        stage.pass(0);
        let calls = stage.calls();
        let second = shown("markets -o json").json();
        // The clock goes on between two calls.
        let timeless = |document: &Value, cluster: &str| {
            let mut row = market(document, cluster).clone();
            row["steadyMs"].take();
            row
        };
        let status = stage.status();
        for cluster in ["us-xx-1", "eu-xx-2"] {
            assert_eq!(timeless(&status, cluster), timeless(&second, cluster));
        }
        let (home, away) = (market(&second, "us-xx-1"), market(&second, "eu-xx-2"));
        assert!(home["lastRefusalAt"].is_string() && home["restsUntil"].is_string(), "{second:#}");
        assert_eq!((&home["ours"], &away["ours"], &home["reclaims"]), (&1.into(), &1.into(), &1.into()));
        assert!(away["lastRoomAt"].is_string() && away["lastRefusalAt"].is_null(), "{second:#}");
        let score = |row: &Value| row["score"].as_f64().expect("a score");
        assert!(score(away) < score(home) && second["markets"][0] == *away, "the better one comes first: {second:#}");
        let screen = stage.call("markets").screen(100);
        assert!(screen.contains("rests until ") && screen.contains("2 markets, the best first"), "{screen}");
        assert!(screen.find("eu-xx-2") < screen.find("us-xx-1"), "{screen}");
        assert_eq!(stage.calls(), calls, "nobody was asked");
    }
}

/// An on-demand instance stands in while nothing has room; one that runs is announced.
#[test]
fn what_stands_in_and_what_is_announced_is_on_the_screen() {
    let stage = fleet(Kind::Sqlite);
    let budget = |words: &str| stage.call(words).env("RESPOT_BRIDGE_USD_PER_DAY", "5");
    stage.provider.with(|world| world.product_mut(PRODUCT).expect("a product").spot_sold_out = true);
    stage.pass(0);
    stage.provider.advance(5 * MINUTE);
    stage.provider.with(|world| assert!(world.reclaim_now("a")));
    for _ in 0..2 {
        stage.provider.advance(10 * MINUTE);
        budget("run -q").output().ends_with(0);
    }
    stage.provider.with(|world| assert!(world.reclaim("b")));
    stage.provider.advance(10 * MINUTE);
    budget("run -q").output().ends_with(0);
    let now = Some(stage.provider.with(|world| world.now_ms()));
    let status = budget("status -o json").now(now).output().ends_with(0).json();
    let bridges = &status["bridges"];
    assert_eq!((&bridges["standing"], &bridges["budgetPerDay"]), (&1.into(), &5.0.into()));
    let bridge = &bridges["instances"][0];
    assert_eq!((&bridge["standsInFor"], keys(bridge).as_str()), (&"a".into(), "openedAt price standsInFor"));
    // It has run for ten minutes.
    let (cost, price) = (bridges["costToday"].as_f64().expect("USD"), bridge["price"].as_f64().expect("USD"));
    assert!((cost - price / 6.0).abs() < 0.01, "{bridges}");
    let screen = budget("status").now(now).output().ends_with(0).stdout;
    let rows = [
        "  bridges     1: 0.1",
        " of 5.00 USD today, returns when",
        "  announced   1: first ends in 49 min, then ",
        "is off\n",
    ];
    assert!(rows.iter().all(|row| screen.contains(row)), "{screen}");
    let screen = budget("status").env("RESPOT_NOTICE", "on").now(now).output().ends_with(0).stdout;
    assert!(screen.contains(", replaced from "), "{screen}");
    let metrics = budget("status -o prometheus").now(now).output().ends_with(0).stdout;
    assert!(metrics.contains("\nrespot_bridges 1\n") && metrics.contains("\nrespot_bridge_usd_total 0.1"), "{metrics}");
    // A person stops it: it costs no more, stays as it is, and says why.
    let id = stage.provider.with(|world| {
        let stopped = world.machines().find(|it| it.billing_mode == "onDemand").expect("a stand-in").id.clone();
        assert!(world.user_stop(&stopped));
        stopped
    });
    budget("run -q").output().ends_with(0);
    stage.provider.advance(3 * HOUR);
    budget("run -q").output().ends_with(0);
    let now = Some(stage.provider.with(|world| world.now_ms()));
    let bridges = budget("status -o json").now(now).output().ends_with(0).json()["bridges"].clone();
    let stands = bridges["instances"].as_array().expect("a list").iter().any(|it| it["standsInFor"] == "a");
    let later = bridges["costToday"].as_f64().expect("USD");
    assert!(!stands && later < cost + price / 2.0, "{bridges}");
    let why = budget(&format!("explain {id}")).now(now).output().ends_with(0).stdout;
    assert!(why.contains("a person stopped it") && !why.contains("returns to spot"), "{why}");
    assert_eq!(stage.provider.with(|world| world.get(&id).expect("it").status.clone()), "exited");
}

#[test]
fn a_plan_says_where_a_reclaimed_instance_would_go_otherwise() {
    let stage = fleet(Kind::Sqlite);
    stage.pass(0);
    let places =
        |wanted: &str| stage.call(&format!("explain {wanted} -o json")).output().ends_with(0).json()["places"].clone();
    let rows = |places: &Value| -> Vec<String> {
        let text = |it: &Value| it.as_str().unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
        let row = |it: &Value| {
            let stock = if it["hasStock"] == false { " no stock" } else { "" };
            format!("{}{stock} {} {}", text(&it["clusterId"]), it["ours"], text(&it["leftOut"])).trim_end().to_owned()
        };
        places.as_array().expect("places").iter().map(row).collect()
    };
    assert_eq!(rows(&places("b")), Vec::<String>::new(), "it runs, and nothing is announced");
    stage.provider.advance(5 * MINUTE);
    stage.provider.with(|world| assert!(world.reclaim_now("a") && world.reclaim("b")));
    stage.provider.advance(5 * MINUTE);
    let (dump, writes) = (stage.dump(), stage.provider.with(|world| world.log().len()));
    let plan = stage.call("dry-run -o json").output().ends_with(0).json();
    let detail = plan["plan"][0]["detail"].as_str().expect("a detail");
    let expected = format!("no previous migration; else recreated on {PRODUCT} in eu-xx-2 (score 0.34");
    assert!(detail.starts_with(&expected) && detail.ends_with(')'), "{detail}");
    assert!(stage.call("dry-run").screen(200).contains("; else recreated on"));
    let of_a = places("a");
    assert_eq!(rows(&of_a), ["eu-xx-2 0", "us-xx-1 no stock 1"]);
    assert_eq!(keys(&of_a[0]), "clusterId hasStock isOwn leftOut ours price productId score");
    assert_eq!(rows(&places("b")), ["eu-xx-2 0", "us-xx-1 no stock 1 it"], "it is to be reclaimed there");
    assert_eq!((stage.dump(), stage.provider.with(|world| world.log().len())), (dump, writes));

    // Nowhere is room: the own market refuses, then the other one.
    stage.provider.with(|world| world.product_mut(PRODUCT).expect("a product").spot_sold_out = true);
    stage.call("run -q").env("MIGRATION_KEEP_TRYING_MS", "0").output().ends_with(0);
    assert_eq!(rows(&places("a")), ["us-xx-1 no stock 1 refused", "eu-xx-2 no stock 0 refused"]);
    let screen = stage.call("explain a").screen(100);
    for part in ["places for a replacement", "its own; no stock; holds 1 of ours; refused at 20", "rests until"] {
        assert!(
            screen.replace("\n", " ").split_whitespace().collect::<Vec<_>>().join(" ").contains(part),
            "{part} in {screen}"
        );
    }
}
