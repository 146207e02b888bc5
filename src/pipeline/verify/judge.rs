//! What really differs, in a system that is never still.
//!
//! A candidate is looked at: its row in a snapshot, then, when the stream has passed that, its document. A difference
//! counts where two looks found the same row, and the same document at the same version, and they differ. Between the looks
//! a floor is taken, and the second one sees every commit at or before it: a commit is streamed before it is visible, so
//! without that a document could be ahead of both looks.
//!
//! Why that is enough: had the document been right for a commit after the first look, and the row the same in the second, a
//! later commit would have put the row back; the stream had passed that one too, and the document would have its version.

use super::compare::{Candidate, Comparison, REFUSED};
use crate::{
    model::{Lsn, Version},
    pipeline::{
        error::PipelineError,
        keys::{self, KEYS, RowReader},
    },
    sink::StateStore,
    source::{self, floor, slot},
};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use tokio_postgres::Client;

/// Looks at what keeps moving.
const LOOKS: usize = 6;
const POLL: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(30);
/// An instance that streamed a moment ago is about to come back.
const COMES_BACK: Duration = Duration::from_secs(15);

/// How row and document differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The row has no document.
    Missing,
    /// The document has no row.
    Extra,
    /// The document is not that of its row.
    Stale,
    /// The document is kept as a dead letter, or the row cannot have one.
    DeadLetter,
}

/// A row and its document, as they were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Digest of the row's document.
    row: Option<u64>,
    document: Option<(u64, Version)>,
}

impl Look {
    fn is_equal(self) -> bool {
        self.row == self.document.map(|(digest, _)| digest)
    }

    fn kind(self) -> Kind {
        match (self.row, self.document) {
            (Some(REFUSED), _) => Kind::DeadLetter,
            (Some(_), None) => Kind::Missing,
            (None, _) => Kind::Extra,
            (Some(_), Some(_)) => Kind::Stale,
        }
    }
}

/// What became of candidates.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// What differs, and at which version the document is.
    pub(super) differ: Vec<(Candidate, Kind, Version)>,
    /// What did not stand still for long enough.
    pub(super) moving: u64,
}

/// How far the stream is, of whoever streams.
pub(super) struct Stream {
    pub(super) state: Option<StateStore>,
    pub(super) control: Client,
    pub(super) slot: String,
    /// Does somebody stream?
    pub(super) live: AtomicBool,
}

