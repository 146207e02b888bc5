//! Indices: finding, making, owning. Nothing may come into being by accident: what pg2os makes stands behind an alias.

use super::{
    client::{Client, Request, encode},
    error::{Result, SinkError},
};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Format of our part of `_meta`.
const META_FORMAT: u32 = 1;

/// What a new index looks like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IndexDefinition {
    /// `mappings.properties`.
    pub properties: Map<String, Value>,
    /// The user's settings, which win over ours; `number_of_shards` and `index.number_of_shards` are the same.
    pub settings: Map<String, Value>,
}

/// Whose documents an index holds: one pipeline's, from one table of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Pipeline.
    pub pipeline: String,
    /// Source.
    pub source: Source,
}

/// A table of a database cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `system_identifier` of the database cluster, as text: it does not fit the numbers of every JSON reader.
    pub system_identifier: String,
    /// Database.
    pub database: String,
    /// Qualified table, or the root of a query.
    pub table: String,
}

/// An index as it is in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    /// The name that documents are written to: an alias or the index itself.
    pub name: String,
    /// The index itself.
    pub concrete: String,
    /// Is `name` an alias? Then bulk requests say `require_alias`.
    pub is_alias: bool,
    /// Another one under the same name means that the index was made anew.
    pub uuid: String,
    /// Was it made just now?
    pub created: bool,
    /// `mappings.properties`.
    pub properties: Map<String, Value>,
    /// `mappings._meta`.
    meta: Map<String, Value>,
}

impl Client {
    /// The index that writes to `name` go to, if there is one (OpenSearch docs: "Get index").
    pub async fn find_index(&self, name: &str) -> Result<Option<Index>> {
        let request = Request::get(format!("/{}", encode(name)));
        let found = match self.call::<BTreeMap<String, Described>>(request).await {
            Err(error) if error.is_refusal("index_not_found_exception") => return Ok(None),
            found => found?,
        };
        if let Some(stream) = found.values().find_map(|index| index.data_stream.as_deref()) {
            return Err(SinkError::Configuration(format!(
                "{name} is the data stream {stream}, which takes no updates and deletes; choose another `index`"
            )));
        }
        let mut targets: Vec<_> = found
            .into_iter()
            // A pattern in place of a name finds other indices.
            .filter(|(concrete, index)| concrete == name || index.aliases.contains_key(name))
            .collect();
        if targets.len() > 1 {
            targets.retain(|(_, index)| index.aliases.get(name).is_some_and(|alias| alias.is_write_index));
            if targets.is_empty() {
                return Err(SinkError::Configuration(format!(
                    "alias {name} stands for several indices and none is its write index; set `is_write_index` on one of them, or choose another `index`"
                )));
            }
        }
        Ok(targets.pop().map(|(concrete, index)| Index {
            name: name.to_owned(),
            is_alias: concrete != name,
            concrete,
            uuid: index.settings.index.uuid,
            created: false,
            properties: index.mappings.properties,
            meta: index.mappings.meta,
        }))
    }

    /// The uuid of the index that `name` stands for; of several, that of the write index. `None` where there is none.
    pub async fn uuid(&self, name: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Only {
            settings: BTreeMap<String, String>,
        }
        let path = format!("/{}/_settings/index.uuid?flat_settings=true", encode(name));
        let found = match self.call::<BTreeMap<String, Only>>(Request::get(path)).await {
            Err(error) if error.is_refusal("index_not_found_exception") => return Ok(None),
            found => found?,
        };
        let found_one = found.len() == 1;
        match found.into_values().next() {
            Some(mut only) if found_one => Ok(only.settings.remove("index.uuid")),
            _ => Ok(self.find_index(name).await?.map(|index| index.uuid)),
        }
    }

