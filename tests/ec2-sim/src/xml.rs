//! Writing answers.

use std::fmt::{Display, Write as _};

use jiff::Timestamp;

/// An answer as it is written.
pub(crate) struct Xml {
    text: String,
}

impl Xml {
    pub(crate) fn new() -> Self {
        Self { text: String::new() }
    }

    /// An element with this text.
    pub(crate) fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        write!(self.text, "<{name}>{}</{name}>", escape(&value)).ok();
    }

    /// The same, if there is a value.
    pub(crate) fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A time.
    pub(crate) fn time(&mut self, name: &str, ms: i64) {
        self.text(name, time(ms));
    }

    /// An element without content.
    pub(crate) fn empty(&mut self, name: &str) {
        write!(self.text, "<{name}/>").ok();
    }

    /// An element with elements in it.
    pub(crate) fn node(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        write!(self.text, "<{name}>").ok();
        fill(self);
        write!(self.text, "</{name}>").ok();
    }

    /// A list; empty lists are one empty element.
    pub(crate) fn set<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, fill: impl Fn(&mut Self, T)) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return self.empty(name);
        }
        self.node(name, |xml| {
            for item in items {
                xml.node("item", |xml| fill(xml, item));
            }
        });
    }

    /// A list in the older protocol: its items are called `member`.
    pub(crate) fn members<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, fill: impl Fn(&mut Self, T)) {
        self.node(name, |xml| {
            for item in items {
                xml.node("member", |xml| fill(xml, item));
            }
        });
    }

    /// A list of items that are written already.
    pub(crate) fn raw_set(&mut self, name: &str, items: &[String]) {
        if items.is_empty() {
            return self.empty(name);
        }
        self.node(name, |xml| {
            for item in items {
                write!(xml.text, "<item>{item}</item>").ok();
            }
        });
    }

    /// A list of plain texts.
    pub(crate) fn words<T: Display>(&mut self, name: &str, words: impl IntoIterator<Item = T>) {
        self.node(name, |xml| {
            for word in words {
                xml.text("item", word);
            }
        });
    }

    /// Tags.
    pub(crate) fn tags<'a>(&mut self, name: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.set(name, tags, |xml, (key, value)| {
            xml.text("key", key);
            xml.text("value", value);
        });
    }

    /// The token of the next page: absent or empty at the end.
    pub(crate) fn next_token(&mut self, token: Option<&str>, is_written_empty: bool) {
        match token {
            Some(token) => self.text("nextToken", token),
            None if is_written_empty => self.empty("nextToken"),
            None => {}
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// The whole answer of EC2.
pub(crate) fn ec2_answer(action: &str, request_id: &str, inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>{request_id}</requestId>{inside}</{action}Response>"
    )
}

/// `2026-11-28T10:10:03.000Z`.
pub(crate) fn time(ms: i64) -> String {
    stamp(ms).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

/// `2026-11-28 10:10:03`.
pub(crate) fn day_and_time(ms: i64) -> String {
    stamp(ms).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn stamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Text as XML wants it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}
