//! An index that was there before pg2os: its documents are not ours to delete.

use crate::support::in_world;
use serde_json::json;

#[tokio::test]
async fn documents_that_pg2os_did_not_write_stay_in_an_index_that_it_takes_over() {
    in_world(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 10), (2, 20)",
        async |world| {
            let index = world.index("t");
            for (id, n) in [("2", 0), ("foreign", 0)] {
                world.os.call("PUT", &format!("/{index}/_doc/{id}"), json!({ "n": n })).await;
            }
            let config = world.config(&[world.followed("t", &["id"])], "");
            let pg2os = world.start(&config, &["run"]);
            pg2os.logs("is taken over as it is").await;
            pg2os.logs("is filled and live").await;
            world.sql("TRUNCATE t; INSERT INTO t VALUES (3, 30)").await;
            let ids = async || world.os.documents(&index).await.into_keys().collect::<Vec<_>>();
            world.eventually("the TRUNCATE is followed", async || ids().await == ["3", "foreign"]).await;
            pg2os.stop().await;
        },
    )
    .await;
}
