//! The report as one page for people who use no terminal: HTML with pictures in it, no script, nothing loaded from anywhere.
//!
//! Every picture has a title and a description, and its figures stand below it as text. Sizes are bounded: of many instances the worst
//! are drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::human;
use super::text::visible;
use crate::core::pass::spell::{Part, Spell};
use crate::core::pass::usage::MeteredUsage;
use crate::core::record::downtime::{hours, hours_of};
use crate::core::record::invoice::Invoice;
use crate::core::record::uptime::{DayUptime, Lane, PlaceUptime, Uptime, availability};
use crate::core::world::money::{Usd, decimal};
use crate::core::world::time::{Timestamp, in_words, millis};

/// Instances that are shown at once; the others are folded away.
const LANES_SHOWN: usize = 20;

/// Instances that are drawn at all.
const LANES_DRAWN: usize = 200;

/// Spells that are drawn at all: with their titles, some 150 bytes each.
const SPELLS_DRAWN: usize = 2500;

/// The width of pictures in their own units; they scale to the page.
const WIDTH: f64 = 1000.0;

const STYLE: &str = include_str!("page.css");

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    pub uptime: &'a Uptime,
    /// The worst first.
    pub lanes: &'a [Lane<'a>],
    /// Instances that went down, by place and hour of the day (UTC).
    pub by_hour: &'a [(String, [u32; 24])],
    /// What was billed, if the bill was read.
    pub invoice: Option<&'a Invoice>,
    /// The instance that it is about, if it is about one.
    pub of: Option<&'a str>,
}

