//! The cluster.

use super::{Cure, Finding, clock};
use crate::sink::{ClusterFacts, Disk, Watermarks};

/// The oldest release with everything that is used.
const OLDEST: (u32, u32) = (2, 19);

/// Everything about the cluster, but its indices.
pub fn cluster(facts: &ClusterFacts) -> Vec<Finding> {
    let mut found: Vec<Finding> = version(&facts.info.version).into_iter().collect();
    found.extend(auto_create(facts.auto_create.as_deref()));
    found.extend(facts.disks.iter().filter_map(|node| disk(node, facts.watermarks)));
    found.extend(facts.clock_ahead.and_then(|ahead| clock("OpenSearch", ahead)));
    found
}

fn version(text: &str) -> Option<Finding> {
    let mut numbers = text.split('.').map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next().unwrap_or(0));
    // With compatibility.override_main_response_version it says that it is 7.10.2.
    if version.0 >= 7 {
        let reason = format!("the cluster hides its version (it says {text}); 2.19 and 3.x are tested");
        return Some(Finding::note("opensearch_version", reason));
    }
    (version < OLDEST).then(|| {
        let reason = format!("OpenSearch {text} is older than 2.19, the oldest that is tested");
        Finding::warning("opensearch_version", reason, Cure::advice("upgrade to 2.19 or 3.x"))
    })
}

/// Only where an index is written by its own name: behind an alias requests say `require_alias`.
fn auto_create(setting: Option<&str>) -> Option<Finding> {
    (setting == Some("true")).then(|| {
        Finding::note(
            "auto_create",
            "action.auto_create_index is on: should an index that is not behind an alias be deleted while pg2os writes to it, it \
             comes back with a guessed mapping",
        )
    })
}

fn disk(node: &Disk, watermarks: Watermarks) -> Option<Finding> {
    let Disk { node: name, used } = node;
    let cure = || Cure::advice("free disk space, add a node, or delete indices");
    if *used >= watermarks.flood_stage {
        let reason = format!(
            "the disk of node {name} is {used} % full, over the flood stage: its indices are read-only"
        );
        return Some(Finding::error("disk", reason, cure()));
    }
    (*used >= watermarks.high).then(|| {
        let flood = watermarks.flood_stage;
        let reason =
            format!("the disk of node {name} is {used} % full; at {flood} % its indices become read-only");
        Finding::warning("disk", reason, cure())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::Severity, sink::Info};

    fn facts() -> ClusterFacts {
        ClusterFacts {
            info: Info { version: "2.19.6".into(), cluster: "c".into() },
            auto_create: Some("false".into()),
            watermarks: Watermarks { flood_stage: 95.0, high: 90.0 },
            disks: vec![Disk { node: "a".into(), used: 89.9 }],
            clock_ahead: Some(1.0),
        }
    }

    fn with(change: impl FnOnce(&mut ClusterFacts)) -> Vec<(Severity, &'static str)> {
        let mut facts = facts();
        change(&mut facts);
        cluster(&facts).into_iter().map(|f| (f.severity, f.check)).collect()
    }

    #[test]
    fn each_fact_has_its_finding() {
        use Severity::{Error, Note, Warning};
        assert_eq!(with(|_| {}), []);
        assert_eq!(with(|f| f.info.version = "3.8.0".into()), []);
        assert_eq!(with(|f| f.info.version = "2.11.0".into()), [(Warning, "opensearch_version")]);
        assert_eq!(with(|f| f.info.version = "7.10.2".into()), [(Note, "opensearch_version")]);
        assert_eq!(with(|f| f.auto_create = Some("true".into())), [(Note, "auto_create")]);
        assert_eq!(with(|f| f.auto_create = None), []);
        assert_eq!(with(|f| f.disks[0].used = 90.0), [(Warning, "disk")]);
        assert_eq!(with(|f| f.disks[0].used = 95.0), [(Error, "disk")]);
        assert_eq!(with(|f| f.clock_ahead = Some(-60.0)), [(Warning, "clock")]);
        assert_eq!(with(|f| f.clock_ahead = None), []);
    }
}
