//! Lists of which one row cannot be read: half a surrogate pair or a byte that is not UTF-8 in a text, one field under two
//! names, something that is no object. The other rows count all the same.

use serde_json::{Map, Value};

use super::Text;

/// An object of a list.
pub(super) type Row = Map<String, Value>;

/// Reads the rows below `list` one by one, and the total; `None` if the body has no such list. `ids` are the names of the id:
/// the first that says something counts. What has text that cannot be read is of the status `unreadable`.
pub(super) fn rows(body: &[u8], list: &str, ids: &[&str]) -> Option<(Vec<Option<Row>>, Option<Text<'static>>)> {
    let text = without_huge_numbers(&whole_surrogates(&String::from_utf8_lossy(body)));
    let Value::Object(mut page) = serde_json::from_str(&text).ok()? else { return None };
    let Some(Value::Array(values)) = page.remove(list) else { return None };
    let total = page.get("total").and_then(|total| Text::of(total).0.map(|text| text.into_owned().into()));
    let rows = values.into_iter().map(|value| {
        let is_broken = is_broken(&value);
        let Value::Object(mut row) = value else { return None };
        one_id(&mut row, ids);
        if is_broken {
            row.insert("status".into(), "unreadable".into());
        }
        Some(row)
    });
    Some((rows.collect(), total.map(|total| Text(Some(total)))))
}

/// Leaves the first of these fields that says something.
pub(super) fn one_id(row: &mut Row, ids: &[&str]) {
    let says = |key: &&str| row.get(*key).is_some_and(|id| !Text::of(id).as_str().trim().is_empty());
    let first = ids.iter().copied().find(says);
    row.retain(|key, _| !ids.contains(&key.as_str()) || first == Some(key));
}

fn is_broken(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(char::REPLACEMENT_CHARACTER),
        Value::Array(values) => values.iter().any(is_broken),
        Value::Object(fields) => fields.values().any(is_broken),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The same JSON with U+FFFD in place of each `\u` escape that is half a pair.
fn whole_surrogates(json: &str) -> String {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut whole, mut at) = (String::with_capacity(json.len()), 0);
    while let Some(next) = json[at..].find('\\').map(|found| at + found) {
        whole.push_str(&json[at..next]);
        let (text, length) = match (unit(next), unit(next + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&json[next..next + 12], 12),
            (Some(0xd800..=0xdfff), _) => ("\\ufffd", 6),
            _ => {
                let escaped = json[next + 1..].chars().next().map_or(0, char::len_utf8);
                (&json[next..next + 1 + escaped], 1 + escaped)
            }
        };
        whole.push_str(text);
        at = next + length;
    }
    whole.push_str(&json[at..]);
    whole
}

/// The same JSON with `null` in place of each number that no float holds, such as `1e400`.
fn without_huge_numbers(json: &str) -> String {
    let (mut whole, mut rest, mut is_text) = (String::with_capacity(json.len()), json, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\\' if is_text => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '-' | '0'..='9' if !is_text => {
                rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(rest.len())
            }
            _ => first.len_utf8(),
        };
        is_text ^= first == '"';
        let (part, others) = rest.split_at(length);
        let is_huge = !is_text && part.parse::<f64>().is_ok_and(f64::is_infinite);
        whole.push_str(if is_huge { "null" } else { part });
        rest = others;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::super::{Instance, Job, Listed};
    use super::*;

    #[test]
    fn half_a_pair_is_replaced_and_nothing_else() {
        for (json, whole) in [
            (r#""plain""#, r#""plain""#),
            (r#""\ud83d\ude00 \" \\ud83d \u00e9""#, r#""\ud83d\ude00 \" \\ud83d \u00e9""#),
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\ude00\ud83d\ud83d\ude00""#, r#""\ufffd\ufffd\ud83d\ude00""#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\"é\\", "\"é\\"),
            ("\"\\é\\ud83dé\"", "\"\\é\\ufffdé\""),
        ] {
            assert_eq!(whole_surrogates(json), whole);
        }
    }

    #[test]
    fn a_number_that_no_float_holds_is_none() {
        for (json, whole) in [
            (r#"{"a":1e400,"b":[-1E+999, 1e308]}"#, r#"{"a":null,"b":[null, 1e308]}"#),
            (r#"{"a":"1e400","b":"\" 1e400 \\","c":1e309}"#, r#"{"a":"1e400","b":"\" 1e400 \\","c":null}"#),
            ("1e999", "null"),
            ("é-", "é-"),
        ] {
            assert_eq!(without_huge_numbers(json), whole);
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_is_one_row() {
        let good = r#"{"id":"b","name":"b","status":"exited","billingMode":"spot"}"#;
        // The row, its id and its status.
        let rows: &[(&[u8], Option<(&str, &str)>)] = &[
            (br#"{"id":"a","name":"\ud83d","status":"exited"}"#, Some(("a", "unreadable"))),
            (b"{\"id\":\"a\",\"name\":\"\xff\",\"status\":\"exited\"}", Some(("a", "unreadable"))),
            (br#"{"id":"a","name":"a","status":"exited","tools":["\udead"]}"#, Some(("a", "exited"))),
            (br#"{"id":"","Id":"a","name":"a","status":"exited"}"#, Some(("a", "exited"))),
            (br#"{"id":"a","Id":"x","name":"a","status":"exited"}"#, Some(("a", "exited"))),
            (br#"{"id":"a","id":"a","status":"exited"}"#, Some(("a", "exited"))),
            (br#"{"id":"a","name":"a","status":"exited","gpuNum":1e400}"#, Some(("a", "exited"))),
            (b"7", None),
            (br#""\ud83d""#, None),
            (b"[]", None),
        ];
        for (row, expected) in rows {
            let body = [br#"{"total":"2","instances":["#, *row, b",", good.as_bytes(), b"]}"].concat();
            let page = <Instance as Listed>::page(&body).expect("a page");
            let seen: Vec<(&str, &str)> =
                page.rows.iter().map(|it: &Instance| (it.id.as_str(), it.status.as_str())).collect();
            let expected: Vec<(&str, &str)> = expected.iter().copied().chain([("b", "exited")]).collect();
            assert_eq!((seen, page.received, page.total), (expected, 2, Some(2)), "{}", body.escape_ascii());
        }
        let body = br#"{"jobs":[{"Id":"","id":"j","jobId":"k","instanceId":"a","state":{"state":"fail","error":"\ud83d"}}],"total":1}"#;
        let page = <Job as Listed>::page(body).expect("a page");
        let job: &Job = &page.rows[0];
        assert_eq!((job.id.as_str(), job.instance.as_str(), job.state.as_str()), ("j", "a", "fail"));
    }
}
