//! The acknowledgement tracker.
//!
//! The acknowledged position is the end of the last commit before the oldest action in flight: contiguous, never a
//! maximum. A batch takes one ticket for the oldest transaction in it and gives it back when every one of its actions
//! is durable in OpenSearch or in the dead letters. A BEGIN without its COMMIT is in flight. What waits to be repeated
//! after a doubt (**M5**) holds the acknowledged position, but not the answered one.

use crate::model::Lsn;
use std::collections::{BTreeMap, VecDeque};

/// Number of a transaction in the order of the stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Sequence(u64);

/// The right of a batch to hold both positions back until it is answered.
#[derive(Debug)]
#[must_use = "a ticket that is not given back holds the position for ever"]
pub struct Ticket(Sequence);

/// The right of a delete that must be sent once more (**M5**) to hold the acknowledged position back until then.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a hold that is not released holds the position for ever"]
pub struct Hold(Sequence);

/// See the module.
#[derive(Debug)]
pub struct Tracker {
    last: Sequence,
    open: bool,
    received: Lsn,
    /// Every action was answered once.
    answered: Line,
    /// Every action is durable, and no delete of it waits for its repetition.
    durable: Line,
}

/// One contiguous position and what holds it back.
#[derive(Debug)]
struct Line {
    position: Lsn,
    /// Ends of commits past the position, oldest first.
    ends: VecDeque<(Sequence, Lsn)>,
    /// Tickets and holds out, by transaction.
    held: BTreeMap<Sequence, usize>,
    newest: Sequence,
}

impl Line {
    fn new(position: Lsn) -> Self {
        Line { position, ends: VecDeque::new(), held: BTreeMap::new(), newest: Sequence(0) }
    }

    fn passed(&mut self, last: Sequence, end: Lsn) {
        match self.ends.back_mut() {
            // Nothing was taken in between, so the two ends become due together.
            Some(back) if self.newest <= back.0 => *back = (last, end),
            _ => self.ends.push_back((last, end)),
        }
        self.settle();
    }

    fn take(&mut self, sequence: Sequence) {
        *self.held.entry(sequence).or_default() += 1;
        self.newest = self.newest.max(sequence);
    }

    fn give_back(&mut self, sequence: Sequence) {
        if let Some(count) = self.held.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&sequence);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        let oldest = self.held.keys().next().copied();
        while let Some(&(sequence, end)) = self.ends.front() {
            if oldest.is_some_and(|oldest| oldest <= sequence) {
                return;
            }
            self.position = self.position.max(end);
            self.ends.pop_front();
        }
    }
}

impl Tracker {
    /// A tracker for a stream that starts at `position`.
    pub fn new(position: Lsn) -> Self {
        Tracker {
            last: Sequence(0),
            open: false,
            received: position,
            answered: Line::new(position),
            durable: Line::new(position),
        }
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        self.last = Sequence(self.last.0 + 1);
        self.open = true;
    }

    /// The open transaction ends at `end` (COMMIT.end_lsn).
    pub fn commit(&mut self, end: Lsn) {
        self.open = false;
        self.passed(end);
    }

    /// The server has nothing more to send up to `end` (a keepalive's position). Ignored inside a transaction.
    pub fn passed(&mut self, end: Lsn) {
        if self.open || end <= self.received {
            return;
        }
        self.received = end;
        self.answered.passed(self.last, end);
        self.durable.passed(self.last, end);
    }

    /// Takes a ticket for the transaction that is open.
    pub fn ticket(&mut self) -> Ticket {
        self.answered.take(self.last);
        self.durable.take(self.last);
        Ticket(self.last)
    }

    /// Every action of the ticket's batch is durable.
    pub fn give_back(&mut self, ticket: Ticket) {
        let hold = self.answered(ticket);
        self.release(hold);
    }

    /// Every action of the ticket's batch was answered, but a delete of it is to be sent once more.
    pub fn answered(&mut self, ticket: Ticket) -> Hold {
        self.answered.give_back(ticket.0);
        Hold(ticket.0)
    }

