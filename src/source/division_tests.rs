//! Tests of dividing a table.

use super::*;
use crate::model::{ColumnType, ReplicaIdentity, TableName};
use proptest::prelude::*;

const INFINITY: i128 = i128::MAX;

impl WindowRange {
    /// What the server does with `predicate`; `None` is NULL, the infinities are the ends of i128.
    fn holds(&self, value: Option<i128>) -> bool {
        match (self, value) {
            (WindowRange::Whole, _) | (WindowRange::Null { .. }, None) => true,
            (WindowRange::Range { from, to, .. }, Some(v)) => {
                from.is_none_or(|f| v >= f) && to.is_none_or(|t| v < t)
            }
            _ => false,
        }
    }
}

fn table(oid: u32, not_null: bool) -> TableSchema {
    let column =
        Column { name: "c".into(), column_type: ColumnType::scalar(oid, -1), sql_type: "x".into(), not_null };
    TableSchema {
        oid: 1,
        name: TableName { schema: "public".into(), name: "t".into() },
        columns: vec![column],
        primary_key: vec!["c".into()],
        identity: ReplicaIdentity::Full,
        row_filter: None,
        partitioned: false,
        deferrable_id: false,
        estimated_rows: 0,
    }
}

/// The edges over a column with every value from `least` to `greatest`.
fn edges(grid: &Grid, least: i128, greatest: i128) -> Vec<i128> {
    let (mut value, high) = grid.inside(least, greatest);
    let mut edges = vec![];
    while value <= high {
        value = grid.edge_above(value, edges.len());
        if value <= high {
            edges.push(value);
        }
    }
    edges
}

fn window(step: WindowStep, from: Option<&str>, to: Option<&str>) -> Window {
    Window { column: "c".into(), step, from: from.map(Into::into), to: to.map(Into::into) }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_706_745_599, 0).unwrap() // 2024-01-31 23:59:59
}

fn labels(
    oid: u32,
    step: WindowStep,
    from: Option<&str>,
    to: Option<&str>,
    min: &str,
    max: &str,
) -> Vec<String> {
    let grid = Grid::new(&table(oid, false), &window(step, from, to), now()).unwrap();
    let edges = match (grid.kind.number(min).unwrap(), grid.kind.number(max).unwrap()) {
        (Some(min), Some(max)) => edges(&grid, min, max),
        _ => vec![],
    };
    grid.windows(&edges).iter().map(WindowRange::label).collect()
}

proptest! {
    #[test]
    fn every_value_is_in_exactly_one_window(
        oid in prop::sample::select(vec![20u32, 1082, 1114, 1184]),
        a in -2_440_588i128..106_751_990, b in -2_440_588i128..106_751_990,
        values in prop::collection::vec(-2_440_588i128..106_751_990, 1..50), inside in 0i128..DAY,
        step in 1u32..100_000, from: Option<bool>, limits in (-2_440_588i128..106_751_990, 1i128..1_000_000),
    ) {
        let table = table(oid, false);
        let kind = Kind::of(&table.columns[0]).unwrap();
        let scale = |day: i128| if kind == Kind::Integer { day } else { day * kind.day() };
        let (min, max) = (a.min(b), a.max(b));
        let step = if kind == Kind::Integer { WindowStep::Rows(step.into()) } else { WindowStep::Days(step) };
        let (low, high) = (scale(limits.0), scale((limits.0 + limits.1).min(106_751_990)));
        let given = from.is_some();
        let window = window(
            step,
            given.then(|| kind.text(low)).as_deref(),
            (from == Some(true)).then(|| kind.text(high)).as_deref(),
        );
        let grid = Grid::new(&table, &window, now()).unwrap();
        let windows = grid.windows(&edges(&grid, scale(min), scale(max)));
        prop_assert!(windows.len() <= MOST_WINDOWS);
        let values = values.into_iter().map(|v| scale(v) + inside * i128::from(matches!(oid, 1114 | 1184)));
        let ends = [None, Some(-INFINITY), Some(INFINITY), Some(scale(min)), Some(scale(max)), Some(low), Some(high)];
        for value in values.map(Some).chain(ends) {
            let wanted = match value {
                _ if !given => true,
                None => false,
                Some(v) => v >= low && (from != Some(true) || v < high),
            };
            let found = windows.iter().filter(|w| w.holds(value)).count();
            prop_assert_eq!(found, usize::from(wanted), "{:?} in {:?}", value, windows);
        }
    }
}

#[test]
fn outer_windows_are_open_and_edges_lie_on_a_fixed_grid() {
    let days = WindowStep::Days(30);
    assert_eq!(
        labels(1082, days, None, None, "2024-01-05", "2024-03-05"),
        ["c (,2024-01-18)", "c [2024-01-18,2024-02-17)", "c [2024-02-17,)", "c null"]
    );
    assert_eq!(
        labels(1082, days, None, None, "2024-01-17", "2024-03-18"),
        [
            "c (,2024-01-18)",
            "c [2024-01-18,2024-02-17)",
            "c [2024-02-17,2024-03-18)",
            "c [2024-03-18,)",
            "c null"
        ]
    );
    assert_eq!(
        labels(23, WindowStep::Rows(100), None, None, "-5", "200"),
        ["c (,0)", "c [0,100)", "c [100,200)", "c [200,)", "c null"]
    );
    assert_eq!(labels(1082, days, None, None, "infinity", "infinity"), ["c (,)", "c null"]);
}

