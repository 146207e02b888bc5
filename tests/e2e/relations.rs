//! Partitions, inheritance, columns and rows that are not published, and names.

use crate::support::{PATIENCE, World, in_database, in_world, quoted, servers::Servers};

const BIG: &str = "repeat(md5(random()::text), 90)";

/// `part` by `region`: partitions of their own column order, with dropped columns, and divided further. Without a primary
/// key `loose` has the identity of its partitions only.
fn partitioned() -> String {
    format!(
        "CREATE TABLE part (gone int, region int, id int, n int, big text, PRIMARY KEY (region, id)) PARTITION BY RANGE (region);
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10);
         CREATE TABLE part_2 (big text, id int NOT NULL, dropped text, n int, gone int, region int NOT NULL);
         ALTER TABLE part_2 DROP dropped;
         ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (10) TO (20);
         ALTER TABLE part DROP gone;
         CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM (20) TO (30) PARTITION BY LIST (id);
         CREATE TABLE part_3_odd PARTITION OF part_3 FOR VALUES IN (1, 3, 5, 7, 9);
         CREATE TABLE part_3_rest PARTITION OF part_3 DEFAULT;
         ALTER TABLE part_1 ALTER big SET STORAGE EXTERNAL; ALTER TABLE part_2 ALTER big SET STORAGE EXTERNAL;
         ALTER TABLE part_3_odd ALTER big SET STORAGE EXTERNAL;
         -- Each with an identity of its own: what the stream says is the root's.
         ALTER TABLE part REPLICA IDENTITY FULL; ALTER TABLE part_2 REPLICA IDENTITY FULL;
         INSERT INTO part SELECT r, g, 0, {BIG} FROM generate_series(5, 25, 10) r, generate_series(1, 10) g;

         CREATE TABLE loose (id int NOT NULL, n int, big text) PARTITION BY RANGE (id);
         CREATE TABLE loose_1 PARTITION OF loose FOR VALUES FROM (0) TO (100);
         CREATE TABLE loose_2 (n int, big text, id int NOT NULL);
         ALTER TABLE loose ATTACH PARTITION loose_2 DEFAULT;
         CREATE UNIQUE INDEX loose_2_id ON loose_2 (id);
         ALTER TABLE loose_1 REPLICA IDENTITY FULL; ALTER TABLE loose_2 REPLICA IDENTITY USING INDEX loose_2_id;
         ALTER TABLE loose_1 ALTER big SET STORAGE EXTERNAL; ALTER TABLE loose_2 ALTER big SET STORAGE EXTERNAL;
         INSERT INTO loose SELECT g, 0, {BIG} FROM generate_series(90, 110) g;"
    )
}

#[tokio::test]
async fn partitions_of_any_shape_and_identity_come_under_their_root() {
    in_world(&partitioned(), async |world| {
        let followed = [
            world.followed("part", &["region", "id"]),
            world.followed("loose", &["id"]).with("id: id, id_unique: asserted"),
        ];
        world
            .follows(
                &followed,
                &[
                    "UPDATE part SET n = 1; UPDATE loose SET n = 1",
                    // A key change inside a partition, without the value of `big`.
                    "UPDATE part SET id = id + 100 WHERE id % 2 = 0; UPDATE loose SET id = id - 50 WHERE id < 100; UPDATE loose SET id = id + 50 WHERE id > 100",
                    // From one partition to another, and back, with the same id in between.
                    "UPDATE part SET region = 30 - region, id = id + 200 + region, n = 2 WHERE id < 5; UPDATE part SET region = 15 WHERE id > 200",
                    "BEGIN; UPDATE part SET region = 25, id = 333 WHERE region = 15 AND id = 108; UPDATE part SET n = 3 WHERE id = 333; UPDATE part SET region = 16 WHERE id = 333;
                     DELETE FROM part WHERE region = 5; COMMIT; UPDATE loose SET id = 300 - id WHERE id < 45",
                    "INSERT INTO part SELECT 7, g, g, 'new' FROM generate_series(1, 300) g; UPDATE part SET region = 17, id = id + 1000 WHERE region = 7; DELETE FROM loose WHERE id % 2 = 0",
                    "BEGIN; TRUNCATE part; INSERT INTO part VALUES (1, 1, 1, 'x'), (11, 1, 1, 'x'), (21, 1, 1, 'x'); COMMIT; TRUNCATE loose",
                ],
            )
            .await;
    })
    .await;
}

