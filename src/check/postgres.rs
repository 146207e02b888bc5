//! Server, role and slot.

use super::{Cure, Finding, clock};
use crate::{
    config::Config,
    model::{quote_identifier, quote_literal},
    source::preflight::{PrimaryFacts, StandbyFacts},
};

/// PostgreSQL versions that are tested.
const TESTED: std::ops::RangeInclusive<i32> = 14..=18;

/// Everything about the primary, but its tables.
pub fn primary(facts: &PrimaryFacts, config: &Config) -> Vec<Finding> {
    let found = [
        version(facts),
        pooler(facts, config),
        wal_level(facts),
        slots(facts, config),
        wal_senders(facts),
        wal_keep_size(facts, config),
        role(facts),
        slot(facts, config),
        failover(facts, config),
        idle_timeout(facts),
        encoding(facts),
        clock("PostgreSQL", facts.clock_ahead),
    ];
    found.into_iter().flatten().collect()
}

/// A setting of the server: by ALTER SYSTEM, or where Patroni would undo that, in its configuration.
fn set(facts: &PrimaryFacts, name: &str, value: &str, restart: bool) -> Cure {
    if facts.has_patroni {
        return Cure::yaml(format!(
            "# patronictl edit-config (under Zalando's operator spec.postgresql.parameters){}\npostgresql: {{ parameters: {{ \
             {name}: {value} }} }}",
            if restart { ", then patronictl restart" } else { "" }
        ));
    }
    let then = if restart { "-- then restart PostgreSQL" } else { "SELECT pg_reload_conf();" };
    Cure::sql(format!("ALTER SYSTEM SET {name} = {}; {then}", quote_literal(value)))
}

fn version(facts: &PrimaryFacts) -> Option<Finding> {
    let major = facts.server.version_num / 10_000;
    if major < *TESTED.start() {
        let cure = Cure::advice("upgrade to PostgreSQL 14 or later");
        return Some(Finding::error("version", format!("PostgreSQL {major} is too old"), cure));
    }
    (major > *TESTED.end()).then(|| {
        Finding::note("version", format!("PostgreSQL {major} is newer than what pg2os was tested with"))
    })
}

/// The host of a pooler without its ending: what Zalando's operator calls the service of the leader beside it.
pub fn behind_pooler(host: &str) -> Option<String> {
    let (name, domain) = host.split_at(host.find('.').unwrap_or(host.len()));
    name.strip_suffix("-pooler").map(|leader| format!("{leader}{domain}"))
}

fn pooler(facts: &PrimaryFacts, config: &Config) -> Option<Finding> {
    if facts.has_session_settings {
        return None;
    }
    Some(pooler_finding("the settings that a session begins with do not hold", config))
}

/// Something in between that is not PostgreSQL.
pub fn pooler_finding(why: &str, config: &Config) -> Finding {
    let host = config.postgres.hosts.first().map_or("", String::as_str);
    let host = behind_pooler(host).unwrap_or_else(|| "CLUSTER".to_owned());
    Finding::error(
        "pooler",
        format!("{why}: a pooler as PgBouncer is in between, which gives no session to rely on, and no slot"),
        Cure::yaml(format!(
            "# the service of the leader; with Zalando's operator it has the cluster's name\npostgres: {{ host: {host} }}"
        )),
    )
}

fn wal_level(facts: &PrimaryFacts) -> Option<Finding> {
    let level = &facts.server.wal_level;
    (level != "logical").then(|| {
        let reason = format!("wal_level is {level}, so changes cannot be streamed");
        Finding::error("wal_level", reason, set(facts, "wal_level", "logical", true))
    })
}

fn slots(facts: &PrimaryFacts, config: &Config) -> Option<Finding> {
    let (used, max) = (facts.slots.used, facts.slots.max);
    (facts.slot.is_none() && used >= max).then(|| {
        Finding::error(
            "max_replication_slots",
            format!("all {max} replication slots are in use, so {} cannot be made", config.postgres.slot),
            set(facts, "max_replication_slots", &(max + 2).to_string(), true),
        )
    })
}

fn wal_senders(facts: &PrimaryFacts) -> Option<Finding> {
    let (used, max) = (facts.wal_senders.used, facts.wal_senders.max);
    let streams = facts.slot.as_ref().is_some_and(|slot| slot.active);
    (!streams && used >= max).then(|| {
        Finding::error(
            "max_wal_senders",
            format!("all {max} WAL senders are in use, so nothing can be streamed"),
            set(facts, "max_wal_senders", &(max + 2).to_string(), true),
        )
    })
}

fn wal_keep_size(facts: &PrimaryFacts, config: &Config) -> Option<Finding> {
    let limit = config.limits.retained_wal;
    match facts.server.max_slot_wal_keep_size {
        None => Some(Finding::warning(
            "max_slot_wal_keep_size",
            "it is unlimited: a slot that nobody reads fills the primary's disk",
            set(facts, "max_slot_wal_keep_size", &format!("{}MB", (2 * limit) >> 20), false),
        )),
        Some(keep) if keep < limit => Some(Finding::warning(
            "max_slot_wal_keep_size",
            format!(
                "it is {} MB, less than limits.retained_wal ({} MB): the server drops the slot's WAL before pg2os warns",
                keep >> 20,
                limit >> 20
            ),
            set(facts, "max_slot_wal_keep_size", &format!("{}MB", (2 * limit) >> 20), false),
        )),
        Some(_) => None,
    }
}

