//! Delivery: one task per lane takes batches, decides their lookups, sends them until everything is answered, buries
//! what cannot be applied, and only then lets the position move (G1).

use super::{
    error::PipelineError, high::HighMark, letters::Letters, lookups::Lookups, memory::Memory,
    progress::Progress, reader::StreamState, tables::Tables,
};
use crate::{
    lanes::{Batch, Burial, Delivery, EntryKind, Lanes, Next, SealedBody, Trouble},
    map::key_of_plain,
    model::{Epochs, Lsn, ORDINAL_HELD, Version},
    sink::{ActionKind, Answer, Client, DeadLetter, Outcome},
};
use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often a trouble that stays is said again.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// What the senders of all lanes share.
pub struct Deliverer {
    /// The lanes.
    pub lanes: Arc<Lanes>,
    /// The tables.
    pub tables: Arc<Tables>,
    /// OpenSearch.
    pub client: Client,
    /// Where refused actions go.
    pub letters: Letters,
    /// Current rows.
    pub lookups: Lookups,
    /// Does every target stand behind an alias?
    pub require_alias: bool,
    /// Counters.
    pub progress: Arc<Progress>,
    /// Epochs of the versions.
    pub epochs: Epochs,
    /// The highest version that this source is known to have given.
    pub highest_version: AtomicU64,
    /// **M7**.
    pub high: Arc<HighMark>,
    /// The session that holds the slot; `None` without a stream.
    pub stream: Option<Arc<StreamState>>,
    /// Where the ids are noted.
    pub memory: Arc<Memory>,
}

impl Deliverer {
    /// Sends the batches of lane `number` until `stop`.
    ///
    /// # Errors
    /// Too many documents are refused; nothing more is sent.
    pub async fn run(&self, number: usize, stop: &CancellationToken) -> Result<(), PipelineError> {
        let mut said = Said::default();
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                batch = self.lanes.next_batch(number) => batch,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                delivered = self.deliver(number, batch, &mut said) => {
                    let (batch, body) = delivered?;
                    self.lanes.answered(number, batch, body);
                }
            }
        }
    }

    async fn deliver(
        &self,
        lane: usize,
        mut batch: Batch,
        said: &mut Said,
    ) -> Result<(Batch, SealedBody), PipelineError> {
        let mut attempt = 0;
        let looked_up = loop {
            match self.lookups.resolve(&mut batch).await {
                Ok(read) => break read,
                Err(error) => {
                    said.trouble(lane, &Trouble::Passing(format!("a lookup by key failed: {error}")));
                    attempt += 1;
                    pause(attempt).await;
                }
            }
        };
        let highest = content_of(&batch, looked_up, &self.epochs);
        if batch.is_streamed() {
            self.memory.lock().journal.write(highest, batch.ids());
        }
        self.high.cover(highest).await;
        let body = batch.seal();
        let refused = batch.live(|kind| kind == EntryKind::Refused).into_iter().map(|entry| Burial {
            entry,
            kind: "refused_by_pg2os".to_owned(),
            reason: batch.reason(batch.entry(entry)).to_owned(),
        });
        self.bury(lane, &batch, &body, refused.collect(), said).await?;

        let mut delivery =
            Delivery::new(batch.live(|kind| matches!(kind, EntryKind::Index | EntryKind::Delete)));
        let mut refused = vec![];
        while let Some(part) = delivery.part() {
            let request = batch.request(&body, part);
            let actions = part.len();
            if let Some(pause) = delivery.caution() {
                tokio::time::sleep(pause).await;
                self.until_it_answers(lane, said).await;
            }
            while self.stream.as_ref().is_some_and(|stream| !stream.holds_slot()) {
                // The reader finds out, and this session ends.
                tokio::time::sleep(FIRST_WAIT).await;
            }
            let is_delete = |i: usize| batch.entry(part[i]).kind == EntryKind::Delete;
            let answer = self.client.bulk(request, actions, is_delete, self.require_alias).await;
            self.progress.answered(&answer, actions);
            let doubtful = answer.doubtful(part);
            if !doubtful.is_empty() {
                self.lanes.doubt(lane, &batch, &doubtful, Instant::now());
            }
            let highest = self.highest_version(&answer).await;
            let next = delivery.on_answer(answer, highest);
            let buried = delivery.take_buried();
            refused.extend(buried.iter().map(|burial| burial.entry));
            self.bury(lane, &batch, &body, buried, said).await?;
            match next {
                Next::Go => said.cured(lane),
                Next::Wait { at_most, trouble } => {
                    said.trouble(lane, &trouble);
                    jitter(at_most).await;
                }
            }
        }
        let target = |at: u32| &self.tables.get(batch.entry(at).table).target;
        self.letters.resolve(&batch, target, &refused).await;
        Ok((batch, body))
    }

    /// Waits until OpenSearch answers a request without documents.
    async fn until_it_answers(&self, lane: usize, said: &mut Said) {
        let mut attempt = 0;
        while let Err(error) = self.client.info().await {
            said.trouble(lane, &Trouble::Passing(error.to_string()));
            attempt += 1;
            pause(attempt).await;
        }
    }

    /// The highest version that this source can have given by now; asked anew only where a conflict lies above.
    async fn highest_version(&self, answer: &Answer) -> Version {
        let known = Version(self.highest_version.load(Ordering::Relaxed));
        let Answer::Items(items) = answer else { return known };
        let ahead =
            |outcome: &Outcome| matches!(outcome, Outcome::Conflict { current: Some(v) } if *v > known.0);
        if !items.iter().any(|(_, outcome)| ahead(outcome)) {
            return known;
        }
        let mut attempt = 0;
        loop {
            let position = self.lookups.insert_position().await;
            let epochs = self.high.epochs_now().await;
            match position.map(|lsn| epochs.version(lsn, ORDINAL_HELD)) {
                Ok(Ok(version)) => {
                    self.highest_version.fetch_max(version.0, Ordering::Relaxed);
                    return version;
                }
                Ok(Err(error)) => tracing::error!(%error, "no version for the server's position"),
                Err(error) => tracing::warn!(%error, "the server's position could not be read; trying again"),
            }
            attempt += 1;
            pause(attempt).await;
        }
    }

    /// Makes dead letters durable; until then the batch is not answered.
    ///
    /// # Errors
    /// There are too many.
    async fn bury(
        &self,
        lane: usize,
        batch: &Batch,
        body: &SealedBody,
        burials: Vec<Burial>,
        said: &mut Said,
    ) -> Result<(), PipelineError> {
        if burials.is_empty() {
            return Ok(());
        }
        let letters: Vec<DeadLetter> =
            burials.iter().map(|burial| self.letter(batch, body, burial)).collect();
        self.letters.admit(&letters)?;
        for letter in &letters {
            tracing::warn!(
                index = letter.index,
                id = letter.id,
                error = letter.error_type,
                reason = letter.reason,
                "a document was refused and is kept as a dead letter"
            );
        }
        let mut attempt = 0;
        while let Err(error) = self.letters.write(&letters).await {
            let trouble = format!("a dead letter cannot be written, so the position does not move: {error}");
            said.trouble(lane, &Trouble::NeedsCure(trouble));
            attempt += 1;
            pause(attempt).await;
        }
        self.progress.buried(letters.len() as u64);
        Ok(())
    }

    fn letter(&self, batch: &Batch, body: &SealedBody, burial: &Burial) -> DeadLetter {
        let entry = batch.entry(burial.entry);
        let table = self.tables.get(entry.table);
        let columns = &table.spec.id;
        let key = key_of_plain(batch.plain_id_of(entry), columns.len()).unwrap_or_default();
        DeadLetter {
            index: table.target.index.clone(),
            id: String::from_utf8_lossy(batch.id_of(entry)).into_owned(),
            routing: Some(String::from_utf8_lossy(batch.routing_of(entry)).into_owned())
                .filter(|routing| !routing.is_empty()),
            table: table.schema.name.to_string(),
            key: columns.iter().cloned().zip(key).collect(),
            action: if entry.kind == EntryKind::Delete { ActionKind::Delete } else { ActionKind::Index },
            version: entry.version,
            error_type: burial.kind.clone(),
            reason: burial.reason.clone(),
            body: batch.document_of(entry, body).to_vec(),
        }
    }
}

