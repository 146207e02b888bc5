//! How a table is divided into windows: what is chosen, where the edges lie, where a window is split. Pure; `divide` asks
//! the server what these decisions need.

use super::{
    moment::DAY,
    query_error::{QueryError, Result},
    window::{KeyColumn, Kind, WindowRange},
};
use crate::{
    config::{Window, WindowStep},
    model::{Column, TableSchema},
};
use chrono::{DateTime, Utc};

/// More windows than this are not planned.
pub(super) const MOST_WINDOWS: usize = 10_000;
/// After so many windows the step doubles, and again after each further [`WIDEN_EACH`]: a column with values over its whole
/// range makes a few thousand windows, not millions.
const WIDEN_AFTER: usize = 1_000;
const WIDEN_EACH: usize = 250;
/// Rows that a window of an integer key is to have where nothing is said.
const ROWS: u64 = 1_000_000;
/// Bytes of a row where the server knows none.
const ROW_BYTES: u64 = 200;

/// What the catalog says of a table's size and order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Blocks of the table, or of each of its partitions.
    pub blocks: Vec<u32>,
    /// Bytes in all, TOAST included.
    pub bytes: u64,
    /// The planner's estimate of the rows; `None` where the table was never analyzed.
    pub rows: Option<u64>,
    /// Columns that lead an index or the partitions: a range of them is found without reading the whole table.
    pub leading: Vec<String>,
    /// `pg_class.relfilenode` of the relations with rows, by oid: windows by blocks hold for these.
    pub files: Vec<(u32, u32)>,
}

impl Facts {
    /// About how many rows have so many bytes.
    pub(super) fn rows_of(&self, bytes: u64) -> u64 {
        let rows = match self.rows {
            Some(rows) if rows > 0 => u128::from(rows) * u128::from(bytes) / u128::from(self.bytes.max(1)),
            _ => u128::from(bytes / ROW_BYTES),
        };
        u64::try_from(rows).unwrap_or(u64::MAX).max(1)
    }

    /// Blocks of the largest relation.
    pub(super) fn most_blocks(&self) -> u32 {
        self.blocks.iter().copied().max().unwrap_or(0)
    }
}

/// By what a table is divided.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// Ranges of a column.
    Column(Window),
    /// Ranges of blocks (ctid).
    Blocks,
    /// Ranges of these columns.
    Keys(Vec<KeyColumn>),
    /// Not at all.
    Whole,
}

/// The way for a table whose configuration names none, and the reason for it. An UPDATE can move a row to other blocks, from
/// a window that is still to be read into one that was: only where the stream brings that row again (`is_streamed`) are
/// blocks a way.
pub fn choose(table: &TableSchema, facts: &Facts, is_streamed: bool) -> (Way, String) {
    let key: Vec<&Column> = table.primary_key.iter().filter_map(|name| table.column(name)).collect();
    let column = |column: &Column, step| {
        Way::Column(Window { column: column.name.clone(), step, from: None, to: None })
    };
    if let [only] = key[..]
        && Kind::of(only) == Some(Kind::Integer)
    {
        let reason = format!("ranges of its primary key {}, an integer", only.name);
        return (column(only, WindowStep::Rows(ROWS)), reason);
    }
    let dated = |c: &&&Column| {
        c.not_null && Kind::of(c).is_some_and(|k| k != Kind::Integer) && facts.leading.contains(&c.name)
    };
    if let Some(dated) = key.iter().find(dated) {
        let reason = format!(
            "steps of 30 days of {}, a date or timestamp of its primary key that leads an index or the partitions",
            dated.name
        );
        return (column(dated, WindowStep::Days(30)), reason);
    }
    if is_streamed {
        let reason = "ranges of blocks (ctid), as its primary key is neither one integer nor has a date or timestamp that \
                      leads an index";
        return (Way::Blocks, reason.to_owned());
    }
    match key_of(table) {
        Some(key) => {
            let names: Vec<&str> = key.iter().map(|c| c.name.as_str()).collect();
            let reason = format!("ranges of its primary key ({})", names.join(", "));
            (Way::Keys(key), reason)
        }
        None => {
            let reason =
                "one window for the whole table, as it has no primary key; set `window` to divide it";
            (Way::Whole, reason.to_owned())
        }
    }
}

