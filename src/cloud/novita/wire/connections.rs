//! Where an instance can be reached: addresses without credentials. The provider's response has passwords next to them
//! and tokens in them.

use url::Url;

use super::record::{Record, first_text};
use crate::core::world::probe::Connections;

/// Reads the addresses in a detail response. What is missing or of an unknown shape is left out.
pub(super) fn connections(record: &Record) -> Connections {
    let component = |name: &str, key: &str| record.object(name).and_then(|fields| first_text(fields, &[key]));
    let mapped = || {
        let port_22 = record.list("portMappings").iter().filter_map(|value| value.as_object()).find(|port| {
            let number = first_text(port, &["port"]);
            number.is_some_and(|number| number == "22")
        });
        port_22.and_then(|port| first_text(port, &["endpoint"])).and_then(|endpoint| bare(&endpoint))
    };
    Connections {
        ssh: component("connectComponentSSH", "sshCommand").and_then(|command| ssh(&command)).or_else(mapped),
        jupyter: component("connectComponentJupyter", "address").and_then(|address| bare(&address)),
    }
}

/// User, host and port of an ssh command: `ssh root@host -p 30123` is `root@host:30123`. What comes before the last
/// `ssh`, such as `sshpass -p password`, is ignored, as is what is neither option nor target.
fn ssh(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let after = words.iter().rposition(|word| word.rsplit('/').next() == Some("ssh")).map_or(0, |at| at + 1);
    let mut words = words[after..].iter().copied();
    let (mut target, mut port) = (None, None);
    while let Some(word) = words.next() {
        match word.strip_prefix('-') {
            Some("p") if port.is_none() => port = words.next(),
            Some(option) if port.is_none() && option.starts_with('p') => port = option.strip_prefix('p'),
            // These options take the next word as their value.
            Some(option) if option.len() == 1 && SSH_OPTIONS_WITH_A_VALUE.contains(option) => drop(words.next()),
            Some(_) => {}
            None if target.is_none() => target = Some(word),
            None => break,
        }
    }
    let target = target?;
    let (user, host) = target.strip_prefix("ssh://").unwrap_or(target).rsplit_once('@')?;
    let user = user.split(':').next()?;
    let host = authority(&Url::parse(&format!("ssh://{host}")).ok()?)?;
    let address = match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(port) => format!("{user}@{host}:{port}"),
        None => format!("{user}@{host}"),
    };
    is_name(user).then_some(address)
}

const SSH_OPTIONS_WITH_A_VALUE: &str = "BbcDEeFIiJLlmOoPQRSWw";

/// An address without user, password, query and fragment, any of which may be a secret. Of paths, only those of Jupyter's
/// own pages are kept, since others may contain a token.
fn bare(address: &str) -> Option<String> {
    // Text after the address is not part of it.
    let address = address.split_whitespace().next()?;
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    // Parsed with a scheme that has no default port, so that the port is kept.
    let url = Url::parse(&format!("x://{rest}")).ok()?;
    let is_known = matches!(scheme.as_str(), "" | "http://" | "https://");
    let path = match url.path().trim_end_matches('/') {
        path @ ("/lab" | "/tree") => path,
        _ => "",
    };
    // If a password contains one of these, the part before it would be taken for the host.
    let is_whole = rest.split_once(['/', '?', '#', '\\']).is_none_or(|(_, more)| !more.contains('@'));
    authority(&url).filter(|_| is_known && is_whole).map(|host| format!("{scheme}{host}{path}"))
}

/// Host and port, if the host is valid.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let is_address = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    host.chars().all(is_address).then(|| format!("{host}{port}"))
}

