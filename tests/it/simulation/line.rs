//! The line to the provider. It notes what a judge cannot read from the world in the end, and a broken build sees the world
//! through it as it is not.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use novita_sim::{InProcess, World};
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use serde_json::{Map, Value};

/// How a broken build sees the world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sight {
    #[default]
    Clear,
    /// Replacements are not recognised by their names.
    NoMarkers,
    /// A replacement runs from its creation on.
    RunsAtOnce,
    /// What was announced once stays announced.
    NoWithdrawals,
    /// What the last list lacked does not exist.
    OneLook,
    /// A quota is a rate.
    NoQuotas,
}

/// A spot market, and one question to it: whether it has room for so many GPUs.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) pass: u32,
    /// The product and the cluster.
    pub(super) market: (String, String),
    pub(super) gpus: u64,
    /// The instance to migrate, or the name of the one to create.
    pub(super) about: String,
    pub(super) sent_at: i64,
    /// When it was answered, and whether it had room. Anything else says nothing about room.
    pub(super) answer: Option<(i64, bool)>,
}

/// A deletion that was sent, and when the instance was last seen announced before.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    pub(super) id: String,
    pub(super) sent_at: i64,
    pub(super) announced_at: Option<i64>,
}

/// Everything that the line noted, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) asks: Vec<Ask>,
    pub(super) deletions: Vec<Deletion>,
    /// Creations by the name asked for, of every billing mode.
    pub(super) creations: Vec<(String, i64)>,
    /// Creations that a used up quota refused: the pass, the billing mode, when they were sent and answered.
    pub(super) quotas: Vec<(u32, String, i64, i64)>,
    /// When lists of products were answered.
    pub(super) offers_read: Vec<i64>,
    /// The passes that ended by themselves and left everything in the store.
    pub(super) ended: HashSet<u32>,
    /// When each instance was last announced to go.
    announced: HashMap<String, i64>,
    /// The announced end of each instance that was announced to go.
    pub(super) ends: HashMap<String, i64>,
    passes: u32,
}

/// The line. Clones share what it notes.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) inner: InProcess,
    pub(super) notes: Rc<RefCell<Notes>>,
    sight: Sight,
    pass: u32,
    /// What a row said when its reclaim was announced.
    announcements: Rc<RefCell<HashMap<String, Map<String, Value>>>>,
    last_list: Rc<RefCell<String>>,
}

impl Line {
    pub(super) fn new(world: World, sight: Sight) -> Self {
        let (inner, notes, announcements) = (InProcess::new(world), Rc::default(), Rc::default());
        Self { inner, notes, sight, pass: 0, announcements, last_list: Rc::default() }
    }

    /// The line of one more pass.
    pub(super) fn of_next_pass(&self) -> Self {
        let mut notes = self.notes.borrow_mut();
        notes.passes += 1;
        Self { pass: notes.passes, ..self.clone() }
    }

    /// The pass ended by itself, and the store took everything.
    pub(super) fn has_ended(&self) {
        self.notes.borrow_mut().ended.insert(self.pass);
    }

    /// Notes what is announced now. A listing may tell of it for some time after it was withdrawn.
    pub(super) fn note_announced(&self, world: &World) {
        let mut notes = self.notes.borrow_mut();
        let now = world.now_ms();
        for machine in world.machines().filter(|it| it.spot_reclaim_at != 0) {
            if machine.spot_status == "notified" {
                notes.announced.insert(machine.id.clone(), now);
            }
            notes.ends.insert(machine.id.clone(), machine.spot_reclaim_at);
        }
    }

    /// Notes what is sent. Answers the place of the question to a market, if it is one.
    fn sent(&self, request: &Request) -> Option<usize> {
        let world = self.inner.world();
        self.note_announced(&world);
        let mut notes = self.notes.borrow_mut();
        let now = world.now_ms();
        let body: Value = serde_json::from_str(request.body.as_deref()?).ok()?;
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let id = text("instanceId");
        let (market, gpus, about) = match request.path.rsplit('/').next()? {
            "delete" => {
                let announced_at = notes.announced.get(&id).copied();
                notes.deletions.push(Deletion { id, sent_at: now, announced_at });
                return None;
            }
            "create" => {
                notes.creations.push((text("name"), now));
                let is_spot = body["billingMode"] == "spot";
                is_spot.then(|| ((text("productId"), text("clusterId")), body["gpuNum"].as_u64(), text("name")))?
            }
            "migrate" => {
                let machine = world.get(&id)?;
                let market = (machine.product_id.clone(), machine.cluster_id.clone());
                (market, Some(u64::from(machine.gpu_num)), id)
            }
            _ => return None,
        };
        let gpus = gpus.unwrap_or(1);
        notes.asks.push(Ask { pass: self.pass, market, gpus, about, sent_at: now, answer: None });
        Some(notes.asks.len() - 1)
    }

