//! What a row of EC2 means: its status, whether it was reclaimed, and whose it is (`docs/ec2-api.md` sections 4.2 and 5).

use std::time::Duration;

use super::wire::{Ec2Row, SpotRequest};
use crate::core::recreation::marker::marker_of_letters;
use crate::core::world::instance::{Aside, Billing, Instance, InstanceId, Places, ReclaimNotice, Status};
use crate::core::world::policy::OptIn;
use crate::core::world::probe::Endpoint;
use crate::core::world::time::{Seconds, Timestamp};

/// The tag that says which instance a replacement replaces: the letters of its marker.
pub(super) const ORIGIN: &str = "respot:origin";
/// The same in words for people: the old instance's ID.
pub(super) const REPLACES: &str = "respot:replaces";

/// The tag of a replacement: the target groups in which what it replaces was, each with its port.
pub(super) const TARGETS: &str = "respot:targets";

/// The tag of an on-demand instance that a rollout has replaced: when it was stopped for that, or that its stop has begun.
pub(super) const RETIRED: &str = "respot:retired";
/// Instead of the time: its owner had stopped it, so that it is never terminated.
pub(super) const BY_OWNER: &str = "by its owner";
/// Before the time, while the stop is not confirmed.
pub(super) const BEGUN: &str = "begun ";

/// What the tokens of all launches begin with: instances that others launched have other tokens.
pub(super) const TOKEN_PREFIX: &str = "respot-";

/// How long a stop may take, in seconds, and by how much clocks may differ: a stop at another time is its owner's.
const STOP_TAKES: u64 = 120;
const CLOCKS_DIFFER: u64 = 5;

/// How long an instance runs after its reclaim was announced.
const NOTICE_SECS: u64 = 120;

/// Whether an instance has the tag that opts in.
fn is_opted_in(row: &Ec2Row, opt_in: &OptIn) -> bool {
    match opt_in {
        OptIn::Everything => true,
        OptIn::Tag { key, value } => row.tag(key).is_some_and(|it| value.as_ref().is_none_or(|wanted| wanted == it)),
    }
}

impl Ec2Row {
    /// The value of a tag.
    pub(super) fn tag(&self, key: &str) -> Option<&str> {
        self.tag_set.item.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    /// The letters of its marker. Tags that a person copied to an instance of their own mark nothing.
    fn origin(&self) -> Option<&str> {
        let is_ours = self.client_token.is_empty() || self.client_token.starts_with(TOKEN_PREFIX);
        self.tag(ORIGIN).filter(|_| is_ours)
    }

    /// Whether it has ended, or is ending, for good.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.instance_state.name.as_str(), "shutting-down" | "terminated")
    }

    /// When a rollout retired it, if it did, and it was not started since.
    pub(super) fn retired_at(&self) -> Option<Timestamp> {
        let told = self.tag(RETIRED)?;
        let (told, before, after) = match told.strip_prefix(BEGUN) {
            Some(begun) => (begun, CLOCKS_DIFFER, STOP_TAKES),
            None => (told, STOP_TAKES, CLOCKS_DIFFER),
        };
        let at: Timestamp = told.parse().ok()?;
        let stopped_at = time_in(&self.reason)?;
        let is_it =
            stopped_at + Duration::from_secs(before) >= at && stopped_at.since(at) <= Duration::from_secs(after);
        let is_stopped = matches!(self.instance_state.name.as_str(), "stopping" | "stopped");
        (is_stopped && self.instance_lifecycle.is_empty() && is_it).then_some(at)
    }

    /// The program or service that manages it, if one does.
    fn manager(&self) -> Option<String> {
        let is_unread = self.unread.0.iter().any(|it| it.eq_ignore_ascii_case("managed"));
        if self.operator.managed || is_unread {
            let by = &self.operator.principal;
            return Some(if by.is_empty() { "an AWS service".into() } else { by.clone() });
        }
        let keys = || self.tag_set.item.iter().map(|tag| tag.key.as_str());
        let is_theirs = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => keys().any(|key| key.starts_with(prefix)),
            None => keys().any(|key| key == pattern),
        };
        MANAGERS.iter().find(|(pattern, _)| is_theirs(pattern)).map(|(_, by)| (*by).to_owned())
    }
}

