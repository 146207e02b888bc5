//! The replication and the SQL connection against real servers. Run by `make test`, which starts the shared server.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "replication/server.rs"]
mod server;

use pg2os::{
    config::{Credential, Postgres, TlsMode},
    model::Lsn,
    source::{
        Class, SourceError,
        replication::{Frame, ReplicationConnection},
        sql,
    },
};
use server::{Server, admin, as_user, column, settings, shared, shared_ca, tls, unique, variable};
use std::{
    fs,
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

fn connect(config: &Postgres) -> Result<ReplicationConnection, SourceError> {
    ReplicationConnection::connect(config, "pg2os test", Some(Duration::from_secs(20)))
}

/// Connects in both ways; each has to come out like the other. True under TLS.
fn connect_both(config: &Postgres) -> Result<bool, SourceError> {
    const UNDER_TLS: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let sql = Runtime::new().unwrap().block_on(async {
        let client = sql::connect(config, None, "pg2os test").await?;
        Ok::<_, SourceError>(column(&client, UNDER_TLS).await[0] == "t")
    });
    let replication = connect(config)
        .map(|mut connection| connection.query(UNDER_TLS).unwrap()[0][0].as_deref() == Some("t"));
    match (&sql, &replication) {
        (Ok(sql), Ok(replication)) => assert_eq!(sql, replication),
        (Err(sql), Err(replication)) => {
            assert_eq!(sql.class(), replication.class(), "{sql} / {replication}");
            assert_eq!(
                std::mem::discriminant(sql),
                std::mem::discriminant(replication),
                "{sql} / {replication}"
            );
        }
        _ => panic!("{sql:?} / {replication:?}"),
    }
    replication
}

/// A table, a publication with a name that needs quotes, and a slot on the shared server.
struct Stream {
    name: String,
    publication: String,
}

impl Stream {
    fn create() -> Self {
        let name = unique("replication");
        let publication = format!("My Pub,\"'{name}");
        let quoted = publication.replace('"', "\"\"");
        admin(&shared(), &format!("CREATE TABLE public.{name} (id int PRIMARY KEY, t text)"));
        admin(&shared(), &format!("CREATE PUBLICATION \"{quoted}\" FOR TABLE public.{name}"));
        admin(&shared(), &format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"));
        Stream { name, publication }
    }

    fn start(&self, connection: &mut ReplicationConnection) -> Result<(), SourceError> {
        connection.start(&self.name, Lsn::ZERO, std::slice::from_ref(&self.publication))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Stream { name, publication } = self;
        let quoted = publication.replace('"', "\"\"");
        let free = format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{name}' AND active"
        );
        admin(&shared(), &free);
        let drop = format!(
            "SELECT pg_drop_replication_slot('{name}') FROM pg_replication_slots WHERE slot_name = '{name}'"
        );
        admin(&shared(), &drop);
        admin(&shared(), &format!("DROP PUBLICATION \"{quoted}\"; DROP TABLE public.{name}"));
    }
}

/// Reads until a commit: kinds of the messages, length of the longest, end of the commit, and how often the deadline
/// passed.
fn transaction(connection: &mut ReplicationConnection, patience: Duration) -> (String, usize, Lsn, usize) {
    let (mut kinds, mut longest, mut pauses) = (String::new(), 0, 0);
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        match connection.next_frame(Instant::now() + patience).unwrap() {
            Some(Frame::Change { data, .. }) => {
                kinds.push(char::from(data[0]));
                longest = longest.max(data.len());
                // PostgreSQL 14 sends the transactions of other tests, emptied.
                if kinds == "BC" {
                    kinds.clear();
                } else if data[0] == b'C' {
                    return (
                        kinds,
                        longest,
                        Lsn(u64::from_be_bytes(data[10..18].try_into().unwrap())),
                        pauses,
                    );
                }
            }
            Some(Frame::Keepalive { .. }) => {}
            None => pauses += 1,
        }
    }
    panic!("no commit within 60 s: {kinds}");
}

