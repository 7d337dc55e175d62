//! The shapes of AWS's answers, as far as they are read. Every field may be absent, and new ones are ignored.

pub(super) use super::xml::Set;
use super::xml::{Element, Partly, Shape, shapes};

/// A page of a listing.
pub(super) trait XmlPage: Shape {
    type Item;

    /// The rows, and the token of the next page.
    fn split(self) -> (Vec<Self::Item>, Option<String>);
}

/// The answer of a listing, whose rows are the items of one element.
#[derive(Default)]
pub(super) struct RowPage<T> {
    rows: Set<T>,
    next_token: String,
}

/// The elements with the rows of a listing.
const ROWS: &[&str] = &["spotInstanceRequestSet", "volumeSet", "subnetSet", "spotPriceHistorySet", "instanceTypeSet"];

impl<T: Shape> Shape for RowPage<T> {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        Self { rows: element.member(ROWS, unread), next_token: element.member(&["nextToken"], unread) }
    }
}

impl<T: Shape> XmlPage for RowPage<T> {
    type Item = T;

    fn split(self) -> (Vec<T>, Option<String>) {
        (self.rows.item, Some(self.next_token).filter(|token| !token.is_empty()))
    }
}

impl XmlPage for Instances {
    type Item = Ec2Row;

    fn split(self) -> (Vec<Ec2Row>, Option<String>) {
        let rows = self.reservation_set.item.into_iter().flat_map(|it| it.instances_set.item);
        let rows = rows.map(|Partly { read, unread }| Ec2Row { unread: Unread(unread), ..read });
        (rows.collect(), Some(self.next_token).filter(|token| !token.is_empty()))
    }
}

/// What is counted, and not read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Present;

impl Shape for Present {
    fn read(_: &Element, _: &mut Vec<String>) -> Self {
        Self
    }
}

/// The elements of a row whose values are not what is expected there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unread(pub(super) Vec<String>);

impl Shape for Unread {
    fn read(_: &Element, _: &mut Vec<String>) -> Self {
        Self::default()
    }
}

