//! Is a document to blame when requests with it are never answered (poison), or refused for their size? Pure.
//!
//! A document can end the node that reads it (a 700-deep `flat_object` is a StackOverflowError), and would end one node
//! after the other for as long as it is sent. A cut connection looks the same. So a part that was cut twice is sent piece
//! by piece, which is harmless where nothing is wrong with it, and ends few nodes where something is; an action alone is
//! given up only after cuts that lie so far apart, each with a cluster that answered just before, that a network that fails
//! for a while is not mistaken for it.

use std::time::Duration;

/// Cuts after which a part is sent piece by piece.
const CUTS: u32 = 2;
/// Pieces of a part: two splits leave one action of 10,000, so poison ends two nodes on the way, not fourteen.
const PIECES: usize = 100;
/// Cuts of an action alone, after that of its piece, after which it is given up.
const CUTS_ALONE: u32 = 3;
/// Least wait between the cuts of an action alone.
const PAUSE_ALONE: Duration = Duration::from_secs(10);
/// Refusals for load after which a part is halved: smaller ones may pass.
const REFUSALS: u32 = 3;

/// What is held against a part of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Suspicion {
    cuts: u32,
    refusals: u32,
}

/// What to do with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Send it again as it was.
    Again,
    /// Send it in pieces of at most so many actions, each under the suspicion that stays.
    Split(usize),
    /// Give its only action up.
    GiveUp,
}

impl Suspicion {
    /// The connection ended with a request of `actions` actions in it.
    pub(super) fn cut(&mut self, actions: usize) -> Judgement {
        self.cuts += 1;
        match actions {
            1 if self.cuts > CUTS_ALONE => Judgement::GiveUp,
            1 => Judgement::Again,
            _ if self.cuts >= CUTS => {
                // One more cut splits the piece.
                self.cuts = CUTS - 1;
                Judgement::Split(actions.div_ceil(PIECES))
            }
            _ => Judgement::Again,
        }
    }

    /// A request of `actions` actions was refused because the cluster has no room for it now.
    pub(super) fn overloaded(&mut self, actions: usize) -> Judgement {
        self.refusals += 1;
        if actions == 1 || self.refusals < REFUSALS {
            return Judgement::Again;
        }
        self.refusals = 0;
        Judgement::Split(actions.div_ceil(2))
    }

    /// How long to wait before a part of `actions` actions is sent, at least, and then until the cluster answers; `None`
    /// for one that is not suspected.
    pub(super) fn pause(self, actions: usize) -> Option<Duration> {
        match self.cuts {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(if actions == 1 { PAUSE_ALONE } else { Duration::ZERO }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_twice_is_sent_in_pieces_and_one_action_alone_is_given_up_after_long_waits() {
        use Judgement::*;
        for (actions, expected) in [
            (10_000, &[Again, Split(100), Split(100), Split(100)][..]),
            (100, &[Again, Split(1)]),
            (2, &[Again, Split(1)]),
            (1, &[Again, Again, Again, GiveUp]),
        ] {
            let mut suspicion = Suspicion::default();
            assert_eq!(suspicion.pause(actions), None);
            for expected in expected {
                assert_eq!(suspicion.cut(actions), *expected, "{actions}");
                assert!(suspicion.pause(actions).is_some(), "the cluster must answer before the next try");
            }
        }
        // Alone, with the cut of its piece: the second and the third wait are long.
        let mut alone = Suspicion { cuts: 1, refusals: 0 };
        let pauses: Vec<_> = (0..3).map(|_| (alone.pause(1), alone.cut(1)).0).collect();
        assert_eq!(pauses, [Some(Duration::ZERO), Some(PAUSE_ALONE), Some(PAUSE_ALONE)]);
    }

    #[test]
    fn what_is_refused_for_load_gets_smaller_and_is_never_given_up() {
        use Judgement::*;
        let mut suspicion = Suspicion::default();
        let judgements: Vec<_> = (0..6).map(|_| suspicion.overloaded(7)).collect();
        assert_eq!(judgements, [Again, Again, Split(4), Again, Again, Split(4)]);
        assert!((0..1000).all(|_| suspicion.overloaded(1) == Again));
        assert_eq!(suspicion.pause(1), None);
    }
}
