//! The ordinary SQL connection.
//!
//! Invariant: a client that is handed out has logged in, has the session settings, and is the primary unless a host was
//! asked for.

use super::{
    CONNECT_TIMEOUT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, Login, SourceError, USER_TIMEOUT,
    most_hopeful, refuse_unix_socket, startup_options, tls,
};
use crate::config::{Postgres, TlsMode};
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use std::{error::Error, io, net::SocketAddr, sync::Arc};
use tokio::{net::lookup_host, time::timeout};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects to `host`, standby or not; without it to the first address of the configured hosts that is not in recovery.
/// Credentials and certificates are read anew.
pub async fn connect(
    config: &Postgres,
    host: Option<&str>,
    application_name: &str,
) -> Result<Client, SourceError> {
    Ok(connect_to_first(config, host, application_name).await?.0)
}

/// Connects to the first address of the configured hosts that is not in recovery; returns which host that was, so that
/// what belongs together goes there at once, and waits for no host that is down.
pub async fn connect_primary(
    config: &Postgres,
    application_name: &str,
) -> Result<(Client, String), SourceError> {
    connect_to_first(config, None, application_name).await
}

async fn connect_to_first(
    config: &Postgres,
    host: Option<&str>,
    application_name: &str,
) -> Result<(Client, String), SourceError> {
    let login = Login::read(config)?;
    let tls = tls::client_config(&config.tls)?;
    let mut session = Config::new();
    session
        .user(&login.user)
        .dbname(&config.database)
        .application_name(application_name)
        .options(startup_options(&[]))
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(USER_TIMEOUT)
        // What else TLS must be is the verifier's business.
        .ssl_mode(match config.tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    if let Some(password) = &login.password {
        session.password(password.expose_secret());
    }
    let hosts = host.map_or(config.hosts.iter().map(String::as_str).collect(), |host| vec![host]);
    let mut failures = Vec::new();
    for name in hosts {
        refuse_unix_socket(name)?;
        let addresses = match lookup_host((name, config.port)).await {
            Ok(addresses) => addresses,
            Err(source) => {
                failures.push(SourceError::Connect { host: name.to_owned(), port: config.port, source });
                continue;
            }
        };
        for address in addresses {
            let attempt = connect_to(&session, tls.clone(), name, address, host.is_some());
            match timeout(CONNECT_TIMEOUT, Box::pin(attempt)).await {
                Ok(Ok(client)) => return Ok((client, name.to_owned())),
                Ok(Err(failure)) => failures.push(failure),
                Err(_) => {
                    failures.push(SourceError::connecting(name, config.port, io::ErrorKind::TimedOut.into()));
                }
            }
        }
    }
    Err(most_hopeful(failures))
}

/// Connects to the primary of `timeline`. During a failover an old primary may hold itself for one for a while; what is
/// read there must not be taken for what the stream's server has.
pub async fn connect_on(
    config: &Postgres,
    timeline: u32,
    application_name: &str,
) -> Result<Client, SourceError> {
    let client = connect(config, None, application_name).await?;
    check_timeline(&client, timeline).await?;
    Ok(client)
}

/// Is `client` connected to the primary of `timeline`?
pub async fn check_timeline(client: &Client, timeline: u32) -> Result<(), SourceError> {
    // The first 8 hexadecimal digits of a WAL file's name are its timeline (docs: "WAL Internals").
    let sql = "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())";
    let name = single_value(client, sql).await?.unwrap_or_default();
    let found = name.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match found {
        Some(found) if found == timeline => Ok(()),
        Some(found) => Err(SourceError::OtherTimeline { found, wanted: timeline }),
        None => Err(SourceError::Protocol(format!("`{name}` as the name of a WAL file"))),
    }
}

async fn connect_to(
    session: &Config,
    tls: Option<Arc<ClientConfig>>,
    host: &str,
    address: SocketAddr,
    standby_allowed: bool,
) -> Result<Client, SourceError> {
    let failed = |error| connect_error(host, address.port(), session, error);
    let mut session = session.clone();
    session.host(host).hostaddr(address.ip()).port(address.port());
    let client = match tls {
        Some(tls) => {
            let tls = MakeRustlsConnect::new(Arc::unwrap_or_clone(tls));
            let (client, connection) = session.connect(tls).await.map_err(failed)?;
            tokio::spawn(run(connection));
            client
        }
        None => {
            let (client, connection) = session.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(run(connection));
            client
        }
    };
    if !standby_allowed && in_recovery(&client).await? {
        return Err(SourceError::InRecovery { host: host.to_owned(), port: address.port() });
    }
    Ok(client)
}

/// A connection lives as long as its client; why it broke is told to whoever waits for an answer, and logged.
async fn run(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::warn!(error = %SourceError::from(error), "a SQL connection ended");
    }
}

pub(super) async fn in_recovery(client: &Client) -> Result<bool, SourceError> {
    Ok(single_value(client, "SELECT pg_is_in_recovery()").await?.as_deref() != Some("f"))
}

async fn single_value(client: &Client, sql: &str) -> Result<Option<String>, SourceError> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// tokio-postgres keeps its kinds of errors to itself: TLS is told by the cause, login by the words.
fn connect_error(host: &str, port: u16, session: &Config, error: tokio_postgres::Error) -> SourceError {
    let (mut cause, mut broken) = (error.source(), None);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
                return SourceError::tls(host, tls);
            }
            broken = Some(io::Error::new(io.kind(), io.to_string()));
        }
        cause = inner.source();
    }
    let text = match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    if text.starts_with("error performing TLS handshake") {
        // A connection that is cut within the handshake says nothing about TLS.
        if let Some(source) = broken {
            return SourceError::connecting(host, port, source);
        }
        let reason = format!("{text}; set ssl = on in PostgreSQL, or postgres.tls.mode prefer");
        return SourceError::Tls { host: host.to_owned(), reason };
    }
    if text.starts_with("authentication error") || text.starts_with("invalid configuration") {
        let user = session.get_user().unwrap_or_default().to_owned();
        let reason = format!("{text}; check postgres.password and the method in pg_hba.conf");
        return SourceError::Auth { user, reason };
    }
    match SourceError::from(error) {
        SourceError::Io { source, .. } => SourceError::connecting(host, port, source),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Sources, load},
        source::Class,
    };
    use std::path::PathBuf;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Why no connection can be made to a server that gives this answer to the wish for TLS (docs: "SSLRequest") and ends.
    async fn refused(answer: &[u8]) -> SourceError {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!(
            "postgres: {{ host: 127.0.0.1, port: {port}, database: d, user: u, password: p, tls: {{ mode: require }} }}\n\
             opensearch: {{ url: 'http://h:1' }}\ntables: [{{ table: t }}]"
        );
        let sources = Sources { file: Some((PathBuf::from("c.yaml"), text)), ..Sources::default() };
        let config = load(&sources).unwrap_or_else(|problems| panic!("{problems}")).config;
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 8]).await.unwrap();
            socket.write_all(answer).await.unwrap();
        };
        tokio::join!(connect(&config.postgres, None, "test"), server).0.err().unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_within_the_handshake_may_be_tried_again() {
        let error = refused(b"S").await;
        assert_eq!(error.class(), Class::Transient, "{error}");
        let error = refused(b"N").await;
        assert!(error.class() == Class::Fatal && error.to_string().contains("ssl = on"), "{error}");
    }
}
