//! Which names PostgreSQL and OpenSearch take. A refusal is what is wrong, and the cure.

/// What is wrong, and the cure.
pub(super) type Refusal = (String, String);

/// Schema and table of `schema.table`, read as SQL reads it: unquoted parts in lower case, quoted ones as they are,
/// `public` where there is no schema.
pub(super) fn table_name(text: &str) -> Result<(String, String), Refusal> {
    let refuse = |why: &str| {
        let cure =
            "write schema.table; other characters and capitals in double quotes: 'public.\"My-Table\"'";
        (format!("{text:?} is not a table name: {why}"), cure.to_owned())
    };
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part = if let Some(quoted) = rest.strip_prefix('"') {
            let (part, after) = quoted_part(quoted).ok_or_else(|| refuse("a quote is not closed"))?;
            rest = after;
            part
        } else {
            let (part, _) = rest.split_once('.').unwrap_or((rest, ""));
            rest = &rest[part.len()..];
            if part.starts_with(|c: char| c.is_ascii_digit())
                || part.contains(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            {
                return Err(refuse("it has characters that need quotes"));
            }
            part.to_lowercase()
        };
        if part.is_empty() || part.contains('\0') {
            return Err(refuse("a part of it is empty"));
        }
        if part.len() > 63 {
            return Err(refuse("PostgreSQL's names have at most 63 bytes"));
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => break,
            None => return Err(refuse("something follows the closing quote")),
        }
    }
    match <[String; 2]>::try_from(parts) {
        Ok([schema, table]) => Ok((schema, table)),
        Err(mut parts) if parts.len() == 1 => Ok(("public".to_owned(), parts.remove(0))),
        Err(_) => Err(refuse("it has more than two parts")),
    }
}

/// A quoted identifier behind its first quote, and what follows the closing one.
pub(super) fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, after)),
        }
    }
}

/// Why OpenSearch would refuse an index name (docs: "Create index", naming restrictions).
pub(super) fn index_name(name: &str) -> Result<(), String> {
    const FORBIDDEN: &[char] = &['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':'];
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name == "." || name == ".." {
        "it is a directory".to_owned()
    } else if name.len() > 255 {
        "it has more than 255 bytes".to_owned()
    } else if name.starts_with(['-', '_', '+']) {
        "it starts with -, _ or +".to_owned()
    } else if name.to_lowercase() != name {
        "it has capitals".to_owned()
    } else if let Some(c) =
        name.chars().find(|c| FORBIDDEN.contains(c) || c.is_control() || c.is_whitespace())
    {
        format!("it contains {c:?}")
    } else {
        return Ok(());
    };
    Err(format!("{name:?} is not an index name: {why}"))
}

/// Why OpenSearch would refuse a field name.
pub(super) fn field_name(name: &str) -> Result<(), String> {
    const METADATA: &[&str] = &[
        "_id",
        "_index",
        "_source",
        "_type",
        "_routing",
        "_field_names",
        "_ignored",
        "_seq_no",
        "_primary_term",
        "_version",
        "_nested_path",
        "_doc_count",
        "_data_stream_timestamp",
    ];
    let blank = name.split('.').any(|part| part.trim().is_empty());
    if blank || METADATA.contains(&name) {
        return Err(format!("{name:?} is not a field name that OpenSearch takes"));
    }
    Ok(())
}

/// The slot of a pipeline that names none.
pub(super) fn default_slot(name: &str) -> String {
    let slot = name.replace('-', "_");
    if slot == "pg2os" || slot.starts_with("pg2os_") { slot } else { format!("pg2os_{slot}") }
}

/// Is it a name of a slot (docs: "Replication Slots", Querying and Manipulating)?
pub(super) fn is_slot(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table_names_are_read_as_sql_reads_them() {
        for (text, schema, table) in [
            ("public.events", "public", "events"),
            ("events", "public", "events"),
            ("Sales.Events", "sales", "events"),
            ("\"My.Schema\".\"a\"\"b\"", "My.Schema", "a\"b"),
            ("s.\"Events\"", "s", "Events"),
            ("größe.tabelle$1", "größe", "tabelle$1"),
        ] {
            assert_eq!(table_name(text), Ok((schema.to_owned(), table.to_owned())), "{text}");
        }
        let long = "x".repeat(64);
        for text in ["", ".", "a.", ".a", "a.b.c", "a-b", "1a", "\"a", "\"a\"b", "\"\"", "a b", "s.*", &long]
        {
            assert!(table_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn index_names_follow_the_rules_of_opensearch() {
        for name in ["events", "crm-events", ".hidden", "größe", "a_b.c", &"x".repeat(255)] {
            assert_eq!(index_name(name), Ok(()), "{name}");
        }
        let bad = [
            "", ".", "..", "Events", "-a", "_a", "+a", "a b", "a,b", "a#b", "a:b", "a*", "a/b", "a\\b",
            "a\"b",
        ];
        for name in bad.into_iter().chain([&*"x".repeat(256), "a<b", "a>b", "a|b", "a?b", "a\nb"]) {
            assert!(index_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_default_slot_carries_the_programs_name_once() {
        for (name, slot) in [
            ("pg2os", "pg2os"),
            ("warehouse", "pg2os_warehouse"),
            ("pg2os-eu", "pg2os_eu"),
            ("a-b", "pg2os_a_b"),
        ] {
            assert_eq!(default_slot(name), slot);
        }
    }

    #[test]
    fn field_names_are_neither_blank_nor_metadata() {
        assert_eq!(field_name("@timestamp"), Ok(()));
        for name in ["", ".a", "a.", "a..b", " ", "_id", "_source"] {
            assert!(field_name(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_names_panic(text in "[a-zA-Zé.\"* -]{0,12}") {
            let _ = (table_name(&text), index_name(&text), field_name(&text), is_slot(&text));
        }
    }
}
