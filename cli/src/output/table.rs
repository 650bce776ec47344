//! Tables with the spacing of Go's `tabwriter` as the originals set it up: cells padded to the widest of their
//! column plus two blanks and at least twelve wide, the last column not padded.

/// Lays rows out in columns. Each row's cells are separated by tabs in the result of a template, or given apart.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

/// Blanks between columns.
const PADDING: usize = 2;

/// Least width of a column, its padding included.
const MINIMUM: usize = 12;

impl Table {
    /// A table without rows.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a row of cells.
    pub(crate) fn row<I, S>(&mut self, cells: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Adds the rows of a text whose cells are separated by tabs.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for line in text.lines() {
            self.row(line.split('\t'));
        }
        self
    }

    /// The table as text, a line feed behind each row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            // The last cell of a row ends the line: it does not widen its column, as in tabwriter.
            for (column, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
                widths[column] = widths[column].max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                out.push_str(cell);
                if column + 1 < row.len() {
                    let width = (widths[column] + PADDING).max(MINIMUM);
                    let blanks = width - cell.chars().count();
                    out.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_two_blanks() {
        let mut table = Table::new();
        table.row(["REPOSITORY", "TAG", "SIZE"]).row(["a", "latest", "1 B"]);
        assert_eq!(table.render(), "REPOSITORY  TAG         SIZE\na           latest      1 B\n");
    }

    #[test]
    fn an_empty_last_cell_leaves_the_padding_of_the_one_before() {
        let mut table = Table::new();
        table.text("A\tB\nmuch longer\t\n");
        assert_eq!(table.render(), "A            B\nmuch longer  \n");
    }
}
