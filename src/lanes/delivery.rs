//! What to send next of a batch, and what its answers mean: the retry decisions. Pure; the sender does the waiting.
//!
//! Nothing of a batch is given up silently: an action is done, retried for ever, or buried as a dead letter (G1, G8).

use super::suspicion::{Judgement, Suspicion};
use crate::{
    model::Version,
    sink::{Answer, Outcome},
};
use std::{collections::HashMap, time::Duration};

/// Retries of an item that answers 5xx other than 503, such as that of a failing ingest pipeline.
const SERVER_ERROR_RETRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// An action that will not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burial {
    /// Number of its entry in the batch.
    pub entry: u32,
    /// OpenSearch's error type, or ours.
    pub kind: String,
    /// The reason.
    pub reason: String,
}

/// How bad the news is that a wait goes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It passes by itself: 429, 503, a connection that was cut.
    Passing(String),
    /// It stays until somebody cures it: rights, blocks, a missing index. To be said loudly.
    NeedsCure(String),
}

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send the next part, if there is one.
    Go,
    /// Wait with full jitter up to `at_most`, then send [`Delivery::part`].
    Wait {
        /// Upper end of the wait.
        at_most: Duration,
        /// Why.
        trouble: Trouble,
    },
}

/// The entries of a batch on their way.
#[derive(Debug)]
pub struct Delivery {
    /// Parts that are not answered, the next one last.
    parts: Vec<Part>,
    buried: Vec<Burial>,
    server_errors: HashMap<u32, u32>,
    attempt: u32,
}

#[derive(Debug, Default)]
struct Part {
    entries: Vec<u32>,
    suspicion: Suspicion,
}

impl Delivery {
    /// A delivery of `entries`, in one request at first.
    pub fn new(entries: Vec<u32>) -> Self {
        let whole = Part { entries, ..Part::default() };
        let parts = if whole.entries.is_empty() { vec![] } else { vec![whole] };
        Delivery { parts, buried: vec![], server_errors: HashMap::new(), attempt: 0 }
    }

    /// The entries of the next request; `None` when all are answered.
    pub fn part(&self) -> Option<&[u32]> {
        self.parts.last().map(|part| part.entries.as_slice())
    }

    /// Before [`Delivery::part`] is sent: how long to wait at least, and then until the cluster answers a request without
    /// documents; `None` where nothing is held against the part. Poison must not be taken for a cluster that is down, nor
    /// the other way round.
    pub fn caution(&self) -> Option<Duration> {
        self.parts.last().and_then(|part| part.suspicion.pause(part.entries.len()))
    }

    /// The actions that were given up, for the dead letters; to be made durable before the batch counts as answered.
    pub fn take_buried(&mut self) -> Vec<Burial> {
        std::mem::take(&mut self.buried)
    }

    /// Takes in the answer to the request of [`Delivery::part`]. `highest` is the highest version that this source can
    /// have given: a document above it was written by somebody else and would never follow its row again.
    pub fn on_answer(&mut self, answer: Answer, highest: Version) -> Next {
        let Some(part) = self.parts.pop() else { return Next::Go };
        match answer {
            Answer::AllDone => self.progress(),
            Answer::Items(items) => self.on_items(&part.entries, items, highest),
            Answer::TooLarge => self.split(
                part,
                "too_large",
                "OpenSearch takes no request as large as this document alone (HTTP 413: http.max_content_length or that of a \
                 gateway; HTTP 429: indexing_pressure.memory.limit)",
            ),
            Answer::BadRequest(reason) => self.split(part, "bad_request", &reason),
            Answer::Cut(reason) => self.cut(part, reason),
            Answer::Overloaded(reason) => self.overloaded(part, reason),
            Answer::Credentials(reason) => self.again(part, Trouble::NeedsCure(reason)),
            // An unknown outcome is sent again as it was: same ids, same versions, so twice is once.
            Answer::Busy(reason) | Answer::Unknown(reason) => self.again(part, Trouble::Passing(reason)),
        }
    }

    fn progress(&mut self) -> Next {
        self.attempt = 0;
        Next::Go
    }

    fn again(&mut self, part: Part, trouble: Trouble) -> Next {
        self.parts.push(part);
        self.attempt += 1;
        let at_most = FIRST_WAIT.saturating_mul(1 << self.attempt.min(16)).min(LONGEST_WAIT);
        Next::Wait { at_most, trouble }
    }

