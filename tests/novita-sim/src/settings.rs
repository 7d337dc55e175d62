//! What a test can set about the provider's world: its rules, and how loosely it writes.

/// How the world behaves. All of it can be changed at any time through [`World::rules_mut`](crate::World::rules_mut).
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The only key that is accepted.
    pub key: String,
    /// How long listings do not show a new job or a new instance. GET shows it at once.
    pub visible_after_ms: i64,
    /// Whether listings also show an instance's old row for that long after a change.
    pub stale_rows: bool,
    /// How long a migration prepares.
    pub migrate_pulling_ms: i64,
    /// How long it then works.
    pub migrate_running_ms: i64,
    /// The share of accepted migrations that fail, 0 to 1.
    pub fail_migrations: f64,
    /// The share of failed migrations that bring the instance back to `exited`; the others leave it `migrating`.
    pub fail_back_to_exited: f64,
    /// Whether an instance that was exited is exited again after a successful migration (the sheet does not know).
    pub migrate_keeps_exited: bool,
    /// Whether an instance that is `notified` refuses to migrate (the sheet does not know).
    pub refuse_notified: bool,
    /// How long a new instance waits in each of `toCreate`, `creating` and `pulling`.
    pub create_step_ms: i64,
    /// The share of creations that stay `creating` for ever.
    pub stuck_creates: f64,
    /// The share of the other creations that end `exited` and never run.
    pub exit_after_create: f64,
    /// The billing mode of what is created for `spot`: another than was asked for. It costs what that one costs.
    pub spot_creates_become: Option<&'static str>,
    /// So many of the next creations for `spot` get that other billing mode; `None` for all.
    pub spot_creates_lied_about: Option<u32>,
    /// How long each step of start, stop, restart and delete takes.
    pub action_step_ms: i64,
    /// The statuses in which delete is refused, for a while or for good.
    pub refuse_delete_while: Vec<String>,
    /// Time between the notice of a reclaim and the reclaim.
    pub notice_ms: i64,
    /// Whether instances are told before they are taken because their room goes.
    pub notice: Notice,
    /// What the product list says about room that a test has set.
    pub hint: Hint,
    /// What the spot fields say after a reclaim.
    pub after_reclaim: AfterReclaim,
    /// The share of reclaimed instances whose node is given away, so that start is refused.
    pub node_taken: f64,
    /// After so long the provider removes a reclaimed instance by itself; `None` for never.
    pub released_after_ms: Option<i64>,
    /// Create is refused above so many instances; those that are going do not count.
    pub instance_quota: Option<usize>,
    /// Create is refused above so many GPUs of all instances together, the new one's included; those that are going do
    /// not count.
    pub gpu_quota: Option<u32>,
    /// Whether the account can pay; create, start and migrate are refused otherwise.
    pub balance: bool,
    /// Calls above so many per minute of the world's time are answered 429.
    pub calls_per_minute: Option<u32>,
    /// An hour is on the bill this long after its end.
    pub bill_after_ms: i64,
    /// How it writes.
    pub wire: Wire,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            key: "sk_test".into(),
            visible_after_ms: 1_500,
            stale_rows: false,
            migrate_pulling_ms: 20_000,
            migrate_running_ms: 40_000,
            fail_migrations: 0.0,
            fail_back_to_exited: 0.0,
            migrate_keeps_exited: false,
            refuse_notified: false,
            create_step_ms: 10_000,
            stuck_creates: 0.0,
            exit_after_create: 0.0,
            spot_creates_become: None,
            spot_creates_lied_about: None,
            action_step_ms: 3_000,
            refuse_delete_while: Vec::new(),
            notice_ms: 3_600_000,
            notice: Notice::None,
            hint: Hint::True,
            after_reclaim: AfterReclaim::Seeded,
            node_taken: 0.5,
            released_after_ms: None,
            instance_quota: None,
            gpu_quota: None,
            balance: true,
            calls_per_minute: None,
            bill_after_ms: 3_600_000,
            wire: Wire::default(),
        }
    }
}

impl Rules {
    /// Migrations and creations take so long until the instance runs.
    pub fn boots_in(&mut self, ms: i64) {
        self.migrate_pulling_ms = ms / 3;
        self.migrate_running_ms = ms - ms / 3;
        self.create_step_ms = ms / 3;
    }
}

/// Whether instances are told before they are taken because their room goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notice {
    /// They are taken when it goes.
    None,
    /// They are told when it goes, and run on for the notice time. One that comes up only afterwards is told then.
    Grace {
        /// How likely an announcement is withdrawn at each tick after the room is back, 0 to 1.
        withdrawn: f64,
        /// Milliseconds.
        tick_ms: i64,
    },
    /// They are told the notice time before it goes, or later if they come up later, and are taken when it goes.
    Ahead,
}

