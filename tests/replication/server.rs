//! PostgreSQL servers for the tests: the one that `make test` started, and throw-away ones with a configuration of their
//! own. Invariant: a throw-away server and its directory are gone when its value is dropped.

use pg2os::{
    config::{Credential, Postgres, Tls, TlsMode},
    source::sql,
};
use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, SimpleQueryMessage};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A variable that `make test` sets.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run: make test"))
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    format!("{name}_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The shared server, as its superuser and without TLS.
pub(crate) fn shared() -> Postgres {
    settings("127.0.0.1", variable("PG2OS_TEST_PG_PORT").parse().unwrap())
}

/// The certificate of the authority of the shared server.
pub(crate) fn shared_ca() -> PathBuf {
    Path::new(&variable("PG2OS_TEST_RUNDIR")).join("postgres/tls/ca.pem")
}

pub(crate) fn settings(host: &str, port: u16) -> Postgres {
    Postgres {
        hosts: vec![host.into()],
        port,
        database: "postgres".into(),
        user: Credential::Value("postgres".into()),
        password: None,
        tls: tls(TlsMode::Disable, None),
        slot: "unused".into(),
        publications: vec![],
        append_publication: None,
        backfill_host: None,
    }
}

pub(crate) fn tls(mode: TlsMode, ca_file: Option<&Path>) -> Tls {
    Tls { mode, ca_file: ca_file.map(Into::into), cert_file: None, key_file: None }
}

pub(crate) fn as_user(mut config: Postgres, user: &str, password: &str) -> Postgres {
    config.user = Credential::Value(user.into());
    config.password = Some(Credential::Value(password.into()));
    config
}

/// Runs statements and returns the first column of the rows.
pub(crate) fn admin(config: &Postgres, statements: &str) -> Vec<String> {
    Runtime::new().unwrap().block_on(async {
        let client = sql::connect(config, None, "pg2os test").await.unwrap();
        column(&client, statements).await
    })
}

pub(crate) async fn column(client: &Client, statements: &str) -> Vec<String> {
    let answer = client.simple_query(statements).await.unwrap();
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

/// A throw-away server on `address`.
pub(crate) struct Server {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
}

impl Server {
    /// Makes a cluster; `hba` is the whole pg_hba.conf after a line of trust for postgres.
    pub(crate) fn create(address: &str, port: Option<u16>, conf: &str, hba: &str) -> Self {
        let port = port.unwrap_or_else(|| {
            let free = TcpListener::bind((address, 0)).unwrap();
            free.local_addr().unwrap().port()
        });
        let dir = env::temp_dir().join(unique("pg2os-server"));
        run(&["mkdir", "-m", "700", &text(&dir)]);
        let server = Server { dir, port };
        server.pg(&["initdb", "-D", &server.path("data"), "-A", "trust", "-U", "postgres", "--no-sync"]);
        let conf = format!(
            "port = {port}\nlisten_addresses = '{address}'\nunix_socket_directories = ''\nwal_level = logical\nfsync = off\n{conf}\n"
        );
        fs::write(server.dir.join("data/postgresql.auto.conf"), conf).unwrap();
        fs::write(server.dir.join("data/pg_hba.conf"), format!("host all postgres all trust\n{hba}\n"))
            .unwrap();
        server
    }

    pub(crate) fn start(self) -> Self {
        let log = self.path("log");
        self.pg(&["pg_ctl", "start", "-w", "-D", &self.path("data"), "-l", &log]);
        self
    }

    /// Makes a key and a certificate `name`.pem for `subject`, signed by the certificate `issuer` or by itself.
    pub(crate) fn certificate(&self, name: &str, subject: &str, issuer: Option<&str>) {
        let (key, pem) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.pem")));
        let mut command = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout {key} -out {pem} \
             -subj /CN={subject} -addext subjectAltName=DNS:{subject}"
        );
        if let Some(issuer) = issuer {
            let issuer = self.path(issuer);
            command += &format!(" -addext basicConstraints=CA:FALSE -CA {issuer}.pem -CAkey {issuer}.key");
        }
        run(&["sh", "-c", &format!("{command} 2>&1")]);
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn path(&self, name: &str) -> String {
        text(&self.dir.join(name))
    }

    fn pg(&self, command: &[&str]) {
        let program = format!("{}/{}", variable("PG2OS_TEST_PGBIN"), command[0]);
        run(&[&[program.as_str()], &command[1..]].concat());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pg_ctl = format!("{}/pg_ctl", variable("PG2OS_TEST_PGBIN"));
        let _ = command(&[&pg_ctl, "stop", "-m", "immediate", "-D", &self.path("data")]).output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// PostgreSQL refuses to run as root.
fn command(words: &[&str]) -> Command {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut all = if root { vec!["runuser", "-u", "postgres", "--"] } else { vec![] };
    all.extend(words);
    let mut command = Command::new(all[0]);
    command.args(&all[1..]).current_dir("/");
    command
}

fn run(words: &[&str]) {
    // To a file: a server that pg_ctl leaves behind would keep a pipe open.
    let out = env::temp_dir().join(unique("pg2os-command"));
    let file = fs::File::create(&out).unwrap();
    let status = command(words).stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    let said = fs::read_to_string(&out).unwrap_or_default();
    fs::remove_file(&out).unwrap();
    assert!(status.success(), "{words:?}: {said}");
}
