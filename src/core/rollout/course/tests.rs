use super::*;
use crate::core::world::probe::Latency;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + 60 * minutes)
}

fn candidate(number: usize) -> Candidate {
    let latency = Some(Latency { least: 9, median: 10, most: 11 });
    let baseline =
        Measurement { at: at(0), samples: 30, errors: 0, latency, last_error: None, untaken: 0, given_up: false };
    Candidate {
        id: InstanceId::new(&format!("i-{number}")),
        name: format!("web-{number}"),
        gpu_num: 2,
        estimate: Costs { on_demand: Some(Usd::from_micros(2_000_000)), spot: Some(Usd::from_micros(1_000_000)) },
        on_demand_cost: Some(Usd::from_micros(2_000_000)),
        baseline,
        load: None,
    }
}

fn fleet(count: usize, course: &Course) -> Fleet {
    let probe = Probe::Tcp { port: 22 };
    Fleet::start("rollout-1".into(), (0..count).map(candidate).collect(), course, &probe, (count + 2, count + 1), at(0))
}

#[test]
fn stages_are_cumulative_rounded_up_and_never_the_same_twice() {
    // Instances, at most so many, stages; how many each stage moves.
    let rows: [(usize, Option<usize>, &[u8], &[usize]); 12] = [
        (40, None, &[10, 50, 100], &[4, 16, 20]),
        (1, None, &[10, 50, 100], &[1, 0, 0]),
        (2, None, &[10, 50, 100], &[1, 0, 1]),
        (3, None, &[10, 50, 100], &[1, 1, 1]),
        (9, None, &[10, 50, 100], &[1, 4, 4]),
        (11, None, &[10, 50, 100], &[2, 4, 5]),
        (1000, None, &[1, 2, 100], &[10, 10, 980]),
        (10, Some(4), &[10, 50, 100], &[1, 1, 2]),
        (10, Some(40), &[10, 50, 100], &[1, 4, 5]),
        (10, None, &[100], &[10]),
        (10, None, &[10, 50], &[1, 4]),
        (0, None, &[10, 50, 100], &[0, 0, 0]),
    ];
    for (count, max_moves, stages, expected) in rows {
        let soaks = vec![Duration::from_secs(300); stages.len()];
        let course = Course { stages: stages.to_vec(), soaks, max_moves, ..Course::default() };
        let fleet = fleet(count, &course);
        let sizes: Vec<usize> = fleet.rollout.stages.iter().map(|stage| stage.instances).collect();
        assert_eq!(sizes, expected, "{count} {max_moves:?} {stages:?}");
        // Each is a member once, in the order of the ranking, and no stage comes before an earlier one.
        assert_eq!(fleet.members.len(), expected.iter().sum::<usize>());
        assert!(fleet.members.iter().enumerate().all(|(rank, it)| it.rank == rank && it.name == format!("web-{rank}")));
        assert!(fleet.members.is_sorted_by_key(|it| it.stage));
    }
}

#[test]
fn a_command_is_known_again_and_not_told() {
    let command = |text: &str| label(&Probe::Command(text.into()));
    assert!(!command("check --token f00d").contains("f00d"));
    assert_eq!(command("check"), command("check"));
    assert_ne!(command("check"), command("check 2"));
    assert_eq!(label(&Probe::parse("http:80/x").unwrap()), "http:80/x");
}

#[test]
fn the_time_of_a_pause_does_not_count() {
    let mut fleet = fleet(3, &Course::default());
    assert!(!fleet.resume(at(1)) && fleet.pause(at(1)) && !fleet.pause(at(2)));
    assert!(fleet.resume(at(31)));
    assert_eq!((fleet.rollout.state.since(), fleet.rollout.paused_at), (at(30), None));
    fleet.rollout.state = State::Over { since: at(40), end: RolloutEnd::Completed, why: None };
    assert!(!fleet.pause(at(50)), "what is over stays so");
}

#[test]
fn figures_of_the_report() {
    let mut fleet = fleet(4, &Course::default());
    let hour = 60;
    for (member, state) in fleet.members.iter_mut().zip([
        MemberState::Moved,
        MemberState::Ready,
        MemberState::Failed,
        MemberState::Waiting,
    ]) {
        member.state = state;
        member.read_back.spot = (state != MemberState::Waiting).then_some(Usd::from_micros(1_000_000));
    }
    // One is alone since an hour after two beside the other, one has been beside the other for an hour, and one was made
    // and undone after half an hour.
    (fleet.members[0].ready_at, fleet.members[0].retired_at) = (Some(at(-3 * hour)), Some(at(-hour)));
    fleet.members[1].ready_at = Some(at(-hour));
    (fleet.members[2].ready_at, fleet.members[2].undone_at) = (Some(at(-hour)), Some(at(-30)));
    let report = fleet.report(at(0));
    assert_eq!((report.moved, report.ready, report.failed, report.candidates), (1, 1, 1, 4));
    assert_eq!((report.instances_analyzed, report.opportunities), (6, 5));
    assert_eq!(report.success_rate, Some(2.0 / 3.0));
    assert_eq!(report.estimated_savings.hourly, 4.0);
    assert_eq!(report.estimated_savings.monthly, 4.0 * 730.0);
    assert_eq!(report.estimated_savings.annual, 4.0 * 8760.0);
    // 2 USD saved in an hour alone, at 1 USD for each of three hours; 1 and 0.5 USD for those beside the others.
    assert_eq!((report.realized_savings, report.prices_read_back), (Some(2.0 - 3.0 - 1.0 - 0.5), 3));
}