shapes! {
    /// Of DescribeInstances: reservations are flattened.
    pub(super) struct Instances {
        reservation_set: Set<Reservation>,
        next_token: String,
    }

    struct Reservation {
        instances_set: Set<Partly<Ec2Row>>,
    }

    /// An instance. Which fields are left after its end is in `docs/ec2-api.md` section 4.3.
    pub(super) struct Ec2Row {
        pub(super) instance_id: String,
        pub(super) instance_state: StateName,
        pub(super) state_reason: Reason,
        /// Prose, for example `User initiated (2026-03-04 00:21:54 GMT)`.
        pub(super) reason: String,
        /// Absent for on-demand instances.
        pub(super) instance_lifecycle: String,
        pub(super) spot_instance_request_id: String,
        pub(super) launch_time: String,
        pub(super) operator: Operator,
        pub(super) tag_set: Set<Tag>,
        pub(super) client_token: String,
        pub(super) image_id: String,
        pub(super) instance_type: String,
        pub(super) key_name: String,
        pub(super) architecture: String,
        pub(super) ebs_optimized: bool,
        pub(super) root_device_name: String,
        pub(super) subnet_id: String,
        pub(super) vpc_id: String,
        pub(super) placement: InstancePlacement,
        pub(super) group_set: Set<SecurityGroup>,
        pub(super) iam_instance_profile: Profile,
        pub(super) network_interface_set: Set<Interface>,
        pub(super) block_device_mapping: Set<Device>,
        pub(super) metadata_options: MetadataOptions,
        pub(super) cpu_options: CpuOptions,
        pub(super) monitoring: StateName,
        pub(super) platform_details: String,
        pub(super) enclave_options: Enabled,
        pub(super) hibernation_options: Configured,
        pub(super) licenses: Set<Present> = "licenseSet",
        pub(super) ip_address: String,
        pub(super) private_ip_address: String,
        pub(super) dns_name: String,
        /// Not an element: what could not be read of the others.
        pub(super) unread: Unread = "-",
    }

    /// A word in an element of its own. Monitoring calls it `state`.
    pub(super) struct StateName {
        pub(super) name: String = "state",
    }

    pub(super) struct Reason {
        pub(super) code: String,
        pub(super) message: String,
    }

    pub(super) struct Operator {
        pub(super) managed: bool,
        pub(super) principal: String,
    }

    #[derive(Eq, PartialOrd, Ord)]
    pub(super) struct Tag {
        pub(super) key: String,
        pub(super) value: String,
    }

    pub(super) struct InstancePlacement {
        pub(super) availability_zone: String,
        pub(super) tenancy: String,
        pub(super) group_name: String,
        pub(super) host_id: String,
    }

    #[derive(Eq, PartialOrd, Ord)]
    pub(super) struct SecurityGroup {
        pub(super) group_id: String,
    }

    pub(super) struct Profile {
        pub(super) arn: String,
    }

    pub(super) struct Interface {
        pub(super) group_set: Set<SecurityGroup>,
        pub(super) attachment: Attachment,
        pub(super) association: Association,
        /// Absent counts as on, which is what a launch sets.
        pub(super) source_dest_check: Option<bool>,
        pub(super) interface_type: String,
        pub(super) ipv6_addresses_set: Set<Present>,
        pub(super) private_ip_addresses_set: Set<Present>,
    }

    pub(super) struct Attachment {
        pub(super) device_index: u32,
        pub(super) attach_time: String,
        pub(super) delete_on_termination: Option<bool>,
    }

    pub(super) struct Association {
        pub(super) public_ip: String,
        /// `amazon` for an automatic address, otherwise it is an elastic one.
        pub(super) ip_owner_id: String,
    }

    pub(super) struct Device {
        pub(super) device_name: String,
        pub(super) ebs: EbsDevice,
    }

    pub(super) struct EbsDevice {
        pub(super) volume_id: String,
        pub(super) delete_on_termination: bool,
    }

    pub(super) struct MetadataOptions {
        pub(super) http_tokens: String,
        pub(super) http_put_response_hop_limit: Option<u32>,
        pub(super) http_endpoint: String,
        pub(super) http_protocol_ipv6: String,
        pub(super) instance_metadata_tags: String,
    }

    pub(super) struct CpuOptions {
        pub(super) core_count: Option<u32>,
        pub(super) threads_per_core: Option<u32>,
        pub(super) amd_sev_snp: String,
    }

    pub(super) struct Enabled {
        pub(super) enabled: bool,
    }

    pub(super) struct Configured {
        pub(super) configured: bool,
    }

    /// A request for a spot instance (`docs/ec2-api.md` section 3.3).
    pub(super) struct SpotRequest {
        pub(super) spot_instance_request_id: String,
        pub(super) instance_id: String,
        /// `one-time` or `persistent`.
        pub(super) kind: String = "type",
        pub(super) state: String,
        pub(super) status: RequestStatus,
    }

    pub(super) struct RequestStatus {
        pub(super) code: String,
        pub(super) update_time: String,
    }

    pub(super) struct Volume {
        pub(super) volume_id: String,
        /// In GiB.
        pub(super) size: u32,
        pub(super) volume_type: String,
        pub(super) iops: Option<u32>,
        pub(super) throughput: Option<u32>,
        pub(super) encrypted: bool,
        pub(super) kms_key_id: String,
    }

    pub(super) struct Subnet {
        pub(super) subnet_id: String,
        pub(super) vpc_id: String,
        pub(super) availability_zone: String,
    }

    pub(super) struct SpotPrice {
        pub(super) instance_type: String,
        pub(super) availability_zone: String,
        /// USD for an hour of an instance.
        pub(super) spot_price: String,
        pub(super) timestamp: String,
    }

    /// An instance type.
    pub(super) struct TypeFacts {
        pub(super) instance_type: String,
        v_cpu_info: VcpuInfo,
        memory_info: MemoryInfo,
        pub(super) instance_storage_info: InstanceStore,
    }

    struct VcpuInfo {
        default_v_cpus: Option<u32>,
    }

    struct MemoryInfo {
        size_in_mi_b: Option<u32>,
    }

    pub(super) struct InstanceStore {
        pub(super) total_size_in_gb: Option<u32> = "totalSizeInGB",
    }

    /// Of DescribeInstanceStatus.
    pub(super) struct StatusAnswer {
        pub(super) instance_status_set: Set<InstanceStatus>,
    }

    pub(super) struct InstanceStatus {
        pub(super) instance_status: CheckWord,
        pub(super) system_status: CheckWord,
    }

    /// `ok` once it has passed, `initializing` for the first minutes.
    pub(super) struct CheckWord {
        pub(super) status: String,
    }

    /// Of DescribeInstanceAttribute, one attribute at a time.
    pub(super) struct Attributes {
        pub(super) user_data: AttributeValue,
        pub(super) instance_initiated_shutdown_behavior: AttributeValue,
        pub(super) disable_api_termination: AttributeValue,
    }

    pub(super) struct AttributeValue {
        pub(super) value: String,
    }

    /// Of RunInstances.
    pub(super) struct Launched {
        pub(super) instances_set: Set<Ec2Row>,
    }

    /// Of GetCallerIdentity.
    pub(super) struct CallerIdentity {
        pub(super) get_caller_identity_result: Caller,
    }

    /// Whose credentials they are.
    #[derive(Eq)]
    pub struct Caller {
        /// Twelve digits.
        pub account: String,
        pub arn: String,
    }
}

