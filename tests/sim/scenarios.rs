//! The scenarios: which faults and changes a schedule has, and which rules are missed in which of them.

use crate::{
    opensearch::Faults,
    postgres::Workload,
    rules::{ALL, Rules},
};
use pg2os::map::Numbering;

/// What may happen in a schedule; chances in 1000 steps.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub steps: usize,
    pub workload: Workload,
    pub faults: Faults,
    /// The process dies.
    pub crash: usize,
    /// … while it reads windows.
    pub crash_in_windows: usize,
    /// The session is lost and the process stays.
    pub lose_session: usize,
    /// START fails, in 1000 of them.
    pub no_start: usize,
    /// Another instance takes the slot.
    pub takeover: usize,
    /// It stops in order.
    pub stop: usize,
    /// PostgreSQL fails over, losing commits.
    pub failover: usize,
    /// … right after a floor was taken.
    pub failover_at_floor: usize,
    /// … to a standby that gives its timeline the number of this one.
    pub twin: usize,
    /// … and sometimes the slot.
    pub lose_slot: bool,
    /// OpenSearch forgets the versions of deleted documents.
    pub forget: usize,
    /// A request is executed late.
    pub late: usize,
    /// Time passes.
    pub tick: usize,
    /// A process that died was only paused: what it had queued is sent as well.
    pub pause: bool,
    /// The configuration changes at a crash.
    pub reconfigure: bool,
    /// The table is read in windows; else it is live from the beginning.
    pub windows: bool,
    /// The index has documents that are to be swept.
    pub old_documents: bool,
    /// A backfill runs beside the live process.
    pub job: bool,
    /// Bytes for deletes that wait to be repeated.
    pub repeat_bytes: usize,
}

const PLAIN: Workload = Workload { big: false, toast: true, truncate: 0, open: 3 };
const NO_FAULTS: Faults = Faults { unknown: 0, refused: 0 };

/// Windows, without faults.
const QUIET: Scenario = Scenario {
    steps: 220,
    workload: PLAIN,
    faults: NO_FAULTS,
    crash: 0,
    crash_in_windows: 0,
    lose_session: 0,
    no_start: 0,
    takeover: 0,
    stop: 0,
    failover: 0,
    failover_at_floor: 0,
    twin: 0,
    lose_slot: false,
    forget: 0,
    late: 40,
    tick: 20,
    pause: false,
    reconfigure: false,
    windows: true,
    old_documents: false,
    job: false,
    repeat_bytes: 1 << 16,
};
const STREAM: Scenario = Scenario { windows: false, ..QUIET };
const FAULTS: Faults = Faults { unknown: 200, refused: 60 };
const BIG: Workload = Workload { big: true, ..PLAIN };
const TRUNCATE: Workload = Workload { truncate: 10, ..PLAIN };
const EVERYTHING: Workload = Workload { big: true, toast: true, truncate: 10, open: 3 };
/// Windows and a sweep, with all faults of OpenSearch and of the process.
const FULL: Scenario = Scenario {
    faults: FAULTS,
    crash: 8,
    crash_in_windows: 16,
    lose_session: 4,
    stop: 4,
    forget: 80,
    tick: 40,
    old_documents: true,
    ..QUIET
};
const STREAM_FULL: Scenario = Scenario { windows: false, old_documents: false, ..FULL };

/// With all rules, none of these goes wrong.
pub const GOOD: [(&str, Scenario); 26] = [
    ("quiet", QUIET),
    ("deletes forgotten", Scenario { forget: 80, ..QUIET }),
    ("stream", STREAM_FULL),
    ("stream, large transactions", Scenario { workload: BIG, ..STREAM_FULL }),
    ("stream, little memory", Scenario { repeat_bytes: 400, ..STREAM_FULL }),
    ("windows and sweep", FULL),
    ("windows and sweep, large transactions", Scenario { workload: BIG, ..FULL }),
    ("windows and sweep, paused instances", Scenario { pause: true, ..FULL }),
    ("truncate", Scenario { workload: EVERYTHING, pause: true, ..STREAM_FULL }),
    ("truncate, windows", Scenario { workload: TRUNCATE, pause: true, ..FULL }),
    ("failover, stream", Scenario { failover: 8, ..STREAM_FULL }),
    ("failover, windows", Scenario { failover: 8, failover_at_floor: 100, ..FULL }),
    (
        "failover, everything",
        Scenario { failover: 8, lose_slot: true, workload: EVERYTHING, pause: true, ..FULL },
    ),
    ("reconfigured", Scenario { crash: 15, reconfigure: true, workload: EVERYTHING, ..STREAM_FULL }),
    (
        "reconfigured, windows, failover",
        Scenario { crash: 15, failover: 4, reconfigure: true, workload: BIG, ..FULL },
    ),
    ("much in doubt", Scenario { workload: EVERYTHING, ..DOUBT }),
    ("much in doubt, windows", Scenario { workload: EVERYTHING, crash: 20, ..DOUBT_WINDOWS }),
    ("read again after failovers", Scenario { workload: EVERYTHING, ..RESYNC }),
    ("failover at a floor", STALLED),
    ("two timelines with one number", TWINS),
    ("two instances", Scenario { takeover: 15, pause: true, workload: EVERYTHING, ..STREAM_FULL }),
    ("two instances, failover, stream", INSTANCES),
    (
        "two instances, failover, everything",
        Scenario { windows: true, old_documents: true, lose_slot: true, workload: EVERYTHING, ..INSTANCES },
    ),
    ("a Job, then failovers", JOB_FAILOVER),
    ("a Job beside windows", Scenario { job: true, ..FULL }),
    ("a Job beside the stream", JOB),
];

