//! Lanes as a session makes them by default, an intake into them, and a consumer that drops every body.

use crate::row;
use pg2os::{
    ack::Tracker,
    lanes::{Batch, EntryKind, LaneLimits, Lanes},
    model::{Epochs, Lsn, TypeCatalog, Xid},
    pipeline::intake::Intake,
};
use std::{error::Error, sync::Arc, time::Duration};

const LIMITS: LaneLimits = LaneLimits {
    lanes: 4,
    batch_bytes: 1 << 20,
    batch_actions: 10_000,
    flush_after: Duration::from_millis(5),
    guarded_deletes: 0,
    repeat_bytes: 0,
    horizon: Duration::ZERO,
};

/// The lanes of a stream from `position`, and what fills them.
pub(crate) fn intake(position: Lsn) -> Result<(Arc<Lanes>, Intake), Box<dyn Error>> {
    let lanes = Arc::new(Lanes::new(LIMITS, Tracker::new(position), false, None));
    let tables = Arc::new(row::tables()?);
    let near = Xid(1000);
    let intake = Intake::new(
        tables,
        lanes.clone(),
        Epochs::default(),
        TypeCatalog::new(),
        near,
        Lsn::ZERO,
        20_000_000,
    );
    Ok((lanes, intake))
}

/// Makes the request of a batch as its sender would, and answers it at once; returns the bytes of the request.
pub(crate) fn drop_body(lanes: &Lanes, number: usize, mut batch: Batch) -> usize {
    let body = batch.seal();
    let part = batch.live(|kind| matches!(kind, EntryKind::Index | EntryKind::Delete));
    let bytes = batch.request(&body, &part).len();
    lanes.answered(number, batch, body);
    bytes
}
