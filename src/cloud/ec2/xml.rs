//! Answers in XML: an element, and how shapes are read from it.
//!
//! serde would do the same with a deserializer for each shape, which makes the program larger by about as much as
//! everything else that is about EC2.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;

/// The deepest nesting that is read; answers have about ten levels.
const DEEPEST: usize = 64;

/// An element of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    /// Of an element without children.
    text: String,
    children: Vec<Self>,
}

/// What can be read from an element. One that is absent, or whose value is not of the kind that is expected there, reads as
/// the default; the names of the latter are added to `unread`.
pub(super) trait Shape: Default {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self;
}

/// Declares structs that are read from elements: each field from the child of its name, whatever the case and without
/// underscores, or of another name that is given. Unknown children are ignored.
macro_rules! shapes {
    ($($(#[$about:meta])* $seen:vis struct $shape:ident {
        $($(#[$of_field:meta])* $field_seen:vis $field:ident: $type:ty $(= $name:literal $(| $other:literal)*)?,)*
    })*) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $seen struct $shape {
            $($(#[$of_field])* $field_seen $field: $type,)*
        }

        impl $crate::cloud::ec2::xml::Shape for $shape {
            fn read(element: &$crate::cloud::ec2::xml::Element, unread: &mut Vec<String>) -> Self {
                Self { $($field: element.member(&[stringify!($field) $(, $name $(, $other)*)?], unread),)* }
            }
        }
    )*};
}
pub(super) use shapes;

impl Element {
    /// Reads a whole document.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it.
    pub(super) fn of(body: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
        if text.trim().is_empty() {
            return Err("it is empty".into());
        }
        Self::parsed(text).ok_or_else(|| "it is not a complete answer of AWS".into())
    }

    fn parsed(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text);
        // The elements that are open, outermost first.
        let mut open: Vec<Self> = Vec::new();
        loop {
            let (opened, is_empty) = match reader.read_event().ok()? {
                Event::Start(tag) => (tag.local_name().as_ref().to_owned(), false),
                Event::Empty(tag) => (tag.local_name().as_ref().to_owned(), true),
                Event::End(_) => {
                    let element = open.pop()?;
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Some(element),
                    }
                    continue;
                }
                Event::Text(part) => {
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&part),
                        None if part.trim().is_empty() => {}
                        None => return None,
                    }
                    continue;
                }
                Event::CData(part) => {
                    open.last_mut()?.text.push_str(&part);
                    continue;
                }
                Event::GeneralRef(reference) => {
                    let known = match reference.resolve_char_ref().ok()? {
                        Some(letter) => Cow::Owned(letter.to_string()),
                        None => Cow::Borrowed(resolve_predefined_entity(&reference)?),
                    };
                    open.last_mut()?.text.push_str(&known);
                    continue;
                }
                Event::Eof => return None,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => continue,
            };
            let element = Self { name: opened, ..Self::default() };
            if open.len() >= DEEPEST {
                return None;
            }
            match (is_empty, open.last_mut()) {
                (true, Some(parent)) => parent.children.push(element),
                (true, None) => return Some(element),
                (false, _) => open.push(element),
            }
        }
    }

    /// The first child with one of these names.
    fn child(&self, names: &[&str]) -> Option<&Self> {
        self.children.iter().find(|child| names.iter().any(|name| is_named(&child.name, name)))
    }

    /// The shape of the first child with one of these names.
    pub(super) fn member<T: Shape>(&self, names: &[&str], unread: &mut Vec<String>) -> T {
        self.child(names).map_or_else(T::default, |child| T::read(child, unread))
    }

    /// The value, if it is what is expected; otherwise the default.
    fn value<T: Default>(&self, value: Option<T>, unread: &mut Vec<String>) -> T {
        value.unwrap_or_else(|| {
            unread.push(self.name.chars().filter(char::is_ascii_alphanumeric).take(40).collect());
            T::default()
        })
    }
}

