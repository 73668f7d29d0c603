//! Lists that are read on a screen.
//!
//! Promises: columns line up whatever they hold, and nothing that a server sends steers the terminal.

use indicatif::{HumanBytes, HumanCount};

/// What stands where the server gave no number.
const UNKNOWN: &str = "?";
/// What stands between two columns.
const GAP: &str = "  ";

/// The side to which the cells of a column go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// A line of names, and one for each row.
pub(super) fn lines<const N: usize>(columns: [(&str, Side); N], rows: Vec<[String; N]>) -> String {
    let names = columns.map(|(name, _)| name.to_owned());
    let rows: Vec<[String; N]> = std::iter::once(names).chain(rows.into_iter().map(|row| row.map(harmless))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(columns).zip(widths).map(|((cell, (_, side)), width)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join(GAP).trim_end())
    };
    rows.iter().map(line).collect()
}

/// For example `336,776`.
pub(super) fn count(number: i64) -> String {
    u64::try_from(number).map_or(UNKNOWN.to_owned(), |number| HumanCount(number).to_string())
}

/// For example `8.83 MiB`.
pub(super) fn size(bytes: i64) -> String {
    u64::try_from(bytes).map_or(UNKNOWN.to_owned(), |bytes| HumanBytes(bytes).to_string())
}

fn harmless(cell: String) -> String {
    cell.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_are_harmless() {
        let columns = [("N", Side::Right), ("NAME", Side::Left), ("SIZE", Side::Right), ("LAST", Side::Left)];
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let text = lines(columns, vec![row(["12", "größer", "1", "a"]), row(["3", "\u{1b}[2J\n", "22", "bc d"])]);
        let expected = [" N  NAME    SIZE  LAST", "12  größer     1  a", " 3  \u{fffd}[2J\u{fffd}     22  bc d", ""];
        assert_eq!(text, expected.join("\n"));
        assert_eq!(lines(columns, Vec::new()), "N  NAME  SIZE  LAST\n");
    }

    #[test]
    fn numbers_that_are_not_known_are_marked() {
        assert_eq!((count(336_776), size(3 << 20)), ("336,776".to_owned(), "3.00 MiB".to_owned()));
        assert_eq!((count(-1), size(-1)), ("?".to_owned(), "?".to_owned()));
    }
}
