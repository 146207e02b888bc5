//! What `pg2os check` makes of the facts: findings, each with its reason and the exact cure. Pure.

pub mod opensearch;
pub mod postgres;
pub mod tables;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// pg2os cannot work so.
    Error,
    /// It works, until something else happens.
    Warning,
    /// Worth knowing.
    Note,
}

/// What cures a finding, as it can be typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "text")]
pub enum Cure {
    /// SQL, run in the database that is followed.
    Sql(String),
    /// A piece of a manifest or a configuration; its first line says of which.
    Yaml(String),
    /// A command of a shell.
    Command(String),
    /// In words.
    Advice(String),
}

/// One thing that was found; its JSON form is part of the interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at: `wal_level`, `publication`, …
    pub check: &'static str,
    /// What is wrong, and why that matters.
    pub reason: String,
    /// What cures it.
    pub cure: Option<Cure>,
}

impl Finding {
    /// An error.
    pub fn error(check: &'static str, reason: impl Into<String>, cure: Cure) -> Self {
        Finding { severity: Severity::Error, check, reason: reason.into(), cure: Some(cure) }
    }

    /// A warning.
    pub fn warning(check: &'static str, reason: impl Into<String>, cure: Cure) -> Self {
        Finding { severity: Severity::Warning, check, reason: reason.into(), cure: Some(cure) }
    }

    /// A note, which needs no cure.
    pub fn note(check: &'static str, reason: impl Into<String>) -> Self {
        Finding { severity: Severity::Note, check, reason: reason.into(), cure: None }
    }
}

impl Cure {
    fn sql(text: impl Into<String>) -> Self {
        Cure::Sql(text.into())
    }

    fn yaml(text: impl Into<String>) -> Self {
        Cure::Yaml(text.into())
    }

    fn advice(text: impl Into<String>) -> Self {
        Cure::Advice(text.into())
    }
}

/// Seconds by which clocks may differ before somebody is told.
const CLOCKS_AGREE: f64 = 5.0;

/// A clock that is another than ours.
fn clock(whose: &str, ahead: f64) -> Option<Finding> {
    let side = if ahead > 0.0 { "ahead of" } else { "behind" };
    (ahead.abs() > CLOCKS_AGREE).then(|| {
        Finding::warning(
            "clock",
            format!(
                "the clock of {whose} is {:.0} s {side} ours: lag in seconds, windows up to `today` and the times of dead \
                 letters are off by as much",
                ahead.abs()
            ),
            Cure::advice("let NTP (chrony, systemd-timesyncd) run on both machines"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_in_json() {
        let finding = Finding::error("wal_level", "it is replica", Cure::sql("ALTER SYSTEM …"));
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            json,
            r#"{"severity":"error","check":"wal_level","reason":"it is replica","cure":{"kind":"sql","text":"ALTER SYSTEM …"}}"#
        );
        assert!(Severity::Error < Severity::Warning && Severity::Warning < Severity::Note);
    }

    #[test]
    fn clocks_that_differ_are_told_with_their_side() {
        assert_eq!(clock("PostgreSQL", 4.9), None);
        assert!(clock("PostgreSQL", 61.0).unwrap().reason.contains("61 s ahead of ours"));
        assert!(clock("OpenSearch", -61.0).unwrap().reason.contains("61 s behind ours"));
    }
}
