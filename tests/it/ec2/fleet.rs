//! A simulated account, a store, and passes over both.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ec2_sim::{DAWN_MS, Delivery, Instance, World};
use respot::act::{self, Limits};
use respot::cli::RolloutVerb;
use respot::clock::Clock;
use respot::cloud::ec2::client::{Ec2Client, FleetTerms};
use respot::cloud::ec2::transport::form_of;
use respot::cloud::transport::{Request, Response, Transport, TransportError};
use respot::commands::Failure;
use respot::commands::analyze::analyze;
use respot::commands::rollout::{self, Drive, Stepped};
use respot::commands::run::{self, Ended, Ran};
use respot::core::pass::safety::BlastRadius;
use respot::core::rollout::analysis::Analysis;
use respot::core::rollout::course::Course;
use respot::core::rollout::findings::Terms;
use respot::core::world::money::Usd;
use respot::core::world::policy::{Eligibility, OptIn, Policy, Retirement, StandIns};
use respot::core::world::time::Timestamp;
use respot::credentials::aws::{AwsService, Protocol};
use respot::notify::NoReceiver;
use respot::report::Silent;
use respot::stop::Stop;
use respot::store::LEASE_LIFE;
use respot::store::records::Mode;
use respot::store::sqlite::SqliteStore;
use tokio::time::{Instant, sleep};

use super::moves::{Answers, terms};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// How long an exchange takes.
const LATENCY: Duration = Duration::from_millis(40);

/// Runs a story in virtual time.
pub(crate) fn story(tale: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(tale);
}

/// A deliberately broken build, made at the seam of the good one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Broken {
    #[default]
    No,
    /// Each attempt at a launch has a token of its own.
    TokenForgotten,
    /// What was reclaimed is believed to have been ended by its user.
    ReclaimTakenForUser,
    /// What an instance is made of is read when it has ended.
    ReadAtTheEnd,
}

struct Account {
    world: RefCell<World>,
    synced: Cell<Instant>,
    /// Regions that cannot be reached.
    cut_off: RefCell<Vec<String>>,
}

impl Account {
    /// The world as it is now.
    fn with<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        let now = Instant::now();
        let elapsed = now.duration_since(self.synced.replace(now));
        let mut world = self.world.borrow_mut();
        world.advance(u64::try_from(elapsed.as_millis()).unwrap());
        look(&mut world)
    }
}

/// A transport to a service in a region.
#[derive(Clone)]
pub(crate) struct Wire {
    account: Rc<Account>,
    region: String,
    service: AwsService,
    broken: Broken,
}

impl Transport for Wire {
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        sleep(LATENCY).await;
        if self.account.cut_off.borrow().contains(&self.region) {
            return Err(TransportError::NotSent("no route to host".into()));
        }
        let (region, service) = (self.region.as_str(), self.service.signing_name());
        let version = match self.service.protocol() {
            Protocol::Form { version } => version,
            Protocol::Json { .. } => "",
        };
        let mut form = form_of(request, version);
        if self.broken == Broken::TokenForgotten {
            form = form.replace("ClientToken=respot-", &format!("ClientToken={:08x}", fastrand::u32(..)));
        }
        let is_read = self.broken == Broken::ReadAtTheEnd && request.path == "DescribeInstanceAttribute";
        if is_read && self.account.with(|world| world.living().any(|it| form.contains(&it.id))) {
            return Err(TransportError::NotSent("not while it runs".into()));
        }
        let mut reply = self.account.with(|world| match version {
            "" => world.call_json(region, service, request.path, request.body.as_deref().unwrap_or_default()),
            _ => world.call(region, service, &form),
        });
        match reply.delivery {
            Delivery::Whole => {}
            Delivery::CutBefore | Delivery::CutAfter => return Err(TransportError::Broken("reset by peer".into())),
            Delivery::Hang { ms } => {
                let ms = Duration::from_millis(ms);
                if ms > request.timeout {
                    sleep(request.timeout).await;
                    return Err(TransportError::TimedOut(request.timeout));
                }
                sleep(ms).await;
            }
        }
        if self.broken == Broken::ReclaimTakenForUser {
            reply.body = reply.body.replace("Server.SpotInstanceTermination", "Client.UserInitiatedShutdown");
        }
        let now = jiff::Timestamp::from_millisecond(self.account.with(|world| world.now_ms())).unwrap();
        let date = Some(now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        Ok(Response { status: reply.status, retry_after: None, date, body: reply.body.into_bytes() })
    }
}

