use super::*;
use crate::{
    check::Severity,
    config::{Sources, load},
    source::{preflight::Used, server::ServerFacts, slot::SlotState},
};
use std::path::PathBuf;

fn config() -> Config {
    let text = "name: shop\npostgres: { host: db-pooler.prod, database: d, user: u }\n\
                opensearch: { url: 'http://h:1' }\ntables: [{ table: a }]";
    let sources = Sources { file: Some((PathBuf::from("c.yaml"), text.into())), ..Sources::default() };
    load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn our_slot() -> SlotState {
    SlotState { active: true, active_pid: Some(1), ..SlotState::healthy("d", crate::model::Lsn::ZERO) }
}

/// A server on which there is nothing to find.
fn healthy() -> PrimaryFacts {
    PrimaryFacts {
        server: ServerFacts {
            version_num: 170_004,
            wal_level: "logical".into(),
            in_recovery: false,
            database: "d".into(),
            system_identifier: None,
            max_slot_wal_keep_size: Some(100 << 30),
            encoding: "UTF8".into(),
            role: "u".into(),
            is_replication_role: true,
            is_superuser: false,
        },
        slots: Used { used: 1, max: 10 },
        wal_senders: Used { used: 1, max: 10 },
        has_session_settings: true,
        has_patroni: false,
        standbys: 0,
        slot: Some(our_slot()),
        slot_fails_over: false,
        idle_slot_timeout: 0,
        clock_ahead: 0.0,
    }
}

fn found(change: fn(&mut PrimaryFacts)) -> Vec<Finding> {
    let mut facts = healthy();
    change(&mut facts);
    primary(&facts, &config())
}

fn with_slot(facts: &mut PrimaryFacts, change: fn(&mut SlotState)) {
    facts.slot.iter_mut().for_each(change);
}

#[test]
fn each_fact_of_a_primary_has_its_finding_and_cure() {
    use Severity::{Error, Note, Warning};
    assert_eq!(found(|_| {}), []);
    type Change = fn(&mut PrimaryFacts);
    let table: [(Change, Severity, &str, &str); 22] = [
        (|f| f.server.version_num = 130_009, Error, "version", "upgrade"),
        (|f| f.server.version_num = 190_000, Note, "version", ""),
        (|f| f.has_session_settings = false, Error, "pooler", "postgres: { host: db.prod }"),
        (
            |f| f.server.wal_level = "replica".into(),
            Error,
            "wal_level",
            "ALTER SYSTEM SET wal_level = 'logical'; -- then restart",
        ),
        (
            |f| (f.slot, f.slots.used) = (None, 10),
            Error,
            "max_replication_slots",
            "max_replication_slots = '12'",
        ),
        (|f| (f.slot, f.wal_senders.used) = (None, 10), Error, "max_wal_senders", "max_wal_senders = '12'"),
        (
            |f| f.server.max_slot_wal_keep_size = None,
            Warning,
            "max_slot_wal_keep_size",
            "SELECT pg_reload_conf();",
        ),
        (
            |f| f.server.max_slot_wal_keep_size = Some(1 << 30),
            Warning,
            "max_slot_wal_keep_size",
            "max_slot_wal_keep_size = '19073MB'",
        ),
        (|f| f.server.is_replication_role = false, Error, "role", "ALTER ROLE \"u\" REPLICATION;"),
        (|f| f.server.is_superuser = true, Note, "role", ""),
        (|f| f.slot = None, Note, "slot", ""),
        (|f| with_slot(f, |s| s.plugin = None), Error, "slot", "slot: pg2os_shop_2"),
        (|f| with_slot(f, |s| s.plugin = Some("wal2json".into())), Error, "slot", "slot: pg2os_shop_2"),
        (|f| with_slot(f, |s| s.database = Some("e".into())), Error, "slot", "slot: pg2os_shop_2"),
        (
            |f| with_slot(f, |s| s.wal_status = Some("lost".into())),
            Error,
            "slot",
            "pg_drop_replication_slot('pg2os_shop')",
        ),
        (
            |f| with_slot(f, |s| s.invalidation = Some("wal_removed".into())),
            Error,
            "slot",
            "pg_drop_replication_slot('pg2os_shop')",
        ),
        (|f| with_slot(f, |s| s.temporary = true), Error, "slot", "pg_drop_replication_slot('pg2os_shop')"),
        (
            |f| f.has_patroni = true,
            Warning,
            "patroni",
            "pg2os_shop_bookmark: { type: logical, database: d, plugin: pgoutput }",
        ),
        (|f| f.standbys = 1, Warning, "failover", "ALTER_REPLICATION_SLOT \"pg2os_shop\" (FAILOVER true)"),
        (|f| (f.standbys, f.server.version_num) = (1, 160_000), Warning, "failover", "Patroni"),
        (
            |f| f.idle_slot_timeout = 60,
            Warning,
            "idle_replication_slot_timeout",
            "idle_replication_slot_timeout = '0'",
        ),
        (|f| f.server.encoding = "SQL_ASCII".into(), Note, "encoding", ""),
    ];
    for (change, severity, check, cure) in table {
        let found = found(change);
        let Some(finding) = found.iter().find(|f| f.check == check) else { panic!("no {check}: {found:?}") };
        assert_eq!(finding.severity, severity, "{finding:?}");
        let text = match &finding.cure {
            Some(Cure::Sql(text) | Cure::Yaml(text) | Cure::Command(text) | Cure::Advice(text)) => {
                text.as_str()
            }
            None => "",
        };
        assert!(
            text.contains(cure) && text.is_empty() == cure.is_empty(),
            "{check}: {text:?} lacks {cure:?}"
        );
    }
}

#[test]
fn what_is_in_order_is_not_told() {
    let quiet: [fn(&mut PrimaryFacts); 4] = [
        |f| f.slots.used = 10,
        |f| f.wal_senders.used = 10,
        |f| (f.standbys, f.slot_fails_over) = (2, true),
        |f| f.clock_ahead = 2.0,
    ];
    for change in quiet {
        assert_eq!(found(change), []);
    }
}

#[test]
fn under_patroni_settings_are_cured_in_its_configuration() {
    let found = found(|f| (f.has_patroni, f.server.wal_level) = (true, "replica".into()));
    let wal_level = found.iter().find(|f| f.check == "wal_level");
    let Some(Cure::Yaml(yaml)) = wal_level.and_then(|f| f.cure.as_ref()) else { panic!("{found:?}") };
    assert!(yaml.contains("then patronictl restart") && yaml.contains("wal_level: logical"), "{yaml}");
}

#[test]
fn a_standby_is_told_where_it_is_behind_or_lacks_the_slot() {
    let mut facts = healthy();
    let standby = |lag, has_slot| StandbyFacts { host: "b".into(), lag, has_slot };
    let checks = |standby: StandbyFacts, primary: &PrimaryFacts| {
        standbys(&[standby], primary, &config()).into_iter().map(|f| f.check).collect::<Vec<_>>()
    };
    assert_eq!(checks(standby(Some(29.0), false), &facts), Vec::<&str>::new());
    assert_eq!(checks(standby(Some(31.0), true), &facts), ["standby_lag"]);
    facts.has_patroni = true;
    assert_eq!(checks(standby(None, false), &facts), ["patroni"]);
    assert_eq!(checks(standby(None, true), &facts), Vec::<&str>::new());
}

#[test]
fn a_host_of_a_pooler_leads_to_the_service_of_the_leader() {
    assert_eq!(behind_pooler("shop-pooler"), Some("shop".to_owned()));
    assert_eq!(behind_pooler("shop-pooler.prod.svc"), Some("shop.prod.svc".to_owned()));
    assert_eq!(behind_pooler("shop-repl"), None);
    assert_eq!(behind_pooler("pooler.shop"), None);
}