impl Page<'_> {
    /// The whole document.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { uptime, of, .. } = self;
        let title = format!(
            "{} up from {} to {}",
            of.map_or_else(|| "Fleet".into(), visible),
            day(uptime.from),
            day(uptime.to)
        );
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (title) }
                        p { "By respot, from what its passes saw. Times are UTC." }
                    }
                    main {
                        (self.answers())
                        (self.days())
                        (self.causes())
                        (self.lives())
                        (self.hours())
                        (self.places())
                        (self.savings())
                    }
                }
            }
        };
        page.into_string()
    }

    /// What a manager asks first.
    fn answers(&self) -> Markup {
        let Uptime { running_seconds, unseen_seconds, lost, reclaims, recoveries, usage, .. } = self.uptime;
        let Some(up) = availability(*running_seconds, lost.total()) else {
            return html! { p { "No pass with this store saw an instance that was to run then." } };
        };
        let worst = Part::ALL.into_iter().max_by_key(|part| lost.of(*part)).filter(|part| lost.of(*part) > 0);
        let leave = self.worst_cluster();
        let answer = |question: &str, figure: String, more: String| {
            html! { div { dt { (question) } dd { strong { (figure) } " " span { (more) } } } }
        };
        let quantiles = match (self.uptime.recovery(50), self.uptime.recovery(95)) {
            (Some(half), Some(most)) => format!("half within {}, 95 % within {}", length(half), length(most)),
            _ => "nothing had to be brought back".into(),
        };
        html! {
            dl.answers {
                (answer("How much of the time was it up?", percent(up), format!("{} of {} instance-hours lost", one(hours(lost.total())), one(hours(lost.total()) + hours_of(*running_seconds)))))
                (answer("How often was it down?", reclaims.to_string(), format!("times; {} recoveries: {quantiles}", recoveries.len())))
                @if let Some(part) = worst {
                    (answer("Why mostly?", part.in_words(), format!("{} h, {}", one(hours(lost.of(part))), meaning(part))))
                }
                @if let Some((cluster, PlaceUptime { running_seconds, lost_millis, reclaims, .. })) = leave {
                    @let up = availability(running_seconds, lost_millis).map_or_else(|| "-".into(), percent);
                    (answer("Which cluster was worst?", visible(cluster), format!("up {up}: {reclaims} reclaims, {} h lost", one(hours(lost_millis)))))
                }
                (answer("What did it save?", saved(usage), saved_more(usage)))
                @match self.invoice {
                    Some(invoice) => (answer("Is that proved?", proved(invoice), human::billed(invoice))),
                    None => (answer("Is that proved?", "Not by a bill".into(), "the savings are estimated from the last known prices".into())),
                }
            }
            @if *unseen_seconds > 0 {
                p { "Of " (one(hours_of(*unseen_seconds))) " more instance-hours nothing is known: no pass saw them." }
            }
        }
    }

    /// The cluster with the smallest share up, of those where at least a twentieth of the fleet ran.
    fn worst_cluster(&self) -> Option<(&str, PlaceUptime)> {
        let mut clusters: BTreeMap<&str, PlaceUptime> = BTreeMap::new();
        for it in &self.uptime.places {
            let sum = clusters.entry(it.place.cluster.as_str()).or_default();
            sum.running_seconds += it.running_seconds;
            sum.lost_millis += it.lost_millis;
            sum.reclaims += it.reclaims;
        }
        let enough = self.uptime.running_seconds / 20;
        let up = |it: &PlaceUptime| availability(it.running_seconds, it.lost_millis).unwrap_or(1.0);
        let asked = clusters.into_iter().filter(|(_, it)| it.reclaims > 0 && it.running_seconds >= enough);
        asked.min_by(|(_, a), (_, b)| up(a).total_cmp(&up(b)))
    }

    fn days(&self) -> Markup {
        let share = |it: &DayUptime| availability(it.running_seconds, it.lost_millis);
        let bars = self.uptime.days.iter().map(|it| {
            let words = share(it).map_or_else(|| "nothing to run".into(), percent);
            (it.day.as_str(), share(it).unwrap_or(0.0), format!("{}: {words}", it.day))
        });
        html! {
            @if !self.uptime.days.is_empty() {
                section {
                    h2 { "Up by day" }
                    (bar_chart("Share of the time that the fleet was up, by day", &bars.collect::<Vec<_>>(), 1.0, "100 %"))
                    (folded("Days in figures", &["Day", "Up", "Reclaims", "Saved USD"], self.uptime.days.iter().map(|it| {
                        let saved = it.usage.saved().map_or_else(|| "-".into(), Usd::to_the_cent);
                        vec![it.day.clone(), share(it).map_or_else(|| "-".into(), percent), it.reclaims.to_string(), saved]
                    })))
                }
            }
        }
    }

    fn causes(&self) -> Markup {
        let lost = self.uptime.lost;
        let total = lost.total().max(1);
        let mut parts: Vec<Part> = Part::ALL.into_iter().filter(|part| lost.of(*part) > 0).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(lost.of(*part)));
        html! {
            @if !parts.is_empty() {
                section {
                    h2 { "Lost hours by cause" }
                    div.table { table {
                        thead { tr { th { "Cause" } th.number { "Hours" } th { "Share" } th { "Meaning" } } }
                        tbody { @for part in parts {
                            @let share = lost.of(part) as f64 / total as f64;
                            tr {
                                th scope="row" { (part.in_words()) }
                                td.number { (one(hours(lost.of(part)))) }
                                td { span.bar.{ "part-" (class(part)) } style={ "width:" (format!("{:.1}", share * 6.0)) "em" } {} " " (percent(share)) }
                                td { (meaning(part)) }
                            }
                        } }
                    } }
                }
            }
        }
    }

    fn lives(&self) -> Markup {
        let mut left = SPELLS_DRAWN;
        let mut drawn: Vec<Markup> = Vec::new();
        for lane in self.lanes.iter().take(LANES_DRAWN) {
            drawn.push(self.lane(lane, left));
            left = left.saturating_sub(lane.spells.len());
        }
        let more = drawn.split_off(drawn.len().min(LANES_SHOWN));
        html! {
            @if !drawn.is_empty() {
                section {
                    h2 { "Instances, the worst first" }
                    p { "Each line is one instance under all the IDs it had: up where it is plain, down where it is marked. "
                        @for part in Part::ALL { span.key { span.bar.{ "part-" (class(part)) } {} " " (part.in_words()) } " " }
                    }
                    ol.lanes { @for lane in &drawn { (lane) } }
                    @if !more.is_empty() {
                        details { summary { (more.len()) " more" } ol.lanes { @for lane in &more { (lane) } } }
                    }
                    @if self.lanes.len() > LANES_DRAWN { p { "Not drawn: " (self.lanes.len() - LANES_DRAWN) } }
                }
            }
        }
    }

    fn lane(&self, lane: &Lane<'_>, most: usize) -> Markup {
        let Uptime { from, to, .. } = *self.uptime;
        let at = |moment: Timestamp| {
            let whole = millis(to.since(from)).max(1) as f64;
            millis(moment.min(to).since(from)) as f64 / whole * WIDTH
        };
        let lost = format!(
            "{} down {}, {} h",
            visible(lane.name),
            human::counted(lane.spells.len(), "time"),
            one(hours(lane.lost_millis))
        );
        html! {
            li {
                span.name title=(visible(lane.id.as_str())) { (visible(lane.name)) }
                svg role="img" viewBox="0 0 1000 20" preserveAspectRatio="none" {
                    title { (lost) }
                    desc { "When it was down between " (minute(from)) " and " (minute(to)) "." }
                    rect.up width="1000" height="20" {}
                    @for spell in lane.spells.iter().take(most) {
                        @let (begin, end) = (at(spell.down_at), at(spell.ended_at.unwrap_or(to)));
                        rect class={ "part-" (class(mostly(spell, to))) } x=(format!("{begin:.1}")) width=(format!("{:.1}", (end - begin).max(1.5))) height="20" {
                            title { (minute(spell.down_at)) ", " (length(spell.length(to))) ": " (mostly(spell, to).in_words()) }
                        }
                    }
                }
                span.number { (one(hours(lane.lost_millis))) " h" }
            }
        }
    }

    fn hours(&self) -> Markup {
        let most = self.by_hour.iter().flat_map(|(_, counts)| counts).copied().max().unwrap_or(0).max(1);
        let shade = |count: u32| format!("--heat:{:.0}%", f64::from(count) / f64::from(most) * 100.0);
        html! {
            @if !self.by_hour.is_empty() {
                section {
                    h2 { "Reclaims by place and hour of the day" }
                    div.table { table.heat {
                        thead { tr { th { "Place" } @for hour in 0..24 { th.number { (format!("{hour:02}")) } } } }
                        tbody { @for (place, counts) in self.by_hour {
                            tr {
                                th scope="row" { (if place.is_empty() { "not known".into() } else { visible(place) }) }
                                @for count in counts { td.number style=(shade(*count)) { @if *count > 0 { (count) } } }
                            }
                        } }
                    } }
                }
            }
        }
    }

    fn places(&self) -> Markup {
        let row = |it: &PlaceUptime| {
            let up = availability(it.running_seconds, it.lost_millis).map_or_else(|| "-".into(), percent);
            let hours = one(hours_of(it.running_seconds));
            vec![
                visible(&it.place.cluster),
                visible(&it.place.product),
                hours,
                up,
                it.reclaims.to_string(),
                it.refusals.to_string(),
            ]
        };
        html! {
            @if !self.uptime.places.is_empty() {
                section {
                    h2 { "Places" }
                    (figures(&["Cluster", "Product", "Instance-hours", "Up", "Reclaims", "Refusals"], self.uptime.places.iter().map(row)))
                }
            }
        }
    }

    fn savings(&self) -> Markup {
        let days = &self.uptime.days;
        let estimated = |it: &DayUptime| it.usage.saved();
        let proved = |it: &DayUptime| Some(self.invoice?.days.get(&it.day)?.saved());
        let all = days.iter().flat_map(|it| [estimated(it), proved(it)]).flatten();
        let most = all.map(Usd::to_f64).fold(0.0, f64::max);
        let chart = |title: &str, saved: &dyn Fn(&DayUptime) -> Option<Usd>| {
            let bars = days.iter().map(|it| {
                let words = saved(it).map_or_else(|| "not known".into(), |usd| format!("{} USD", usd.to_the_cent()));
                (it.day.as_str(), saved(it).map_or(0.0, Usd::to_f64), format!("{}: {words}", it.day))
            });
            bar_chart(title, &bars.collect::<Vec<_>>(), most, &format!("{most:.2} USD"))
        };
        html! {
            @if most > 0.0 {
                section {
                    h2 { "Savings by day" }
                    p { "Estimated: " (saved(&self.uptime.usage)) " " (saved_more(&self.uptime.usage)) "." @if self.invoice.is_none() { " No bill was read." } }
                    (chart("USD saved by spot, by day, as estimated", &estimated))
                    @if let Some(invoice) = self.invoice {
                        p { "By the bill: " (human::billed(invoice)) "." }
                        (chart("USD saved by spot, by day, by the bill", &proved))
                        (figures(&["From the estimate to the bill", "USD"], human::bill_rows(invoice).into_iter()))
                    }
                }
            }
        }
    }
}

