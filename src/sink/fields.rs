//! Fields that a mapping lacks, added in place.

use super::{
    client::{Client, Request, encode},
    error::{Result, SinkError},
    index::{Index, count_fields},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What came of fields that an index should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// Fields that it has now.
    pub added: Vec<String>,
    /// Fields that it has with another type, which cannot be changed in place: its type, and the one that was wanted.
    pub other: Vec<(String, String, String)>,
}

impl Client {
    /// Adds to the mapping of `index` what it lacks of `properties`, and raises `index.mapping.total_fields.limit` where it
    /// is in the way (OpenSearch docs: "Update mapping"). A field that is there stays as it is.
    pub async fn extend(&self, index: &Index, properties: &Map<String, Value>) -> Result<Extension> {
        let (mut missing, mut extension) = (Map::new(), Extension::default());
        for (field, wanted) in properties {
            match index.properties.get(field) {
                None => {
                    missing.insert(field.clone(), wanted.clone());
                    extension.added.push(field.clone());
                }
                Some(there) if type_of(there) != type_of(wanted) => {
                    let types = (type_of(there).to_owned(), type_of(wanted).to_owned());
                    extension.other.push((field.clone(), types.0, types.1));
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() {
            return Ok(extension);
        }
        match self.add_fields(&index.concrete, &missing).await {
            Err(SinkError::Refused { reason, .. }) if reason.contains("Limit of total fields") => {
                let fields = count_fields(&index.properties) + count_fields(&missing);
                self.raise_field_limit(&index.concrete, 2 * fields + 100).await?;
                self.add_fields(&index.concrete, &missing).await?;
            }
            result => result?,
        }
        Ok(extension)
    }

    async fn raise_field_limit(&self, index: &str, limit: usize) -> Result<()> {
        #[derive(Deserialize)]
        struct Acknowledged {}
        tracing::info!(index, limit, "index.mapping.total_fields.limit raised");
        let request = Request::new(Method::PUT, format!("/{}/_settings", encode(index)));
        let settings = json!({ "index.mapping.total_fields.limit": limit });
        self.call::<Acknowledged>(request.json(&settings)).await.map(|_| ())
    }
}

/// A field without a type is an object.
fn type_of(field: &Value) -> &str {
    field["type"].as_str().unwrap_or("object")
}
