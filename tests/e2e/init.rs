//! `init`: from a catalog to a pipeline, with nothing but what it prints.

use crate::support::in_world;
use std::process::Command;

#[tokio::test]
async fn what_init_prints_is_enough_to_run() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10);
                  CREATE TABLE \"Odd; name\" (a text, b int, PRIMARY KEY (b, a)); INSERT INTO \"Odd; name\" VALUES ('x', 1);
                  CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
                  CREATE TABLE p_1 PARTITION OF p DEFAULT; INSERT INTO p VALUES (1);
                  CREATE TABLE log (line text); CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)";
    in_world(schema, async |world| {
        let role = format!("{}_drafted", world.name);
        let init = |more: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_pg2os"))
                .args(["init", "--tables", "public.*", "--role", &role])
                .args(more)
                .env_clear()
                .env("PG_HOST", "127.0.0.1")
                .env("PG_PORT", world.servers.pg_port.to_string())
                .env("PG_DATABASE", &world.name)
                .env("PG_USER", "postgres")
                .env("PG2OS_NAME", &world.name)
                .env("PG2OS_OPENSEARCH__URL", &world.servers.os_url)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        world.sql(&init(&["--sql"])).await;
        world.sql(&format!("ALTER ROLE {role} PASSWORD 'secret'")).await;

        let yaml = init(&[]);
        assert!(yaml.contains("# public.log: ") && !yaml.contains("fast"), "{yaml}");
        // Passwords and the names of indices are what is left to fill in.
        let mut yaml = yaml
            .replace("password_file: /etc/pg2os/pg/password", "password: secret")
            .replace("index: odd--name", &format!("index: {}", world.index("odd")))
            .replace(
                "\ntables:",
                &format!(
                    "\n  state_index: {0}-state\n  dead_letter_index: {0}-dead-letters\ntables:",
                    world.name
                ),
            );
        for table in ["t", "p"] {
            let entry = format!("- table: public.{table} ");
            yaml = yaml.replace(&entry, &format!("- index: {}\n    {}", world.index(table), &entry[2..]));
        }
        world.catch_up(&yaml).await;
        for (index, rows) in [("t", 10), ("p", 1), ("odd", 1)] {
            assert_eq!(world.os.count(&world.index(index)).await, rows, "{index}\n{yaml}");
        }
    })
    .await;
}
