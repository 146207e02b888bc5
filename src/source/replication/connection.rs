//! The public face of the replication connection.
//!
//! Invariants: a connection that is handed out is logged in to a primary; every wait ends at a deadline. After
//! an error the connection is dropped, but for a statement that the server refused.

use super::{
    auth::{Authentication, Channel, startup},
    identity::{SystemIdentity, TimelineSwitch, system_identity, timeline_history},
    transport::{Transport, timed_out},
    wire::{
        Buffer, Fields, Frame, LOGIN_LIMIT, Message, STREAM_LIMIT, data_row, malformed, server_error,
        start_command, status,
    },
};
use crate::{
    config::{Postgres, TlsMode},
    model::{Lsn, quote_literal},
    source::{CONNECT_TIMEOUT, Login, SourceError, most_hopeful, refuse_unix_socket, startup_options, tls},
};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Longest wait for the answer to a statement. Statements that may wait for others belong on the SQL connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for the server's goodbye.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A read of fewer bytes while the server is sending is a read too early.
const SMALL_READ: usize = 16 * 1024;
/// Reads that end within this time of each other: the server is sending.
const BUSY: Duration = Duration::from_micros(250);
/// How much later to read then: the server spends its time on decoding instead of on waking this thread.
const READ_LATER: Duration = Duration::from_micros(100);

/// A connection in replication mode (docs: "Streaming Replication Protocol"); one thread uses it.
pub struct ReplicationConnection {
    transport: Transport,
    buffer: Buffer,
    host: String,
    parameters: Vec<(String, String)>,
    last_received: Instant,
    read_later: bool,
}

