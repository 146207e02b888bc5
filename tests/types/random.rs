//! Random values of every built-in type, made by the server itself: none is refused, and each is what the server says.

use crate::{
    support::{in_world, oracle::canonical},
    ways::{BIG_VALUE, create_table, through_all_ways},
};
use pg2os::model::quote_identifier;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const ROWS: usize = 300;

/// Random parts of values; `setseed` makes them the same in every run.
const SETUP: &str = r#"
SELECT setseed(0.4711);
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('a', 'B "b"', '{c,\}');
-- A code point that text can hold, often one that some syntax or escape is made of.
CREATE FUNCTION letter() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT CASE (random() * 5)::int WHEN 0 THEN substr(E'"\\{}()[],;:=>NUL/ \t\n\r\b\f\u0001\u007f', 1 + (random() * 27)::int, 1)
    WHEN 1 THEN chr(1 + (random() * 55294)::int) WHEN 2 THEN chr(57344 + (random() * 1056767)::int)
    ELSE chr(32 + (random() * 94)::int) END $$;
CREATE FUNCTION word() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
  DECLARE w text := ''; BEGIN FOR i IN 1..(random() * random() * 20)::int LOOP w := w || letter(); END LOOP; RETURN w; END $$;
CREATE FUNCTION bits(n int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
  DECLARE w text := ''; BEGIN FOR i IN 1..n LOOP w := w || (random() < 0.5)::int; END LOOP; RETURN w; END $$;
CREATE FUNCTION digits() RETURNS numeric LANGUAGE sql VOLATILE AS $$
  SELECT round((random() - 0.5)::numeric * power(10::numeric, (random() * 60 - 20)::int), (random() * 40)::int) $$;
CREATE FUNCTION long() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT bits(64)::bit(64)::bigint $$;
CREATE FUNCTION small(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT (random() * 2 * n)::int - n $$;
CREATE FUNCTION wild() RETURNS float8 LANGUAGE sql VOLATILE AS $$
  SELECT CASE (random() * 9)::int WHEN 0 THEN small(1000) ELSE (random() - 0.5) * power(10, (random() * 600 - 300)) END $$;
CREATE FUNCTION moment() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
  SELECT '0001-01-01'::timestamp + random() * interval '9998 years' $$;
CREATE FUNCTION tree(depth int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
  BEGIN RETURN CASE CASE WHEN depth = 0 THEN 3 ELSE 0 END + (random() * 4)::int
    WHEN 0 THEN jsonb_build_object(word(), tree(depth - 1), word(), tree(depth - 1)) WHEN 1 THEN jsonb_build_array(tree(depth - 1), word())
    WHEN 2 THEN jsonb_build_object(word(), NULL) WHEN 3 THEN to_jsonb(word()) WHEN 4 THEN to_jsonb(digits())
    WHEN 5 THEN to_jsonb(wild()) WHEN 6 THEN 'true' ELSE '{}' END; END $$;
"#;

/// What the server says of a value, as SQL of it.
const SAME: &str = "to_json(VALUE)::text";
const ZONED: &str = "replace(to_json(VALUE)::text, '+00:00', 'Z')";
const WRAPPED: &str = "CASE json_typeof(to_json(VALUE)) WHEN 'object' THEN VALUE::text ELSE '{\"value\":' || VALUE::text || '}' END";
const BASE64: &str = "to_json(translate(encode(VALUE, 'base64'), E'\\n', ''))::text";
const DIGITS: &str = "VALUE::text";
const TEXT: &str = "to_json(VALUE::text)::text";
const RANGE: &str = "(CASE WHEN NOT isempty(VALUE) THEN jsonb_strip_nulls(jsonb_build_object(
    CASE WHEN lower_inc(VALUE) THEN 'gte' ELSE 'gt' END, lower(VALUE), CASE WHEN upper_inc(VALUE) THEN 'lte' ELSE 'lt' END, upper(VALUE))) END)::text";

