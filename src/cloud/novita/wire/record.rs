//! Everything the provider says about one instance, merged from its list row and its detail response field by field,
//! since neither has every field.
//!
//! What is missing stays missing. A field that cannot be read is an error, by its name, if the replacement would differ
//! without it: above all command, environment, ports and volumes. No message contains a value, which may be a secret.

use std::cell::RefCell;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::mended::{self, one_id};
use super::{INSTANCE_IDS, InstanceRow, ListPage, Listed, Text, decode, page_of};
use crate::cloud::novita::blueprint::{Configuration, NetworkVolume, Port, RESERVED_PORTS, Variable};
use crate::core::rollout::findings::Fittings;
use crate::core::world::instance::{Billing, Instance, InstanceId, JobId, Places, Status};
use crate::core::world::money::Usd;

/// An instance as received. Not `Debug`: it contains its environment.
pub(in crate::cloud::novita) struct Record {
    id: String,
    fields: Map<String, Value>,
}

impl Record {
    fn new(value: Value) -> Option<Self> {
        let Value::Object(mut fields) = value else { return None };
        one_id(&mut fields, &INSTANCE_IDS);
        let id = first_text(&fields, &INSTANCE_IDS)?;
        Some(Self { id, fields })
    }

    /// The instance itself.
    pub(super) fn instance(&self, places: &RefCell<Places>) -> Option<Instance> {
        InstanceRow::deserialize(&self.fields).ok()?.into_instance(places)
    }

    /// Reads the details of one instance: the bare object, or wrapped in `instance`.
    pub(in crate::cloud::novita) fn detail(body: &[u8], asked: &InstanceId) -> Result<Self, String> {
        let Value::Object(mut fields) = decode(body)? else { return Err("JSON of an unknown shape".into()) };
        let detail = match fields.remove("instance") {
            Some(wrapped @ Value::Object(_)) => wrapped,
            _ => Value::Object(fields),
        };
        let detail = Self::new(detail).ok_or("an object without an id")?;
        // Its replacement would get the image and environment of another instance.
        if detail.id == asked.as_str() { Ok(detail) } else { Err("another instance than the one asked for".into()) }
    }
}

/// Reads a page of the instance list, and converts each row that has an id; `None` drops a row.
pub(super) fn records<T>(body: &[u8], convert: impl Fn(Record) -> Option<T>) -> Result<ListPage<T>, String> {
    #[derive(Deserialize)]
    struct RecordPage<'a> {
        instances: Option<Vec<Option<Value>>>,
        #[serde(borrow)]
        total: Option<Text<'a>>,
    }
    match decode(body) {
        Ok(RecordPage { instances, total }) => {
            page_of(instances, total.as_ref(), |row| Record::new(row).and_then(&convert))
        }
        Err(what) => {
            let (rows, total) = mended::rows(body, "instances", &INSTANCE_IDS).ok_or(what)?;
            page_of(Some(rows), total.as_ref(), |row| Record::new(Value::Object(row)).and_then(&convert))
        }
    }
}

impl Listed for Record {
    fn page(body: &[u8]) -> Result<ListPage<Self>, String> {
        records(body, Some)
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn caution(&self) -> u8 {
        0
    }
}

/// Merges detail response and list row: a field of the detail is used if it is there and not empty, else the row's.
///
/// # Errors
/// The name of a field that neither has in a known shape.
pub(in crate::cloud::novita) fn configuration(detail: &Record, row: Option<&Record>) -> Result<Configuration, String> {
    let merged = Merged { detail: &detail.fields, row: row.map(|row| &row.fields) };
    let billing = merged.word("billingMode")?;
    let (network_volumes, local_volumes) = merged.volumes()?;
    Ok(Configuration {
        name: merged.text("name")?,
        kind: merged.word("kind")?,
        billing: (!billing.is_empty()).then(|| Billing::from_any_case(&billing)),
        image_url: merged.word("imageUrl")?,
        image_auth_id: merged.word("imageAuthId")?,
        product_id: merged.word("productId")?,
        product_name: merged.word("productName")?,
        cluster_id: merged.word("clusterId")?,
        network_id: merged.network_id()?,
        gpu_num: merged.count("gpuNum")?,
        rootfs_size: merged.count("rootfsSize")?,
        ports: merged.first("portMappings", ports)?,
        envs: merged.first("envs", variables)?,
        command: merged.text("command")?,
        entrypoint: merged.text("entrypoint")?,
        network_volumes,
        local_volumes,
        auto_migrates: merged.values("autoMigrateOpen").any(|value| Text::of(value).as_str() == "true"),
        jobs: merged.first("jobs", jobs)?,
        price: detail.price("instancePrice").or_else(|| row?.price("instancePrice")),
    })
}

impl Record {
    /// Whether it is deleted, or about to be.
    pub(in crate::cloud::novita) fn is_going(&self) -> bool {
        Status::from_any_case(&self.word("status")).is_going()
    }

