//! The control endpoints of the server under `/sim/`: for people with curl, and for tests in other processes.
//!
//! | Call | What it does |
//! |---|---|
//! | `GET world` | everything there is and ever was: `instances`, `gone`, `jobs`, `log`, `products`, `apps`, `nowMs` |
//! | `POST advance?ms=N` | lets time pass |
//! | `POST fault`, the rule as the body | adds a rule to the fault script |
//! | `POST clear-faults` | forgets all rules |
//! | `POST status?id=ID&status=S` | sets a status for good |
//! | `POST stop?id=ID`, `vanish?id=ID` | its user stops it, it is gone |
//! | `POST reclaim?id=ID`, `reclaim-now?id=ID`, `reclaim-wave?percent=N` | the provider takes it back |
//! | `POST stock?gpus=N[&product=ID]` | sets the stock of one product or of all |
//! | `POST sold-out?product=ID[&clusters=A,B]` | where it is sold out, instead of what was said before |
//! | `POST spot-sold-out?product=ID[&sold-out=false]` | whether it is sold out for spot alone |
//! | `POST price?product=ID&price=N[&spot=N]` | what it costs from now on; without `spot` it is not sold as spot |
//! | `POST billing?id=ID&mode=M` | sets a billing mode behind everybody's back |
//! | `POST app?image=URL` or `app?id=ID`, the script as the body | every machine of this image, or of this instance's image, runs this application on a port that it exposes |
//! | `POST remove-apps?image=URL` or `remove-apps?id=ID` | they run nothing any more |
//! | `POST hint-lies?product=ID[&lies=false]` | whether the product list claims plenty |
//! | `POST withdraw?product=ID` | the provider does not sell it any more |

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::api::Answer;
use crate::app::App;
use crate::fault::Fault;
use crate::machine::{JobRow, Machine, Product};
use crate::world::{Entry, Outcome, World};

/// Carries out a control call; `path` is what follows `/sim/`.
pub(crate) fn steer(world: &mut World, path: &str, query: &[(String, String)], body: &[u8]) -> Answer {
    steered(world, path, &Parameters(query), body).unwrap_or_else(|answer| answer)
}

fn steered(world: &mut World, path: &str, query: &Parameters, body: &[u8]) -> Result<Answer, Answer> {
    let id = query.get("id").unwrap_or_default();
    let is_known = match path {
        "world" => return Ok(Answer::json(dump(world).to_string())),
        "advance" => {
            world.advance(query.parsed("ms")?);
            true
        }
        "fault" => {
            let fault: Fault = String::from_utf8_lossy(body).parse().map_err(bad)?;
            world.fault(fault);
            true
        }
        "clear-faults" => {
            world.clear_faults();
            true
        }
        "status" => world.set_status(id, query.text("status")?),
        "stop" => world.user_stop(id),
        "vanish" => world.vanish(id),
        "reclaim" => world.reclaim(id),
        "reclaim-now" => world.reclaim_now(id),
        "reclaim-wave" => {
            let ids = world.reclaim_wave(query.parsed::<f64>("percent")? / 100.0);
            return Ok(Answer::json(json!(ids).to_string()));
        }
        "stock" if query.get("product").is_none() => {
            world.set_stock(query.parsed("gpus")?);
            true
        }
        "stock" => {
            let gpus = query.parsed("gpus")?;
            change_product(world, query, |product| product.stock = gpus)?
        }
        "sold-out" => {
            let clusters = query.get("clusters").unwrap_or_default().split(',').filter(|id| !id.is_empty());
            let clusters: Vec<_> = clusters.map(str::to_owned).collect();
            change_product(world, query, |product| product.sold_out_in = clusters)?
        }
        "hint-lies" => {
            let lies = if query.get("lies").is_some() { query.parsed("lies")? } else { true };
            change_product(world, query, |product| product.hint_lies = lies)?
        }
        "spot-sold-out" => {
            let sold_out = if query.get("sold-out").is_some() { query.parsed("sold-out")? } else { true };
            change_product(world, query, |product| product.spot_sold_out = sold_out)?
        }
        "price" => {
            let spot_price = query.get("spot").map(|_| query.parsed("spot")).transpose()?;
            world.set_price(query.text("product")?, query.parsed("price")?, spot_price)
        }
        "billing" => {
            let mode = query.text("mode")?.to_owned();
            world.edit(id, |machine| machine.billing_mode = mode)
        }
        "app" => {
            let app: App = String::from_utf8_lossy(body).parse().map_err(bad)?;
            image(world, query)?.map(|image| world.set_app(&image, app)).is_some()
        }
        "remove-apps" => image(world, query)?.map(|image| world.remove_apps(&image)).is_some(),
        "withdraw" => world.withdraw_product(query.text("product")?).is_some(),
        _ => return Err(Answer::text(404, "404 page not found")),
    };
    if is_known { Ok(Answer::json("{}")) } else { Err(Answer::text(404, "there is none with this id")) }
}

