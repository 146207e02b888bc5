//! Keys that stand more than once in a json object: valid in PostgreSQL's json, refused by OpenSearch.

use super::json::scan;
use std::{borrow::Cow, cell::RefCell, ops::Range};
use twox_hash::XxHash3_64;

/// A member of an object that is open or just closed.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Of the key, its escapes undone.
    hash: u64,
    /// Offset of the key; the next member's is right behind the comma.
    at: usize,
    /// Bytes of the key, with its quotes.
    length: usize,
}

impl Member {
    fn key(self, value: &[u8]) -> &[u8] {
        value.get(self.at..self.at + self.length).unwrap_or_default()
    }
}

/// Reused between values.
#[derive(Debug, Default)]
struct Scratch {
    /// Members of all open objects, the innermost last.
    members: Vec<Member>,
    /// Where the members of each open object begin; `None` for an array.
    open: Vec<Option<usize>>,
    removed: Vec<Range<usize>>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Removes all but the last member of each key from the objects of `out[start..]`, which has no blanks.
pub(super) fn remove(start: usize, out: &mut Vec<u8>) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.find(&out[start..]);
        cut(&mut scratch.removed, start, out);
    });
}

impl Scratch {
    fn find(&mut self, value: &[u8]) {
        let Scratch { members, open, removed } = self;
        members.clear();
        open.clear();
        removed.clear();
        let mut string = None;
        scan(value, |at, token| match token[0] {
            b'{' => open.push(Some(members.len())),
            b'[' => open.push(None),
            b':' => {
                if let (Some(Some(_)), Some((key, at))) = (open.last(), string.take()) {
                    members.push(Member { hash: XxHash3_64::oneshot(&unescape(key)), at, length: key.len() });
                }
            }
            b'}' | b']' => {
                if let Some(Some(first)) = open.pop() {
                    find_in(value, &mut members[first..], removed);
                    members.truncate(first);
                }
            }
            _ => string = Some((token, at)),
        });
    }
}

/// Notes every member of one object that is followed by another of its key.
fn find_in(value: &[u8], members: &mut [Member], removed: &mut Vec<Range<usize>>) {
    members.sort_unstable_by_key(|m| (m.hash, m.at));
    let same = |a: &Member, b: &Member| a.hash == b.hash && unescape(a.key(value)) == unescape(b.key(value));
    let repeated = members.windows(2).filter(|pair| same(&pair[0], &pair[1]));
    let mut repeated: Vec<usize> = repeated.map(|pair| pair[0].at).collect();
    if repeated.is_empty() {
        return;
    }
    repeated.sort_unstable();
    members.sort_unstable_by_key(|m| m.at);
    let up_to_next = members.windows(2).map(|pair| pair[0].at..pair[1].at);
    removed.extend(up_to_next.filter(|member| repeated.binary_search(&member.start).is_ok()));
}

/// Takes ranges, which may lie inside each other, out of `out[start..]`.
fn cut(removed: &mut [Range<usize>], start: usize, out: &mut Vec<u8>) {
    removed.sort_unstable_by_key(|range| range.start);
    let (mut read, mut write) = (start, start);
    for range in removed.iter() {
        let (from, to) = (start + range.start, start + range.end);
        if from < read {
            continue;
        }
        out.copy_within(read..from, write);
        write += from - read;
        read = to;
    }
    let end = out.len();
    out.copy_within(read..end, write);
    out.truncate(write + end - read);
}

/// A key without its quotes and escapes. Half of a surrogate pair, which is no character, has a form of its own.
fn unescape(key: &[u8]) -> Cow<'_, [u8]> {
    let key = key.strip_prefix(b"\"").unwrap_or(key);
    let key = key.strip_suffix(b"\"").unwrap_or(key);
    if memchr::memchr(b'\\', key).is_none() {
        return Cow::Borrowed(key);
    }
    let mut out = vec![];
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, after)) = after.split_first() else { break };
        rest = after;
        match escape {
            b'u' => rest = unicode(rest, &mut out),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Appends what stands behind `\u` and returns what follows.
fn unicode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let unit = |text: &[u8]| u32::from_str_radix(std::str::from_utf8(text.get(..4)?).ok()?, 16).ok();
    let Some(first) = unit(text) else { return text };
    let rest = &text[4..];
    let second = rest.strip_prefix(b"\\u").and_then(unit).filter(|low| (0xdc00..0xe000).contains(low));
    let (code, rest) = match second {
        Some(low) if (0xd800..0xdc00).contains(&first) => {
            (0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00), &rest[6..])
        }
        _ => (first, rest),
    };
    match char::from_u32(code) {
        Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        // No UTF-8 begins with this byte.
        None => out.extend_from_slice(&[0xff, (code >> 8) as u8, code as u8]),
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn removed(text: &str) -> String {
        let mut out = b"before".to_vec();
        out.extend_from_slice(text.as_bytes());
        remove(6, &mut out);
        String::from_utf8(out.split_off(6)).unwrap()
    }

    #[test]
    fn the_last_of_each_key_stays() {
        for (text, expected) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"a":1,"b":2,"a":3,"a":4,"c":5}"#, r#"{"b":2,"a":4,"c":5}"#),
            (
                r#"{"a":{"x":1,"x":2},"a":{"y":[{"z":1,"z":2}],"y":[{"z":3,"z":[{"a":1}]}]}}"#,
                r#"{"a":{"y":[{"z":[{"a":1}]}]}}"#,
            ),
            (r#"{"a":1,"\u0061":2,"\u00e9":3,"é":4}"#, r#"{"\u0061":2,"é":4}"#),
            (r#"{"\ud83d\ude00":1,"😀":2,"\ud83d":3,"\ude00":4}"#, r#"{"😀":2,"\ud83d":3,"\ude00":4}"#),
            (r#"{"\n\/\"":1,"\u000a/\u0022":2}"#, r#"{"\u000a/\u0022":2}"#),
            (r#"[{"a":"a"},{"a":["b","a"]}]"#, r#"[{"a":"a"},{"a":["b","a"]}]"#),
            (r#"{"":1,"":2}"#, r#"{"":2}"#),
            ("{}", "{}"),
            ("1", "1"),
        ] {
            assert_eq!(removed(text), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_json_never_panics() {
        proptest!(|(text in "[{}\\[\\]\",:\\\\ud8a0 ]{0,24}")| { removed(&text); });
    }

    proptest! {
        /// serde_json too takes the last.
        #[test]
        fn nothing_else_is_changed(members in proptest::collection::vec(("[ab\\\\n]{0,2}", "[a-c\\]}{]{0,3}"), 0..6)) {
            let members = members.iter().map(|(k, v)| format!("{}:{{\"x\":1,\"x\":{v:?}}}", serde_json::json!(k)));
            let text = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
            let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            let out = removed(&text);
            prop_assert_eq!(parse(&out), parse(&text));
            prop_assert_eq!(out.len(), parse(&out).to_string().len());
        }
    }
}
