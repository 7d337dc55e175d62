//! The control endpoints of the server under `/sim/`: for people with curl, and for tests in other processes.
//!
//! | Call | What it does |
//! |---|---|
//! | `GET state` | everything there is and ever was: `instances`, `requests`, `counts`, `nowMs` |
//! | `GET log` | all calls |
//! | `POST advance?ms=N` | lets time pass |
//! | `POST reclaim?id=ID`, `reclaim-now?id=ID`, `reclaim-zone?zone=Z`, `call-off-reclaim?id=ID` | EC2 takes it back, or not |
//! | `POST user-terminates?id=ID`, `user-stops?id=ID`, `shuts-down-inside?id=ID` | somebody else ends it |
//! | `POST unlist?id=ID` | its row is gone |
//! | `POST launch-dies?code=C` | the next launch succeeds, its instance dies |
//! | `POST room?type=T&zone=Z[&n=N][&market=spot\|on-demand]` | places left; no limit without `n` |
//! | `POST price?type=T&zone=Z&price=P` | the spot price from now on |
//! | `POST on-demand-price?type=T&zone=Z&price=P` | the on-demand price from now on |
//! | `POST disrupt?zone=Z`, `restore?zone=Z` | listings fail, or work again |
//! | `POST cpu?id=ID&percent=P`, `gpu-load?id=ID&percent=P` | how busy it is from now on |
//! | `POST target-group?name=N[&region=R]` | one more target group; tells its `arn` |
//! | `POST register?arn=A&id=ID`, `deregister?arn=A&id=ID` | as a call would |
//! | `POST unhealthy?id=ID[&is=false]` | it fails its health checks, or passes them again |
//! | `GET target-log` | all changes of the states of targets |
//! | `POST protected?id=ID[&from=stop][&is=false]` | it cannot be terminated, or stopped, or can again |
//! | `POST quota?market=spot\|on-demand&group=G&vcpus=N[&region=R]` | the vCPUs of a quota |
//! | `POST deny?action=A`, `allow?action=A` | the user may not call it, or may again |
//! | `POST fault`, the rule as the body | adds a rule to what goes wrong |
//! | `POST clear-faults` | forgets all rules |
//! | `POST add?name=N[&lifecycle=spot\|on-demand][&type=T][&zone=Z][&cpu=P][&gpu-load=P]` | an instance that exists already; tells its `id` |

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::catalog::Kind;
use crate::fault::Fault;
use crate::log::Entry;
use crate::machine::{EndedBy, Instance, Lifecycle};
use crate::spec::Spec;
use crate::spot::SpotRequest;
use crate::targets::{TargetChange, TargetGroup, TargetState};
use crate::world::World;

/// What a control call gets.
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) text: String,
}

impl Said {
    fn json(value: &Value) -> Self {
        Self { status: 200, content_type: "application/json", text: value.to_string() }
    }

    fn refusal(status: u16, why: impl Display) -> Self {
        Self { status, content_type: "text/plain", text: why.to_string() }
    }
}

/// Carries out a control call; `path` is what follows `/sim/`.
pub(crate) fn steer(world: &mut World, path: &str, query: &str, body: &[u8]) -> Said {
    let query = Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect());
    steered(world, path, &query, body).unwrap_or_else(|refusal| refusal)
}

