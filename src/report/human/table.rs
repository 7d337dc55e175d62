//! Tables that fit the screen without breaking an id that is to be copied.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use unicode_width::UnicodeWidthStr as _;

use super::{Color, Screen};
use crate::report::text::{GLUE, keep_units};

/// Blanks between columns.
const GAP: usize = 2;

/// The least width of prose, and the longest word in it that is never broken.
const PROSE: (usize, usize) = (24, 40);

/// A table counts escape sequences as columns, so until it is drawn its colors are characters without a width. None of
/// them comes from outside: `visible` escapes them.
const MARKS: [(char, Color); 4] =
    [('\u{2061}', Color::Red), ('\u{2062}', Color::Green), ('\u{2063}', Color::Yellow), ('\u{2064}', Color::Cyan)];

/// The end of a color.
const PLAIN: char = '\u{2060}';

/// The name of a column, and how its cells are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Left(&'static str),
    Right(&'static str),
    /// Sentences. Nothing else is wrapped.
    Prose(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        let (Self::Left(name) | Self::Right(name) | Self::Prose(name)) = self;
        name
    }
}

/// A cell in a color.
pub(super) fn painted(screen: Screen, text: &str, color: Color) -> String {
    let mark = MARKS.iter().find(|(_, it)| screen.color && *it == color);
    mark.map_or_else(|| text.into(), |(mark, _)| format!("{mark}{text}{PLAIN}"))
}

/// A table below the names of its columns. While it is too wide for the screen it loses the columns named in `spare`, in
/// that order.
pub(super) fn table(screen: Screen, columns: &[Column], rows: &[Vec<String>], spare: &[&str]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|column| column.name()));
    table.add_rows(rows.iter().map(|row| row.iter().map(|text| keep_units(text))));
    let widths = table.column_max_content_widths();
    let least = |at: usize| {
        let words = rows.iter().flat_map(|row| row[at].split(' ')).map(str::width);
        let wrapped = match columns[at] {
            Column::Prose(_) => words.max().unwrap_or(0).clamp(PROSE.0, PROSE.1),
            Column::Left(_) | Column::Right(_) => usize::MAX,
        };
        wrapped.min(widths[at].into()) + GAP
    };
    let least: Vec<usize> = (0..columns.len()).map(least).collect();
    let room = screen.width.map_or(usize::MAX, |width| width + GAP);
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    for name in spare {
        if shown.iter().map(|at| least[*at]).sum::<usize>() > room {
            shown.retain(|at| columns[*at].name() != *name);
        }
    }
    let narrow = |columns: usize| u16::try_from(columns).unwrap_or(u16::MAX);
    for (at, column) in table.column_iter_mut().enumerate() {
        let is_right = matches!(columns[at], Column::Right(_));
        column.set_cell_alignment(if is_right { CellAlignment::Right } else { CellAlignment::Left });
        column.set_padding((0, narrow(GAP))).set_constraint(match columns[at] {
            _ if !shown.contains(&at) => ColumnConstraint::Hidden,
            Column::Prose(_) => ColumnConstraint::LowerBoundary(Width::Fixed(narrow(least[at]))),
            Column::Left(_) | Column::Right(_) => ColumnConstraint::ContentWidth,
        });
    }
    if screen.width.is_some() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(narrow(room));
    }
    let marks = MARKS.iter().map(|(mark, color)| (*mark, format!("\u{1b}[{}m", *color as u8)));
    let marks = marks.chain([(PLAIN, "\u{1b}[0m".to_owned()), (GLUE, " ".to_owned())]);
    marks.fold(table.trim_fmt(), |text, (mark, shown)| text.replace(mark, &shown)) + "\n"
}

#[cfg(test)]
mod tests {
    use super::Column::{Left, Prose, Right};
    use super::*;

    const AT_60: &str = "
INSTANCE          NAME     TOOK  REASON
mi2vujdbyg2qoduf  infer-9  9 ms  no previous migration
d5jug30fgvmspadc  eval-20  0 ms  its migration failed: no
                                 node (job
                                 wc1k1gjef5g840nk); created
                                 again on its own product
";

    const AT_50: &str = "
INSTANCE          REASON
mi2vujdbyg2qoduf  no previous migration
d5jug30fgvmspadc  its migration failed: no node
                  (job wc1k1gjef5g840nk); created
                  again on its own product
";

    const AT_20: &str = "
INSTANCE          REASON
mi2vujdbyg2qoduf  no previous migration
d5jug30fgvmspadc  its migration failed: no
                  node (job
                  wc1k1gjef5g840nk);
                  created again on its own
                  product
";

    #[test]
    fn columns_go_before_an_id_breaks() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let failed = "its migration failed: no node (job wc1k1gjef5g840nk); created again on its own product";
        let rows = [
            row(["mi2vujdbyg2qoduf", "infer-9", "9 ms", "no previous migration"]),
            row(["d5jug30fgvmspadc", "eval-20", "0 ms", failed]),
        ];
        let columns = [Left("INSTANCE"), Left("NAME"), Right("TOOK"), Prose("REASON")];
        let at = |width, color| table(Screen { width, color }, &columns, &rows, &["TOOK", "NAME"]);
        for (width, expected) in [(60, AT_60), (50, AT_50), (20, AT_20)] {
            assert_eq!(at(Some(width), false), expected[1..], "{width}");
        }
        assert_eq!(at(None, false).lines().count(), 3, "without a terminal a row is a line");
    }

    #[test]
    fn colors_take_no_room() {
        let screen = Screen { width: Some(80), color: true };
        let rows = [[painted(screen, "failed", Color::Red), "why".into()], ["done".into(), "-".into()]];
        let columns = [Right("OUTCOME"), Prose("REASON")];
        let drawn = table(screen, &columns, &rows.map(Vec::from), &[]);
        assert_eq!(drawn, "OUTCOME  REASON\n \u{1b}[31mfailed\u{1b}[0m  why\n   done  -\n");
    }
}
