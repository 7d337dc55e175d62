//! Tables that fit the screen: nothing is broken within a word, least of all an id that is to be copied.
//!
//! Our own, since table libraries make columns narrow until words break, and know neither a column that can go nor a text
//! that is better off below its row; what is left to do for one is to pad.

use std::fmt::{Display, Write as _};

use unicode_width::UnicodeWidthStr as _;

use super::{Color, Screen, folded};
use crate::report::text::wrap;

/// Blanks between columns.
const GAP: usize = 2;

/// Free text stands in a column of its own if that has room for so much.
const ENOUGH: usize = 24;

/// And if it takes no more lines there.
const MOST_LINES: usize = 3;

/// What free text is moved in by that stands below its row.
const INDENT: usize = 4;

/// One field of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    is_number: bool,
    color: Option<Color>,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_number: false, color: None }
    }

    /// Stands on the right.
    pub(super) fn number(value: impl Display) -> Self {
        Self { is_number: true, ..Self::new(value.to_string()) }
    }

    pub(super) fn paint(self, color: Color) -> Self {
        Self { color: Some(color), ..self }
    }

    fn shown(&self, screen: Screen, width: usize) -> String {
        let pad = " ".repeat(width.saturating_sub(self.text.width()));
        let text = self.color.map_or_else(|| self.text.clone(), |color| screen.paint(&self.text, color));
        if self.is_number { pad + &text } else { text + &pad }
    }
}

fn widths<'a>(rows: impl Iterator<Item = &'a [Cell]>) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.text.width()));
    }
    widths
}

fn line(screen: Screen, row: &[Cell], widths: &[usize]) -> String {
    let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| cell.shown(screen, *width)).collect();
    cells.join(&" ".repeat(GAP))
}

/// A table of columns, its names first; notes stand below their row. While it is too wide it loses columns, in the order
/// of `spare`.
pub(super) fn columns(screen: Screen, mut rows: Vec<(Vec<Cell>, Vec<String>)>, spare: &[&str]) -> String {
    for name in spare {
        let width: usize = widths(rows.iter().map(|(row, _)| row.as_slice())).iter().map(|width| width + GAP).sum();
        if screen.width.is_none_or(|room| width <= room + GAP) {
            break;
        }
        let at = rows.first().and_then(|(names, _)| names.iter().position(|cell| cell.text == *name));
        at.into_iter().for_each(|at| rows.iter_mut().for_each(|(row, _)| drop(row.remove(at))));
    }
    let widths = widths(rows.iter().map(|(row, _)| row.as_slice()));
    let mut out = String::new();
    for (row, notes) in &rows {
        let _ = writeln!(out, "{}", line(screen, row, &widths).trim_end());
        notes.iter().for_each(|note| below(&mut out, screen, note));
    }
    out
}

/// Free text below a row.
fn below(out: &mut String, screen: Screen, text: &str) {
    for line in folded(&" ".repeat(INDENT), text, screen.width) {
        let _ = writeln!(out, "{line}");
    }
}

/// A table whose rows end in free text, the names of its columns first. What would make a narrow column of many lines
/// stands below its row, and where not even the rest of the row has room each row is a paragraph.
pub(super) fn prose(screen: Screen, rows: &[(Vec<Cell>, String)]) -> String {
    let width = screen.width.unwrap_or(usize::MAX);
    let widths = widths(rows.iter().map(|(cells, _)| cells.as_slice()));
    let indent: usize = widths.iter().map(|width| width + GAP).sum();
    let room = width.saturating_sub(indent);
    let is_split = indent > width.saturating_add(GAP);
    let mut out = String::new();
    for (number, (cells, text)) in rows.iter().enumerate() {
        let head = line(screen, cells, &widths);
        let beside = wrap(text, room);
        if !is_split && (beside.len() == 1 && text.width() <= room || room >= ENOUGH && beside.len() <= MOST_LINES) {
            let mut beside = beside.into_iter();
            let first = beside.next().unwrap_or_default();
            let _ = writeln!(out, "{}", format!("{head}{:GAP$}{first}", "").trim_end());
            for rest in beside {
                let _ = writeln!(out, "{:indent$}{rest}", "");
            }
            continue;
        }
        if is_split && number == 0 {
            continue;
        }
        if is_split {
            let words: Vec<&str> = cells.iter().map(|cell| cell.text.as_str()).collect();
            let _ = writeln!(out, "{}", wrap(&words.join(" "), width).join("\n"));
        } else {
            let _ = writeln!(out, "{}", head.trim_end());
        }
        below(&mut out, screen, text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_60: &str = "
INSTANCE          NAME     TOOK  REASON
mi2vujdbyg2qoduf  infer-9  9 ms  no previous migration
d5jug30fgvmspadc  eval-20  0 ms
    its migration failed: no node (job wc1k1gjef5g840nk);
    created anew on its own product
";

    const AT_40: &str = "
INSTANCE          NAME     TOOK  REASON
mi2vujdbyg2qoduf  infer-9  9 ms
    no previous migration
d5jug30fgvmspadc  eval-20  0 ms
    its migration failed: no node (job
    wc1k1gjef5g840nk); created anew on
    its own product
";

    const AT_24: &str = "
mi2vujdbyg2qoduf infer-9
9 ms
    no previous
    migration
d5jug30fgvmspadc eval-20
0 ms
    its migration
    failed: no node (job
    wc1k1gjef5g840nk);
    created anew on its
    own product
";

    #[test]
    fn free_text_finds_its_place() {
        let row = |id: &str, name: &str, time: &str, text: &str| {
            (vec![Cell::new(id), Cell::new(name), Cell::number(time)], text.to_owned())
        };
        let failed = "its migration failed: no node (job wc1k1gjef5g840nk); created anew on its own product";
        let rows = [
            row("INSTANCE", "NAME", "TOOK", "REASON"),
            row("mi2vujdbyg2qoduf", "infer-9", "9 ms", "no previous migration"),
            row("d5jug30fgvmspadc", "eval-20", "0 ms", failed),
        ];
        for (width, expected) in [(60, AT_60), (40, AT_40), (24, AT_24)] {
            let screen = Screen { width: Some(width), color: false };
            let drawn = prose(screen, &rows);
            assert_eq!(drawn, expected[1..], "{width}:\n{drawn}");
            assert!(drawn.lines().all(|line| line.width() <= width), "{width}:\n{drawn}");
        }
        assert_eq!(prose(Screen { width: None, color: false }, &rows).lines().count(), rows.len());
    }

    #[test]
    fn columns_go_before_a_line_breaks() {
        let row = |cells: [&str; 3]| cells.map(Cell::new).to_vec();
        let rows = || {
            vec![
                (row(["WHEN", "STATUS", "BAR"]), Vec::new()),
                (row(["12:00", "completed", "####"]), vec!["one note".to_owned()]),
            ]
        };
        for (width, names) in [
            (None, "WHEN   STATUS     BAR"),
            (Some(22), "WHEN   STATUS     BAR"),
            (Some(21), "WHEN   STATUS"),
            (Some(15), "STATUS"),
            // Nothing is left to lose.
            (Some(1), "STATUS"),
        ] {
            let drawn = columns(Screen { width, color: false }, rows(), &["BAR", "WHEN"]);
            assert_eq!(drawn.lines().next(), Some(names), "{width:?}");
            assert!(drawn.contains("\n    one"), "{drawn}");
        }
    }
}
