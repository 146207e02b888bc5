//! A batch: the bulk body under construction, with what is needed to merge, retry, split and bury its actions.
//!
//! **M1**: inside a batch the action with the highest version of a document stays, of equal ones the last. A document is
//! an id and its routing: one id under two routings lies on two shards. Where both are the same shard, versions decide.

use super::{
    action::{Action, Change, LookupKey, TableNo, Target},
    repeat::Repeat,
};
use crate::{
    ack::{Hold, Ticket},
    map::escape_into,
    model::Version,
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
    sync::Arc,
    time::Instant,
};

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Index a document.
    Index,
    /// Delete a document.
    Delete,
    /// Waits for its lookup and keeps the place of its id (**M13**).
    Lookup,
    /// Goes to the dead letters without being sent.
    Refused,
}

/// One action of a batch.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it does.
    pub kind: EntryKind,
    /// Its table.
    pub table: TableNo,
    /// Its version.
    pub version: Version,
    hash: u64,
    live: bool,
    /// Lines in the body; empty for lookups and refused ones.
    lines: Range<u32>,
    /// The document's line without its newline, within `lines`.
    document: Range<u32>,
    /// Document id, and plain id where it differs, in `ids`.
    id: Range<u32>,
    plain_id: Range<u32>,
    /// What routes it, in `ids`.
    routing: Range<u32>,
    /// Index into `lookups` or `reasons`.
    extra: u32,
}

/// What became of a pushed action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the batch.
    Kept,
    /// A higher version of the id was there: nothing is left to do for it (**M1**).
    Swallowed,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Batch {
    body: Vec<u8>,
    entries: Vec<Entry>,
    ids: Vec<u8>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<IdHash>>,
    lookups: Vec<LookupKey>,
    reasons: Vec<Box<str>>,
    live: usize,
    highest: Version,
    /// Holds the stream's position back until the batch is answered.
    pub(super) ticket: Option<Ticket>,
    /// When it was taken to be sent.
    pub(super) taken: Option<Instant>,
    /// What the repeated deletes in it hold back.
    pub(super) holds: Vec<Arc<Hold>>,
    /// The windows that have rows in the batch.
    pub(super) windows: Vec<super::window::WindowRows>,
}