/// Tags of those who bring back what they manage by themselves (`docs/ec2-api.md` section 5).
const MANAGERS: &[(&str, &str)] = &[
    ("aws:autoscaling:groupName", "an Auto Scaling group"),
    ("aws:ec2:fleet-id", "an EC2 Fleet"),
    ("aws:ec2spot:fleet-request-id", "a Spot Fleet"),
    ("eks:*", "EKS"),
    ("kubernetes.io/cluster/*", "a Kubernetes cluster"),
    ("k8s.io/*", "a Kubernetes cluster"),
    ("karpenter.sh/*", "Karpenter"),
    ("karpenter.k8s.aws/*", "Karpenter"),
    ("elasticbeanstalk:*", "Elastic Beanstalk"),
    ("aws:ecs:*", "ECS"),
    ("AmazonECSManaged", "ECS"),
    ("aws:batch:*", "AWS Batch"),
    ("aws:elasticmapreduce:*", "EMR"),
    ("aws:cloudformation:stack-name", "a CloudFormation stack"),
    ("skypilot-*", "SkyPilot"),
    ("ray-*", "Ray"),
    ("dstack_*", "dstack"),
];

/// What the state reason and the spot request say of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Reclaimed,
    /// By a person or a program of theirs, or from inside.
    Wanted,
    /// It ended before it ran, for lack of room.
    NoRoom,
    /// It ended before it ran.
    LaunchFailed,
    /// They contradict each other, or say nothing.
    Unclear,
}

fn end_of(row: &Ec2Row, request: Option<&SpotRequest>) -> End {
    let by_request = request.map(|it| it.status.code.as_str()).and_then(|code| match code {
        "instance-terminated-by-user" | "spot-instance-terminated-by-user" | "instance-terminated-by-schedule" => {
            Some(End::Wanted)
        }
        code if code.starts_with("instance-terminated-") => Some(End::Reclaimed),
        _ => None,
    });
    match (row.state_reason.code.as_str(), by_request) {
        // A person who ends it within the notice ends what is announced.
        (code, _) if code.starts_with("Client.") && code.contains("Initiated") => End::Wanted,
        ("Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown", None | Some(End::Reclaimed)) => {
            End::Reclaimed
        }
        ("", Some(end)) => end,
        ("Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" | "", _) => End::Unclear,
        ("Client.InstanceTerminated", _) => End::Wanted,
        ("Server.InsufficientInstanceCapacity", _) => End::NoRoom,
        (code, None) if code.starts_with("Server.") || code.starts_with("Client.") => End::LaunchFailed,
        _ => End::Unclear,
    }
}

