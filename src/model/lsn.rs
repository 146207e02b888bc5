//! A position in the write-ahead log.

use std::{fmt, str::FromStr};

/// A log sequence number: a byte position in the write-ahead log of one timeline.
///
/// Printed and parsed as PostgreSQL's `pg_lsn` (`16/B374D848`; docs: "pg_lsn Type").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// A position past the first byte of the record here: a timeline that forks at the record has lost it.
    pub fn past_first_byte(self) -> Lsn {
        Lsn(self.0.saturating_add(1))
    }

    /// `0/0`, which PostgreSQL never uses for a record ("invalid").
    pub const ZERO: Lsn = Lsn(0);

    /// Bytes from `earlier` to this position; 0 where `earlier` is ahead.
    pub fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 as u32)
    }
}

/// The text is not a `pg_lsn`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log position; write it as PostgreSQL prints it, for example 16/B374D848")]
pub struct InvalidLsn(String);

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let invalid = || InvalidLsn(text.to_owned());
        let part = |s: &str| {
            if s.is_empty() || s.len() > 8 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            u64::from_str_radix(s, 16).map_err(|_| invalid())
        };
        let (high, low) = text.split_once('/').ok_or_else(invalid)?;
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_lsn_survives_printing_and_parsing(n: u64) {
            prop_assert_eq!(Lsn(n).to_string().parse::<Lsn>(), Ok(Lsn(n)));
        }
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for text in ["", "/", "1", "1/", "/1", "G/0", "1/123456789", "+1/0", "1/0/0", " 1/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }
}
