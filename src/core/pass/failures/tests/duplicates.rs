//! Which of several instances with one marker goes, and when.

use super::*;

#[test]
fn of_those_with_one_marker_one_stays_once_it_runs() {
    let names = |text: &str| Some(Step::Created { replacement: id(text), kept: None });
    let abandoned = |text: &str| Some(Step::Abandoned { replacement: id(text), kept: None });
    let day = 24 * 60;
    // Each row: what it is, the marked instances, the journal's step and its age in minutes, and who is retired for whom.
    type Row = (&'static str, Vec<Instance>, Option<Step>, i64, &'static str);
    let rows: Vec<Row> = vec![
        ("one alone", vec![with_marker("b", "running", 5)], None, 0, ""),
        (
            "the first that runs stays",
            vec![with_marker("b", "running", 9), with_marker("c", "running", 5)],
            None,
            0,
            "c for b",
        ),
        (
            "the one that runs stays",
            vec![with_marker("b", "creating", 9), with_marker("c", "running", 5)],
            None,
            0,
            "b for c",
        ),
        ("none runs yet", vec![with_marker("b", "creating", 9), with_marker("c", "pulling", 5)], None, 0, ""),
        (
            "the named one stays",
            vec![with_marker("b", "running", 9), with_marker("c", "running", 5)],
            names("c"),
            9,
            "b for c",
        ),
        (
            "the named one does not run, another does",
            vec![with_marker("b", "running", 9), with_marker("c", "creating", 5)],
            names("c"),
            9,
            "c for b",
        ),
        (
            "both ran, one is down",
            vec![with_marker("b", "exited", 9), with_marker("c", "running", 5)],
            None,
            0,
            "b for c",
        ),
        (
            "three",
            vec![with_marker("b", "running", 9), with_marker("c", "running", 5), with_marker("d", "exited", 4)],
            None,
            0,
            "c for b, d for b",
        ),
        ("one is going", vec![with_marker("b", "running", 9), with_marker("c", "removing", 5)], None, 0, ""),
        (
            "the named one was given up: its own deletion is under way",
            vec![with_marker("b", "creating", 9), with_marker("c", "running", 5)],
            abandoned("b"),
            9,
            "",
        ),
        (
            "the named one was given up and runs all the same: nobody goes for its sake",
            vec![with_marker("b", "running", 9), with_marker("c", "running", 5)],
            abandoned("b"),
            9,
            "",
        ),
        (
            "made an hour apart, nobody knows why",
            vec![with_marker("b", "running", 70), with_marker("c", "running", 10)],
            None,
            0,
            "c for b",
        ),
        (
            "made later than that: a copy of its user's",
            vec![with_marker("b", "running", 71), with_marker("c", "running", 10)],
            None,
            0,
            "",
        ),
        (
            "later, but the journal knows the decision",
            vec![with_marker("b", "running", day), with_marker("c", "running", 10)],
            names("b"),
            day,
            "c for b",
        ),
        (
            "a day later: a copy of its user's",
            vec![with_marker("b", "running", day + 30), with_marker("c", "running", 10)],
            names("b"),
            day + 11,
            "",
        ),
        (
            "times are missing, the journal knows",
            vec![with_marker("b", "running", 9), Instance { created_at: None, ..with_marker("c", "running", 5) }],
            names("b"),
            9,
            "c for b",
        ),
        (
            "times are missing, nobody knows",
            vec![with_marker("b", "running", 9), Instance { created_at: None, ..with_marker("c", "running", 5) }],
            None,
            0,
            "",
        ),
    ];
    for (name, marked, step, minutes, expected) in rows {
        let mut ledger = Ledger::default();
        ledger.recreations.extend(step.map(|step| (id("a"), recreation(step, minutes))));
        let ids: Vec<InstanceId> = marked.iter().map(|marked| marked.id.clone()).collect();
        let old = instance("a", "migrating");
        let snapshot = snapshot(marked.into_iter().chain([old, instance("z", "running")]).collect(), vec![]);
        let retired = look(&snapshot, &ledger, |failures| {
            assert_eq!(failures.duplicate(&id("a")), None, "{name}: the old one is no twin");
            let duplicates = ids
                .iter()
                .filter_map(|id| failures.duplicate(id).filter(|it| it.may_go).map(|it| format!("{id} for {}", it.of)));
            duplicates.collect::<Vec<_>>().join(", ")
        });
        assert_eq!(retired, expected, "{name}");
    }
}

