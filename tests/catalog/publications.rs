//! Publications: made, checked, refused.

use crate::support::{in_database, load, since};
use pg2os::{
    model::TableSchema,
    source::{
        QueryError,
        publication::{Actions, PublicationState, Wanted, ensure},
        server::server_facts,
    },
};

fn wanted<'a>(table: &'a TableSchema, filter: Option<&'a str>) -> Wanted<'a> {
    Wanted { table, filter }
}

#[tokio::test]
async fn an_owner_makes_the_publication_and_adds_to_it_and_finds_it() {
    in_database("", |db| async move {
        let (role, client) = db.role("owner", "").await;
        let admin = db.connect().await;
        let sql =
            format!("GRANT CREATE ON DATABASE {} TO {role}; GRANT ALL ON SCHEMA public TO {role}", db.name);
        admin.batch_execute(&sql).await.unwrap();
        let tables = "CREATE TABLE public.a (id int PRIMARY KEY, n int);
            CREATE TABLE public.b (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);";
        client.batch_execute(tables).await.unwrap();
        let (a, b) = (load(&client, "a", &[]).await.unwrap(), load(&client, "b", &[]).await.unwrap());
        let state = ensure(&client, "My Pub", Actions::All, &[wanted(&a, None)]).await.unwrap();
        assert_eq!(state, PublicationState::Created);
        for expected in [PublicationState::TableAdded, PublicationState::Existed] {
            let both = [wanted(&a, None), wanted(&b, None)];
            assert_eq!(ensure(&client, "My Pub", Actions::All, &both).await.unwrap(), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_instances_that_make_the_publication_at_once_the_slower_finds_it() {
    in_database("CREATE TABLE a (id int PRIMARY KEY)", |db| async move {
        let (other, client) = (db.connect().await, db.connect().await);
        let a = load(&client, "a", &[]).await.unwrap();
        other.batch_execute("BEGIN; CREATE PUBLICATION p FOR TABLE ONLY public.a").await.unwrap();
        let tables = [wanted(&a, None)];
        let (state, ()) = tokio::join!(ensure(&client, "p", Actions::All, &tables), async {
            // Until the server has found its name taken, it waits for this transaction.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            other.batch_execute("COMMIT").await.unwrap();
        });
        assert_eq!(state.unwrap(), PublicationState::Existed);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_the_owner_gets_the_exact_sql_and_it_works() {
    let setup = "CREATE TABLE \"A\" (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);";
    in_database(setup, |db| async move {
        let admin = db.connect().await;
        let (role, client) = db.role("reader", "").await;
        admin.batch_execute(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await.unwrap();
        let (a, b) = (load(&client, "A", &[]).await.unwrap(), load(&client, "b", &[]).await.unwrap());
        let first = [wanted(&a, None)];
        let both = [wanted(&a, None), wanted(&b, None)];
        for (tables, begins) in
            [(&first[..], "CREATE PUBLICATION \"p\""), (&both[..], "ALTER PUBLICATION \"p\"")]
        {
            let refused = ensure(&client, "p", Actions::All, tables).await;
            let Err(QueryError::NeedsAdministrator { sql, what }) = refused else { panic!("{refused:?}") };
            assert!(sql.starts_with(begins), "{what}: {sql}");
            admin.batch_execute(&sql).await.unwrap();
            assert_eq!(ensure(&client, "p", Actions::All, tables).await.unwrap(), PublicationState::Existed);
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_published_that_would_break_the_application() {
    let setup = "CREATE TABLE bare (id int);
        CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        for table in ["bare", "deferred"] {
            let bare = load(&client, table, &[]).await.unwrap();
            let error =
                ensure(&client, "p", Actions::All, &[wanted(&bare, None)]).await.unwrap_err().to_string();
            assert!(
                error.contains(&format!("ALTER TABLE \"public\".\"{table}\" REPLICA IDENTITY FULL;")),
                "{error}"
            );
        }
        // Inserts alone are harmless, and the application's UPDATE goes on working.
        let bare = load(&client, "bare", &[]).await.unwrap();
        let made = ensure(&client, "p_append", Actions::InsertOnly, &[wanted(&bare, None)]).await.unwrap();
        assert_eq!(made, PublicationState::Created);
        client
            .batch_execute("INSERT INTO public.bare VALUES (1); UPDATE public.bare SET id = 2")
            .await
            .unwrap();
        client
            .batch_execute("ALTER PUBLICATION p_append SET (publish = 'insert, update, truncate')")
            .await
            .unwrap();
        let error =
            ensure(&client, "p_append", Actions::InsertOnly, &[wanted(&bare, None)]).await.unwrap_err();
        assert!(error.to_string().contains("SET (publish = 'insert, truncate');"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_publication_that_sends_too_little_says_what_to_set() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF t DEFAULT;
        CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert');";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &["p"]).await.unwrap();
        for problem in ["does not publish update, delete, truncate", "one by one under their own names"] {
            let Err(error) = ensure(&client, "p", Actions::All, &[wanted(&t, None)]).await else {
                panic!("{problem}")
            };
            assert!(error.to_string().contains(problem), "{error}");
            let QueryError::Publication { sql, .. } = error else { panic!("{error}") };
            client.batch_execute(&sql).await.unwrap();
        }
        let state = ensure(&client, "p", Actions::All, &[wanted(&t, None)]).await.unwrap();
        assert_eq!(state, PublicationState::Existed);
    })
    .await;
}

#[tokio::test]
async fn a_row_filter_is_made_compared_and_refused_where_it_does_harm() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY);
        CREATE TABLE keyed (id int PRIMARY KEY, n int)";
    since(15, setup, |db| async move {
        let client = db.connect().await;
        let (a, b) = (load(&client, "a", &[]).await.unwrap(), load(&client, "b", &[]).await.unwrap());
        let filtered = wanted(&a, Some("id > 3 AND id < 10"));
        let state = ensure(&client, "p", Actions::All, &[filtered, wanted(&b, None)]).await.unwrap();
        assert_eq!(state, PublicationState::Created);
        for a in [filtered, wanted(&a, Some("(id > 3)   and (id <10)")), wanted(&a, None)] {
            let state = ensure(&client, "p", Actions::All, &[a, wanted(&b, None)]).await.unwrap();
            assert_eq!(state, PublicationState::Existed);
        }
        assert_eq!(load(&client, "a", &["p"]).await.unwrap().row_filter.unwrap(), "((id > 3) AND (id < 10))");
        let error = ensure(&client, "p", Actions::All, &[wanted(&a, Some("id > 4"))]).await.unwrap_err();
        assert!(error.to_string().contains("is in force in the publication"), "{error}");
        let error = ensure(&client, "p", Actions::All, &[wanted(&b, Some("id > 4"))]).await.unwrap_err();
        assert!(error.to_string().contains("but none is in force"), "{error}");

        let keyed = load(&client, "keyed", &[]).await.unwrap();
        let error = ensure(&client, "q", Actions::All, &[wanted(&keyed, Some("n = 7"))])
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("42P10") && error.contains("\"keyed\" REPLICA IDENTITY FULL"), "{error}");
        for filter in ["nope = 7", "id +", "id"] {
            let error =
                ensure(&client, "q", Actions::All, &[wanted(&keyed, Some(filter))]).await.unwrap_err();
            assert!(error.to_string().contains("is not a condition on its columns"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_row_filter_before_version_15_is_refused() {
    in_database("CREATE TABLE t (id int PRIMARY KEY)", |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &[]).await.unwrap();
        let made = ensure(&client, "p", Actions::All, &[wanted(&t, Some("id > 0"))]).await;
        match server_facts(&client).await.unwrap().version_num {
            ..150_000 => assert!(made.unwrap_err().to_string().contains("need PostgreSQL 15")),
            _ => assert_eq!(made.unwrap(), PublicationState::Created),
        }
    })
    .await;
}
