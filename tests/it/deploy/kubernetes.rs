//! Each overlay as `kubectl apply` would see it: is what it starts what the program understands, in the time that it
//! needs, with no more rights than it needs?

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use respot::core::world::probe::Probe;
use respot::settings::StoreSetting;
use serde_json::{Value, json};

use super::{documents, every_minutes, image, leaves_time, passed_over, path, settings};
use crate::tidy::known_variables;

/// What an operator applies: `base`, and each folder of `overlays`.
fn overlays() -> Vec<String> {
    let folders = std::fs::read_dir(path("deploy/kubernetes/overlays")).unwrap();
    let names = folders.map(|it| format!("overlays/{}", it.unwrap().file_name().to_str().unwrap()));
    std::iter::once("base".to_owned()).chain(names).collect()
}

/// Everything that an overlay makes. Nothing, where kubectl is missing or too old for components (1.21) and labels.
fn rendered(overlay: &str) -> Option<Vec<Value>> {
    let version = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output();
    let version: Option<Value> = version.ok().and_then(|it| serde_json::from_slice(&it.stdout).ok());
    let minor = version.and_then(|it| it["clientVersion"]["minor"].as_str()?.trim_end_matches('+').parse::<u32>().ok());
    if minor.is_none_or(|it| it < 25) {
        passed_over("kubectl 1.25 or newer is missing, so the overlays are not put together");
        return None;
    }
    let folder = path("deploy/kubernetes").join(overlay);
    let built = Command::new("kubectl").arg("kustomize").arg(folder).output().unwrap();
    let complaints = String::from_utf8(built.stderr).unwrap();
    assert!(built.status.success() && complaints.is_empty(), "{overlay}: {complaints}");
    Some(documents(&String::from_utf8(built.stdout).unwrap()))
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|it| it["kind"] == kind).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{value} is no number")))
}

/// A CronJob, with all that its pods get.
struct Scheduled<'a> {
    all: &'a [Value],
    cron_job: &'a Value,
}

impl<'a> Scheduled<'a> {
    fn job(&self) -> &'a Value {
        &self.cron_job["spec"]["jobTemplate"]["spec"]
    }

    fn pod(&self) -> &'a Value {
        &self.job()["template"]["spec"]
    }

    fn container(&self) -> &'a Value {
        assert_eq!(self.pod()["containers"].as_array().unwrap().len(), 1);
        &self.pod()["containers"][0]
    }

    /// The Secret and the key behind each variable that comes from one, and whether it may be missing.
    fn secrets(&self) -> BTreeMap<String, (String, bool)> {
        let mut secrets = BTreeMap::new();
        for variable in self.container()["env"].as_array().unwrap() {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            if reference.is_null() {
                continue;
            }
            let name = text(&variable["name"]);
            assert_eq!(text(&reference["key"]), name, "a key of the Secret is called as the variable is");
            secrets.insert(name, (text(&reference["name"]), reference["optional"] == true));
        }
        secrets
    }

    /// The environment of the container, with something in the place of each secret.
    fn environment(&self) -> Vec<(String, String)> {
        let mut environment = BTreeMap::new();
        for source in self.container()["envFrom"].as_array().unwrap() {
            let name = &source["configMapRef"]["name"];
            let maps = of_kind(self.all, "ConfigMap");
            let map = maps.iter().find(|it| it["metadata"]["name"] == *name).unwrap_or_else(|| panic!("no {name}"));
            environment.extend(map["data"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value))));
        }
        for variable in self.container()["env"].as_array().unwrap() {
            let name = text(&variable["name"]);
            let value = if variable["valueFrom"].is_null() {
                text(&variable["value"])
            } else if name.ends_with("REDIS_URL") {
                "redis://:password@redis:6379".into()
            } else if name.ends_with("_URL") {
                "https://example.com/hook".into()
            } else if name == "RESPOT_STORE_KEY" {
                format!("{}=", "A".repeat(43))
            } else {
                "something-secret".into()
            };
            environment.insert(name, value);
        }
        environment.into_iter().collect()
    }
}

