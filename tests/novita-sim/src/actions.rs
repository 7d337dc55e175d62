//! The calls that change something: what is refused, and what begins.

use serde_json::{Value, json};

use crate::api::{Answer, Op};
use crate::machine::{Fate, Machine, Product, Volume};
use crate::metrics::Load;
use crate::settings::{CreateAnswer, MigrateAnswer};
use crate::wire::Refusal;
use crate::world::World;

impl World {
    /// An action on one instance (fact sheet, section 2.4).
    pub(crate) fn act(&mut self, op: Op, body: &Value) -> Result<Answer, Refusal> {
        let id = body.get("instanceId").and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Refusal::invalid("instanceId is required"))?;
        let slot = self.slot(id).ok_or_else(Refusal::not_found)?;
        let machine = self.machine_at(slot).ok_or_else(Refusal::not_found)?;
        let status = machine.status.as_str();
        let is_busy = self.unfinished_jobs_of(id).next().is_some();
        let steps: (&'static str, &[&'static str]) = match op {
            Op::Migrate => return self.act_migrate(id, slot),
            Op::Delete if machine.billing_mode == "monthly" => {
                let message = "a monthly instance cannot be released";
                return Err(Refusal::new(400, "PREPAID_INSTANCE_NOT_SUPPORT_RELEASE", message));
            }
            Op::Delete if !machine.is_alive() || self.rules.refuse_delete_while.contains(&machine.status) => {
                return Err(Refusal::invalid_state());
            }
            Op::Delete => {
                self.remove(slot);
                return Ok(Answer::json("{}"));
            }
            Op::AutoMigrate => {
                let complete = ["autoMigrateOpen", "autoMigrateSystemDisk"].iter().all(|key| body[*key].is_boolean());
                let missing = || Refusal::invalid("autoMigrateOpen and autoMigrateSystemDisk are required");
                return complete.then(|| Answer::json("{}")).ok_or_else(missing);
            }
            Op::Start if status == "exited" && !is_busy => {
                self.can_pay()?;
                let (product, billing) = (&machine.product_id, &machine.billing_mode);
                if machine.node_taken || !self.has_room(product, billing, &machine.cluster_id, Some(id)) {
                    return Err(Refusal::new(400, "INSUFFICIENT_RESOURCE", "start instance error"));
                }
                ("toStart", &["starting", "running"])
            }
            Op::Stop if status == "running" && !is_busy => ("toStop", &["stopping", "exited"]),
            Op::Restart if status == "running" && !is_busy => ("toRestart", &["restarting", "running"]),
            _ => return Err(Refusal::invalid_state()),
        };
        let (first, then) = steps;
        let answer = Answer::json(json!({"instanceId": id, "state": first}).to_string());
        self.begin(slot, first, then);
        Ok(answer)
    }

    fn act_migrate(&mut self, id: &str, slot: usize) -> Result<Answer, Refusal> {
        let machine = self.machine_at(slot).ok_or_else(Refusal::not_found)?;
        let is_busy = self.unfinished_jobs_of(id).next().is_some();
        let is_notified = matches!(machine.spot_status.as_str(), "notified" | "reclaiming");
        if is_busy
            || !matches!(machine.status.as_str(), "running" | "exited")
            || is_notified && self.rules.refuse_notified
        {
            return Err(Refusal::invalid_state());
        }
        self.can_pay()?;
        let (no_stock, gpus) = (machine.fate == Fate::NoStock, machine.gpu_num);
        let (product, cluster) = (machine.product_id.clone(), machine.cluster_id.clone());
        let billing = machine.billing_mode.clone();
        let fits = !no_stock && self.has_room(&product, &billing, &cluster, Some(id));
        if !fits || !self.take_stock(&product, &billing, &cluster, gpus) {
            let reason = if self.rng.bool() { "INSUFFICIENT_RESOURCE" } else { "MIGRATE_INSUFFICIENT_RESOURCE" };
            return Err(Refusal::new(400, reason, "no node can host this spec"));
        }
        let job = self.migrate(slot);
        let answers = [MigrateAnswer::Empty, MigrateAnswer::Object, MigrateAnswer::JobId, MigrateAnswer::InstanceId];
        let answer = match self.rules.wire.migrate_answer {
            MigrateAnswer::Seeded => answers[self.rng.usize(..answers.len())],
            answer => answer,
        };
        Ok(match answer {
            MigrateAnswer::Empty | MigrateAnswer::Seeded => Answer::json(""),
            MigrateAnswer::Object => Answer::json("{}"),
            MigrateAnswer::JobId => Answer::json(json!({"jobId": job}).to_string()),
            MigrateAnswer::InstanceId => Answer::json(json!({"instanceId": id}).to_string()),
        })
    }

    /// A creation (fact sheet, section 2.3): the new id, and the answer.
    pub(crate) fn create_instance(&mut self, body: &Value) -> Result<(String, Answer), Refusal> {
        let mut wanted = parse_create(body)?;
        let product = self.products.iter().find(|product| product.id == wanted.product_id);
        let product = product.ok_or_else(|| Refusal::invalid("invalid productId"))?.clone();
        if wanted.rootfs_size > product.max_rootfs {
            return Err(Refusal::invalid("invalid rootfsSize"));
        }
        if wanted.billing_mode == "spot" && product.spot_price.is_none() {
            return Err(Refusal::new(400, "UNSUPPORTED_BILLING_MODE", "billing mode is not supported"));
        }
        wanted.cluster_id = self.place(&wanted, &product)?;
        self.can_pay()?;
        self.within_quotas(wanted.gpu_num)?;
        let (billing, cluster) = (&wanted.billing_mode, &wanted.cluster_id);
        if !self.has_room(&product.id, billing, cluster, None)
            || !self.take_stock(&product.id, billing, cluster, wanted.gpu_num)
        {
            return Err(Refusal::new(400, "INSUFFICIENT_RESOURCE", "no node can host this spec"));
        }
        if wanted.billing_mode == "spot"
            && let Some(lie) = self.lie_about_spot()
        {
            wanted.billing_mode = lie.into();
        }
        wanted.id = self.new_id();
        wanted.price = product.price_as(&wanted.billing_mode);
        let alike = self.ever().filter(|machine| machine.image_url == wanted.image_url).last();
        wanted.load = alike.map(|machine| machine.load).unwrap_or_default();
        wanted.product_name = Some(product.name);
        wanted.cpu_num = product.cpu_per_gpu * wanted.gpu_num;
        wanted.memory = product.memory_per_gpu * wanted.gpu_num;
        wanted.status = if product.id.ends_with(".v2") { "pending".into() } else { "toCreate".into() };
        wanted.created_at = self.now_ms();
        let id = wanted.id.clone();
        self.create(wanted);
        let key = match self.rules.wire.create_answer {
            CreateAnswer::LowerId => "id",
            CreateAnswer::CapitalId => "Id",
            CreateAnswer::Seeded => ["id", "Id"][self.rng.usize(..2)],
        };
        let answer = Answer::json(json!({key: id}).to_string());
        Ok((id, answer))
    }

    /// What a creation for spot becomes instead, if the rules have it so.
    fn lie_about_spot(&mut self) -> Option<&'static str> {
        let rules = &mut self.rules;
        let lie = rules.spot_creates_become?;
        match &mut rules.spot_creates_lied_about {
            None => Some(lie),
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(lie)
            }
        }
    }

    /// The cluster of a new instance: the one asked for, the one that its volumes and its network are in, or else any
    /// with stock; "" if there is none.
    fn place(&self, wanted: &Machine, product: &Product) -> Result<String, Refusal> {
        let mut place = wanted.cluster_id.as_str();
        if !place.is_empty() && !self.clusters.iter().any(|cluster| cluster.id == place) {
            return Err(Refusal::invalid("invalid clusterId"));
        }
        for volume in &wanted.volumes {
            // The sheet knows that the reasons begin with NETWORK_STORAGE_, not how they go on.
            let unknown = || Refusal::new(400, "NETWORK_STORAGE_NOT_FOUND", "network storage not found");
            let home = self.volumes.get(&volume.id).ok_or_else(unknown)?;
            if !place.is_empty() && place != home {
                let message = "network storage is in another cluster";
                return Err(Refusal::new(400, "NETWORK_STORAGE_CLUSTER_MISMATCH", message));
            }
            place = home;
        }
        if !wanted.network_id.is_empty() {
            let home = self.networks.get(&wanted.network_id).filter(|home| place.is_empty() || place == home.as_str());
            place = home.ok_or_else(|| Refusal::new(400, "NETWORK_NOT_FOUND", "network not found"))?;
        }
        if place.is_empty() {
            let mut clusters = self.clusters.iter().map(|cluster| cluster.id.as_str());
            place = clusters
                .find(|cluster| {
                    product.left_for(&wanted.billing_mode, cluster) >= wanted.gpu_num
                        && self.has_room(&product.id, &wanted.billing_mode, cluster, None)
                })
                .unwrap_or_default();
        }
        Ok(place.to_owned())
    }

    /// Whether the account may have so many GPUs more, in one instance more.
    fn within_quotas(&self, gpus: u32) -> Result<(), Refusal> {
        let alive = || self.machines().filter(|machine| machine.is_alive());
        if self.rules.instance_quota.is_some_and(|quota| alive().count() >= quota) {
            return Err(Refusal::new(400, "CREATE_INSTANCE_LIMIT", "too many instances"));
        }
        let in_use = || alive().map(|machine| machine.gpu_num).sum::<u32>();
        if self.rules.gpu_quota.is_some_and(|quota| in_use() + gpus > quota) {
            return Err(Refusal::new(400, "CREATE_GPU_NUM_LIMIT", "too many GPUs"));
        }
        Ok(())
    }

    /// Jobs under way can be broken, migrations cannot (fact sheet, section 2.6).
    pub(crate) fn break_job(&mut self, body: &Value) -> Result<Answer, Refusal> {
        let id = body.get("jobId").and_then(Value::as_str).ok_or_else(|| Refusal::invalid("jobId is required"))?;
        let job = self.jobs.iter_mut().find(|job| job.id == id);
        let job = job.ok_or_else(|| Refusal::new(400, "JOB_NOT_FOUND", "job not found"))?;
        if job.kind != "saveImage" || !job.is_unfinished() {
            return Err(Refusal::new(400, "MIGRATION_JOB_NOT_BREAKABLE", "the job cannot be broken"));
        }
        job.state = "break".into();
        Ok(Answer::json(json!({"jobId": id}).to_string()))
    }

    fn can_pay(&self) -> Result<(), Refusal> {
        let broke = || Refusal::new(400, "BALANCE_NOT_ENOUGH", "balance is not enough");
        self.rules.balance.then_some(()).ok_or_else(broke)
    }

    /// Takes so many GPUs of a product, if the cluster has them. Products of the past have what they need.
    fn take_stock(&mut self, product: &str, billing: &str, cluster: &str, gpus: u32) -> bool {
        let Some(product) = self.product_mut(product) else { return true };
        let is_there = product.left_for(billing, cluster) >= gpus;
        if is_there && product.stock != u32::MAX {
            product.stock -= gpus;
        }
        is_there
    }
}