/// Bars of (label, value, words), with a scale up to `most`.
fn bar_chart(title: &str, bars: &[(&str, f64, String)], most: f64, scale: &str) -> Markup {
    let step = WIDTH / bars.len().max(1) as f64;
    let ends = bars.first().zip(bars.last()).map(|(first, last)| (first.0.to_owned(), last.0.to_owned()));
    html! {
        figure {
            svg role="img" viewBox="0 0 1000 160" preserveAspectRatio="none" {
                title { (title) }
                desc { "One bar for each day; the scale ends at " (scale) "." }
                @for (at, (_, value, words)) in bars.iter().enumerate() {
                    @let height = (value / most * 160.0).clamp(0.0, 160.0);
                    rect.value x=(format!("{:.1}", at as f64 * step + step * 0.1)) y=(format!("{:.1}", 160.0 - height)) width=(format!("{:.1}", step * 0.8)) height=(format!("{height:.1}")) { title { (words) } }
                }
            }
            @if let Some((first, last)) = ends {
                figcaption { span { (first) } span { "up to " (scale) } span { (last) } }
            }
        }
    }
}

fn figures(names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    html! {
        div.table { table {
            thead { tr { @for name in names { th { (name) } } } }
            tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
        } }
    }
}

fn folded(summary: &str, names: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Markup {
    html! { details { summary { (summary) } (figures(names, rows)) } }
}

/// Where most of its time went.
fn mostly(spell: &Spell, to: Timestamp) -> Part {
    let lost = |part: Part| {
        let its = spell.stretches(to).filter(|(it, ..)| *it == part);
        its.map(|(_, begin, end)| millis(end.since(begin))).sum::<i64>()
    };
    Part::ALL.into_iter().max_by_key(|part| lost(*part)).unwrap_or_default()
}

fn meaning(part: Part) -> &'static str {
    match part {
        Part::Noticing => "until the next pass saw it: passes more often would shorten that",
        Part::HeldBack => {
            "a rule kept passes from acting: no evidence of a reclaim, a limit, a cooldown or a quarantine"
        }
        Part::NoRoom => "no market that it may go to had room",
        Part::Failed => "a call failed, or was accepted and came to nothing",
        Part::ComingUp => "from the accepted call to the instance that runs",
    }
}

