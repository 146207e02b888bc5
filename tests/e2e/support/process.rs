//! A process of pg2os, killed at the latest when the test ends.

use super::{PATIENCE, eventually};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const TAIL_LINES: usize = 40;

/// See the module.
pub(crate) struct Pg2os {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Pg2os {
    /// Starts `pg2os --config FILE arguments…`, with nothing of our environment that could change its configuration.
    pub(super) fn start(folder: &Path, config: &str, arguments: &[&str]) -> Pg2os {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (file, stderr) = (folder.join(format!("{number}.yaml")), folder.join(format!("{number}.log")));
        std::fs::write(&file, config).unwrap();
        let stdout = folder.join(format!("{number}.out"));
        let child = Command::new(env!("CARGO_BIN_EXE_pg2os"))
            .args(["--log-format", "text", "--config"])
            .arg(&file)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Pg2os { child, stdout, stderr }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// Waits until the log has a line with `text`.
    pub(crate) async fn logs(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), PATIENCE, async || self.log().contains(text)).await;
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    /// SIGTERM; it must end with 0.
    pub(crate) async fn stop(self) {
        self.terminate();
        assert_eq!(self.exit_code(Duration::from_secs(25)).await, 0, "after SIGTERM");
    }

    /// Has it ended?
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, which must be an exit of its own.
    pub(crate) async fn exit_code(self, timeout: Duration) -> i32 {
        self.ending(timeout).await.0
    }

    /// Waits for its end: the exit code, and everything that it printed and logged.
    pub(crate) async fn ending(mut self, timeout: Duration) -> (i32, String) {
        let mut status = None;
        eventually("pg2os ends", timeout, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let code = status.unwrap().code().expect("pg2os was ended by a signal");
        if code != 0 {
            eprintln!("exit {code}: {}", self.tail());
        }
        (code, std::fs::read_to_string(&self.stdout).unwrap() + &self.log())
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Pg2os {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}\n---", self.stderr.display(), self.tail());
        }
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    assert!(try_signal(pid, name), "kill -{name} {pid}");
}

/// The same to one that may have ended; was it there?
pub(crate) fn try_signal(pid: u32, name: &str) -> bool {
    Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success()
}
