//! A TCP proxy that forces what networks do: nothing arrives any more though nobody has closed, connections are cut or slow,
//! one request is late; and what stands before a cluster: refusals for a while, a request that it does not survive.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex as AsyncMutex, watch},
    task::JoinSet,
};

/// See the module; it ends with its value.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    stalled: watch::Sender<bool>,
    held: watch::Sender<bool>,
    holds_next: AtomicBool,
    /// Each step cuts the connections of before.
    cuts: watch::Sender<u64>,
    /// Each step lets the connections of before rest for ever.
    half_open: AtomicU64,
    delay_ms: AtomicU64,
    /// What bulk requests are answered; 0: what the server says.
    refusal: AtomicU16,
    poison: Mutex<Option<Vec<u8>>>,
    poisoned: AtomicU64,
    /// So many answers to bulk requests are still to be spoiled.
    spoils: AtomicU64,
}

/// The connection is to be cut.
struct Cut;

#[allow(dead_code)] // Each kind of test uses some of it.
impl Proxy {
    /// Forwards connections to `address` to `server`.
    pub(crate) async fn start(address: SocketAddr, server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                connections.spawn(async move { state.serve(client, server).await });
                while connections.try_join_next().is_some() {}
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

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing goes through the connections that there are, and nothing is closed; new ones work.
    pub(crate) fn half_open(&self) {
        self.state.half_open.fetch_add(1, Ordering::AcqRel);
    }

    /// Everything that is forwarded waits so long.
    pub(crate) fn slow(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::Release);
    }

    /// Bulk requests are answered with this status and do not reach the server; 0 ends that.
    pub(crate) fn refuse_bulks(&self, status: u16) {
        self.state.refusal.store(status, Ordering::Release);
    }

    /// The connection of a request that holds these bytes is cut when they arrive.
    pub(crate) fn poison(&self, bytes: &str) {
        *self.state.poison.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.into());
    }

    /// How many requests were cut so.
    pub(crate) fn poisoned(&self) -> u64 {
        self.state.poisoned.load(Ordering::Acquire)
    }

    /// The next bulk requests are executed, but what comes back is something else, in turn: a page with 200, one with 502, half
    /// of the answer, an answer without its items, nothing.
    pub(crate) fn spoil_bulks(&self, count: u64) {
        self.state.spoils.store(count, Ordering::Release);
    }

    /// Have all of them come?
    pub(crate) fn has_spoiled(&self) -> bool {
        self.state.spoils.load(Ordering::Acquire) == 0
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
        let mut cuts = self.cuts.subscribe();
        let born = self.half_open.load(Ordering::Acquire);
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (to_client, in_bulk) = (AsyncMutex::new(to_client), AtomicBool::new(false));
        let both = async {
            tokio::try_join!(
                self.requests(from_client, to_server, &to_client, &in_bulk, born),
                self.answers(from_server, &to_client, &in_bulk, born)
            )
        };
        // Whatever ends first: all four halves are closed with it.
        tokio::select! {
            _ = cuts.changed() => {}
            _ = both => {}
        }
    }

    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        to_client: &AsyncMutex<OwnedWriteHalf>,
        in_bulk: &AtomicBool,
        born: u64,
    ) -> Result<(), Cut> {
        let mut held = self.held.subscribe();
        let mut buffer = vec![0; 64 << 10];
        let mut seen = vec![];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or(0);
            self.obstruct(born).await;
            let chunk = &buffer[..length];
            let is_bulk = contains(chunk, b"/_bulk");
            if is_bulk && self.holds_next.swap(false, Ordering::AcqRel) {
                self.held.send_replace(true);
                let _ = held.wait_for(|held| !held).await;
            }
            let refusal = self.refusal.load(Ordering::Acquire);
            if refusal != 0 && chunk.starts_with(b"POST /_bulk") {
                read_rest(&mut from, chunk).await?;
                let answer = format!(
                    "HTTP/1.1 {refusal} Refused\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\nbusy"
                );
                to_client.lock().await.write_all(answer.as_bytes()).await.map_err(|_| Cut)?;
                continue;
            }
            if chunk.starts_with(b"POST ") {
                in_bulk.store(is_bulk, Ordering::Release);
            }
            self.taste(&mut seen, chunk)?;
            if length == 0 || to.write_all(chunk).await.is_err() {
                let _ = to.shutdown().await;
                return Ok(());
            }
        }
    }

    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        to: &AsyncMutex<OwnedWriteHalf>,
        in_bulk: &AtomicBool,
        born: u64,
    ) -> Result<(), Cut> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer).await.unwrap_or(0);
            self.obstruct(born).await;
            let mut to = to.lock().await;
            if length > 0 && in_bulk.load(Ordering::Acquire) && self.takes_spoil() {
                let _ = to.write_all(&spoiled(self.spoils.load(Ordering::Acquire), &buffer[..length])).await;
                return Err(Cut);
            }
            if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
                let _ = to.shutdown().await;
                return Ok(());
            }
        }
    }

    fn takes_spoil(&self) -> bool {
        self.spoils.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
    }

    /// Waits as long as the network does not let anything through.
    async fn obstruct(&self, born: u64) {
        let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
        if self.half_open.load(Ordering::Acquire) > born {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Acquire))).await;
    }

    /// Cuts where the poison is in `chunk`, or between it and what was `seen` before.
    fn taste(&self, seen: &mut Vec<u8>, chunk: &[u8]) -> Result<(), Cut> {
        let poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(poison) = poison.as_deref() else { return Ok(()) };
        seen.extend_from_slice(chunk);
        if contains(seen, poison) {
            self.poisoned.fetch_add(1, Ordering::AcqRel);
            return Err(Cut);
        }
        seen.drain(..seen.len().saturating_sub(poison.len()));
        Ok(())
    }
}

/// What comes instead of `answer`.
fn spoiled(kind: u64, answer: &[u8]) -> Vec<u8> {
    let page = |status: u16, content_type: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    };
    match kind % 5 {
        0 => page(200, "text/html", "<html>Welcome</html>"),
        1 => page(502, "text/html", "<html>Bad Gateway</html>"),
        2 => answer[..answer.len() / 2].to_vec(),
        3 => page(200, "application/json", r#"{"errors":false,"items":[]}"#),
        _ => vec![],
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads the rest of the request that begins with `beginning`.
async fn read_rest(from: &mut OwnedReadHalf, beginning: &[u8]) -> Result<(), Cut> {
    let head = beginning.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or(Cut)? + 4;
    let text = String::from_utf8_lossy(&beginning[..head]).to_lowercase();
    let length =
        text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut left = (head + length.ok_or(Cut)?).saturating_sub(beginning.len());
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        let most = buffer.len().min(left);
        match from.read(&mut buffer[..most]).await {
            Ok(length) if length > 0 => left -= length,
            _ => return Err(Cut),
        }
    }
    Ok(())
}
