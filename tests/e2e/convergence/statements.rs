//! Random transactions over the three tables: all kinds of changes, savepoints, and an id that is changed more often than
//! there are ordinals.

use super::tables;
use crate::support::rng::Rng;

/// The transactions of one connection, in an order that the seed repeats.
pub(crate) struct Statements {
    rng: Rng,
    seed: u64,
}

impl Statements {
    /// Those of connection `number`.
    pub(crate) fn new(seed: u64, number: u64) -> Statements {
        Statements { rng: Rng::new(seed, number), seed }
    }

    /// The next one, and whether it commits.
    pub(crate) fn transaction(&mut self) -> (String, bool) {
        let mut sql = vec!["BEGIN".to_owned()];
        match self.rng.below(100) {
            0..60 => sql.push(self.row()),
            60..90 => {
                for _ in 0..10 {
                    let row = self.row();
                    match self.rng.below(6) {
                        0 => sql.extend(["SAVEPOINT s".into(), row, "ROLLBACK TO s".into()]),
                        1 => sql.extend(["SAVEPOINT s".into(), row, "RELEASE s".into()]),
                        _ => sql.push(row),
                    }
                }
            }
            90..97 => sql.push(self.many()),
            _ => sql.push(self.often()),
        }
        let commits = !self.rng.chance(12);
        sql.push(if commits { "COMMIT".to_owned() } else { "ROLLBACK".to_owned() });
        (sql.join(";\n"), commits)
    }

    /// A number that most rows were made of; a few are beyond, and some are wanted by all connections.
    fn number(&mut self) -> u64 {
        match self.rng.below(10) {
            0..3 => 1 + self.rng.below(20),
            _ => 1 + self.rng.below(tables::ROWS * 5 / 4),
        }
    }

    fn key(&self, g: &str) -> String {
        if self.seed.is_multiple_of(2) { tables::uuid_key(g) } else { tables::text_key(g) }
    }

    /// Table, columns for an insert, condition that chooses the row, and SET that changes its key.
    fn target(&mut self, number: u64) -> (&'static str, String, String, String) {
        let (g, other) = (number.to_string(), self.number().to_string());
        match self.rng.below(3) {
            0 => ("items", tables::item(&g), format!("id = {g}"), format!("id = {other}")),
            1 => {
                let (key, other) = (tables::part_key(&g), tables::part_key(&other));
                (
                    "parts",
                    tables::part(&g),
                    format!("(region, code) = ({key})"),
                    format!("(region, code) = ({other})"),
                )
            }
            _ => {
                let (key, other) = (self.key(&g), self.key(&other));
                ("notes", tables::note(&key, &g), format!("key = {key}"), format!("key = {other}"))
            }
        }
    }

    /// A change of one row.
    fn row(&mut self) -> String {
        let number = self.number();
        let (table, columns, chosen, other_key) = self.target(number);
        match self.rng.below(12) {
            0..3 => format!("INSERT INTO {table} SELECT {columns} ON CONFLICT DO NOTHING"),
            3..6 => format!("UPDATE {table} SET n = {} WHERE {chosen}", self.rng.below(1_000_000)),
            6 => format!("UPDATE {table} SET n = n WHERE {chosen}"),
            7 => format!("UPDATE {table} SET big = repeat(md5(random()::text), 90) WHERE {chosen}"),
            8 => format!("UPDATE {table} SET {other_key} WHERE {chosen}"),
            9 if table == "parts" => {
                format!("UPDATE parts SET day = date '2024-01-01' + {} WHERE {chosen}", self.rng.below(60))
            }
            9 => format!("UPDATE {table} SET {other_key}, n = 5 WHERE {chosen}"),
            _ => format!("DELETE FROM {table} WHERE {chosen}"),
        }
    }

    /// A statement that changes about a thousand rows.
    fn many(&mut self) -> String {
        let begin = 1 + self.rng.below(tables::ROWS);
        let (series, range) = (
            format!("generate_series({begin}, {begin} + 999) g"),
            format!("BETWEEN {begin} AND {begin} + 999"),
        );
        let key = self.key("g");
        match self.rng.below(8) {
            0 => {
                format!("INSERT INTO items SELECT {} FROM {series} ON CONFLICT DO NOTHING", tables::item("g"))
            }
            1 => {
                format!("INSERT INTO parts SELECT {} FROM {series} ON CONFLICT DO NOTHING", tables::part("g"))
            }
            2 => format!(
                "INSERT INTO notes SELECT {} FROM {series} ON CONFLICT DO NOTHING",
                tables::note(&key, "g")
            ),
            3 => format!("UPDATE items SET n = n + 1 WHERE id {range}"),
            4 => format!("UPDATE parts SET seq = seq + 1, day = day + 1 WHERE n {range}"),
            5 => format!("UPDATE notes SET tags = tags || 'more'::text WHERE n {range}"),
            6 => format!("DELETE FROM items WHERE id {range}"),
            _ => format!("DELETE FROM notes WHERE n {range}"),
        }
    }

    /// One id is changed more often in a transaction than there are ordinals, by all kinds of changes.
    fn often(&mut self) -> String {
        let number = self.number();
        let (table, columns, chosen, _) = self.target(number);
        let (changes, delete_at) = (1500 + self.rng.below(300), 2 + self.rng.below(400));
        let last =
            if self.rng.chance(30) { format!("DELETE FROM {table} WHERE {chosen};") } else { String::new() };
        format!(
            "DO $$ BEGIN
               FOR i IN 1..{changes} LOOP
                 IF i % {delete_at} = 0 THEN DELETE FROM {table} WHERE {chosen}; END IF;
                 INSERT INTO {table} SELECT {columns} ON CONFLICT DO NOTHING;
                 UPDATE {table} SET n = i WHERE {chosen};
               END LOOP;
               {last}
             END $$"
        )
    }
}