/// Type, how a value is made, and what the server says of it.
const VALUES: &[(&str, &str, &str)] = &[
    ("smallint", "small(32767)", SAME),
    ("integer", "(long() >> 32)", SAME),
    ("bigint", "long()", SAME),
    ("oid", "(long() & 4294967295)", DIGITS),
    ("real", "(small(9999999) * power(10, small(30)))", SAME),
    ("double precision", "wild()", SAME),
    ("numeric", "digits()", SAME),
    ("numeric(15,7)", "small(99999999) / 7.0", SAME),
    ("boolean", "(random() < 0.5)", SAME),
    ("text", "word()", SAME),
    ("character varying", "word()", SAME),
    ("character(9)", "left(word(), 9)", SAME),
    ("name", "left(word(), 15)", SAME),
    ("\"char\"", "chr(32 + (random() * 94)::int)", SAME),
    ("mood", "(enum_range(NULL::mood))[1 + (random() * 2)::int]", SAME),
    ("uuid", "md5(word())", SAME),
    ("date", "moment()", SAME),
    ("timestamp", "moment()", SAME),
    ("timestamptz", "moment() AT TIME ZONE 'UTC'", ZONED),
    ("time", "moment()", SAME),
    ("timetz", "(moment()::time || '+' || (random() * 14)::int)", SAME),
    (
        "interval",
        "make_interval(small(999), small(99), 0, small(999), small(99), small(99), small(59999999) / 1e6)",
        SAME,
    ),
    ("json", "tree(4)", WRAPPED),
    ("jsonb", "tree(4)", WRAPPED),
    (
        "hstore",
        "hstore(ARRAY[word(), word()], ARRAY[word(), CASE WHEN random() < 0.9 THEN word() END])",
        SAME,
    ),
    ("bytea", "decode(md5(word()), 'hex')", BASE64),
    ("bit(7)", "bits(7)", SAME),
    ("bit varying", "bits((random() * 40)::int)", SAME),
    ("money", "small(99999999) / 7.0", SAME),
    ("inet", "('0.0.0.0'::inet + (long() & 4294967295))", SAME),
    ("cidr", "network(set_masklen('0.0.0.0'::inet + (long() & 4294967295), (random() * 32)::int))", SAME),
    ("macaddr", "left(md5(word()), 12)", SAME),
    ("macaddr8", "left(md5(word()), 16)", SAME),
    ("int4range", "int4range(small(9) - 9, small(9) + 9, '(]')", RANGE),
    ("int8range", "int8range(CASE WHEN random() < 0.9 THEN small(9) - 9 END, small(9) + 9, '[]')", RANGE),
    ("numrange", "numrange(-abs(digits()), CASE WHEN random() < 0.9 THEN abs(digits()) END, '(]')", RANGE),
    ("daterange", "daterange(moment()::date, NULL, '(]')", RANGE),
    ("tsrange", "tsrange(NULL, moment(), '[]')", RANGE),
    (
        "int4multirange",
        "int4multirange(int4range(small(9) - 99, small(9)), int4range(small(9), small(9) + 99))",
        "",
    ),
    ("point", "point(wild(), wild())", SAME),
    ("box", "box(point(wild(), wild()), point(wild(), wild()))", SAME),
    ("circle", "circle(point(wild(), wild()), abs(wild()))", SAME),
    ("polygon", "polygon(3 + (random() * 9)::int, circle(point(small(9), small(9)), 3))", SAME),
    ("tsvector", "array_to_tsvector(ARRAY[word() || 'x', word() || 'y'])", TEXT),
    ("pg_lsn", "('0/0'::pg_lsn + (long() & 4294967295))", SAME),
    ("xid8", "bits(64)::bit(64)::bigint::text::numeric + 9223372036854775808", TEXT),
];

/// Arrays whose elements say nothing else as JSON than the values by themselves.
fn array_oracle(oracle: &str) -> &str {
    if oracle == SAME { SAME } else { "" }
}

#[tokio::test]
async fn random_values_of_every_type_are_what_the_server_says_of_them() {
    let mut columns = vec![];
    for (sql_type, value, oracle) in VALUES {
        let value = format!("({value})::text::{sql_type}");
        columns.push((sql_type.to_string(), format!("CASE WHEN random() < 0.9 THEN {value} END"), *oracle));
        let array = format!("{sql_type}[]");
        let elements = format!(
            "CASE WHEN random() < 0.5 THEN ARRAY[{value}, NULL] ELSE ARRAY[ARRAY[{value}], ARRAY[{value}]] END"
        );
        columns.push((array.clone(), format!("{elements}::{array}"), array_oracle(oracle)));
    }
    let definitions: Vec<String> =
        columns.iter().map(|(t, ..)| format!("{} {t}", quote_identifier(t))).collect();
    let names: Vec<String> = columns.iter().map(|(t, ..)| quote_identifier(t)).collect();
    let values: Vec<&str> = columns.iter().map(|(_, value, _)| value.as_str()).collect();
    let schema = format!(
        "{SETUP} {} INSERT INTO t (id, big, {}) SELECT g, {BIG_VALUE}, {} FROM generate_series(0, {}) g;",
        create_table(&definitions),
        names.join(","),
        values.join(","),
        ROWS - 1
    );
    in_world(&schema, async |world| {
        let documents = through_all_ways(world).await;
        assert_eq!(documents.len(), ROWS);
        let said: Vec<String> = columns
            .iter()
            .zip(&names)
            .map(|((_, _, oracle), name)| match *oracle {
                "" => "NULL".to_owned(),
                oracle => oracle.replace("VALUE", name),
            })
            .collect();
        let rows = world
            .connect()
            .await
            .query(&format!("SELECT {} FROM t WHERE id < {ROWS} ORDER BY id", said.join(",")), &[])
            .await
            .unwrap();
        let (mut compared, mut wrong) = (0, BTreeMap::new());
        for (row, document) in rows.iter().zip(documents) {
            let document = format!("{{{document}");
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(&document).unwrap();
            for (at, (name, _, oracle)) in columns.iter().enumerate().filter(|(_, c)| !c.2.is_empty()) {
                let said = row.get::<_, Option<&str>>(at).map(canonical);
                let found = fields.get(name).map(|value| canonical(value.get()));
                if found != said {
                    wrong.entry(name).or_insert((oracle, said, found));
                }
                compared += 1;
            }
        }
        assert!(wrong.is_empty(), "type: (by, said, found)\n{wrong:#?}");
        assert!(compared > 70 * ROWS);
    })
    .await;
}
