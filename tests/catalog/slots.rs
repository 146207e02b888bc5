//! Slots: made, found, advanced, refused.

use crate::support::in_database;
use pg2os::{
    model::Lsn,
    source::{QueryError, admin_sql, floor::open_transactions, slot},
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

#[tokio::test]
async fn the_administrators_files_make_everything_and_take_it_away() {
    in_database("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE \"B\" (id int PRIMARY KEY)", |db| async move {
        let client = db.connect().await;
        let (role, slot) = (format!("{}_made", db.name), format!("{}_s", db.name));
        let variables = [
            ("role", role.as_str()),
            ("database", &db.name),
            ("schemas", "public"),
            ("tables", "public.a, public.\"B\""),
            ("publication", "p"),
            ("actions", "insert, update, delete, truncate"),
            ("slot", &slot),
        ];
        for file in [admin_sql::ROLE, admin_sql::PUBLICATION, admin_sql::SLOT] {
            client.batch_execute(&admin_sql::render(file, &variables)).await.unwrap();
        }
        assert!(slot::find(&client, &slot).await.unwrap().is_some());
        client.batch_execute(&admin_sql::render(admin_sql::TEARDOWN, &variables)).await.unwrap();
        assert!(slot::find(&client, &slot).await.unwrap().is_none());
        let sql = "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_roles WHERE rolname = $1)";
        assert_eq!(client.query_one(sql, &[&role]).await.unwrap().get::<_, i64>(0), 0);
    })
    .await;
}
