//! Requests are those of botocore, whose serializer wrote `tests/fixtures/ec2/forms`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::client::{Ec2Client, FleetTerms};
use super::facts::{self, Closer, LaunchFacts};
use super::pools::price_query;
use super::wire::{
    Association, Attachment, CpuOptions, Device, EbsDevice, Ec2Row, InstancePlacement, Interface, MetadataOptions,
    Present, Profile, SecurityGroup, Set, StateName, Tag, Volume,
};
use crate::cloud::transport::{Request, Response, Transport, TransportError};
use crate::cloud::{CloudRead as _, CloudWrite as _, Guard};
use crate::core::recreation::blueprint::{Obstacle, Wanted};
use crate::core::world::instance::{Billing, InstanceId, Place};
use crate::core::world::policy::{OptIn, Retirement, StandIns};
use crate::stop::Stop;

const OLD: &str = "i-0aaaaaaaaaaaaaaaa";
const MARKER: &str = "worker-recreated-0123456789ab";

macro_rules! form {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ec2/forms/", $name, ".txt"))
    };
}

/// The call and the parameters of a form.
fn expected(form: &str) -> (&str, BTreeMap<String, String>) {
    let (action, lines) = form.split_once('\n').expect("a call");
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    (action, lines.lines().filter_map(pair).collect())
}