impl Stream {
    /// Does somebody stream, as far as was seen?
    pub(super) fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    /// Waits until everything up to `lsn` is in the indices, for as long as somebody streams.
    ///
    /// # Errors
    /// One of the servers.
    async fn passed(&self, lsn: Lsn) -> Result<(), PipelineError> {
        let Some(state) = self.state.as_ref().filter(|_| self.is_live()) else { return Ok(()) };
        let (mut told, mut seen) = (Instant::now(), Instant::now());
        loop {
            let at = state.checkpoint().await?.map_or(Lsn::ZERO, |stored| stored.record.lsn);
            if at >= lsn {
                return Ok(());
            }
            let slot = slot::find(&self.control, &self.slot).await?;
            if slot.is_some_and(|slot| slot.active) {
                seen = Instant::now();
            } else if seen.elapsed() > COMES_BACK {
                tracing::warn!("nobody streams any more: what the slot has not sent counts as behind");
                self.live.store(false, Ordering::Relaxed);
                return Ok(());
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                tracing::info!(wanted = %lsn, %at, "waiting until the stream has passed what was read");
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Comparison<'_> {
    /// Tells which of `candidates` really differ.
    ///
    /// # Errors
    /// One of the servers.
    pub(super) async fn judge(
        &self,
        mut candidates: Vec<Candidate>,
        stream: &Stream,
    ) -> Result<Verdict, PipelineError> {
        let mut verdict = Verdict::default();
        let mut before: Vec<Look> = vec![];
        for look in 0..LOOKS {
            if candidates.is_empty() {
                break;
            }
            if look > 0 {
                let floor = floor::take_floor(&stream.control).await?;
                floor::wait_until_visible(self.reader, floor.burned).await?;
            }
            let looks = self.look(&mut candidates, stream).await?;
            let (mut left, mut kept) = (vec![], vec![]);
            for (at, (candidate, look)) in candidates.into_iter().zip(looks).enumerate() {
                if self.is_right(look) {
                } else if before.get(at) == Some(&look) {
                    let version = look.document.map_or(Version(0), |(_, version)| version);
                    verdict.differ.push((candidate, look.kind(), version));
                } else {
                    left.push(candidate);
                    kept.push(look);
                }
            }
            (candidates, before) = (left, kept);
        }
        verdict.moving = candidates.len() as u64;
        Ok(verdict)
    }

    /// Documents that nobody would have deleted are right without a row.
    fn is_right(&self, look: Look) -> bool {
        let stays = |version: Version| self.table.append_only || !self.table.may_delete(version);
        match (look.row, look.document) {
            (None, Some((_, version))) => stays(version),
            _ => look.is_equal(),
        }
    }

    async fn look(&self, candidates: &mut [Candidate], stream: &Stream) -> Result<Vec<Look>, PipelineError> {
        let mut looks = vec![Look::default(); candidates.len()];
        self.find_keys(candidates).await?;
        let with_key: Vec<usize> =
            (0..candidates.len()).filter(|at| candidates[*at].plain.is_some()).collect();
        for chunk in with_key.chunks(KEYS) {
            let plain: Vec<&[u8]> = chunk.iter().filter_map(|at| candidates[*at].plain.as_deref()).collect();
            let (_, lines) = keys::rows_of(self.reader, self.table, &plain).await?;
            let rows = self.digests(&lines)?;
            for at in chunk {
                looks[*at].row = rows.get(&candidates[*at].place()).copied();
            }
        }
        let end = source::position::log_end(&stream.control).await?.insert;
        floor::wait_flushed_up_to(&stream.control, end).await?;
        stream.passed(end).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (chunk, looks) in candidates.chunks(KEYS).zip(looks.chunks_mut(KEYS)) {
            let ids: Vec<(String, String)> = chunk.iter().map(|c| (text(&c.id), text(&c.routing))).collect();
            let ids: Vec<(&str, &str)> = ids.iter().map(|(id, routing)| (&**id, &**routing)).collect();
            let documents = self.client.documents(self.index, &ids).await?;
            for (look, (candidate, document)) in looks.iter_mut().zip(chunk.iter().zip(documents)) {
                // Of two routings to one shard, the last one counts.
                let here = document.filter(|d| d.routing.as_bytes() == candidate.routing);
                look.document = here.map(|d| (self.digest(&candidate.id, d.source()), d.version));
            }
        }
        Ok(looks)
    }

    /// Finds the keys of ids that are not keys, by listing those of the whole table.
    async fn find_keys(&self, candidates: &mut [Candidate]) -> Result<(), PipelineError> {
        let mut unknown = vec![];
        for (at, candidate) in candidates.iter_mut().enumerate().filter(|(_, c)| c.plain.is_none()) {
            match keys::plain_of_id(self.table, &candidate.id) {
                Some(plain) => candidate.plain = Some(plain.to_vec()),
                None => unknown.push(at),
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let ids = unknown.iter().map(|at| &candidates[*at].id[..]);
        let found: HashMap<Vec<u8>, Vec<u8>> = keys::plain_of_ids(self.reader, self.table, ids)
            .await?
            .into_iter()
            .map(|(id, plain)| (id.to_vec(), plain))
            .collect();
        for at in unknown {
            candidates[at].plain = found.get(&candidates[at].id).cloned();
        }
        Ok(())
    }

    /// The digests of the documents of COPY lines, by what stands for id and routing.
    fn digests(&self, lines: &[bytes::Bytes]) -> Result<HashMap<u64, u64>, PipelineError> {
        let (table, columns) = (self.table, self.table.schema.columns.len());
        let (mut reader, mut document) = (RowReader::default(), vec![]);
        let mut digests = HashMap::new();
        for line in lines {
            let RowReader { decoder, ids } = &mut reader;
            let row = decoder.decode(line, columns).map_err(|e| keys::bad(table, &e.to_string()))?;
            table.plan.write_id(&row, ids).map_err(|_| keys::bad(table, "a key column is missing"))?;
            document.clear();
            let made = table.plan.write_fitting_document(&row, self.max_document_bytes, &mut document);
            let digest = if made.is_ok() { self.digest(&ids.id, &document) } else { REFUSED };
            digests.insert(super::compare::place(&ids.id, &ids.routing), digest);
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_says_how_row_and_document_differ() {
        let document = |digest| Some((digest, Version(7)));
        for (row, found, expected) in [
            (Some(5), document(5), None),
            (None, None, None),
            (Some(5), None, Some(Kind::Missing)),
            (Some(5), document(6), Some(Kind::Stale)),
            (None, document(6), Some(Kind::Extra)),
            (Some(REFUSED), None, Some(Kind::DeadLetter)),
        ] {
            let look = Look { row, document: found };
            assert_eq!((!look.is_equal()).then(|| look.kind()), expected);
        }
    }
}
