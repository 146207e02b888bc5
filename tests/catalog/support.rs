//! A fresh database for each test, removed afterwards together with its slots and roles.

use pg2os::{
    model::TableSchema,
    source::{QueryError, catalog::load_table, server::server_facts},
};
use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio_postgres::{Client, NoTls};

/// A database of its own.
#[derive(Clone)]
pub(crate) struct Database {
    /// Its name, and the prefix of the roles and slots that belong to it.
    pub(crate) name: String,
}

impl Database {
    /// A connection as superuser.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.name).await
    }

    /// Makes a role that may log in, with attributes, and a connection that acts as it.
    pub(crate) async fn role(&self, suffix: &str, attributes: &str) -> (String, Client) {
        let role = format!("{}_{suffix}", self.name);
        let sql = format!("CREATE ROLE {role} LOGIN {attributes}");
        self.connect().await.batch_execute(&sql).await.unwrap();
        // Only the superuser may log in without a password here; from now on the session is the role's.
        let client = self.connect().await;
        client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")).await.unwrap();
        (role, client)
    }
}

async fn connect(database: &str) -> Client {
    let port = std::env::var("PG2OS_TEST_PG_PORT")
        .expect("PG2OS_TEST_PG_PORT is not set: run `make test`, which starts PostgreSQL and sets it");
    // As pg2os connects: names are qualified or do not resolve.
    let settings = "-c search_path=pg_catalog -c TimeZone=UTC -c DateStyle=ISO -c row_security=off";
    let config = format!(
        "host=127.0.0.1 port={port} user=postgres dbname={database} application_name=catalog_test options='{settings}'"
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a test in a database of its own, made by `setup`.
pub(crate) async fn in_database<F: Future<Output = ()> + Send + 'static>(
    setup: &str,
    test: impl FnOnce(Database) -> F,
) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("catalog_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let admin = connect("postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
    let database = Database { name: name.clone() };
    database.connect().await.batch_execute(&format!("SET search_path = public; {setup}")).await.unwrap();
    let outcome = tokio::spawn(test(database.clone())).await;
    let slots = format!(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE database = '{name}'"
    );
    database.connect().await.batch_execute(&slots).await.unwrap();
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    let roles = format!("SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname LIKE '{name}\\_%'");
    for row in admin.query(&roles, &[]).await.unwrap() {
        admin.batch_execute(&format!("DROP ROLE {}", row.get::<_, String>(0))).await.unwrap();
    }
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

/// The same for what came with a version of PostgreSQL; before it there is nothing to test.
pub(crate) async fn since<F: Future<Output = ()> + Send + 'static>(
    major: i32,
    setup: &str,
    test: impl FnOnce(Database) -> F,
) {
    let admin = connect("postgres").await;
    let version = server_facts(&admin).await.unwrap().version_num;
    if version >= major * 10_000 {
        in_database(setup, test).await;
    }
}

/// `load_table` for `public.NAME` in publications.
pub(crate) async fn load(
    client: &Client,
    name: &str,
    publications: &[&str],
) -> Result<TableSchema, QueryError> {
    let publications: Vec<String> = publications.iter().map(|p| (*p).to_owned()).collect();
    load_table(client, "public", name, &publications).await
}

/// Owned strings.
pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}
