//! What an answer is made of.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scalar {
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number that is finite and not whole, or too large for [`Scalar::Integer`].
    Number(f64),
    /// Everything else, as the database writes it; bytes as `\x` and hexadecimal digits.
    Text(String),
}

impl Scalar {
    /// Reads a number as databases write it; a text if it is none, such as `NaN`.
    pub(super) fn number(text: &str) -> Self {
        if let Ok(whole) = text.parse() {
            return Self::Integer(whole);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    /// Gives a finite number; true and false are 1 and 0. A text is none, even one of digits.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Boolean(is) => Some(f64::from(u8::from(*is))),
            // Above 2^53 the last digits go, which no threshold sees.
            Self::Integer(whole) => Some(*whole as f64),
            Self::Number(number) => Some(*number),
            Self::Null | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(is) => is.fmt(f),
            Self::Integer(whole) => whole.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The answer to one question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The columns' names.
    pub columns: Vec<String>,
    /// The rows, each with as many values as there are columns.
    pub rows: Vec<Vec<Scalar>>,
    /// Whether there were more rows than the limit.
    pub more: bool,
}

impl Table {
    /// Gives the one value of an answer with one row and one column.
    ///
    /// Errors: what it has instead, in words.
    pub fn scalar(&self) -> Result<&Scalar, String> {
        match self.rows.as_slice() {
            [row] => match row.as_slice() {
                [one] => Ok(one),
                several => Err(format!("it gives {} columns, one is wanted", several.len())),
            },
            [] => Err("it gives no row, one is wanted".into()),
            [_, _, ..] => Err("it gives several rows, one is wanted".into()),
        }
    }
}
