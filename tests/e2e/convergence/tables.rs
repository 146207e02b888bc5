//! The three tables of the convergence test and what their rows are made of.

use crate::support::{Followed, World};

/// Small windows, so that several of each table are in flight during the load; small batches, so that many are.
pub(crate) const SETTINGS: &str = "bulk: { bytes: 64kB, flush_after: 5ms }\nbackfill: { parallel: 3 }";

/// Rows that each table begins with.
pub(crate) const ROWS: u64 = 4000;

/// The tables as the world's pipeline follows them.
pub(crate) fn followed(world: &World) -> Vec<Followed> {
    vec![
        world.followed("items", &["id"]).with("window: { column: id, rows: 500 }"),
        world.followed("parts", &["region", "code"]).with("window: { column: day, days: 3 }"),
        world.followed("notes", &["key"]).with("window: { column: at, days: 2 }"),
    ]
}

/// `big` lies out of line: an update that leaves it alone does not send it.
pub(crate) fn schema(seed: u64) -> String {
    // Half of the seeds have uuids for keys, the others text with everything that has to be escaped.
    let (key, key_type) =
        if seed.is_multiple_of(2) { (uuid_key("g"), "uuid") } else { (text_key("g"), "text") };
    let identity = match seed % 3 {
        0 => "FULL",
        1 => "USING INDEX notes_key_n",
        _ => "DEFAULT",
    };
    format!(
        r#"
        CREATE TABLE items (id integer PRIMARY KEY, n bigint, label text, ok boolean, big text, price numeric(12,3));
        CREATE TABLE parts (region text, code text, day date, n bigint, seq bigint, ratio double precision, big text,
                            PRIMARY KEY (region, code));
        CREATE TABLE notes (key {key_type} PRIMARY KEY, n bigint NOT NULL, body jsonb, tags text[], marks int[],
                            at timestamptz, wall timestamp, exact numeric, big text);
        CREATE UNIQUE INDEX notes_key_n ON notes (key, n);
        ALTER TABLE notes REPLICA IDENTITY {identity};
        ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE parts ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE notes ALTER big SET STORAGE EXTERNAL;
        INSERT INTO items SELECT {} FROM generate_series(1, {ROWS}) g;
        INSERT INTO parts SELECT {} FROM generate_series(1, {ROWS}) g;
        INSERT INTO notes SELECT {} FROM generate_series(1, {ROWS}) g;
        ANALYZE;
        "#,
        item("g"),
        part("g"),
        note(&key, "g"),
    )
}

/// One value in eight is large.
fn big(g: &str) -> String {
    format!("CASE WHEN {g} % 8 = 0 THEN repeat(md5(({g} + random())::text), 80) ELSE md5({g}::text) END")
}

/// The columns of an item.
pub(crate) fn item(g: &str) -> String {
    format!("{g}, {g} * 7, 'item ' || {g}, {g} % 3 = 0, {}, (random() * 1000)::numeric(12,3)", big(g))
}

/// The key of a part: both columns have what the id must escape.
pub(crate) fn part_key(g: &str) -> String {
    format!(r"'r|' || {g} % 5 || '\', {g} % 7 || '|\' || {g} || CASE WHEN {g} % 11 = 0 THEN '\' ELSE '' END")
}

/// The columns of a part; some have no day.
pub(crate) fn part(g: &str) -> String {
    format!(
        "{}, CASE WHEN {g} % 13 <> 0 THEN date '2024-01-01' + ({g} % 40)::int END, {g}, 0, random(), {}",
        part_key(g),
        big(g)
    )
}

/// A uuid key.
pub(crate) fn uuid_key(g: &str) -> String {
    format!("md5('k' || {g})::uuid")
}

/// A text key; one of them is empty, some are longer than an id may be.
pub(crate) fn text_key(g: &str) -> String {
    format!(
        r#"CASE WHEN {g} = 77 THEN '' WHEN {g} % 50 = 0 THEN repeat('lång', 150) || {g} ELSE 'a|b\c "ü" / ' || {g} END"#
    )
}

/// The columns of a note.
pub(crate) fn note(key: &str, g: &str) -> String {
    format!(
        r#"{key}, {g},
        CASE {g} % 5 WHEN 0 THEN '[1, 2.50, "x"]'::jsonb WHEN 1 THEN '"text"' WHEN 2 THEN NULL
             ELSE jsonb_build_object('a', {g}, 'b"\', jsonb_build_object('c', 1.500), 'd', ARRAY[{g}, 2]) END,
        CASE WHEN {g} % 4 <> 0 THEN ARRAY['x,' || {g}, NULL, '"q"', '{{}}', ''] END,
        CASE WHEN {g} % 4 <> 1 THEN ARRAY[[{g}, 2], [NULL, 4]]::int[] ELSE '{{}}' END,
        timestamptz '2024-02-01 01:02:03.5+05' + ({g} % 20) * interval '1 day 1 second',
        timestamp '2024-02-01' + {g} * interval '1 ms', {g} / 7.0, {}"#,
        big(g)
    )
}