/// Reads the body of a create as strictly as the provider.
fn parse_create(body: &Value) -> Result<Machine, Refusal> {
    let text = |key: &str, limit: usize| match &body[key] {
        Value::Null => Ok(String::new()),
        Value::String(text) if text.chars().count() <= limit => Ok(text.clone()),
        _ => Err(Refusal::invalid(&format!("invalid {key}"))),
    };
    let required = |key: &str, limit: usize| {
        let value = text(key, limit)?;
        if value.is_empty() { Err(Refusal::invalid(&format!("{key} is required"))) } else { Ok(value) }
    };
    let count = |key: &str, low: u64, high: u64| {
        let value = body[key].as_u64().filter(|value| (low..=high).contains(value));
        value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| Refusal::invalid(&format!("invalid {key}")))
    };
    let kind = required("kind", 8)?;
    let billing_mode = match text("billingMode", 16)?.as_str() {
        "" if body["month"].as_u64().is_some_and(|month| month > 0) => "monthly",
        "" | "onDemand" => "onDemand",
        "monthly" => "monthly",
        "spot" => "spot",
        _ => return Err(Refusal::invalid("invalid billingMode")),
    };
    if !matches!(kind.as_str(), "gpu" | "cpu") {
        return Err(Refusal::invalid("invalid kind"));
    }
    Ok(Machine {
        id: String::new(),
        name: text("name", 255)?,
        status: String::new(),
        billing_mode: billing_mode.into(),
        spot_status: String::new(),
        spot_reclaim_at: 0,
        cluster_id: text("clusterId", 255)?,
        cluster_name: String::new(),
        product_id: required("productId", 255)?,
        product_name: None,
        gpu_num: count("gpuNum", 1, 8)?,
        cpu_num: 0,
        memory: 0,
        rootfs_size: count("rootfsSize", 0, 6144)?.max(10),
        image_url: required("imageUrl", 500)?,
        image_auth_id: text("imageAuthId", 255)?,
        command: text("command", 2047)?,
        entrypoint: text("entrypoint", 2047)?,
        ports: parse_ports(&text("ports", 2047)?)?,
        volumes: parse_volumes(&body["networkStorages"])?,
        network_id: text("networkId", 255)?,
        envs: parse_envs(&body["envs"])?,
        kind,
        created_at: 0,
        first_ran_at: 0,
        last_started_at: 0,
        last_stopped_at: 0,
        fate: Fate::Seeded,
        node_taken: false,
        price: 0,
        load: Load::default(),
        quirks: 0,
    })
}