    /// A field that holds an object.
    pub(super) fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.fields.get(key)?.as_object()
    }

    /// A price, which the provider states in 1/100000 USD; zero means "not stated".
    pub(super) fn price(&self, key: &str) -> Option<Usd> {
        let amount = Text::of(self.fields.get(key)?).number()?;
        u64::try_from(amount).ok().filter(|&amount| amount > 0).map(Usd::from_hundred_thousandths)
    }

    /// A field that holds a word or a number.
    pub(super) fn word(&self, key: &str) -> String {
        first_text(&self.fields, &[key]).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// A count or a size; zero means "not stated".
    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.alone().number(key)
    }

    /// What is attached to it.
    ///
    /// # Errors
    /// The name of a field of an unknown shape.
    pub(super) fn fittings(&self) -> Result<Fittings, String> {
        let alone = self.alone();
        let (network_volumes, local_volumes) = alone.volumes()?;
        let ports = alone.first("portMappings", ports)?.into_iter().map(|port| port.number);
        let ports = ports.filter(|port| !RESERVED_PORTS.contains(port)).map(|port| port.to_string());
        let ports = ports.collect::<Vec<_>>().join(", ");
        Ok(Fittings {
            addressed: (!ports.is_empty()).then(|| format!("its ports {ports}")),
            network_volumes: network_volumes.into_iter().map(|volume| volume.id).collect(),
            local_volumes,
            disk: "container disk",
            ..Fittings::default()
        })
    }

    fn alone(&self) -> Merged<'_> {
        Merged { detail: &self.fields, row: None }
    }

    /// A field that holds a list.
    pub(super) fn list(&self, key: &str) -> &[Value] {
        self.fields.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

struct Merged<'a> {
    detail: &'a Map<String, Value>,
    row: Option<&'a Map<String, Value>>,
}

impl<'a> Merged<'a> {
    /// The values of a field that are not empty, the detail's first.
    fn values(&self, key: &str) -> impl Iterator<Item = &'a Value> {
        let row = self.row.and_then(|row| row.get(key));
        self.detail.get(key).into_iter().chain(row).filter(|value| !is_blank(value))
    }

    /// The first value that can be read; empty when there is none at all.
    fn first<T: Default>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<T, String> {
        let mut is_there = false;
        let found = self.values(key).inspect(|_| is_there = true).find_map(read);
        match found {
            Some(value) => Ok(value),
            None if is_there => Err(unreadable(key)),
            None => Ok(T::default()),
        }
    }

    /// Unchanged, with its spaces.
    fn text(&self, key: &str) -> Result<String, String> {
        self.first(key, scalar)
    }

    /// An id or a word, without spaces around it.
    fn word(&self, key: &str) -> Result<String, String> {
        Ok(self.text(key)?.trim().to_owned())
    }

    /// Zero means "not stated": no instance has a disk of 0 GB.
    fn number(&self, key: &str) -> Option<u32> {
        let number = |value| u32::try_from(Text::of(value).number()?).ok().filter(|&number| number > 0);
        self.values(key).find_map(number)
    }

    /// The same, where a guess would make another instance: a value that is no count is an error.
    fn count(&self, key: &str) -> Result<Option<u32>, String> {
        let count = |value| {
            let text = Text::of(value);
            let is_whole = |(_, fraction): (&str, &str)| fraction.trim_end().bytes().all(|digit| digit == b'0');
            text.as_str().split_once('.').is_none_or(is_whole).then(|| u32::try_from(text.number()?).ok())?
        };
        let counts: Vec<Option<u32>> = self.values(key).map(count).collect();
        match counts.iter().flatten().find(|count| **count > 0) {
            None if counts.contains(&None) => Err(unreadable(key)),
            count => Ok(count.copied()),
        }
    }

    /// An instance without a network has an object with an empty id.
    fn network_id(&self) -> Result<String, String> {
        let id = |value: &'a Value| match value {
            // Its id may be there under another name.
            Value::Object(network) if ["id", "Id"].iter().all(|key| !network.contains_key(*key)) => None,
            Value::Object(network) => text_if_any(network, &["id", "Id"]),
            value => scalar(value),
        };
        let ids: Option<Vec<String>> = self.values("network").map(id).collect();
        let ids = ids.ok_or_else(|| unreadable("network"))?;
        Ok(ids.into_iter().find(|id| !id.is_empty()).unwrap_or_default())
    }

    /// The network volumes of the first source that has any; and the mount points of everything else in either.
    fn volumes(&self) -> Result<(Vec<NetworkVolume>, Vec<String>), String> {
        const KEY: &str = "volumeMounts";
        self.first(KEY, |value| volumes(value).map(|_| ()))?;
        let (mut network, mut local) = (Vec::new(), Vec::new());
        for (asked_for, told_of) in self.values(KEY).filter_map(volumes) {
            if network.is_empty() {
                network = asked_for;
            }
            local.extend(told_of);
        }
        let mut seen: HashSet<String> =
            network.iter().map(|volume: &NetworkVolume| volume.mount_point.clone()).collect();
        local.retain(|mount: &String| seen.insert(mount.clone()));
        Ok((network, local))
    }
}