impl fmt::Debug for ReplicationConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationConnection").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ReplicationConnection {
    /// Connects to the first address of the configured hosts that is not in recovery. Credentials and certificates are
    /// read anew. `server_timeout` becomes this session's `wal_sender_timeout`.
    pub fn connect(
        config: &Postgres,
        application_name: &str,
        server_timeout: Option<Duration>,
    ) -> Result<Self, SourceError> {
        let login = Login::read(config)?;
        let tls = tls::client_config(&config.tls)?;
        let timeout = server_timeout.map(|t| ("wal_sender_timeout", t.as_millis().to_string()));
        let options = startup_options(timeout.as_slice());
        let hello = startup(&login.user, &config.database, application_name, &options)?;
        let mut failures = Vec::new();
        for host in &config.hosts {
            refuse_unix_socket(host)?;
            let failed = |error| SourceError::connecting(host, config.port, error);
            match (host.as_str(), config.port).to_socket_addrs() {
                Err(error) => failures.push(failed(error)),
                Ok(addresses) => {
                    for address in addresses {
                        match Self::connect_to(host, address, config.tls.mode, tls.clone(), &login, &hello) {
                            Ok(connection) => return Ok(connection),
                            Err(failure) => failures.push(failure),
                        }
                    }
                }
            }
        }
        Err(most_hopeful(failures))
    }

    fn connect_to(
        host: &str,
        address: SocketAddr,
        mode: TlsMode,
        tls: Option<Arc<ClientConfig>>,
        login: &Login,
        hello: &[u8],
    ) -> Result<Self, SourceError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let failed = |error| SourceError::connecting(host, address.port(), error);
        let mut transport = Transport::connect(address, deadline).map_err(failed)?;
        if let Some(config) = tls {
            if accepts_tls(&mut transport, deadline).map_err(failed)? {
                transport = transport.secure(config, host, deadline).map_err(failed)?;
            } else if mode != TlsMode::Prefer {
                let reason =
                    "the server has none; set ssl = on in PostgreSQL, or postgres.tls.mode prefer".to_owned();
                return Err(SourceError::Tls { host: host.to_owned(), reason });
            }
        }
        let mut connection = ReplicationConnection {
            transport,
            buffer: Buffer::new(LOGIN_LIMIT),
            host: host.to_owned(),
            parameters: Vec::new(),
            last_received: Instant::now(),
            read_later: false,
        };
        connection.log_in(login, hello, deadline).map_err(|error| match error {
            SourceError::Io { source, .. } => failed(source),
            SourceError::Timeout { .. } => failed(io::ErrorKind::TimedOut.into()),
            error => error,
        })?;
        let rows = connection.query_until("SELECT pg_is_in_recovery()", deadline)?;
        if rows.first().and_then(|row| row.first()) != Some(&Some("f".to_owned())) {
            return Err(SourceError::InRecovery { host: host.to_owned(), port: address.port() });
        }
        // As UTF8 the server would end the stream at a value that is none, for ever.
        if connection.parameter("server_encoding") == Some("SQL_ASCII") {
            connection.query_until("SET client_encoding = 'SQL_ASCII'", deadline)?;
        }
        Ok(connection)
    }

    fn log_in(&mut self, login: &Login, hello: &[u8], deadline: Instant) -> Result<(), SourceError> {
        const DOING: &str = "logging in";
        self.send(hello, DOING)?;
        let confidential = self.transport.is_tls() || self.transport.is_loopback();
        let channel = Channel { confidential, certificate: self.transport.server_certificate() };
        let mut authentication = Authentication::new(login, &channel);
        let mut authenticated = false;
        loop {
            let message = self.expect(deadline, CONNECT_TIMEOUT, DOING)?;
            let body = self.buffer.body(&message);
            match message.tag {
                b'R' if !authenticated => {
                    authenticated = body == [0; 4];
                    if let Some(answer) = authentication.answer(body)? {
                        self.send(&answer, DOING)?;
                    }
                }
                b'K' if authenticated => {}
                b'Z' if authenticated => {
                    self.buffer.limit = STREAM_LIMIT;
                    return Ok(());
                }
                b'E' => return Err(SourceError::Server(Box::new(server_error(body)))),
                tag => return Err(unexpected(tag, DOING)),
            }
        }
    }

    /// A parameter that the server reported (docs: "Asynchronous Operations", ParameterStatus), as `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The host, as configured, that this is connected to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Runs a statement or replication command in the simple protocol and returns its rows (docs: "Simple Query").
    pub fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, SourceError> {
        self.query_until(sql, Instant::now() + ANSWER_TIMEOUT)
    }

    fn query_until(&mut self, sql: &str, deadline: Instant) -> Result<Vec<Vec<Option<String>>>, SourceError> {
        const DOING: &str = "running a statement";
        self.send_query(sql)?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let message = match self.expect(deadline, ANSWER_TIMEOUT, DOING) {
                Ok(message) => message,
                // After a FATAL error the server closes the connection: the error says more than that.
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            let body = self.buffer.body(&message);
            match message.tag {
                b'T' | b'C' | b'I' => {}
                b'D' => rows.push(data_row(body)?),
                b'E' => refused = refused.or(Some(SourceError::Server(Box::new(server_error(body))))),
                b'Z' => return refused.map_or(Ok(rows), Err),
                tag => return Err(unexpected(tag, DOING)),
            }
        }
    }

    /// IDENTIFY_SYSTEM.
    pub fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        system_identity(&self.query("IDENTIFY_SYSTEM")?)
    }

    /// TIMELINE_HISTORY: where each timeline before `timeline` was left. Timeline 1 has no history (SQLSTATE 58P01).
    pub fn timeline_history(&mut self, timeline: u32) -> Result<Vec<TimelineSwitch>, SourceError> {
        timeline_history(&self.query(&format!("TIMELINE_HISTORY {timeline}"))?)
    }

    /// Makes a copy of a logical slot that lives as long as this connection, and returns its name and where it stands: what
    /// was committed before is not kept (docs: `pg_copy_logical_replication_slot`).
    pub fn copy_slot(&mut self, slot: &str) -> Result<(String, Lsn), SourceError> {
        let sql = format!(
            "SELECT slot_name, lsn FROM pg_catalog.pg_copy_logical_replication_slot({}, \
             pg_catalog.format('pg2os_replay_%s', pg_catalog.pg_backend_pid())::pg_catalog.name, true)",
            quote_literal(slot)
        );
        let answer: Vec<_> = self.query(&sql)?.into_iter().flatten().collect();
        let bad = || SourceError::Protocol(format!("{answer:?} for a copied slot"));
        let [Some(name), Some(lsn)] = &answer[..] else { return Err(bad()) };
        Ok((name.clone(), lsn.parse().map_err(|_| bad())?))
    }

    /// START_REPLICATION with `pgoutput`, protocol version 1 (docs: "Logical Streaming Replication Parameters"): whole
    /// transactions in commit order, values as text. Below the slot's `confirmed_flush_lsn` the server silently starts
    /// there: compare first.
    pub fn start(&mut self, slot: &str, from: Lsn, publications: &[String]) -> Result<(), SourceError> {
        const DOING: &str = "starting replication";
        self.send_query(&start_command(slot, from, publications))?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut refused = None;
        loop {
            let message = match self.expect(deadline, ANSWER_TIMEOUT, DOING) {
                Ok(message) => message,
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            let body = self.buffer.body(&message);
            match (message.tag, refused) {
                (b'W', None) => return Ok(()),
                (b'E', earlier) => {
                    refused = earlier.or(Some(SourceError::Server(Box::new(server_error(body)))));
                }
                // Read to here, so that the connection can be used for another attempt.
                (b'Z', Some(error)) => return Err(error),
                (tag, _) => return Err(unexpected(tag, DOING)),
            }
        }
    }

    /// The next frame of the stream, or `None` at `wait_until`; also within a message that is larger than what arrived,
    /// so that the caller can send a status meanwhile.
    pub fn next_frame(&mut self, wait_until: Instant) -> Result<Option<Frame<'_>>, SourceError> {
        const DOING: &str = "streaming";
        let Some(message) = self.receive(wait_until, DOING)? else { return Ok(None) };
        let body = self.buffer.body(&message);
        match message.tag {
            b'd' => Frame::parse(body).map(Some),
            b'E' => Err(SourceError::Server(Box::new(server_error(body)))),
            // A server that shuts down ends the stream with CommandComplete, without CopyDone.
            b'c' | b'C' => Err(SourceError::Closed { doing: DOING }),
            tag => Err(unexpected(tag, DOING)),
        }
    }

    /// Is a whole further message in the buffer already?
    pub fn buffered(&self) -> bool {
        // An error counts: the next call reports it without waiting.
        !matches!(self.buffer.peek(), Ok(None))
    }

    /// When bytes of the server arrived last.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Sends a Standby status update: `written` is what was received, `flushed` what is durable and lets the server
    /// forget. Never more than this server sent on this timeline: it would be lost silently.
    pub fn send_status(&mut self, written: Lsn, flushed: Lsn, reply: bool) -> Result<(), SourceError> {
        self.send(&status(written, flushed, reply), "sending a status")
    }

    /// Ends the stream in order, so that the slot is free when this returns: CopyDone, the server's CommandComplete,
    /// Terminate. The last status is the caller's business, before. What still arrives is discarded.
    pub fn stop(&mut self) -> Result<(), SourceError> {
        const DOING: &str = "stopping replication";
        let mut goodbye = BytesMut::new();
        frontend::copy_done(&mut goodbye);
        self.send(&goodbye, DOING)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            let message = self.expect(deadline, STOP_TIMEOUT, DOING)?;
            match message.tag {
                b'C' => break,
                b'd' | b'c' => {}
                b'E' => return Err(SourceError::Server(Box::new(server_error(self.buffer.body(&message))))),
                tag => return Err(unexpected(tag, DOING)),
            }
        }
        goodbye.clear();
        frontend::terminate(&mut goodbye);
        self.send(&goodbye, DOING)
    }

    fn send(&mut self, bytes: &[u8], doing: &'static str) -> Result<(), SourceError> {
        self.transport.write(bytes).map_err(|source| SourceError::Io { doing, source })
    }

    fn send_query(&mut self, sql: &str) -> Result<(), SourceError> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|error| {
            SourceError::Setting(format!("`{sql}` cannot be sent: {error}; check the names in it"))
        })?;
        self.send(&message, "sending a statement")
    }

    /// The next message; a passed deadline is an error.
    fn expect(
        &mut self,
        deadline: Instant,
        after: Duration,
        doing: &'static str,
    ) -> Result<Message, SourceError> {
        self.receive(deadline, doing)?.ok_or(SourceError::Timeout { doing, after })
    }

    /// The next message that is not for this client itself, or `None` at the deadline. Every call reads at least once
    /// where the buffer has nothing.
    fn receive(&mut self, deadline: Instant, doing: &'static str) -> Result<Option<Message>, SourceError> {
        let mut last_try = false;
        loop {
            match self.buffer.next()? {
                Some(message) if matches!(message.tag, b'N' | b'S' | b'A') => self.note(&message)?,
                Some(message) => return Ok(Some(message)),
                None if last_try => return Ok(None),
                None => {
                    if !self.read(deadline, doing)? {
                        return Ok(None);
                    }
                    last_try = Instant::now() >= deadline;
                }
            }
        }
    }

    /// Messages that may come at any time (docs: "Asynchronous Operations").
    fn note(&mut self, message: &Message) -> Result<(), SourceError> {
        let body = self.buffer.body(message);
        match message.tag {
            b'N' => tracing::debug!(notice = %server_error(body).message, "PostgreSQL"),
            b'S' => {
                let mut fields = Fields(body);
                let (Some(name), Some(value)) = (fields.text(), fields.text()) else {
                    return Err(malformed("a ParameterStatus", body));
                };
                self.parameters.retain(|(known, _)| *known != name);
                self.parameters.push((name, value));
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads into the buffer; false at the deadline.
    fn read(&mut self, deadline: Instant, doing: &'static str) -> Result<bool, SourceError> {
        if self.read_later {
            thread::sleep(READ_LATER);
        }
        match self.transport.read(self.buffer.room(), deadline) {
            Ok(0) => Err(SourceError::Closed { doing }),
            Ok(n) => {
                self.buffer.received(n);
                let now = Instant::now();
                self.read_later = n < SMALL_READ && now.duration_since(self.last_received) < BUSY;
                self.last_received = now;
                Ok(true)
            }
            Err(error) if timed_out(&error) => {
                self.read_later = false;
                Ok(false)
            }
            Err(source) => Err(SourceError::Io { doing, source }),
        }
    }
}

/// Asks for TLS. Exactly one byte is read, so that nothing a stranger slipped in before the handshake is taken for the
/// server's word (docs: "SSL Session Encryption").
fn accepts_tls(transport: &mut Transport, deadline: Instant) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    transport.write(&request)?;
    let mut answer = [0];
    match (transport.read(&mut answer, deadline)?, answer) {
        (1, [b'S']) => Ok(true),
        (1, [b'N']) => Ok(false),
        (1, _) => Err(io::Error::other("the server refused before TLS; its log has the reason")),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unexpected(tag: u8, doing: &str) -> SourceError {
    SourceError::Protocol(format!("message `{}` while {doing}", char::from(tag).escape_default()))
}