    /// Halves the part to find the action that is refused; an action alone is buried.
    fn split(&mut self, part: Part, kind: &str, reason: &str) -> Next {
        match part.entries[..] {
            [entry] => self.bury(entry, kind, reason.to_owned()),
            _ => self.queue_pieces(&part, part.entries.len().div_ceil(2)),
        }
        self.progress()
    }

    fn bury(&mut self, entry: u32, kind: &str, reason: String) {
        self.buried.push(Burial { entry, kind: kind.to_owned(), reason });
    }

    fn queue_pieces(&mut self, part: &Part, actions: usize) {
        let pieces = part.entries.chunks(actions);
        let pieces = pieces.map(|piece| Part { entries: piece.to_vec(), suspicion: part.suspicion });
        self.parts.extend(pieces.rev());
    }

    fn cut(&mut self, mut part: Part, reason: String) -> Next {
        let judgement = part.suspicion.cut(part.entries.len());
        match (judgement, &part.entries[..]) {
            (Judgement::GiveUp, &[entry]) => {
                self.bury(
                    entry,
                    "poison",
                    format!(
                        "nodes or connections ended each time this document was sent, at last alone: {reason}"
                    ),
                );
                self.progress()
            }
            _ => self.again_as(judgement, part, reason),
        }
    }

    fn overloaded(&mut self, mut part: Part, reason: String) -> Next {
        let judgement = part.suspicion.overloaded(part.entries.len());
        self.again_as(judgement, part, reason)
    }

    fn again_as(&mut self, judgement: Judgement, part: Part, reason: String) -> Next {
        let next = self.again(part, Trouble::Passing(reason));
        if let Judgement::Split(actions) = judgement
            && let Some(part) = self.parts.pop()
        {
            self.queue_pieces(&part, actions);
        }
        next
    }