fn items(value: &Value) -> Option<impl Iterator<Item = &Value>> {
    Some(value.as_array()?.iter().filter(|item| !is_blank(item)))
}

fn ports(value: &Value) -> Option<Vec<Port>> {
    let mut ports = Vec::new();
    for item in items(value)? {
        let (number, kind) = match item {
            Value::Object(port) => {
                port.get("port")?;
                let number = text_if_any(port, &["port"])?;
                (if number.is_empty() { "0".into() } else { number }, text_if_any(port, &["type"])?)
            }
            // "80/http", as in a create call.
            item => {
                let text = scalar(item)?;
                let (number, kind) = text.split_once('/').unwrap_or((&text, ""));
                (number.to_owned(), kind.to_owned())
            }
        };
        // Neither 0 nor what exceeds 16 bits is a port.
        let number = Text(Some(number.into())).number()?;
        if let Some(number) = u16::try_from(number).ok().filter(|&number| number > 0) {
            ports.push(Port { number, kind: kind.trim().to_ascii_lowercase() });
        }
    }
    Some(ports)
}

fn variables(value: &Value) -> Option<Vec<Variable>> {
    let text = |value: &Value| if value.is_null() { Some(String::new()) } else { scalar(value) };
    if let Value::Object(pairs) = value {
        return pairs.iter().map(|(key, value)| Some(Variable { key: key.clone(), value: text(value)? })).collect();
    }
    let variable = |item: &Value| match item {
        Value::Object(pair) => {
            let value = pair.get("value").map_or(Some(String::new()), text)?;
            Some(Variable { key: first_text(pair, &["key"])?, value })
        }
        // As the provider writes the environment of a job.
        Value::String(pair) => {
            let (key, value) = pair.split_once('=').filter(|(key, _)| !key.is_empty())?;
            Some(Variable { key: key.into(), value: value.into() })
        }
        _ => None,
    };
    items(value)?.map(variable).collect()
}

/// What `mountPoint` is if a create call leaves it out.
const DEFAULT_MOUNT: &str = "/network";

/// The network volumes, and the mount points of those on the node; `None` if one is of an unknown type or cannot be requested.
fn volumes(value: &Value) -> Option<(Vec<NetworkVolume>, Vec<String>)> {
    let (mut network, mut local) = (Vec::new(), Vec::new());
    for item in items(value)? {
        let volume = item.as_object()?;
        let text = |keys: &[&str]| Some(text_if_any(volume, keys)?.trim().to_owned());
        let (id, mount) = (text(&["id", "Id"])?, text(&["mountPath", "mountPoint"])?);
        // Volumes on the node have no id, so one with an id and no type is a network volume.
        let is_network = match text(&["type"])?.to_ascii_lowercase().as_str() {
            // What it is may be there under other names.
            "" if id.is_empty() && mount.is_empty() => return None,
            "" => !id.is_empty(),
            "local" => false,
            "network" => true,
            _ => return None,
        };
        match (is_network, id.is_empty(), mount.is_empty()) {
            (true, false, false) => network.push(NetworkVolume { id, mount_point: mount }),
            (true, false, true) => network.push(NetworkVolume { id, mount_point: DEFAULT_MOUNT.into() }),
            // It cannot be requested, and its data outlives the instance: the replacement would lack it.
            (true, true, _) => return None,
            (false, _, false) => local.push(mount),
            (false, _, true) => {}
        }
    }
    Some((network, local))
}