/// `80/http,3306/tcp`
fn parse_ports(text: &str) -> Result<Vec<(u16, String)>, Refusal> {
    let invalid = || Refusal::invalid("invalid ports");
    let ports = text.split(',').filter(|_| !text.is_empty()).map(|port| {
        let (port, kind) = port.split_once('/').ok_or_else(invalid)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0 && !(2222..=2224).contains(port));
        match (port, kind) {
            (Some(port), "http" | "tcp") => Ok((port, kind.to_owned())),
            _ => Err(invalid()),
        }
    });
    let ports = ports.collect::<Result<Vec<_>, _>>()?;
    if ports.len() <= 15 { Ok(ports) } else { Err(invalid()) }
}

fn items<'a>(value: &'a Value, key: &str, limit: usize) -> Result<&'a [Value], Refusal> {
    match value {
        Value::Null => Ok(&[]),
        Value::Array(items) if items.len() <= limit => Ok(items),
        _ => Err(Refusal::invalid(&format!("invalid {key}"))),
    }
}

fn parse_envs(value: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let pair = |item: &Value| {
        let text = |key: &str, limit: usize| item[key].as_str().filter(|text| text.chars().count() <= limit);
        let (key, value) = (text("key", 511)?, text("value", 4095)?);
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    let pairs = items(value, "envs", 100)?.iter().map(pair);
    pairs.map(|pair| pair.ok_or_else(|| Refusal::invalid("invalid envs"))).collect()
}

fn parse_volumes(value: &Value) -> Result<Vec<Volume>, Refusal> {
    let volume = |item: &Value| {
        let id = item["Id"].as_str().filter(|id| !id.is_empty())?;
        let mount_path = item["mountPoint"].as_str().unwrap_or("/network").to_owned();
        Some(Volume { kind: "network".into(), id: id.to_owned(), size: 100, mount_path })
    };
    let volumes = items(value, "networkStorages", 30)?.iter().map(volume);
    volumes.map(|volume| volume.ok_or_else(|| Refusal::invalid("invalid networkStorages"))).collect()
}