impl Batch {
    /// Bytes of the body and of what goes beside it.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.ids.len() + 64 * self.entries.len()
    }

    /// Is nothing in it?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of actions that will be sent, looked up or buried.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Adds an action, merging it with what is there of its document.
    pub fn push(&mut self, action: &Action<'_>, hash: u64) -> Pushed {
        if self.merge(action.target.table, (action.id, action.routing), action.version, hash)
            == Pushed::Swallowed
        {
            return Pushed::Swallowed;
        }
        let at = self.append(action, hash);
        self.by_hash.insert(hash, at);
        Pushed::Kept
    }

    /// **M1**: makes way for an action of a document, an id and its routing, unless a higher version of it is there.
    fn merge(
        &mut self,
        table: TableNo,
        (id, routing): (&[u8], &[u8]),
        version: Version,
        hash: u64,
    ) -> Pushed {
        if let Some(&at) = self.by_hash.get(&hash) {
            let old = &self.entries[at as usize];
            if old.table == table && self.id_of(old) == id && self.routing_of(old) == routing {
                if old.version > version {
                    return Pushed::Swallowed;
                }
                self.bury(at as usize);
            }
        }
        Pushed::Kept
    }

    /// **M5**: adds a delete for the second time.
    pub(super) fn push_repeat(&mut self, repeat: Repeat) {
        self.holds.extend(repeat.hold);
        if self.merge(repeat.table, (&repeat.id, &repeat.routing), repeat.version, repeat.hash)
            == Pushed::Swallowed
        {
            return;
        }
        let id = self.keep(&repeat.id);
        let plain_id = if repeat.plain_id == repeat.id { id.clone() } else { self.keep(&repeat.plain_id) };
        let routing = self.keep(&repeat.routing);
        let start = self.body.len() as u32;
        self.body.extend_from_slice(&repeat.line);
        self.by_hash.insert(repeat.hash, self.entries.len() as u32);
        self.entries.push(Entry {
            kind: EntryKind::Delete,
            table: repeat.table,
            version: repeat.version,
            hash: repeat.hash,
            live: true,
            lines: start..self.body.len() as u32,
            document: start..start,
            id,
            plain_id,
            routing,
            extra: 0,
        });
        self.live += 1;
    }

    /// The deletes of an answered batch for which `due` names a time, to be sent once more then.
    pub(super) fn repeats<T>(&self, body: &SealedBody, due: impl Fn(u64) -> Option<T>) -> Vec<(T, Repeat)> {
        let deletes = self.entries.iter().filter(|e| e.live && e.kind == EntryKind::Delete);
        let repeat = |e: &Entry| Repeat {
            table: e.table,
            version: e.version,
            hash: e.hash,
            id: self.id_of(e).into(),
            plain_id: self.plain_id_of(e).into(),
            routing: self.routing_of(e).into(),
            line: body.0[e.lines.start as usize..e.lines.end as usize].into(),
            hold: None,
        };
        deletes.filter_map(|e| Some((due(e.hash)?, repeat(e)))).collect()
    }

    /// Hashes of the ids that the entries numbered `part` index.
    pub(super) fn indexed<'a>(&'a self, part: &'a [u32]) -> impl Iterator<Item = u64> + 'a {
        part.iter().map(|at| self.entry(*at)).filter(|e| e.kind == EntryKind::Index).map(|e| e.hash)
    }

    fn keep(&mut self, id: &[u8]) -> Range<u32> {
        let start = self.ids.len() as u32;
        self.ids.extend_from_slice(id);
        start..self.ids.len() as u32
    }

    /// Decides a lookup: the current row's document, or a delete where the row is gone or outside the filter.
    pub fn resolve(&mut self, entry: u32, target: &Target, document: Option<&[u8]>) {
        self.replace(entry, target, document.map_or(Change::Delete, Change::Index));
    }

    /// Decides a lookup whose row has no document that could be sent.
    pub fn resolve_refused(&mut self, entry: u32, target: &Target, reason: &str, document: &[u8]) {
        self.replace(entry, target, Change::Refused { reason, document });
    }

    fn replace(&mut self, entry: u32, target: &Target, change: Change<'_>) {
        let old = self.entries[entry as usize].clone();
        self.bury(entry as usize);
        let (id, plain_id) = (self.id_of(&old).to_vec(), self.plain_id_of(&old).to_vec());
        let routing = self.routing_of(&old).to_vec();
        let (version, routing) = (old.version, &routing[..]);
        let action = Action { target, id: &id, plain_id: &plain_id, routing, version, change };
        self.append(&action, old.hash);
    }

    fn bury(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if std::mem::take(&mut entry.live) {
            self.live -= 1;
        }
    }

    fn append(&mut self, action: &Action<'_>, hash: u64) -> u32 {
        let id = self.keep(action.id);
        let plain_id = if action.plain_id == action.id { id.clone() } else { self.keep(action.plain_id) };
        let routing = self.keep(action.routing);
        let start = self.body.len() as u32;
        let (mut document, mut extra) = (start..start, 0);
        let kind = match &action.change {
            Change::Index(json) => {
                self.action_line(&action.target.index_line, action);
                document.start = self.body.len() as u32;
                self.body.extend_from_slice(json);
                document.end = self.body.len() as u32;
                self.body.push(b'\n');
                EntryKind::Index
            }
            Change::Delete => {
                self.action_line(&action.target.delete_line, action);
                EntryKind::Delete
            }
            Change::Lookup(key) => {
                extra = self.lookups.len() as u32;
                self.lookups.push(key.clone());
                EntryKind::Lookup
            }
            Change::Refused { reason, document: json } => {
                extra = self.reasons.len() as u32;
                self.reasons.push((*reason).into());
                document.start = self.ids.len() as u32;
                self.ids.extend_from_slice(json);
                document.end = self.ids.len() as u32;
                EntryKind::Refused
            }
        };
        self.entries.push(Entry {
            kind,
            table: action.target.table,
            version: action.version,
            hash,
            live: true,
            lines: start..self.body.len() as u32,
            document,
            id,
            plain_id,
            routing,
            extra,
        });
        self.live += 1;
        self.highest = self.highest.max(action.version);
        self.entries.len() as u32 - 1
    }

    fn action_line(&mut self, beginning: &[u8], action: &Action<'_>) {
        self.body.extend_from_slice(beginning);
        escape_into(action.id, &mut self.body);
        if !action.routing.is_empty() {
            self.body.extend_from_slice(b"\",\"routing\":\"");
            escape_into(action.routing, &mut self.body);
        }
        self.body.extend_from_slice(b"\",\"version\":");
        self.body.extend_from_slice(itoa::Buffer::new().format(action.version.0).as_bytes());
        self.body.extend_from_slice(b",\"version_type\":\"external_gte\"}}\n");
    }

    /// The highest version in it.
    pub fn highest(&self) -> Version {
        self.highest
    }

    /// Does it hold actions of the stream, and not rows of windows alone?
    pub fn is_streamed(&self) -> bool {
        self.ticket.is_some()
    }

    /// Tables, plain ids and routings of the actions that count.
    pub fn ids(&self) -> impl Iterator<Item = (TableNo, &[u8], &[u8])> {
        self.entries.iter().filter(|e| e.live).map(|e| (e.table, self.plain_id_of(e), self.routing_of(e)))
    }

    /// Numbers of the entries of `kind` that count, in order.
    pub fn live(&self, wanted: impl Fn(EntryKind) -> bool) -> Vec<u32> {
        let numbered = self.entries.iter().zip(0..);
        numbered.filter(|(e, _)| e.live && wanted(e.kind)).map(|(_, at)| at).collect()
    }

    /// Entry number `at`.
    pub fn entry(&self, at: u32) -> &Entry {
        &self.entries[at as usize]
    }

    /// The key that a lookup entry waits for.
    pub fn lookup(&self, entry: &Entry) -> &LookupKey {
        &self.lookups[entry.extra as usize]
    }

    /// Why a refused entry is refused.
    pub fn reason(&self, entry: &Entry) -> &str {
        &self.reasons[entry.extra as usize]
    }

    /// Document id of an entry.
    pub fn id_of(&self, entry: &Entry) -> &[u8] {
        &self.ids[entry.id.start as usize..entry.id.end as usize]
    }

    /// Plain id of an entry.
    pub fn plain_id_of(&self, entry: &Entry) -> &[u8] {
        &self.ids[entry.plain_id.start as usize..entry.plain_id.end as usize]
    }

    /// What routes the document of an entry; empty for its id.
    pub fn routing_of(&self, entry: &Entry) -> &[u8] {
        &self.ids[entry.routing.start as usize..entry.routing.end as usize]
    }

    /// Takes the body out for sending, without what was merged away.
    pub fn seal(&mut self) -> SealedBody {
        if self.entries.iter().any(|e| !e.live && !e.lines.is_empty()) {
            self.compact();
        }
        SealedBody(Bytes::from(std::mem::take(&mut self.body)))
    }

    fn compact(&mut self) {
        let mut to = 0;
        for entry in &mut self.entries {
            if !entry.live {
                entry.lines = 0..0;
                continue;
            }
            let moved = entry.lines.start - to;
            if entry.kind != EntryKind::Refused {
                self.body.copy_within(entry.lines.start as usize..entry.lines.end as usize, to as usize);
                entry.document = entry.document.start - moved..entry.document.end - moved;
            }
            entry.lines = to..entry.lines.end - moved;
            to = entry.lines.end;
        }
        self.body.truncate(to as usize);
    }

    /// The document of an entry, as it stands in `body` (or aside, for a refused one).
    pub fn document_of<'a>(&'a self, entry: &Entry, body: &'a SealedBody) -> &'a [u8] {
        let range = entry.document.start as usize..entry.document.end as usize;
        if entry.kind == EntryKind::Refused { &self.ids[range] } else { &body.0[range] }
    }

    /// Empties the batch for its next use, with the allocation of its body where nobody holds it any more.
    pub fn recycle(&mut self, body: SealedBody) {
        if let Ok(buffer) = body.0.try_into_mut() {
            self.body = Vec::from(buffer);
        }
        self.body.clear();
        self.entries.clear();
        self.ids.clear();
        self.by_hash.clear();
        self.lookups.clear();
        self.reasons.clear();
        self.live = 0;
        self.highest = Version::default();
    }

    /// The body of a request with the entries numbered `part`; all of them cost no copy.
    pub fn request(&self, body: &SealedBody, part: &[u32]) -> Bytes {
        let bytes: usize = part.iter().map(|at| self.entry(*at).lines.len()).sum();
        if bytes == body.0.len() {
            return body.0.clone();
        }
        let mut copy = Vec::with_capacity(bytes);
        for at in part {
            let lines = &self.entry(*at).lines;
            copy.extend_from_slice(&body.0[lines.start as usize..lines.end as usize]);
        }
        Bytes::from(copy)
    }
}

/// The bytes of a batch on their way.
#[derive(Debug)]
pub struct SealedBody(Bytes);

/// The hash of an id is a good hash already.
#[derive(Debug, Default)]
pub(super) struct IdHash(u64);

impl Hasher for IdHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