/// Much stays unknown for long, and deletes are forgotten at once.
const DOUBT: Scenario = Scenario {
    faults: Faults { unknown: 300, refused: 0 },
    crash: 10,
    crash_in_windows: 20,
    lose_session: 4,
    forget: 200,
    late: 15,
    tick: 12,
    pause: true,
    windows: false,
    ..QUIET
};
const DOUBT_WINDOWS: Scenario = Scenario { windows: true, ..DOUBT };
/// Failovers that lose the slot as well, so that all is read again.
const RESYNC: Scenario =
    Scenario { failover: 12, tick: 6, lose_slot: true, old_documents: true, steps: 300, ..DOUBT_WINDOWS };
/// OpenSearch takes next to nothing, and PostgreSQL fails over when a floor was taken.
const STALLED: Scenario = Scenario {
    faults: Faults { unknown: 0, refused: 900 },
    workload: BIG,
    failover: 4,
    failover_at_floor: 600,
    ..QUIET
};
/// Standbys that are promoted one after the other, and never heard of each other.
const TWINS: Scenario =
    Scenario { failover: 6, twin: 6, lose_session: 8, pause: true, workload: EVERYTHING, ..FULL };
/// Instances that take the slot from one another, and remember what they did.
const INSTANCES: Scenario =
    Scenario { takeover: 15, no_start: 100, failover: 8, crash: 2, pause: true, steps: 300, ..STREAM_FULL };
const JOB_FAILOVER: Scenario =
    Scenario { job: true, failover: 8, lose_session: 10, crash: 2, steps: 400, ..STREAM_FULL };
const JOB: Scenario = Scenario { job: true, crash: 0, crash_in_windows: 0, lose_session: 0, ..DOUBT };

/// With one rule off, each of these goes wrong.
pub const BAD: [(&str, Rules, Scenario); 26] = [
    ("M1 merge", Rules { merge: false, ..ALL }, QUIET),
    ("M2 guard only above the window", Rules { guard_above: false, ..ALL }, FULL),
    ("M3 guard what is not seen", Rules { guard_unseen: false, ..ALL }, Scenario { forget: 200, ..QUIET }),
    (
        "M4 held ordinals are looked up",
        Rules { held_lookup: false, ..ALL },
        Scenario { workload: BIG, ..STREAM_FULL },
    ),
    ("M5 repeat deletes in doubt", Rules { repeat: false, ..ALL }, DOUBT),
    ("M5 repeat after taking the slot", Rules { repeat_after_start: false, ..ALL }, DOUBT),
    (
        "M5 repeat after a session that did not begin",
        Rules { repeat_after_no_start: false, ..ALL },
        Scenario { crash: 20, no_start: 500, ..DOUBT },
    ),
    ("M5 the checkpoint waits", Rules { hold: false, ..ALL }, DOUBT),
    ("M6 the sweep waits", Rules { sweep_horizon: false, ..ALL }, RESYNC),
    (
        "M6 the sweep sees everything",
        Rules { refresh: false, ..ALL },
        Scenario { workload: TRUNCATE, ..FULL },
    ),
    ("M7 high", Rules { high: false, ..ALL }, Scenario { failover: 8, ..STREAM_FULL }),
    ("M8 floors are in high", Rules { high_floor: false, ..ALL }, STALLED),
    ("M7 what a Job wrote", Rules { high_beside: false, ..ALL }, JOB_FAILOVER),
    ("M7 what others streamed", Rules { high_own: false, ..ALL }, INSTANCES),
    ("timelines are told by where they began", Rules { timeline_began: false, ..ALL }, TWINS),
    ("M9 a Job reads again", Rules { reread: false, ..ALL }, Scenario { forget: 200, job: true, ..STREAM }),
    ("M9 after the horizon", Rules { reread_horizon: false, ..ALL }, JOB),
    (
        "M11 ordinal of a TRUNCATE",
        Rules { truncate_ordinal: false, ..ALL },
        Scenario { workload: EVERYTHING, ..STREAM },
    ),
    (
        "M11 TRUNCATE is repeated",
        Rules { truncate_repeat: false, ..ALL },
        Scenario {
            workload: Workload { truncate: 3, open: 1, ..PLAIN },
            faults: Faults { unknown: 200, refused: 500 },
            crash: 2,
            crash_in_windows: 20,
            late: 10,
            tick: 4,
            steps: 400,
            ..DOUBT_WINDOWS
        },
    ),
    (
        "M12 fingerprint",
        Rules { fingerprint: false, ..ALL },
        Scenario { crash: 30, reconfigure: true, workload: BIG, ..STREAM_FULL },
    ),
    (
        "M13 lookups keep their place",
        Rules { lookup_order: false, ..ALL },
        Scenario { forget: 300, workload: Workload { open: 1, ..PLAIN }, steps: 300, ..STREAM },
    ),
    ("the floor's barrier", Rules { barrier: false, ..ALL }, QUIET),
    ("the ordinal", Rules { ordinal: false, ..ALL }, Scenario { faults: FAULTS, workload: BIG, ..STREAM }),
    ("acknowledging too early", Rules { contiguous: false, ..ALL }, Scenario { crash: 15, ..QUIET }),
    ("an epoch for a new timeline", Rules { epoch: false, ..ALL }, Scenario { failover: 8, ..STREAM }),
    ("a lookup sees its transaction", Rules { lookup_sees: false, ..ALL }, STREAM),
];

/// How changes are numbered in either configuration: tiny, so that ordinals are held often.
pub fn numbering(configuration: u8) -> Numbering {
    match configuration {
        0 => Numbering { direct: 2, bucket_bits: 1, counted: 3 },
        _ => Numbering { direct: 1, bucket_bits: 2, counted: 2 },
    }
}