#[tokio::test]
async fn partitions_whose_changes_would_not_come_are_refused() {
    let schema = format!(
        "{} CREATE TABLE dark (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE UNLOGGED TABLE dark_1 PARTITION OF dark FOR VALUES FROM (0) TO (10)",
        partitioned()
    );
    in_world(&schema, async |world| {
        let refused = async |tables: &[_], said: &[&str]| {
            let pg2os = world.start(&world.config(tables, ""), &["run", "--until-caught-up"]);
            let (code, log) = pg2os.ending(PATIENCE).await;
            assert_eq!(code, 2, "{log}");
            assert!(said.iter().all(|text| log.contains(text)), "{log}");
        };
        refused(&[world.followed("dark", &["id"])], &["dark_1", "SET LOGGED"]).await;
        let (root, leaf) =
            (world.followed("part", &["region", "id"]), world.followed("part_1", &["region", "id"]));
        let told = ["public.part_1 is a partition", "name public.part only"];
        refused(&[leaf.clone(), root.clone()], &told).await;
        assert_eq!(world.value("SELECT count(*) FROM pg_publication").await.as_deref(), Some("0"));
        world.catch_up(&world.config(&[root], "")).await;
        refused(&[leaf], &told).await;
    })
    .await;
}

#[tokio::test]
async fn parents_and_children_are_tables_of_their_own() {
    let schema = format!(
        "CREATE TABLE parent (id int PRIMARY KEY, n int, big text); ALTER TABLE parent ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE child (more int, PRIMARY KEY (id)) INHERITS (parent);
         INSERT INTO parent SELECT g, 0, {BIG} FROM generate_series(1, 10) g;
         INSERT INTO child SELECT g, 0, {BIG}, g FROM generate_series(5, 15) g"
    );
    in_world(&schema, async |world| {
        let parent = world.followed("parent", &["id"]).holding("SELECT * FROM ONLY parent");
        // An administrator's publication without ONLY sends the children too: under their own names.
        world.sql(&format!("CREATE PUBLICATION {} FOR TABLE parent", world.slot())).await;
        let statements = [
            "UPDATE parent SET n = 1",
            "UPDATE ONLY parent SET id = id + 100 WHERE id < 4; UPDATE child SET id = id + 200; DELETE FROM parent WHERE id % 2 = 0",
            "TRUNCATE ONLY parent; INSERT INTO parent VALUES (1, 1, 'x')",
            "TRUNCATE child; INSERT INTO child SELECT g, 2, 'y', 2 FROM generate_series(1, 5) g",
            "TRUNCATE parent; INSERT INTO child VALUES (6, 6, 'z', 6); INSERT INTO parent VALUES (6, 7, 'z')",
        ];
        world.follows(std::slice::from_ref(&parent), &statements[..2]).await;
        world.follows(&[parent, world.followed("child", &["id"])], &statements[2..]).await;
    })
    .await;
}

