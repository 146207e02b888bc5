//! A world of its own for each test: database, slot, indices, and the processes that it starts.

pub(crate) mod opensearch;
pub(crate) mod oracle;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod rng;
pub(crate) mod servers;
#[allow(dead_code)] // Not for `tests/failover`.
pub(crate) mod standby;

use futures_util::FutureExt;
use opensearch::OpenSearch;
use process::Pg2os;
use serde_json::json;
use servers::Servers;
use std::{
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

/// Enough for anything that is going to happen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a test works with.
pub(crate) struct World {
    /// Pipeline, database, and the prefix of slot, indices and roles.
    pub(crate) name: String,
    database: String,
    /// Where the servers are.
    pub(crate) servers: Servers,
    /// The target.
    pub(crate) os: OpenSearch,
    folder: PathBuf,
}

/// A table that is followed: its name, its id columns, its index, and further keys of its configuration.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) table: String,
    pub(crate) id: Vec<String>,
    pub(crate) index: String,
    /// What the documents are to be, as SQL after FROM.
    rows: String,
    yaml: String,
}

impl Followed {
    /// Further keys, as they stand in the flow mapping of the table.
    pub(crate) fn with(mut self, yaml: &str) -> Followed {
        self.yaml.push_str(", ");
        self.yaml.push_str(yaml);
        self
    }

    /// The documents are the rows of this query, and not all columns of all rows of the table.
    pub(crate) fn holding(mut self, query: &str) -> Followed {
        self.rows = format!("({query})");
        self
    }
}

impl World {
    /// Connects to the world's database.
    pub(crate) async fn connect(&self) -> Client {
        connect_to(&self.servers, &self.database).await
    }

