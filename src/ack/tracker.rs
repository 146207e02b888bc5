//! The acknowledgement tracker.
//!
//! The acknowledged position is the end of the last commit before the oldest action in flight: contiguous, never a
//! maximum. A batch takes one ticket for the oldest transaction in it and gives it back when every one of its actions
//! is durable in OpenSearch or in the dead letters. A BEGIN without its COMMIT is in flight.

use crate::model::Lsn;
use std::collections::{BTreeMap, VecDeque};

/// Number of a transaction in the order of the stream, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Sequence(u64);

/// The right of a batch to hold the position back.
#[derive(Debug)]
#[must_use = "a ticket that is not given back holds the position for ever"]
pub struct Ticket(Sequence);

/// See the module.
#[derive(Debug)]
pub struct Tracker {
    last: Sequence,
    open: bool,
    /// Ends of commits that are not acknowledged yet, oldest first.
    ends: VecDeque<(Sequence, Lsn)>,
    /// Tickets out, by transaction.
    tickets: BTreeMap<Sequence, usize>,
    newest_ticket: Sequence,
    position: Lsn,
    received: Lsn,
}

impl Tracker {
    /// A tracker for a stream that starts at `position`.
    pub fn new(position: Lsn) -> Self {
        Tracker {
            last: Sequence(0),
            open: false,
            ends: VecDeque::new(),
            tickets: BTreeMap::new(),
            newest_ticket: Sequence(0),
            position,
            received: position,
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
        match self.ends.back_mut() {
            // No ticket was taken in between, so the two ends become due together.
            Some(back) if self.newest_ticket <= back.0 => *back = (self.last, end),
            _ => self.ends.push_back((self.last, end)),
        }
        self.settle();
    }

    /// Takes a ticket for the transaction that is open.
    pub fn ticket(&mut self) -> Ticket {
        *self.tickets.entry(self.last).or_default() += 1;
        self.newest_ticket = self.last;
        Ticket(self.last)
    }

    /// Every action of the ticket's batch is durable.
    pub fn give_back(&mut self, ticket: Ticket) {
        if let Some(count) = self.tickets.get_mut(&ticket.0) {
            *count -= 1;
            if *count == 0 {
                self.tickets.remove(&ticket.0);
            }
        }
        self.settle();
    }

    /// The position that may be acknowledged: every commit that ends at or before it is durable.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// End of the last commit or keepalive received outside a transaction.
    pub fn received(&self) -> Lsn {
        self.received
    }

    /// Is nothing in flight, no open transaction either?
    pub fn is_idle(&self) -> bool {
        !self.open && self.tickets.is_empty()
    }

    fn settle(&mut self) {
        let oldest = self.tickets.keys().next().copied();
        while let Some(&(sequence, end)) = self.ends.front() {
            if oldest.is_some_and(|oldest| oldest <= sequence) {
                return;
            }
            self.position = self.position.max(end);
            self.ends.pop_front();
        }
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
