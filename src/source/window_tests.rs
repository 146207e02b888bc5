//! Tests of window planning.

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
    let bounds = Bounds { min: Some(min.into()), max: Some(max.into()), has_nulls: true };
    let plan = plan(&table(oid, false), &window(step, from, to), &bounds, now()).unwrap();
    plan.windows.iter().map(WindowRange::label).collect()
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
        let bounds = Bounds { min: Some(kind.text(scale(min))), max: Some(kind.text(scale(max))), has_nulls: true };
        let step = if kind == Kind::Integer { WindowStep::Rows(step.into()) } else { WindowStep::Days(step) };
        let (low, high) = (scale(limits.0), scale((limits.0 + limits.1).min(106_751_990)));
        let given = from.is_some();
        let window = window(
            step,
            given.then(|| kind.text(low)).as_deref(),
            (from == Some(true)).then(|| kind.text(high)).as_deref(),
        );
        let plan = plan(&table, &window, &bounds, now()).unwrap();
        prop_assert!(plan.windows.len() as i128 <= MOST_WINDOWS + 2);
        let values = values.into_iter().map(|v| scale(v) + inside * i128::from(matches!(oid, 1114 | 1184)));
        let ends = [None, Some(-INFINITY), Some(INFINITY), Some(scale(min)), Some(scale(max)), Some(low), Some(high)];
        for value in values.map(Some).chain(ends) {
            let wanted = match value {
                _ if !given => true,
                None => false,
                Some(v) => v >= low && (from != Some(true) || v < high),
            };
            let found = plan.windows.iter().filter(|w| w.holds(value)).count();
            prop_assert_eq!(found, usize::from(wanted), "{:?} in {:?}", value, plan.windows);
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
fn a_far_outlier_widens_the_steps_and_says_so() {
    let bounds = Bounds { min: Some("0001-01-01".into()), max: Some("9999-12-31".into()), has_nulls: false };
    let plan = plan(&table(1082, true), &window(WindowStep::Days(30), None, None), &bounds, now()).unwrap();
    assert!(plan.windows.len() as i128 <= MOST_WINDOWS + 1);
    assert!(plan.note.unwrap().contains("13 times"), "121,738 windows of 30 days");
}

#[test]
fn bounds_are_written_as_typed_literals() {
    let range =
        |kind, from, to| WindowRange::Range { column: "c".into(), kind, from, to }.predicate().unwrap();
    assert_eq!(range(Kind::Integer, Some(-5), Some(7)), "\"c\" >= -5 AND \"c\" < 7");
    assert_eq!(range(Kind::Date, Some(-719_163), None), "\"c\" >= '0001-12-31 BC'::pg_catalog.date");
    assert_eq!(
        range(Kind::TimestampTz, None, Some(DAY)),
        "\"c\" < '1970-01-02 00:00:00+00'::pg_catalog.timestamptz"
    );
    assert_eq!(range(Kind::Timestamp, None, None), "\"c\" IS NOT NULL");
    assert_eq!(WindowRange::Null { column: "c".into() }.predicate().unwrap(), "\"c\" IS NULL");
}

#[test]
fn settings_that_do_not_fit_say_what_does() {
    let bounds = Bounds::default();
    let message = |oid, w: Window| plan(&table(oid, true), &w, &bounds, now()).unwrap_err().to_string();
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
fn the_choice_prefers_an_integer_key_then_a_date_in_the_key() {
    assert_eq!(choose(&table(20, true)).0.unwrap().step, WindowStep::Rows(1_000_000));
    assert_eq!(choose(&table(1082, true)).0.unwrap().step, WindowStep::Days(30));
    let (none, reason) = choose(&table(2950, true));
    assert!(none.is_none() && reason.contains("one window"));
}
