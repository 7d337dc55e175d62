//! How things are written, as loosely as the fact sheet says: strings for counts and times, ints elsewhere, and
//! liberties that differ from row to row.

use std::borrow::Cow;
use std::fmt::Display;

use serde_json::{Value, json};

use crate::api::Answer;
use crate::machine::{Cluster, JobRow, Machine, Product};
use crate::settings::{ErrorShape, NotFound, Wire};

/// Liberties of a row, as bits of its `quirks`.
pub mod quirk {
    /// Times are numbers, not strings.
    pub const INT_TIMES: u32 = 1;
    /// Counts are numbers, not strings.
    pub const INT_COUNTS: u32 = 1 << 1;
    /// Fields that say nothing are left out.
    pub const MISSING: u32 = 1 << 2;
    /// Fields that say nothing are null.
    pub const NULL: u32 = 1 << 3;
    /// Times that are not known are "" instead of "0".
    pub const EMPTY_TIMES: u32 = 1 << 4;
    /// Fields that no page names.
    pub const EXTRA: u32 = 1 << 5;
    /// The error text of a job is under `message`.
    pub const JOB_MESSAGE: u32 = 1 << 6;
    /// The error text of a job is only in the code.
    pub const JOB_ERROR: u32 = 1 << 7;
    /// Every liberty.
    pub const ALL: u32 = (1 << 8) - 1;
}

/// A JSON object in the making.
struct Object {
    out: String,
    quirks: u32,
}

impl Object {
    fn new(quirks: u32) -> Self {
        Self { out: String::with_capacity(1024), quirks }
    }

    fn has(&self, quirk: u32) -> bool {
        self.quirks & quirk != 0
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        use std::fmt::Write as _;
        self.out.push_str(if self.out.is_empty() { "{\"" } else { ",\"" });
        self.out.push_str(key);
        self.out.push_str("\":");
        write!(self.out, "{value}").expect("a string takes all");
    }

