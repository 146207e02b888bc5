//! The plan of a table under one floor: kept in the state, gone on with by whoever comes next, or made anew, with the reason.

use super::{bootstrap::Work, error::PipelineError, tables::Table, windows};
use crate::{
    config::{Window, WindowStep},
    lanes::TableNo,
    sink::{Floor, PlanRecord, PlannedWindow, StateStore, Stored, WindowRecord, WindowState},
    source::{divide, window::WindowRange},
};
use tokio_postgres::Client;

/// A window to be read.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) table: TableNo,
    pub(super) number: u64,
    pub(super) range: WindowRange,
    pub(super) floor: Floor,
    /// Is it split when it takes long?
    pub(super) divisible: bool,
}

/// The plan of a table, made or gone on with, and what is left of it.
pub(super) struct Planned {
    pub(super) plan: PlanRecord,
    pub(super) left: Vec<Job>,
}

/// Goes on with the plan that is stored for the floor of `work`, or divides the table. It is durable when this returns.
///
/// # Errors
/// One of the servers.
pub(super) async fn plan(
    state: &StateStore,
    reader: &Client,
    table: &Table,
    work: &Work,
    floor: Floor,
    most_bytes: u64,
) -> Result<Planned, PipelineError> {
    let mut window = work.window.clone();
    if let Some(window) = &mut window {
        // The stream indexes rows whatever their date, so the end of the range is for one-shot backfills.
        window.to = None;
    }
    let (name, setting) = (&work.record.table, setting(window.as_ref()));
    let stored = state.plan(name).await?.map(|stored| stored.record);
    let of_floor = stored.filter(|plan| plan.floor == floor);
    let mut next = 0;
    if let Some(plan) = of_floor {
        let files = divide::files(reader, &table.schema).await?;
        match voided(&plan, &setting, &files) {
            None => {
                if let Some(ranges) = ranges(&plan) {
                    let left = unfinished(&ranges, floor, &state.windows(name).await?, work.table);
                    let (done, total) = (ranges.len() - left.len(), ranges.len());
                    tracing::info!(table = name, done, total, "going on with the windows that are left");
                    return Ok(Planned { plan, left });
                }
            }
            Some(why) => tracing::warn!(table = name, "the table is divided anew, and read again: {why}"),
        }
        next = plan.next;
    }
    let manner = windows::Manner { is_streamed: true, most_bytes };
    let everything = windows::Range::default();
    let divided = windows::divide(reader, table, window, &everything, chrono::Utc::now(), manner).await?;
    let by_blocks = divided.windows.iter().any(WindowRange::is_by_blocks);
    let mut plan = PlanRecord {
        table: name.clone(),
        floor,
        setting,
        files: if by_blocks { divided.facts.files } else { vec![] },
        windows: vec![],
        next,
    };
    let left: Vec<Job> = divided.windows.into_iter().map(|range| add(&mut plan, range, work.table)).collect();
    state.write_plan(&plan).await?;
    Ok(Planned { plan, left })
}

/// Puts two windows in the place of one. To be written before they are read.
pub(super) fn split(
    plan: &mut PlanRecord,
    job: &Job,
    halves: (WindowRange, WindowRange),
    files: &[(u32, u32)],
) -> [Job; 2] {
    if (halves.0.is_by_blocks() || halves.1.is_by_blocks()) && plan.files.is_empty() {
        plan.files = files.to_vec();
    }
    plan.windows.retain(|window| window.number != job.number);
    [halves.0, halves.1].map(|range| add(plan, range, job.table))
}

/// Says where a table that is filled was divided by another setting than the present one.
///
/// # Errors
/// The state could not be read.
pub(super) async fn explain_filled(state: &StateStore, work: &Work) -> Result<(), PipelineError> {
    let Some(Stored { record: plan, .. }) = state.plan(&work.record.table).await? else { return Ok(()) };
    let mut window = work.window.clone();
    if let Some(window) = &mut window {
        window.to = None;
    }
    let now = setting(window.as_ref());
    if Some(plan.floor) == work.record.floor && plan.setting != now {
        tracing::warn!(
            table = work.record.table,
            "the table was filled by windows of {}, and is configured for {now} now; it is filled and stays so: rows that \
             only the present range holds are filled by `pg2os backfill`",
            plan.setting
        );
    }
    Ok(())
}

/// Is any of the relations with blocks that were planned in another file by now?
pub(super) fn is_rewritten(planned: &[(u32, u32)], now: &[(u32, u32)]) -> bool {
    planned.iter().any(|(oid, file)| now.iter().any(|(other, now)| oid == other && file != now))
}

/// Why the plan of this floor does not hold any more.
fn voided(plan: &PlanRecord, setting: &str, files: &[(u32, u32)]) -> Option<String> {
    if plan.setting != setting {
        return Some(format!("`window` was {} and is {setting} now", plan.setting));
    }
    is_rewritten(&plan.files, files).then(|| {
        "it was rewritten (VACUUM FULL, CLUSTER), and windows by blocks hold for one file".to_owned()
    })
}

