//! Answers that say which history the server's log positions belong to.
//!
//! Invariant: an answer is understood as a whole or is an error.

use crate::{model::Lsn, source::SourceError};

/// Answer of IDENTIFY_SYSTEM (docs: "Streaming Replication Protocol").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// `systemid`: the cluster, as the text of an unsigned 64-bit number.
    pub system_id: String,
    /// Current timeline.
    pub timeline: u32,
    /// Flush position of the log (`xlogpos`).
    pub flush: Lsn,
    /// Database of the connection.
    pub database: String,
}

/// One line of a timeline history: `timeline` ended at `switched_at` (docs: "Timelines").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that was left.
    pub timeline: u32,
    /// Where it was left.
    pub switched_at: Lsn,
}

pub(super) fn system_identity(rows: &[Vec<Option<String>>]) -> Result<SystemIdentity, SourceError> {
    let parse = || {
        let [row] = rows else { return None };
        let [system_id, timeline, flush, database, ..] = row.as_slice() else { return None };
        Some(SystemIdentity {
            system_id: system_id.clone()?,
            timeline: timeline.as_ref()?.parse().ok()?,
            flush: flush.as_ref()?.parse().ok()?,
            database: database.clone()?,
        })
    };
    parse().ok_or_else(|| SourceError::Protocol(format!("IDENTIFY_SYSTEM answered {rows:?}")))
}

/// Parses the history file: a line each of timeline, position and reason; `#` starts a comment.
pub(super) fn timeline_history(rows: &[Vec<Option<String>>]) -> Result<Vec<TimelineSwitch>, SourceError> {
    let bad = |what: &str| SourceError::Protocol(format!("TIMELINE_HISTORY answered `{what}`"));
    let content = match rows {
        [row] => row.get(1).and_then(Option::as_deref).ok_or_else(|| bad("no content"))?,
        _ => return Err(bad("not one row")),
    };
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            let timeline = words.next().and_then(|word| word.parse().ok());
            let switched_at = words.next().and_then(|word| word.parse().ok());
            match (timeline, switched_at) {
                (Some(timeline), Some(switched_at)) => Ok(TimelineSwitch { timeline, switched_at }),
                _ => Err(bad(line)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<Vec<Option<String>>> {
        vec![cells.iter().map(|cell| Some((*cell).to_owned())).collect()]
    }

    #[test]
    fn the_identity_is_understood_or_refused() {
        let identity = system_identity(&row(&["7301234567890123456", "3", "16/B374D848", "shop"])).unwrap();
        assert_eq!((identity.timeline, identity.flush), (3, Lsn(0x16_B374_D848)));
        for answer in
            [vec![], row(&["1", "2", "0/0"]), row(&["1", "x", "0/0", "d"]), row(&["1", "2", "0", "d"])]
        {
            assert!(system_identity(&answer).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_history_is_a_list_of_switches() {
        let content =
            "1\t0/11000198\tno recovery target specified\n\n# a comment\n2\t0/12000000\tbefore 2024-01-01\n";
        let history = timeline_history(&row(&["00000003.history", content])).unwrap();
        assert_eq!(
            history.iter().map(|s| (s.timeline, s.switched_at.0)).collect::<Vec<_>>(),
            [(1, 0x1100_0198), (2, 0x1200_0000)]
        );
        assert!(timeline_history(&row(&["f", "1 0/x reason"])).is_err());
        assert!(timeline_history(&row(&["f"])).is_err());
        assert_eq!(timeline_history(&row(&["f", ""])).unwrap(), []);
    }
}