/// The row as the rules see it. `taken_at` is the provider's time, for what has no time of its own.
pub(super) fn instance(
    row: &Ec2Row,
    request: Option<&SpotRequest>,
    (opt_in, keep): (&OptIn, Duration),
    places: &mut Places,
    taken_at: Timestamp,
) -> Instance {
    let request = request.filter(|it| it.instance_id == row.instance_id || it.instance_id.is_empty());
    let launched_at = row.launch_time.parse::<Timestamp>().ok();
    let end = end_of(row, request);
    let persists = request.is_some_and(|it| it.kind == "persistent" && it.state != "cancelled");
    let told_at = request.and_then(|it| it.status.update_time.parse::<Timestamp>().ok());
    let ended_at = time_in(&row.reason);
    let other = |word: &str| Status::Other(Box::new(word.into()));
    let retired =
        row.retired_at().map(|at| Aside::Retired { until: Some(at + keep).filter(|until| *until > taken_at) });
    let by_owner = row.tag(RETIRED) == Some(BY_OWNER) && row.instance_lifecycle.is_empty();
    let (status, aside) = match (row.instance_state.name.as_str(), end) {
        ("stopping", _) if retired.is_some() => (Status::Removing, retired),
        ("stopped", _) if retired.is_some() => (Status::Removed, retired),
        ("pending", _) => (Status::Starting, None),
        ("running", _) => (Status::Running, None),
        // EC2 launches another one itself.
        ("shutting-down" | "terminated", End::Reclaimed) if persists => {
            (Status::Removed, Some(Aside::StoppedByProvider))
        }
        // Room that is gone before it is used, and room that is taken away, are the same to those who want it.
        ("shutting-down" | "terminated", End::Reclaimed | End::NoRoom) => (Status::Exited, None),
        ("shutting-down" | "terminated", End::Wanted) => (Status::Removed, Some(Aside::TerminatedByUser)),
        ("shutting-down" | "terminated", End::LaunchFailed | End::Unclear) => (Status::Removed, None),
        ("stopping" | "stopped", End::Reclaimed) => (other("stopped"), Some(Aside::StoppedByProvider)),
        ("stopping", _) if by_owner => (Status::Removing, Some(Aside::StoppedByUser)),
        ("stopped", _) if by_owner => (Status::Removed, Some(Aside::StoppedByUser)),
        ("stopping", _) => (Status::Stopping, Some(Aside::StoppedByUser)),
        ("stopped", _) => (other("stopped"), Some(Aside::StoppedByUser)),
        (word, _) => (other(word), None),
    };
    let notice = |at: Timestamp| {
        let told = if end == End::NoRoom { None } else { request };
        let spot_status = told.map_or(row.state_reason.code.as_str(), |it| it.status.code.as_str());
        Box::new(ReclaimNotice { spot_status: spot_status.into(), reclaim_at: at })
    };
    let after_launch = || launched_at.map_or(taken_at, |at| at + Duration::from_secs(1));
    let earliest = launched_at.map_or(Timestamp::default(), |at| at + Duration::from_secs(1));
    let reclaim = match status {
        // In whole seconds, an end within that of the launch would be before it.
        Status::Exited => Some(notice(ended_at.or(told_at).map_or_else(after_launch, |at| at.max(earliest)))),
        Status::Running if request.is_some_and(|it| is_notice(&it.status.code)) => {
            Some(notice(told_at.unwrap_or(taken_at) + Duration::from_secs(NOTICE_SECS)))
        }
        _ => None,
    };
    // The tags of what has ended go, so that they say nothing any more.
    let aside = match (foreign(row, opt_in), aside) {
        (Some(Aside::NotOptedIn), Some(Aside::TerminatedByUser)) => Some(Aside::TerminatedByUser),
        (foreign, aside) => foreign.or(aside),
    };
    let name = row.tag("Name").unwrap_or_default();
    let replaced = InstanceId::new(row.tag(REPLACES).unwrap_or_default());
    let marker = row.origin().and_then(|letters| marker_of_letters(&replaced, name, letters));
    let stopped_at =
        (status != Status::Running && status != Status::Starting).then_some(ended_at.or(told_at)).flatten();
    let first = row.network_interface_set.item.iter().find(|it| it.attachment.device_index == 0);
    let attached_at = first.and_then(|it| it.attachment.attach_time.parse::<Timestamp>().ok());
    let seconds = |at: Option<Timestamp>| at.and_then(|at| Seconds::new(at.as_secs()));
    Instance {
        id: InstanceId::new(&row.instance_id),
        name: name.into(),
        billing: match row.instance_lifecycle.as_str() {
            "" => Billing::OnDemand,
            "spot" => Billing::Spot,
            word => Billing::Other(Box::new(word.into())),
        },
        marker: marker.map(|marker| Box::new(marker.into())),
        aside: aside.map(Box::new),
        place: places.place(&row.instance_type, &row.placement.availability_zone),
        gpus: 1,
        created_at: seconds(attached_at.or(launched_at)),
        started_at: seconds(
            launched_at.filter(|_| status != Status::Starting && !matches!(end, End::LaunchFailed | End::NoRoom)),
        ),
        stopped_at: seconds(stopped_at),
        reclaim,
        status,
    }
}

/// Where any port of an instance can be reached: at its public address if it has one.
pub(super) fn endpoints(row: &Ec2Row) -> Vec<Endpoint> {
    let addresses = [&row.ip_address, &row.private_ip_address];
    let address = addresses.into_iter().find(|it| !it.is_empty());
    let any = |address: &String| Endpoint { port: Endpoint::ANY, kind: String::new(), address: address.clone() };
    address.map(any).into_iter().collect()
}

/// Why it is none of those that are looked after, if so.
fn foreign(row: &Ec2Row, opt_in: &OptIn) -> Option<Aside> {
    let managed = row.manager().map(|by| Aside::ManagedElsewhere { by: by.into() });
    // What respot launched is looked after even if the tag is lost, but not if it says otherwise.
    let says_otherwise = matches!(opt_in, OptIn::Tag { key, .. } if row.tag(key).is_some());
    let is_known = is_opted_in(row, opt_in) || row.origin().is_some() && !says_otherwise;
    managed.or((!is_known).then_some(Aside::NotOptedIn))
}

