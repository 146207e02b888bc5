//! The rules of the design, each of which can be switched off where the simulation drives the code that keeps it.

/// True: the rule is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// **M1** The highest version of an id stays in a batch. Off: the last action.
    pub merge: bool,
    /// **M2** Only deletes above the window's version are guarded against. Off: all.
    pub guard_above: bool,
    /// **M3** Deletes are guarded against until the snapshot sees them. Off: those since the window was opened.
    pub guard_unseen: bool,
    /// **M4** An action with the held ordinal is decided by lookup. Off: by its event.
    pub held_lookup: bool,
    /// **M5** A delete of an id in doubt is repeated.
    pub repeat: bool,
    /// **M5** … and every delete for a while after the slot was taken.
    pub repeat_after_start: bool,
    /// **M5** … also where the session that took it did not begin.
    pub repeat_after_no_start: bool,
    /// **M5** The checkpoint waits for the repetition.
    pub hold: bool,
    /// **M6** The sweep waits for the horizon.
    pub sweep_horizon: bool,
    /// **M6** The index is refreshed before it is listed.
    pub refresh: bool,
    /// **M7** A fork is compared with the highest written position. Off: with the checkpoint.
    pub high: bool,
    /// **M8** Floors count for that position.
    pub high_floor: bool,
    /// **M7** … and not below what a Job wrote.
    pub high_beside: bool,
    /// **M7** What a process knows of it counts where no other has streamed since. Off: always.
    pub high_own: bool,
    /// Timelines are told apart by where they began, and by where their log ends. Off: by their number.
    pub timeline_began: bool,
    /// **M9** A Job reads its keys again.
    pub reread: bool,
    /// **M9** … after the horizon.
    pub reread_horizon: bool,
    /// **M11** A TRUNCATE has an ordinal.
    pub truncate_ordinal: bool,
    /// **M11** … and is repeated like any delete.
    pub truncate_repeat: bool,
    /// **M12** After another numbering, commits that may be in the index are held.
    pub fingerprint: bool,
    /// **M13** An action that waits for its lookup keeps its place.
    pub lookup_order: bool,
    /// The floor: a burned transaction id is waited for. Off: the snapshot's xmax.
    pub barrier: bool,
    /// The ordinal of a version.
    pub ordinal: bool,
    /// Nothing is acknowledged before it is done.
    pub contiguous: bool,
    /// A new epoch begins where a timeline forked.
    pub epoch: bool,
    /// A lookup waits for a snapshot that sees its transaction.
    pub lookup_sees: bool,
}

pub const ALL: Rules = Rules {
    merge: true,
    guard_above: true,
    guard_unseen: true,
    held_lookup: true,
    repeat: true,
    repeat_after_start: true,
    repeat_after_no_start: true,
    hold: true,
    sweep_horizon: true,
    refresh: true,
    high: true,
    high_floor: true,
    high_beside: true,
    high_own: true,
    timeline_began: true,
    reread: true,
    reread_horizon: true,
    truncate_ordinal: true,
    truncate_repeat: true,
    fingerprint: true,
    lookup_order: true,
    barrier: true,
    ordinal: true,
    contiguous: true,
    epoch: true,
    lookup_sees: true,
};