fn decoded(body: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(body.as_bytes()).into_owned().collect()
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

/// An instance with everything that is copied.
fn row() -> Ec2Row {
    let group = |id: &str| SecurityGroup { group_id: id.into() };
    let device = |name: &str, volume: &str| Device {
        device_name: name.into(),
        ebs: EbsDevice { volume_id: volume.into(), delete_on_termination: true },
    };
    Ec2Row {
        instance_id: OLD.into(),
        instance_lifecycle: "spot".into(),
        instance_state: StateName { name: "running".into() },
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "g5.xlarge".into(),
        key_name: "ops".into(),
        architecture: "x86_64".into(),
        ebs_optimized: true,
        root_device_name: "/dev/xvda".into(),
        subnet_id: "subnet-0123456789abcdef0".into(),
        vpc_id: "vpc-1".into(),
        placement: InstancePlacement {
            availability_zone: "eu-west-1a".into(),
            tenancy: "default".into(),
            group_name: "near".into(),
            host_id: String::new(),
        },
        iam_instance_profile: Profile { arn: "arn:aws:iam::111122223333:instance-profile/worker".into() },
        network_interface_set: Set {
            item: vec![Interface {
                group_set: Set { item: vec![group("sg-1"), group("sg-2")] },
                attachment: Attachment { device_index: 0, delete_on_termination: Some(true), ..Attachment::default() },
                association: Association { public_ip: "192.0.2.1".into(), ip_owner_id: "amazon".into() },
                source_dest_check: Some(true),
                ..Interface::default()
            }],
        },
        block_device_mapping: Set { item: vec![device("/dev/xvda", "vol-1"), device("/dev/sdb", "vol-2")] },
        metadata_options: MetadataOptions {
            http_tokens: "required".into(),
            http_put_response_hop_limit: Some(2),
            http_endpoint: "enabled".into(),
            http_protocol_ipv6: "disabled".into(),
            instance_metadata_tags: "disabled".into(),
        },
        cpu_options: CpuOptions { core_count: Some(2), threads_per_core: Some(1), ..CpuOptions::default() },
        monitoring: StateName { name: "enabled".into() },
        tag_set: Set {
            item: vec![
                tag("team", "vision & sound"),
                tag("respot", "managed"),
                tag("Name", "worker"),
                tag("aws:ec2launchtemplate:id", "lt-1"),
                tag("respot:origin", "ba9876543210"),
            ],
        },
        ..Ec2Row::default()
    }
}

fn closer() -> Closer {
    let volume = |id: &str, size, kind: &str| Volume {
        volume_id: id.into(),
        size,
        volume_type: kind.into(),
        iops: Some(3000),
        ..Volume::default()
    };
    let root = Volume {
        throughput: Some(125),
        encrypted: true,
        kms_key_id: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
        ..volume("vol-1", 100, "gp3")
    };
    Closer {
        volumes: vec![root, volume("vol-2", 50, "gp2")],
        targets: String::new(),
        user_data: "IyEvYmluL3NoCg==".into(),
        shutdown_behavior: "terminate".into(),
    }
}

fn launch_facts(row: &Ec2Row, closer: &Closer) -> LaunchFacts {
    LaunchFacts::of(&facts::blueprint(row, closer, true).expect("a blueprint")).expect("facts")
}

fn place(kind: &str, zone: &str) -> Place {
    Place { product: kind.into(), cluster: zone.into() }
}

#[test]
fn a_launch_has_botocores_form() {
    let facts = launch_facts(&row(), &closer());
    let (action, form) = expected(form!("launch"));
    let at = (&place("g5.xlarge", "eu-west-1a"), "subnet-0123456789abcdef0");
    let launched = facts::launch(&facts, &Billing::Spot, (MARKER, &InstanceId::new(OLD)), at).expect("a form");
    assert_eq!((action, &launched), ("RunInstances", &form));
    // Another type has CPUs and a network of its own; on demand is no market.
    let at = (&place("g6.xlarge", "eu-west-1b"), "subnet-b");
    let other = facts::launch(&facts, &Billing::OnDemand, (MARKER, &InstanceId::new(OLD)), at).expect("a form");
    let lacks = |name: &str| !other.keys().any(|key| key.starts_with(name));
    assert!(lacks("CpuOptions") && lacks("EbsOptimized") && lacks("InstanceMarketOptions"));
    assert_eq!(other["NetworkInterface.1.SubnetId"], "subnet-b");
}

/// A root volume that stays with the old instance is no root volume of the new one, and both are alike.
#[test]
fn a_replacement_has_a_root_volume_like_the_one_that_stays() {
    let mut row = row();
    let whole = launch_facts(&row, &closer()).form;
    row.block_device_mapping.item.iter_mut().for_each(|it| it.ebs.delete_on_termination = false);
    let LaunchFacts { form, tied_by, .. } = launch_facts(&row, &closer());
    let of_root = |name: &&String| name.starts_with("BlockDeviceMapping.1.") && !name.ends_with("DeleteOnTermination");
    assert!(whole.keys().filter(of_root).all(|name| form.get(name) == whole.get(name)), "{form:?}");
    assert_eq!(form["BlockDeviceMapping.1.Ebs.DeleteOnTermination"], "false");
    assert!(!form.keys().any(|name| name.starts_with("BlockDeviceMapping.2.")), "the other one stays");
    assert_eq!(tied_by.as_deref(), Some("volume vol-1"));
}

#[test]
fn the_same_request_has_the_same_token() {
    let facts = launch_facts(&row(), &closer());
    let at = |zone: &str, subnet: &'static str| (place("g5.xlarge", zone), subnet);
    let form = |(place, subnet): &(Place, &str), old: &str| {
        facts::launch(&facts, &Billing::Spot, (MARKER, &InstanceId::new(old)), (place, subnet)).expect("a form")
    };
    let (here, there) = (at("eu-west-1a", "subnet-a"), at("eu-west-1b", "subnet-b"));
    let token = facts::token(&form(&here, OLD), 0);
    assert_eq!(token, facts::token(&form(&here, OLD), 0));
    let others =
        [facts::token(&form(&here, OLD), 1), facts::token(&form(&there, OLD), 0), facts::token(&form(&here, "i-1"), 0)];
    assert!(others.iter().all(|other| *other != token));
    assert!(token.len() <= 64 && token.is_ascii());
}

/// Each row: a change, and a part of what is said of it.
#[test]
fn what_a_replacement_lacks_is_named_and_what_cannot_be_is_refused() {
    type Change = fn(&mut Ec2Row, &mut Closer);
    let notes: [(Change, &str); 11] = [
        (
            |row, _| row.network_interface_set.item[0].association.ip_owner_id = "1".into(),
            "its elastic address is not moved",
        ),
        (|row, _| row.network_interface_set.item[0].source_dest_check = Some(false), "source/destination check"),
        (|row, _| row.block_device_mapping.item[1].ebs.delete_on_termination = false, "vol-2 (/dev/sdb) stays"),
        (|row, _| row.block_device_mapping.item[0].ebs.delete_on_termination = false, "vol-1 (/dev/xvda) stays"),
        (
            |row, _| {
                let second = Attachment { device_index: 1, ..Attachment::default() };
                let second = Interface { attachment: second, ..row.network_interface_set.item[0].clone() };
                row.network_interface_set.item.push(second);
            },
            "1 more network interfaces",
        ),
        (|it, _| it.enclave_options.enabled = true, "Nitro Enclaves"),
        (|it, _| it.cpu_options.amd_sev_snp = "enabled".into(), "AMD SEV-SNP"),
        (|it, _| it.hibernation_options.configured = true, "hibernate"),
        (|it, _| it.network_interface_set.item[0].interface_type = "efa".into(), "of the type efa"),
        (|it, _| it.network_interface_set.item[0].ipv6_addresses_set.item.push(Present), "IPv6"),
        (
            |it, _| it.network_interface_set.item[0].private_ip_addresses_set.item.extend([Present, Present]),
            "secondary",
        ),
    ];
    for (change, part) in notes {
        let (mut row, mut closer) = (row(), closer());
        change(&mut row, &mut closer);
        let blueprint = facts::blueprint(&row, &closer, true).expect("a blueprint");
        assert!(blueprint.notes.iter().any(|note| note.contains(part)), "{part}: {:?}", blueprint.notes);
    }
    let refusals: [(Change, &str); 4] = [
        (|row, _| row.subnet_id.clear(), "no subnet"),
        (|row, _| row.image_id.clear(), "no image"),
        (|row, _| row.placement.tenancy = "dedicated".into(), "tenancy is dedicated"),
        (|_, closer| closer.volumes.clear(), "size of its volume vol-1"),
    ];
    for (change, part) in refusals {
        let (mut row, mut closer) = (row(), closer());
        change(&mut row, &mut closer);
        let error = facts::blueprint(&row, &closer, true).expect_err("a refusal");
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(facts::blueprint(&row(), &closer(), false).expect_err("a refusal"), facts::REFUSED);
}

#[test]
fn a_mark_changes_with_what_is_copied() {
    let mut other = row();
    other.tag_set.item.reverse();
    (other.state_reason.code, other.launch_time) = ("x".into(), "2026-11-30T12:00:00Z".into());
    assert_eq!(facts::mark(&row()), facts::mark(&other), "what changes by itself does not count");
    other.key_name = "another".into();
    assert_ne!(facts::mark(&row()), facts::mark(&other));
}

/// Answers every call with what is scripted for its action, and keeps the requests.
#[derive(Default)]
struct Script(RefCell<Vec<Request>>);

impl Transport for &Script {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        self.0.borrow_mut().push(request.clone());
        let body = match request.path {
            "DescribeInstances" => format!(
                "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>{OLD}</instanceId>\
                 <spotInstanceRequestId>sir-1</spotInstanceRequestId><instanceState><name>running</name></instanceState><blockDeviceMapping>\
                 <item><ebs><volumeId>vol-1</volumeId></ebs></item><item><ebs><volumeId>vol-2</volumeId></ebs></item>\
                 </blockDeviceMapping></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
            ),
            "DescribeSpotInstanceRequests" => format!(
                "<DescribeSpotInstanceRequestsResponse><spotInstanceRequestSet><item><instanceId>{OLD}</instanceId>\
                 <spotInstanceRequestId>sir-1</spotInstanceRequestId><type>persistent</type><state>active</state>\
                 </item></spotInstanceRequestSet></DescribeSpotInstanceRequestsResponse>"
            ),
            action => format!("<{action}Response></{action}Response>"),
        };
        Ok(Response { status: 200, retry_after: None, date: None, body: body.into_bytes() })
    }
}

/// A persistent request is canceled before its instance is terminated: EC2 would launch another one.
#[tokio::test]
async fn calls_have_botocores_forms() {
    let script = Script::default();
    let opt_in = OptIn::Tag { key: "respot".into(), value: None };
    let terms = FleetTerms {
        opt_in,
        stand_ins: StandIns::default(),
        keeps_user_data: true,
        prices: BTreeMap::new(),
        retirement: Retirement::DEFAULT,
        target_groups: vec![],
    };
    let client = Ec2Client::new(&["eu-west-1".into()], terms, |_, _| &script);
    let (stop, id) = (Stop::default(), InstanceId::new(OLD));
    let guard = Guard { stop: &stop, may_send: &|| true };
    client.delete(&id, guard).await.expect("a success");
    client.marked(MARKER).await.expect("a list");
    let wanted = Wanted {
        instance: &id,
        name: "worker",
        kept: None,
        billing: None,
        stays: false,
        failed_job: None,
        needs_room: false,
    };
    let prepared = client.prepare(&[wanted], &[], 1).await;
    assert!(matches!(prepared.as_slice(), [Err(Obstacle::CannotRecreate(_))]), "it has no image: {prepared:?}");
    let requests = script.0.borrow();
    let sent: Vec<_> = requests.iter().map(|it| (it.path, decoded(it.body.as_deref().unwrap_or_default()))).collect();
    let (sent, details) = sent.split_at(6);
    for form in [form!("volumes"), form!("attribute")] {
        assert!(details.contains(&expected(form)), "{form}: {details:?}");
    }
    let forms =
        [form!("by-id"), form!("requests"), form!("cancel"), form!("terminate"), form!("by-marker"), form!("requests")];
    assert_eq!(*sent, forms.map(expected));
    let now = "2026-11-30T12:00:00Z".parse().expect("a time");
    let prices = price_query(&["g5.xlarge".into(), "g6.xlarge".into()], "", now).into_iter().collect();
    assert_eq!(expected(form!("prices")), ("DescribeSpotPriceHistory", prices));
}