    /// Runs statements on a connection of their own.
    pub(crate) async fn sql(&self, sql: &str) {
        self.connect().await.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The single value of a query, as text.
    pub(crate) async fn value(&self, sql: &str) -> Option<String> {
        let client = self.connect().await;
        client.query_one(&format!("SELECT ({sql})::text"), &[]).await.unwrap().get(0)
    }

    /// PostgreSQL's major version.
    pub(crate) async fn major(&self) -> u32 {
        let version = self.value("SELECT current_setting('server_version_num')::int / 10000").await;
        version.unwrap().parse().unwrap()
    }

    /// The slot that pg2os makes for the world's pipeline.
    pub(crate) fn slot(&self) -> String {
        format!("pg2os_{}", self.name)
    }

    /// A column of the slot's row in pg_replication_slots; `None` where there is no slot.
    pub(crate) async fn of_slot(&self, column: &str) -> Option<String> {
        let slot = self.slot();
        self.value(&format!("SELECT {column} FROM pg_replication_slots WHERE slot_name = '{slot}'")).await
    }

    /// The table `public.NAME`, followed into an index of this world.
    pub(crate) fn followed(&self, table: &str, id: &[&str]) -> Followed {
        self.followed_as(&format!("public.{table}"), id, table)
    }

    /// The table with this name, as SQL has it, followed into the index called `index` of this world.
    pub(crate) fn followed_as(&self, table: &str, id: &[&str], index: &str) -> Followed {
        let index = self.index(&index.to_lowercase());
        Followed {
            yaml: format!("table: {}, index: {index}", yaml(table)),
            table: table.to_owned(),
            id: id.iter().map(|c| (*c).to_owned()).collect(),
            rows: table.to_owned(),
            index,
        }
    }

    /// The name of an index of this world.
    pub(crate) fn index(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// The configuration that every test begins with; `more` are further sections.
    pub(crate) fn config(&self, tables: &[Followed], more: &str) -> String {
        let World { name, servers, .. } = self;
        let hosts = match &servers.pg_hosts {
            several if several.contains(',') => format!("[{several}]"),
            one => one.clone(),
        };
        let database = yaml(&self.database);
        let tables: String = tables.iter().map(|t| format!("  - {{ {} }}\n", t.yaml)).collect();
        format!(
            "name: {name}\n\
             postgres: {{ host: {hosts}, port: {}, database: {database}, user: postgres }}\n\
             opensearch: {{ url: '{}', state_index: {name}-state, dead_letter_index: {name}-dead-letters }}\n\
             {more}\ntables:\n{tables}",
            servers.pg_port, servers.os_url
        )
    }

    /// A process of pg2os with `config` and `arguments`.
    pub(crate) fn start(&self, config: &str, arguments: &[&str]) -> Pg2os {
        Pg2os::start(&self.folder, config, arguments)
    }

    /// `pg2os run` for `tables` with the usual configuration.
    pub(crate) fn run(&self, tables: &[Followed]) -> Pg2os {
        self.start(&self.config(tables, ""), &["run"])
    }

    /// Follows `tables`; once they are filled, lets each of `statements` happen and expects the right documents of all.
    pub(crate) async fn follows(&self, tables: &[Followed], statements: &[&str]) {
        let pg2os = self.run(tables);
        self.becomes_equal(tables).await;
        for sql in statements {
            self.sql(sql).await;
            self.becomes_equal(tables).await;
        }
        pg2os.stop().await;
        assert!(self.dead_letters().await.is_empty());
    }

    /// `pg2os run --until-caught-up`; it must end with 0.
    pub(crate) async fn catch_up(&self, config: &str) {
        let pg2os = self.start(config, &["run", "--until-caught-up"]);
        assert_eq!(pg2os.exit_code(PATIENCE).await, 0, "run --until-caught-up");
    }

    /// Dead letters so far.
    pub(crate) async fn dead_letters(&self) -> Vec<serde_json::Value> {
        let documents = self.os.documents(&self.index("dead-letters")).await;
        documents.values().map(|d| serde_json::from_str(d.source.get()).unwrap()).collect()
    }

    /// Waits for `condition` as long as a busy machine may need.
    pub(crate) async fn eventually(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        eventually(what, PATIENCE, condition).await;
    }
}

/// Connects as superuser, with the texts that ids are made of pinned.
pub(crate) async fn connect(port: u16, database: &str) -> Client {
    try_connect("127.0.0.1", port, database).await.unwrap()
}

/// Connects to the primary of `servers`.
pub(crate) async fn connect_to(servers: &Servers, database: &str) -> Client {
    try_connect(&servers.pg_hosts, servers.pg_port, database).await.unwrap()
}

/// Connects to the one of `hosts` that takes writes; says of each what was wrong with it where there is none.
pub(crate) async fn try_connect(hosts: &str, port: u16, database: &str) -> Result<Client, String> {
    const LOGIN: Duration = Duration::from_secs(5);
    let options = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c extra_float_digits=1";
    let mut failures = String::new();
    for host in hosts.split(',') {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port).user("postgres").dbname(database);
        config.options(options).application_name("e2e");
        config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        match tokio::time::timeout(LOGIN, config.connect(NoTls)).await {
            Ok(Ok((client, connection))) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Ok(Err(error)) => failures.push_str(&format!("{host}: {error:?}; ")),
            Err(_) => failures.push_str(&format!("{host}: no answer; ")),
        }
    }
    Err(failures)
}

/// A scalar of YAML, in quotes where it needs them.
fn yaml(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { json!(text).to_string() }
}

/// Quotes an identifier for SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs a test in a world of its own on the shared servers.
pub(crate) async fn in_world(schema: &str, test: impl AsyncFnOnce(&World)) {
    in_world_on(Servers::shared(), schema, test).await;
}

/// The same on servers that the test brings.
pub(crate) async fn in_world_on(servers: Servers, schema: &str, test: impl AsyncFnOnce(&World)) {
    in_database(servers, "", "", schema, test).await;
}

/// The same in a database with an ending to its name and options of CREATE DATABASE.
pub(crate) async fn in_database(
    servers: Servers,
    ending: &str,
    options: &str,
    schema: &str,
    test: impl AsyncFnOnce(&World),
) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("e2e_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let os = OpenSearch::new(&servers.os_url);
    let database = format!("{name}{ending}");
    let world = World { name, database, servers, os, folder };
    let admin = connect_to(&world.servers, "postgres").await;
    let create = format!("CREATE DATABASE {} TEMPLATE template0 {options}", quoted(&world.database));
    admin.batch_execute(&create).await.unwrap();
    world.sql(schema).await;
    let outcome = AssertUnwindSafe(test(&world)).catch_unwind().await;
    remove(&world).await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

/// Removes what a world has made; its processes have ended with the test.
async fn remove(world: &World) {
    let name = &world.name;
    world.os.delete_indices(name).await;
    std::fs::remove_dir_all(&world.folder).unwrap();
    if world.servers.is_private() {
        return;
    }
    let admin = connect(world.servers.pg_port, "postgres").await;
    let slots = format!("FROM pg_replication_slots WHERE database = '{}'", world.database);
    admin
        .batch_execute(&format!("SELECT pg_terminate_backend(active_pid) {slots} AND active"))
        .await
        .unwrap();
    let free = format!("SELECT count(*) {slots} AND active");
    eventually("the slots are free", PATIENCE, async || {
        admin.query_one(&free, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    admin.batch_execute(&format!("SELECT pg_drop_replication_slot(slot_name) {slots}")).await.unwrap();
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&world.database));
    admin.batch_execute(&drop).await.unwrap();
    let roles = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{name}\\_%'");
    for row in admin.query(&roles, &[]).await.unwrap() {
        admin.batch_execute(&format!("DROP ROLE {}", row.get::<_, String>(0))).await.unwrap();
    }
}

/// Waits until `condition` holds; fails with `what` when it does not in time.
pub(crate) async fn eventually(what: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < timeout, "not within {} s: {what}", timeout.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