/// The primary key, where all of it is read.
pub(super) fn key_of(table: &TableSchema) -> Option<Vec<KeyColumn>> {
    let column = |name: &String| {
        let column = table.column(name)?;
        Some(KeyColumn { name: column.name.clone(), sql_type: column.sql_type.clone() })
    };
    let key: Vec<KeyColumn> = table.primary_key.iter().map(column).collect::<Option<_>>()?;
    (!key.is_empty()).then_some(key)
}

/// Where the edges of windows of a column may lie, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The column.
    pub(super) column: String,
    /// What it holds.
    pub(super) kind: Kind,
    /// Distance of the edges.
    step: i128,
    /// First value.
    pub(super) from: Option<i128>,
    /// Value after the last.
    pub(super) to: Option<i128>,
    has_nulls: bool,
}

impl Grid {
    /// The grid of a configured window; edges lie at multiples of the step, or begin at `from`.
    ///
    /// # Errors
    /// What is wrong with the setting.
    pub fn new(table: &TableSchema, window: &Window, now: DateTime<Utc>) -> Result<Grid> {
        let (column, kind) = window_column(table, &window.column)?;
        let refuse = |problem: String| QueryError::Window { table: table.name.clone(), problem };
        let step = match (window.step, kind) {
            (WindowStep::Rows(rows), Kind::Integer) => i128::from(rows.max(1)),
            (WindowStep::Days(_), Kind::Integer) => {
                return Err(refuse(format!("{} is an integer: use `rows`", column.name)));
            }
            (WindowStep::Days(days), _) => i128::from(days.max(1)) * kind.day(),
            (WindowStep::Rows(_), _) => {
                return Err(refuse(format!("{} is a date or timestamp: use `days`", column.name)));
            }
        };
        let limit = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => configured(kind, text, now).map(Some).ok_or_else(|| {
                let forms = match kind {
                    Kind::Integer => "a whole number",
                    _ => "a date, a timestamp, `today`, `today+1d` or `-30d`",
                };
                refuse(format!("`{name}: {text}` is not a value for {}: write {forms}", column.name))
            }),
        };
        let (from, to) = (limit("from", &window.from)?, limit("to", &window.to)?);
        if let (Some(f), Some(t)) = (from, to)
            && f >= t
        {
            return Err(refuse(format!("`from` ({}) is not before `to` ({})", kind.text(f), kind.text(t))));
        }
        Ok(Grid { column: column.name.clone(), kind, step, from, to, has_nulls: !column.not_null })
    }

    /// The least and the greatest value that can be inside, of those that there are.
    pub(super) fn inside(&self, least: i128, greatest: i128) -> (i128, i128) {
        (self.from.map_or(least, |f| f.max(least)), self.to.map_or(greatest, |t| greatest.min(t - 1)))
    }

    /// The first edge above `value`, where `made` edges are made already.
    pub(super) fn edge_above(&self, value: i128, made: usize) -> i128 {
        let doublings = made.saturating_sub(WIDEN_AFTER).div_ceil(WIDEN_EACH).min(40);
        let (step, origin) = (self.step << doublings, self.from.unwrap_or(0));
        origin + ((value - origin).div_euclid(step) + 1) * step
    }

    /// Does a column with that many windows have longer ones than configured?
    pub(super) fn is_widened(edges: usize) -> bool {
        edges > WIDEN_AFTER
    }

    /// The windows between these edges, in ascending order.
    ///
    /// Without `from` and `to` the outer windows are open, so that a row beyond the edges is in one of them, and NULLs have a
    /// window of their own. With `from` or `to` the windows are exactly that range, without NULLs.
    pub fn windows(&self, edges: &[i128]) -> Vec<WindowRange> {
        let starts = std::iter::once(self.from).chain(edges.iter().copied().map(Some));
        let ends = edges.iter().copied().map(Some).chain([self.to]);
        let (column, kind) = (|| self.column.clone(), self.kind);
        let mut windows: Vec<WindowRange> = starts
            .zip(ends)
            .map(|(from, to)| WindowRange::Range { column: column(), kind, from, to })
            .collect();
        if self.has_nulls && self.from.is_none() && self.to.is_none() {
            windows.push(WindowRange::Null { column: column() });
        }
        windows
    }
}

