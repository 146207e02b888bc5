//! Deletes that wait to be sent once more (**M5**), with what holds the position back until then.

use super::action::TableNo;
use crate::{ack::Hold, model::Version};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// A delete that was answered while its id was in doubt.
#[derive(Clone, Debug)]
pub(super) struct Repeat {
    pub(super) table: TableNo,
    pub(super) version: Version,
    pub(super) hash: u64,
    pub(super) id: Box<[u8]>,
    pub(super) plain_id: Box<[u8]>,
    pub(super) routing: Box<[u8]>,
    /// Its line of the body.
    pub(super) line: Box<[u8]>,
    /// Shared by the repeats of one batch; `None` where no commit waits for it.
    pub(super) hold: Option<Arc<Hold>>,
}

impl Repeat {
    fn bytes(&self) -> usize {
        size_of::<(Instant, Repeat)>()
            + self.id.len()
            + self.plain_id.len()
            + self.routing.len()
            + self.line.len()
    }
}

/// The repeats of one lane, first in, first out: one that is due may wait for one before it, which is as safe.
#[derive(Debug)]
pub(super) struct Repeats {
    queue: VecDeque<(Instant, Repeat)>,
    bytes: usize,
    capacity: usize,
    overflowed: bool,
    /// What is held by repeats for which there was no room: for the rest of the session.
    kept: Option<Arc<Hold>>,
}

impl Repeats {
    /// Room for `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Repeats { queue: VecDeque::new(), bytes: 0, capacity, overflowed: false, kept: None }
    }

    pub(super) fn push(&mut self, due: Instant, repeat: Repeat) {
        self.bytes += repeat.bytes();
        self.overflowed |= self.bytes > self.capacity;
        if self.overflowed {
            self.kept = self.kept.take().into_iter().chain(repeat.hold).min();
        } else {
            self.queue.push_back((due, repeat));
        }
    }

    /// Was there no room? Then some are lost, and what they held stays held: the stream must begin again at the
    /// checkpoint once the doubts have ended.
    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }

    /// The next one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Repeat> {
        if self.next_due()? > now {
            return None;
        }
        let (_, repeat) = self.queue.pop_front()?;
        self.bytes -= repeat.bytes();
        Some(repeat)
    }
}
