use super::*;
use crate::model::ColumnType;
use serde_json::{Value, json};

fn column(name: &str, oid: u32, modifier: i32) -> Column {
    Column {
        name: name.into(),
        column_type: ColumnType::scalar(oid, modifier),
        sql_type: format!("type {oid}"),
        not_null: false,
    }
}

fn spec(id: &[&str], cast: &[(&str, SparkCast)]) -> TableSpec {
    TableSpec {
        id: id.iter().map(|c| (*c).to_owned()).collect(),
        id_form: IdForm::Spark,
        exclude: vec!["left_out".into()],
        rename: vec![],
        documents: Documents::Spark,
        spark: Spark {
            cast: cast.iter().map(|(c, cast)| ((*c).to_owned(), cast.clone())).collect(),
            ..Spark::default()
        },
        ..TableSpec::default()
    }
}

fn told(spec: &TableSpec, columns: &[Column]) -> Vec<String> {
    spark_problems(spec, columns).iter().map(ToString::to_string).collect()
}

#[test]
fn a_decimal_needs_a_cast_and_a_cast_needs_its_column() {
    let columns = [column("id", 20, -1), column("amount", 1700, -1), column("left_out", 1700, -1)];
    let problems = told(&spec(&["id"], &[("amuont", SparkCast::Double)]), &columns);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("spark.cast: column `amuont` (no such column)"), "{problems:?}");
    assert!(problems[1].contains("`amount`") && problems[1].contains("double or string"), "{problems:?}");
    assert!(told(&spec(&["id"], &[("amount", SparkCast::Double)]), &columns).is_empty());
}

#[test]
fn keys_that_are_not_reproduced_are_refused_with_the_cure() {
    let array = |oid| Column {
        column_type: ColumnType::array(1, -1, ColumnType::scalar(oid, -1)),
        ..column("k", 1, -1)
    };
    for key in [column("k", 790, -1), array(1186), array(1083), array(790), array(600)] {
        let spec = TableSpec { documents: Documents::Plain, ..spec(&["k"], &[]) };
        let problems = told(&spec, std::slice::from_ref(&key));
        assert!(problems.len() == 1 && problems[0].contains("use id_form plain"), "{key:?}: {problems:?}");
    }
    let mut elsewhere = TableSpec { documents: Documents::Plain, ..spec(&["k"], &[]) };
    assert!(told(&elsewhere, &[column("k", 3910, -1)]).is_empty());
    elsewhere.spark.jvm_timezone = Tz::Asia__Tokyo;
    assert_eq!(told(&elsewhere, &[column("k", 3910, -1)]).len(), 1);
}

#[test]
fn casts_that_spark_has_not_or_that_are_not_reproduced_are_refused() {
    let columns = [column("t", 25, -1), column("d", 701, -1)];
    for cast in [
        ("t", SparkCast::Double),
        ("d", SparkCast::Long),
        ("t", SparkCast::Array(Box::new(SparkCast::String))),
    ] {
        let problems = told(&spec(&[], std::slice::from_ref(&cast)), &columns);
        assert!(problems.len() == 1 && problems[0].starts_with("spark.cast"), "{cast:?}: {problems:?}");
    }
}

