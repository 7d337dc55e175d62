//! The real program against a simulated EC2, over HTTP with signatures.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use ec2_sim::{ACCESS_KEY, ACCOUNT, Options, SECRET_KEY, Server, Spec, World};

use crate::harness::{Call, Kind, Stage, each};

/// A stage whose provider is EC2.
struct Ec2Stage {
    stage: Stage,
    server: Server,
}

impl Ec2Stage {
    fn new(kind: Kind) -> Self {
        let mut world = World::new(21);
        world.rules.boot_ms = 200;
        world.rules.visible_after_ms = 0;
        world.add(Spec::spot("worker").user_data("echo hunter2"));
        world.add(Spec::spot("foreign").without_tag("respot"));
        let server = Server::start(world, Options::default()).unwrap();
        Self { stage: Stage::new(kind, novita_sim::World::new(1)), server }
    }

    /// A call without credentials.
    fn bare(&self, words: &str) -> Call {
        let call = self.stage.call(words).now(None).unset("NOVITA_API_KEY").unset("NOVITA_API_BASE_URL");
        let call = call.env("RESPOT_PROVIDER", "ec2").env("AWS_REGION", "eu-west-1");
        call.env("AWS_ENDPOINT_URL", self.server.url()).env("AWS_EC2_METADATA_DISABLED", "true")
    }

    fn call(&self, words: &str) -> Call {
        self.bare(words).env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    }

    fn id(&self, name: &str) -> String {
        self.server.with(|world| world.living().find(|it| it.name() == name).map(|it| it.id.clone())).unwrap()
    }
}

#[test]
fn what_was_reclaimed_is_launched_again() {
    each(&[Kind::Sqlite, Kind::Redis], |kind| {
        let it = Ec2Stage::new(*kind);
        it.call("run").output().ends_with(0);
        let old = it.id("worker");
        let told = it.call("explain worker").output().ends_with(0);
        assert!(told.stdout.contains("what it is made of was recorded while it ran"), "{}", told.stdout);
        it.server.with(|world| world.reclaim_now(&old));
        it.server.advance(60_000);
        let plan = it.call("dry-run -o json").output().ends_with(0).json();
        let row = plan["plan"].as_array().unwrap().iter().find(|row| row["instanceId"] == *old).unwrap();
        assert_eq!((&row["verdict"], &row["reason"]), (&"recreate".into(), &"reclaimed".into()));
        it.call("run").output().ends_with(0);
        let new = it.id("worker");
        assert_ne!(new, old);
        let told = it.call("explain worker").output().ends_with(0);
        assert!(told.stdout.contains(&new), "{}", told.stdout);
        let (launches, terminations) = it.server.with(|world| (world.launches(), world.terminations()));
        assert_eq!((launches, terminations), (1, 0));
        assert_eq!(it.call("status -o json").output().ends_with(0).json()["config"]["provider"], "ec2");
        let foreign = it.call("dry-run --all").output().ends_with(0);
        assert!(foreign.stdout.contains("lacks the tag"), "{}", foreign.stdout);
        assert!(!it.call("run -vv").output().all().contains(SECRET_KEY));
    });
}

