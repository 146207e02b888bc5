//! The reader thread: replication connection → intake → lanes, and status updates back.
//!
//! One OS thread per slot, blocking: it reads late when busy (see `source::replication`), and it keeps the connection
//! alive while lanes are full, whatever OpenSearch does. Positions that it acknowledges are durable in the checkpoint.

use super::{
    intake::{Intake, Need},
    intake_error::IntakeError,
    lease::Lease,
};
use crate::{
    lanes::{Lanes, TableNo},
    model::{ColumnType, Lsn, TypeCatalog, Version, Xid},
    source::{
        SourceError,
        replication::{Frame, ReplicationConnection},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// `wal_sender_timeout` that pg2os sets on its own connection: a vanished node frees the slot after it.
pub const SERVER_TIMEOUT: Duration = Duration::from_secs(20);
const STATUS_EVERY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);

/// What the reader needs of the asynchronous side. It waits for the answer, keeping the connection alive.
#[derive(Debug)]
pub enum Request {
    /// Types that are not built in.
    Types(Vec<u32>, oneshot::Sender<TypeCatalog>),
    /// See [`Need::Columns`].
    Columns(TableNo, Vec<(String, ColumnType)>, oneshot::Sender<()>),
    /// See [`Need::Truncate`].
    Truncate {
        /// The tables.
        tables: Vec<TableNo>,
        /// The transaction.
        xid: Xid,
        /// Version of the TRUNCATE.
        version: Version,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
}

/// What the session wants of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Stream = 0,
    Hold = 1,
    Finish = 2,
    Leave = 3,
}

/// What the reader thread and the session tell each other.
#[derive(Debug)]
pub struct StreamState {
    phase: AtomicU8,
    /// Windows first, then the stream.
    waiting: AtomicBool,
    durable: AtomicU64,
    wanted: AtomicU64,
    server_end: AtomicU64,
    transactions: AtomicU64,
    changes: AtomicU64,
    omitted_values: AtomicU64,
    lease: Lease,
    redefinitions: AtomicU64,
}

impl StreamState {
    /// The state of a stream that starts at `position`.
    pub fn new(position: Lsn) -> Self {
        StreamState {
            phase: AtomicU8::new(Phase::Stream as u8),
            waiting: AtomicBool::new(false),
            durable: AtomicU64::new(position.0),
            wanted: AtomicU64::new(0),
            server_end: AtomicU64::new(position.0),
            transactions: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            omitted_values: AtomicU64::new(0),
            lease: Lease::new(),
            redefinitions: AtomicU64::new(0),
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 if self.waiting.load(Ordering::Acquire) => Phase::Hold,
            0 => Phase::Stream,
            1 => Phase::Hold,
            2 => Phase::Finish,
            _ => Phase::Leave,
        }
    }

    /// Read nothing yet, or go on.
    pub fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Release);
    }

    /// Read no further; keep the connection.
    pub fn hold(&self) {
        self.set_phase(Phase::Hold);
    }

    /// Acknowledge what is durable and end the stream in order.
    pub fn finish(&self) {
        self.set_phase(Phase::Finish);
    }

    /// End at once.
    pub fn leave(&self) {
        self.set_phase(Phase::Leave);
    }

    /// The checkpoint holds this position: it may be acknowledged.
    pub fn set_durable(&self, position: Lsn) {
        self.durable.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Does this session hold the slot, as far as anybody can know?
    pub fn holds_slot(&self) -> bool {
        self.lease.is_held()
    }

    /// Position of the checkpoint.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Somebody waits for the checkpoint to reach this position.
    pub fn want(&self, position: Lsn) {
        self.wanted.fetch_max(position.0, Ordering::AcqRel);
    }

    /// Is the checkpoint waited for?
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > self.durable.load(Ordering::Acquire)
    }

    /// How far the server says that it has sent everything.
    pub fn server_end(&self) -> Lsn {
        Lsn(self.server_end.load(Ordering::Acquire))
    }

    /// Changes of configured tables so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Transactions so far.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    /// TRUNCATEs and descriptions of relations so far.
    pub fn redefinitions(&self) -> u64 {
        self.redefinitions.load(Ordering::Relaxed)
    }

    /// Values without a JSON form so far.
    pub fn omitted_values(&self) -> u64 {
        self.omitted_values.load(Ordering::Relaxed)
    }
}

/// The stream ended.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The connection.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What came through it.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// Nothing came for too long.
    #[error("PostgreSQL has sent nothing for {} s, not even the keepalive it owes; connecting again", .0.as_secs())]
    Silent(Duration),
    /// The process or its machine stood still.
    #[error("this process stood still for {} s, and may have lost the slot meanwhile; connecting again", .0.as_secs())]
    Paused(Duration),
}

/// The thread's own part.
pub struct Reader {
    connection: ReplicationConnection,
    intake: Intake,
    lanes: Arc<Lanes>,
    state: Arc<StreamState>,
    requests: mpsc::UnboundedSender<Request>,
    written: Lsn,
    last_status: Instant,
    last_flushed: Lsn,
}

impl Reader {
    /// A reader of a connection on which the stream was started at `position`.
    pub fn new(
        connection: ReplicationConnection,
        intake: Intake,
        lanes: Arc<Lanes>,
        state: Arc<StreamState>,
        requests: mpsc::UnboundedSender<Request>,
        position: Lsn,
    ) -> Self {
        let (written, last_flushed) = (position, position);
        Reader {
            connection,
            intake,
            lanes,
            state,
            requests,
            written,
            last_status: Instant::now(),
            last_flushed,
        }
    }

