//! Which copy of an index it is. Its uuid changes when it is made anew; the histories of its shards change when an older
//! copy of them is restored or forced to be the primary, under the same uuid too.

use super::{
    client::{Client, Request, encode},
    error::{Result, SinkError},
};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Default, Deserialize)]
struct Stats {
    #[serde(default)]
    indices: BTreeMap<String, IndexStats>,
}

#[derive(Default, Deserialize)]
struct IndexStats {
    #[serde(default)]
    shards: BTreeMap<String, Vec<Shard>>,
}

#[derive(Deserialize)]
struct Shard {
    routing: Routing,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Routing {
    primary: bool,
}

#[derive(Deserialize)]
struct Commit {
    user_data: UserData,
}

#[derive(Deserialize)]
struct UserData {
    history_uuid: String,
}

impl Client {
    /// The histories of the primary shards of `index`, as `0:uuid,1:uuid` (OpenSearch docs: "Index stats", `level=shards`);
    /// `None` where not all of them are at work, or we may not ask.
    pub async fn history(&self, index: &str) -> Result<Option<String>> {
        let path = format!(
            "/{}/_stats/docs?level=shards&filter_path=indices.*.shards.*.routing.primary,\
             indices.*.shards.*.commit.user_data.history_uuid,_shards.failed",
            encode(index)
        );
        let stats: Stats = match self.call(Request::get(path)).await {
            // A closed index has none, and one that is gone is told elsewhere.
            Err(SinkError::Forbidden { .. } | SinkError::Refused { .. }) => return Ok(None),
            stats => stats?,
        };
        Ok(stats.indices.into_values().next().and_then(|index| of_shards(&index.shards)))
    }
}

fn of_shards(shards: &BTreeMap<String, Vec<Shard>>) -> Option<String> {
    let histories: Option<Vec<String>> = shards
        .iter()
        .map(|(number, copies)| {
            let primary = copies.iter().find(|copy| copy.routing.primary)?;
            Some(format!("{number}:{}", primary.commit.as_ref()?.user_data.history_uuid))
        })
        .collect();
    histories.filter(|histories| !histories.is_empty()).map(|histories| histories.join(","))
}

/// Is a copy another one than that with the history `known`? Only shards that both name tell.
pub fn is_other_copy(known: &str, now: &str) -> bool {
    let known: BTreeMap<&str, &str> = known.split(',').filter_map(|shard| shard.split_once(':')).collect();
    now.split(',')
        .filter_map(|shard| shard.split_once(':'))
        .any(|(number, history)| known.get(number).is_some_and(|known| *known != history))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_history_of_any_shard_is_another_copy() {
        assert!(!is_other_copy("0:a,1:b", "0:a,1:b"));
        assert!(!is_other_copy("0:a,1:b", "1:b"), "the other shard is not at work");
        assert!(is_other_copy("0:a,1:b", "0:a,1:c"));
        assert!(!is_other_copy("", "0:a"));
    }

    #[test]
    fn a_history_is_that_of_the_primaries() {
        let stats = |json: &str| {
            let stats: Stats = serde_json::from_str(json).unwrap();
            stats.indices.into_values().next().and_then(|index| of_shards(&index.shards))
        };
        let shard = |primary, history| {
            format!(
                r#"{{"routing":{{"primary":{primary}}},"commit":{{"user_data":{{"history_uuid":"{history}"}}}}}}"#
            )
        };
        let (replica, primary) = (shard(false, "x"), shard(true, "a"));
        let of = |shards: &str| stats(&format!(r#"{{"indices":{{"i":{{"shards":{{{shards}}}}}}}}}"#));
        assert_eq!(of(&format!(r#""0":[{replica},{primary}]"#)).as_deref(), Some("0:a"));
        assert_eq!(of(&format!(r#""0":[{replica}]"#)), None);
        assert_eq!(of(""), None);
        assert_eq!(stats("{}"), None);
    }
}
