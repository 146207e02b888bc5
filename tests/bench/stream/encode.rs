//! Decoding, mapping and encoding on one thread, without network and without waiting: pgoutput bytes in, bulk bodies out,
//! through the intake and the lanes of a session.
//!
//! Transactions of 10,000 rows, so that nearly all ordinals are counted in buckets. The figure is rows per second of this
//! thread's CPU time, which other processes on the machine disturb least.

use crate::{
    Outcome,
    lanes::{drop_body, intake},
    row,
};
use pg2os::{
    model::Lsn,
    pipeline::intake::{Intake, Need},
};
use serde_json::json;
use std::{fs, time::Instant};

const RUNS: usize = 5;
const TRANSACTIONS: u64 = 100;
const ROWS: u64 = 10_000;
/// Messages of so many rows are made beforehand; they are taken in again and again.
const MADE: u64 = 10 * ROWS;

pub(crate) fn run() -> Outcome {
    let mut messages = vec![];
    for n in 0..MADE {
        row::insert(n, &mut messages);
    }
    let length = messages.len() / MADE as usize;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (mut cpu, mut wall, mut bytes) = (vec![], vec![], 0);
    for _ in 0..RUNS {
        let (lanes, mut intake) = intake(Lsn(8))?;
        bytes = 0;
        let mut take = |lane| bytes += drop_body(&lanes, lane, runtime.block_on(lanes.next_batch(lane)));
        let (cpu_before, begun) = (cpu_seconds()?, Instant::now());
        intake.message(&row::relation())?;
        for transaction in 1..=TRANSACTIONS {
            let commit = transaction << 24;
            intake.message(&begin(commit, transaction as u32))?;
            let first = (transaction - 1) * ROWS % MADE;
            let rows = &messages[first as usize * length..(first + ROWS) as usize * length];
            for message in rows.chunks_exact(length) {
                let mut need = intake.message(message)?;
                while let Some(Need::Room(lane)) = need {
                    take(lane);
                    need = intake.resume();
                }
            }
            intake.message(&end(commit))?;
        }
        cpu.push(cpu_seconds()? - cpu_before);
        wall.push(begun.elapsed().as_secs_f64());
        let rows = (TRANSACTIONS * ROWS) as usize;
        // What is still in the lanes is counted, but its sending waits for its age, which is no work.
        (0..lanes.count()).for_each(&mut take);
        if !is_complete(&intake, rows as u64) || lanes.tracker().position() != Lsn((TRANSACTIONS << 24) + 8) {
            return Err("not every row was acknowledged".into());
        }
    }
    let rate = |seconds: &f64| (TRANSACTIONS * ROWS) as f64 / seconds;
    Ok(json!({
        "rows_per_cpu_second": cpu.iter().map(rate).collect::<Vec<_>>(),
        "rows_per_second": wall.iter().map(rate).collect::<Vec<_>>(),
        "message_bytes": length,
        "bulk_bytes_per_row": bytes / (TRANSACTIONS * ROWS) as usize,
    }))
}

fn is_complete(intake: &Intake, rows: u64) -> bool {
    let counts = intake.counts();
    counts.changes == rows && counts.lookups == 0 && counts.omitted_values == 0
}

fn begin(commit: u64, xid: u32) -> Vec<u8> {
    let mut message = b"B".to_vec();
    message.extend(commit.to_be_bytes());
    message.extend(0_u64.to_be_bytes());
    message.extend((1000 + xid).to_be_bytes());
    message
}

fn end(commit: u64) -> Vec<u8> {
    let mut message = b"C\0".to_vec();
    message.extend(commit.to_be_bytes());
    message.extend((commit + 8).to_be_bytes());
    message.extend(0_u64.to_be_bytes());
    message
}

/// CPU time of this thread (Linux docs: "Scheduler Statistics").
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds as f64 / 1e9)
}