fn role(facts: &PrimaryFacts) -> Option<Finding> {
    let role = quote_identifier(&facts.server.role);
    if !facts.server.is_replication_role {
        let reason = format!("role {role} has no REPLICATION attribute, so it may not stream");
        let cure = Cure::sql(format!("ALTER ROLE {role} REPLICATION;"));
        return Some(Finding::error("role", reason, cure));
    }
    facts.server.is_superuser.then(|| {
        Finding::note(
            "role",
            format!("role {role} is a superuser; LOGIN REPLICATION and SELECT are enough (sql/01_role.sql)"),
        )
    })
}

fn slot(facts: &PrimaryFacts, config: &Config) -> Option<Finding> {
    let (name, database) = (&config.postgres.slot, &config.postgres.database);
    let drop = || Cure::sql(format!("SELECT pg_drop_replication_slot({});", quote_literal(name)));
    let Some(slot) = &facts.slot else {
        return Some(Finding::note("slot", format!("slot {name} does not exist; `pg2os run` makes it")));
    };
    let wrong = |reason: String| {
        let cure = Cure::yaml(format!("# a name that is free\npostgres: {{ slot: {name}_2 }}"));
        Some(Finding::error("slot", reason, cure))
    };
    if slot.plugin.as_deref() != Some("pgoutput") {
        let plugin = slot.plugin.as_deref().unwrap_or("none: it is a physical slot");
        return wrong(format!("slot {name} is not ours: its plugin is {plugin}"));
    }
    if slot.database.as_deref() != Some(database) {
        let other = slot.database.as_deref().unwrap_or("?");
        return wrong(format!("slot {name} belongs to database {other}, not {database}"));
    }
    if slot.is_lost() {
        let why = slot.invalidation.as_deref().unwrap_or("wal_removed");
        let reason = format!(
            "slot {name} is lost ({why}): the next `pg2os run` reads all tables again, or stops (on_gap)"
        );
        return Some(Finding::error("slot", reason, drop()));
    }
    if slot.temporary {
        return Some(Finding::error(
            "slot",
            format!("slot {name} is temporary and ends with its session"),
            drop(),
        ));
    }
    None
}

/// What keeps the slot through a failover: Patroni's permanent slots, or from PostgreSQL 17 on the server itself.
fn failover(facts: &PrimaryFacts, config: &Config) -> Option<Finding> {
    let postgres = &config.postgres;
    if facts.has_patroni {
        let slot = |name: &str| {
            format!("  {name}: {{ type: logical, database: {}, plugin: pgoutput }}\n", postgres.database)
        };
        let reason = "Patroni drops logical slots that it does not know, at a failover or restart at the latest; a primary does \
                      not tell whether it knows these";
        let cure = format!(
            "# patronictl edit-config (under Zalando's operator spec.patroni)\nslots:\n{}{}",
            slot(&postgres.slot),
            config.bookmark.as_ref().map(|bookmark| slot(&bookmark.slot)).unwrap_or_default()
        );
        return Some(Finding::warning("patroni", reason, Cure::yaml(cure.trim_end())));
    }
    if facts.standbys == 0 {
        return None;
    }
    if facts.server.version_num < 170_000 {
        let reason = "there are standbys, and a promoted one has no logical slot before PostgreSQL 17: all tables are read again \
                      after a failover";
        let cure = Cure::advice("run PostgreSQL under Patroni with permanent slots, or upgrade to 17");
        return Some(Finding::warning("failover", reason, cure));
    }
    (facts.slot.is_some() && !facts.slot_fails_over).then(|| {
        Finding::warning(
            "failover",
            format!("slot {} is not kept through a failover: all tables are read again after one", postgres.slot),
            Cure::Command(format!(
                "psql \"dbname={} replication=database\" -c 'ALTER_REPLICATION_SLOT {} (FAILOVER true)'   # while pg2os is \
                 stopped; the standbys need sync_replication_slots = on, hot_standby_feedback = on and primary_slot_name",
                postgres.database,
                quote_identifier(&postgres.slot)
            )),
        )
    })
}

fn idle_timeout(facts: &PrimaryFacts) -> Option<Finding> {
    let seconds = facts.idle_slot_timeout;
    (seconds > 0).then(|| {
        Finding::warning(
            "idle_replication_slot_timeout",
            format!("a slot that nobody reads for {seconds} s is invalidated: pg2os stopped for longer reads all tables again"),
            set(facts, "idle_replication_slot_timeout", "0", false),
        )
    })
}

fn encoding(facts: &PrimaryFacts) -> Option<Finding> {
    (facts.server.encoding == "SQL_ASCII").then(|| {
        Finding::note(
            "encoding",
            "the database is SQL_ASCII: a row with bytes that are not UTF-8 becomes a dead letter",
        )
    })
}

/// Standbys that could be asked.
pub fn standbys(standbys: &[StandbyFacts], primary: &PrimaryFacts, config: &Config) -> Vec<Finding> {
    let limit = config.limits.standby_lag.as_secs_f64();
    let mut found = vec![];
    for standby in standbys {
        let host = &standby.host;
        if let Some(lag) = standby.lag.filter(|lag| *lag > limit) {
            found.push(Finding::warning(
                "standby_lag",
                format!("standby {host} is {lag:.0} s behind, more than limits.standby_lag ({limit:.0} s)"),
                Cure::advice("look at its replay (pg_stat_replication on the primary), or at conflicts with queries there"),
            ));
        }
        if primary.slot.is_some() && !standby.has_slot && primary.has_patroni {
            found.push(Finding::warning(
                "patroni",
                format!("standby {host} has no copy of slot {}, so a failover to it loses the slot", config.postgres.slot),
                Cure::advice("make it a permanent slot, as the finding about Patroni says; copies come within a minute"),
            ));
        }
    }
    found
}

#[cfg(test)]
#[path = "postgres_tests.rs"]
mod tests;
