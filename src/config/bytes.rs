//! Amounts of memory, as people write them: `128G`, `40GiB`, `500 MB`.

use std::fmt;
use std::str::FromStr;

use super::value::{Field, Value};

/// An amount of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// Units by the letter they begin with, as powers of 1024 (as schedulers and containers read `128G`) and of 1000.
const UNITS: [(char, u32); 4] = [('K', 1), ('M', 2), ('G', 3), ('T', 4)];

/// No machine has as much.
const MOST: u64 = 1 << 60;

impl FromStr for Bytes {
    type Err = String;

    /// `G` and `GiB` are 1024³ bytes, `GB` is 1000³; likewise K, M, T. No unit means bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no amount of memory; write a number and a unit, as in 128G, 40GiB or 500MB");
        let t = text.trim();
        let unit_at = t.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(t.len());
        let number = t[..unit_at].trim().replace('_', "");
        let unit = t[unit_at..].to_ascii_uppercase();
        let power = |c: char| UNITS.iter().find(|(u, _)| *u == c).map(|&(_, p)| p);
        let mut letters = unit.chars();
        let scale = match letters.next() {
            None | Some('B') if letters.as_str().is_empty() => 1u64,
            Some(c) => match (power(c), letters.as_str()) {
                (Some(p), "" | "I" | "IB") => 1024u64.pow(p),
                (Some(p), "B") => 1000u64.pow(p),
                _ => return Err(wrong()),
            },
            None => return Err(wrong()),
        };
        // Whole numbers stay exact; a fraction is as near as floating point has it.
        let bytes = match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(scale).ok_or_else(wrong)?,
            Err(_) => (number.parse::<f64>().map_err(|_| wrong())? * scale as f64) as u64,
        };
        if (1..MOST).contains(&bytes) { Ok(Self(bytes)) } else { Err(wrong()) }
    }
}

/// To three or four digits: `12.3 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1000.0 {
                break;
            }
            (value, unit) = (value / 1024.0, next);
        }
        let digits = match value {
            _ if unit == "B" => 0,
            v if v < 10.0 => 2,
            v if v < 100.0 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

/// `null` (or nothing, on a command line) is no limit of one's own.
impl Field for Option<Bytes> {
    const KIND: &'static str = "amount of memory such as 128G, or null";

    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            Value::Int(i) => Some(Some(Bytes(u64::try_from(*i).ok().filter(|b| (1..MOST).contains(b))?))),
            Value::Text(t) if t.is_empty() => Some(None),
            Value::Text(t) => t.parse().ok().map(Some),
            _ => None,
        }
    }

    /// Exact: in the largest binary unit that divides it.
    fn write(&self) -> Value {
        let Some(Bytes(b)) = *self else { return Value::Null };
        let unit = UNITS.iter().rev().find(|(_, p)| b.is_multiple_of(1 << (10 * p)));
        Value::Text(unit.map_or_else(|| b.to_string(), |(c, p)| format!("{}{c}", b >> (10 * p))))
    }

    /// The unit is in the text; there is no range to check.
    fn numbers(&self) -> Vec<f64> {
        vec![]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for (text, bytes) in [
            ("128G", 128 << 30),
            ("128GiB", 128 << 30),
            ("128 gb", 128_000_000_000),
            ("1.5K", 1536),
            ("1_000", 1000),
            ("7B", 7),
            ("2T", 2 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "G", "12X", "12GBs", "-1G", "1e30G", "nan", "0"] {
            assert!(text.parse::<Bytes>().unwrap_err().contains("128G"), "{text}");
        }
    }

    #[test]
    fn written_as_read() {
        for bytes in [1u64, 1023, 1 << 20, 3 << 29, 128 << 30, 128_000_000_000] {
            let b = Some(Bytes(bytes));
            let again = match b.write() {
                Value::Text(t) if t.chars().all(|c| c.is_ascii_digit()) => Value::Int(t.parse().unwrap()),
                v => v,
            };
            assert_eq!(Option::<Bytes>::read(&again), Some(b));
        }
        assert_eq!(Bytes(13_207_024_435).to_string(), "12.3 GiB");
        assert_eq!(Bytes(999).to_string(), "999 B");
    }
}