#[test]
fn nulls_vanish_and_nothing_is_escaped() {
    let text = ColumnType::scalar(25, -1);
    let array = ColumnType::array(1009, -1, text.clone());
    for (key, plain, expected) in [
        (vec![&text, &text, &text], r"a|\N|b", "a|b"),
        (vec![&text, &text], r"\N|\N", ""),
        (vec![&text, &text], "|", "|"),
        (vec![&text, &text], r"a\|b|c\\", r"a|b|c\"),
        (vec![&text], r"a|b\", r"a|b\"),
        (vec![&array, &text], r#"{a,NULL,"b\|\\"c"}|z"#, r#"a|b|"c|z"#),
        (vec![&text, &array, &text], "x|{}|y", "x|y"),
        // A second dimension ends the job.
        (vec![&text, &array], "x|{{1},{2}}", "x|{{1},{2}}"),
    ] {
        let mut out = vec![];
        id(&Spark::default(), &key).write(plain.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{plain}");
    }
}

#[test]
fn a_value_that_ends_the_job_keeps_the_servers_text() {
    for (oid, plain) in
        [(1082, "infinity"), (1700, "NaN"), (1114, "294276-12-31 23:59:59.999999"), (701, "x"), (17, "\\x6")]
    {
        let mut out = vec![];
        let column_type = ColumnType::scalar(oid, -1);
        id(&Spark::default(), &[&column_type, &column_type])
            .write(format!("{plain}|{plain}").replace("\\x", "\\\\x").as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{plain}|{plain}"));
    }
}

#[test]
fn an_index_of_the_job_is_told_by_its_fields() {
    let spec = TableSpec {
        rename: vec![("at".into(), "@at".into())],
        documents: Documents::Plain,
        ..spec(&["id"], &[])
    };
    let columns = [
        column("id", 20, -1),
        column("at", 1184, -1),
        column("day", 1082, -1),
        column("p", 3802, -1),
        column("t", 25, -1),
    ];
    let advice = |properties: Value| spark_advice(&spec, &columns, properties.as_object().unwrap());
    let text = json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}});
    let job = json!({"id": {"type": "long"}, "@at": {"type": "long"}, "day": {"type": "long"}, "p": text, "t": text});
    let told = advice(job).unwrap();
    assert!(
        told.contains(": @at (type 1184) is long, day (type 1082) is long, p (type 3802) is text. "),
        "{told}"
    );
    assert!(told.contains("documents: spark"), "{told}");
    let ours = crate::map::properties(&spec, &columns, &serde_json::Map::new(), false).unwrap();
    assert_eq!(advice(Value::Object(ours)), None);
    assert_eq!(
        advice(json!({"id": {"type": "long"}, "at": {"type": "long"}, "day": {"properties": {}}})),
        None
    );
}

#[test]
fn a_new_index_has_the_fields_of_the_job() {
    let cast = [("amount", SparkCast::Double), ("price", SparkCast::String)];
    let spec = TableSpec { exclude: vec![], ..spec(&["id"], &cast) };
    let columns = [
        column("id", 20, -1),
        column("r", 700, -1),
        column("amount", 1700, -1),
        column("price", 1700, -1),
        column("at", 1114, -1),
        column("p", 3802, -1),
        column("ok", 16, -1),
    ];
    let properties = crate::map::properties(&spec, &columns, &serde_json::Map::new(), false).unwrap();
    let text = json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}});
    let number = |name: &str| json!({"type": name, "ignore_malformed": true});
    let expected = json!({
        "id": number("long"), "r": number("float"), "amount": number("double"), "price": text, "at": number("long"),
        "p": text, "ok": {"type": "boolean"},
    });
    assert_eq!(Value::Object(properties), expected);
}

#[test]
fn an_id_that_opensearch_refuses_is_its_sha_256_and_a_null_key_is_no_text() {
    use crate::{
        map::{IdBuffers, TablePlan},
        model::{Cell, Row},
    };
    let columns = [("k".to_owned(), ColumnType::scalar(25, -1))];
    let id = |id_form, value: Option<&str>| {
        let spec = TableSpec { id_form, ..spec(&["k"], &[]) };
        let bytes = value.unwrap_or_default().as_bytes();
        let cell = value.map_or(Cell::Null, |_| Cell::Text { start: 0, end: bytes.len() as u32 });
        let mut ids = IdBuffers::default();
        TablePlan::new(&spec, 1, &columns)
            .unwrap()
            .write_id(&Row { bytes, cells: &[cell] }, &mut ids)
            .unwrap();
        String::from_utf8(ids.id).unwrap()
    };
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(id(IdForm::Spark, Some("")), EMPTY);
    assert_eq!(id(IdForm::Spark, None), EMPTY);
    assert_eq!(id(IdForm::Spark, Some("\\N")), "\\N");
    assert_eq!(id(IdForm::Spark, Some(&"x".repeat(512))).len(), 512);
    assert_eq!(id(IdForm::Spark, Some(&"x".repeat(513))).len(), 64);
    assert_eq!(id(IdForm::SparkMd5, Some(&"x".repeat(513))).len(), 32);
    assert_eq!(id(IdForm::SparkMd5, None), "d41d8cd98f00b204e9800998ecf8427e");
}
