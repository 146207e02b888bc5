//! The one table of what a value becomes: type, mapping of its field in a new index, and values as SQL literals with the
//! JSON of the document. Tests run it against the servers; `docs/types.md` is made of it.

/// A type and some of its values.
pub(crate) struct TypeRow {
    /// The type in SQL.
    pub(crate) sql: &'static str,
    /// Name of its mapping in [`MAPPINGS`]; of a range or multirange, `range of` its bound's.
    pub(crate) mapping: &'static str,
    /// The text of a literal, and its JSON; `""` where the field is left out.
    pub(crate) values: &'static [(&'static str, &'static str)],
}

/// Mappings by the name that the table and the documentation call them by.
pub(crate) const MAPPINGS: &[(&str, &str)] = &[
    ("short", r#"{"type":"short","coerce":false}"#),
    ("integer", r#"{"type":"integer","coerce":false}"#),
    ("long", r#"{"type":"long","coerce":false}"#),
    ("float", r#"{"type":"float","coerce":false}"#),
    ("double", r#"{"type":"double","coerce":false}"#),
    ("number", r#"{"type":"double","ignore_malformed":true,"coerce":false}"#),
    ("scaled", r#"{"type":"scaled_float","scaling_factor":100.0,"ignore_malformed":true,"coerce":false}"#),
    ("boolean", r#"{"type":"boolean"}"#),
    ("text", r#"{"type":"text","fields":{"keyword":{"type":"keyword","ignore_above":8191}}}"#),
    ("keyword", r#"{"type":"keyword","ignore_above":8191}"#),
    ("date", r#"{"type":"date"}"#),
    ("binary", r#"{"type":"binary"}"#),
    (
        "ip",
        r#"{"type":"ip","ignore_malformed":true,"fields":{"keyword":{"type":"keyword","ignore_above":8191}}}"#,
    ),
    (
        "ip_range",
        r#"{"type":"ip_range","ignore_malformed":true,"fields":{"keyword":{"type":"keyword","ignore_above":8191}}}"#,
    ),
    ("flat_object", r#"{"type":"flat_object"}"#),
    ("vector", r#"{"type":"float","index":false,"doc_values":false}"#),
    ("not indexed", r#"{"type":"object","enabled":false}"#),
];

/// Types that the rows below use and PostgreSQL does not bring.
pub(crate) const SETUP: &str = r#"
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok", \ {}', 'NULL');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN numbers AS int[];
CREATE TYPE pair AS (n int, t text);
CREATE DOMAIN full_pair AS pair;
CREATE TYPE nest AS (p pair, "p's" full_pair[], "say ""hi""" text, at timestamptz, f double precision, d positive, j json);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TYPE pairrange AS RANGE (subtype = pair);
CREATE DOMAIN span AS int4range;
"#;

const fn row(
    sql: &'static str,
    mapping: &'static str,
    values: &'static [(&'static str, &'static str)],
) -> TypeRow {
    TypeRow { sql, mapping, values }
}

/// See the module.
pub(crate) const TABLE: &[TypeRow] = &[
    row("smallint", "short", &[("-32768", "-32768"), ("32767", "32767")]),
    row("integer", "integer", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    row(
        "bigint",
        "long",
        &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")],
    ),
    row("oid", "long", &[("4294967295", "4294967295")]),
    row(
        "real",
        "float",
        &[
            ("0.1", "0.1"),
            ("3.4028235e38", "3.4028235e+38"),
            ("1e-45", "1e-45"),
            ("-0", "-0"),
            ("NaN", ""),
            ("-Infinity", ""),
        ],
    ),
    row(
        "double precision",
        "double",
        &[
            ("1e15", "1e+15"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("5e-324", "5e-324"),
            ("-0", "-0"),
            ("NaN", ""),
            ("Infinity", ""),
        ],
    ),
    row(
        "numeric",
        "number",
        &[
            ("12.500", "12.500"),
            ("-123456789012345678901234567890.123456789", "-123456789012345678901234567890.123456789"),
            ("0.0000000001", "0.0000000001"),
            ("1e30", "1000000000000000000000000000000"),
            ("NaN", ""),
            ("Infinity", ""),
        ],
    ),
    row("numeric(10,2)", "scaled", &[("99999999.99", "99999999.99"), ("-1", "-1.00"), ("NaN", "")]),
    row("numeric(20,5)", "number", &[("123456789012345.67891", "123456789012345.67891")]),
    row("boolean", "boolean", &[("true", "true"), ("false", "false")]),
    row(
        "text",
        "text",
        &[
            ("", r#""""#),
            ("naïve 漢字 😀", r#""naïve 漢字 😀""#),
            ("a\"b\\c/d\t\r\n\u{1}\u{7f}\u{2028}", "\"a\\\"b\\\\c/d\\t\\r\\n\\u0001\u{7f}\u{2028}\""),
            ("NULL", r#""NULL""#),
            ("{a,\"b\"}", r#""{a,\"b\"}""#),
        ],
    ),
    row("character varying(5)", "text", &[("ab", r#""ab""#)]),
    row("character(5)", "text", &[("ab", r#""ab   ""#)]),
    row("citext", "text", &[("Straße", r#""Straße""#)]),
    row("name", "text", &[("pg_class", r#""pg_class""#)]),
    row("\"char\"", "keyword", &[("x", r#""x""#)]),
    row(
        "uuid",
        "keyword",
        &[("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#)],
    ),
    row(
        "mood",
        "keyword",
        &[("sad", r#""sad""#), ("it's \"ok\", \\ {}", r#""it's \"ok\", \\ {}""#), ("NULL", r#""NULL""#)],
    ),
    row("money", "keyword", &[("-1234567.891", r#""-$1,234,567.89""#)]),
    row("xml", "keyword", &[("<a b=\"c\">é</a>", r#""<a b=\"c\">é</a>""#)]),
    row("bit(4)", "keyword", &[("1010", r#""1010""#)]),
    row("bit varying", "keyword", &[("", r#""""#), ("101", r#""101""#)]),
    row(
        "date",
        "date",
        &[
            ("2024-01-31", r#""2024-01-31""#),
            ("0044-03-15 BC", r#""-0043-03-15""#),
            ("0001-12-31 BC", r#""0000-12-31""#),
            ("4713-01-01 BC", r#""-4712-01-01""#),
            ("10000-01-01", r#""+10000-01-01""#),
            ("5874897-12-31", r#""+5874897-12-31""#),
            ("infinity", r#""9999-12-31""#),
            ("-infinity", r#""0001-01-01""#),
        ],
    ),
    row(
        "timestamp",
        "date",
        &[
            ("2024-01-31 12:34:56.789012", r#""2024-01-31T12:34:56.789012""#),
            ("2024-01-31", r#""2024-01-31T00:00:00""#),
            ("294276-12-31 23:59:59.999999", r#""+294276-12-31T23:59:59.999999""#),
            ("4713-01-01 00:00 BC", r#""-4712-01-01T00:00:00""#),
            ("infinity", r#""9999-12-31T23:59:59.999999Z""#),
            ("-infinity", r#""0001-01-01T00:00:00Z""#),
        ],
    ),
    row(
        "timestamptz",
        "date",
        &[
            ("2024-01-31 12:34:56.7+05:30", r#""2024-01-31T07:04:56.7Z""#),
            ("294276-12-31 23:59:59.999999Z", r#""+294276-12-31T23:59:59.999999Z""#),
            ("0044-03-15 10:00Z BC", r#""-0043-03-15T10:00:00Z""#),
            ("infinity", r#""9999-12-31T23:59:59.999999Z""#),
            ("-infinity", r#""0001-01-01T00:00:00Z""#),
        ],
    ),
    row("time", "keyword", &[("12:34:56.789012", r#""12:34:56.789012""#), ("24:00:00", r#""24:00:00""#)]),
    row("timetz", "keyword", &[("12:34:56+05:30", r#""12:34:56+05:30""#)]),
    row(
        "interval",
        "keyword",
        &[
            ("1 year 2 mons 3 days 04:05:06.789", r#""P1Y2M3DT4H5M6.789S""#),
            ("-1 day 2 hours", r#""P-1DT2H""#),
            ("0", r#""PT0S""#),
            ("-178000000 years", r#""P-178000000Y""#),
        ],
    ),
    row(
        "json",
        "flat_object",
        &[
            (r#"{"b" : 1.0, "a": [1, {"x": null}]}"#, r#"{"b":1.0,"a":[1,{"x":null}]}"#),
            (r#"{"a":1,"a":{"b":2,"b":3},"\u0061":"last"}"#, r#"{"\u0061":"last"}"#),
            ("[1, 2]", r#"{"value":[1,2]}"#),
            (r#""text""#, r#"{"value":"text"}"#),
            ("null", r#"{"value":null}"#),
            (r#"{"lone": "\ud800", "nul": "\u0000"}"#, r#"{"lone":"\ud800","nul":"\u0000"}"#),
            ("1e999999999", r#"{"value":1e999999999}"#),
            (r#"{"": {".": 1, "a.b": 2, "a": {"b": 3}}}"#, r#"{"":{".":1,"a.b":2,"a":{"b":3}}}"#),
        ],
    ),
    row(
        "jsonb",
        "flat_object",
        &[
            (r#"{"z": 1e2, "deep": {"a": [true, "ü"]}, "z": 2}"#, r#"{"z":2,"deep":{"a":[true,"ü"]}}"#),
            ("[]", r#"{"value":[]}"#),
            ("-0.10", r#"{"value":-0.10}"#),
            ("{}", "{}"),
        ],
    ),
    row("jsonpath", "keyword", &[("$.a[*] ? (@ > 1)", r#""$.\"a\"[*]?(@ > 1)""#)]),
    row(
        "hstore",
        "flat_object",
        &[
            (
                r#"a=>1, "b c"=>NULL, "q\"\\"=>"=>,", e=>"NULL""#,
                r#"{"a":"1","e":"NULL","b c":null,"q\"\\":"=>,"}"#,
            ),
            ("", "{}"),
            ("\"\"=>\"\"", r#"{"":""}"#),
        ],
    ),
    row(
        "pair",
        "flat_object",
        &[
            (r#"(1,"a, ""b"" \\ (c)")"#, r#"{"n":1,"t":"a, \"b\" \\ (c)"}"#),
            ("(,)", "{}"),
            (r#"(,"")"#, r#"{"t":""}"#),
        ],
    ),
    row("full_pair", "flat_object", &[("(7,x)", r#"{"n":7,"t":"x"}"#)]),
    row(
        "nest",
        "flat_object",
        &[
            (
                r#"("(1,""x """"y"""""")","{""(2,)"",NULL,""(,\\""z\\"")""}",hi,"2024-01-01 00:00:00+00",NaN,3,"[1, ""a""]")"#,
                r#"{"p":{"n":1,"t":"x \"y\""},"p's":[{"n":2},null,{"t":"z"}],"say \"hi\"":"hi","at":"2024-01-01T00:00:00Z","d":3,"j":{"value":[1,"a"]}}"#,
            ),
            ("(,,,,,,)", "{}"),
        ],
    ),
    row("positive", "integer", &[("5", "5")]),
    row("price", "scaled", &[("12.5", "12.50")]),
    row("numbers", "integer", &[("{1,NULL,3}", "[1,null,3]"), ("{}", "[]")]),
    row("bytea", "binary", &[(r"\xdeadbeef", r#""3q2+7w==""#), ("", r#""""#)]),
    row(
        "inet",
        "ip",
        &[
            ("192.168.0.1", r#""192.168.0.1""#),
            ("10.1.2.3/8", r#""10.1.2.3/8""#),
            ("2001:db8::1", r#""2001:db8::1""#),
        ],
    ),
    row("cidr", "ip_range", &[("10.0.0.0/8", r#""10.0.0.0/8""#), ("2001:db8::/32", r#""2001:db8::/32""#)]),
    row("macaddr", "keyword", &[("08-00-2b-01-02-03", r#""08:00:2b:01:02:03""#)]),
    row("macaddr8", "keyword", &[("08:00:2b:01:02:03:04:05", r#""08:00:2b:01:02:03:04:05""#)]),
    row(
        "int4range",
        "range of integer",
        &[("[1,10]", r#"{"gte":1,"lt":11}"#), ("(,5)", r#"{"lt":5}"#), ("(,)", "{}"), ("empty", "")],
    ),
    row(
        "int8range",
        "range of long",
        &[(
            "[-9223372036854775808,9223372036854775807)",
            r#"{"gte":-9223372036854775808,"lt":9223372036854775807}"#,
        )],
    ),
    row(
        "numrange",
        "range of number",
        &[("(1.50,NaN]", r#"{"gt":1.50}"#), ("[-Infinity,0.1)", r#"{"lt":0.1}"#)],
    ),
    row(
        "daterange",
        "range of date",
        &[("[2024-01-01,infinity)", r#"{"gte":"2024-01-01","lt":"9999-12-31"}"#)],
    ),
    row(
        "tsrange",
        "range of date",
        &[("[2024-01-01,2024-02-01 12:00)", r#"{"gte":"2024-01-01T00:00:00","lt":"2024-02-01T12:00:00"}"#)],
    ),
    row(
        "tstzrange",
        "range of date",
        &[
            ("(2024-01-01Z,]", r#"{"gt":"2024-01-01T00:00:00Z"}"#),
            (
                "[0044-03-15Z BC,294276-12-31Z]",
                r#"{"gte":"-0043-03-15T00:00:00Z","lte":"+294276-12-31T00:00:00Z"}"#,
            ),
        ],
    ),
    row(
        "floatrange",
        "range of double",
        &[("[1.5,2.5]", r#"{"gte":1.5,"lte":2.5}"#), ("(-Infinity,NaN)", "{}")],
    ),
    row(
        "textrange",
        "range of text",
        &[(r#"["a,""b\\",)"#, r#"{"gte":"a,\"b\\"}"#), ("[,z)", r#"{"lt":"z"}"#)],
    ),
    row("pairrange", "not indexed", &[(r#"["(1,a)","(2,)"]"#, r#"{"gte":{"n":1,"t":"a"},"lte":{"n":2}}"#)]),
    row("span", "range of integer", &[("[1,2)", r#"{"gte":1,"lt":2}"#)]),
    row(
        "int4multirange",
        "range of integer",
        &[("{[1,3),[5,7)}", r#"[{"gte":1,"lt":3},{"gte":5,"lt":7}]"#), ("{}", "[]")],
    ),
    row(
        "tstzmultirange",
        "range of date",
        &[("{[2024-01-01Z,2024-02-01Z)}", r#"[{"gte":"2024-01-01T00:00:00Z","lt":"2024-02-01T00:00:00Z"}]"#)],
    ),
    row(
        "textmultirange",
        "range of text",
        &[("{[a,\"b}\"),[c,d]}", r#"[{"gte":"a","lt":"b}"},{"gte":"c","lte":"d"}]"#)],
    ),
    row("vector(3)", "vector", &[("[1,-2.5,1e-5]", "[1,-2.5,1e-05]")]),
    row("point", "keyword", &[("(1.5,-2)", r#""(1.5,-2)""#)]),
    row("line", "keyword", &[("{1,-1,0}", r#""{1,-1,0}""#)]),
    row("lseg", "keyword", &[("[(0,0),(1,1)]", r#""[(0,0),(1,1)]""#)]),
    row("box", "keyword", &[("(1,1),(0,0)", r#""(1,1),(0,0)""#), ("(2,3),(0,0)", r#""(2,3),(0,0)""#)]),
    row("path", "keyword", &[("[(0,0),(1,1)]", r#""[(0,0),(1,1)]""#)]),
    row("polygon", "keyword", &[("((0,0),(1,1),(1,0))", r#""((0,0),(1,1),(1,0))""#)]),
    row("circle", "keyword", &[("<(0,0),1>", r#""<(0,0),1>""#)]),
    row("tsvector", "keyword", &[("a:1A 'fat cat':2", r#""'a':1A 'fat cat':2""#)]),
    row("tsquery", "keyword", &[("a & !b", r#""'a' & !'b'""#)]),
    row("pg_lsn", "keyword", &[("16/B374D848", r#""16/B374D848""#)]),
    row("pg_snapshot", "keyword", &[("10:20:10,14", r#""10:20:10,14""#)]),
    row("xid8", "keyword", &[("18446744073709551615", r#""18446744073709551615""#)]),
    row("tid", "keyword", &[("(1,2)", r#""(1,2)""#)]),
    row("regclass", "keyword", &[("pg_class", r#""pg_class""#)]),
    row("oidvector", "keyword", &[("1 2", r#""1 2""#)]),
];
