//! What the catalog says: columns, types, keys, identities, privileges.

use crate::support::{in_database, load, since, strings};
use pg2os::{
    model::{ColumnType, ReplicaIdentity, Structure},
    source::{
        QueryError,
        identity::{IdRules, Uniqueness, check_id},
        server::server_facts,
        types::load_types,
    },
};

const RULES: IdRules<'_> = IdRules { append_only: false, unique_asserted: false, routing: None };

#[tokio::test]
async fn a_table_is_described_with_its_columns_in_order_and_its_types_resolved() {
    let setup = "
        CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN prices AS price[]; CREATE DOMAIN few AS int4[];
        CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE \"Pair\" AS (a int, b text);
        CREATE TABLE t (gone int, id bigint PRIMARY KEY, p price, ps prices, f few, n numeric(5,1)[], m mood[],
            c \"Pair\", v varchar(7), iv int2vector, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
        ALTER TABLE t DROP COLUMN gone; INSERT INTO t (id) SELECT generate_series(1, 500); ANALYZE t;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &[]).await.unwrap();
        let names: Vec<&str> = t.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["id", "p", "ps", "f", "n", "m", "c", "v", "iv"]);
        let column_type = |name| t.column(name).unwrap().column_type.clone();
        let price = ColumnType::scalar(1700, (10 << 16 | 2) + 4);
        assert_eq!(column_type("p"), price);
        assert_eq!(column_type("ps").element(), Some(&price));
        assert_eq!(column_type("f").oid, 1007);
        assert_eq!(column_type("f").element(), Some(&ColumnType::scalar(23, -1)));
        assert_eq!(column_type("n").element(), Some(&ColumnType::scalar(1700, (5 << 16 | 1) + 4)));
        assert!(column_type("m").element().is_some_and(|e| e.element().is_none() && e.oid >= 16384));
        assert_eq!(column_type("iv").element(), None, "int2vector has elements, but no array text");
        let sql_type = |name| t.column(name).unwrap().sql_type.as_str();
        assert_eq!((sql_type("p"), sql_type("v")), ("public.price", "character varying(7)"));
        assert_eq!((sql_type("c"), sql_type("m")), ("public.\"Pair\"", "public.mood[]"));
        assert!(t.column("id").unwrap().not_null && !t.column("v").unwrap().not_null);
        assert_eq!((t.primary_key, t.estimated_rows, t.partitioned), (strings(&["id"]), 500, false));
        assert_eq!(t.identity, ReplicaIdentity::Columns(strings(&["id"])));

        let oid: u32 = client.query_one("SELECT 'public.prices'::regtype::oid", &[]).await.unwrap().get(0);
        let types = load_types(&client, &[oid, 25, 4_000_000_000]).await.unwrap();
        assert_eq!(types[&oid].element(), Some(&price));
        assert_eq!((types[&25].clone(), types.len()), (ColumnType::scalar(25, -1), 2));
    })
    .await;
}

