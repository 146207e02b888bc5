//! Tables and properties of `wire`: whatever arrives, in whatever pieces.

use super::*;
use proptest::prelude::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Feeds `bytes` in pieces of at most `piece` and collects the messages.
fn feed(buffer: &mut Buffer, mut bytes: &[u8], piece: usize) -> Result<Vec<(u8, Vec<u8>)>, SourceError> {
    let mut messages = Vec::new();
    loop {
        while let Some(message) = buffer.next()? {
            messages.push((message.tag, buffer.body(&message).to_vec()));
        }
        if bytes.is_empty() {
            return Ok(messages);
        }
        let room = buffer.room();
        assert!(room.len() >= ROOM.min(piece));
        let n = room.len().min(piece).min(bytes.len());
        room[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        buffer.received(n);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn messages_survive_any_cut(
        sizes in prop::collection::vec(prop_oneof![0_usize..300, 200_000_usize..700_000], 0..12),
        piece in 1_usize..400_000,
    ) {
        let sent: Vec<(u8, Vec<u8>)> =
            sizes.iter().enumerate().map(|(i, size)| (b'a' + i as u8, vec![i as u8; *size])).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let mut buffer = Buffer::new(STREAM_LIMIT);
        let piece = if bytes.len() > 100_000 { piece.max(1000) } else { piece };
        prop_assert_eq!(feed(&mut buffer, &bytes, piece).unwrap(), sent);
        buffer.room();
        prop_assert_eq!(buffer.bytes.len(), NORMAL, "shrunk");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_wait_for_more(bytes: Vec<u8>, piece in 1_usize..64) {
        let mut buffer = Buffer::new(STREAM_LIMIT);
        if let Err(error) = feed(&mut buffer, &bytes, piece) {
            prop_assert!(matches!(error, SourceError::Protocol(_)));
        }
        prop_assert!(buffer.bytes.len() <= NORMAL);
    }

    #[test]
    fn bodies_of_any_bytes_never_panic(body: Vec<u8>) {
        let _ = Frame::parse(&body);
        let _ = data_row(&body);
        let _ = server_error(&body);
    }

    #[test]
    fn frames_that_look_right_are_parsed(start: u64, data: Vec<u8>, reply: bool) {
        let mut body = vec![b'w'];
        body.extend_from_slice(&start.to_be_bytes());
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&data);
        prop_assert_eq!(Frame::parse(&body).unwrap(), Frame::Change { start: Lsn(start), data: &data });
        let mut body = vec![b'k'];
        body.extend_from_slice(&start.to_be_bytes());
        body.extend_from_slice(&[0; 8]);
        body.push(u8::from(reply));
        prop_assert_eq!(Frame::parse(&body).unwrap(), Frame::Keepalive { end: Lsn(start), reply_requested: reply });
    }
}

#[test]
fn memory_follows_what_has_arrived() {
    let mut buffer = Buffer::new(STREAM_LIMIT);
    let mut bytes = vec![b'd'];
    bytes.extend_from_slice(&(1_u32 << 30).to_be_bytes());
    assert_eq!(feed(&mut buffer, &bytes, 5).unwrap(), []);
    buffer.room();
    assert_eq!(buffer.bytes.len(), NORMAL, "the announced GiB is not allocated");
    feed(&mut buffer, &vec![0; 1 << 20], 1 << 20).unwrap();
    assert!(buffer.bytes.len() <= 4 << 20);
}

#[test]
fn lengths_outside_the_bounds_are_errors() {
    for (limit, length, good) in [
        (LOGIN_LIMIT, 3, false),
        (LOGIN_LIMIT, 0, false),
        (LOGIN_LIMIT, u32::MAX, false),
        (LOGIN_LIMIT, LOGIN_LIMIT as u32 + 1, false),
        (LOGIN_LIMIT, LOGIN_LIMIT as u32, true),
        (STREAM_LIMIT, 1 << 30, true),
        (STREAM_LIMIT, STREAM_LIMIT as u32 + 1, false),
    ] {
        let mut bytes = vec![b'd'];
        bytes.extend_from_slice(&length.to_be_bytes());
        assert_eq!(feed(&mut Buffer::new(limit), &bytes, 5).is_ok(), good, "{limit} {length}");
    }
}

#[test]
fn malformed_bodies_are_errors() {
    for body in [&b""[..], b"x", b"w", b"w1234567812345678123456", b"k", b"k1234567812345678"] {
        assert!(matches!(Frame::parse(body), Err(SourceError::Protocol(_))), "{body:?}");
    }
    for body in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0\0\0\x02a", b"\0\x02\0\0\0\x01a"] {
        assert!(matches!(data_row(body), Err(SourceError::Protocol(_))), "{body:?}");
    }
    let row = data_row(b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0").unwrap();
    assert_eq!(row, [Some("ab".into()), None, Some(String::new())]);
}

#[test]
fn an_error_response_is_read_field_by_field() {
    let error = server_error(b"SFATAL\0C28P01\0Mno \xff entry\0Dd\0Hh\0\0");
    assert_eq!((error.sqlstate.as_str(), error.message.as_str()), ("28P01", "no \u{fffd} entry"));
    assert_eq!((error.detail.as_deref(), error.hint.as_deref()), (Some("d"), Some("h")));
    assert_eq!(server_error(b"C08006").sqlstate, "");
}

#[test]
fn a_status_has_the_documented_form() {
    let bytes = status(Lsn(3), Lsn(2), true);
    assert_eq!(bytes[..6], *b"d\0\0\0\x26r");
    assert_eq!(bytes[6..14], 3_u64.to_be_bytes());
    assert_eq!(bytes[14..22], 2_u64.to_be_bytes());
    assert_eq!(bytes[22..30], 2_u64.to_be_bytes());
    assert!(u64::from_be_bytes(bytes[30..38].try_into().unwrap()) > 800_000_000_000_000);
    assert_eq!(bytes[38], 1);
}

#[test]
fn names_are_quoted_twice() {
    let command = start_command("s", Lsn(16), &["MyPub".into(), "a,\"b'\\".into()]);
    let names = "'\"MyPub\",\"a,\"\"b''\\\"'";
    assert_eq!(
        command,
        format!("START_REPLICATION SLOT \"s\" LOGICAL 0/10 (proto_version '1', publication_names {names})")
    );
}