fn refused(config: &Postgres, class: Class, words: &str) {
    let error = connect_both(config).unwrap_err();
    assert_eq!(error.class(), class, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn inserts_arrive_and_the_last_status_is_what_the_slot_shows() {
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let stream = Stream::create();
        let mut connection = connect(&Postgres { tls: tls(mode, None), ..shared() }).unwrap();
        stream.start(&mut connection).unwrap();
        admin(&shared(), &format!("INSERT INTO public.{} VALUES (1, 'a'), (2, 'b'), (3, NULL)", stream.name));
        let (kinds, _, end, _) = transaction(&mut connection, Duration::from_secs(1));
        assert_eq!(kinds, "BRIIIC");
        connection.send_status(end, end, false).unwrap();
        connection.stop().unwrap();
        let slot = format!(
            "SELECT confirmed_flush_lsn || ' ' || active FROM pg_replication_slots WHERE slot_name = '{}'",
            stream.name
        );
        assert_eq!(admin(&shared(), &slot), [format!("{end} false")], "{mode:?}");
    }
}

#[test]
fn a_large_row_arrives_whole_although_the_deadline_passes_within_it() {
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let stream = Stream::create();
        admin(&shared(), &format!("INSERT INTO public.{} VALUES (1, repeat('x', 50 << 20))", stream.name));
        let mut connection = connect(&Postgres { tls: tls(mode, None), ..shared() }).unwrap();
        stream.start(&mut connection).unwrap();
        let (kinds, longest, _, pauses) = transaction(&mut connection, Duration::from_millis(1));
        assert_eq!((kinds.as_str(), longest), ("BRIC", (50 << 20) + 19), "{mode:?}");
        assert!(pauses > 0);
        connection.stop().unwrap();
    }
}

#[test]
fn a_stopped_server_is_noticed() {
    let stream = Stream::create();
    let timeout = Some(Duration::from_secs(4));
    let mut connection = ReplicationConnection::connect(&shared(), "pg2os test", timeout).unwrap();
    assert_eq!(connection.query("SHOW wal_sender_timeout").unwrap(), [[Some("4s".to_owned())]]);
    let pid = connection.query("SELECT pg_backend_pid()").unwrap()[0][0].clone().unwrap();
    stream.start(&mut connection).unwrap();
    let wait = |connection: &mut ReplicationConnection, seconds| {
        let end = Instant::now() + Duration::from_secs(seconds);
        while let Some(frame) = connection.next_frame(end).unwrap() {
            if let Frame::Keepalive { end, reply_requested: true } = frame {
                connection.send_status(end, end, false).unwrap();
            }
        }
    };
    wait(&mut connection, 5);
    assert!(
        connection.last_received().elapsed() < Duration::from_millis(3500),
        "the server pings at half its timeout"
    );
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    wait(&mut connection, 5);
    let silence = connection.last_received().elapsed();
    assert!(Command::new("kill").args(["-CONT", &pid]).status().unwrap().success());
    assert!(silence > Duration::from_millis(4500), "{silence:?}");
}

#[test]
fn a_busy_slot_is_transient_and_a_missing_one_is_fatal() {
    let stream = Stream::create();
    let mut first = connect(&shared()).unwrap();
    stream.start(&mut first).unwrap();
    let mut second = connect(&shared()).unwrap();
    let error = stream.start(&mut second).unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("55006"), Class::Transient), "{error}");
    first.stop().unwrap();
    assert_eq!(second.query("SELECT 7").unwrap(), [[Some("7".to_owned())]]);
    stream.start(&mut second).unwrap();
    let error = connect(&shared()).unwrap().start("no_such_slot", Lsn::ZERO, &["p".into()]).unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("42704"), Class::Fatal), "{error}");
}

