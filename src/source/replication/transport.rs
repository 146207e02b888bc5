//! A TCP connection, plain or under TLS, with deadlines.
//!
//! Invariant: no call waits beyond its deadline (a write: `WRITE_TIMEOUT`), and a read that ran into it has lost no byte.

use crate::source::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, USER_TIMEOUT};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest wait of one write. A status is 39 bytes: it waits only for a server that has stopped reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest wait of a read, so that a caller whose deadline has passed still sees what is there.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// Read ahead under TLS: rustls itself reads the socket in steps of 4 KiB.
const CIPHERTEXT: usize = 64 * 1024;

/// The bytes of one connection.
pub(super) enum Transport {
    Plain(Socket),
    Tls(Box<TlsSocket>),
}

impl Transport {
    /// Opens a TCP connection.
    pub(super) fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Self> {
        let remaining = deadline.saturating_duration_since(Instant::now()).max(SHORTEST_WAIT);
        let tcp = TcpStream::connect_timeout(&address, remaining)?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
        let socket = SockRef::from(&tcp);
        socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        Ok(Self::Plain(Socket { tcp, deadline }))
    }

    /// Makes a TLS connection of a plain one, handshake included.
    pub(super) fn secure(self, config: Arc<ClientConfig>, host: &str, deadline: Instant) -> io::Result<Self> {
        let Self::Plain(mut socket) = self else { return Ok(self) };
        let name =
            ServerName::try_from(host.to_owned()).map_err(|e| io::Error::new(ErrorKind::InvalidInput, e))?;
        let session = ClientConnection::new(config, name).map_err(invalid)?;
        socket.deadline = deadline;
        let mut tls = TlsSocket { session, socket: BufReader::with_capacity(CIPHERTEXT, socket) };
        tls.flush()?;
        while tls.session.is_handshaking() {
            // A peer that dribbles must not stretch the handshake.
            if Instant::now() >= deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            if !tls.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self::Tls(Box::new(tls)))
    }

    /// Reads what is there, else waits for it until `deadline`. `Ok(0)` is the end of the connection; a passed deadline
    /// is `WouldBlock` or `TimedOut`.
    pub(super) fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => {
                socket.deadline = deadline;
                socket.read(buffer)
            }
            Self::Tls(tls) => {
                tls.socket.get_mut().deadline = deadline;
                tls.read(buffer)
            }
        }
    }

    /// Writes all of `bytes`. After an error the connection is of no further use.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.tcp.write_all(bytes),
            Self::Tls(tls) => {
                tls.session.writer().write_all(bytes)?;
                tls.flush()
            }
        }
    }

    /// The certificate that the server has proved to hold.
    pub(super) fn server_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.session.peer_certificates()?.first().map(AsRef::as_ref),
        }
    }

    /// Is the connection under TLS?
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Does the connection stay on this machine?
    pub(super) fn is_loopback(&self) -> bool {
        let tcp = match self {
            Self::Plain(socket) => &socket.tcp,
            Self::Tls(tls) => &tls.socket.get_ref().tcp,
        };
        tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback())
    }
}

/// Is it the error of a read whose deadline has passed?
pub(super) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A socket whose reads end at a deadline.
pub(super) struct Socket {
    tcp: TcpStream,
    deadline: Instant,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let remaining = self.deadline.saturating_duration_since(Instant::now()).max(SHORTEST_WAIT);
            self.tcp.set_read_timeout(Some(remaining))?;
            match self.tcp.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// A socket under TLS.
pub(super) struct TlsSocket {
    session: ClientConnection,
    socket: BufReader<Socket>,
}

impl TlsSocket {
    /// Decrypts all that one read of the socket brought, as far as `buffer` holds it.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            match self.session.reader().read(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(n) => {
                    filled += n;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
            if filled > 0 && self.socket.buffer().is_empty() {
                return Ok(filled);
            }
            self.receive()?;
        }
    }

    /// Feeds the session; false at the end of the connection.
    fn receive(&mut self) -> io::Result<bool> {
        let n = self.session.read_tls(&mut self.socket)?;
        let outcome = self.session.process_new_packets();
        // Alerts and key updates; why a handshake failed counts for more than that the alert could not be sent.
        let sent = self.flush();
        outcome.map_err(invalid)?;
        sent?;
        Ok(n > 0)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket.get_mut().tcp) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    result?;
                }
            }
        }
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
