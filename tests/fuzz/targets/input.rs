//! The bytes of an input as a source of decisions. After its end all numbers are 0 and all texts empty.

/// What is left of the input.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// A number below `end`, which is at most 65,536.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let high = if end > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high | usize::from(self.byte())) % end
    }

    pub(super) fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to 15 bytes; now and then they are repeated, up to a thousand times.
    pub(super) fn text(&mut self) -> Vec<u8> {
        let choice = self.byte();
        let length = usize::from(choice & 15).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        let times = if choice == 0xff { 1 + 4 * usize::from(self.byte()) } else { 1 };
        text.repeat(times)
    }

    /// A value of a column: NULL one time in eight.
    pub(super) fn cell(&mut self) -> Option<Vec<u8>> {
        if self.byte() % 8 == 7 { None } else { Some(self.text()) }
    }
}