fn class(part: Part) -> &'static str {
    part.into()
}

fn saved(usage: &MeteredUsage) -> String {
    usage.saved().map_or_else(|| "Not known".into(), |saved| format!("{} USD", saved.to_the_cent()))
}

fn saved_more(usage: &MeteredUsage) -> String {
    let Some(saved) = usage.saved() else {
        return "no price is known yet: passes read prices when they look for a place".into();
    };
    let percent = saved.share_of(usage.on_demand_cost).map_or_else(String::new, |it| format!(", {} %", decimal(it, 2)));
    let hours = one(hours_of(usage.priced_seconds));
    format!(
        "of {} USD that {hours} instance-hours would have cost on demand{percent}",
        usage.on_demand_cost.to_the_cent()
    )
}

fn proved(invoice: &Invoice) -> String {
    invoice.saved().map_or_else(|| "Not yet".into(), |saved| format!("{} USD", saved.to_the_cent()))
}

fn percent(share: f64) -> String {
    format!("{:.2}\u{a0}%", share * 100.0)
}

fn one(hours: f64) -> String {
    format!("{hours:.1}")
}

fn length(millis: i64) -> String {
    in_words(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

fn day(moment: Timestamp) -> String {
    moment.to_string().chars().take("2026-01-15".len()).collect()
}

fn minute(moment: Timestamp) -> String {
    human::minute(&moment.to_string())
}