    fn text(&mut self, key: &str, value: &str) {
        // Nearly all texts are plain, and simulations write millions of them.
        if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.raw(key, format_args!("\"{value}\""));
        } else {
            self.raw(key, Value::from(value));
        }
    }

    /// A text that may say nothing.
    fn optional(&mut self, key: &str, value: &str) {
        match value {
            "" if self.has(quirk::MISSING) => {}
            "" if self.has(quirk::NULL) => self.raw(key, "null"),
            value => self.text(key, value),
        }
    }

    fn count(&mut self, key: &str, value: u32) {
        if self.has(quirk::INT_COUNTS) {
            self.raw(key, value);
        } else {
            self.raw(key, format_args!("\"{value}\""));
        }
    }

    /// Milliseconds, written as Unix seconds; 0 is "not known".
    fn time(&mut self, key: &str, millis: i64) {
        let secs = millis.div_euclid(1000);
        match secs {
            0 if self.has(quirk::MISSING) => {}
            0 if self.has(quirk::NULL) => self.raw(key, "null"),
            0 if self.has(quirk::EMPTY_TIMES) => self.raw(key, "\"\""),
            secs if self.has(quirk::INT_TIMES) => self.raw(key, secs),
            secs => self.raw(key, format_args!("\"{secs}\"")),
        }
    }

    fn list<T>(&mut self, key: &str, items: &[T], mut write: impl FnMut(&T) -> Value) {
        if items.is_empty() && self.has(quirk::MISSING) {
            return;
        }
        self.raw(key, Value::Array(items.iter().map(&mut write).collect()));
    }

    fn end(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

/// A row of the instance list (fact sheet, section 2.1).
pub(crate) fn row(machine: &Machine, endpoints: &[(u16, String)]) -> String {
    let mut row = Object::new(machine.quirks);
    row.text("id", &machine.id);
    shared(&mut row, machine, endpoints);
    match &machine.product_name {
        Some(name) => row.text("productName", name),
        None if row.has(quirk::NULL) => row.raw("productName", "null"),
        None => row.text("productName", ""),
    }
    spot(&mut row, machine);
    row.end()
}

fn spot(row: &mut Object, machine: &Machine) {
    row.optional("spotStatus", &machine.spot_status);
    row.time("spotReclaimTime", machine.spot_reclaim_at);
}

/// What list and GET have in common. `endpoints` are those of ports that can be reached.
fn shared(row: &mut Object, machine: &Machine, endpoints: &[(u16, String)]) {
    let sized_int = row.has(quirk::INT_COUNTS);
    row.text("name", &machine.name);
    row.text("clusterId", &machine.cluster_id);
    row.optional("clusterName", &machine.cluster_name);
    row.text("status", &machine.status);
    row.text("imageUrl", &machine.image_url);
    row.optional("imageAuthId", &machine.image_auth_id);
    row.optional("command", &machine.command);
    row.optional("entrypoint", &machine.entrypoint);
    row.count("cpuNum", machine.cpu_num);
    row.count("memory", machine.memory);
    row.count("gpuNum", machine.gpu_num);
    row.list("portMappings", &machine.ports, |(port, kind)| {
        let known = endpoints.iter().find(|(known, _)| known == port).map(|(_, endpoint)| endpoint.clone());
        let endpoint = known.unwrap_or_else(|| format!("host.example:{}", 30_000 + u32::from(*port) % 2_000));
        json!({"port": port, "endpoint": endpoint, "type": kind})
    });
    row.text("productId", &machine.product_id);
    row.raw("rootfsSize", machine.rootfs_size);
    row.list("volumeMounts", &machine.volumes, |volume| {
        let size = if sized_int { json!(volume.size) } else { json!(volume.size.to_string()) };
        json!({"type": volume.kind, "size": size, "id": volume.id, "mountPath": volume.mount_path})
    });
    if !row.has(quirk::MISSING) {
        row.raw("statusError", "{\"state\":\"\",\"message\":\"\"}");
    }
    row.list("envs", &machine.envs, |(key, value)| json!({"key": key, "value": value}));
    row.text("kind", &machine.kind);
    row.optional("billingMode", &machine.billing_mode);
    if machine.billing_mode == "monthly" {
        row.time("endTime", machine.created_at + 30 * crate::machine::DAY_MS);
    } else {
        row.raw("endTime", "\"-1\"");
    }
    row.time("createdAt", machine.created_at);
    row.time("lastStartedAt", machine.last_started_at);
    row.time("lastStoppedAt", machine.last_stopped_at);
    if row.has(quirk::EXTRA) {
        row.raw("gpuIds", "[3]");
        row.raw("templateId", "1234");
        row.raw("useTime", "\"7200\"");
        row.raw("isApiInstance", "false");
        row.raw("futureField", "{\"nested\":[1,null,\"x\"]}");
    } else {
        row.raw("gpuIds", "[3]");
        row.raw("templateId", "\"\"");
    }
}

/// The answer of GET (fact sheet, section 2.2). `jobs` are id and type of those it shows.
pub(crate) fn instance(machine: &Machine, endpoints: &[(u16, String)], jobs: &[(&str, &str)], wire: &Wire) -> String {
    let mut row = Object::new(machine.quirks);
    row.text(if wire.get_wrapped { "Id" } else { "id" }, &machine.id);
    shared(&mut row, machine, endpoints);
    if !wire.get_omits {
        row.text("productName", machine.product_name.as_deref().unwrap_or_default());
        spot(&mut row, machine);
    }
    let ip = if machine.network_id.is_empty() { "" } else { "10.0.0.7" };
    row.raw("network", json!({"id": machine.network_id, "ip": ip}));
    let is_object = row.has(quirk::EXTRA);
    row.raw("node", if is_object { "{\"maxRootfsSize\":200}" } else { "[{\"maxRootfsSize\":200}]" });
    row.raw("jobs", Value::Array(jobs.iter().map(|(id, kind)| json!({"id": id, "type": kind})).collect()));
    let is_running = machine.status == "running";
    row.raw(
        "connectComponentSSH",
        json!({"sshCommand": "ssh -p 30022 root@host.example", "password": format!("ssh-secret-{}", machine.id),
            "isRunning": is_running}),
    );
    row.raw(
        "connectComponentJupyter",
        json!({"port": 8888, "address": "https://jupyter.example", "isRunning": is_running}),
    );
    row.raw("freeStorageSize", 60);
    row.raw("keepDataDay", 7);
    if machine.price > 0 && !wire.get_omits_price {
        row.raw("instancePrice", format_args!("\"{}\"", machine.price));
    }
    row.text("version", if machine.product_id.ends_with(".v2") { "v2" } else { "v1" });
    row.raw("autoMigrateOpen", "false");
    row.raw("autoMigrateSystemDisk", "false");
    let row = row.end();
    if wire.get_wrapped { format!("{{\"instance\":{row}}}") } else { row }
}

/// A row of the job list (fact sheet, section 2.6).
pub(crate) fn job(job: &JobRow, id_key: &str) -> String {
    let mut row = Object::new(job.quirks);
    row.text(id_key, &job.id);
    row.text("user", "u-1");
    row.text("type", &job.kind);
    row.raw(
        "envs",
        if row.has(quirk::EXTRA) { "[\"MODE=batch\"]" } else { "[{\"key\":\"MODE\",\"value\":\"batch\"}]" },
    );
    let mut state = Object::new(job.quirks);
    state.text("state", &job.state);
    match (state.has(quirk::JOB_ERROR), state.has(quirk::JOB_MESSAGE)) {
        (true, _) => state.optional("error", &job.error),
        (false, true) => state.optional("message", &job.error_message),
        (false, false) => {
            state.optional("error", &job.error);
            state.optional("errorMessage", &job.error_message);
        }
    }
    row.raw("state", state.end());
    row.optional("logAddress", "");
    row.time("createdAt", job.created_at);
    row.text("instanceId", &job.instance_id);
    if row.has(quirk::EXTRA) {
        row.raw("maxRetry", 3);
        row.text("timeout", "3600s");
        row.raw("deletedTime", "null");
    }
    row.end()
}

/// A product, and how many instances as asked for are said to be left of it, if anything is said (fact sheet, section
/// 2.7).
pub(crate) fn product(product: &Product, clusters: &[Cluster], left: Option<u32>, loose: bool) -> Value {
    let inventory = left.map(|left| match left {
        0 => "none",
        1..=4 => "low",
        5..=20 => "normal",
        _ => "high",
    });
    let regions: Vec<_> = clusters
        .iter()
        .filter(|cluster| product.clusters.contains(&cluster.id))
        .map(|cluster| format!("{} (Somewhere)", cluster.name))
        .collect();
    let mut value = json!({
        "id": product.id, "name": product.name, "cpuPerGpu": product.cpu_per_gpu,
        "memoryPerGpu": product.memory_per_gpu, "diskPerGpu": 60, "availableDeploy": left.map(|left| left > 0),
        "inventoryState": inventory, "minRootFS": 10, "maxRootFS": product.max_rootfs, "minLocalStorage": 0,
        "maxLocalStorage": 0, "regions": regions, "price": product.price.to_string(),
        "monthlyPrice": [{"price": (product.price * 500).to_string(), "month": 1}],
    });
    match product.spot_price {
        Some(price) => {
            value["spotPrice"] = price.to_string().into();
            value["billingMethods"] = json!(["onDemand", "monthly", "spot"]);
        }
        None => value["spotPrice"] = "0".into(),
    }
    if loose {
        value["cpuPerGpu"] = product.cpu_per_gpu.to_string().into();
        value["memoryPerGpu"] = product.memory_per_gpu.to_string().into();
        value["price"] = product.price.into();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("inventoryState");
            fields.remove("billingMethods");
            fields.retain(|key, value| key != "spotPrice" || value != "0");
        }
        // Docs print an object there.
        if product.clusters.is_empty() {
            value["regions"] = json!({});
        }
    }
    value
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, reason: &'static str, message: &str) -> Self {
        Self { status, reason: Cow::Borrowed(reason), message: message.to_owned() }
    }

    /// The words for an unknown id, with the provider's own spelling.
    pub(crate) fn not_found() -> Self {
        Self::new(400, "RESOURCE_NOT_FOUND", "instance not fount")
    }

    /// The action is not legal now.
    pub(crate) fn invalid_state() -> Self {
        Self::new(400, "CONFLICT", "invalid state change")
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(400, "VALIDATOR_PARAM", message)
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.reason == "RESOURCE_NOT_FOUND"
    }

    pub(crate) fn into_not_found(mut self, wire: &Wire) -> Answer {
        match wire.not_found {
            NotFound::Reason => self.into_answer(wire.errors),
            NotFound::Text404 => Answer::text(404, "404 page not found"),
            NotFound::Reason404 => {
                self.status = 404;
                self.into_answer(wire.errors)
            }
        }
    }

    pub(crate) fn into_answer(self, shape: ErrorShape) -> Answer {
        let Self { status, reason, message } = self;
        let body = match shape {
            ErrorShape::Reason => json!({"code": status, "reason": reason, "message": message, "metadata": {}}),
            ErrorShape::CodeText => json!({"code": reason, "message": message}),
            ErrorShape::Message => json!({"message": format!("{reason}: {message}")}),
            ErrorShape::Nested => json!({"error": {"code": reason, "message": message}}),
            ErrorShape::ErrorText => json!({"error": format!("{reason}: {message}")}),
            ErrorShape::Text => return Answer::text(status, &format!("{reason}: {message}")),
            ErrorShape::Empty => return Answer::text(status, ""),
        };
        Answer { status, ..Answer::json(body.to_string()) }
    }
}