#[tokio::test]
async fn a_publication_decides_about_columns_and_rows() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, tenant int, secret text);
        CREATE PUBLICATION p FOR TABLE t (id, tenant) WHERE (id > 7);
        CREATE PUBLICATION q FOR TABLE t; CREATE PUBLICATION r FOR TABLE t (tenant, id) WHERE (id>7);
        CREATE PUBLICATION s FOR TABLE t (id, tenant);";
    since(15, setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &["p"]).await.unwrap();
        assert_eq!(t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["id", "tenant"]);
        assert_eq!(t.row_filter.as_deref(), Some("(id > 7)"));
        assert!(load(&client, "t", &["p", "r"]).await.is_ok(), "the same said twice is no contradiction");
        for (publications, what) in [(["p", "q"], "column lists"), (["p", "s"], "row filters")] {
            let error = load(&client, "t", &publications).await.unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("drop it from one"), "{error}");
        }
        let error = check_id(&client, &t, &strings(&["secret"]), RULES).await.unwrap_err().to_string();
        assert!(error.contains("is not published: add it to the publication's column list"), "{error}");
        let error = check_id(&client, &t, &strings(&["tennant"]), RULES).await.unwrap_err().to_string();
        assert!(error.contains("did you mean `tenant`?"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_table_or_does_not_exist_says_what_to_do() {
    let setup =
        "CREATE TABLE events (id int); CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW m AS SELECT 1;
        CREATE UNLOGGED TABLE u (id int); CREATE SEQUENCE s;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        for (name, text) in [
            ("evnets", "did you mean public.events?"),
            ("nothing_like_it", "public.nothing_like_it does not exist; correct"),
            ("v", "public.v is a view"),
            ("m", "is a materialized view"),
            ("u", "ALTER TABLE \"public\".\"u\" SET LOGGED"),
            ("s", "is not a table"),
        ] {
            let error = load(&client, name, &[]).await.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn missing_privileges_name_the_grants_and_the_grants_are_enough() {
    let setup = "CREATE SCHEMA \"S\"; CREATE TABLE \"S\".\"T\" (id int PRIMARY KEY, a int);
        CREATE TABLE secured (id int PRIMARY KEY); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;";
    in_database(setup, |db| async move {
        let admin = db.connect().await;
        let (role, client) = db.role("reader", "REPLICATION").await;
        let load = async || pg2os::source::catalog::load_table(&client, "S", "T", &[]).await;
        let Err(QueryError::NoSelect { sql, what, .. }) = load().await else { panic!("it may read") };
        assert_eq!(what, "USAGE on schema S, SELECT on id, a");
        assert_eq!(
            sql,
            format!("GRANT USAGE ON SCHEMA \"S\" TO \"{role}\"; GRANT SELECT ON \"S\".\"T\" TO \"{role}\";")
        );
        admin.batch_execute(&sql).await.unwrap();
        assert!(load().await.is_ok());

        admin.batch_execute(&format!("GRANT SELECT ON public.secured TO {role}")).await.unwrap();
        let Err(QueryError::RowSecurity { sql, .. }) = crate::support::load(&client, "secured", &[]).await
        else {
            panic!("row security was not seen")
        };
        admin.batch_execute(&sql).await.unwrap();
        assert!(crate::support::load(&client, "secured", &[]).await.is_ok());

        let facts = server_facts(&client).await.unwrap();
        assert!(facts.version_num >= 140_000 && !facts.in_recovery && facts.system_identifier.is_some());
        assert_eq!((facts.wal_level.as_str(), facts.encoding.as_str()), ("logical", "UTF8"));
        assert_eq!((facts.database, facts.role), (db.name, role));
        assert!(facts.is_replication_role && !facts.is_superuser);
    })
    .await;
}

#[tokio::test]
async fn the_replica_identity_is_read_in_all_its_variants() {
    let setup =
        "CREATE TABLE pk (b int, a int, x int, PRIMARY KEY (a, b) INCLUDE (x)); CREATE TABLE none (a int);
        CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
        CREATE TABLE indexed (a int PRIMARY KEY, b int NOT NULL UNIQUE);
        ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_b_key;
        CREATE TABLE whole (a int PRIMARY KEY); ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        use ReplicaIdentity::{Columns, Full, Nothing};
        for (table, identity) in [
            ("pk", Columns(strings(&["a", "b"]))),
            ("none", Nothing),
            ("deferred", Nothing),
            ("indexed", Columns(strings(&["b"]))),
            ("whole", Full),
            ("nothing", Nothing),
        ] {
            assert_eq!(load(&client, table, &[]).await.unwrap().identity, identity, "{table}");
        }
        assert_eq!(load(&client, "pk", &[]).await.unwrap().primary_key, ["a", "b"]);
    })
    .await;
}

#[tokio::test]
async fn id_columns_outside_the_identity_are_refused_with_a_cure_that_works() {
    let setup = "CREATE TABLE a (id int PRIMARY KEY, day date NOT NULL, UNIQUE (id, day));
        CREATE TABLE b (id int PRIMARY KEY, day date); CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
        CREATE TABLE root (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE leaf PARTITION OF root DEFAULT; ALTER TABLE leaf REPLICA IDENTITY NOTHING;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        for (table, id, cure) in [
            (
                "a",
                &["id", "day"][..],
                "ALTER TABLE \"public\".\"a\" REPLICA IDENTITY USING INDEX \"a_id_day_key\";",
            ),
            ("b", &["id", "day"][..], "ALTER TABLE \"public\".\"b\" REPLICA IDENTITY FULL;"),
            (
                "root",
                &["id", "day"][..],
                "LOOP EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY FULL', leaf)",
            ),
        ] {
            let schema = load(&client, table, &[]).await.unwrap();
            let refused = check_id(&client, &schema, &strings(id), RULES).await;
            let Err(QueryError::IdNotInIdentity { sql, .. }) = refused else {
                panic!("{table}: {refused:?}")
            };
            assert!(sql.contains(cure), "{sql}");
            client.batch_execute(sql.split(" (and for").next().unwrap()).await.unwrap();
            let schema = load(&client, table, &[]).await.unwrap();
            check_id(&client, &schema, &strings(id), RULES).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn ids_must_be_unique_by_an_index_or_by_assertion() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, a int NOT NULL, b int, c int NOT NULL);
        ALTER TABLE t REPLICA IDENTITY FULL; CREATE UNIQUE INDEX part ON t (a) WHERE a > 0;
        CREATE UNIQUE INDEX nulls ON t (b); CREATE UNIQUE INDEX good ON t (c);";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let t = load(&client, "t", &[]).await.unwrap();
        let asserted = IdRules { unique_asserted: true, ..RULES };
        for (id, flaw) in [("a", "is partial"), ("b", "where a column is NULL")] {
            let error = check_id(&client, &t, &strings(&[id]), RULES).await.unwrap_err().to_string();
            assert!(error.contains(flaw) && error.contains("id_unique: asserted"), "{error}");
            check_id(&client, &t, &strings(&[id]), asserted).await.unwrap();
        }
        let unique = async |id: &[&str], rules| check_id(&client, &t, &strings(id), rules).await.unwrap();
        assert_eq!(unique(&["b", "c"], RULES).await, Uniqueness::Immediate);
        assert_eq!(unique(&["id", "c"], RULES).await, Uniqueness::Immediate);
        for rules in [RULES, asserted] {
            assert_eq!(unique(&["id"], rules).await, Uniqueness::Deferrable);
        }
        let error = check_id(&client, &t, &[], RULES).await.unwrap_err().to_string();
        assert!(error.contains("no primary key and no `id`"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_partitioned_root_stands_for_its_partitions() {
    let setup = "CREATE TABLE root (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE y1 PARTITION OF root FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
        CREATE TABLE y2 PARTITION OF root FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
        CREATE TABLE y2a PARTITION OF y2 DEFAULT;
        INSERT INTO root SELECT n, '2023-06-01' FROM generate_series(1, 100) n;
        INSERT INTO root SELECT n, '2024-06-01' FROM generate_series(1, 50) n; ANALYZE y1; ANALYZE y2a;
        CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root = true);";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let root = load(&client, "root", &["p"]).await.unwrap();
        assert!(root.partitioned);
        assert_eq!(root.estimated_rows, 150);
        assert_eq!(root.identity, ReplicaIdentity::Columns(strings(&["id", "day"])));
        client.batch_execute("ALTER TABLE public.y2a REPLICA IDENTITY NOTHING").await.unwrap();
        let root = load(&client, "root", &["p"]).await.unwrap();
        assert_eq!(
            root.identity,
            ReplicaIdentity::Nothing,
            "one partition without identity breaks its deletes"
        );
    })
    .await;
}

#[tokio::test]
async fn generated_columns_are_read_where_the_publication_sends_them() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
        CREATE PUBLICATION p FOR TABLE t WITH (publish_generated_columns = stored);
        CREATE PUBLICATION q FOR TABLE t;";
    since(18, setup, |db| async move {
        let client = db.connect().await;
        assert_eq!(load(&client, "t", &["p"]).await.unwrap().columns.len(), 2);
        assert_eq!(load(&client, "t", &["q"]).await.unwrap().columns.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn types_are_described_down_to_what_they_are_made_of() {
    let setup = "
        CREATE EXTENSION hstore; CREATE DOMAIN price AS numeric(10,2); CREATE TYPE inner_type AS (p price, h hstore);
        CREATE TYPE outer_type AS (gone int, i inner_type, s numeric(5,1)[], b box[]); CREATE TYPE nothing AS ();
        ALTER TYPE outer_type DROP ATTRIBUTE gone; CREATE DOMAIN checked AS outer_type CHECK (true);
        CREATE TYPE prices AS RANGE (subtype = price, multirange_type_name = many_prices); CREATE TYPE t0 AS (a int, b int);
        DO $$ BEGIN FOR n IN 1..16 LOOP EXECUTE format('CREATE TYPE t%s AS (a t%s, b t%s)', n, n - 1, n - 1); END LOOP; END $$;";
    in_database(setup, |db| async move {
        let client = db.connect().await;
        let mut oids = vec![];
        for name in ["checked", "prices", "many_prices", "nothing", "t16"] {
            let sql = format!("SELECT 'public.{name}'::regtype::oid");
            oids.push(client.query_one(&sql, &[]).await.unwrap().get::<_, u32>(0));
        }
        let types = load_types(&client, &oids).await.unwrap();
        let price = ColumnType::scalar(1700, (10 << 16 | 2) + 4);
        let Structure::Composite(outer) = &types[&oids[0]].structure else { panic!("{types:?}") };
        assert_eq!(outer.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["i", "s", "b"]);
        let Structure::Composite(inner) = &outer[0].1.structure else { panic!("{outer:?}") };
        assert_eq!(inner[0], ("p".to_owned(), price.clone()));
        assert_eq!(inner[1].1.structure, Structure::Extension("hstore".into()));
        assert_eq!(outer[1].1.element(), Some(&ColumnType::scalar(1700, (5 << 16 | 1) + 4)));
        assert!(matches!(outer[2].1.structure, Structure::Array { delimiter: b';', .. }));
        assert_eq!(types[&oids[1]].structure, Structure::Range(Box::new(price.clone())));
        assert_eq!(types[&oids[2]].structure, Structure::Multirange(Box::new(price)));
        assert_eq!(types[&oids[3]].structure, Structure::Composite(vec![]));
        // 2^16 parts and more: as many as there is room for.
        assert!(matches!(types[&oids[4]].structure, Structure::Composite(_)));
    })
    .await;
}