fn is_name(user: &str) -> bool {
    !user.is_empty() && user.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::world::instance::InstanceId;

    fn read(body: &str) -> Connections {
        connections(&Record::detail(body.as_bytes(), &InstanceId::new("a")).unwrap())
    }

    #[test]
    fn addresses_come_without_what_opens_the_door() {
        // The fields of the response besides the id; the addresses for ssh and Jupyter.
        let rows = [
            ("", None, None),
            (
                r#""connectComponentSSH":{"sshCommand":"ssh root@host.example -p 30123","password":"pw"}"#,
                Some("root@host.example:30123"),
                None,
            ),
            (
                r#""connectComponentSSH":{"sshCommand":"sshpass -p pw ssh -p30123 root@10.0.0.1"}"#,
                Some("root@10.0.0.1:30123"),
                None,
            ),
            (
                r#""connectComponentSSH":{"sshCommand":"ssh ssh://root:pw@host.example"}"#,
                Some("root@host.example"),
                None,
            ),
            (r#""connectComponentSSH":{"sshCommand":"","password":"pw"}"#, None, None),
            (r#""connectComponentSSH":null,"connectComponentJupyter":"x""#, None, None),
            (
                r#""connectComponentJupyter":{"port":8888,"address":"https://u:pw@j.example:8443/lab?token=pw#pw"}"#,
                None,
                Some("https://j.example:8443/lab"),
            ),
            (r#""connectComponentJupyter":{"address":"j.example:8888?token=pw"}"#, None, Some("j.example:8888")),
            (r#""connectComponentJupyter":{"address":"\u001b[31m"}"#, None, None),
            (
                r#""portMappings":[{"port":8080,"endpoint":"a.example:1"},{"port":"22","endpoint":"b.example:2"}]"#,
                Some("b.example:2"),
                None,
            ),
        ];
        for (fields, ssh, jupyter) in rows {
            let comma = if fields.is_empty() { "" } else { "," };
            let body = format!(r#"{{"id":"a"{comma}{fields}}}"#);
            let found = read(&body);
            assert_eq!((found.ssh.as_deref(), found.jupyter.as_deref()), (ssh, jupyter), "{fields}");
        }
    }

    #[test]
    fn what_opens_the_door_is_nowhere_in_what_is_told() {
        // The provider's ssh command, and the address.
        let commands = [
            ("sshpass -p SECRET ssh -p 30123 root@h.example", Some("root@h.example:30123")),
            ("sshpass -p SECRET ssh root@h.example -p 30123", Some("root@h.example:30123")),
            ("sshpass -pSECRET /usr/bin/ssh -o User=SECRET -i SECRET -vp 1 root@h.example", None),
            (
                "ssh -o StrictHostKeyChecking=no -i SECRET -p22 root@h.example SECRET -p SECRET",
                Some("root@h.example:22"),
            ),
            ("ssh -l SECRET -v root@h.example # password: SECRET", Some("root@h.example")),
            ("ssh ssh://root:SECRET@h.example", Some("root@h.example")),
            ("ssh root:SECRET@h.example", Some("root@h.example")),
            ("ssh root@h.example:SECRET", None),
            ("ssh root@h.example/SECRET", Some("root@h.example")),
            ("ssh root@h.example?SECRET#SECRET", Some("root@h.example")),
            ("ssh root@h.example -p SECRET", Some("root@h.example")),
            ("ssh -p", None),
            ("root@h.example -p 22", Some("root@h.example:22")),
            ("ssh root@[2001:db8::1] -p 22", Some("root@[2001:db8::1]:22")),
            ("password SECRET user root@h.example", None),
        ];
        let addresses = [
            ("https://u:SECRET@j.example:8443/lab?token=SECRET", Some("https://j.example:8443/lab")),
            ("https://j.example/lab/SECRET", Some("https://j.example")),
            ("https://j.example/SECRET/lab", Some("https://j.example")),
            ("https://j.example/lab (password: SECRET)", Some("https://j.example/lab")),
            ("https://j.example/ password SECRET", Some("https://j.example")),
            ("https://u:SECRET/x@j.example/lab", None),
            ("j.example:8888/tree?token=SECRET", Some("j.example:8888/tree")),
            ("SECRET://j.example", None),
            ("j.example SECRET", Some("j.example")),
        ];
        // A password may look like anything that such a text contains.
        for secret in ["hunter2", "p@ss", "a:b@c/d", "31337", "://x@y.z:1", "-p4711", "@", "#?", "p/w@q"] {
            let told = |field: &str, key: &str, text: &str| {
                let body = serde_json::json!({"id": "a", field: {key: text.replace("SECRET", secret)}});
                read(&body.to_string())
            };
            for (command, ssh) in commands {
                let found = told("connectComponentSSH", "sshCommand", command).ssh;
                // A number after a host or -p is a port.
                let is_port = secret == "31337" && found.as_deref() == Some("root@h.example:31337");
                let is_fine = is_port || found.is_none() || commands.iter().any(|(_, it)| *it == found.as_deref());
                assert!(is_fine, "{command} with {secret}: {found:?}");
                assert!(secret != "hunter2" || found.as_deref() == ssh, "{command}: {found:?}");
            }
            for (address, jupyter) in addresses {
                let found = told("connectComponentJupyter", "address", address).jupyter;
                let is_port = secret == "31337" && found.as_deref() == Some("https://j.example:31337/lab");
                let is_fine = is_port || found.is_none() || addresses.iter().any(|(_, it)| *it == found.as_deref());
                assert!(is_fine, "{address} with {secret}: {found:?}");
                assert!(secret != "hunter2" || found.as_deref() == jupyter, "{address}: {found:?}");
            }
        }
    }
}
