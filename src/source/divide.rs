//! Divides a table by what its catalog, statistics and rows say: so that every row within the bounds is in exactly one
//! window, no window is much larger than wanted, and stretches without rows make none.

use super::{
    division::{self, Facts, Grid, MOST_WINDOWS, Way},
    query_error::{Doing, QueryError, Result},
    window::{KeyColumn, Kind, WindowRange, from_where},
};
use crate::{
    config::Window,
    model::{TableSchema, quote_identifier},
};
use chrono::{DateTime, Utc};
use tokio_postgres::{Client, SimpleQueryMessage};

/// A table and the connection that is asked about it.
pub struct Divider<'a> {
    /// A connection to the server that windows are read from, after the floor's barrier.
    pub client: &'a Client,
    /// The table.
    pub table: &'a TableSchema,
    /// Does the stream bring rows that an UPDATE moves while windows are read?
    pub is_streamed: bool,
    /// Bytes of the table that a window is to have at most.
    pub most_bytes: u64,
}

/// A table divided.
#[derive(Clone, Debug, PartialEq)]
pub struct Divided {
    /// The windows.
    pub windows: Vec<WindowRange>,
    /// By what, and why so.
    pub reason: String,
    /// What was done differently from what was asked.
    pub notes: Vec<String>,
    /// What the catalog said.
    pub facts: Facts,
}

/// Relations with rows: the table, or its partitions. A root's estimate is the sum over those that were analyzed.
const RELATIONS: &str = "
SELECT c.oid, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)::pg_catalog.oid,
       coalesce(pg_catalog.pg_relation_size(c.oid), 0)
         / pg_catalog.current_setting('block_size')::pg_catalog.int8,
       coalesce(pg_catalog.pg_table_size(c.oid), 0), c.reltuples::pg_catalog.int8
  FROM pg_catalog.pg_class c
 WHERE c.relkind IN ('r', 'm') AND (c.oid = $1
    OR c.oid = ANY(ARRAY(SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid) t
                          WHERE t.isleaf)))
 ORDER BY 1";

/// Columns that lead an index over all rows, or the key of the partitions.
const LEADING: &str = "
SELECT a.attname::pg_catalog.text
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
 WHERE i.indrelid = $1 AND i.indisvalid AND i.indpred IS NULL
UNION
SELECT a.attname::pg_catalog.text
  FROM pg_catalog.pg_partitioned_table p
  JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
 WHERE p.partrelid = $1 AND p.partstrat = 'r'";