    fn answered(&self, request: &Request, (ask, sent_at): (Option<usize>, i64), response: &Response) {
        let now = self.inner.world().now_ms();
        let mut notes = self.notes.borrow_mut();
        if request.path.ends_with("/products") {
            notes.offers_read.push(now);
        }
        if response.status == 429 && request.path.ends_with("/create") && says(response, "quota") {
            let body: Value = serde_json::from_str(request.body.as_deref().unwrap_or_default()).unwrap_or_default();
            notes.quotas.push((self.pass, body["billingMode"].to_string(), sent_at, now));
        }
        let Some(ask) = ask.and_then(|ask| notes.asks.get_mut(ask)) else { return };
        let has_room = match response.status {
            200 => Some(true),
            _ if says(response, "INSUFFICIENT_RESOURCE") => Some(false),
            _ => None,
        };
        ask.answer = has_room.map(|has_room| (now, has_room));
    }

    /// The row as a broken build sees it.
    fn misread(&self, row: &mut Map<String, Value>) {
        let text = |row: &Map<String, Value>, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
        let id = [text(row, "id"), text(row, "Id")].concat();
        match self.sight {
            Sight::Clear | Sight::NoMarkers | Sight::OneLook | Sight::NoQuotas => {}
            Sight::RunsAtOnce => {
                let comes_up = ["toCreate", "creating", "pending", "pulling"].contains(&text(row, "status").as_str());
                let is_replacement = text(row, "name").contains("-recreated-");
                if comes_up && is_replacement {
                    row.insert("status".into(), "running".into());
                }
            }
            Sight::NoWithdrawals => {
                let mut announcements = self.announcements.borrow_mut();
                if text(row, "spotStatus") == "notified" {
                    announcements.insert(id, row.clone());
                } else if let Some(told) = announcements.get(&id).filter(|_| text(row, "status") == "running") {
                    for key in ["spotStatus", "spotReclaimTime"] {
                        row.insert(key.into(), told[key].clone());
                    }
                }
            }
        }
    }

    fn misread_all(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.misread_all(item)),
            Value::Object(fields) => {
                if fields.contains_key("status") {
                    self.misread(fields);
                }
                fields.values_mut().for_each(|field| self.misread_all(field));
            }
            _ => {}
        }
    }
}

fn says(response: &Response, words: &str) -> bool {
    String::from_utf8_lossy(&response.body).contains(words)
}

impl Transport for Line {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let (ask, sent_at) = (self.sent(request), self.inner.world().now_ms());
        let mut response = self.inner.exchange(request).await?;
        self.answered(request, (ask, sent_at), &response);
        match self.sight {
            Sight::Clear => {}
            Sight::NoQuotas => {
                response.body = String::from_utf8_lossy(&response.body).replace("quota", "rate").into_bytes();
            }
            Sight::OneLook if request.path.ends_with("/instances") => {
                *self.last_list.borrow_mut() = String::from_utf8_lossy(&response.body).into_owned();
            }
            Sight::OneLook if request.path.ends_with("/instance") => {
                let asked = request.query.iter().find(|(key, _)| *key == "instanceId");
                if asked.is_some_and(|(_, id)| !self.last_list.borrow().contains(id.as_str())) {
                    (response.status, response.body) = (404, br#"{"reason":"RESOURCE_NOT_FOUND"}"#.to_vec());
                }
            }
            Sight::OneLook => {}
            Sight::NoMarkers => {
                let body = String::from_utf8_lossy(&response.body).replace("-recreated-", "-forgotten-");
                response.body = body.into_bytes();
            }
            Sight::RunsAtOnce | Sight::NoWithdrawals => {
                if let Ok(mut body) = serde_json::from_slice::<Value>(&response.body) {
                    self.misread_all(&mut body);
                    response.body = body.to_string().into_bytes();
                }
            }
        }
        Ok(response)
    }
}
