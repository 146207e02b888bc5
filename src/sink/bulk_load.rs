//! Settings of an index that are others while it is filled. Pure, but for the requests at the end.

use super::{
    client::{Client, Request, encode},
    error::Result,
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const REFRESH: &str = "index.refresh_interval";
const REPLICAS: &str = "index.number_of_replicas";
const EXPANDED: &str = "index.auto_expand_replicas";

/// What they are meanwhile (OpenSearch docs: "Tuning for indexing speed"). Durability of the translog stays as it is.
const WHILE_FILLED: [(&str, &str); 2] = [(REFRESH, "-1"), (REPLICAS, "0")];

/// Of the settings `now` those that a bulk load changes; `null` is the default. Empty where there is nothing to change.
pub fn to_be_kept(now: &Map<String, Value>) -> Map<String, Value> {
    let is_expanded = now.get(EXPANDED).is_some_and(|value| value != "false");
    WHILE_FILLED
        .iter()
        // OpenSearch counts the replicas itself.
        .filter(|(name, _)| !(is_expanded && *name == REPLICAS))
        .filter(|(name, value)| now.get(*name).is_none_or(|now| now != value))
        .map(|(name, _)| ((*name).to_owned(), now.get(*name).cloned().unwrap_or(Value::Null)))
        .collect()
}

/// What the settings in `former` are changed to.
pub fn while_filled(former: &Map<String, Value>) -> Map<String, Value> {
    let ours = WHILE_FILLED.iter().filter(|(name, _)| former.contains_key(*name));
    ours.map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

/// Of the `former` settings those to be put back: what somebody has changed meanwhile stays.
pub fn to_be_put_back(former: &Map<String, Value>, now: &Map<String, Value>) -> Map<String, Value> {
    let ours = while_filled(former);
    let is_ours = |name: &str| ours.get(name).is_some_and(|ours| now.get(name) == Some(ours));
    former.iter().filter(|(name, _)| is_ours(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

impl Client {
    /// The settings of `index` that are explicit, by full name (OpenSearch docs: "Get settings").
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn settings(&self, index: &str) -> Result<Map<String, Value>> {
        #[derive(Deserialize)]
        struct Only {
            settings: Map<String, Value>,
        }
        let path = format!("/{}/_settings?flat_settings=true", encode(index));
        let found: BTreeMap<String, Only> = self.call(Request::get(path)).await?;
        Ok(found.into_values().next().map(|only| only.settings).unwrap_or_default())
    }

    /// Changes settings of `index`, `null` to the default (OpenSearch docs: "Update settings").
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn change_settings(&self, index: &str, settings: &Map<String, Value>) -> Result<()> {
        let path = format!("/{}/_settings", encode(index));
        let request = Request::new(Method::PUT, path).json(&Value::from(settings.clone()));
        self.call::<Value>(request).await.map(|_| ())
    }

    /// Has the segments of `index` merged into one of each shard; does not wait for it (OpenSearch docs: "Force merge").
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn force_merge(&self, index: &str) -> Result<()> {
        let path = format!("/{}/_forcemerge?max_num_segments=1&wait_for_completion=false", encode(index));
        self.call::<Value>(Request::new(Method::POST, path)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn refresh_and_replicas_are_kept_where_they_are_others_already_not() {
        let kept = |now| Value::from(to_be_kept(&object(now)));
        assert_eq!(kept(json!({ REPLICAS: "1" })), json!({ REFRESH: null, REPLICAS: "1" }));
        assert_eq!(kept(json!({ REFRESH: "5s", REPLICAS: "0" })), json!({ REFRESH: "5s" }));
        assert_eq!(kept(json!({ REFRESH: "-1", REPLICAS: "0" })), json!({}));
        assert_eq!(kept(json!({ REPLICAS: "1", EXPANDED: "0-1" })), json!({ REFRESH: null }));
        assert_eq!(
            kept(json!({ REPLICAS: "1", EXPANDED: "false" })),
            json!({ REFRESH: null, REPLICAS: "1" })
        );
    }

    #[test]
    fn what_was_changed_is_put_back_and_what_somebody_else_changed_stays() {
        let former = object(json!({ REFRESH: null, REPLICAS: "2" }));
        assert_eq!(Value::from(while_filled(&former)), json!({ REFRESH: "-1", REPLICAS: "0" }));
        let back = |now| Value::from(to_be_put_back(&former, &object(now)));
        assert_eq!(back(json!({ REFRESH: "-1", REPLICAS: "0" })), json!({ REFRESH: null, REPLICAS: "2" }));
        assert_eq!(back(json!({ REFRESH: "1s", REPLICAS: "0" })), json!({ REPLICAS: "2" }));
        assert_eq!(
            back(json!({ REPLICAS: "2" })),
            json!({}),
            "the note was written, and nothing changed yet"
        );
    }
}
