//! Progress of long work: bars on a terminal, a log line every 30 s otherwise.

use crate::pipeline::progress::{Progress, TableProgress};
use indicatif::{HumanBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const REFRESH: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The task that shows progress.
#[derive(Debug)]
pub struct Display {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Display {
    /// Shows the last state and ends.
    pub async fn finish(self) {
        self.stop.cancel();
        // It only draws; if it failed, the work has not.
        let _ = self.task.await;
    }
}

/// Shows `progress` on stderr until told to finish.
pub fn show(progress: Arc<Progress>) -> Display {
    let stop = CancellationToken::new();
    let (stopped, terminal) = (stop.clone(), std::io::stderr().is_terminal());
    let task = tokio::spawn(async move {
        let mut view = View::new(terminal);
        loop {
            view.show(&progress, false);
            tokio::select! {
                () = stopped.cancelled() => break,
                () = tokio::time::sleep(REFRESH) => {}
            }
        }
        view.show(&progress, true);
    });
    Display { stop, task }
}

struct View {
    bars: Option<(MultiProgress, HashMap<String, ProgressBar>)>,
    begun: Instant,
    last_line: Instant,
    was_filling: bool,
    last: (Instant, u64, f64),
}

impl View {
    fn new(terminal: bool) -> Self {
        let now = Instant::now();
        View {
            bars: terminal.then(|| (MultiProgress::new(), HashMap::new())),
            begun: now,
            last_line: now,
            was_filling: false,
            last: (now, 0, 0.0),
        }
    }

    fn show(&mut self, progress: &Progress, last: bool) {
        let tables = progress.tables();
        let filling = tables.iter().any(|t| !t.live);
        let finished = self.was_filling && !filling;
        self.was_filling = filling;
        match &mut self.bars {
            Some((all, bars)) => {
                for table in &tables {
                    let bar = bars.entry(table.name.clone()).or_insert_with(|| {
                        let style = ProgressStyle::with_template(
                            "{prefix:24!} [{bar:30}] {pos}/{len} windows  {msg}",
                        );
                        let bar = ProgressBar::new(table.windows as u64);
                        all.add(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
                    });
                    bar.set_prefix(table.name.clone());
                    bar.set_length(table.windows as u64);
                    bar.set_position(table.done as u64);
                    bar.set_message(speed(table, self.begun.elapsed()));
                    if table.live && !bar.is_finished() {
                        bar.finish();
                    }
                }
                self.stream_bar(progress, filling);
            }
            None if finished || last || self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                if !tables.is_empty() && (filling || finished) {
                    self.lines(progress.doing(), &tables).iter().for_each(|line| tracing::info!("{line}"));
                }
                if let Some(stream) = progress.stream() {
                    tracing::info!(
                        changes = stream.changes,
                        position = %stream.position,
                        behind_bytes = stream.server_end.since(stream.position),
                        queued_bytes = stream.queued,
                        applied = progress.actions(),
                        dead_letters = progress.dead_letters(),
                        "stream"
                    );
                }
            }
            None => {}
        }
    }

    fn stream_bar(&mut self, progress: &Progress, filling: bool) {
        let Some((all, bars)) = &mut self.bars else { return };
        let Some(stream) = progress.stream() else { return };
        let (at, changes, rate) = &mut self.last;
        if at.elapsed() >= Duration::from_secs(1) {
            *rate = stream.changes.saturating_sub(*changes) as f64 / at.elapsed().as_secs_f64();
            (*at, *changes) = (Instant::now(), stream.changes);
        }
        let bar = bars.entry(String::new()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix:24!} {msg}");
            all.add(
                ProgressBar::new_spinner()
                    .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())),
            )
        });
        bar.set_prefix(if filling { "stream, beside" } else { "stream" });
        bar.set_message(format!(
            "{} changes, {rate:.0}/s, {} behind, at {}, {} dead letters",
            HumanCount(stream.changes),
            HumanBytes(stream.server_end.since(stream.position)),
            stream.position,
            progress.dead_letters()
        ));
        bar.tick();
    }

    /// All tables on one line, then each that is not filled: windows, rows, rates, remaining time.
    fn lines(&self, doing: &str, tables: &[TableProgress]) -> Vec<String> {
        let mut total = TableProgress::default();
        for table in tables {
            total.windows += table.windows;
            total.done += table.done;
            total.found_done += table.found_done;
            total.rows += table.rows;
            total.bytes += table.bytes;
        }
        let elapsed = self.begun.elapsed();
        let line = |name: &str, t: &TableProgress| {
            format!("{doing}{name}: {} of {} windows, {}", t.done, t.windows, speed(t, elapsed))
        };
        let unfinished = tables.iter().filter(|t| !t.live && tables.len() > 1);
        std::iter::once(line("", &total))
            .chain(unfinished.map(|t| line(&format!(" of {}", t.name), t)))
            .collect()
    }
}

/// Rows, rates and remaining time.
fn speed(table: &TableProgress, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let (read, left) =
        (table.done - table.found_done.min(table.done), table.windows - table.done.min(table.windows));
    let remaining = match (read, left) {
        (0, _) | (_, 0) => String::new(),
        _ => format!(", about {} left", HumanDuration(elapsed.mul_f64(left as f64 / read as f64))),
    };
    format!(
        "{} rows, {:.0} rows/s, {:.1} MB/s{remaining}",
        HumanCount(table.rows),
        table.rows as f64 / seconds,
        table.bytes as f64 / seconds / 1e6
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_time_counts_the_windows_that_this_process_has_read() {
        let table = TableProgress {
            windows: 10,
            done: 6,
            found_done: 4,
            rows: 5_000,
            bytes: 20_000_000,
            ..TableProgress::default()
        };
        let text = speed(&table, Duration::from_secs(10));
        assert_eq!(text, "5,000 rows, 500 rows/s, 2.0 MB/s, about 20 seconds left");
        let begun = TableProgress { done: 4, ..table.clone() };
        assert!(!speed(&begun, Duration::from_secs(10)).contains("left"), "nothing is known yet");
        let over = TableProgress { done: 10, ..table };
        assert!(!speed(&over, Duration::from_secs(10)).contains("left"));
    }
}