/// Jobs at work. One without an id is represented by its type.
fn jobs(value: &Value) -> Option<Vec<JobId>> {
    let id = |item: &Value| match item {
        Value::Object(job) => first_text(job, &["id", "Id", "jobId", "type"]),
        item => scalar(item),
    };
    Some(items(value)?.map(|item| JobId::new(id(item).as_deref().unwrap_or("unknown"))).collect())
}

fn unreadable(key: &str) -> String {
    format!("its {key} in a shape that cannot be read")
}

/// Null, empty, or made of such values only: what the provider sends for nothing.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_blank),
        Value::Object(fields) => fields.values().all(is_blank),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn scalar(value: &Value) -> Option<String> {
    Text::of(value).0.map(Into::into)
}

/// The first of these fields that is a text, or a number, and not empty.
pub(super) fn first_text(fields: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().filter_map(|key| fields.get(*key)).filter(|value| !is_blank(value)).find_map(scalar)
}

/// The same, empty where nothing is stated; `None` if what is stated is no text.
fn text_if_any(fields: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    let is_stated = || keys.iter().filter_map(|key| fields.get(*key)).any(|value| !is_blank(value));
    first_text(fields, keys).or_else(|| (!is_stated()).then(String::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(detail: &[u8], list: &[u8]) -> Result<Configuration, String> {
        let id = InstanceId::new("a1b2c3d4e5f60718");
        let detail = Record::detail(detail, &id).expect("a detail answer");
        let rows = <Record as Listed>::page(list).expect("a page").rows;
        configuration(&detail, rows.iter().find(|row| row.id() == id.as_str()))
    }

    /// From the inner parts of two objects.
    fn merged(detail: &str, row: &str) -> Result<Configuration, String> {
        let detail = format!("{{\"id\":\"a1b2c3d4e5f60718\",{detail}}}").replace(",}", "}");
        let row =
            format!("{{\"instances\":[{{\"Id\":\"a1b2c3d4e5f60718\",{row}}}],\"total\":\"1\"}}").replace(",}", "}");
        read(detail.as_bytes(), row.as_bytes())
    }

    fn port(number: u16, kind: &str) -> Port {
        Port { number, kind: kind.into() }
    }

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.into(), value: value.into() }
    }

    fn volume(id: &str, mount_point: &str) -> NetworkVolume {
        NetworkVolume { id: id.into(), mount_point: mount_point.into() }
    }

    #[test]
    fn each_source_gives_what_the_other_leaves_out() {
        let expected = Configuration {
            name: "train-7".into(),
            kind: "gpu".into(),
            billing: Some(Billing::Spot),
            image_url: "registry.example/team/app:1.4".into(),
            image_auth_id: "auth-1".into(),
            product_id: "4090.16c62g".into(),
            product_name: "RTX 4090 24GB".into(),
            cluster_id: "us-xx-1".into(),
            network_id: "net-1".into(),
            gpu_num: Some(2),
            rootfs_size: Some(60),
            ports: vec![port(8080, "http"), port(22, "tcp")],
            envs: vec![variable("MODE", "batch"), variable("API_TOKEN", "env-secret-1")],
            command: "python train.py --password env-secret-1".into(),
            entrypoint: "/bin/sh -c".into(),
            network_volumes: vec![volume("vol-1", "/data")],
            local_volumes: vec!["/workspace".into()],
            auto_migrates: false,
            jobs: vec![JobId::new("q9w8e7r6t5y4u3i2")],
            price: None,
        };
        assert_eq!(read(fixture!("recreate-detail.json"), fixture!("recreate-row.json")), Ok(expected.clone()));
        let alone =
            read(fixture!("recreate-detail.json"), br#"{"instances":null,"total":0}"#).expect("the detail alone");
        let expected = Configuration {
            billing: None,
            image_auth_id: String::new(),
            product_name: String::new(),
            rootfs_size: None,
            command: String::new(),
            entrypoint: String::new(),
            local_volumes: vec![],
            ..expected
        };
        assert_eq!(alone, expected);
    }

    #[test]
    fn fields_survive_every_looseness() {
        type Set = fn(&mut Configuration);
        let rows: &[(&str, &str, Set)] = &[
            ("", "", |_| ()),
            (r#""gpuNum":"4","rootfsSize":"80""#, "", |it| (it.gpu_num, it.rootfs_size) = (Some(4), Some(80))),
            (r#""gpuNum":4.0,"rootfsSize":null"#, r#""rootfsSize":90"#, |it| {
                (it.gpu_num, it.rootfs_size) = (Some(4), Some(90));
            }),
            (r#""gpuNum":"0","rootfsSize":0"#, r#""gpuNum":"","rootfsSize":{}"#, |_| ()),
            (r#""gpuNum":"many""#, r#""gpuNum":8"#, |it| it.gpu_num = Some(8)),
            (r#""clusterId":5,"imageAuthId":17,"productId":" p ""#, "", |it| {
                (it.cluster_id, it.image_auth_id, it.product_id) = ("5".into(), "17".into(), "p".into());
            }),
            // An unknown shape, and a readable one in the other source.
            (r#""command":["a"],"imageUrl":{"name":"x"}"#, r#""command":" b  c ","imageUrl":"i""#, |it| {
                (it.command, it.image_url) = (" b  c ".into(), "i".into());
            }),
            (r#""command":[],"entrypoint":{},"envs":{},"portMappings":"","volumeMounts":null,"jobs":"""#, "", |_| ()),
            (r#""billingMode":"onDemand""#, r#""billingMode":"spot""#, |it| it.billing = Some(Billing::OnDemand)),
            (r#""billingMode":null"#, r#""billingMode":"monthly""#, |it| it.billing = Some(Billing::Monthly)),
            (r#""network":null"#, "", |_| ()),
            (r#""network":{"id":"","ip":"10.0.0.1"}"#, r#""network":{"Id":"n"}"#, |it| it.network_id = "n".into()),
            (r#""network":"n""#, "", |it| it.network_id = "n".into()),
            (
                r#""portMappings":[{"port":80},{"port":"443","type":" HTTP "},{"port":0},{"port":70000,"type":"tcp"}]"#,
                "",
                |it| it.ports = vec![port(80, ""), port(443, "http")],
            ),
            (r#""portMappings":[null,{},8080,"22/tcp",{"port":-1},{"port":"","type":"tcp"}]"#, "", |it| {
                it.ports = vec![port(8080, ""), port(22, "tcp")];
            }),
            (r#""portMappings":[]"#, r#""portMappings":[{"port":1,"type":"tcp"}]"#, |it| {
                it.ports = vec![port(1, "tcp")];
            }),
            (
                r#""envs":[{"key":"A","value":null},{"key":"B"},{"key":"C","value":7},{"key":"D","value":true}]"#,
                "",
                |it| it.envs = vec![variable("A", ""), variable("B", ""), variable("C", "7"), variable("D", "true")],
            ),
            (r#""envs":[null,{"key":"","value":""},"E=a=b",{"key":"F","value":" f "}]"#, "", |it| {
                it.envs = vec![variable("E", "a=b"), variable("F", " f ")];
            }),
            (r#""envs":{"A":"a","B":2}"#, "", |it| it.envs = vec![variable("A", "a"), variable("B", "2")]),
            (
                r#""envs":[{"key":"A","value":"1"}]"#,
                r#""envs":[{"key":"A","value":"2"},{"key":"B","value":"3"}]"#,
                |it| it.envs = vec![variable("A", "1")],
            ),
            (r#""volumeMounts":[{"type":"Network","id":"v"},{"id":"w","mountPath":"/w"}]"#, "", |it| {
                it.network_volumes = vec![volume("v", "/network"), volume("w", "/w")];
            }),
            (
                r#""volumeMounts":[{"type":"local","id":"l","mountPath":"/l"},{"type":"local"},{"mountPath":"/n"}]"#,
                "",
                |it| it.local_volumes = vec!["/l".into(), "/n".into()],
            ),
            (
                r#""volumeMounts":[{"mountPath":"/m"}]"#,
                r#""volumeMounts":[{"type":"network","id":"v","mountPath":"/n"}]"#,
                |it| {
                    it.network_volumes = vec![volume("v", "/n")];
                    it.local_volumes = vec!["/m".into()];
                },
            ),
            (
                r#""volumeMounts":[{"type":"network","mountPath":"/n"}]"#,
                r#""volumeMounts":[{"type":"network","id":"v","mountPath":"/n"}]"#,
                |it| it.network_volumes = vec![volume("v", "/n")],
            ),
            // One source in an unknown shape, and the other readable.
            (
                r#""envs":["x"],"portMappings":[[1]],"volumeMounts":7"#,
                r#""envs":["A=a"],"portMappings":[1],"volumeMounts":[{"id":"v"}]"#,
                |it| {
                    it.envs = vec![variable("A", "a")];
                    it.ports = vec![port(1, "")];
                    it.network_volumes = vec![volume("v", "/network")];
                },
            ),
            (r#""jobs":[{"Id":"a"},{"jobId":7},{"type":"saveImage"},"b",[1],null,{}]"#, "", |it| {
                it.jobs = ["a", "7", "saveImage", "b", "unknown"].map(JobId::new).into();
            }),
        ];
        for (detail, row, set) in rows {
            let mut expected = Configuration::default();
            set(&mut expected);
            assert_eq!(merged(detail, row), Ok(expected), "{detail} and {row}");
        }
    }

    #[test]
    fn what_would_be_lost_is_refused_by_its_name_and_not_quoted() {
        for (detail, name) in [
            (r#""command":["sh","secret"]"#, "command"),
            (r#""entrypoint":{"secret":1}"#, "entrypoint"),
            (r#""imageAuthId":["secret"]"#, "imageAuthId"),
            (r#""billingMode":{"mode":"secret"}"#, "billingMode"),
            (r#""network":[{"id":"secret"}]"#, "network"),
            (r#""network":{"id":["secret"]}"#, "network"),
            (r#""network":{"networkId":"secret"}"#, "network"),
            (r#""volumeMounts":[{"volumeId":"secret","path":"/n"}]"#, "volumeMounts"),
            (r#""portMappings":[{"containerPort":80}]"#, "portMappings"),
            (r#""rootfsSize":59.9"#, "rootfsSize"),
            (r#""gpuNum":"1.5""#, "gpuNum"),
            (r#""network":{"id":{"secret":1}}"#, "network"),
            (r#""envs":"A=secret""#, "envs"),
            (r#""envs":[{"key":"A","value":["secret"]}]"#, "envs"),
            (r#""envs":[{"secret":"b"}]"#, "envs"),
            (r#""envs":["secret"]"#, "envs"),
            (r#""portMappings":[{"port":"secret"}]"#, "portMappings"),
            (r#""portMappings":[["secret"]]"#, "portMappings"),
            (r#""portMappings":[{"port":["secret"]}]"#, "portMappings"),
            (r#""portMappings":[{"port":80,"type":["secret"]}]"#, "portMappings"),
            (r#""volumeMounts":[{"type":"network","id":"v","mountPath":["secret"]}]"#, "volumeMounts"),
            (r#""volumeMounts":[{"type":["secret"],"id":"v","mountPath":"/n"}]"#, "volumeMounts"),
            (r#""portMappings":{"secret":80}"#, "portMappings"),
            (r#""volumeMounts":["secret"]"#, "volumeMounts"),
            (r#""volumeMounts":[{"type":"network","mountPath":"/n"}]"#, "volumeMounts"),
            (r#""volumeMounts":[{"type":"new","id":"secret","mountPath":"/n"}]"#, "volumeMounts"),
            (r#""gpuNum":"secret""#, "gpuNum"),
            (r#""gpuNum":-1"#, "gpuNum"),
            (r#""gpuNum":"18446744073709551616""#, "gpuNum"),
            (r#""rootfsSize":{"secret":1}"#, "rootfsSize"),
            (r#""jobs":"secret""#, "jobs"),
        ] {
            let error = merged(detail, "").expect_err(detail);
            assert!(error.contains(name) && !error.contains("secret"), "{detail}: {error}");
        }
    }

    #[test]
    fn the_detail_is_of_the_instance_that_was_asked_for() {
        let id = InstanceId::new("a1b2c3d4e5f60718");
        for (body, error) in [
            (fixture!("get-instance.json"), None),
            (fixture!("get-instance-wrapped.json"), None),
            (br#"{"instance":null,"id":"a1b2c3d4e5f60718"}"#.as_slice(), None),
            (br#"{"id":"b2c3d4e5f6071829"}"#.as_slice(), Some("another instance")),
            (br#"{"name":"x"}"#.as_slice(), Some("without an id")),
            (b"[]".as_slice(), Some("unknown shape")),
            (b"".as_slice(), Some("an empty body")),
        ] {
            let got = Record::detail(body, &id).err();
            assert_eq!(got.is_some(), error.is_some(), "{got:?}");
            assert!(got.unwrap_or_default().contains(error.unwrap_or_default()));
        }
    }
}