    /// Streams until the session says otherwise.
    ///
    /// # Errors
    /// The connection or its content failed; nothing was acknowledged that is not durable.
    pub fn run(&mut self) -> Result<(), ReaderError> {
        loop {
            match self.state.phase() {
                Phase::Stream => {}
                Phase::Hold => {
                    self.keep_alive()?;
                    std::thread::sleep(TICK / 5);
                    continue;
                }
                Phase::Finish => {
                    self.report();
                    let durable = self.state.durable();
                    self.connection.send_status(self.written.max(durable), durable, false)?;
                    return Ok(self.connection.stop()?);
                }
                Phase::Leave => return Ok(()),
            }
            // The clock is read once per read of the socket, not per message.
            let mut wait_until = self.last_status;
            if !self.connection.buffered() {
                self.keep_alive()?;
                wait_until = Instant::now() + TICK;
            }
            let need = match self.connection.next_frame(wait_until)? {
                Some(Frame::Change { start, data }) => {
                    self.written = self.written.max(start);
                    self.intake.message(data)?
                }
                Some(Frame::Keepalive { end, reply_requested }) => {
                    self.written = self.written.max(end);
                    self.state.server_end.fetch_max(end.0, Ordering::AcqRel);
                    if !self.intake.in_transaction() {
                        self.lanes.tracker().passed(end);
                    }
                    if reply_requested {
                        self.send_status(false)?;
                    }
                    None
                }
                None => {
                    self.report();
                    let silence = self.connection.last_received().elapsed();
                    if silence > SERVER_TIMEOUT {
                        return Err(ReaderError::Silent(silence));
                    }
                    None
                }
            };
            if need.is_some() && !self.satisfy(need)? {
                return Ok(());
            }
        }
    }

    /// Does what is needed before the next message; false when the session ends meanwhile.
    fn satisfy(&mut self, mut need: Option<Need>) -> Result<bool, ReaderError> {
        while let Some(needed) = need {
            need = match needed {
                Need::Room(lane) => {
                    self.lanes.wait_for_room(lane, TICK);
                    self.keep_alive()?;
                    if self.state.phase() != Phase::Stream && !self.wait_out_hold()? {
                        return Ok(false);
                    }
                    self.intake.resume()
                }
                Need::Types(oids) => {
                    let (answer, types) = oneshot::channel();
                    let Some(types) = self.ask(Request::Types(oids, answer), types)? else {
                        return Ok(false);
                    };
                    self.intake.types_loaded(types)?
                }
                Need::Columns(table, columns) => {
                    let (done, answer) = oneshot::channel();
                    if self.ask(Request::Columns(table, columns, done), answer)?.is_none() {
                        return Ok(false);
                    }
                    None
                }
                Need::Truncate { tables, xid, version } => {
                    let (done, answer) = oneshot::channel();
                    let request = Request::Truncate { tables, xid, version, done };
                    if self.ask(request, answer)?.is_none() {
                        return Ok(false);
                    }
                    None
                }
            };
        }
        Ok(true)
    }

    /// In the middle of a message there is no orderly end but acknowledging what is durable; true to go on.
    fn wait_out_hold(&mut self) -> Result<bool, ReaderError> {
        match self.state.phase() {
            Phase::Stream | Phase::Hold => Ok(true),
            Phase::Finish => {
                self.send_status(false)?;
                Ok(false)
            }
            Phase::Leave => Ok(false),
        }
    }

    fn ask<T>(
        &mut self,
        request: Request,
        mut answer: oneshot::Receiver<T>,
    ) -> Result<Option<T>, ReaderError> {
        if self.requests.send(request).is_err() {
            return Ok(None);
        }
        loop {
            match answer.try_recv() {
                Ok(answer) => return Ok(Some(answer)),
                Err(oneshot::error::TryRecvError::Closed) => return Ok(None),
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            self.keep_alive()?;
            if !self.wait_out_hold()? {
                return Ok(None);
            }
            std::thread::sleep(TICK / 10);
        }
    }

    /// Sends a status where one is due: every second, and soon after the durable position moved.
    fn keep_alive(&mut self) -> Result<(), ReaderError> {
        self.state.lease.beat().map_err(ReaderError::Paused)?;
        let since = self.last_status.elapsed();
        if since < STATUS_EVERY / 10 {
            return Ok(());
        }
        let moved = self.state.durable() > self.last_flushed;
        if since >= STATUS_EVERY || moved {
            // On a quiet stream the server is asked for its position, so that idle WAL can be acknowledged.
            let quiet = self.connection.last_received().elapsed() >= STATUS_EVERY;
            self.send_status(quiet)?;
        }
        Ok(())
    }

    fn send_status(&mut self, reply: bool) -> Result<(), SourceError> {
        self.report();
        let durable = self.state.durable();
        self.last_status = Instant::now();
        self.last_flushed = durable;
        self.connection.send_status(self.written.max(durable), durable, reply)
    }

    fn report(&self) {
        let counts = self.intake.counts();
        self.state.transactions.store(counts.transactions, Ordering::Relaxed);
        self.state.changes.store(counts.changes, Ordering::Relaxed);
        self.state.omitted_values.store(counts.omitted_values, Ordering::Relaxed);
        self.state.redefinitions.store(counts.redefinitions, Ordering::Relaxed);
    }
}
