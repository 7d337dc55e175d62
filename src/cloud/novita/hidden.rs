//! What a request contains and no message may repeat: providers quote what they refuse.

use serde_json::Value;

/// Shorter texts are not hidden: that would make messages unreadable.
const SHORTEST: usize = 4;

/// The same for a single word of a longer text.
const SHORTEST_WORD: usize = 6;

/// A quotation of this many characters gives a text away: quotations are often truncated.
const TELLING: usize = 8;

/// The texts to hide.
#[derive(Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// What may be secret in the body of a request: the values of its environment, its command, its entrypoint.
    pub(super) fn in_body(body: Option<&str>) -> Self {
        let body: Value = body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        let envs = body["envs"].as_array().into_iter().flatten().map(|variable| &variable["value"]);
        let texts = envs.chain([&body["command"], &body["entrypoint"]]).filter_map(Value::as_str);
        let mut hidden = Self::default();
        for text in texts {
            hidden.add(text, SHORTEST);
            // As it is quoted in another text.
            let quoted = Value::from(text).to_string();
            hidden.add(quoted.trim_matches('"'), SHORTEST);
            text.lines().for_each(|line| hidden.add(line, SHORTEST));
            let words = text.split(|c: char| c.is_whitespace() || c.is_control() || "\"'`=,;&|".contains(c));
            words.for_each(|word| hidden.add(word, SHORTEST_WORD));
        }
        hidden.0.sort_unstable();
        hidden.0.dedup();
        hidden
    }

    fn add(&mut self, text: &str, shortest: usize) {
        let text = normal(text);
        if text.chars().count() >= shortest {
            self.0.push(text);
        }
    }

    /// Replaces each of them, and the beginning of each, by `[hidden]`. Also folds whitespace, in which a quotation may
    /// differ.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = normal(text);
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let found = self.0.iter().filter_map(|it| quoted(rest, it)).max();
            match found {
                Some(length) => {
                    out.push_str("[hidden]");
                    rest = &rest[length..];
                }
                None => {
                    out.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }
}

/// How many bytes at the start of `text` are `secret`, or enough of its beginning to give it away.
fn quoted(text: &str, secret: &str) -> Option<usize> {
    let same = text.chars().zip(secret.chars()).take_while(|(a, b)| a == b);
    let (count, length) = same.fold((0, 0), |(count, length), (c, _)| (count + 1, length + c.len_utf8()));
    (length == secret.len() || count >= TELLING).then_some(length)
}

fn normal(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotations_of_the_request_are_hidden() {
        let body = serde_json::json!({
            "name": "visible-name", "imageUrl": "registry.example/app",
            "envs": [
                {"key": "TOKEN", "value": "env-secret-1"},
                {"key": "TEXT", "value": "first line\n  pass \"quoted\"\tend"},
                {"key": "SHORT", "value": "abc"},
                {"key": "MODE", "value": "spot"},
                {"key": "UMLAUT", "value": "Schlüssel-für-alles"},
            ],
            "command": "train --key hunter2 --data=/mnt/private",
            "entrypoint": "/bin/private",
        });
        let hidden = Hidden::in_body(Some(&body.to_string()));
        for (text, shown) in [
            ("nothing to hide", "nothing to hide"),
            ("visible-name of registry.example/app, TOKEN", "visible-name of registry.example/app, TOKEN"),
            ("TOKEN=env-secret-1.", "TOKEN=[hidden]."),
            ("TOKEN=env-secre...", "TOKEN=[hidden]..."),
            ("env-env-secret-1", "env-[hidden]"),
            ("first line\n  pass \"quoted\"\tend", "[hidden]"),
            ("pass \"quoted\" end", "[hidden]"),
            (r#"first line\n  pass \"quoted\"\tend!"#, "[hidden]!"),
            ("abc spot", "abc [hidden]"),
            ("Schlüssel-fü", "[hidden]"),
            ("bad command 'train --key hunter2 --data=/mnt/private'", "bad command '[hidden]'"),
            ("bad option hunter2, /mnt/private", "bad option [hidden], [hidden]"),
            ("/bin/private is missing", "[hidden] is missing"),
        ] {
            assert_eq!(hidden.scrub(text), shown);
        }
        for body in [None, Some(""), Some("[]"), Some(r#"{"instanceId":"abcdefgh"}"#), Some(r#"{"envs":7}"#)] {
            assert_eq!(Hidden::in_body(body).scrub("abcdefgh"), "abcdefgh");
        }
    }
}
