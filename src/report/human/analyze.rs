//! The screen of `analyze`: a row for each instance, the reasons for refusals, and the total last.

use std::fmt::Write as _;

use super::table::Column::{Left, Right};
use super::table::{painted, table};
use super::{Color, Screen, counted, folded};
use crate::core::rollout::analysis::{Analysis, Opportunity, Risk};
use crate::core::rollout::gates::{Gate, GateVerdict};
use crate::core::world::money::{Usd, decimal};
use crate::report::text::visible;

/// The columns to hide on a narrow screen, first to last.
const SPARE: [&str; 5] = ["LOAD", "PRODUCT", "SPOT/H", "NOW/H", "RISK"];

/// The table, its notes and the total.
#[must_use]
pub fn analyze(screen: Screen, analysis: &Analysis) -> String {
    let mut out = String::new();
    if analysis.opportunities.is_empty() {
        out.push_str("no running on-demand instance was found\n");
    } else {
        let rows: Vec<Vec<String>> = analysis.opportunities.iter().map(|it| row(screen, it)).collect();
        let columns = [
            Left("NAME"),
            Left("PRODUCT"),
            Right("NOW/H"),
            Right("SPOT/H"),
            Right("SAVES/MO"),
            Right("%"),
            Left("RISK"),
            Left("LOAD"),
            Left("GATES"),
        ];
        out.push_str(&table(screen, &columns, &rows, &SPARE));
        let notes: Vec<(String, String)> = analysis.opportunities.iter().flat_map(|it| notes(screen, it)).collect();
        out.push_str(if notes.is_empty() { "" } else { "\n" });
        for line in notes.iter().flat_map(|(name, note)| folded(&format!("  {name}: "), note, screen.width)) {
            let _ = writeln!(out, "{line}");
        }
        let legend = "gates: performance, resource, application; + approves, - refuses (confidence)";
        let _ = writeln!(out, "\n{}", screen.sentences(legend));
    }
    for note in &analysis.notes {
        let _ = writeln!(out, "{}", screen.sentences(&visible(note)));
    }
    if let Some(shortfall) = &analysis.shortfall {
        let _ = writeln!(out, "{}", screen.sentences(&format!("the list of instances is incomplete: {shortfall}")));
    }
    let _ = writeln!(out, "{}", screen.sentences(&total(analysis)));
    out
}

fn row(screen: Screen, it: &Opportunity) -> Vec<String> {
    let money = |amount: Option<Usd>| amount.map_or("-".into(), |amount| amount.to_string());
    let product = it.place.as_ref().map_or("-".into(), |place| visible(&place.product));
    let known = [screen.name(&it.name), product, money(it.current_cost), money(it.spot_cost)];
    let Some(saving) = it.saving() else {
        return known.into_iter().chain(std::iter::repeat_n("-".to_owned(), 5)).collect();
    };
    let risk = match it.risk {
        Risk::Low => Color::Green,
        Risk::Medium => Color::Yellow,
        Risk::High => Color::Red,
    };
    let marks: String =
        it.gates.all().map(|(_, gate)| if gate.verdict() == GateVerdict::Approve { '+' } else { '-' }).iter().collect();
    let found = [
        saving.monthly().to_the_cent(),
        it.saving_share().map_or("-".into(), |share| decimal((share + 5) / 10, 1)),
        painted(screen, it.risk.into_str(), risk),
        it.workload.into_str().into(),
        painted(screen, &marks, if it.approved { Color::Green } else { Color::Red }),
    ];
    known.into_iter().chain(found).collect()
}

/// Why an instance cannot be moved: each reason with the name of the instance.
fn notes(screen: Screen, it: &Opportunity) -> Vec<(String, String)> {
    let name = screen.name(&it.name);
    if it.saving().is_none() {
        return vec![(name, it.why_none().to_owned())];
    }
    let refusing = it.gates.all().into_iter().filter(|(_, gate)| gate.verdict() == GateVerdict::Refuse);
    let note = |(gate, found): (&str, &Gate)| {
        let why: Vec<&str> = found.against().collect();
        (name.clone(), visible(&format!("{gate} ({} %): {}", found.confidence(), why.join("; "))))
    };
    refusing.map(note).collect()
}