#[test]
fn every_overlay_starts_what_the_program_understands() {
    for overlay in overlays() {
        let Some(all) = rendered(&overlay) else { return };
        let cron_jobs = of_kind(&all, "CronJob");
        assert!(!cron_jobs.is_empty(), "{overlay} schedules nothing");
        for cron_job in cron_jobs {
            understands(&overlay, &Scheduled { all: &all, cron_job });
        }
    }
}

/// Whether an overlay takes the steps of a rollout instead of passes.
fn rolls_out(overlay: &str) -> bool {
    overlay.ends_with("/rollout")
}

fn understands(overlay: &str, scheduled: &Scheduled<'_>) {
    let container = scheduled.container();
    let arguments: Vec<String> = container["args"].as_array().unwrap().iter().map(text).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(arguments[0], if rolls_out(overlay) { "rollout" } else { "run" }, "{overlay}");
    let settings = settings(&arguments, &scheduled.environment());

    let spec = &scheduled.cron_job["spec"];
    assert_eq!(every_minutes(&text(&spec["schedule"])), settings.interval, "{overlay}: status would be wrong");
    assert_eq!(settings.rehearsal, overlay.ends_with("dry-run"), "{overlay} is not what its name says");
    let grace = seconds(&scheduled.pod()["terminationGracePeriodSeconds"]);
    leaves_time(&settings, seconds(&scheduled.job()["activeDeadlineSeconds"]), grace);
    assert!(
        seconds(&spec["startingDeadlineSeconds"]) < settings.interval,
        "{overlay}: two passes would be due at once"
    );
    assert_eq!(spec["concurrencyPolicy"], "Forbid", "{overlay}");
    assert_eq!((&scheduled.job()["backoffLimit"], &scheduled.pod()["restartPolicy"]), (&json!(0), &json!("Never")));
    assert!(text(&container["image"]).ends_with(concat!("/respot:", env!("CARGO_PKG_VERSION"))), "{overlay}");

    // A pass reports where the cluster looks for it.
    let reports_to = scheduled.environment().into_iter().find(|(name, _)| name == "RESPOT_TERMINATION_MESSAGE_FILE");
    assert_eq!(reports_to.unwrap().1, text(&container["terminationMessagePath"]), "{overlay}");
    assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "{overlay}");

    let secrets = scheduled.secrets();
    for name in secrets.keys() {
        assert!(known_variables().contains(name.as_str()), "{overlay}: {name}");
    }
    match &settings.ec2 {
        None => assert!(!secrets["NOVITA_API_KEY"].1, "{overlay}: no pass without a key"),
        Some(_) => {
            assert!(!secrets.contains_key("NOVITA_API_KEY"), "{overlay}: EC2 has no use for it");
            assert!(settings.account.is_some(), "{overlay}: whose instances are they?");
            let accounts = of_kind(scheduled.all, "ServiceAccount");
            let own = accounts.iter().find(|it| it["metadata"]["name"] == scheduled.pod()["serviceAccountName"]);
            let role = &own.expect("a service account")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"];
            assert_eq!(role.is_string(), overlay.ends_with("irsa"), "{overlay} is not what its name says");
        }
    }
    match settings.store {
        StoreSetting::Redis { .. } => assert!(!secrets["REDIS_URL"].1, "{overlay}: no pass without its memory"),
        StoreSetting::Sqlite(file) => {
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|it| file.starts_with(text(&it["mountPath"]))).expect("a mounted folder");
            let volumes = scheduled.pod()["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|it| it["name"] == mount["name"]).expect("the volume");
            let claim = &volume["persistentVolumeClaim"]["claimName"];
            let claims = of_kind(scheduled.all, "PersistentVolumeClaim");
            assert!(claims.iter().any(|it| it["metadata"]["name"] == *claim), "{overlay}: no claim {claim}");
        }
    }
}

fn probed_port(scheduled: &Scheduled<'_>) -> u64 {
    match settings(&["rollout"], &scheduled.environment()).terms.probe {
        Some(Probe::Http { port, .. } | Probe::Tcp { port }) => port.into(),
        probe => panic!("{probe:?}"),
    }
}

