//! One schedule: everything that can happen, in an order drawn by lot, until it is quiet; then index against table.

use crate::{
    env::{Env, note},
    job::Job,
    opensearch::{Document, Mapping},
    postgres::IDS,
    process::Process,
    rules::Rules,
    scenarios::Scenario,
    session::Session,
};
use pg2os::{
    model::{Lsn, Version},
    sink::{Checkpoint, Floor, Stored, TableState},
};

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Steps after which a schedule that has not become quiet is stuck.
const PATIENCE: usize = 20_000;

/// Runs one schedule.
///
/// # Errors
/// What went wrong.
pub fn run(
    rules: Rules,
    scenario: &Scenario,
    mapping: &Mapping,
    seed: u64,
    trace: bool,
) -> (Result<(), String>, Vec<String>) {
    let mut world = World::new(rules, scenario, mapping, seed, trace);
    // Nothing of the schedule is used after a panic but its trace.
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|_| Err("panic: see above".into()));
    (result, world.env.trace.unwrap_or_default())
}

struct World {
    env: Env,
    process: Process,
    /// Another instance, that waits for the slot.
    other: Process,
    job: Option<Job>,
    job_begun: bool,
}

impl World {
    fn new(rules: Rules, scenario: &Scenario, mapping: &Mapping, seed: u64, trace: bool) -> Self {
        let mut env = Env::new(rules, *scenario, mapping.clone(), seed, trace);
        for _ in 0..env.rng.below(14) {
            env.pg.step(&mut env.rng, &scenario.workload);
        }
        if scenario.old_documents {
            env.state.table.sweep = true;
            for id in 0..IDS {
                if env.rng.coin() {
                    let source = b"{\"a\":0}".to_vec();
                    env.os.documents[id] = Some(Document { version: Version(5), source });
                }
            }
        }
        if !scenario.windows {
            begin_live(&mut env);
        }
        env.os.refresh();
        World { env, process: Process::new(1), other: Process::new(2), job: None, job_begun: false }
    }

    fn run(&mut self) -> Result<(), String> {
        let scenario = self.env.scenario;
        let job_begins = self.env.rng.below(60);
        for step in 0..scenario.steps {
            if self.env.rng.below(100) < 45 {
                self.env.pg.step(&mut self.env.rng, &scenario.workload);
            } else {
                if scenario.job && step >= job_begins && !self.job_begun {
                    self.job = Some(Job::new(&self.env));
                    self.job_begun = true;
                }
                self.work();
            }
            self.fault();
            if let Some(broken) = &self.env.broken {
                return Err(broken.clone());
            }
        }
        self.become_quiet()?;
        self.compare()
    }

    fn work(&mut self) {
        match &mut self.job {
            Some(job) if self.env.rng.below(3) == 0 => {
                job.step(&mut self.env);
                job.step(&mut self.env);
            }
            _ => self.process.step(&mut self.env),
        }
    }

    fn fault(&mut self) {
        let s = self.env.scenario;
        let env = &mut self.env;
        let in_windows = self.process.session().is_some_and(Session::is_reading_windows);
        if env.rng.per_mille(if in_windows { s.crash_in_windows } else { s.crash }) {
            self.process.crash(env);
            if s.reconfigure && env.rng.coin() {
                env.configuration ^= 1;
                note!(env, "CONFIGURATION {}", env.configuration);
            }
        }
        if env.rng.per_mille(s.lose_session) {
            self.process.lose_session(env);
        }
        if env.rng.per_mille(s.stop) {
            self.process.stop(env);
        }
        if env.rng.per_mille(s.takeover) {
            self.process.be_taken_over(env);
            std::mem::swap(&mut self.process, &mut self.other);
        }
        // A Job ends with the server that it reads.
        let job_runs = self.job.as_ref().is_some_and(|job| !job.is_done());
        let floor_taken = std::mem::take(&mut env.floor_taken);
        if !job_runs && env.rng.per_mille(s.failover) || floor_taken && env.rng.per_mille(s.failover_at_floor)
        {
            // The worst moment: as much is lost as was not written yet.
            let written = self.process.session().map(Session::written);
            let not_below = written.filter(|_| floor_taken);
            let at = env.pg.fail_over(&mut env.rng, s.lose_slot, not_below);
            self.failed_over(at);
        } else if env.rng.per_mille(s.twin)
            && let Some(at) = env.pg.fail_over_to_twin(&mut env.rng)
        {
            self.failed_over(at);
        }
        let env = &mut self.env;
        if env.rng.per_mille(s.forget) {
            note!(env, "deletes forgotten");
            env.os.forget_deletes();
        }
        if env.rng.per_mille(s.tick) {
            env.now += 1;
            note!(env, "TICK {}", env.now);
        }
        if env.rng.per_mille(s.late) {
            self.execute_late();
        }
    }

