//! A TCP proxy that forces what networks do: nothing arrives any more though nobody has closed, or one request is late.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// See the module; it ends with its value.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    stalled: watch::Sender<bool>,
    held: watch::Sender<bool>,
    holds_next: AtomicBool,
}

#[allow(dead_code)] // Some of it only the failover tests use.
impl Proxy {
    /// Forwards connections to `address` to `server`.
    pub(crate) async fn start(address: SocketAddr, server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            stalled: watch::Sender::new(false),
            held: watch::Sender::new(false),
            holds_next: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                connections.spawn(async move { state.serve(client, server).await });
            }
        });
        Proxy { address, state, _tasks: tasks }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing goes through, and nothing is closed.
    pub(crate) fn stall(&self) {
        self.state.stalled.send_replace(true);
    }

    /// Everything goes through again, what has waited first.
    pub(crate) fn go_on(&self) {
        self.state.stalled.send_replace(false);
    }

    /// The next bulk request is held.
    pub(crate) fn hold_next_bulk(&self) {
        self.state.holds_next.store(true, Ordering::Release);
        self.state.held.send_replace(false);
    }

    /// Waits until one is held.
    pub(crate) async fn holds_a_bulk(&self) {
        self.state.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    /// Sends what is held, though the client may have gone.
    pub(crate) fn release_bulk(&self) {
        self.state.held.send_replace(false);
    }
}

impl State {
    async fn serve(&self, client: TcpStream, server: SocketAddr) {
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(self.forward(from_client, to_server, true), self.forward(from_server, to_client, false));
    }

    async fn forward(
        &self,
        mut from: impl AsyncReadExt + Unpin,
        mut to: impl AsyncWriteExt + Unpin,
        requests: bool,
    ) {
        let (mut stalled, mut held) = (self.stalled.subscribe(), self.held.subscribe());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let _ = stalled.wait_for(|stalled| !stalled).await;
            let chunk = &buffer[..length];
            let is_bulk = requests && chunk.windows(6).any(|bytes| bytes == b"/_bulk");
            if is_bulk && self.holds_next.swap(false, Ordering::AcqRel) {
                self.held.send_replace(true);
                let _ = held.wait_for(|held| !held).await;
            }
            if length == 0 || to.write_all(chunk).await.is_err() {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}