#[test]
fn an_ended_session_is_transient() {
    let stream = Stream::create();
    let mut connection = connect(&shared()).unwrap();
    let pid = connection.query("SELECT pg_backend_pid()").unwrap()[0][0].clone().unwrap();
    stream.start(&mut connection).unwrap();
    admin(&shared(), &format!("SELECT pg_terminate_backend({pid}, 5000)"));
    let error = loop {
        match connection.next_frame(Instant::now() + Duration::from_secs(5)) {
            Ok(frame) => assert!(frame.is_some(), "nothing was noticed"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.sqlstate(), error.class()), (Some("57P01"), Class::Transient), "{error}");
}

#[test]
fn the_server_says_who_it_is() {
    let mut connection = connect(&shared()).unwrap();
    let identity = connection.identify_system().unwrap();
    let expected = admin(&shared(), "SELECT system_identifier FROM pg_control_system()");
    assert_eq!([identity.system_id], expected.as_slice());
    assert_eq!((identity.timeline, identity.database.as_str()), (1, "postgres"));
    assert!(identity.flush > Lsn::ZERO);
    assert_eq!(connection.timeline_history(1).unwrap_err().sqlstate(), Some("58P01"));
    assert!(connection.parameter("server_version").unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(connection.host(), "127.0.0.1");
    let error = connection.query("SELECT 1/0").unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    let rows = connection.query("SELECT 1, NULL; SELECT 'ä'").unwrap();
    assert_eq!(rows, [vec![Some("1".to_owned()), None], vec![Some("ä".to_owned())]]);
}

#[test]
fn settings_of_the_role_do_not_change_the_text_of_values() {
    let role = unique("german");
    admin(&shared(), &format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p'"));
    for setting in [
        "DateStyle = 'German'",
        "TimeZone = 'Asia/Kolkata'",
        "bytea_output = 'escape'",
        "extra_float_digits = -5",
    ] {
        admin(&shared(), &format!("ALTER ROLE {role} SET {setting}"));
    }
    let config = as_user(shared(), &role, "p");
    let sql = "SELECT concat_ws(' ', timestamptz '2024-01-01 00:00Z', interval '1 day 2 h', bytea '\\xff', 0.1::float8 + 0.2, \
               current_setting('search_path'), current_setting('transaction_isolation'))";
    let text = "2024-01-01 00:00:00+00 P1DT2H \\xff 0.30000000000000004 pg_catalog read committed";
    assert_eq!(admin(&config, sql), [text]);
    assert_eq!(connect(&config).unwrap().query(sql).unwrap()[0][0].as_deref(), Some(text));
    admin(&shared(), &format!("DROP ROLE {role}"));
}

#[test]
fn each_mode_asks_of_the_certificate_what_libpq_asks() {
    let ca = shared_ca();
    let with = |mode, ca| Postgres { tls: tls(mode, ca), ..shared() };
    assert!(!connect_both(&with(TlsMode::Disable, None)).unwrap());
    for (mode, ca) in [
        (TlsMode::Prefer, None),
        (TlsMode::Require, None),
        (TlsMode::Require, Some(&*ca)),
        (TlsMode::VerifyCa, Some(&*ca)),
        (TlsMode::VerifyFull, Some(&*ca)),
    ] {
        assert!(connect_both(&with(mode, ca)).unwrap(), "{mode:?}");
    }
    refused(&with(TlsMode::VerifyCa, None), Class::Fatal, "postgres.tls.ca_file");

    let own = Server::create("127.0.0.1", None, "", "hostssl all client.test all cert");
    own.certificate("ca", "Authority", None);
    own.certificate("client", "client.test", Some("ca"));
    own.certificate("server", "elsewhere.test", Some("ca"));
    own.certificate("alone", "alone.test", None);
    let conf = own.file("data/postgresql.auto.conf");
    let tls_on = |name: &str| {
        let (pem, key) = (own.file(&format!("{name}.pem")), own.file(&format!("{name}.key")));
        let ca = own.file("ca.pem");
        let (ca, pem, key) = (ca.display(), pem.display(), key.display());
        format!("ssl = on\nssl_ca_file = '{ca}'\nssl_cert_file = '{pem}'\nssl_key_file = '{key}'\n")
    };
    let base = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{base}{}", tls_on("server"))).unwrap();
    let alone = format!("{base}{}", tls_on("alone"));
    let own = own.start();
    let with =
        |mode, ca: &std::path::Path| Postgres { tls: tls(mode, Some(ca)), ..settings("127.0.0.1", own.port) };
    let right = own.file("ca.pem");
    assert!(connect_both(&with(TlsMode::VerifyCa, &right)).unwrap());
    refused(&with(TlsMode::VerifyFull, &right), Class::Fatal, "use postgres.tls.mode verify-ca");
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        refused(&with(mode, &ca), Class::Fatal, "postgres.tls.ca_file");
    }

    admin(&with(TlsMode::Require, &right), "CREATE ROLE \"client.test\" LOGIN REPLICATION");
    let mut client =
        Postgres { user: Credential::Value("client.test".into()), ..with(TlsMode::Require, &right) };
    refused(&client, Class::Fatal, "give postgres.tls.cert_file");
    client.tls.cert_file = Some(own.file("client.pem"));
    client.tls.key_file = Some(own.file("client.key"));
    assert!(connect_both(&client).unwrap());
    client.tls.cert_file = Some(own.file("alone.pem"));
    client.tls.key_file = Some(own.file("alone.key"));
    refused(&client, Class::Fatal, "check postgres.tls.cert_file");

    fs::write(&conf, alone).unwrap();
    admin(&settings("127.0.0.1", own.port), "SELECT pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(500));
    let root = own.file("alone.pem");
    assert!(
        connect_both(&with(TlsMode::VerifyCa, &root)).unwrap(),
        "a self-signed certificate is its own root"
    );
    refused(&with(TlsMode::VerifyFull, &root), Class::Fatal, "use postgres.tls.mode verify-ca");
}

#[test]
fn passwords_log_in_or_are_refused_with_the_cure() {
    let role = unique("scram");
    let password = "p\u{a0}ss\u{ad}wörd";
    admin(&shared(), &format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{password}'"));
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let config = Postgres { tls: tls(mode, None), ..as_user(shared(), &role, password) };
        connect_both(&config).unwrap();
        refused(&as_user(config, &role, "wrong"), Class::Fatal, "check postgres.user and postgres.password");
    }
    let nobody = Postgres { user: Credential::Value(role.as_str().into()), ..shared() };
    refused(&nobody, Class::Fatal, "password");
    admin(&shared(), &format!("ALTER ROLE {role} NOREPLICATION"));
    let error = connect(&as_user(shared(), &role, password)).unwrap_err();
    assert!(error.to_string().contains("ALTER ROLE … REPLICATION"), "{error}");
    admin(&shared(), &format!("DROP ROLE {role}"));
    refused(&Postgres { database: "no_such".into(), ..shared() }, Class::Fatal, "postgres.database");
}

#[test]
fn older_methods_and_a_server_without_tls() {
    let hba = "host all md5_user all md5\nhost all clear_user all password";
    let own = Server::create("127.0.0.1", None, "password_encryption = md5", hba).start();
    let config = settings("127.0.0.1", own.port);
    for role in ["md5_user", "clear_user", "third"] {
        admin(&config, &format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p'"));
    }
    for role in ["md5_user", "clear_user"] {
        connect_both(&as_user(config.clone(), role, "p")).unwrap();
        refused(
            &as_user(config.clone(), role, "q"),
            Class::Fatal,
            "check postgres.user and postgres.password",
        );
    }
    refused(&as_user(config.clone(), "third", "p"), Class::Fatal, "add a line");
    assert!(!connect_both(&Postgres { tls: tls(TlsMode::Prefer, None), ..config.clone() }).unwrap());
    refused(&Postgres { tls: tls(TlsMode::Require, None), ..config }, Class::Fatal, "ssl = on");
}

#[test]
fn the_host_that_is_not_in_recovery_is_taken() {
    let standby = Server::create("127.0.0.2", None, "", "");
    fs::write(standby.file("data/standby.signal"), "").unwrap();
    let standby = standby.start();
    let primary = Server::create("127.0.0.1", Some(standby.port), "", "").start();
    let config = settings("127.0.0.2", standby.port);
    refused(&config, Class::Transient, "in recovery");
    let hosts = ["127.0.0.3", "127.0.0.2", "127.0.0.1"].map(str::to_owned).to_vec();
    let both = Postgres { hosts, ..config };
    assert_eq!(connect(&both).unwrap().host(), "127.0.0.1");
    connect_both(&both).unwrap();
    let recovering = Runtime::new().unwrap().block_on(async {
        let client = sql::connect(&both, Some("127.0.0.2"), "pg2os test").await.unwrap();
        column(&client, "SELECT pg_is_in_recovery()").await
    });
    assert_eq!(recovering, ["t"]);
    drop(primary);
    refused(&both, Class::Transient, "127.0.0");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let config = Postgres { tls: tls(mode, None), ..settings("127.0.0.1", port) };
        let begun = Instant::now();
        let error = connect(&config).unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(12));
    }
    assert!(!variable("PG2OS_TEST_PG_PORT").is_empty());
}
