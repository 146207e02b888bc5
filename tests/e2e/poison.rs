//! A document that ends the node which reads it: it becomes a dead letter, and its neighbours are indexed (design 4, poison).
//! A proxy cuts the connection of every request that holds it.

use crate::support::{in_world, proxy::Proxy};
use std::time::Duration;

#[tokio::test]
async fn a_document_that_no_connection_survives_becomes_a_dead_letter_and_its_neighbours_are_indexed() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT g, 'good' FROM generate_series(1, 1000) g;
         UPDATE t SET note = 'venom' WHERE id = 500",
        async |world| {
            let server = world.servers.os_url.strip_prefix("http://").unwrap().parse().unwrap();
            let proxy = Proxy::start(([127, 0, 0, 1], 0).into(), server).await;
            // In a dead letter the quotes are escaped, so that it goes through.
            proxy.poison(r#""note":"venom""#);
            let good = [world.followed("t", &["id"]).holding("SELECT * FROM t WHERE note <> 'venom'")];
            let config = world.config(&good, "");
            let config = config.replace(&world.servers.os_url, &format!("http://{}", proxy.address()));
            let pg2os = world.start(&config, &["run"]);
            world.becomes_equal_within(Duration::from_secs(120), &good).await;
            world.eventually("it is given up", async || world.dead_letters().await.len() == 1).await;
            let letter = &world.dead_letters().await[0];
            assert!(letter["id"] == "500" && letter["error"]["type"] == "poison", "{letter}");
            assert!(proxy.poisoned() < 20, "{} nodes would have ended", proxy.poisoned());
            // Whoever cures the row gets its document, and the letter is resolved.
            world.sql("UPDATE t SET note = 'cured' WHERE id = 500").await;
            world.becomes_equal(&good).await;
            world.eventually("it is resolved", async || world.dead_letters().await.is_empty()).await;
            pg2os.stop().await;
        },
    )
    .await;
}
