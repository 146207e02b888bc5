//! A streaming standby of a test's own PostgreSQL: the same port of another address of this machine.

use super::servers::{Servers, run, script, variable};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// Where a standby of the primary listens.
pub(crate) const ADDRESS: &str = "127.0.0.2";
/// Where a standby of that standby does.
pub(crate) const SECOND: &str = "127.0.0.3";

/// See the module. It is stopped with the test.
pub(crate) struct Standby {
    run: PathBuf,
}

impl Standby {
    /// Copies `primary` and follows it, with further `settings`.
    pub(crate) fn of(primary: &Servers, settings: &[&str]) -> Standby {
        Standby::following(primary, "127.0.0.1", ADDRESS, settings)
    }

    /// Copies the server that listens at `from`, and follows it.
    pub(crate) fn following(primary: &Servers, from: &str, address: &str, settings: &[&str]) -> Standby {
        let run_folder = primary.own_run().join(format!("standby-{address}"));
        let standby = Standby { run: run_folder.clone() };
        let (folder, port) = (run_folder.display().to_string(), primary.pg_port.to_string());
        run(as_postgres(primary, "mkdir").args(["-p", &folder]));
        let data = format!("{folder}/data");
        let basebackup = format!("{}/pg_basebackup", variable("PG2OS_TEST_PGBIN"));
        let mut copy = as_postgres(primary, &basebackup);
        run(copy.args([
            "-h", from, "-p", &port, "-U", "postgres", "-D", &data, "-R", "-X", "stream", "-c", "fast",
        ]));
        let own = format!(
            "\nlisten_addresses = '{address}'\nunix_socket_directories = '{folder}'\nhot_standby = on\n{}\n",
            settings.join("\n")
        );
        // The copy of a standby has what is edited already.
        let edit = format!(
            "sed -i 's#127.0.0.1/32#127.0.0.0/8#' '{data}/pg_hba.conf' && printf '%s' \"$1\" >> '{data}/test.conf'"
        );
        run(as_postgres(primary, "bash").args(["-c", &edit, "_", &own]));
        let pg_ctl = format!("{}/pg_ctl", variable("PG2OS_TEST_PGBIN"));
        let log = format!("{folder}/log");
        let mut start = as_postgres(primary, &pg_ctl);
        // A server that inherits a pipe keeps whoever reads it waiting.
        let started = start
            .args(["start", "-D", &data, "-l", &log, "-w", "-t", "60"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(started.unwrap().success(), "{}", std::fs::read_to_string(log).unwrap_or_default());
        standby
    }
}

/// A command under the account that PostgreSQL runs as, in a folder that it can enter.
fn as_postgres(primary: &Servers, program: &str) -> Command {
    let mut command = primary.as_postgres();
    command.arg(program).current_dir(primary.own_run());
    command
}

impl Drop for Standby {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.run.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- {}\n{}\n---",
                self.run.display(),
                lines[lines.len().saturating_sub(15)..].join("\n")
            );
        }
        // A panic here would hide the test's own.
        if let Ok(output) = script("postgres-down.sh").arg(&self.run).output()
            && !output.status.success()
        {
            eprintln!("the standby in {} may still run", self.run.display());
        }
    }
}