/// The setting in words.
fn setting(window: Option<&Window>) -> String {
    let Some(Window { column, step, from, .. }) = window else {
        return "what is chosen from the catalog".to_owned();
    };
    let step = match step {
        WindowStep::Days(days) => format!("{days} days"),
        WindowStep::Rows(rows) => format!("{rows} rows"),
    };
    let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    format!("{column} in steps of {step}{from}")
}

fn add(plan: &mut PlanRecord, range: WindowRange, table: TableNo) -> Job {
    let number = plan.next;
    plan.next += 1;
    // A range is a plain value, which always has a JSON form.
    let value = serde_json::to_value(&range).unwrap_or_default();
    plan.windows.push(PlannedWindow { number, range: value });
    Job { table, number, range, floor: plan.floor, divisible: true }
}

/// The windows of a plan; `None` where another version of pg2os wrote one that this one does not know.
fn ranges(plan: &PlanRecord) -> Option<Vec<(u64, WindowRange)>> {
    let range =
        |window: &PlannedWindow| Some((window.number, serde_json::from_value(window.range.clone()).ok()?));
    plan.windows.iter().map(range).collect()
}

/// The windows that are not done at this floor.
fn unfinished(
    ranges: &[(u64, WindowRange)],
    floor: Floor,
    recorded: &[Stored<WindowRecord>],
    table: TableNo,
) -> Vec<Job> {
    let is_done = |number: u64, range: &WindowRange| {
        let predicate = range.predicate().unwrap_or_default();
        recorded.iter().map(|stored| &stored.record).any(|w| {
            w.number == number && w.predicate == predicate && w.floor == floor && w.state == WindowState::Done
        })
    };
    let left = ranges.iter().filter(|(number, range)| !is_done(*number, range));
    left.map(|(number, range)| Job { table, number: *number, range: range.clone(), floor, divisible: true })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;
    use chrono::DateTime;

    const FLOOR: Floor = Floor { lsn: Lsn(8), epoch: 1, slot_start: Lsn(8) };

    fn blocks(from: u32, to: Option<u32>) -> WindowRange {
        WindowRange::Blocks { from, to }
    }

    fn planned(ranges: &[WindowRange]) -> (PlanRecord, Vec<Job>) {
        let mut plan = PlanRecord {
            table: "public.t".into(),
            floor: FLOOR,
            setting: setting(None),
            files: vec![(1, 10)],
            windows: vec![],
            next: 0,
        };
        let jobs = ranges.iter().map(|range| add(&mut plan, range.clone(), TableNo(0))).collect();
        (plan, jobs)
    }

    fn done(job: &Job, floor: Floor) -> Stored<WindowRecord> {
        let record = WindowRecord {
            table: "public.t".into(),
            number: job.number,
            label: job.range.label(),
            predicate: job.range.predicate().unwrap_or_default(),
            state: WindowState::Done,
            rows: 1,
            floor,
        };
        Stored { record, owner: "o".into(), time: DateTime::UNIX_EPOCH }
    }

    fn left(plan: &PlanRecord, recorded: &[Stored<WindowRecord>]) -> Vec<u64> {
        let left = unfinished(&ranges(plan).unwrap(), FLOOR, recorded, TableNo(0));
        left.iter().map(|job| job.number).collect()
    }

    #[test]
    fn a_window_is_done_only_at_its_floor_and_with_its_condition() {
        let (plan, jobs) = planned(&[blocks(0, Some(4)), blocks(4, None)]);
        assert_eq!(left(&plan, &[]), [0, 1]);
        assert_eq!(left(&plan, &[done(&jobs[0], FLOOR)]), [1]);
        let earlier = Floor { lsn: Lsn(0), ..FLOOR };
        assert_eq!(left(&plan, &[done(&jobs[0], earlier)]), [0, 1]);
        let other = Job { range: blocks(0, Some(3)), ..jobs[0].clone() };
        assert_eq!(left(&plan, &[done(&other, FLOOR)]), [0, 1]);
    }

    #[test]
    fn a_split_window_is_replaced_by_its_halves_under_numbers_of_their_own() {
        let (mut plan, jobs) = planned(&[blocks(0, Some(4)), blocks(4, None)]);
        let halves = split(&mut plan, &jobs[0], (blocks(0, Some(2)), blocks(2, Some(4))), &[]);
        assert_eq!(left(&plan, &[]), [1, 2, 3]);
        assert_eq!(left(&plan, &[done(&jobs[0], FLOOR), done(&halves[1], FLOOR)]), [1, 2]);
    }

    #[test]
    fn a_plan_holds_for_one_setting_and_blocks_for_one_file() {
        let (plan, _) = planned(&[blocks(0, None)]);
        assert_eq!(voided(&plan, &setting(None), &[(1, 10), (2, 20)]), None, "a partition may be added");
        assert_eq!(voided(&plan, &setting(None), &[(2, 20)]), None, "or go: the catalog watch sees to that");
        assert!(voided(&plan, &setting(None), &[(1, 11)]).unwrap().contains("VACUUM FULL"));
        let window = Window {
            column: "d".into(),
            step: WindowStep::Days(7),
            from: Some("2024-01-01".into()),
            to: None,
        };
        let why = voided(&plan, &setting(Some(&window)), &[(1, 10)]).unwrap();
        assert!(why.contains("was what is chosen") && why.contains("d in steps of 7 days from 2024-01-01"));
    }
}
