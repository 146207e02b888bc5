//! Random changes of kept inputs.

use crate::rng::Rng;

/// Bytes and texts with a meaning in one of the formats.
const TOKENS: [&[u8]; 30] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b",",
    b";",
    b":",
    b"\"",
    b"\\",
    b"\\\\",
    b"\"\"",
    b"=",
    b"|",
    b"-",
    b"+",
    b".",
    b"\t",
    b"\n",
    b"\0",
    b"\xff",
    b"NULL",
    b"NaN",
    b"empty",
    b" BC",
    b"\\N",
    b"null",
    b"infinity",
    b"99999999999",
];
const LONGEST: usize = 1024;

/// Fills `out` with a changed input of `corpus`, or now and then with random bytes.
pub(crate) fn mutate(corpus: &[Vec<u8>], rng: &mut Rng, out: &mut Vec<u8>) {
    out.clear();
    if rng.chance(5) {
        let length = rng.below(64);
        out.extend((0..length).map(|_| rng.next() as u8));
        return;
    }
    out.extend(pick(corpus, rng));
    for _ in 0..=rng.below(6) {
        change(corpus, rng, out);
    }
    out.truncate(LONGEST);
}

fn change(corpus: &[Vec<u8>], rng: &mut Rng, out: &mut Vec<u8>) {
    let at = rng.below(out.len() as u64 + 1) as usize;
    let end = (at + 1 + rng.below(8) as usize).min(out.len());
    match rng.below(8) {
        0 | 1 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        2 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = rng.next() as u8;
            }
        }
        3 => drop(out.drain(at..end)),
        4 => {
            let copied = out[at..end].to_vec();
            let to = rng.below(out.len() as u64 + 1) as usize;
            out.splice(to..to, copied);
        }
        5 => {
            let other = pick(corpus, rng);
            out.truncate(at);
            out.extend_from_slice(&other[rng.below(other.len() as u64 + 1) as usize..]);
        }
        _ => drop(out.splice(at..at, pick(&TOKENS, rng).iter().copied())),
    }
}

fn pick<'a, T>(items: &'a [T], rng: &mut Rng) -> &'a T {
    &items[rng.below(items.len() as u64) as usize]
}
