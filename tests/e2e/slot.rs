//! `slot` and `state`: what they show, and what they refuse.

use crate::support::{PATIENCE, World, in_world};

const T: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)";

/// What a command prints, and its exit code.
async fn pg2os(world: &World, config: &str, line: &str) -> (i32, String) {
    let arguments: Vec<&str> = line.split(' ').collect();
    world.start(config, &arguments).ending(PATIENCE).await
}

#[tokio::test]
async fn a_slot_that_is_needed_is_neither_dropped_nor_advanced_past_what_is_indexed() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        let (code, said) = pg2os(world, &config, "slot create").await;
        assert!(code == 2 && said.contains("make the publication first"), "{said}");
        let (code, said) = pg2os(world, &config, "slot advance").await;
        assert!(code == 2 && said.contains("does not exist"), "{said}");

        let running = world.run(&followed);
        world.becomes_equal(&followed).await;
        let (code, said) = pg2os(world, &config, "slot drop --force").await;
        assert!(code == 2 && said.contains("stop pg2os first"), "{said}");
        let (_, said) = pg2os(world, &config, "slot list").await;
        assert!(said.contains(&world.slot()) && said.contains("active, reserved"), "{said}");
        running.stop().await;

        world.sql("INSERT INTO t VALUES (11)").await;
        let end = world.value("SELECT pg_current_wal_lsn()").await.unwrap();
        let (code, said) = pg2os(world, &config, &format!("slot advance --to {end}")).await;
        assert!(code == 2 && said.contains("would be lost"), "{said}");
        let (code, said) = pg2os(world, &config, "slot advance").await;
        assert!(code == 0 && said.contains("stands at"), "{said}");
        let (code, said) = pg2os(world, &config, "slot drop").await;
        assert!(code == 2 && said.contains("--force"), "{said}");
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;

        assert_eq!(pg2os(world, &config, "slot drop --force").await.0, 0);
        assert_eq!(pg2os(world, &config, "slot create --bookmark").await.0, 0);
        let (_, said) = pg2os(world, &config, "slot list --json").await;
        let listed = serde_json::Deserializer::from_str(&said).into_iter::<serde_json::Value>().next();
        let listed = listed.unwrap().unwrap();
        assert_eq!((&listed[0]["exists"], &listed[1]["exists"]), (&false.into(), &true.into()), "{said}");
    })
    .await;
}

#[tokio::test]
async fn a_table_that_is_forgotten_is_read_again() {
    in_world(T, async |world| {
        let followed = [world.followed("t", &["id"])];
        let config = world.config(&followed, "");
        world.catch_up(&config).await;
        let (_, said) = pg2os(world, &config, "state list").await;
        assert!(said.contains("public.t") && said.contains("live"), "{said}");
        let (code, said) = pg2os(world, &config, "state forget public.u").await;
        assert!(code == 2 && said.contains("nothing is known of table public.u"), "{said}");
        // A document that is gone comes back only if the table is read.
        let document = format!("/{}/_doc/7?refresh=true", world.index("t"));
        world.os.call("DELETE", &document, serde_json::Value::Null).await;
        world.catch_up(&config).await;
        assert_eq!(world.os.count(&world.index("t")).await, 9);
        assert_eq!(pg2os(world, &config, "state forget public.t").await.0, 0);
        assert!(pg2os(world, &config, "state list").await.1.contains("nothing is known yet"));
        world.catch_up(&config).await;
        world.assert_equal(&followed).await;
    })
    .await;
}