#[tokio::test]
async fn columns_that_are_not_sent_are_in_no_document() {
    let schema = format!(
        "CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED, big text,
                            other bigint GENERATED BY DEFAULT AS IDENTITY);
         ALTER TABLE made ALTER big SET STORAGE EXTERNAL;
         INSERT INTO made (n, big) SELECT g, {BIG} FROM generate_series(1, 10) g;
         CREATE TABLE listed (secret text, id int PRIMARY KEY, n int, big text, more int);
         ALTER TABLE listed ALTER big SET STORAGE EXTERNAL, ALTER secret SET STORAGE EXTERNAL;
         INSERT INTO listed SELECT {BIG}, g, 0, {BIG}, g FROM generate_series(1, 10) g"
    );
    in_world(&schema, async |world| {
        let major = world.major().await;
        // From 18 on a publication may send stored columns; virtual ones never come.
        let (sent, options) = if major >= 18 {
            world.sql("ALTER TABLE made ADD never int GENERATED ALWAYS AS (n * 3) VIRTUAL").await;
            ("id, n, twice, big, other", " WITH (publish_generated_columns = stored)")
        } else {
            ("id, n, big, other", "")
        };
        let mut followed = vec![world.followed("made", &["id"]).holding(&format!("SELECT {sent} FROM made"))];
        let mut tables = "made";
        if major >= 15 {
            followed.push(world.followed("listed", &["id"]).holding("SELECT id, n, big FROM listed"));
            tables = "made, listed (big, id, n)";
        }
        world.sql(&format!("CREATE PUBLICATION {} FOR TABLE {tables}{options}", world.slot())).await;
        world
            .follows(
                &followed,
                &[
                    "UPDATE made SET n = -n; INSERT INTO made (n, big) VALUES (7, 'x'); INSERT INTO made (id, n, other) OVERRIDING SYSTEM VALUE VALUES (700, 1, 5);
                     UPDATE made SET id = DEFAULT WHERE id < 4; DELETE FROM made WHERE twice = -10",
                    "UPDATE listed SET secret = 'x', more = 1; UPDATE listed SET n = 1, secret = 'y'; UPDATE listed SET id = id + 20 WHERE id < 5; DELETE FROM listed WHERE more = 6",
                ],
            )
            .await;
    })
    .await;
}

/// Everything that has to be quoted somewhere: for SQL, in JSON, in a URL, in an option of START_REPLICATION.
const ODD: &str = r#"Ä "q" 'a' %41\n a.b, c;--"#;

#[tokio::test]
async fn names_are_taken_as_they_are() {
    let longest = "ü".repeat(31) + "x";
    let odd = quoted(ODD);
    let schema = format!(
        r#"CREATE SCHEMA a; CREATE SCHEMA "B"; CREATE SCHEMA {odd};
         CREATE TABLE a.t (id int PRIMARY KEY, "of a" int); CREATE TABLE "B".t (id int PRIMARY KEY, "of B" int);
         CREATE TABLE {odd}.{odd} ("Id""\ %" text, "é 漢" int, "{longest}" text, "from" int, PRIMARY KEY ("Id""\ %", "é 漢"));
         CREATE TABLE "{longest}" (id int PRIMARY KEY, n int);
         ALTER TABLE {odd}.{odd} ALTER "{longest}" SET STORAGE EXTERNAL;
         INSERT INTO a.t VALUES (1, 1), (2, 2); INSERT INTO "B".t VALUES (1, 10), (3, 30);
         INSERT INTO {odd}.{odd} VALUES ('a"b', 1, {BIG}, 1), ('c\d|', 2, {BIG}, 2); INSERT INTO "{longest}" VALUES (1, 1)"#
    );
    let changes = format!(
        r#"UPDATE a.t SET id = id + 1 WHERE id = 2; UPDATE "B".t SET "of B" = 5; DELETE FROM a.t WHERE id = 1; UPDATE "{longest}" SET n = 2;
         UPDATE {odd}.{odd} SET "from" = 7; UPDATE {odd}.{odd} SET "Id""\ %" = 'ö%20' WHERE "é 漢" = 1; INSERT INTO {odd}.{odd} VALUES ('x', 3, 'y', 4)"#
    );
    let truncate = format!(r#"TRUNCATE a.t, {odd}.{odd}; INSERT INTO a.t VALUES (9, 9)"#);
    let ending = format!(" {ODD}").replace('\'', "");
    in_database(Servers::shared(), &ending, "", &schema, async |world: &World| {
        let followed = [
            world.followed_as("a.t", &["id"], "a-t"),
            world.followed_as("\"B\".t", &["id"], "b-t"),
            world.followed_as(&format!("{odd}.{odd}"), &["Id\"\\ %", "é 漢"], "odd"),
            world.followed_as(&format!("public.\"{longest}\""), &["id"], "longest"),
        ];
        let publication = format!("user: postgres, publication: {}", serde_json::json!([ODD]));
        let config = world.config(&followed, "").replace("user: postgres", &publication);
        let pg2os = world.start(&config, &["run"]);
        world.becomes_equal(&followed).await;
        for sql in [&changes, &truncate] {
            world.sql(sql).await;
            world.becomes_equal(&followed).await;
        }
        pg2os.stop().await;
        world.sql(r#"UPDATE a.t SET "of a" = 8"#).await;
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}