/// A position above the content of `batch`, for which was read what lies at or below `looked_up` (**M7**).
pub fn content_of(batch: &Batch, looked_up: Lsn, epochs: &Epochs) -> Lsn {
    epochs.position(batch.highest()).map_or(Lsn::ZERO, Lsn::past_first_byte).max(looked_up)
}

/// Full jitter: somewhere between nothing and `at_most`, so that lanes do not come back together.
async fn jitter(at_most: Duration) {
    tokio::time::sleep(at_most.mul_f64(fraction())).await;
}

/// A fraction in 0 to 1 that differs between calls; nothing depends on its quality.
fn fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(Instant::now()) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Waits before try number `attempt`, growing.
pub(super) async fn pause(attempt: u32) {
    jitter(FIRST_WAIT.saturating_mul(1 << attempt.min(16)).min(LONGEST_WAIT)).await;
}

/// What a lane has already said about its trouble, so that it is said once and then every half minute.
#[derive(Debug, Default)]
struct Said {
    last: HashMap<String, Instant>,
}

impl Said {
    fn trouble(&mut self, lane: usize, trouble: &Trouble) {
        let (Trouble::Passing(reason) | Trouble::NeedsCure(reason)) = trouble;
        if self.last.get(reason).is_some_and(|at| at.elapsed() < SAY_AGAIN) {
            return;
        }
        self.last.retain(|_, at| at.elapsed() < SAY_AGAIN);
        self.last.insert(reason.clone(), Instant::now());
        match trouble {
            Trouble::Passing(_) => say_warning(lane, reason),
            Trouble::NeedsCure(_) => tracing::error!(
                lane,
                reason,
                "OpenSearch refuses every document for a cause in the target; nothing is lost, the lane waits until it is cured"
            ),
        }
    }

    fn cured(&mut self, lane: usize) {
        if !self.last.is_empty() {
            self.last.clear();
            tracing::info!(lane, "OpenSearch takes documents again");
        }
    }
}

fn say_warning(lane: usize, reason: &dyn Display) {
    tracing::warn!(lane, %reason, "OpenSearch did not take a batch; it is sent again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{Action, Change, TableNo, Target};

    #[test]
    fn m7_the_content_of_a_batch_lies_past_the_beginning_of_its_last_commit() {
        let (target, epochs) = (Target::new(TableNo(0), "t"), Epochs::default());
        let mut batch = Batch::default();
        assert_eq!(content_of(&batch, Lsn(40), &epochs), Lsn(40));
        let version = epochs.version(Lsn(64), 3).unwrap();
        let (target, id, change) = (&target, &b"1"[..], Change::Delete);
        batch.push(&Action { target, id, plain_id: id, routing: b"", version, change }, 1);
        // A timeline that forks at 64 has lost the commit whose record begins there.
        assert!(content_of(&batch, Lsn(40), &epochs) > Lsn(64));
        assert_eq!(content_of(&batch, Lsn(80), &epochs), Lsn(80));
    }
}