fn change_product(world: &mut World, query: &Parameters, change: impl FnOnce(&mut Product)) -> Result<bool, Answer> {
    Ok(world.product_mut(query.text("product")?).map(change).is_some())
}

/// The image that a call names, by itself or by an instance; `None` if there is no such instance.
fn image(world: &World, query: &Parameters) -> Result<Option<String>, Answer> {
    match query.get("image") {
        Some(image) => Ok(Some(image.to_owned())),
        None => Ok(world.get(query.text("id")?).map(|machine| machine.image_url.clone())),
    }
}

fn bad(why: impl Display) -> Answer {
    Answer::text(400, &why.to_string())
}

/// The query of a control call.
struct Parameters<'a>(&'a [(String, String)]);

impl Parameters<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Result<&str, Answer> {
        self.get(name).ok_or_else(|| bad(format_args!("{name}=... is missing")))
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, Answer> {
        let text = self.text(name)?;
        text.parse().map_err(|_| bad(format_args!("{name}={text} makes no sense")))
    }
}

fn dump(world: &World) -> Value {
    let instances: Vec<_> = world.machines().map(instance).collect();
    let gone: Vec<_> = world.gone().map(instance).collect();
    let jobs: Vec<_> = world.jobs().iter().map(job).collect();
    let log: Vec<_> = world.log().iter().map(entry).collect();
    let products: Vec<_> = world.products().iter().map(product).collect();
    let apps = world
        .apps
        .iter()
        .flat_map(|(image, apps)| apps.iter().map(move |app| json!({"image": image, "app": app.to_string()})));
    let apps: Vec<_> = apps.collect();
    json!({"nowMs": world.now_ms(), "instances": instances, "gone": gone, "jobs": jobs, "log": log,
        "products": products, "apps": apps})
}

fn instance(machine: &Machine) -> Value {
    let volumes: Vec<_> = machine.volumes.iter().map(|it| json!({"id": it.id, "mountPath": it.mount_path})).collect();
    let ports: Vec<_> = machine.ports.iter().map(|(port, kind)| format!("{port}/{kind}")).collect();
    let envs: Vec<_> = machine.envs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"id": machine.id, "name": machine.name, "status": machine.status, "billingMode": machine.billing_mode,
        "spotStatus": machine.spot_status, "clusterId": machine.cluster_id, "productId": machine.product_id,
        "gpuNum": machine.gpu_num, "price": machine.price, "rootfsSize": machine.rootfs_size, "imageUrl": machine.image_url,
        "imageAuthId": machine.image_auth_id, "command": machine.command, "entrypoint": machine.entrypoint,
        "ports": ports, "envs": envs, "volumes": volumes, "networkId": machine.network_id, "kind": machine.kind,
        "createdAtMs": machine.created_at, "firstRanAtMs": machine.first_ran_at,
        "lastStartedAtMs": machine.last_started_at, "lastStoppedAtMs": machine.last_stopped_at})
}

fn job(job: &JobRow) -> Value {
    json!({"id": job.id, "type": job.kind, "state": job.state, "instanceId": job.instance_id,
        "createdAtMs": job.created_at})
}

fn entry(entry: &Entry) -> Value {
    let outcome = match &entry.outcome {
        Outcome::Applied => "applied".into(),
        Outcome::Refused(status, reason) => format!("refused {status} {reason}"),
        Outcome::Lost => "lost".into(),
    };
    json!({"atMs": entry.at_ms, "op": entry.op.as_str(), "instance": entry.instance, "name": entry.name,
        "outcome": outcome})
}