/// Each row: what is asked, with which variables, the exit code, and what is said.
#[test]
fn wrong_settings_and_credentials_are_said_and_nothing_is_sent() {
    let other = "999988887777";
    let rows: &[(&str, &[(&str, &str)], i32, &str)] = &[
        ("run", &[("RESPOT_EC2_ACCOUNT", other)], 2, "not of 999988887777"),
        ("run", &[("AWS_SECRET_ACCESS_KEY", "wrong-secret")], 3, "SignatureDoesNotMatch"),
        ("run", &[("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN")], 3, "InvalidClientTokenId"),
        ("run", &[("AWS_REGION", "")], 2, "no region of EC2 is set"),
        ("run", &[("RESPOT_EC2_TAG", "*")], 2, "RESPOT_EC2_ACCOUNT is not set"),
        ("run", &[("MIGRATION_ELIGIBILITY", "time")], 2, "MIGRATION_ELIGIBILITY=time"),
        ("run", &[("RESPOT_NOTICE", "on")], 2, "RESPOT_NOTICE=on"),
        ("run", &[("MIGRATION_LADDER", "migrate")], 2, "only to migrate"),
        ("run", &[("RESPOT_EC2_TYPES", "g5.xlarge")], 2, "expected type=other"),
        ("run", &[("AWS_ENDPOINT_URL", "http://example.com")], 2, "invalid value for AWS_ENDPOINT_URL"),
        ("analyze", &[("RESPOT_EC2_PRICES", "/nowhere")], 2, "invalid value for RESPOT_EC2_PRICES: /nowhere"),
        (
            "analyze",
            &[("RESPOT_EC2_PRICES", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))],
            2,
            "has no price in USD",
        ),
        ("rollout --yes", &[("RESPOT_EC2_TARGET_GROUPS", "web")], 2, "no ARN of a target group"),
        (
            "run",
            &[("RESPOT_EC2_TARGET_GROUPS", "arn:aws:elasticloadbalancing:us-east-1:111122223333:targetgroup/web/0123")],
            2,
            "is in us-east-1",
        ),
        ("report --invoice", &[], 2, "EC2 has no bill"),
        ("run", &[("RESPOT_EC2_REGIONS", "eu-west-1,mars-north-1")], 1, "mars-north-1 could not be read"),
        ("run", &[("RESPOT_EC2_REGIONS", "eu-west-1,EU-WEST-1")], 2, "lower-case letters"),
    ];
    each(rows, |(words, variables, code, said)| {
        let it = Ec2Stage::new(Kind::Sqlite);
        let call = variables.iter().fold(it.call(words), |call, (name, value)| call.env(name, value));
        let output = call.output().ends_with(*code);
        assert!(output.all().contains(said), "{said}: {}", output.all());
        assert!(!output.all().contains("wrong-secret"));
        assert_eq!(it.server.with(|world| world.log().iter().filter(|it| it.took_effect).count()), 0);
    });
}

/// A server that answers every request with the same text, and tells what it was asked.
fn endpoint(answer: String) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        stream.write_all((head + &answer).as_bytes()).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    });
    (url, asked)
}

