//! The source of all chance: the same seed gives the same schedule.

/// xorshift64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            rng.below(7);
        }
        rng
    }

    /// A number from 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    /// True in `n` of 1000 cases.
    pub fn per_mille(&mut self, n: usize) -> bool {
        n > 0 && self.below(1000) < n
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}
