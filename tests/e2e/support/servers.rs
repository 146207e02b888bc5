//! The servers: those that all tests share, and private ones for tests that stop or restart them.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

const LOOPBACK: &str = "127.0.0.1";

/// Where a pair of servers is.
#[derive(Debug)]
pub(crate) struct Servers {
    /// Addresses of PostgreSQL, separated by commas; more than one of a cluster with failover.
    pub(crate) pg_hosts: String,
    /// Its port; user postgres needs no password.
    pub(crate) pg_port: u16,
    /// OpenSearch.
    pub(crate) os_url: String,
    /// Run directory of what this test started itself.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    run: PathBuf,
    stop: &'static str,
}

pub(super) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, which starts the servers and sets it")
    })
}

pub(crate) fn script(name: &str) -> Command {
    Command::new(format!("{}/tests/servers/{name}", env!("CARGO_MANIFEST_DIR")))
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A port below the range from which the kernel takes those of outgoing connections; each is given out once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let begin = 20_000 + (std::process::id() % 600) as u16 * 20;
    std::iter::repeat_with(|| begin + NEXT.fetch_add(1, Ordering::Relaxed)).find(free).unwrap()
}

impl Own {
    fn folder() -> PathBuf {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Beside the shared servers: a folder that the servers' users can enter.
        let name = format!("e2e-{}-{number}", std::process::id());
        PathBuf::from(variable("PG2OS_TEST_RUNDIR")).with_file_name(name)
    }
}

impl Servers {
    /// Those that `make test` started.
    pub(crate) fn shared() -> Servers {
        Servers {
            pg_hosts: LOOPBACK.into(),
            pg_port: variable("PG2OS_TEST_PG_PORT").parse().unwrap(),
            os_url: variable("PG2OS_TEST_OS_URL"),
            own: None,
        }
    }

    /// A PostgreSQL of the test's own with these settings, and the shared OpenSearch.
    pub(crate) fn private_postgres(settings: &[&str]) -> Servers {
        let own = Own { run: Own::folder(), stop: "postgres-down.sh" };
        let pg_port = free_port();
        let port = pg_port.to_string();
        run(script("postgres-up.sh").arg(&own.run).args([&port, "fsync=off"]).args(settings));
        Servers { pg_port, own: Some(own), ..Servers::shared() }
    }

    /// An OpenSearch of the test's own, and the shared PostgreSQL.
    pub(crate) fn private_opensearch() -> Servers {
        let own = Own { run: Own::folder(), stop: "opensearch-down.sh" };
        let home = script("opensearch-get.sh").output().unwrap();
        let home = String::from_utf8(home.stdout).unwrap();
        let port = free_port();
        let mut up = script("opensearch-up.sh");
        run(up.arg(home.trim()).arg(&own.run).arg(port.to_string()).env("HEAP", "512m"));
        Servers { os_url: format!("http://{LOOPBACK}:{port}"), own: Some(own), ..Servers::shared() }
    }

    /// Both servers of the test's own.
    pub(crate) fn private() -> Servers {
        Servers::private_with("512m", 1)
    }

    /// Both of the test's own, OpenSearch as a cluster of three nodes; `os_url` is the first one's.
    pub(crate) fn private_cluster() -> Servers {
        Servers::private_with("384m", 3)
    }

    fn private_with(heap: &str, nodes: u8) -> Servers {
        let own = Own { run: Own::folder(), stop: "down.sh" };
        run(script("up.sh").arg(&own.run).env("HEAP", heap).env("NODES", nodes.to_string()));
        let env = std::fs::read_to_string(own.run.join("env")).unwrap();
        let value = |name: &str| {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap().to_owned()
        };
        let pg_port = value("PG2OS_TEST_PG_PORT").parse().unwrap();
        Servers { pg_hosts: LOOPBACK.into(), pg_port, os_url: value("PG2OS_TEST_OS_URL"), own: Some(own) }
    }

    /// The same servers for one test of several; they stay with `self`.
    #[allow(dead_code)] // It is for `tests/chaos`.
    pub(crate) fn lend(&self) -> Servers {
        Servers { pg_hosts: self.pg_hosts.clone(), os_url: self.os_url.clone(), own: None, ..*self }
    }