    /// The repetition was answered.
    pub fn release(&mut self, hold: Hold) {
        self.durable.give_back(hold.0);
    }

    /// The position that may be acknowledged: every commit that ends at or before it is durable.
    pub fn position(&self) -> Lsn {
        self.durable.position
    }

    /// Every commit that ends at or before it was answered once; repetitions do not count.
    pub fn answered_position(&self) -> Lsn {
        self.answered.position
    }

    /// End of the last commit or keepalive received outside a transaction.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Is nothing in flight or held, no open transaction either?
    pub fn is_idle(&self) -> bool {
        !self.open && self.durable.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_undone_action_holds_its_commit_and_all_later_ones() {
        let mut t = Tracker::new(Lsn(10));
        t.begin();
        let first = t.ticket();
        t.commit(Lsn(20));
        t.begin();
        let second = t.ticket();
        t.commit(Lsn(30));
        t.give_back(second);
        assert_eq!(t.position(), Lsn(10));
        t.passed(Lsn(40));
        assert_eq!(t.position(), Lsn(10));
        t.give_back(first);
        assert_eq!(t.position(), Lsn(40));
        assert!(t.is_idle());
    }

    #[test]
    fn a_begin_without_commit_is_in_flight() {
        let mut t = Tracker::new(Lsn(10));
        t.begin();
        t.passed(Lsn(40));
        let ticket = t.ticket();
        t.give_back(ticket);
        assert_eq!(t.position(), Lsn(10));
        t.commit(Lsn(50));
        assert_eq!(t.position(), Lsn(50));
    }

    #[test]
    fn m5_a_delete_in_doubt_holds_what_may_be_acknowledged_and_not_what_is_answered() {
        let mut t = Tracker::new(Lsn(10));
        t.begin();
        let ticket = t.ticket();
        t.commit(Lsn(20));
        let hold = t.answered(ticket);
        t.passed(Lsn(30));
        assert_eq!((t.position(), t.answered_position()), (Lsn(10), Lsn(30)));
        assert!(!t.is_idle());
        t.release(hold);
        assert_eq!(t.position(), Lsn(30));
        assert!(t.is_idle());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Take,
        Commit,
        Keepalive,
        GiveBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Begin),
            Just(Step::Take),
            Just(Step::Commit),
            Just(Step::Keepalive),
            (0usize..8).prop_map(Step::GiveBack),
        ]
    }

    proptest! {
        /// G1, against a plain list of everything that happened.
        #[test]
        fn g1_the_position_never_passes_an_undone_action_and_reaches_all_that_is_done(
            steps in proptest::collection::vec(step(), 0..200)
        ) {
            let mut t = Tracker::new(Lsn(1));
            let (mut now, mut open) = (1, false);
            // (end of the commit that an action belongs to, if known; tickets held by batches)
            let mut held: Vec<(usize, Ticket)> = vec![];
            let mut commits: Vec<Option<u64>> = vec![];
            let mut received = 1;
            for step in steps {
                now += 1;
                match step {
                    Step::Begin if !open => { t.begin(); commits.push(None); open = true; }
                    Step::Take if open => held.push((commits.len() - 1, t.ticket())),
                    Step::Commit if open => { t.commit(Lsn(now)); *commits.last_mut().unwrap() = Some(now); received = now; open = false; }
                    Step::Keepalive => { t.passed(Lsn(now)); if !open { received = now; } }
                    Step::GiveBack(i) if i < held.len() => t.give_back(held.swap_remove(i).1),
                    _ => {}
                }
                let oldest_undone = held.iter().map(|h| h.0).min();
                // Without an undone action everything received is due; else what ended before its transaction began.
                let bound = oldest_undone.map_or(received, |i| commits[i].map_or(received, |end| end - 1));
                prop_assert!(t.position().0 <= bound, "{} > {}", t.position(), bound);
                if held.is_empty() { prop_assert_eq!(t.position().0, received); }
                if let Some(i) = oldest_undone {
                    let before = commits[..i].iter().flatten().max().copied().unwrap_or(1);
                    prop_assert!(t.position().0 >= before);
                }
            }
        }
    }
}