/// "b" replaced "a" and was replaced in its turn; "c" comes from a late request for "a".
#[test]
fn a_late_duplicate_of_one_that_was_replaced_since_is_one_of_its_successor() {
    let next = |text: &str, of: &str, status: &str| Instance {
        marker: Some(Box::new(replacement_name(&id(of), "train", "").into())),
        ..with_marker(text, status, 4)
    };
    let closed = |by: &str| Step::Closed { replacement: Some(id(by)) };
    let own = |step: Step| vec![("a", closed("b")), ("b", step)];
    let (b, c) = (|| with_marker("b", "exited", 9), || with_marker("c", "running", 5));
    let d = |status: &str| next("d", "b", status);
    let intent = Step::Intent { kept: None };
    let given_up = Step::Abandoned { replacement: id("d"), kept: None };
    type Row<'a> = (&'a str, Vec<Instance>, Vec<(&'a str, Step)>, &'a str);
    let rows: Vec<Row> = vec![
        ("the successor runs", vec![b(), c(), d("running")], own(intent.clone()), "c for d"),
        ("the one before is gone", vec![c(), d("running")], own(closed("d")), "c for d"),
        ("without a journal", vec![b(), c(), d("running")], vec![], "c for d"),
        ("it comes up", vec![b(), c(), d("pulling")], own(intent.clone()), "c waits for d"),
        ("its request is under way", vec![b(), c()], own(intent), "c waits for b"),
        ("it is given up", vec![b(), c(), d("running")], own(given_up), "c waits for b"),
        ("no request was made", vec![b(), c()], own(Step::Pending { kept: None }), "b for c"),
        ("none of two runs", vec![b(), Instance { status: Status::Exited, ..c() }], vec![], "c waits for b"),
        (
            "the named one stays",
            vec![b(), Instance { status: Status::Exited, ..c() }],
            vec![("a", closed("c"))],
            "b waits for c",
        ),
        ("two generations on", vec![c(), d("exited"), next("e", "d", "running")], own(closed("d")), "c for e"),
    ];
    for (name, instances, journal, expected) in rows {
        let recreations = journal.into_iter().map(|(old, step)| (id(old), recreation(step, 9))).collect();
        let ledger = Ledger { recreations, ..Ledger::default() };
        let snapshot = snapshot(instances, vec![]);
        let retired = look(&snapshot, &ledger, |failures| {
            let duplicates = ["b", "c", "d", "e"].map(id).into_iter();
            let duplicates = duplicates.filter_map(|id| failures.duplicate(&id).map(|it| (id, it)));
            let duplicates = duplicates.map(|(id, Twin { of, may_go })| match may_go {
                true => format!("{id} for {of}"),
                false => format!("{id} waits for {of}"),
            });
            duplicates.collect::<Vec<_>>().join(", ")
        });
        assert_eq!(retired, expected, "{name}");
    }
}

#[test]
fn a_name_that_only_looks_like_a_marker_is_nobodys_twin() {
    let copy =
        |text: &str, name: &str| Instance { marker: Some(Box::new(name.into())), ..with_marker(text, "running", 5) };
    for name in ["train-recreated-v2", "train-recreated-1758000000000", "train-recreated-", "train"] {
        let snapshot = snapshot(vec![copy("b", name), copy("c", name)], vec![]);
        let duplicates =
            look(&snapshot, &Ledger::default(), |it| ["b", "c"].map(|text| it.duplicate(&id(text)).is_some()));
        assert_eq!(duplicates, [false, false], "{name}");
    }
}