/// Whether it is one of those that are looked after.
pub(super) fn is_ours(row: &Ec2Row, opt_in: &OptIn) -> bool {
    foreign(row, opt_in).is_none()
}

/// That the instance of a spot request was reclaimed, if the request alone says so.
pub(super) fn reclaim_of(request: &SpotRequest) -> Option<ReclaimNotice> {
    let row = Ec2Row { instance_id: request.instance_id.clone(), ..Ec2Row::default() };
    let persists = request.kind == "persistent" && request.state != "cancelled";
    let is_reclaimed = end_of(&row, Some(request)) == End::Reclaimed && !persists;
    let reclaim_at = request.status.update_time.parse().ok()?;
    is_reclaimed.then(|| ReclaimNotice { spot_status: request.status.code.as_str().into(), reclaim_at })
}

/// Whether a spot request says that its instance, which runs, is about to be taken.
fn is_notice(code: &str) -> bool {
    let is_wanted = code.ends_with("-by-user") || code.ends_with("-by-schedule");
    code.starts_with("marked-for-") || code.starts_with("instance-terminated-") && !is_wanted
}

/// The time in the prose of a state transition, for example `User initiated (2026-03-04 00:21:54 GMT)`.
fn time_in(prose: &str) -> Option<Timestamp> {
    let (_, rest) = prose.rsplit_once('(')?;
    let (date, rest) = rest.split_once(' ')?;
    let (time, _) = rest.split_once([' ', ')'])?;
    format!("{date}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::ec2::wire::{Operator, Reason, RequestStatus, Set, StateName, Tag, Unread};

    fn row(state: &str, code: &str) -> Ec2Row {
        Ec2Row {
            instance_id: "i-1".into(),
            instance_state: StateName { name: state.into() },
            state_reason: Reason { code: code.into(), message: String::new() },
            instance_lifecycle: "spot".into(),
            launch_time: "2026-11-30T10:00:00.000Z".into(),
            tag_set: Set { item: vec![tag("Name", "w"), tag("respot", "managed")] },
            ..Ec2Row::default()
        }
    }

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.into(), value: value.into() }
    }

    fn seen(row: &Ec2Row, request: Option<(&str, &str, &str)>) -> Instance {
        let request = request.map(|(kind, state, code)| SpotRequest {
            instance_id: "i-1".into(),
            kind: kind.into(),
            state: state.into(),
            status: RequestStatus { code: code.into(), update_time: "2026-11-30T11:00:00.000Z".into() },
            ..SpotRequest::default()
        });
        let opt_in = OptIn::Tag { key: "respot".into(), value: Some("managed".into()) };
        instance(row, request.as_ref(), (&opt_in, Duration::from_secs(3600)), &mut Places::default(), Timestamp::LATEST)
    }

    /// Each row: state, state reason, spot request; status, whether a reclaim is told, why it is left alone.
    #[test]
    fn only_what_is_proved_to_be_reclaimed_is_down() {
        const NO_ROOM: &str = "instance-terminated-no-capacity";
        const BY_USER: &str = "instance-terminated-by-user";
        const TAKEN: &str = "Server.SpotInstanceTermination";
        const USER: &str = "Client.UserInitiatedShutdown";
        let one = |state, code| Some(("one-time", state, code));
        let keeps = |state, code| Some(("persistent", state, code));
        let rows: &[(&str, &str, Option<(&str, &str, &str)>, &str, bool, Option<&str>)] = &[
            ("pending", "", one("active", "fulfilled"), "starting", false, None),
            ("running", "", one("active", "fulfilled"), "running", false, None),
            ("running", "", one("closed", NO_ROOM), "running", true, None),
            ("running", "", one("active", "marked-for-termination"), "running", true, None),
            ("running", "", one("cancelled", "request-canceled-and-instance-running"), "running", false, None),
            ("shutting-down", "", one("closed", NO_ROOM), "exited", true, None),
            ("terminated", TAKEN, one("closed", NO_ROOM), "exited", true, None),
            ("terminated", TAKEN, None, "exited", true, None),
            ("terminated", "", one("closed", "instance-terminated-capacity-oversubscribed"), "exited", true, None),
            ("terminated", TAKEN, one("closed", BY_USER), "removed", false, None),
            ("terminated", USER, one("closed", BY_USER), "removed", false, Some("terminated_by_user")),
            ("terminated", USER, one("closed", NO_ROOM), "removed", false, Some("terminated_by_user")),
            ("terminated", "Client.InstanceInitiatedShutdown", None, "removed", false, Some("terminated_by_user")),
            ("terminated", "Server.InsufficientInstanceCapacity", None, "exited", true, None),
            ("terminated", "Server.InternalError", None, "removed", false, None),
            ("terminated", "", None, "removed", false, None),
            ("terminated", TAKEN, keeps("open", NO_ROOM), "removed", false, Some("stopped_by_ec2")),
            ("terminated", TAKEN, keeps("cancelled", NO_ROOM), "exited", true, None),
            (
                "stopped",
                "Server.SpotInstanceShutdown",
                keeps("disabled", "instance-stopped-no-capacity"),
                "stopped",
                false,
                Some("stopped_by_ec2"),
            ),
            ("stopped", USER, keeps("disabled", "instance-stopped-by-user"), "stopped", false, Some("stopped_by_user")),
            ("stopping", USER, None, "stopping", false, Some("stopped_by_user")),
            ("brand-new", "", None, "brand-new", false, None),
        ];
        for (state, code, request, status, is_told, aside) in rows {
            let it = seen(&row(state, code), *request);
            let left = it.aside.as_deref().map(Into::into);
            assert_eq!(
                (it.status.as_str(), it.reclaim.is_some(), left),
                (*status, *is_told, *aside),
                "{state} {code} {request:?}"
            );
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let rows: &[(&[(&str, &str)], Option<&str>)] = &[
            (&[("respot", "managed")], None),
            (&[("respot", "off")], Some("not_opted_in")),
            (&[], Some("not_opted_in")),
            (&[("respot:origin", "0123456789ab")], None),
            (&[("respot:origin", "0123456789ab"), ("respot", "off")], Some("not_opted_in")),
            (&[("respot", "managed"), ("aws:autoscaling:groupName", "web")], Some("managed_elsewhere")),
            (&[("respot:origin", "0123456789ab"), ("eks:cluster-name", "c")], Some("managed_elsewhere")),
            (&[("respot", "managed"), ("karpenter.sh/nodepool", "c")], Some("managed_elsewhere")),
        ];
        for (tags, expected) in rows {
            let tag_set = Set { item: tags.iter().map(|(key, value)| tag(key, value)).collect() };
            let it = seen(&Ec2Row { tag_set, ..row("running", "") }, None);
            assert_eq!(it.aside.as_deref().map(Into::<&str>::into), *expected, "{tags:?}");
        }
        // Tags that were copied to an instance of another program.
        for (client_token, is_marked) in [("", true), ("respot-0a1b", true), ("terraform-0a1b", false)] {
            let tag_set = Set { item: vec![tag("respot:origin", "0123456789ab"), tag("respot:replaces", "i-0")] };
            let copy = seen(&Ec2Row { tag_set, client_token: client_token.into(), ..row("running", "") }, None);
            assert_eq!((copy.marker.is_some(), copy.aside.is_none()), (is_marked, is_marked), "{client_token}");
        }
        let unread = Unread(vec!["managed".into()]);
        let aside = seen(&Ec2Row { unread, ..row("running", "") }, None).aside;
        assert_eq!(aside.as_deref(), Some(&Aside::ManagedElsewhere { by: "an AWS service".into() }));
        let operator = Operator { managed: true, principal: "eks.amazonaws.com".into() };
        let aside = seen(&Ec2Row { operator, ..row("running", "") }, None).aside;
        assert_eq!(aside.as_deref(), Some(&Aside::ManagedElsewhere { by: "eks.amazonaws.com".into() }));
    }

    #[test]
    fn the_time_of_an_end_is_in_its_prose() {
        let at = |text: &str| time_in(text).map(|at| at.to_string());
        assert_eq!(at("User initiated (2026-03-04 00:21:54 GMT)").as_deref(), Some("2026-03-04T00:21:54.000Z"));
        assert_eq!(
            at("Server.SpotInstanceTermination: x (2026-03-04 00:21:54 UTC)").as_deref(),
            Some("2026-03-04T00:21:54.000Z")
        );
        for prose in ["", "()", "(soon)", "User initiated", "(2026-13-04 00:21:54 GMT)"] {
            assert_eq!(at(prose), None, "{prose}");
        }
    }
}