#[test]
fn a_range_that_is_given_is_kept_exactly() {
    let days = WindowStep::Days(30);
    assert_eq!(
        labels(1082, days, Some("2024-01-01"), Some("2024-02-15"), "2020-01-01", "2030-01-01"),
        ["c [2024-01-01,2024-01-31)", "c [2024-01-31,2024-02-15)"]
    );
    // Nothing lies before 2024-01-05, so the first window is as long as it takes.
    assert_eq!(
        labels(
            1184,
            days,
            Some("2000-01-01"),
            Some("today+1d"),
            "2024-01-05 00:00:00+00",
            "2024-01-31 00:00:00+00"
        ),
        ["c [2000-01-01,2024-01-25)", "c [2024-01-25,2024-02-01)"]
    );
    assert_eq!(
        labels(1114, days, Some("-30d"), Some("today"), "2024-01-01", "2024-01-02"),
        ["c [2024-01-01,2024-01-31)"]
    );
    assert_eq!(
        labels(1082, days, Some("2024-01-01 12:00"), Some("2024-01-05 00:00"), "2024-01-01", "2024-01-02"),
        ["c [2024-01-02,2024-01-05)"]
    );
}

#[test]
fn settings_that_do_not_fit_say_what_does() {
    let message = |oid, w: Window| check(&table(oid, true), &w, now()).unwrap_err().to_string();
    assert!(
        message(25, window(WindowStep::Days(1), None, None)).contains("take a date, timestamp or integer")
    );
    assert!(message(23, window(WindowStep::Days(1), None, None)).contains("use `rows`"));
    assert!(message(1082, window(WindowStep::Rows(1), None, None)).contains("use `days`"));
    assert!(message(1082, window(WindowStep::Days(1), Some("soon"), None)).contains("`from: soon`"));
    assert!(
        message(1082, window(WindowStep::Days(1), Some("today"), Some("-1d"))).contains("not before `to`")
    );
}

#[test]
fn the_choice_prefers_an_integer_key_then_an_indexed_date_in_the_key() {
    let facts = Facts { leading: vec!["c".into()], ..Facts::default() };
    let step = |oid, facts: &Facts| match choose(&table(oid, true), facts, true).0 {
        Way::Column(window) => Some(window.step),
        _ => None,
    };
    assert_eq!(step(20, &facts), Some(WindowStep::Rows(1_000_000)));
    assert_eq!(step(1082, &facts), Some(WindowStep::Days(30)));
    assert_eq!(step(1082, &Facts::default()), None, "every window would read the whole table");
    let uuid = table(2950, true);
    assert_eq!(choose(&uuid, &facts, true).0, Way::Blocks);
    let key = vec![KeyColumn { name: "c".into(), sql_type: "x".into() }];
    assert_eq!(choose(&uuid, &facts, false).0, Way::Keys(key), "without a stream a row must not move");
    let keyless = TableSchema { primary_key: vec![], ..uuid };
    assert_eq!(choose(&keyless, &facts, true).0, Way::Blocks);
    assert_eq!(choose(&keyless, &facts, false).0, Way::Whole);
}

proptest! {
    #[test]
    fn every_block_of_every_partition_is_in_exactly_one_window(
        sizes in prop::collection::vec(0u32..100_000, 0..20), most in 1u64..1_000_000_000,
    ) {
        let bytes = sizes.iter().map(|b| u64::from(*b) * 8_192).sum();
        let facts = Facts { blocks: sizes, bytes, ..Facts::default() };
        let windows = blocks(&facts, most);
        prop_assert!(windows.len() <= 2 * MOST_WINDOWS);
        let mut next = Some(0);
        for window in &windows {
            match window {
                WindowRange::Whole => next = None,
                WindowRange::Blocks { from, to } => {
                    prop_assert_eq!(Some(*from), next);
                    prop_assert!(to.is_none_or(|to| to > *from));
                    next = *to;
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(next, None, "the last one is open");
    }

    #[test]
    fn a_middle_leaves_a_value_on_each_side(low in -1_000_000_000_000i128..1_000_000_000_000, more in 1i128..1_000_000_000_000) {
        for kind in [Kind::Integer, Kind::Date, Kind::Timestamp, Kind::TimestampTz] {
            let middle = middle(kind, low, low + more).unwrap();
            prop_assert!(low < middle && middle <= low + more);
        }
    }
}

#[test]
fn halves_of_a_time_are_round_and_a_single_value_has_none() {
    let at = |text: &str| Kind::Timestamp.number(text).unwrap().unwrap();
    let middle_of = |a, b| Kind::Timestamp.text(middle(Kind::Timestamp, at(a), at(b)).unwrap());
    assert_eq!(middle_of("2024-01-01 10:00", "2024-01-09 03:00"), "2024-01-05");
    assert_eq!(middle_of("2024-01-01 10:00", "2024-01-01 15:10"), "2024-01-01 12:00:00");
    assert_eq!(middle(Kind::Date, 5, 5), None);
    assert_eq!((middle_block(3, 4), middle_block(3, 5)), (None, Some(4)));
}

#[test]
fn a_column_over_the_whole_range_makes_a_few_thousand_windows() {
    let labels = labels(1082, WindowStep::Days(30), None, None, "0001-01-01", "9999-12-31");
    assert!((1_000..5_000).contains(&labels.len()), "{} of 121,738 steps of 30 days", labels.len());
}