    fn on_items(&mut self, part: &[u32], items: Vec<(usize, Outcome)>, highest: Version) -> Next {
        let (mut again, mut trouble) = (vec![], None);
        let answered_some = items.len() < part.len();
        for (position, outcome) in items {
            let Some(&entry) = part.get(position) else { continue };
            match outcome {
                Outcome::Conflict { current: Some(current) } if current > highest.0 => self.buried.push(Burial {
                    entry,
                    kind: "version_ahead".to_owned(),
                    reason: format!(
                        "the document has version {current}, above {}, the highest that this source can have given: \
                         another program or another source writes into the index",
                        highest.0
                    ),
                }),
                Outcome::Done | Outcome::Conflict { .. } => {}
                Outcome::Retry(reason) | Outcome::Unknown(reason) => {
                    again.push(entry);
                    trouble.get_or_insert(Trouble::Passing(reason));
                }
                Outcome::Target(reason) => {
                    again.push(entry);
                    // The loud one is told, whatever else happened.
                    trouble = Some(Trouble::NeedsCure(reason));
                }
                Outcome::ServerError(reason) => {
                    let tries = self.server_errors.entry(entry).or_default();
                    *tries += 1;
                    if *tries > SERVER_ERROR_RETRIES {
                        self.buried.push(Burial { entry, kind: "server_error".to_owned(), reason });
                    } else {
                        again.push(entry);
                        trouble.get_or_insert(Trouble::Passing(reason));
                    }
                }
                Outcome::Rejected { kind, reason } => self.buried.push(Burial { entry, kind, reason }),
            }
        }
        if answered_some {
            self.attempt = 0;
        }
        match trouble {
            Some(trouble) if !again.is_empty() => {
                self.again(Part { entries: again, ..Part::default() }, trouble)
            }
            _ => self.progress(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const TOP: Version = Version(u64::MAX);

    #[test]
    fn a_conflict_with_a_version_from_ahead_is_no_success() {
        let mut d = Delivery::new(vec![1, 2]);
        let conflict = |v| Outcome::Conflict { current: Some(v) };
        d.on_answer(Answer::Items(vec![(0, conflict(9)), (1, conflict(10))]), Version(9));
        assert_eq!((buried(&mut d), d.part()), (vec![2], None));
    }

    fn buried(d: &mut Delivery) -> Vec<u32> {
        d.take_buried().into_iter().map(|b| b.entry).collect()
    }

    #[test]
    fn only_what_is_not_done_is_sent_again() {
        let mut d = Delivery::new(vec![3, 5, 8]);
        let items = vec![(0, Outcome::Conflict { current: Some(9) }), (2, Outcome::Retry("429".into()))];
        assert!(matches!(
            d.on_answer(Answer::Items(items), TOP),
            Next::Wait { trouble: Trouble::Passing(_), .. }
        ));
        assert_eq!(d.part(), Some(&[8][..]));
        assert_eq!(d.on_answer(Answer::AllDone, TOP), Next::Go);
        assert_eq!((buried(&mut d), d.part()), (vec![], None));
    }

    #[test]
    fn a_refused_document_is_buried_and_its_neighbours_are_done() {
        let mut d = Delivery::new(vec![1, 2]);
        let rejected = Outcome::Rejected { kind: "mapper_parsing_exception".into(), reason: "x".into() };
        assert_eq!(d.on_answer(Answer::Items(vec![(1, rejected)]), TOP), Next::Go);
        assert_eq!((buried(&mut d), d.part()), (vec![2], None));
    }

    #[test]
    fn a_cause_in_the_target_is_retried_for_ever_and_told_loudly() {
        let mut d = Delivery::new(vec![1, 2]);
        for _ in 0..1000 {
            let items = vec![(0, Outcome::Retry("429".into())), (1, Outcome::Target("403".into()))];
            let next = d.on_answer(Answer::Items(items), TOP);
            assert!(
                matches!(&next, Next::Wait { trouble: Trouble::NeedsCure(r), at_most } if r == "403" && *at_most <= LONGEST_WAIT)
            );
        }
        assert!(buried(&mut d).is_empty());
    }

    #[test]
    fn a_busy_cluster_gets_smaller_requests_for_ever() {
        let mut d = Delivery::new((0..4).collect());
        for _ in 0..1000 {
            let next = d.on_answer(Answer::Overloaded("429".into()), TOP);
            assert!(matches!(next, Next::Wait { at_most, .. } if at_most <= LONGEST_WAIT));
        }
        assert_eq!((d.part(), d.caution()), (Some(&[0][..]), None));
        let mut sent = vec![];
        while let Some(part) = d.part() {
            sent.extend_from_slice(part);
            d.on_answer(Answer::AllDone, TOP);
        }
        assert_eq!((sent, buried(&mut d)), ((0..4).collect(), vec![]));
    }

    #[test]
    fn a_server_error_that_stays_ends_as_a_dead_letter() {
        let mut d = Delivery::new(vec![4]);
        for _ in 0..SERVER_ERROR_RETRIES {
            d.on_answer(Answer::Items(vec![(0, Outcome::ServerError("500".into()))]), TOP);
            assert_eq!(d.part(), Some(&[4][..]));
        }
        d.on_answer(Answer::Items(vec![(0, Outcome::ServerError("500".into()))]), TOP);
        assert_eq!((buried(&mut d), d.part()), (vec![4], None));
    }

    proptest! {
        #[test]
        fn poison_ends_few_nodes_and_only_it_is_given_up(
            count in 1u32..2000, poison in proptest::collection::btree_set(0u32..2000, 0..3)
        ) {
            let poison: BTreeSet<u32> = poison.into_iter().filter(|p| *p < count).collect();
            let mut d = Delivery::new((0..count).collect());
            let (mut done, mut cuts) = (BTreeSet::new(), 0);
            while let Some(part) = d.part() {
                let part = part.to_vec();
                if part.iter().any(|e| poison.contains(e)) {
                    cuts += 1;
                    d.on_answer(Answer::Cut("reset".into()), TOP);
                } else {
                    done.extend(part);
                    d.on_answer(Answer::AllDone, TOP);
                }
            }
            let buried: BTreeSet<u32> = buried(&mut d).into_iter().collect();
            prop_assert_eq!(&buried, &poison);
            prop_assert_eq!(done.union(&buried).count(), count as usize);
            prop_assert!(cuts <= 6 * poison.len(), "{} nodes ended", cuts);
        }

        #[test]
        fn a_refused_request_is_split_until_the_culprits_are_alone(
            count in 1u32..60, culprits in proptest::collection::btree_set(0u32..60, 0..5), too_large: bool
        ) {
            let culprits: BTreeSet<u32> = culprits.into_iter().filter(|c| *c < count).collect();
            let mut d = Delivery::new((0..count).collect());
            let mut done = BTreeSet::new();
            while let Some(part) = d.part() {
                let part = part.to_vec();
                let answer = if part.iter().any(|e| culprits.contains(e)) {
                    if too_large { Answer::TooLarge } else { Answer::BadRequest("x".into()) }
                } else {
                    done.extend(part);
                    Answer::AllDone
                };
                prop_assert_eq!(d.on_answer(answer, TOP), Next::Go);
            }
            let buried: BTreeSet<u32> = buried(&mut d).into_iter().collect();
            prop_assert_eq!(&buried, &culprits);
            prop_assert_eq!(done.union(&buried).count(), count as usize);
        }
    }
}