/// Whether an element has the name of a field: `RequestID` is `request_id`.
fn is_named(element: &str, field: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = u8> {
        name.bytes().filter(|it| *it != b'_').map(|it| it.to_ascii_lowercase())
    }
    letters(element).eq(letters(field))
}

impl Shape for String {
    fn read(element: &Element, _: &mut Vec<String>) -> Self {
        element.text.clone()
    }
}

impl Shape for bool {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        let value = match element.text.trim() {
            "true" | "1" => Some(true),
            "false" | "0" | "" => Some(false),
            _ => None,
        };
        element.value(value, unread)
    }
}

impl Shape for u32 {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        let value = match element.text.trim() {
            "" => Some(0),
            text => text.parse().ok(),
        };
        element.value(value, unread)
    }
}

impl<T: Shape> Shape for Option<T> {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        let is_empty = element.text.trim().is_empty() && element.children.is_empty();
        if is_empty { None } else { Some(T::read(element, unread)) }
    }
}

/// A list: each child is an element of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set<T> {
    pub(super) item: Vec<T>,
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

impl<T: Shape> Shape for Set<T> {
    fn read(element: &Element, unread: &mut Vec<String>) -> Self {
        Self { item: element.children.iter().map(|child| T::read(child, unread)).collect() }
    }
}

/// What is read as far as possible: one bad value in a row of a listing says nothing about the other rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Partly<T> {
    pub(super) read: T,
    /// The elements whose values are not what is expected there.
    pub(super) unread: Vec<String>,
}

impl<T: Shape> Shape for Partly<T> {
    fn read(element: &Element, _: &mut Vec<String>) -> Self {
        let mut unread = Vec::new();
        Self { read: T::read(element, &mut unread), unread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    shapes! {
        struct Sized {
            size: Option<u32>,
            is_on: bool,
            kind: String = "type",
            names: Set<String>,
        }
    }

    fn read(inside: &str) -> Result<Sized, String> {
        let element = Element::of(format!("<?xml version=\"1.0\"?>\n<a:R xmlns:a=\"x\">{inside}</a:R>").as_bytes())?;
        let mut unread = Vec::new();
        let sized = Sized::read(&element, &mut unread);
        if unread.is_empty() { Ok(sized) } else { Err(unread.join(" ")) }
    }

    #[test]
    fn elements_become_what_a_field_expects() {
        let of = |size, is_on, kind: &str, names: &[&str]| {
            let item = names.iter().map(|it| (*it).to_owned()).collect();
            Ok(Sized { size, is_on, kind: kind.into(), names: Set { item } })
        };
        for (inside, expected) in [
            ("", of(None, false, "", &[])),
            ("<size/><isOn/><type/><names/>", of(None, false, "", &[])),
            ("<new><size>9</size></new><Size> 8 </Size><isOn>true</isOn>", of(Some(8), true, "", &[])),
            ("<type>a &amp;&#x20;&lt;b&gt;<!-- c --></type>", of(None, false, "a & <b>", &[])),
            ("<type><![CDATA[a<b]]></type>", of(None, false, "a<b", &[])),
            ("<names><item>a</item><item> b </item><member/></names>", of(None, false, "", &["a", " b ", ""])),
            ("<size>8 GB</size>", Err("size".into())),
            ("<isOn>maybe</isOn><size>-1</size>", Err("size isOn".into())),
        ] {
            assert_eq!(read(inside), expected, "{inside}");
        }
    }

    #[test]
    fn what_is_no_whole_document_is_an_error() {
        let deep = "<a>".repeat(100_000);
        let bodies: [&[u8]; 9] = [
            b"",
            b" \n",
            b"{}",
            b"plain text",
            b"<a><b></b>",
            b"<a></b>",
            b"<a>&unknown;</a>",
            b"<a>\xff</a>",
            deep.as_bytes(),
        ];
        for body in bodies {
            assert!(Element::of(body).is_err(), "{}", String::from_utf8_lossy(&body[..body.len().min(20)]));
        }
    }
}
