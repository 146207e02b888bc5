//! What a configuration's tables are, and which of their columns and rows are followed.

use crate::support::{in_database, load, since, strings};
use pg2os::source::{
    QueryError,
    catalog::{column_names, list_tables},
    identity::{IdRules, check_id},
    publication::{Actions, Wanted, exists, filter_to_follow, must_not_harm},
};

#[tokio::test]
async fn plain_tables_and_roots_are_listed_and_nothing_else() {
    let setup = "CREATE SCHEMA s; CREATE TABLE s.\"B\" (id int); CREATE TABLE a (id int) PARTITION BY RANGE (id);
        CREATE TABLE a_1 PARTITION OF a DEFAULT; CREATE TABLE child () INHERITS (s.\"B\"); CREATE VIEW v AS SELECT 1;
        CREATE MATERIALIZED VIEW m AS SELECT 1; CREATE UNLOGGED TABLE u (id int); CREATE SEQUENCE q";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        client.batch_execute("CREATE TEMPORARY TABLE t (id int)").await.unwrap();
        let listed: Vec<String> =
            list_tables(&client).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["public.a", "public.child", "s.B"]);
    })
    .await;
}

#[tokio::test]
async fn the_cure_of_an_identity_without_the_routing_column_has_it_and_the_id() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, tenant int NOT NULL, more text GENERATED ALWAYS AS ('x') STORED);
        CREATE UNIQUE INDEX by_tenant ON t (tenant, id)";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let id = strings(&["id"]);
        let rules = |routing| IdRules { routing: Some(routing), ..IdRules::default() };
        let table = load(&client, "t", &[]).await.unwrap();
        assert_eq!(column_names(&client, &table).await.unwrap(), ["id", "tenant", "more"]);
        let refused = check_id(&client, &table, &id, rules("tenant")).await;
        let Err(QueryError::IdNotInIdentity { sql, columns, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(columns, "tenant");
        assert_eq!(sql, "ALTER TABLE \"public\".\"t\" REPLICA IDENTITY USING INDEX \"by_tenant\";");
        client.batch_execute(&sql).await.unwrap();
        let cured = load(&client, "t", &[]).await.unwrap();
        check_id(&client, &cured, &id, rules("tenant")).await.unwrap();
        let inserts = IdRules { append_only: true, ..rules("tenant") };
        check_id(&client, &table, &id, inserts).await.unwrap();
        for (column, problem) in [("tenannt", "did you mean `tenant`?"), ("more", "is generated")] {
            let error = check_id(&client, &cured, &id, rules(column)).await.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_configured_filter_is_followed_until_a_publication_has_the_table() {
    since(15, "CREATE TABLE t (id int PRIMARY KEY, n int)", |db| async move {
        let client = db.connect().await;
        let publications = strings(&["p", "p_append"]);
        let follow = async |filter: &str| {
            let table = load(&client, "t", &["p"]).await.unwrap();
            let wanted = Wanted { table: &table, filter: Some(filter) };
            filter_to_follow(&client, &publications, wanted, Actions::All).await
        };
        assert_eq!(follow("id>3").await.unwrap().as_deref(), Some("id>3"));
        assert!(follow("n > 3").await.unwrap_err().to_string().contains("42P10"));
        client.batch_execute("CREATE PUBLICATION p FOR TABLE public.t WHERE (id > 3)").await.unwrap();
        assert_eq!(follow("id>3").await.unwrap().as_deref(), Some("(id > 3)"));
        assert!(follow("id > 4").await.unwrap_err().to_string().contains("is in force"));
    })
    .await;
}

#[tokio::test]
async fn a_publication_that_breaks_the_application_is_told_from_one_of_inserts() {
    let setup = "CREATE TABLE bare (id int); CREATE TABLE keyed (id int PRIMARY KEY);
        CREATE PUBLICATION ok FOR TABLE bare, keyed WITH (publish = 'insert, truncate');
        CREATE PUBLICATION bad FOR TABLE bare, keyed; CREATE PUBLICATION worse FOR ALL TABLES";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let bare = load(&client, "bare", &[]).await.unwrap();
        let keyed = load(&client, "keyed", &[]).await.unwrap();
        let wanted = |table| [Wanted { table, filter: None }];
        for name in ["ok", "nowhere"] {
            must_not_harm(&client, name, &wanted(&bare)).await.unwrap();
        }
        must_not_harm(&client, "bad", &wanted(&keyed)).await.unwrap();
        for (name, cure) in [
            ("bad", "ALTER PUBLICATION \"bad\" DROP TABLE ONLY \"public\".\"bare\";"),
            ("worse", "ALTER TABLE \"public\".\"bare\" REPLICA IDENTITY FULL;"),
        ] {
            let refused = must_not_harm(&client, name, &wanted(&bare)).await;
            let Err(QueryError::Publication { sql, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!(sql, cure);
            client.batch_execute(&sql).await.unwrap();
        }
        client
            .batch_execute("INSERT INTO public.bare VALUES (1); UPDATE public.bare SET id = 2")
            .await
            .unwrap();
        assert!(exists(&client, "ok").await.unwrap() && !exists(&client, "nowhere").await.unwrap());
    })
    .await;
}
