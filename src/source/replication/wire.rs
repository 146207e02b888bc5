//! Bytes ⇄ messages (docs: "Message Formats").
//!
//! Invariant: a message is parsed where it was read, and memory follows the bytes that have arrived, never a length that
//! was only announced.

use crate::{
    model::{Lsn, quote_identifier},
    source::{ServerError, SourceError},
};
use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Size of the buffer but for larger messages.
const NORMAL: usize = 256 * 1024;
/// Room that a read finds at least.
const ROOM: usize = 32 * 1024;
/// Longest message of a server that has not been logged in to.
pub(super) const LOGIN_LIMIT: usize = 64 * 1024;
/// Longest message of the stream: PostgreSQL's values end at 1 GiB; the rest is framing.
pub(super) const STREAM_LIMIT: usize = (1 << 30) + 64 * 1024;
/// 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// A message of the replication stream (docs: "Streaming Replication Protocol", XLogData and Primary keepalive message).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// XLogData: one message of the output plugin.
    Change {
        /// Position of the change; it goes back between transactions and is 0/0 at times: never acknowledge it.
        start: Lsn,
        /// Message of the output plugin.
        data: &'a [u8],
    },
    /// Primary keepalive.
    Keepalive {
        /// Up to here the server has decoded and sent what there was to send.
        end: Lsn,
        /// Does the server want a status soon?
        reply_requested: bool,
    },
}

impl<'a> Frame<'a> {
    /// The frame in the body of a CopyData message.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, SourceError> {
        let mut fields = Fields(body);
        let frame = match fields.u8() {
            Some(b'w') => fields.u64().and_then(|start| {
                // The server's end of WAL and its clock: nothing rests on them.
                fields.take(16)?;
                Some(Frame::Change { start: Lsn(start), data: fields.0 })
            }),
            Some(b'k') => fields.u64().and_then(|end| {
                fields.take(8)?;
                Some(Frame::Keepalive { end: Lsn(end), reply_requested: fields.u8()? != 0 })
            }),
            _ => None,
        };
        frame.ok_or_else(|| malformed("a message of the replication stream", body))
    }
}

/// A Standby status update as a CopyData message (docs: "Streaming Replication Protocol"): applied is flushed.
pub(super) fn status(written: Lsn, flushed: Lsn, reply: bool) -> [u8; 39] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
    let mut message = [0; 39];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        message[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"d");
    put(&38_u32.to_be_bytes());
    put(b"r");
    put(&written.0.to_be_bytes());
    put(&flushed.0.to_be_bytes());
    put(&flushed.0.to_be_bytes());
    put(&(now.as_micros() as u64).to_be_bytes());
    put(&[u8::from(reply)]);
    message
}

/// START_REPLICATION with `pgoutput`. The publications are a list of identifiers within a literal; the replication grammar knows no other escape than the
/// doubled quote.
pub(super) fn start_command(slot: &str, from: Lsn, publications: &[String]) -> String {
    let names: Vec<String> = publications.iter().map(|name| quote_identifier(name)).collect();
    let names = names.join(",").replace('\'', "''");
    let slot = quote_identifier(slot);
    format!("START_REPLICATION SLOT {slot} LOGICAL {from} (proto_version '1', publication_names '{names}')")
}

/// Where a whole message lies in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Range<usize>,
}

/// What was read and not yet consumed.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Longest message that is accepted.
    pub(super) limit: usize,
}

impl Buffer {
    pub(super) fn new(limit: usize) -> Self {
        Buffer { bytes: vec![0; NORMAL], start: 0, end: 0, limit }
    }

    /// The next message if it is there as a whole.
    pub(super) fn peek(&self) -> Result<Option<Message>, SourceError> {
        let pending = &self.bytes[self.start..self.end];
        Ok(self.announced()?.filter(|length| pending.len() > *length).map(|length| {
            // The length counts itself, not the tag.
            Message { tag: pending[0], body: self.start + 5..self.start + 1 + length }
        }))
    }

    /// Takes the next message out. Its bytes stay in place until the next `room`.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Message>, SourceError> {
        let message = self.peek()?;
        if let Some(message) = &message {
            self.start = message.body.end;
        }
        Ok(message)
    }

    pub(super) fn body(&self, message: &Message) -> &[u8] {
        &self.bytes[message.body.clone()]
    }

    /// The length in the header of the next message.
    #[inline]
    fn announced(&self) -> Result<Option<usize>, SourceError> {
        let &[tag, a, b, c, d, ..] = &self.bytes[self.start..self.end] else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length < 4 || length > self.limit {
            let what = format!("a message `{}` of {length} bytes", char::from(tag).escape_default());
            return Err(SourceError::Protocol(what));
        }
        Ok(Some(length))
    }

    /// Room for the next read; never empty.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let pending = self.end - self.start;
        if pending == 0 && self.bytes.len() == NORMAL {
            (self.start, self.end) = (0, 0);
        } else if self.bytes.len() > NORMAL && pending + ROOM <= NORMAL && self.start > 0 {
            let mut normal = vec![0; NORMAL];
            normal[..pending].copy_from_slice(&self.bytes[self.start..self.end]);
            (self.bytes, self.start, self.end) = (normal, 0, pending);
        } else if self.bytes.len() - self.end < ROOM {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, pending);
            if self.bytes.len() - pending < ROOM {
                let needed = self.announced().ok().flatten().unwrap_or(0) + 1 + ROOM;
                let grown = (2 * self.bytes.len()).min(needed.max(pending + ROOM));
                self.bytes.resize(grown, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// `n` bytes were read into the room.
    pub(super) fn received(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }
}

/// Fields of a message, read one after another; `None` where the message ends too early.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Text up to a NUL byte.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = memchr::memchr(0, self.0)?;
        let text = self.take(length)?;
        self.take(1)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The fields of an ErrorResponse or NoticeResponse; before the login the text may have any encoding.
pub(super) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    let mut fields = Fields(body);
    while let Some(kind) = fields.u8().filter(|kind| *kind != 0) {
        let Some(text) = fields.text() else { break };
        match kind {
            b'C' => error.sqlstate = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            _ => {}
        }
    }
    error
}

/// The columns of a DataRow.
pub(super) fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, SourceError> {
    let mut fields = Fields(body);
    let parse = |fields: &mut Fields<'_>| {
        let mut row = Vec::new();
        for _ in 0..fields.u16()? {
            row.push(match usize::try_from(fields.i32()?) {
                Ok(length) => Some(String::from_utf8_lossy(fields.take(length)?).into_owned()),
                Err(_) => None,
            });
        }
        Some(row)
    };
    parse(&mut fields).ok_or_else(|| malformed("a DataRow", body))
}

/// A message that does not have the form of its kind.
pub(super) fn malformed(what: &str, body: &[u8]) -> SourceError {
    let start = body.get(..16).unwrap_or(body).escape_ascii();
    SourceError::Protocol(format!("{what} of {} bytes that starts with `{start}`", body.len()))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
