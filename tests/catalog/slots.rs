//! Slots: made, found, advanced, refused.

use crate::support::in_database;
use pg2os::{
    model::Lsn,
    source::{QueryError, admin_sql, floor::open_transactions, server::server_facts, slot},
};
use std::time::Duration;

#[tokio::test]
async fn a_slot_is_made_found_and_advanced() {
    in_database("CREATE TABLE t (id int)", |db| async move {
        let client = db.connect().await;
        let name = format!("{}_s", db.name);
        assert_eq!(slot::find(&client, &name).await.unwrap(), None);
        let point = slot::create(&client, &name).await.unwrap();
        let state = slot::find(&client, &name).await.unwrap().unwrap();
        assert_eq!(state.confirmed_flush_lsn, Some(point));
        assert_eq!((state.plugin.as_deref(), state.database.as_deref()), (Some("pgoutput"), Some(&*db.name)));
        assert!(!state.active && !state.temporary && !state.two_phase && !state.is_lost());
        assert_eq!(state.wal_status.as_deref(), Some("reserved"));
        client.batch_execute("INSERT INTO public.t VALUES (1)").await.unwrap();
        let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let end: Lsn = end.parse().unwrap();
        let reached = slot::advance(&client, &name, end).await.unwrap();
        assert!(reached > point && reached <= end);
        assert_eq!(slot::find(&client, &name).await.unwrap().unwrap().confirmed_flush_lsn, Some(reached));
        let error = slot::advance(&client, &name, point).await.unwrap_err();
        assert!(error.to_string().contains("advancing slot") && !error.is_transient(), "{error}");
        assert_eq!(slot::create(&client, &name).await.unwrap_err().code().unwrap().code(), "42710");
    })
    .await;
}

#[tokio::test]
async fn slot_creation_waits_for_an_open_transaction_that_is_named() {
    in_database("CREATE TABLE t (id int)", |db| async move {
        let (client, writer, name) = (db.connect().await, db.connect().await, format!("{}_s", db.name));
        writer.batch_execute("BEGIN; INSERT INTO public.t VALUES (1)").await.unwrap();
        let open = open_transactions(&client, None).await.unwrap();
        assert!(open.iter().any(|o| o.contains(&format!("database {}", db.name))), "{open:?}");
        let creation = tokio::spawn(async move { slot::create(&client, &name).await });
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(!creation.is_finished());
        writer.batch_execute("COMMIT").await.unwrap();
        creation.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_role_without_replication_gets_the_sql_that_cures_it() {
    in_database("", |db| async move {
        let (role, client) = db.role("plain", "").await;
        let name = format!("{}_s", db.name);
        let refused = slot::create(&client, &name).await;
        let Err(QueryError::NeedsAdministrator { sql, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(sql, format!("ALTER ROLE \"{role}\" REPLICATION;"));
        db.connect().await.batch_execute(&sql).await.unwrap();
        slot::create(&client, &name).await.unwrap();
    })
    .await;
}

/// Is there a slot, a publication or a role of these names?
async fn left_over(client: &tokio_postgres::Client, slots: &[&str], role: &str) -> [i64; 3] {
    let sql = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_name::text = ANY($1)),
                      (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_roles WHERE rolname = $2)";
    let row = client.query_one(sql, &[&slots, &role]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

const TWO_TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE \"B\" (id int PRIMARY KEY)";

#[tokio::test]
async fn the_administrators_files_make_everything_and_take_it_away() {
    in_database(TWO_TABLES, |db| async move {
        let client = db.connect().await;
        let (role, slot, bookmark) =
            (format!("{}_made", db.name), format!("{}_s", db.name), format!("{}_b", db.name));
        let variables = [
            ("role", role.as_str()),
            ("database", &db.name),
            ("schemas", "public"),
            ("tables", "public.a, public.\"B\""),
            ("publication", "p"),
            ("slot", &slot),
            ("bookmark", &bookmark),
        ];
        let for_bookmark = variables.map(|v| if v.0 == "slot" { ("slot", bookmark.as_str()) } else { v });
        let is_17 = server_facts(&client).await.unwrap().version_num >= 170_000;
        let slot_file = if is_17 { admin_sql::SLOT_17 } else { admin_sql::SLOT };
        for (file, variables) in [
            (admin_sql::ROLE, variables),
            (admin_sql::PUBLICATION, variables),
            (slot_file, variables),
            (slot_file, for_bookmark),
        ] {
            client.batch_execute(&admin_sql::render(file, &variables)).await.unwrap();
        }
        assert_eq!(left_over(&client, &[&slot, &bookmark], &role).await, [2, 1, 1]);
        if is_17 {
            let sql = "SELECT failover FROM pg_replication_slots WHERE slot_name = $1::text";
            assert!(client.query_one(sql, &[&slot]).await.unwrap().get::<_, bool>(0));
        }
        client.batch_execute(&admin_sql::render(admin_sql::TEARDOWN, &variables)).await.unwrap();
        assert_eq!(left_over(&client, &[&slot, &bookmark], &role).await, [0, 0, 0]);
    })
    .await;
}

/// The files as an administrator runs them, with the role that Zalando's operator would have made.
#[tokio::test]
async fn with_a_role_that_is_there_the_owner_of_the_tables_grants_and_publishes_by_psql() {
    in_database(TWO_TABLES, |db| async move {
        let client = db.connect().await;
        let (owner, role) = (format!("{}_owner", db.name), format!("{}_made", db.name));
        let setup = format!(
            "CREATE ROLE {owner}; CREATE ROLE {role} LOGIN REPLICATION; GRANT CREATE ON DATABASE {name} TO {owner};
             ALTER SCHEMA public OWNER TO {owner}; ALTER TABLE public.a OWNER TO {owner}; ALTER TABLE public.\"B\" OWNER TO {owner}",
            name = db.name
        );
        client.batch_execute(&setup).await.unwrap();
        let psql = |file: &str| {
            let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"));
            let output = std::process::Command::new(variable("PG2OS_TEST_PSQL"))
                .args(["-h", "127.0.0.1", "-p", &variable("PG2OS_TEST_PG_PORT"), "-U", "postgres", "-d", &db.name])
                .args(["-v", "ON_ERROR_STOP=1", "-v", "publication=p", "-v", "schemas=public"])
                .args(["-v", &format!("role={role}"), "-v", "tables=public.a, public.\"B\""])
                .args(["-c", &format!("SET SESSION AUTHORIZATION {owner}")])
                .args(["-f", &format!("{}/sql/{file}", env!("CARGO_MANIFEST_DIR"))])
                .output()
                .unwrap();
            assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let may_read = async || -> bool {
            let sql = "SELECT has_table_privilege($1, 'public.\"B\"', 'SELECT') AND has_schema_privilege($1, 'public', 'USAGE')";
            client.query_one(sql, &[&role]).await.unwrap().get(0)
        };
        psql("01_grants.sql");
        psql("02_publication.sql");
        assert!(may_read().await);
        assert_eq!(left_over(&client, &[], &role).await, [0, 1, 1]);
        psql("04_teardown_grants.sql");
        assert!(!may_read().await);
        assert_eq!(left_over(&client, &[], &role).await, [0, 0, 1]);
    })
    .await;
}