fn product(product: &Product) -> Value {
    json!({"id": product.id, "stock": product.stock, "soldOutIn": product.sold_out_in, "hintLies": product.hint_lies,
        "spotSoldOut": product.spot_sold_out, "price": product.price, "spotPrice": product.spot_price})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Spec;

    #[test]
    fn everything_can_be_steered_and_read() {
        let mut world = World::new(1);
        for id in ["a", "b", "c", "d"] {
            world.add(Spec::running(&format!("train-{id}")).id(id).network("vpc-1"));
        }
        // Call and body, status; where the world then says what.
        for (call, body, status, pointer, value) in [
            ("advance?ms=5000", "", 200, "/nowMs", json!(crate::DAWN_MS + 5_000)),
            ("advance", "", 400, "", json!(null)),
            ("advance?ms=soon", "", 400, "", json!(null)),
            ("status?id=a&status=migrating", "", 200, "/instances/0/status", json!("migrating")),
            ("status?id=a", "", 400, "/instances/0/status", json!("migrating")),
            ("status?id=z&status=exited", "", 404, "", json!(null)),
            ("stop?id=b", "", 200, "/instances/1/lastStoppedAtMs", json!(crate::DAWN_MS + 5_000)),
            ("reclaim?id=c", "", 200, "/instances/2/spotStatus", json!("notified")),
            ("reclaim-now?id=d", "", 200, "/instances/3/status", json!("exited")),
            ("reclaim-wave?percent=0", "", 200, "/instances/2/status", json!("running")),
            ("reclaim-wave", "", 400, "", json!(null)),
            ("vanish?id=a", "", 200, "/gone/0/name", json!("train-a")),
            ("vanish?id=a", "", 404, "/gone/0/networkId", json!("vpc-1")),
            ("stock?gpus=7", "", 200, "/products/1/stock", json!(7)),
            ("stock?gpus=3&product=4090.16c62g", "", 200, "/products/0/stock", json!(3)),
            ("stock?gpus=3&product=none", "", 404, "/products/1/stock", json!(7)),
            ("stock?product=4090.16c62g", "", 400, "", json!(null)),
            ("sold-out?product=4090.16c62g&clusters=a,b", "", 200, "/products/0/soldOutIn", json!(["a", "b"])),
            ("sold-out?product=4090.16c62g", "", 200, "/products/0/soldOutIn", json!([])),
            ("hint-lies?product=4090.16c62g", "", 200, "/products/0/hintLies", json!(true)),
            ("hint-lies?product=4090.16c62g&lies=false", "", 200, "/products/0/hintLies", json!(false)),
            ("spot-sold-out?product=4090.16c62g", "", 200, "/products/0/spotSoldOut", json!(true)),
            ("spot-sold-out?product=4090.16c62g&sold-out=false", "", 200, "/products/0/spotSoldOut", json!(false)),
            ("price?product=4090.16c62g&price=5&spot=3", "", 200, "/products/0/spotPrice", json!(3)),
            ("price?product=4090.16c62g&price=5", "", 200, "/products/0/spotPrice", json!(null)),
            ("price?product=4090.16c62g&price=5&spot=x", "", 400, "/products/0/price", json!(5)),
            ("price?product=none&price=5", "", 404, "", json!(null)),
            ("billing?id=c&mode=onDemand", "", 200, "/instances/1/billingMode", json!("onDemand")),
            ("billing?id=z&mode=onDemand", "", 404, "", json!(null)),
            ("billing?id=c", "", 400, "", json!(null)),
            ("app?image=web:1", "http:8080", 200, "/apps/0", json!({"image": "web:1", "app": "http:8080 base=20ms"})),
            ("app?id=c", "tcp:8080", 200, "/apps/0/image", json!("registry.example/team/app:1.4")),
            ("app?id=z", "tcp:8080", 404, "", json!(null)),
            ("app?image=web:1", "http:80 colour=red", 400, "", json!(null)),
            ("app", "http:80", 400, "", json!(null)),
            ("remove-apps?id=c", "", 200, "/apps/0/image", json!("web:1")),
            ("remove-apps?image=web:1", "", 200, "/apps", json!([])),
            ("withdraw?product=4090.16c62g", "", 200, "/products/0/id", json!("4090.12c50g.v2")),
            ("withdraw?product=4090.16c62g", "", 404, "", json!(null)),
            ("fault", "create/web-*:late=400000*1", 200, "", json!(null)),
            ("fault", "create", 400, "", json!(null)),
            ("clear-faults", "", 200, "", json!(null)),
            ("explode", "", 404, "", json!(null)),
        ] {
            let (path, query) = call.split_once('?').unwrap_or((call, ""));
            let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let answer = steer(&mut world, path, &query, body.as_bytes());
            assert_eq!(answer.status, status, "{call}: {}", String::from_utf8_lossy(&answer.body));
            let story = steer(&mut world, "world", &[], b"").body;
            let story: Value = serde_json::from_slice(&story).expect("json");
            assert!(pointer.is_empty() || story.pointer(pointer) == Some(&value), "{call}: {story}");
        }
    }
}