    fn failed_over(&mut self, at: u64) {
        let env = &mut self.env;
        env.failed_over = true;
        env.streamed_from = env.streamed_from.min(at);
        note!(env, "FAILOVER at {at:x}, slot {:x?}, table {:?}", env.pg.slot, env.pg.visible);
        if env.rng.below(3) == 0 { self.process.crash(env) } else { self.process.lose_session(env) }
    }

    fn execute_late(&mut self) {
        let env = &mut self.env;
        if let Some(act) = env.os.take_late(&mut env.rng, env.now) {
            let _ = env.execute(&act, "LATE");
        }
    }

    /// No more faults but those that were caused already.
    fn become_quiet(&mut self) -> Result<(), String> {
        note!(self.env, "--- quiet");
        self.env.quiet = true;
        self.env.pg.finish(&mut self.env.rng);
        for step in 0..PATIENCE {
            self.work();
            if self.env.scenario.forget > 0 && self.env.rng.per_mille(50) {
                self.env.os.forget_deletes();
            }
            if self.env.rng.per_mille(30) {
                self.execute_late();
            }
            if step % 64 == 63 {
                self.env.now += 1;
                note!(self.env, "TICK {}", self.env.now);
            }
            if let Some(broken) = &self.env.broken {
                return Err(broken.clone());
            }
            let is_done = self.process.session().is_some_and(|session| session.is_done(&self.env));
            if is_done && self.job.as_ref().is_none_or(Job::is_done) && !self.env.os.has_late(self.env.now) {
                return Ok(());
            }
        }
        Err("it never becomes quiet".into())
    }

    /// **G2**
    fn compare(&self) -> Result<(), String> {
        let env = &self.env;
        for id in 0..IDS {
            let expected = env.pg.visible[id].map(|row| env.mapping.map(id, &row).1);
            let found = env.os.documents[id].as_ref().map(|document| document.source.clone());
            if expected != found {
                let text = |d: Option<Vec<u8>>| d.map_or("nothing".into(), |d| String::from_utf8(d).unwrap());
                return Err(format!("G2: id {id} is {} and should be {}", text(found), text(expected)));
            }
        }
        Ok(())
    }
}

/// The table is live, and streamed from now on.
fn begin_live(env: &mut Env) {
    env.pg.finish(&mut env.rng);
    let now = env.insert();
    env.pg.slot = Some(crate::postgres::Slot { created: now.0, confirmed: now.0 });
    env.streamed_from = now.0;
    let floor = Floor { lsn: now, epoch: 1, slot_start: now };
    (env.state.table.state, env.state.table.floor) = (TableState::Live, Some(floor));
    let version = env.state.epochs.list.floor_version(now).unwrap();
    for id in 0..IDS {
        let document = env.pg.visible[id].map(|row| env.mapping.map(id, &row).1);
        env.os.documents[id] = document.map(|source| Document { version, source });
    }
    let checkpoint = Checkpoint {
        slot: "s".into(),
        system_identifier: "7".into(),
        database: "shop".into(),
        timeline: 1,
        timeline_began: Lsn::ZERO,
        publications: vec![9],
        fingerprint: "configuration 0".into(),
        held_below: Lsn::ZERO,
        lsn: now,
        high: None,
        settled: true,
    };
    let version = env.state.epochs.list.version(now, 0).unwrap();
    let time = chrono::DateTime::UNIX_EPOCH;
    env.state.checkpoint = Some((version, Stored { record: checkpoint, owner: "0".into(), time }));
    env.state.high = Some((version, Lsn(now.0)));
}
