//! How long after its commit a row is visible in OpenSearch: 100 single-row commits a second, one poller each.
//!
//! The clock starts before the INSERT is sent, so its execution and the commit itself are in the figure; it stops when a
//! realtime GET by id has answered with the document. Between two GETs of a poller there is half a millisecond.

use crate::{Outcome, drain::settings, row};
use pg2os::source::sql;
use serde_json::json;
use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_millis(10);
const BETWEEN_POLLS: Duration = Duration::from_micros(500);
const PATIENCE: Duration = Duration::from_secs(10);
/// Above the ids of all other benchmarks.
const FIRST_ROW: u64 = 50_000_000;

pub(crate) fn run(index: &str, seconds: u64) -> Outcome {
    // Not used, as nothing here is under TLS, but wanted by the HTTP client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let url = env::var("PG2OS_TEST_OS_URL")?;
        let database = Arc::new(sql::connect(&settings()?, None, "pg2os bench").await?);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut pollers = vec![];
        for n in FIRST_ROW..FIRST_ROW + seconds * 100 {
            ticks.tick().await;
            let (database, http, values) = (database.clone(), http.clone(), row::values(n));
            let insert = format!("INSERT INTO public.t VALUES ('{}')", values.join("','"));
            let document = format!("{url}/{index}/_doc/{}?_source=false", values[0]);
            pollers.push(tokio::spawn(async move {
                let begun = Instant::now();
                database.batch_execute(&insert).await.map_err(|error| format!("{error:?}"))?;
                while begun.elapsed() < PATIENCE {
                    let answer = http.get(&document).send().await.map_err(|error| error.to_string())?;
                    if answer.status().is_success() {
                        return Ok(begun.elapsed().as_secs_f64() * 1000.0);
                    }
                    tokio::time::sleep(BETWEEN_POLLS).await;
                }
                Err(format!("{document} is not there after {} s", PATIENCE.as_secs()))
            }));
        }
        let mut latencies: Vec<f64> = vec![];
        for poller in pollers {
            latencies.push(poller.await??);
        }
        latencies.sort_by(f64::total_cmp);
        let percentile = |p: usize| latencies[(latencies.len() * p / 100).min(latencies.len() - 1)];
        Ok(json!({
            "commits": latencies.len(), "p50_ms": percentile(50), "p90_ms": percentile(90),
            "p99_ms": percentile(99), "max_ms": percentile(100),
        }))
    })
}