    /// The index behind `name`: the one that is there, as it is, or a new one, `name-000001` behind the alias `name`.
    ///
    /// It belongs to `owner` from then on; an index of another owner is a configuration error.
    pub async fn ensure_index(
        &self,
        name: &str,
        definition: &IndexDefinition,
        owner: &Owner,
    ) -> Result<Index> {
        let fields = count_fields(&definition.properties);
        let mut settings = json!({
            // OpenSearch forgets deletes after this time: longer than any request may be late.
            "index.gc_deletes": "10m",
            "index.mapping.total_fields.limit": 1000.max(2 * fields + 100),
            "index.mapping.depth.limit": 20.max(depth(&definition.properties)),
        });
        if let Some(settings) = settings.as_object_mut() {
            // A cluster without the plugin does not know the setting.
            if definition.properties.values().any(|field| field["type"] == "knn_vector") {
                settings.insert("index.knn".to_owned(), json!(true));
            }
            flatten("index.", &definition.settings, settings);
        }
        let mappings = json!({
            "dynamic": false,
            "_meta": { "pg2os": meta_of(owner) },
            "properties": definition.properties,
        });
        let mut index = self.ensure_alias(name, &settings, &mappings).await?;
        match index.owner() {
            None => {
                index.meta = self.write_claim(&index, owner, true).await?;
            }
            Some(found) if found == *owner => {}
            Some(Owner { pipeline, source }) => {
                return Err(SinkError::Owned {
                    index: index.concrete,
                    pipeline,
                    source_name: format!(
                        "table {} of database {} (system identifier {})",
                        source.table, source.database, source.system_identifier
                    ),
                });
            }
        }
        Ok(index)
    }

    /// Records in the index's `_meta` that it belongs to `owner`, whoever had it before; the rest of `_meta` stays.
    pub async fn claim(&self, index: &Index, owner: &Owner) -> Result<()> {
        self.write_claim(index, owner, index.is_adopted()).await.map(|_| ())
    }

    async fn write_claim(&self, index: &Index, owner: &Owner, adopted: bool) -> Result<Map<String, Value>> {
        let mut meta = index.meta.clone();
        let mut ours = meta_of(owner);
        if adopted {
            ours["adopted"] = json!(true);
        }
        meta.insert("pg2os".to_owned(), ours);
        self.put_mapping(&index.concrete, &json!({ "_meta": meta })).await?;
        Ok(meta)
    }

    /// Adds fields to the mapping; those that are there already must be the same (OpenSearch docs: "Update mapping").
    pub async fn add_fields(&self, index: &str, properties: &Map<String, Value>) -> Result<()> {
        self.put_mapping(index, &json!({ "properties": properties })).await
    }

    async fn put_mapping(&self, index: &str, mapping: &Value) -> Result<()> {
        let path = format!("/{}/_mapping", encode(index));
        self.call::<Acknowledged>(Request::new(Method::PUT, path).json(mapping)).await.map(|_| ())
    }

    /// What writes to `name` go to, made behind an alias where there is nothing yet.
    pub(super) async fn ensure_alias(&self, name: &str, settings: &Value, mappings: &Value) -> Result<Index> {
        if let Some(index) = self.find_index(name).await? {
            return Ok(index);
        }
        let concrete = format!("{name}-000001");
        let body = json!({
            "settings": settings,
            "mappings": mappings,
            "aliases": { name: { "is_write_index": true } },
        });
        let request = Request::new(Method::PUT, format!("/{}", encode(&concrete))).json(&body);
        let created = match self.call::<Acknowledged>(request).await {
            Ok(_) => true,
            // Another instance was quicker.
            Err(error) if error.is_refusal("resource_already_exists_exception") => false,
            Err(error) => return Err(error),
        };
        match self.find_index(name).await? {
            Some(index) => Ok(Index { created, ..index }),
            None => Err(SinkError::Configuration(format!(
                "index {concrete} exists, but the alias {name} does not; add the alias to take the index over, or delete it"
            ))),
        }
    }
}

