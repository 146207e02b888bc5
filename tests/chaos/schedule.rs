//! What goes wrong when: made of the seed alone.

use crate::support::rng::Rng;
use std::{collections::BTreeSet, time::Duration};

/// One of the two sides of pg2os.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// PostgreSQL.
    Postgres,
    /// OpenSearch.
    OpenSearch,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9 of pg2os; it is started again.
    KillPg2os,
    /// SIGTERM of pg2os; it is started again.
    EndPg2os,
    /// SIGSTOP of pg2os for a while.
    PausePg2os,
    /// pg_terminate_backend of every connection of pg2os.
    TerminateBackends,
    /// kill -9 of its walsender, after which PostgreSQL restarts all of its processes.
    KillWalsender,
    /// SIGSTOP of its walsender for a while.
    PauseWalsender,
    /// kill -9 of the postmaster; it is started again.
    KillPostmaster,
    /// SIGSTOP of the postmaster, which takes no new connections, for a while.
    PausePostmaster,
    /// kill -9 of OpenSearch, all nodes of it; it is started again.
    KillOpenSearch,
    /// SIGSTOP of OpenSearch, all nodes of it, for a while.
    PauseOpenSearch,
    /// kill -9 of one node of three; it is started again.
    KillNode(u8),
    /// SIGSTOP of one node of three, sometimes until the others do without it.
    PauseNode(u8),
    /// All connections of one side are cut.
    Cut(Side),
    /// They are cut again and again for a while.
    CutOften(Side),
    /// Nothing goes through for a while.
    Stall(Side),
    /// The connections that there are stay silent for ever; new ones work.
    HalfOpen(Side),
    /// Everything is late for a while.
    Slow(Side),
    /// Bulk requests are refused with this status for a while.
    Refuse(u16),
    /// The whole cluster is read-only for a while.
    Block,
    /// The slot is dropped.
    DropSlot,
}

/// A fault of the schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Time since the fault before is over.
    pub(crate) after: Duration,
    /// What goes wrong.
    pub(crate) fault: Fault,
    /// How long, where it lasts.
    pub(crate) lasts: Duration,
}

/// The schedule of `seed`, for a cluster of three nodes or a single one.
pub(crate) fn schedule(seed: u64, is_cluster: bool) -> Vec<Event> {
    let mut rng = Rng::new(seed, 1000);
    let count = 3 + rng.below(4);
    (0..count)
        .map(|_| Event {
            after: Duration::from_millis(rng.below(2500)),
            fault: if is_cluster && rng.chance(50) { fault_of_node(&mut rng) } else { fault(&mut rng) },
            lasts: Duration::from_millis(200 + rng.below(3000)),
        })
        .collect()
}

fn fault_of_node(rng: &mut Rng) -> Fault {
    let node = 1 + rng.below(3) as u8;
    if rng.chance(30) { Fault::KillNode(node) } else { Fault::PauseNode(node) }
}

fn fault(rng: &mut Rng) -> Fault {
    let side = if rng.chance(50) { Side::Postgres } else { Side::OpenSearch };
    match rng.below(100) {
        0..16 => Fault::KillPg2os,
        16..20 => Fault::EndPg2os,
        20..26 => Fault::PausePg2os,
        26..32 => Fault::TerminateBackends,
        32..38 => Fault::KillWalsender,
        38..42 => Fault::PauseWalsender,
        42..48 => Fault::KillPostmaster,
        48..50 => Fault::PausePostmaster,
        // It takes its time to start.
        50..53 => Fault::KillOpenSearch,
        53..58 => Fault::PauseOpenSearch,
        58..66 => Fault::Cut(side),
        66..73 => Fault::CutOften(side),
        73..78 => Fault::Stall(side),
        78..83 => Fault::HalfOpen(side),
        83..87 => Fault::Slow(side),
        87..92 => Fault::Refuse(if rng.chance(50) { 429 } else { 503 }),
        92..95 => Fault::Block,
        _ => Fault::DropSlot,
    }
}

#[test]
fn a_seed_repeats_its_schedule_and_every_fault_comes_up() {
    for (is_cluster, count) in [(false, 24), (true, 30)] {
        assert_eq!(format!("{:?}", schedule(7, is_cluster)), format!("{:?}", schedule(7, is_cluster)));
        let all = (0..300).flat_map(|seed| schedule(seed, is_cluster));
        let kinds: BTreeSet<String> = all.map(|event| format!("{:?}", event.fault)).collect();
        assert_eq!(kinds.len(), count, "{kinds:?}");
    }
}