/// What the product list says about room that a test has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// What is true for the cluster that is asked about.
    True,
    /// Nothing.
    Absent,
    /// That there is plenty.
    AlwaysYes,
    /// What was true so long ago.
    Stale {
        /// Milliseconds.
        ms: i64,
    },
}

/// What the spot fields say after a reclaim (fact sheet, section 4.2: not dependable).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterReclaim {
    /// "" and "0".
    Cleared,
    /// `terminated` and the time.
    Kept,
    /// One or the other, by the seed.
    Seeded,
}

/// How the world writes, where sources disagree or are silent (fact sheet, section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// How `total` comes.
    pub total: Total,
    /// Whether a page behind the last has no array at all, instead of an empty one.
    pub past_end_without_array: bool,
    /// Which `pageNum` is the first page.
    pub page_base: PageBase,
    /// Whether new instances come first.
    pub newest_first: bool,
    /// The largest page; larger ones are cut to it silently.
    pub max_page_size: usize,
    /// The shape of errors.
    pub errors: ErrorShape,
    /// How an unknown id is answered.
    pub not_found: NotFound,
    /// What an accepted migration answers.
    pub migrate_answer: MigrateAnswer,
    /// What a creation answers.
    pub create_answer: CreateAnswer,
    /// Whether GET still shows migrations that failed among the jobs that work on the instance.
    pub get_keeps_failed_jobs: bool,
    /// Whether GET wraps the instance as `{"instance": {...}}` and calls the id `Id`.
    pub get_wrapped: bool,
    /// Whether GET leaves out productName, spotStatus and spotReclaimTime, as its page does.
    pub get_omits: bool,
    /// Whether GET leaves out instancePrice, which no page names.
    pub get_omits_price: bool,
    /// Whether products write numbers as strings and the other way round, and leave out what was added later.
    pub loose_products: bool,
    /// The id key of jobs: `Id`, `id` or `jobId`.
    pub job_id_key: &'static str,
    /// Whether rows of a bill also say their amounts in USD, with all decimals.
    pub bill_decimals: bool,
    /// Whether the endpoints of applications begin with `http://`.
    pub endpoint_urls: bool,
    /// How far the `Date` of its answers is ahead of the real time; in the server alone.
    pub clock_skew_ms: i64,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            total: Total::Int,
            past_end_without_array: false,
            page_base: PageBase::Clamped,
            newest_first: true,
            max_page_size: 100,
            errors: ErrorShape::Reason,
            not_found: NotFound::Reason,
            migrate_answer: MigrateAnswer::Seeded,
            create_answer: CreateAnswer::LowerId,
            get_keeps_failed_jobs: false,
            get_wrapped: false,
            get_omits: true,
            get_omits_price: false,
            loose_products: false,
            job_id_key: "Id",
            bill_decimals: false,
            endpoint_urls: false,
            clock_skew_ms: 0,
        }
    }
}

/// How `total` comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// A number.
    Int,
    /// A string of digits.
    Text,
    /// Not at all.
    Absent,
}

/// Which `pageNum` is the first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageBase {
    /// 0 and 1 both.
    Clamped,
    /// 0.
    Zero,
    /// 1; page 0 is empty.
    One,
}

/// The shape of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"code": 400, "reason": "X", "message": "...", "metadata": {}}`
    Reason,
    /// `{"code": "X", "message": "..."}`
    CodeText,
    /// `{"message": "X: ..."}`
    Message,
    /// `{"error": {"code": "X", "message": "..."}}`
    Nested,
    /// `{"error": "X: ..."}`
    ErrorText,
    /// `X: ...`, no JSON
    Text,
    /// No body.
    Empty,
}

impl ErrorShape {
    /// Every shape.
    pub const ALL: [Self; 7] =
        [Self::Reason, Self::CodeText, Self::Message, Self::Nested, Self::ErrorText, Self::Text, Self::Empty];
}

/// How an unknown id is answered (fact sheet, section 8, row 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// 400 `RESOURCE_NOT_FOUND`, "instance not fount".
    Reason,
    /// 404 with the text `404 page not found`.
    Text404,
    /// 404 with a body in the world's error shape.
    Reason404,
}

/// What an accepted migration answers (fact sheet, section 8, row 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateAnswer {
    /// No body.
    Empty,
    /// `{}`
    Object,
    /// `{"jobId": "..."}`
    JobId,
    /// `{"instanceId": "..."}`
    InstanceId,
    /// One of these, by the seed.
    Seeded,
}

/// What a creation answers (fact sheet, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateAnswer {
    /// `{"id": "..."}`
    LowerId,
    /// `{"Id": "..."}`
    CapitalId,
    /// One of these, by the seed.
    Seeded,
}