fn steered(world: &mut World, path: &str, query: &Query, body: &[u8]) -> Result<Said, Said> {
    let happened = match path {
        "state" => return Ok(Said::json(&state(world))),
        "log" => return Ok(Said::json(&world.log().iter().map(entry).collect())),
        "advance" => {
            world.advance(query.parsed("ms")?);
            true
        }
        "reclaim" => world.reclaim(query.need("id")?),
        "reclaim-now" => world.reclaim_now(query.need("id")?),
        "call-off-reclaim" => world.call_off_reclaim(query.need("id")?),
        "reclaim-zone" => return Ok(Said::json(&json!({"reclaimed": world.reclaim_zone(query.need("zone")?)}))),
        "user-terminates" => world.user_terminates(query.need("id")?),
        "user-stops" => world.user_stops(query.need("id")?),
        "shuts-down-inside" => world.shuts_down_inside(query.need("id")?),
        "unlist" => world.unlist(query.need("id")?),
        "launch-dies" => {
            world.launch_dies_with(query.need("code")?);
            true
        }
        "room" => {
            let (kind, zone) = pool(world, query)?;
            let places = query.get("n").map(|_| query.parsed("n")).transpose()?;
            match query.lifecycle("market")? {
                Lifecycle::Spot => world.set_room(kind, zone, places),
                Lifecycle::OnDemand => world.set_on_demand_room(kind, zone, places),
            }
            true
        }
        "price" => {
            let (kind, zone) = pool(world, query)?;
            let price = query.need("price")?;
            let _: f64 = query.parsed("price")?;
            world.set_spot_price(kind, zone, price);
            true
        }
        "on-demand-price" => {
            let (kind, zone) = pool(world, query)?;
            let price = query.need("price")?;
            let _: f64 = query.parsed("price")?;
            world.set_on_demand_price(kind, zone, price);
            true
        }
        "cpu" => world.set_cpu(query.need("id")?, query.parsed("percent")?),
        "gpu-load" => world.set_gpu_load(query.need("id")?, query.parsed("percent")?),
        "target-log" => return Ok(Said::json(&world.target_log().iter().map(target_change).collect())),
        "target-group" => {
            let region = known_region(world, query)?;
            let arn = world.add_target_group_in(&region, query.need("name")?);
            return Ok(Said::json(&json!({"arn": arn})));
        }
        "register" => world.register(query.need("arn")?, query.need("id")?),
        "deregister" => world.deregister(query.need("arn")?, query.need("id")?),
        "unhealthy" => {
            let id = query.need("id")?;
            world.set_unhealthy(id, query.is()?);
            world.instance(id).is_some()
        }
        "protected" => match query.get("from").unwrap_or("termination") {
            "stop" => world.set_stop_protected(query.need("id")?, query.is()?),
            _ => world.set_protected(query.need("id")?, query.is()?),
        },
        "quota" => {
            let region = known_region(world, query)?;
            world.set_quota(&region, query.lifecycle("market")?, query.need("group")?, query.parsed("vcpus")?);
            true
        }
        "deny" => {
            world.deny(query.need("action")?);
            true
        }
        "allow" => {
            world.allow(query.need("action")?);
            true
        }
        "disrupt" => {
            world.disrupt_zone(known_zone(world, query)?);
            true
        }
        "restore" => {
            world.restore_zone(known_zone(world, query)?);
            true
        }
        "fault" => {
            let fault: Fault = String::from_utf8_lossy(body).parse().map_err(|error| Said::refusal(400, error))?;
            world.fault(fault);
            true
        }
        "clear-faults" => {
            world.clear_faults();
            true
        }
        "add" => return add(world, query),
        _ => return Err(Said::refusal(404, "there is no such control call")),
    };
    if happened { Ok(Said::json(&json!({}))) } else { Err(Said::refusal(409, "that cannot happen to it")) }
}

fn add(world: &mut World, query: &Query) -> Result<Said, Said> {
    let name = query.need("name")?;
    let mut spec = match query.lifecycle("lifecycle")? {
        Lifecycle::Spot => Spec::spot(name),
        Lifecycle::OnDemand => Spec::on_demand(name),
    };
    if let Some(kind) = query.get("type") {
        spec = spec.kind(known_kind(kind)?);
    }
    if query.get("zone").is_some() {
        spec = spec.zone(known_zone(world, query)?);
    }
    if query.get("cpu").is_some() {
        spec = spec.cpu(query.parsed("cpu")?);
    }
    if query.get("gpu-load").is_some() {
        spec = spec.gpu_load(query.parsed("gpu-load")?);
    }
    Ok(Said::json(&json!({"id": world.add(spec)})))
}

fn pool<'a>(world: &World, query: &'a Query) -> Result<(&'a str, &'a str), Said> {
    Ok((known_kind(query.need("type")?)?, known_zone(world, query)?))
}

fn known_kind(name: &str) -> Result<&str, Said> {
    Kind::named(name).map(|_| name).ok_or_else(|| Said::refusal(400, format_args!("there is no type {name:?}")))
}

fn known_zone<'a>(world: &World, query: &'a Query) -> Result<&'a str, Said> {
    let zone = query.need("zone")?;
    let is_known = world.regions.iter().any(|region| region.zone(zone).is_some());
    if is_known { Ok(zone) } else { Err(Said::refusal(400, format_args!("there is no zone {zone:?}"))) }
}

/// The region that is named, or the first one.
fn known_region(world: &World, query: &Query) -> Result<String, Said> {
    let name = query.get("region").unwrap_or(&world.home().name);
    let region = world.region(name).map(|region| region.name.clone());
    region.ok_or_else(|| Said::refusal(400, format_args!("there is no region {name:?}")))
}