/// Files of the relations with rows, by oid.
///
/// In a transaction that has read the table nobody can give it another file until the end: it holds a lock.
///
/// # Errors
/// The server could not be asked.
pub async fn files(client: &Client, table: &TableSchema) -> Result<Vec<(u32, u32)>> {
    let rows = client.query(RELATIONS, &[&table.oid]).await;
    let rows = rows.doing(|| format!("reading the files of {}", table.name))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

impl Divider<'_> {
    /// Divides the table as `window` says, or as [`division::choose`] does.
    ///
    /// # Errors
    /// A window that its column does not allow, or no answer.
    pub async fn divide(&self, window: Option<&Window>, now: DateTime<Utc>) -> Result<Divided> {
        let facts = self.facts().await?;
        let (way, reason) = match window {
            Some(window) => {
                (Way::Column(window.clone()), format!("ranges of {}, as configured", window.column))
            }
            None => division::choose(self.table, &facts, self.is_streamed),
        };
        let mut notes = vec![];
        let windows = match way {
            Way::Whole => vec![WindowRange::Whole],
            Way::Blocks => division::blocks(&facts, self.most_bytes),
            Way::Keys(key) => self.key_windows(&facts, key).await?,
            Way::Column(window) => {
                let grid = Grid::new(self.table, &window, now)?;
                let edges = self.edges(&grid).await?;
                if Grid::is_widened(edges.len()) {
                    notes.push(format!(
                        "{} windows: steps are longer than configured from the {}th on",
                        edges.len(),
                        1_000
                    ));
                }
                if edges.len() > 1 && facts.bytes > self.most_bytes && !facts.leading.contains(&window.column)
                {
                    notes.push(format!(
                        "no index begins with {0}, so each of {1} windows reads the whole table: CREATE INDEX ON {2} ({3}), \
                         or leave `window` out",
                        window.column,
                        edges.len() + 1,
                        self.table.name.quoted(),
                        quote_identifier(&window.column)
                    ));
                }
                let steps = grid.windows(&edges);
                let count = steps.len();
                let windows = self.split_large(&facts, steps).await?;
                if windows.len() > count {
                    notes.push(format!(
                        "windows with more than backfill.window_bytes are split: {count} became {}",
                        windows.len()
                    ));
                }
                windows
            }
        };
        Ok(Divided { windows, reason, notes, facts })
    }

    /// What the catalog says.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn facts(&self) -> Result<Facts> {
        let doing = || format!("reading the size of {}", self.table.name);
        let relations = self.client.query(RELATIONS, &[&self.table.oid]).await.doing(doing)?;
        let leading = self.client.query(LEADING, &[&self.table.oid]).await.doing(doing)?;
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let rows: Vec<i64> = relations.iter().map(|r| r.get(4)).collect();
        Ok(Facts {
            blocks: relations.iter().map(|r| u32::try_from(r.get::<_, i64>(2)).unwrap_or(0)).collect(),
            bytes: relations.iter().map(|r| count(r.get(3))).sum(),
            // A partition that is empty is never analyzed by itself.
            rows: rows.iter().any(|n| *n >= 0).then(|| rows.iter().map(|n| count(*n)).sum()),
            leading: leading.iter().map(|r| r.get(0)).collect(),
            files: relations.iter().map(|r| (r.get(0), r.get(1))).collect(),
        })
    }

    /// Edges of a grid that leave a row in every window but, perhaps, the last: after each edge the server is asked for the
    /// next value that there is. Infinities do not count: they are in the open windows at the ends.
    async fn edges(&self, grid: &Grid) -> Result<Vec<i128>> {
        let mut edges = vec![];
        let (Some(least), Some(greatest)) =
            (self.extreme(grid, "min", None).await?, self.extreme(grid, "max", None).await?)
        else {
            return Ok(edges);
        };
        let (mut value, high) = grid.inside(least, greatest);
        while value <= high {
            let edge = grid.edge_above(value, edges.len());
            if edge > high {
                break;
            }
            edges.push(edge);
            let Some(next) = self.extreme(grid, "min", Some(edge)).await? else { break };
            value = next;
        }
        Ok(edges)
    }

    /// `min` or `max` of the finite values of the grid's column, from a value on.
    async fn extreme(&self, grid: &Grid, function: &str, from: Option<i128>) -> Result<Option<i128>> {
        let from =
            from.map(|from| format!("{} >= {}", quote_identifier(&grid.column), grid.kind.literal(from)));
        self.extreme_of(&grid.column, grid.kind, function, from.as_deref()).await
    }

    async fn extreme_of(
        &self,
        column: &str,
        kind: Kind,
        function: &str,
        condition: Option<&str>,
    ) -> Result<Option<i128>> {
        let name = quote_identifier(column);
        let finite = match kind {
            Kind::Integer => format!("{name} IS NOT NULL"),
            _ => format!("{name} > '-infinity' AND {name} < 'infinity'"),
        };
        let from = from_where(self.table, [self.table.row_filter.as_deref(), Some(&*finite), condition]);
        let sql = format!("SELECT pg_catalog.{function}({name})::pg_catalog.text {from}");
        let doing = || format!("reading the bounds of {}.{column}", self.table.name);
        let Some(text) = self.client.query_one(&sql, &[]).await.doing(doing)?.get::<_, Option<String>>(0)
        else {
            return Ok(None);
        };
        kind.number(&text).ok_or_else(|| QueryError::answer(doing(), text))
    }

    /// Splits windows that are larger than wanted, by what the planner's statistics say of them; without statistics rows are
    /// counted, as far as a window may have them.
    async fn split_large(&self, facts: &Facts, windows: Vec<WindowRange>) -> Result<Vec<WindowRange>> {
        if facts.bytes <= self.most_bytes {
            return Ok(windows);
        }
        let most = facts.rows_of(self.most_bytes);
        let mut open: Vec<WindowRange> = windows.into_iter().rev().collect();
        let mut done = vec![];
        while let Some(window) = open.pop() {
            if done.len() + open.len() < MOST_WINDOWS
                && self.rows_in(facts, &window, most).await? > most
                && let Some((first, second)) = self.halves(facts, &window).await?
            {
                open.extend([second, first]);
                continue;
            }
            done.push(window);
        }
        Ok(done)
    }

    /// About how many rows a window has; at least whether it is more than `most`.
    async fn rows_in(&self, facts: &Facts, window: &WindowRange, most: u64) -> Result<u64> {
        let predicate = window.predicate();
        let from = from_where(self.table, [self.table.row_filter.as_deref(), predicate.as_deref()]);
        let doing = || format!("estimating a window of {}", self.table.name);
        if facts.rows.is_none() {
            let sql = format!(
                "SELECT pg_catalog.count(*) FROM (SELECT {from} LIMIT {}) w",
                most.saturating_add(1).min(i64::MAX as u64)
            );
            let rows: i64 = self.client.query_one(&sql, &[]).await.doing(doing)?.get(0);
            return Ok(u64::try_from(rows).unwrap_or(0));
        }
        let explained = self.client.simple_query(&format!("EXPLAIN (FORMAT JSON) SELECT {from}")).await;
        let lines = explained.doing(doing)?;
        let lines = lines.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let rows = plan[0]["Plan"]["Plan Rows"].as_f64();
        rows.map(|rows| rows as u64).ok_or_else(|| QueryError::answer(doing(), text))
    }

    /// Two windows that hold what `window` holds, each with some of its rows or blocks; `None` where it cannot be split.
    ///
    /// # Errors
    /// The server could not be asked.
    pub async fn halves(
        &self,
        facts: &Facts,
        window: &WindowRange,
    ) -> Result<Option<(WindowRange, WindowRange)>> {
        let within = |inner: Option<(WindowRange, WindowRange)>, outer: &WindowRange| {
            let part = |inner| WindowRange::Within(Box::new(outer.clone()), Box::new(inner));
            inner.map(|(first, second)| (part(first), part(second)))
        };
        Ok(match window {
            WindowRange::Range { column, kind, from, to } => {
                let condition = window.predicate();
                let extreme = |function| self.extreme_of(column, *kind, function, condition.as_deref());
                let middle = match (extreme("min").await?, extreme("max").await?) {
                    (Some(low), Some(high)) => division::middle(*kind, low, high),
                    _ => None,
                };
                let part = |from, to| WindowRange::Range { column: column.clone(), kind: *kind, from, to };
                match middle {
                    Some(middle) => Some((part(*from, Some(middle)), part(Some(middle), *to))),
                    None => within(self.halves_of(facts, &self.undivided(), window).await?, window),
                }
            }
            WindowRange::Null { .. } => {
                within(self.halves_of(facts, &self.undivided(), window).await?, window)
            }
            WindowRange::Whole => self.halves_of(facts, &self.undivided(), window).await?,
            WindowRange::Within(outer, inner) => within(self.halves_of(facts, inner, window).await?, outer),
            WindowRange::Blocks { .. } | WindowRange::Keys { .. } => {
                self.halves_of(facts, window, window).await?
            }
        })
    }

    /// All rows, in a form that can be split whatever the rows are.
    fn undivided(&self) -> WindowRange {
        match division::key_of(self.table) {
            _ if self.is_streamed => WindowRange::Blocks { from: 0, to: None },
            Some(columns) => WindowRange::Keys { columns, from: None, to: None },
            None => WindowRange::Whole,
        }
    }

    /// Halves of `part` by the rows of `window`.
    async fn halves_of(
        &self,
        facts: &Facts,
        part: &WindowRange,
        window: &WindowRange,
    ) -> Result<Option<(WindowRange, WindowRange)>> {
        Ok(match part {
            WindowRange::Blocks { from, to } => {
                let end = to.unwrap_or_else(|| facts.most_blocks());
                division::middle_block(*from, end).map(|middle| {
                    let first = WindowRange::Blocks { from: *from, to: Some(middle) };
                    (first, WindowRange::Blocks { from: middle, to: *to })
                })
            }
            WindowRange::Keys { columns, from, to } => {
                self.middle_key(columns, window).await?.map(|middle| {
                    let part = |from, to| WindowRange::Keys { columns: columns.clone(), from, to };
                    (part(from.clone(), Some(middle.clone())), part(Some(middle), to.clone()))
                })
            }
            _ => None,
        })
    }

    /// The key of the row in the middle of a window; `None` where it has less than two rows.
    async fn middle_key(&self, key: &[KeyColumn], window: &WindowRange) -> Result<Option<Vec<String>>> {
        let predicate = window.predicate();
        let filter = self.table.row_filter.as_deref();
        let rows = super::window::count(self.client, self.table, filter, predicate.as_deref()).await?;
        if rows < 2 { Ok(None) } else { self.key_at(key, predicate.as_deref(), rows / 2).await }
    }

    /// Ranges of a key with about as many rows as a window is to have.
    async fn key_windows(&self, facts: &Facts, columns: Vec<KeyColumn>) -> Result<Vec<WindowRange>> {
        if facts.bytes <= self.most_bytes {
            return Ok(vec![WindowRange::Whole]);
        }
        let rows = facts.rows_of(self.most_bytes).max(facts.rows.unwrap_or(0) / MOST_WINDOWS as u64);
        let (mut windows, mut from) = (vec![], None);
        loop {
            let rest = WindowRange::Keys { columns: columns.clone(), from: from.clone(), to: None };
            let next = match windows.len() {
                MOST_WINDOWS => None,
                _ => self.key_at(&columns, rest.predicate().as_deref(), rows).await?,
            };
            let Some(to) = next else {
                windows.push(rest);
                return Ok(windows);
            };
            windows.push(WindowRange::Keys { columns: columns.clone(), from, to: Some(to.clone()) });
            from = Some(to);
        }
    }

    /// The key of the row after `rows` others under a condition.
    async fn key_at(
        &self,
        key: &[KeyColumn],
        condition: Option<&str>,
        rows: u64,
    ) -> Result<Option<Vec<String>>> {
        let names: Vec<String> = key.iter().map(|c| quote_identifier(&c.name)).collect();
        let texts: Vec<String> = names.iter().map(|n| format!("{n}::pg_catalog.text")).collect();
        let from = from_where(self.table, [self.table.row_filter.as_deref(), condition]);
        let names = names.join(", ");
        // ORDER BY would take a column of the output, a text, for the column of the same name.
        let ordered = format!("SELECT {names} {from} ORDER BY {names} OFFSET {rows} LIMIT 1");
        let sql = format!("SELECT {} FROM ({ordered}) k", texts.join(", "));
        let row = self.client.query_opt(&sql, &[]).await;
        let row = row.doing(|| format!("reading the primary key of {}", self.table.name))?;
        Ok(row.map(|row| (0..key.len()).map(|i| row.get(i)).collect()))
    }
}
