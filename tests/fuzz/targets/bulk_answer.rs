//! Bulk answers: nothing is believed to be done that the answer does not say, item by item (guarantee G1).

use super::input::Input;
use pg2os::sink::{Answer, Outcome, read_bulk_answer};
use serde_json::{Value, json};

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let status = [200, 200, 200, 400, 401, 404, 413, 429, 500, 503, 0, 65_535][input.below(12)];
    let actions = input.below(6);
    let deletes = input.byte();
    let is_delete = |i: usize| deletes >> (i % 8) & 1 == 1;
    if input.byte() & 1 == 0 {
        check(status, input.0, actions, is_delete);
        return;
    }
    let items: Vec<Value> = (0..actions).map(|i| item(&mut input, is_delete(i))).collect();
    let errors = items
        .iter()
        .any(|item| item.as_object().is_some_and(|i| i.values().any(|f| f["error"] != Value::Null)));
    let body = json!({"took": 3, "errors": errors, "items": items}).to_string();
    check(status, body.as_bytes(), actions, is_delete);
    check(200, body.as_bytes(), input.below(6), |i| !is_delete(i));
    let cut = &body.as_bytes()[..input.below(65_536) % body.len()];
    assert!(matches!(read_bulk_answer(200, cut, actions, is_delete), Answer::Unknown(_)));
}

fn check(status: u16, body: &[u8], actions: usize, is_delete: impl Fn(usize) -> bool + Copy) {
    match read_bulk_answer(status, body, actions, is_delete) {
        Answer::AllDone => {
            let done = plainly_done(status, body, actions, is_delete);
            assert!(done.is_some_and(|done| done.iter().all(|d| *d)), "{}", String::from_utf8_lossy(body));
        }
        Answer::Items(others) => {
            let done = plainly_done(status, body, actions, is_delete).unwrap();
            let told: Vec<usize> = others.iter().map(|(i, _)| *i).collect();
            let expected: Vec<usize> = (0..actions).filter(|i| !done[*i]).collect();
            assert_eq!(told, expected, "{}", String::from_utf8_lossy(body));
            assert!(others.iter().all(|(_, outcome)| *outcome != Outcome::Done));
        }
        Answer::TooLarge => assert!(matches!(status, 413 | 429)),
        Answer::BadRequest(_) => assert_eq!(status, 400),
        Answer::Credentials(_) => assert!((300..500).contains(&status)),
        Answer::Busy(_) => assert_eq!(status, 503),
        Answer::Overloaded(_) => assert_eq!(status, 429),
        Answer::Cut(_) => assert!(matches!(status, 500 | 502)),
        Answer::Unknown(_) => {}
    }
}

/// For each action, does the answer say that it is done? `None` where it is no answer to these actions.
fn plainly_done(
    status: u16,
    body: &[u8],
    actions: usize,
    is_delete: impl Fn(usize) -> bool,
) -> Option<Vec<bool>> {
    let answer: Value = serde_json::from_slice(&readable(body)).ok().filter(|_| status == 200)?;
    let items = answer["items"].as_array().filter(|items| items.len() == actions)?;
    let item = |(i, item): (usize, &Value)| {
        let action = if is_delete(i) { "delete" } else { "index" };
        let fields = item.as_object().filter(|item| item.len() == 1)?.values().next()?;
        if is_delete(i) != item.get("delete").is_some() {
            return None;
        }
        let has_error = !fields["error"].is_null();
        let status = fields["status"].as_u64()?;
        let not_found = action == "delete" && status == 404 && fields["result"] == "not_found";
        Some(!has_error && ((200..300).contains(&status) || not_found))
    };
    items.iter().enumerate().map(item).collect()
}

/// serde_json refuses half surrogate pairs, control characters and what is no UTF-8; in a reason they do no harm.
fn readable(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body).replace(|c: char| c.is_ascii_control(), " ");
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some((before, after)) = rest.split_once('\\') {
        out += before;
        rest = after;
        match after.chars().next() {
            Some('u') => out.push_str("\\\\"),
            Some(escaped) => {
                out.extend(['\\', escaped]);
                rest = &after[escaped.len_utf8()..];
            }
            None => out.push('\\'),
        }
    }
    (out + rest).into_bytes()
}

fn item(input: &mut Input<'_>, is_delete: bool) -> Value {
    const KINDS: [&str; 6] = [
        "version_conflict_engine_exception",
        "mapper_parsing_exception",
        "illegal_argument_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "security_exception",
    ];
    let action = if is_delete { "delete" } else { "index" };
    let status = [200, 201, 404, 409, 400, 429, 403, 500, 503, 700][input.below(10)];
    let mut fields = json!({"status": status});
    let choice = input.byte();
    if choice & 1 == 1 {
        fields["result"] = json!(["not_found", "created", "deleted", "noop"][input.below(4)]);
    }
    if choice & 2 == 2 {
        let text = String::from_utf8_lossy(&input.text()).into_owned();
        let reason = match input.byte() % 3 {
            0 => text,
            1 => format!("[{text}]: version conflict, current version [{}] is higher", input.number()),
            _ => format!("Limit of total fields [{text}] has been exceeded"),
        };
        fields["error"] = json!({"type": KINDS[input.below(6)], "reason": reason});
        if choice & 4 == 4 {
            fields["error"]["caused_by"] = json!({"reason": String::from_utf8_lossy(&input.text())});
        }
    }
    json!({action: fields})
}
