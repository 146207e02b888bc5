//! Actions that found their lane full, kept until there is room: at most two, those of one change.

use crate::{
    lanes::{Action, Change, LookupKey, TableNo},
    model::{Version, Xid},
};

/// An owned copy of an action.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) table: TableNo,
    pub(super) id: Vec<u8>,
    pub(super) plain_id: Vec<u8>,
    pub(super) routing: Vec<u8>,
    pub(super) version: Version,
    change: WaitingChange,
    pub(super) xid: Xid,
}

#[derive(Debug)]
enum WaitingChange {
    Index(Vec<u8>),
    Delete,
    Lookup(LookupKey),
    Refused { reason: String, document: Vec<u8> },
}

impl Waiting {
    /// Copies an action of transaction `xid`.
    pub(super) fn new(action: &Action<'_>, xid: Xid) -> Self {
        let change = match &action.change {
            Change::Index(document) => WaitingChange::Index(document.to_vec()),
            Change::Delete => WaitingChange::Delete,
            Change::Lookup(key) => WaitingChange::Lookup(key.clone()),
            Change::Refused { reason, document } => {
                WaitingChange::Refused { reason: (*reason).to_owned(), document: document.to_vec() }
            }
        };
        let (id, plain_id, routing) = (action.id.to_vec(), action.plain_id.to_vec(), action.routing.to_vec());
        Waiting { table: action.target.table, id, plain_id, routing, version: action.version, change, xid }
    }

    /// What happens to the document.
    pub(super) fn change(&self) -> Change<'_> {
        match &self.change {
            WaitingChange::Index(document) => Change::Index(document),
            WaitingChange::Delete => Change::Delete,
            WaitingChange::Lookup(key) => Change::Lookup(key.clone()),
            WaitingChange::Refused { reason, document } => Change::Refused { reason, document },
        }
    }
}