/// An account whose instances are looked after.
pub(crate) struct Fleet {
    account: Rc<Account>,
    store: SqliteStore,
    clock: Clock,
    regions: RefCell<Vec<String>>,
    pub(crate) broken: Broken,
    /// On-demand prices of the operator.
    pub(crate) prices: BTreeMap<String, Usd>,
    pub(crate) retirement: Retirement,
    pub(crate) target_groups: Vec<String>,
}

impl Fleet {
    pub(crate) fn new(world: World) -> Self {
        let clock = Clock::starting_at(Timestamp::from_millis(DAWN_MS.max(world.now_ms())));
        let account =
            Account { world: RefCell::new(world), synced: Cell::new(Instant::now()), cut_off: RefCell::default() };
        let store = SqliteStore::in_memory(clock.clone()).unwrap();
        Self {
            account: Rc::new(account),
            store,
            clock,
            regions: RefCell::new(vec!["eu-west-1".into()]),
            broken: Broken::No,
            prices: BTreeMap::new(),
            retirement: Retirement::DEFAULT,
            target_groups: Vec::new(),
        }
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut World) -> R) -> R {
        self.account.with(look)
    }

    /// Looks after another region, too.
    pub(crate) fn add_region(&self, name: &str) {
        self.with(|world| world.add_region(name));
        self.regions.borrow_mut().push(name.into());
    }

    pub(crate) fn cut_off(&self, region: &str) {
        self.account.cut_off.borrow_mut().push(region.into());
    }

    fn client(&self) -> Ec2Client<Wire> {
        let broken = self.broken;
        let wire = |service: AwsService, region: &str| {
            let region = service.region_for(region).to_owned();
            Wire { account: Rc::clone(&self.account), region, service, broken }
        };
        let subnets = self.with(|world| {
            let home = world.home();
            ["eu-west-1a", "eu-west-1b", "eu-west-1c"].map(|zone| home.subnet(zone).to_owned()).to_vec()
        });
        let kinds = BTreeMap::from([("g5.xlarge".to_owned(), vec!["g6.xlarge".to_owned()])]);
        let terms = FleetTerms {
            opt_in: OptIn::Tag { key: "respot".into(), value: Some("managed".into()) },
            stand_ins: StandIns { subnets, kinds },
            keeps_user_data: true,
            prices: self.prices.clone(),
            retirement: self.retirement,
            target_groups: self.target_groups.clone(),
        };
        Ec2Client::new(&self.regions.borrow(), terms, wire)
    }

    /// What moving on-demand instances to spot would save.
    pub(crate) async fn analyze(&self, terms: &Terms) -> Result<Analysis, Failure> {
        let cloud = self.client();
        Box::pin(analyze(&cloud, &self.store, &Answers::default(), terms, &self.clock, &Silent)).await
    }

    /// One call of the schedule: `respot rollout --yes`, or a verb.
    pub(crate) async fn rollout(&self, prober: &Answers, verb: Option<RolloutVerb>) -> Stepped {
        self.try_rollout(prober, verb).await.unwrap()
    }

    /// The same, where it may fail.
    pub(crate) async fn try_rollout(&self, prober: &Answers, verb: Option<RolloutVerb>) -> Result<Stepped, Failure> {
        let (cloud, stop, policy) = (self.client(), Stop::default(), Policy::default());
        let limits = Limits::of(&policy, Mode::Real);
        let world = act::World {
            cloud: &cloud,
            store: &self.store,
            limits: &limits,
            clock: &self.clock,
            stop: &stop,
            reporter: &Silent,
        };
        let course = Course { samples: 30, ..Course::default() };
        let drive = Drive {
            world: &world,
            writer: &cloud,
            notify: &NoReceiver,
            prober,
            terms: &terms(),
            course: &course,
            hook: None,
        };
        let stepped = async {
            match verb {
                Some(verb) => drive.apply(verb).await,
                None => match rollout::prospect(&drive, false).await? {
                    None => drive.step().await,
                    Some(analysis) => drive.start(&analysis).await,
                },
            }
        };
        Box::pin(stepped).await
    }

    /// The schedule calls every five minutes until the rollout is over; answers what each call said.
    pub(crate) async fn whole_rollout(&self, prober: &Answers) -> Vec<Stepped> {
        let mut steps = Vec::new();
        for _ in 0..120 {
            steps.push(self.rollout(prober, None).await);
            let last = steps.last().and_then(|it| it.fleet.as_ref());
            if last.is_none_or(|fleet| fleet.rollout.state.end().is_some()) {
                return steps;
            }
            sleep(5 * MINUTE).await;
        }
        panic!("it does not end: {:?}", steps.last().map(|it| &it.message));
    }

    /// A pass, whose end is not asked for.
    pub(crate) async fn pass(&self) {
        self.guarded_pass(BlastRadius { force: true, ..BlastRadius::default() }).await;
    }

    pub(crate) async fn guarded_pass(&self, blast_radius: BlastRadius) {
        let _ = self.try_pass(blast_radius, Mode::Real).await;
    }

    async fn try_pass(&self, blast_radius: BlastRadius, mode: Mode) -> Option<Box<Ended>> {
        let policy = Policy { eligibility: Eligibility::Reclaimed, ..Policy::default() };
        let limits = Limits { blast_radius, ..Limits::of(&policy, mode) };
        let (cloud, stop) = (self.client(), Stop::default());
        let world = act::World {
            cloud: &cloud,
            store: &self.store,
            limits: &limits,
            clock: &self.clock,
            stop: &stop,
            reporter: &Silent,
        };
        match Box::pin(run::run(&world, &cloud, &NoReceiver)).await {
            Ok(Ran::Ended(ended)) => Some(ended),
            Ok(Ran::Skipped(why)) => panic!("{why:?}"),
            // A pass over a listing that fails is no fault of the test.
            Err(_) => None,
        }
    }

    /// So many passes, five minutes apart.
    pub(crate) async fn passes(&self, count: u32) {
        for _ in 0..count {
            self.pass().await;
            sleep(5 * MINUTE).await;
        }
    }

    /// A pass that is killed after a while; its lease expires.
    pub(crate) async fn killed_pass(&self, after: Duration) {
        assert!(tokio::time::timeout(after, self.pass()).await.is_err(), "it was not killed");
        sleep(LEASE_LIFE).await;
    }

    /// A pass that ends after a while, whether it is done or not; its lease expires.
    pub(crate) async fn cut_pass(&self, after: Duration) {
        if tokio::time::timeout(after, self.pass()).await.is_err() {
            sleep(LEASE_LIFE).await;
        }
    }

    /// A pass that ends.
    pub(crate) async fn ended(&self) -> Box<Ended> {
        self.try_pass(BlastRadius::default(), Mode::Real).await.expect("a pass")
    }

    /// The reason of the verdict on an instance.
    pub(crate) async fn reason(&self, id: &str) -> &'static str {
        let ended = self.ended().await;
        let (snapshot, plan) = ended.view.expect("a plan");
        let found = plan.rows(&snapshot.instances.items).find(|(instance, _)| instance.id.as_str() == id);
        found.expect("it is listed").1.reason()
    }

    pub(crate) fn living(&self, name: &str) -> usize {
        self.with(|world| world.living().filter(|it| it.tag("Name") == Some(name)).count())
    }

    /// The only living instance with this name.
    pub(crate) fn only(&self, name: &str) -> Instance {
        assert_eq!(self.living(name), 1, "{name}\n{}", self.told());
        self.with(|world| world.living().find(|it| it.tag("Name") == Some(name)).cloned()).unwrap()
    }

    /// The calls that changed something, or were to.
    pub(crate) fn writes(&self) -> String {
        let told = self.told();
        let writes = told.lines().filter(|line| !line.contains(" Describe"));
        writes.map(|line| line.chars().take(400).collect::<String>() + "\n").collect()
    }

    /// What was asked of the account.
    pub(crate) fn told(&self) -> String {
        self.with(|world| {
            let line = |it: &ec2_sim::Entry| {
                let form: Vec<String> = it.form[2..].iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {} {:?} {:?} {}\n", it.at_ms / 1000, it.action, it.status, it.code, form.join(" "))
            };
            world.log().iter().map(line).collect()
        })
    }

    /// What differs between an instance and its replacement that should not.
    pub(crate) fn differences(&self, old: &Instance, new: &Instance) -> Vec<String> {
        let shape = |it: &Instance| {
            let disks = it.disks.iter().map(|disk| {
                let volume = self.with(|world| world.volumes().find(|volume| volume.id == disk.volume).cloned());
                format!("{} {} {:?}", disk.device, disk.delete_on_termination, volume.map(|volume| volume.shape))
            });
            let mut disks: Vec<String> = disks.collect();
            disks.sort();
            let tags: Vec<_> = it.tags.iter().filter(|(key, _)| !key.starts_with("respot:")).collect();
            format!("{:#?} {disks:#?} {tags:#?}", it.facts)
        };
        let (old, new) = (shape(old), shape(new));
        old.lines().zip(new.lines()).filter(|(a, b)| a != b).map(|(a, b)| format!("{a} -> {b}")).collect()
    }
}
