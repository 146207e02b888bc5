//! Everything that `check` asks of OpenSearch. Nothing is changed; what may not be asked stays unknown.

use super::{
    client::{Client, Info, Request, encode},
    error::{Result, SinkError},
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A cluster before anything is made there.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterFacts {
    /// What it is.
    pub info: Info,
    /// `action.auto_create_index`; `None` where it may not be asked.
    pub auto_create: Option<String>,
    /// Percent of the disk above which indices become read-only, and no new shards are placed, where they are percents.
    pub watermarks: Watermarks,
    /// Nodes with data.
    pub disks: Vec<Disk>,
    /// Seconds that its clock is ahead of ours; it is told in whole seconds.
    pub clock_ahead: Option<f64>,
}

/// `cluster.routing.allocation.disk.watermark.*` (OpenSearch docs: "Index settings", disk-based allocation).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Watermarks {
    /// Indices become read-only.
    pub flood_stage: f64,
    /// Shards are moved away.
    pub high: f64,
}

/// The disk of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    /// Node.
    pub node: String,
    /// Percent in use.
    pub used: f64,
}

impl Client {
    /// Asks the cluster.
    ///
    /// # Errors
    /// It is not there, or not OpenSearch.
    pub async fn cluster_facts(&self) -> Result<ClusterFacts> {
        let info = self.info().await?;
        let path = "/_cluster/settings?include_defaults=true&flat_settings=true";
        let settings = self.may_ask::<Value>(Request::get(path)).await?;
        let setting = |name: &str| -> Option<String> {
            let settings = settings.as_ref()?;
            let levels = ["transient", "persistent", "defaults"].map(|level| &settings[level][name]);
            levels.iter().find_map(|value| value.as_str()).map(str::to_owned)
        };
        let percent = |name: &str, otherwise: f64| {
            let text = setting(&format!("cluster.routing.allocation.disk.watermark.{name}"));
            text.and_then(|t| t.strip_suffix('%')?.parse().ok()).unwrap_or(otherwise)
        };
        let watermarks =
            Watermarks { flood_stage: percent("flood_stage", 95.0), high: percent("high", 90.0) };
        let allocation = Request::get("/_cat/allocation?format=json&h=node,disk.percent");
        let disks = self.may_ask::<Vec<Map<String, Value>>>(allocation).await?.unwrap_or_default();
        let disks = disks.iter().filter_map(|row| {
            let text = |key: &str| row.get(key).and_then(Value::as_str);
            Some(Disk { node: text("node")?.to_owned(), used: text("disk.percent")?.parse().ok()? })
        });
        let health = Request::get("/_cat/health?format=json&h=epoch");
        let asked = Utc::now();
        let health = self.may_ask::<Vec<Map<String, Value>>>(health).await?.unwrap_or_default();
        let clock = health.first().and_then(|row| row.get("epoch")?.as_str()?.parse::<i64>().ok());
        Ok(ClusterFacts {
            info,
            auto_create: setting("action.auto_create_index"),
            watermarks,
            disks: disks.collect(),
            clock_ahead: clock.map(|epoch| (epoch - asked.timestamp()) as f64),
        })
    }

    async fn may_ask<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<Option<T>> {
        match self.call(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(SinkError::Forbidden { .. } | SinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The blocks of an index that keep documents from being written (OpenSearch docs: "Index settings", `blocks`).
    ///
    /// # Errors
    /// The index could not be asked for.
    pub async fn write_blocks(&self, index: &str) -> Result<Vec<String>> {
        let path = format!("/{}/_settings/index.blocks.*?flat_settings=true", encode(index));
        let answer = self.may_ask::<Map<String, Value>>(Request::get(path)).await?.unwrap_or_default();
        let settings = answer.values().filter_map(|index| index["settings"].as_object()).flatten();
        let stops = ["index.blocks.write", "index.blocks.read_only", "index.blocks.read_only_allow_delete"];
        let set = settings.filter(|(name, value)| stops.contains(&name.as_str()) && *value == "true");
        Ok(set.map(|(name, _)| name.clone()).collect())
    }

    /// How many documents with these ids there are in `index`.
    ///
    /// # Errors
    /// The index could not be searched.
    pub async fn count_ids(&self, index: &str, ids: &[String]) -> Result<u64> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let query = json!({ "query": { "ids": { "values": ids } } });
        let request = Request::new(reqwest::Method::POST, format!("/{}/_count", encode(index))).json(&query);
        Ok(self.call::<Count>(request).await?.count)
    }

    /// The `_id` of one document of `index`; `None` where it is empty.
    ///
    /// # Errors
    /// The index could not be searched.
    pub async fn any_id(&self, index: &str) -> Result<Option<String>> {
        let path = format!("/{}/_search?size=1&_source=false&filter_path=hits.hits._id", encode(index));
        let answer: Value = self.call(Request::get(path)).await?;
        Ok(answer["hits"]["hits"][0]["_id"].as_str().map(str::to_owned))
    }
}
