//! Text that is safe to show: what comes from outside never reaches a terminal as it is.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Replaces what a terminal would act on, or what would make text read as something else, by a visible escape:
/// control characters, line separators, and marks that change the direction of writing.
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

/// Whether a terminal or a reader may be misled by this character. All are in the basic plane.
fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Shortens in the middle to at most `width` columns, so that the end, which often tells names apart, stays.
#[must_use]
pub fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let chars: Vec<char> = text.chars().collect();
    let columns = |c: &char| c.width().unwrap_or(0);
    let room = width.saturating_sub(1);
    let (mut head, mut tail, mut used) = (0, chars.len(), 0);
    // From both ends in turn, until the next character does not fit.
    while head < tail {
        let from_front = head <= chars.len() - tail;
        let next = if from_front { &chars[head] } else { &chars[tail - 1] };
        used += columns(next);
        if used > room {
            break;
        }
        if from_front { head += 1 } else { tail -= 1 }
    }
    chars[..head].iter().chain(['…'].iter()).chain(&chars[tail..]).collect()
}

/// A blank at which no line breaks; [`wrap`] makes a common one of it.
const GLUE: char = '\u{a0}';

/// So that it is not broken over two lines.
#[must_use]
pub fn together(text: &str) -> String {
    text.replace(' ', GLUE.encode_utf8(&mut [0; 2]))
}

/// What a number may be followed by without a line ending between the two.
const UNITS: [&str; 6] = ["ms", "s", "min", "h", "d", "%"];

/// Breaks between words into lines of at most `width` columns; a number stays with its unit. A word that is longer has a
/// line of its own.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for piece in pieces(text.trim_end()) {
        let line = lines.pop().unwrap_or_default();
        if line.is_empty() || line.width() + 1 + piece.width() <= width {
            let gap = if line.is_empty() { "" } else { " " };
            lines.push(line + gap + piece);
        } else {
            lines.extend([line, piece.into()]);
        }
    }
    lines.into_iter().map(|line| line.replace(GLUE, " ")).collect()
}

/// What a line may end behind.
fn pieces(text: &str) -> Vec<&str> {
    let may_break = |at: usize| {
        let (number, next) = (text[..at].ends_with(|c: char| c.is_ascii_digit()), &text[at + 1..]);
        let unit = next.split(' ').next().unwrap_or_default().trim_end_matches([',', ';', ':', '.', ')', ']']);
        !(number && UNITS.contains(&unit))
    };
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (at, _) in text.match_indices(' ').filter(|(at, _)| may_break(*at)) {
        pieces.push(&text[start..at]);
        start = at + 1;
    }
    pieces.push(&text[start..]);
    pieces
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