    /// Starts what of the test's own servers does not run, on the same ports.
    #[allow(dead_code)] // It is for `tests/chaos`.
    pub(crate) fn start_again(&self) {
        let heap = if self.is_cluster() { "384m" } else { "512m" };
        run(script("up.sh").arg(self.own_run()).env("HEAP", heap));
    }

    /// A Patroni cluster of the test's own, and the shared OpenSearch. Below the shared servers' folder, so that whoever
    /// stops those stops what an interrupted test left.
    #[allow(dead_code)] // It is for `tests/failover`.
    pub(crate) fn patroni(pgbin: Option<&str>) -> Servers {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let name = format!("patroni-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let own =
            Own { run: PathBuf::from(variable("PG2OS_TEST_RUNDIR")).join(name), stop: "patroni-down.sh" };
        let mut up = script("patroni-up.sh");
        up.arg(&own.run).envs(pgbin.map(|folder| ("PGBIN", folder)));
        run(&mut up);
        let env = std::fs::read_to_string(own.run.join("env")).unwrap();
        let port = env.lines().find_map(|line| line.strip_prefix("PATRONI_PG_PORT=")).unwrap();
        Servers {
            pg_hosts: "127.0.0.1,127.0.0.2,127.0.0.3".into(),
            pg_port: port.parse().unwrap(),
            own: Some(own),
            ..Servers::shared()
        }
    }

    /// Does PostgreSQL go with the test?
    pub(super) fn is_private(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.stop != "opensearch-down.sh")
    }

    /// Run directory of the test's own servers.
    pub(crate) fn own_run(&self) -> &PathBuf {
        &self.own.as_ref().expect("the shared servers are not stopped").run
    }

    /// Process of the test's own OpenSearch.
    pub(crate) fn opensearch_pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.own_run().join("opensearch/pid")).unwrap();
        pid.trim().parse().unwrap()
    }

    /// Is the test's own OpenSearch a cluster of three nodes?
    pub(crate) fn is_cluster(&self) -> bool {
        self.own_run().join("opensearch/n1").exists()
    }

    /// Address of node 1, 2 or 3 of the test's own cluster.
    pub(crate) fn node_url(&self, number: u8) -> String {
        self.os_url.replace(LOOPBACK, &format!("127.0.0.{number}"))
    }

    /// Its process.
    pub(crate) fn node_pid(&self, number: u8) -> u32 {
        let pid = std::fs::read_to_string(self.own_run().join(format!("opensearch/n{number}/pid"))).unwrap();
        pid.trim().parse().unwrap()
    }

    /// The beginning of a command that runs as the test's own PostgreSQL does.
    pub(crate) fn as_postgres(&self) -> Command {
        let user = if running_as_root() {
            &["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"][..]
        } else {
            &["env"]
        };
        let mut command = Command::new(user[0]);
        command.args(&user[1..]);
        command
    }

    /// `pg_ctl restart -m fast` of the test's own PostgreSQL; false where the old server does not end in `seconds`.
    pub(crate) fn restart_postgres(&self, seconds: u32) -> bool {
        let data = self.own_run().join("data");
        let pg_ctl = format!("{}/pg_ctl", variable("PG2OS_TEST_PGBIN"));
        let mut command = self.as_postgres();
        command.args([&pg_ctl, "restart", "-m", "fast", "-w", "-t", &seconds.to_string()]);
        command.arg("-D").arg(&data).arg("-l").arg(self.own_run().join("log"));
        command.current_dir(self.own_run()).stdout(Stdio::null()).status().unwrap().success()
    }
}

fn running_as_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

impl Drop for Own {
    fn drop(&mut self) {
        let stopped = script(self.stop).arg(&self.run).output();
        // A panic here would hide the test's own.
        match stopped {
            Ok(output) if output.status.success() => drop(std::fs::remove_dir_all(&self.run)),
            other => eprintln!("the servers in {} may still run: {other:?}", self.run.display()),
        }
    }
}
