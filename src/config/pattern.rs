//! Patterns of table names: `sales.*`, `*.events`, `sales.tmp_*`, quoted as in SQL.

use super::names::{Refusal, quoted_part};
use crate::model::TableName;

/// Which tables are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePattern {
    schema: Pattern,
    name: Pattern,
}

/// A name with stars in it: the texts between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<String>);

/// Is there a `*` outside of double quotes?
pub(super) fn is_wildcard(text: &str) -> bool {
    text.split('"').step_by(2).any(|unquoted| unquoted.contains('*'))
}

impl TablePattern {
    /// Reads `schema.table`, where `*` outside of quotes stands for any characters; `public` where there is no schema.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| {
            let cure =
                "write it as sales.tmp_*; other characters and capitals in double quotes: '\"Sales\".*'";
            (format!("{text:?} is not a pattern of tables: {why}"), cure.to_owned())
        };
        let mut parts = vec![Pattern(vec![String::new()])];
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let Some(Pattern(pieces)) = parts.last_mut() else { break };
            rest = &rest[c.len_utf8()..];
            match c {
                '.' => parts.push(Pattern(vec![String::new()])),
                '*' => pieces.push(String::new()),
                '"' => {
                    let (quoted, after) = quoted_part(rest).ok_or_else(|| refuse("a quote is not closed"))?;
                    pieces.last_mut().into_iter().for_each(|piece| piece.push_str(&quoted));
                    rest = after;
                }
                c if c.is_alphanumeric() || c == '_' || c == '$' => {
                    pieces.last_mut().into_iter().for_each(|piece| piece.extend(c.to_lowercase()));
                }
                _ => return Err(refuse("it has characters that need quotes")),
            }
        }
        if parts.iter().any(|Pattern(pieces)| pieces.iter().eq([""])) {
            return Err(refuse("a part of it is empty"));
        }
        match <[Pattern; 2]>::try_from(parts) {
            Ok([schema, name]) => Ok(TablePattern { schema, name }),
            Err(mut parts) if parts.len() == 1 => {
                Ok(TablePattern { schema: Pattern(vec!["public".to_owned()]), name: parts.remove(0) })
            }
            Err(_) => Err(refuse("it has more than two parts")),
        }
    }

    /// Is this table meant?
    pub fn matches(&self, table: &TableName) -> bool {
        self.schema.matches(&table.schema) && self.name.matches(&table.name)
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let [first, between @ .., last] = &self.0[..] else { return self.0.iter().eq([name]) };
        let Some(mut rest) = name.strip_prefix(first.as_str()) else { return false };
        for piece in between {
            // The earliest place leaves the most for what follows.
            let Some((_, after)) = rest.split_once(piece.as_str()) else { return false };
            rest = after;
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(schema: &str, name: &str) -> TableName {
        TableName { schema: schema.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_star_stands_for_any_characters_and_quotes_are_read_as_in_sql() {
        for (pattern, schema, name, expected) in [
            ("sales.*", "sales", "orders", true),
            ("sales.*", "hr", "orders", false),
            ("Sales.TMP_*", "sales", "tmp_", true),
            ("sales.tmp_*", "sales", "tmp", false),
            ("*.events", "crm", "events", true),
            ("tmp_*", "public", "tmp_1", true),
            ("s.*_2024_*", "s", "a_2024_b", true),
            ("s.*_2024_*", "s", "a_2023_b", false),
            ("s.a*a", "s", "a", false),
            ("s.a*b*ab", "s", "a_b_ab", true),
            ("\"My.S\".*", "My.S", "x", true),
            ("s.\"A*\"*", "s", "A*x", true),
            ("s.\"A*\"*", "s", "Abx", false),
            ("s.exact", "s", "exact", true),
            ("s.exact", "s", "exactly", false),
        ] {
            let parsed = TablePattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(&table(schema, name)), expected, "{pattern} {schema}.{name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", ".", "s.", ".*", "a.b.*", "a-*", "s.\"*", "a b.*", "\"\".*"] {
            assert!(TablePattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_matches_itself_with_anything_starred(name in "[a-z_]{1,8}", from in 0usize..8, to in 0usize..8) {
            let (from, to) = (from.min(name.len()), to.min(name.len()));
            let starred = format!("s.{}*{}", &name[..from.min(to)], &name[from.max(to)..]);
            prop_assert!(TablePattern::parse(&starred).unwrap().matches(&table("s", &name)));
        }

        #[test]
        fn no_text_makes_patterns_panic(text in "[a-zÉ.\"* -]{0,12}", name in "[a-z.]{0,6}") {
            if let Ok(pattern) = TablePattern::parse(&text) {
                let _ = pattern.matches(&table(&name, &name));
            }
        }
    }
}
