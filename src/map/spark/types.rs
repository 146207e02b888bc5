//! What Spark's JDBC source reads a column of PostgreSQL as (Spark 3.5: "JDBC To Other Databases"; measured).

use super::decimal::{DEFAULT_SCALE, MOST_DIGITS};
use crate::model::ColumnType;

/// The type that Spark gives a column, as far as its values print differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SparkType {
    /// boolean: `t` and `f`.
    Boolean,
    /// boolean made of bit(1): `1` and `0`.
    Bit,
    /// smallint, int, bigint.
    Integer,
    /// decimal; oid too, as decimal(20,0).
    Decimal { scale: usize },
    /// float.
    Float,
    /// double.
    Double,
    /// string: the server's text.
    Text,
    /// string: the server's text of an interval.
    Interval,
    /// binary: bytea.
    Bytes,
    /// binary: the characters of bit(n).
    BitString,
    /// date.
    Date,
    /// timestamp made of one without time zone.
    Timestamp,
    /// timestamp made of one with time zone.
    TimestampUtc,
    /// timestamp made of a time of day.
    Time,
    /// array of one dimension.
    Array(Box<SparkType>),
}

/// A column that the job could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

impl SparkType {
    /// The type of a column.
    pub(super) fn of(column_type: &ColumnType) -> Result<SparkType, Unreadable> {
        match column_type.element() {
            Some(element) => element_of(element).map(|element| SparkType::Array(Box::new(element))),
            None => scalar(column_type),
        }
    }
}

/// Oids are those of PostgreSQL's `pg_type.dat`. What is not here is a string in Spark: enums, composites, extensions'.
fn scalar(column_type: &ColumnType) -> Result<SparkType, Unreadable> {
    Ok(match column_type.oid {
        16 => SparkType::Boolean,
        1560 if column_type.modifier == 1 => SparkType::Bit,
        1560 => SparkType::BitString,
        20 | 21 | 23 => SparkType::Integer,
        26 => SparkType::Decimal { scale: 0 },
        1700 => SparkType::Decimal { scale: numeric_scale(column_type.modifier)? },
        700 => SparkType::Float,
        701 => SparkType::Double,
        17 => SparkType::Bytes,
        1082 => SparkType::Date,
        1114 => SparkType::Timestamp,
        1184 => SparkType::TimestampUtc,
        1083 | 1266 => SparkType::Time,
        1186 => SparkType::Interval,
        _ => SparkType::Text,
    })
}

/// numeric(p,s) is stored as ((p << 16) | (s & 0x7ff)) + 4, s in 11 bits two's complement since PostgreSQL 15.
fn numeric_scale(modifier: i32) -> Result<usize, Unreadable> {
    if modifier < 4 {
        return Ok(DEFAULT_SCALE);
    }
    let (precision, scale) = ((modifier - 4) >> 16 & 0xffff, (((modifier - 4) & 0x7ff) ^ 1024) - 1024);
    match usize::try_from(scale) {
        Ok(places) if scale <= precision => Ok(places.min(MOST_DIGITS)),
        _ => Err(Unreadable("Spark has no decimal with a negative scale, or one above its precision")),
    }
}

/// Of an array Spark takes the element's type; its driver hands some of them over as objects of its own.
fn element_of(element: &ColumnType) -> Result<SparkType, Unreadable> {
    match element.oid {
        // oid is a bigint in an array.
        26 => return Ok(SparkType::Integer),
        790 => return Err(Unreadable("Spark cannot read an array of money")),
        1560 => return Err(Unreadable("Spark cannot read an array of bit")),
        1083 | 1266 => return Err(Unreadable("Spark cannot read an array of times of day")),
        600..=604 | 628 | 718 | 1186 => {
            return Err(Unreadable(
                "Spark prints the elements of such an array as its driver does, not the server",
            ));
        }
        _ => {}
    }
    scalar(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: i32, scale: i32) -> ColumnType {
        ColumnType::scalar(1700, (precision << 16 | scale & 0x7ff) + 4)
    }

    #[test]
    fn a_decimal_has_the_scale_of_its_column() {
        for (column, scale) in [
            (numeric(10, 2), 2),
            (numeric(40, 5), 5),
            (numeric(50, 45), 38),
            (ColumnType::scalar(1700, -1), 18),
            (ColumnType::scalar(26, -1), 0),
        ] {
            assert_eq!(SparkType::of(&column), Ok(SparkType::Decimal { scale }), "{column:?}");
        }
        for unreadable in [numeric(10, -2), numeric(3, 5)] {
            assert!(SparkType::of(&unreadable).is_err(), "{unreadable:?}");
        }
    }

    #[test]
    fn an_array_is_of_its_element_or_unreadable() {
        let array = |oid| ColumnType::array(1, -1, ColumnType::scalar(oid, -1));
        let of = |oid| SparkType::of(&array(oid));
        assert_eq!(of(26), Ok(SparkType::Array(Box::new(SparkType::Integer))));
        assert_eq!(of(99_999), Ok(SparkType::Array(Box::new(SparkType::Text))));
        for oid in [600, 790, 1083, 1186, 1266, 1560] {
            assert!(of(oid).is_err(), "{oid}");
        }
    }
}
