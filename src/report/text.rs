//! Text that is safe to show and fits a line. Nothing from outside reaches a terminal as it is.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Replaces what a terminal would act on, or what would make text read as something else, with a visible escape:
/// control characters, line separators, invisible operators, and marks that change the direction of writing.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes the same characters inside finished JSON. They can stand only within strings there, where `\u` and four
/// digits mean the same character.
#[must_use]
pub fn escape_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_dangerous(c) && c != '\n' {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether this character could mislead a terminal or a reader. All of them are in the basic plane.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Shortens text in the middle to at most `width` columns: names often differ in their last characters.
#[must_use]
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let room = width.saturating_sub(1);
    let head = fitting(text.chars(), room.div_ceil(2));
    let tail = fitting(text.chars().rev(), room - text[..head].width());
    format!("{}…{}", &text[..head], &text[text.len() - tail..])
}

/// The bytes of the first characters that fit into `room` columns.
fn fitting(chars: impl Iterator<Item = char>, room: usize) -> usize {
    let mut columns = 0;
    let fits = |c: &char| {
        columns += c.width().unwrap_or(0);
        columns <= room
    };
    chars.take_while(fits).map(char::len_utf8).sum()
}

/// A space at which no line is broken; [`wrap`] and the tables replace it with a common one.
pub const GLUE: char = '\u{a0}';

/// Keeps the words of a text on one line.
#[must_use]
pub fn together(text: &str) -> String {
    text.replace(' ', GLUE.encode_utf8(&mut [0; 2]))
}

/// Keeps numbers on one line with their units.
#[must_use]
pub fn keep_units(text: &str) -> String {
    const UNITS: [&str; 6] = ["ms", "s", "min", "h", "d", "%"];
    let mut out = String::with_capacity(text.len() + 8);
    for (at, word) in text.split(' ').enumerate() {
        let unit = word.trim_end_matches([',', ';', ':', '.', ')', ']']);
        let is_unit = out.ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&unit);
        out.extend((at > 0).then_some(if is_unit { GLUE } else { ' ' }));
        out.push_str(word);
    }
    out
}

/// Breaks text between words into lines of at most `width` columns. A longer word gets a line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in keep_units(text.trim_end()).split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.into()),
        }
    }
    lines.into_iter().map(|line| line.replace(GLUE, " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_reaches_a_terminal() {
        for (text, shown) in [
            ("train-7", "train-7"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\nb\tc", "a\\u{a}b\\u{9}c"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("abc\u{202e}fed", "abc\\u{202e}fed"),
            ("Zug 🚂 名前", "Zug 🚂 名前"),
        ] {
            assert_eq!(visible(text), shown);
            let json = escape_json(&serde_json::to_string(text).unwrap());
            assert!(!json.chars().any(is_dangerous), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn long_lines_break_between_words() {
        for (text, width, lines) in [
            ("one two three", 80, &["one two three"] as &[_]),
            ("one two three", 7, &["one two", "three"]),
            ("one two three", 6, &["one", "two", "three"]),
            ("a-long-word b", 3, &["a-long-word", "b"]),
            ("名前 名前", 8, &["名前", "名前"]),
            ("took 42 ms (97.5 %), 3 h 5 min ago", 7, &["took", "42 ms", "(97.5 %),", "3 h", "5 min", "ago"]),
            ("one 2 three", 5, &["one 2", "three"]),
            (&together("one two three"), 5, &["one two three"]),
            ("", 3, &[""]),
        ] {
            assert_eq!(wrap(text, width), lines, "{text} at {width}");
        }
    }

    #[test]
    fn long_names_shorten_in_the_middle() {
        for (text, width, shown) in [
            ("train-7", 7, "train-7"),
            ("a-long-name-recreated-1", 12, "a-long…ted-1"),
            ("🚂🚂🚂🚂", 5, "🚂…🚂"),
            ("abc", 1, "…"),
            ("", 3, ""),
        ] {
            assert_eq!(shorten(text, width), shown);
            assert!(shorten(text, width).width() <= width);
        }
    }
}