impl TypeFacts {
    /// Its vCPUs, if known.
    pub(super) fn cpus(&self) -> Option<u32> {
        self.v_cpu_info.default_v_cpus
    }

    /// Its memory in GiB, if known.
    pub(super) fn memory_gb(&self) -> Option<u32> {
        self.memory_info.size_in_mi_b.map(|mib| mib / 1024)
    }
}

/// Reads an answer whose root ends with `Response`.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub(super) fn read<T: Shape>(body: &[u8]) -> Result<T, String> {
    let root = Element::of(body)?;
    if !root.name.ends_with("Response") {
        return Err("it is not an answer of AWS".into());
    }
    let mut unread = Vec::new();
    let answer = T::read(&root, &mut unread);
    match unread.first() {
        None => Ok(answer),
        Some(element) => Err(unexpected(element)),
    }
}

/// Says which element has an unexpected value, without quoting it.
pub(super) fn unexpected(element: &str) -> String {
    format!("its element {element} has a value that is not expected there")
}

/// The beginning of a body that is not understood, for messages.
pub(super) fn text_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_and_unknown_elements_are_survived() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
            <requestId>r</requestId><reservationSet><item><ownerId>1</ownerId><requesterId>940372691376</requesterId>\
            <instancesSet><item><reason/><stateReason/><instanceId>i-1</instanceId><newThing><a>1</a></newThing>\
            <instanceState><code>16</code><name>running</name></instanceState><tagSet/><monitoring><state>disabled</state></monitoring></item>\
            <item><instanceState><name>terminated</name><code>48</code></instanceState><instanceId>i-2</instanceId></item></instancesSet></item>\
            <item><instancesSet/></item></reservationSet><nextToken/></DescribeInstancesResponse>";
        let (rows, next) = read::<Instances>(body.as_bytes()).expect("an answer").split();
        let told: Vec<_> = rows.iter().map(|it| (it.instance_id.as_str(), it.instance_state.name.as_str())).collect();
        assert_eq!((told, next), (vec![("i-1", "running"), ("i-2", "terminated")], None));
        assert_eq!(rows[0].monitoring.name, "disabled");
    }

    #[test]
    fn one_bad_value_spoils_its_row_and_no_other() {
        let body = "<DescribeInstancesResponse><reservationSet><item><instancesSet>\
            <item><instanceId>i-1</instanceId><ebsOptimized>perhaps</ebsOptimized><imageId>ami-1</imageId></item>\
            <item><instanceId>i-2</instanceId></item></instancesSet></item></reservationSet></DescribeInstancesResponse>";
        let (rows, _) = read::<Instances>(body.as_bytes()).expect("an answer").split();
        let told: Vec<_> = rows.iter().map(|it| (it.instance_id.as_str(), it.unread.0.join(" "))).collect();
        assert_eq!(told, [("i-1", "ebsOptimized".to_owned()), ("i-2", String::new())]);
        assert_eq!(rows[0].image_id, "ami-1");
        let volumes =
            "<DescribeVolumesResponse><volumeSet><item><size>8 GB</size></item></volumeSet></DescribeVolumesResponse>";
        let error = read::<RowPage<Volume>>(volumes.as_bytes()).map(|_| ()).expect_err("a volume without a size");
        assert_eq!(error, "its element size has a value that is not expected there");
    }

    #[test]
    fn what_is_not_a_whole_answer_is_an_error() {
        for body in ["", "<html></html>", "<DescribeInstancesResponse><reservationSet><item>", "{}"] {
            assert!(read::<Instances>(body.as_bytes()).is_err(), "{body}");
        }
    }
}