impl Index {
    /// Was it there before pg2os? Then it may hold documents that are nobody's rows, and they are not ours to delete.
    pub fn is_adopted(&self) -> bool {
        self.meta.get("pg2os").is_some_and(|ours| ours["adopted"] == json!(true))
    }

    /// Whom it belongs to, where that is recorded.
    pub fn owner(&self) -> Option<Owner> {
        serde_json::from_value(self.meta.get("pg2os")?.clone()).ok()
    }
}

fn meta_of(owner: &Owner) -> Value {
    json!({ "pipeline": owner.pipeline, "source": owner.source, "format": META_FORMAT })
}

/// Fields as `index.mapping.total_fields.limit` counts them at most: objects, also those of dots, and multi-fields too.
pub(super) fn count_fields(properties: &Map<String, Value>) -> usize {
    let below = |field: &Value, key: &str| field.get(key).and_then(Value::as_object).map_or(0, count_fields);
    let count = |(name, field): (&String, &Value)| {
        1 + name.matches('.').count() + below(field, "properties") + below(field, "fields")
    };
    properties.iter().map(count).sum()
}

/// Depth as `index.mapping.depth.limit` counts it: each dot of a name opens an object.
fn depth(properties: &Map<String, Value>) -> usize {
    let below = |field: &Value| field.get("properties").and_then(Value::as_object).map_or(0, depth);
    properties.iter().map(|(name, field)| 1 + name.matches('.').count() + below(field)).max().unwrap_or(0)
}

/// Adds `from` to `to` with full dotted names, so that a user's nested or short name replaces ours.
fn flatten(prefix: &str, from: &Map<String, Value>, to: &mut Map<String, Value>) {
    for (key, value) in from {
        let key = key.strip_prefix("index.").unwrap_or(key);
        match value {
            Value::Object(inner) if prefix == "index." && key == "index" => flatten(prefix, inner, to),
            Value::Object(inner) => flatten(&format!("{prefix}{key}."), inner, to),
            value => {
                to.insert(format!("{prefix}{key}"), value.clone());
            }
        }
    }
}

/// `{"acknowledged": true, …}`.
#[derive(Deserialize)]
struct Acknowledged {
    #[serde(rename = "acknowledged")]
    _acknowledged: bool,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    aliases: BTreeMap<String, Alias>,
    #[serde(default)]
    mappings: Mappings,
    settings: Settings,
    data_stream: Option<String>,
}

#[derive(Deserialize)]
struct Alias {
    #[serde(default)]
    is_write_index: bool,
}

#[derive(Default, Deserialize)]
struct Mappings {
    #[serde(default)]
    properties: Map<String, Value>,
    #[serde(rename = "_meta", default)]
    meta: Map<String, Value>,
}

#[derive(Deserialize)]
struct Settings {
    index: IndexSettings,
}

#[derive(Deserialize)]
struct IndexSettings {
    uuid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_users_settings_win_in_every_notation() {
        for user in [
            json!({"gc_deletes": "1h"}),
            json!({"index.gc_deletes": "1h"}),
            json!({"index": {"gc_deletes": "1h"}}),
        ] {
            let mut settings = object(json!({"index.gc_deletes": "10m"}));
            flatten("index.", &object(user), &mut settings);
            assert_eq!(Value::from(settings), json!({"index.gc_deletes": "1h"}));
        }
        let mut settings = Map::new();
        flatten("index.", &object(json!({"mapping": {"total_fields": {"limit": 5}}})), &mut settings);
        assert_eq!(Value::from(settings), json!({"index.mapping.total_fields.limit": 5}));
    }

    #[test]
    fn objects_and_multi_fields_count_as_fields() {
        let properties = json!({
            "a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "b": {"properties": {"c": {"type": "long"}}},
        });
        assert_eq!(count_fields(&object(properties)), 4);
        let deep = json!({"x": {}, "a.b": {"properties": {"c.d": {"type": "long"}}}});
        assert_eq!(depth(&object(deep)), 4);
    }
}
