//! Any text as a value of any type: the document stays one line and, but for json, is JSON.

use super::{
    document::{Field, TYPES, assert_json, choose, field, holds_json, is_json, string},
    input::Input,
};
use pg2os::model::{ColumnType, Structure};

pub(crate) fn target(data: &[u8]) {
    let mut input = Input(data);
    let types: Vec<&ColumnType> = TYPES.iter().collect();
    let column_type = choose(&types, &mut input);
    let text = input.0;
    // json is what the server's parser let through: then it stays JSON, else only its line is safe.
    if !holds_json(column_type) || column_type.structure == Structure::Scalar && is_json(text) {
        assert_json(column_type, text);
    } else {
        field(column_type, text);
    }
    string(text);
    if column_type.oid == 17 {
        bytes(text);
    }
    if column_type.oid == 16 {
        let expected = match text {
            b"t" => &b"true"[..],
            b"f" => b"false",
            _ => return,
        };
        assert_eq!(field(column_type, text), Field::Value(expected.to_vec()));
    }
}

/// bytea comes out of its base64 as it went in.
fn bytes(raw: &[u8]) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = format!("\"{}\"", STANDARD.encode(raw));
    let column_type = super::document::built_in(17);
    assert_eq!(field(&column_type, format!("\\x{hex}").as_bytes()), Field::Value(expected.into_bytes()));
}