fn total(analysis: &Analysis) -> String {
    let (total, approved) = (analysis.total(), analysis.approved());
    let instances = counted(analysis.opportunities.len(), "instance");
    let found = match total.count {
        1 => "1 opportunity".to_owned(),
        count => format!("{count} opportunities"),
    };
    let sums = |hourly: Usd| {
        format!("{} USD/month, {} USD/year", hourly.monthly().to_the_cent(), hourly.annual().to_the_cent())
    };
    let all = format!("{instances} analyzed, {found}: {}", sums(total.hourly));
    match approved.count {
        0 => format!("{all}; all gates approve none"),
        count => format!("{all}; all gates approve {count}: {}", sums(approved.hourly)),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::core::rollout::gates::{Certainty, Evidence, Gates, Weight};
    use crate::core::rollout::metrics::Workload;
    use crate::core::world::instance::{InstanceId, Place};
    use crate::core::world::snapshot::Shortfall;

    fn opportunity(name: &str, spot_cost: Option<u64>, risk: Risk, approved: bool) -> Opportunity {
        let evidence = |weight, text: &str| Evidence { weight, text: text.into() };
        let against = vec![
            evidence(Weight::For(Certainty::observed(9, 0)), "this is not shown"),
            evidence(Weight::Against(Certainty::observed(3, 0)), "its memory is nearly full: \u{1b}[2J"),
            evidence(
                Weight::Against(Certainty::observed(0, 0)),
                "and something else is not known at all, which makes this a long line",
            ),
        ];
        let performance = Gate { evidence: if approved { vec![] } else { against } };
        Opportunity {
            claims: Vec::new(),
            instance: InstanceId::new(name),
            name: name.into(),
            place: Some(Place { product: "4090.16c62g".into(), cluster: "us-xx-1".into() }),
            gpu_num: 1,
            current_cost: Some(Usd::from_micros(670_000)),
            spot_cost: spot_cost.map(Usd::from_hundred_thousandths),
            risk,
            market: None,
            workload: Workload::Stable,
            gates: Gates { performance, ..Gates::default() },
            approved,
        }
    }

    fn analysis() -> Analysis {
        let found = vec![
            opportunity("train-7", Some(33_500), Risk::Low, true),
            opportunity("a-name-that-is-much-too-long-for-a-table", Some(66_999), Risk::High, false),
            opportunity("render", None, Risk::Medium, false),
        ];
        let shortfall = Some(Shortfall::Rows { announced: 4, received: 3 });
        Analysis::new(found, shortfall, vec!["metrics of 1 instance could not be read: \u{1b}[31m".into()])
    }

    const AT_80: &str = "
NAME           PRODUCT      NOW/H   SPOT/H  SAVES/MO     %  RISK  LOAD    GATES
train-7        4090.16c62g   0.67    0.335    244.55  50.0  low   stable  +++
a-name…-table  4090.16c62g   0.67  0.66999      0.01   0.0  high  stable  -++
render         4090.16c62g   0.67        -         -     -  -     -       -

  a-name…-table: performance (80 %): its memory is nearly full: \\u{1b}[2J; and
                 something else is not known at all, which makes this a long
                 line
  render: not sold as spot

gates: performance, resource, application; + approves, - refuses (confidence)
metrics of 1 instance could not be read: \\u{1b}[31m
the list of instances is incomplete: the provider announced 4 rows and delivered
3
3 instances analyzed, 2 opportunities: 244.56 USD/month, 2934.69 USD/year; all
gates approve 1: 244.55 USD/month, 2934.60 USD/year
";

    #[test]
    fn it_fits_the_screen() {
        let at = |width, color| analyze(Screen { width, color }, &analysis());
        assert_eq!(at(Some(80), false), AT_80[1..]);
        for width in [50, 60, 70, 80, 100, 120] {
            let drawn = at(Some(width), false);
            assert!(drawn.lines().all(|line| line.width() <= width), "{width}:\n{drawn}");
            assert!(drawn.contains("  244.55") && drawn.contains("+++"), "what matters most stays:\n{drawn}");
        }
        let colored = at(None, true);
        for painted in ["\u{1b}[32mlow", "\u{1b}[31mhigh", "\u{1b}[32m+++", "\u{1b}[31m-++"] {
            assert!(colored.contains(painted), "{colored:?}");
        }
        let none = analyze(Screen { width: None, color: false }, &Analysis::default());
        assert!(none.ends_with("USD/year; all gates approve none\n"), "{none}");
    }
}