/// The profile "restricted" of the pod security standards, and what else a pass does without.
#[test]
fn every_pod_is_restricted() {
    for overlay in overlays() {
        let Some(all) = rendered(&overlay) else { return };
        for cron_job in of_kind(&all, "CronJob") {
            let scheduled = Scheduled { all: &all, cron_job };
            let (pod, container) = (scheduled.pod(), scheduled.container());
            let given = &pod["securityContext"];
            assert_eq!((&given["runAsNonRoot"], &given["runAsUser"]), (&json!(true), &json!(image::USER)), "{overlay}");
            assert_eq!(given["fsGroup"], json!(image::USER), "{overlay}: the volume is not its own");
            assert_eq!(given["seccompProfile"], json!({"type": "RuntimeDefault"}), "{overlay}");
            let given = &container["securityContext"];
            assert_eq!(given["allowPrivilegeEscalation"], false, "{overlay}");
            assert_eq!(given["readOnlyRootFilesystem"], true, "{overlay}");
            assert_eq!(given["capabilities"], json!({"drop": ["ALL"]}), "{overlay}");
            assert_eq!(pod["automountServiceAccountToken"], false, "{overlay}");
            assert_eq!(pod["enableServiceLinks"], false, "{overlay}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{overlay}");
            for policy in of_kind(&all, "NetworkPolicy") {
                let chosen = policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap();
                let labels = &scheduled.job()["template"]["metadata"]["labels"];
                assert!(chosen.iter().all(|(name, value)| labels[name] == *value), "{overlay}: {chosen:?} is no pod");
                let opened = policy["spec"]["egress"].as_array().unwrap().iter();
                let opened: BTreeSet<u64> = opened
                    .flat_map(|it| it["ports"].as_array().unwrap())
                    .filter_map(|it| it["port"].as_u64())
                    .collect();
                let probed = rolls_out(&overlay).then(|| probed_port(&scheduled));
                // The agent of EKS on the node, and nobody else.
                let agent = overlay.ends_with("pod-identity").then_some(80);
                let expected: BTreeSet<u64> = [53, 443, 6379, 6380].into_iter().chain(probed).chain(agent).collect();
                assert_eq!(opened, expected, "{overlay}");
                for rule in policy["spec"]["egress"].as_array().unwrap() {
                    let unencrypted = rule["ports"].as_array().unwrap().iter().any(|it| it["port"] == 80);
                    let to =
                        json!([{"ipBlock": {"cidr": "169.254.170.23/32"}}, {"ipBlock": {"cidr": "fd00:ec2::23/128"}}]);
                    assert_eq!(rule["to"], if unencrypted { to } else { Value::Null }, "{overlay}");
                }
            }
        }
        assert!(!of_kind(&all, "NetworkPolicy").is_empty(), "{overlay}");
    }
}

/// Accounts that share a Redis must not share a prefix: one would act on what the other remembers.
#[test]
fn accounts_share_nothing_that_is_one_account_s_own() {
    let Some(all) = rendered("overlays/accounts") else { return };
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let cron_jobs = of_kind(&all, "CronJob");
    for cron_job in &cron_jobs {
        let scheduled = Scheduled { all: &all, cron_job };
        let prefix = scheduled.environment().into_iter().find(|(name, _)| name == "REDIS_KEY_PREFIX").unwrap().1;
        assert!(prefix.ends_with(':') && prefix != "respot:", "{prefix}");
        seen.entry("prefix").or_default().insert(prefix);
        seen.entry("name").or_default().insert(text(&cron_job["metadata"]["name"]));
        for own in ["NOVITA_API_KEY", "RESPOT_PING_URL"] {
            seen.entry(own).or_default().insert(scheduled.secrets()[own].0.clone());
        }
    }
    assert!(cron_jobs.len() > 1);
    for (what, values) in seen {
        assert_eq!(values.len(), cron_jobs.len(), "{what}: {values:?}");
    }
}