/// The metadata of an instance, with these keys of its role.
fn metadata([id, secret]: [&'static str; 2], host: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, host) = (format!("http://{}", listener.local_addr().unwrap()), host.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut buffer) = (stream.unwrap(), [0; 8192]);
            let read = stream.read(&mut buffer).unwrap();
            let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let has_token = asked.contains("x-aws-ec2-metadata-token: session-1");
            let answer = match asked.split(' ').take(2).collect::<Vec<_>>().as_slice() {
                ["PUT", "/latest/api/token"] if asked.contains("x-aws-ec2-metadata-token-ttl-seconds") => {
                    "session-1".into()
                }
                ["GET", "/latest/meta-data/iam/security-credentials/"] if has_token => "passes".into(),
                ["GET", "/latest/meta-data/instance-id"] if has_token => host.clone(),
                ["GET", "/latest/meta-data/iam/security-credentials/passes"] if has_token => format!(
                    r#"{{"Code": "Success", "AccessKeyId": "{id}", "SecretAccessKey": "{secret}", "Token": "", "Expiration": "2099-01-01T00:00:00Z"}}"#
                ),
                other => panic!("{other:?}"),
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            stream.write_all((head + &answer).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn every_source_of_credentials_signs_a_pass() {
    let it = Ec2Stage::new(Kind::Sqlite);
    let keys = format!(
        r#"{{"Version": 1, "AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}", "Expiration": "2099-01-01T00:00:00Z"}}"#
    );
    let doctor = |call: Call| call.output().stdout;
    // A profile with keys, one that takes a role with them, one with a command.
    let role = format!("arn:aws:iam::{ACCOUNT}:role/passes");
    let printer = it.stage.file("keys.json", &keys);
    let config = it.stage.file(
        "config",
        format!(
            "[profile taken]\nrole_arn = {role}\nsource_profile = base\n[profile tool]\ncredential_process = cat {}\n",
            printer.display()
        ),
    );
    let base = format!("[base]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    let credentials = it.stage.file("credentials", base);
    for (profile, source) in [("base", "the profile base"), ("taken", "the role"), ("tool", "the credential_process")] {
        let call = it.bare("doctor").env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        let told = doctor(call.env("AWS_PROFILE", profile));
        assert!(told.contains(source) && told.contains(ACCOUNT), "{profile}: {told}");
        assert!(!told.contains(SECRET_KEY));
    }
    // A token of a service account.
    let token = it.stage.file("token", "good\n");
    let call = it.bare("doctor").env("AWS_ROLE_ARN", &role).env("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    let told = doctor(call);
    assert!(told.contains("by web identity") && told.contains(ACCOUNT), "{told}");
    it.stage.file("token", "expired");
    let call = it.bare("run").env("AWS_ROLE_ARN", &role).env("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    call.output().ends_with(3).says(["ExpiredToken"]);
    // A container, which shows the token that it was given.
    let (url, asked) = endpoint(keys);
    let call = it.bare("doctor").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url + "/v1/credentials");
    let told = doctor(call.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "show-me"));
    assert!(told.contains("the container's role") && told.contains(ACCOUNT), "{told}");
    assert!(asked.join().unwrap().contains("show-me"));
    // The instance that the program runs on, which is never moved.
    let host = it.server.with(|world| world.add(Spec::on_demand("host").cpu(20.0)));
    let url = metadata([ACCESS_KEY, SECRET_KEY], &host);
    let here = |words: &str| {
        let call = it.bare(words).env("AWS_EC2_METADATA_DISABLED", "false");
        call.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)
    };
    let told = doctor(here("doctor"));
    assert!(told.contains("the role of the instance that this runs on") && told.contains(ACCOUNT), "{told}");
    let told = here("analyze --probe tcp:22 --may-lose *").output().ends_with(0).stdout;
    assert!(told.contains("this program runs on it"), "{told}");
    // A source that is configured and fails is the end, whatever else there is.
    let call =
        it.bare("run").env("AWS_PROFILE", "misspelt").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/");
    call.output().ends_with(2).says(["misspelt"]);
    let call = it.bare("run").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/");
    call.output().ends_with(3).says(["the container's role"]);
}

/// Each row: what the policy denies, the exit code, and what is said of it.
#[test]
fn doctor_rehearses_every_permission() {
    let rows: &[(&[&str], i32, &str)] = &[
        (&[], 0, "allowed, as a rehearsal says: DescribeSpotInstanceRequests, DescribeInstanceAttribute"),
        (&[], 0, "DescribeInstanceStatus, RunInstances"),
        (&[], 0, "no instance with the tag is fit for it: TerminateInstances, StopInstances"),
        (&[], 0, "8 of 64 spot vCPUs (G and VT in eu-west-1) are in use"),
        (&["DescribeVolumes"], 3, "attach deploy/aws/read-policy.json"),
        (&["RunInstances"], 0, "attach deploy/aws/write-policy.json"),
        (&["GetServiceQuota"], 0, "the quota of spot vCPUs (G and VT in eu-west-1) is not known"),
    ];
    each(rows, |(denied, code, said)| {
        let it = Ec2Stage::new(Kind::Sqlite);
        it.server.with(|world| {
            world.set_quota("eu-west-1", ec2_sim::Lifecycle::Spot, "G", 64);
            denied.iter().for_each(|action| world.deny(action));
        });
        let told = it.call("doctor").output().ends_with(*code).stdout;
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(said), "{said}: {told}");
        assert_eq!(it.server.with(|world| world.log().iter().filter(|it| it.took_effect).count()), 0);
    });
}

/// What is stored of an instance that runs, as whoever reads the file sees it.
#[test]
fn user_data_is_sealed_in_the_store_with_a_key() {
    const KEY: &str = "RESPOT_STORE_KEY";
    let (key, other) = ("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", "zc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc0=");
    each(&[Kind::Sqlite, Kind::Redis], |kind| {
        let it = Ec2Stage::new(*kind);
        let user_data = it.server.with(|world| world.living().find_map(|it| it.user_data.clone())).unwrap();
        it.call("run").output().ends_with(0);
        assert!(format!("{:?}", it.stage.dump()).contains(&user_data), "without a key it lies open");
        let warned = it.call("doctor").output().ends_with(0);
        assert!(warned.stdout.contains("openssl rand -base64 32"), "{}", warned.stdout);

        let old = it.id("worker");
        let form = format!("Action=CreateTags&Version=2016-11-15&ResourceId.1={old}&Tag.1.Key=team&Tag.1.Value=vision");
        it.server.with(|world| assert_eq!(world.call("eu-west-1", "ec2", &form).status, 200));
        it.call("run").env(KEY, key).output().ends_with(0);
        assert!(
            !format!("{:?}", it.stage.dump()).contains(&user_data),
            "what changed is sealed when it is stored again"
        );
        it.server.with(|world| world.reclaim_now(&old));
        it.server.advance(60_000);
        let refused = it.call("run").output().ends_with(4);
        assert!(refused.stderr.contains("is sealed, and RESPOT_STORE_KEY is not set"), "{}", refused.stderr);
        it.call("run").env(KEY, other).output().ends_with(4);
        it.call("doctor").env(KEY, other).output().ends_with(4);
        it.call("doctor").output().ends_with(4);
        it.call("status").output().ends_with(0);
        let output = it.call("run -vv").env(KEY, key).output().ends_with(0);
        assert!(!output.all().contains(key) && !output.all().contains(&user_data));
        let new = it.id("worker");
        let told = it.server.with(|world| (world.launches(), world.instance(&new).unwrap().user_data.clone()));
        assert_eq!(told, (1, Some(user_data)));
    });
}

/// What is damaged of one instance holds up no other; while it runs, it is recorded again.
#[test]
fn a_damaged_record_holds_up_its_own_instance_only() {
    each(&[Kind::Sqlite, Kind::Redis], |kind| {
        let it = Ec2Stage::new(*kind);
        let second = it.server.with(|world| world.add(Spec::spot("second")));
        it.call("run").output().ends_with(0);
        let first = it.id("worker");
        it.stage.put_field("kept", &second, "{");
        it.call("run").output().ends_with(0);
        it.stage.put_field("launch-records", &first, "{");
        let doctor = it.call("doctor").output().ends_with(0);
        assert!(doctor.stdout.contains(&format!("what was recorded of {first} is damaged")), "{}", doctor.stdout);
        it.server.with(|world| [&first, &second].map(|id| world.reclaim_now(id)));
        it.server.advance(60_000);
        let output = it.call("run -o json").output().ends_with(0);
        let plan = output.json()["plan"].as_array().unwrap().clone();
        let row = plan.iter().find(|row| row["instanceId"] == *first).unwrap();
        assert_eq!(row["reason"], "configuration_unknown", "{row}");
        assert!(row["detail"].as_str().unwrap().contains("cannot be read"), "{row}");
        assert_ne!(it.id("second"), second);
        assert_eq!(it.server.with(|world| world.launches()), 1);
    });
}

/// A store belongs to one provider and one account.
#[test]
fn a_store_of_another_account_is_refused() {
    each(&[Kind::Sqlite, Kind::Redis], |kind| {
        let it = Ec2Stage::new(*kind);
        it.stage.call("run").output().ends_with(0);
        it.call("run").output().ends_with(4).says(["belongs to novita"]);
        it.call("dry-run").output().ends_with(4);
        let it = Ec2Stage::new(*kind);
        it.call("run").output().ends_with(0);
        it.stage.call("run").output().ends_with(4).says(["belongs to ec2 account"]);
    });
}