/// Ranges of blocks of about `most_bytes`: each is read of every partition. The last one is open.
pub(super) fn blocks(facts: &Facts, most_bytes: u64) -> Vec<WindowRange> {
    let all: u64 = facts.blocks.iter().map(|b| u64::from(*b)).sum();
    let wanted = u128::from(all) * u128::from(most_bytes) / u128::from(facts.bytes.max(1));
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).max(all / MOST_WINDOWS as u64).max(1);
    let end = facts.most_blocks();
    let (mut windows, mut from) = (vec![], 0_u32);
    loop {
        let that_long = facts.blocks.iter().filter(|b| **b > from).count().max(1) as u64;
        let step = u32::try_from((wanted / that_long).max(1)).unwrap_or(u32::MAX);
        let to = Some(from.saturating_add(step)).filter(|to| *to < end);
        windows.push(WindowRange::Blocks { from, to });
        let Some(next) = to else { break };
        from = next;
    }
    match &windows[..] {
        [_] => vec![WindowRange::Whole],
        _ => windows,
    }
}

/// A block that halves a range; `None` where it has one block.
pub(super) fn middle_block(from: u32, to: u32) -> Option<u32> {
    (to.saturating_sub(from) >= 2).then(|| from + (to - from) / 2)
}

/// A value above `low` and not above `high` that halves what is between: midnight, the full hour, minute or second where one
/// is near. `None` where there is none.
pub(super) fn middle(kind: Kind, low: i128, high: i128) -> Option<i128> {
    if low >= high {
        return None;
    }
    let middle = low + (high - low + 1) / 2;
    let units: &[i128] = match kind {
        Kind::Integer | Kind::Date => &[1],
        Kind::Timestamp | Kind::TimestampTz => &[DAY, DAY / 24, DAY / 1_440, 1_000_000, 1],
    };
    units.iter().map(|unit| middle.div_euclid(*unit) * unit).find(|round| *round > low)
}

/// A value of `from` or `to`: one of the column's values, or midnights in UTC relative to `now` (`today`, `today-7d`, `-30d`).
fn configured(kind: Kind, text: &str, now: DateTime<Utc>) -> Option<i128> {
    if kind == Kind::Integer {
        return kind.number(text)?;
    }
    let today = i128::from(now.timestamp()).div_euclid(86_400);
    let relative = match text.trim().strip_prefix("today") {
        Some("") => return Some(today * kind.day()),
        Some(rest) => rest,
        None => text.trim(),
    };
    if let Some(days) = relative.strip_suffix('d')
        && days.starts_with(['+', '-'])
    {
        return days.parse::<i32>().ok().map(|d| (today + i128::from(d)) * kind.day());
    }
    kind.number(text)?
}

fn window_column<'a>(table: &'a TableSchema, column: &str) -> Result<(&'a Column, Kind)> {
    let refuse = |problem| QueryError::Window { table: table.name.clone(), problem };
    let found = table.column(column).ok_or_else(|| {
        refuse(format!("column `{column}` does not exist or is not published; name another"))
    })?;
    let kind = Kind::of(found).ok_or_else(|| {
        refuse(format!("column `{column}` is {}; take a date, timestamp or integer column", found.sql_type))
    })?;
    Ok((found, kind))
}

/// Does the column allow the configured window? Asks nobody.
///
/// # Errors
/// What is wrong with it.
pub fn check(table: &TableSchema, window: &Window, now: DateTime<Utc>) -> Result<()> {
    Grid::new(table, window, now).map(|_| ())
}

#[cfg(test)]
#[path = "division_tests.rs"]
mod tests;
