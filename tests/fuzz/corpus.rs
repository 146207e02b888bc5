//! The kept corpus: `corpus/NAME.txt`, an input a line, in the escapes of a Rust byte string.

use std::path::Path;

/// The inputs of the target `name`.
pub(crate) fn read(name: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fuzz/corpus/{name}.txt"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.lines().map(unescape).collect()
}

/// `input` as a line of the file.
pub(crate) fn line(input: &[u8]) -> String {
    input.escape_ascii().to_string()
}

fn unescape(line: &str) -> Vec<u8> {
    let (mut input, mut rest) = (vec![], line.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, length) = match (byte, after.first()) {
            (b'\\', Some(b'n')) => (b'\n', 1),
            (b'\\', Some(b'r')) => (b'\r', 1),
            (b'\\', Some(b't')) => (b'\t', 1),
            (b'\\', Some(b'x')) => {
                (u8::from_str_radix(&line[line.len() - after.len()..][1..3], 16).unwrap(), 3)
            }
            (b'\\', Some(&escaped)) => (escaped, 1),
            _ => (byte, 0),
        };
        input.push(byte);
        rest = &after[length..];
    }
    input
}

#[test]
fn every_byte_survives_the_file() {
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(unescape(&line(&all)), all);
}