struct Query(Vec<(String, String)>);

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &str) -> Result<&str, Said> {
        self.get(name).ok_or_else(|| Said::refusal(400, format_args!("{name} is missing")))
    }

    /// Whether something is to be so, which it is unless `is` says otherwise.
    fn is(&self) -> Result<bool, Said> {
        self.get("is").map_or(Ok(true), |_| self.parsed("is"))
    }

    /// Spot unless it says otherwise.
    fn lifecycle(&self, name: &str) -> Result<Lifecycle, Said> {
        match self.get(name).unwrap_or("spot") {
            "spot" => Ok(Lifecycle::Spot),
            "on-demand" => Ok(Lifecycle::OnDemand),
            other => Err(Said::refusal(400, format_args!("{other:?} is neither spot nor on-demand"))),
        }
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, Said> {
        let text = self.need(name)?;
        text.parse().map_err(|_| Said::refusal(400, format_args!("{name}={text} is not valid")))
    }
}

fn state(world: &World) -> Value {
    json!({
        "nowMs": world.now_ms(),
        "account": crate::region::ACCOUNT,
        "regions": world.regions().collect::<Vec<_>>(),
        "instances": world.instances().map(instance).collect::<Vec<_>>(),
        "requests": world.requests().map(request).collect::<Vec<_>>(),
        "targetGroups": world.target_groups.iter().map(|group| target_group(world, group)).collect::<Vec<_>>(),
        "counts": {
            "living": world.living().count(),
            "launches": world.launches(),
            "terminations": world.terminations(),
            "calls": world.log().len(),
        },
    })
}

fn target_group(world: &World, group: &TargetGroup) -> Value {
    let targets = group.targets.iter().map(|target| {
        let state = world.state_of_target(target).map(TargetState::name);
        json!({"id": target.id, "port": target.port, "state": state})
    });
    json!({"arn": group.arn, "name": group.name, "region": group.region, "targets": targets.collect::<Vec<_>>()})
}

fn target_change(change: &TargetChange) -> Value {
    let TargetChange { at_ms, group, id, port, before, after } = change;
    let name = |state: &Option<TargetState>| state.map(TargetState::name);
    json!({"atMs": at_ms, "group": group, "id": id, "port": port, "before": name(before), "after": name(after)})
}

fn instance(instance: &Instance) -> Value {
    let ended_by = instance.ended_by.map(|by| match by {
        EndedBy::Reclaim => "reclaim",
        EndedBy::User => "user",
        EndedBy::Inside => "inside",
        EndedBy::LaunchFailure => "launch-failure",
        EndedBy::Api => "api",
    });
    json!({
        "id": instance.id,
        "name": instance.name(),
        "region": instance.region,
        "zone": instance.zone,
        "subnet": instance.subnet,
        "type": instance.kind,
        "state": instance.state.name(),
        "lifecycle": if instance.lifecycle == Lifecycle::Spot { "spot" } else { "on-demand" },
        "tags": instance.tags,
        "clientToken": instance.client_token,
        "userData": instance.user_data,
        "request": instance.request,
        "image": instance.facts.image,
        "groups": instance.facts.groups,
        "key": instance.facts.key,
        "profile": instance.facts.profile,
        "address": instance.interfaces.first().map(|interface| interface.address.clone()),
        "publicAddress": instance.interfaces.first().and_then(|interface| interface.public_address.clone()),
        "volumes": instance.disks.iter().map(|disk| json!({
            "device": disk.device, "id": disk.volume, "deleteOnTermination": disk.delete_on_termination,
        })).collect::<Vec<_>>(),
        "protected": instance.facts.protected,
        "stopProtected": instance.facts.stop_protected,
        "launchedMs": instance.launched_ms,
        "noticedMs": instance.noticed_ms,
        "endedMs": instance.ended_ms,
        "endedBy": ended_by,
        "stateReason": instance.state_reason.as_ref().map(|(code, _)| code),
        "rowGoneMs": instance.row_gone_ms,
    })
}

fn request(request: &SpotRequest) -> Value {
    json!({
        "id": request.id,
        "instance": request.instance,
        "region": request.region,
        "zone": request.zone(),
        "type": request.kind(),
        "state": request.state.name(),
        "code": request.code,
        "updatedMs": request.updated_ms,
        "persistent": request.persistent,
        "behavior": request.behavior.name(),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "atMs": entry.at_ms,
        "region": entry.region,
        "service": entry.service,
        "action": entry.action,
        "form": entry.form.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "status": entry.status,
        "code": entry.code,
        "tookEffect": entry.took_effect,
    })
}
