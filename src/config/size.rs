//! Sizes in bytes, written as a number or with a unit, such as `"500 MB"` or `"2 GiB"`.

use std::str::FromStr;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(format!("{text:?} is not a size such as 500 MB or 2 GiB")),
        };
        let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a size such as 500 MB or 2 GiB"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(&str, u64, u64); 6] = [
            ("GiB", 1 << 30, 2),
            ("MiB", 1 << 20, 2),
            ("GB", 1_000_000_000, 10),
            ("MB", 1_000_000, 10),
            ("kB", 1000, 10),
            ("KiB", 1 << 10, 2),
        ];
        for (unit, size, parts) in UNITS {
            if self.0 >= size && self.0.is_multiple_of(size / parts) {
                #[expect(clippy::cast_precision_loss, reason = "for people's eyes")]
                return write!(f, "{} {unit}", self.0 as f64 / size as f64);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Always deserialize text: the crate `config` converts numbers to text if text is requested.
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ByteSize;

    #[test]
    fn sizes_with_units_are_parsed() {
        for (text, bytes) in [("17", 17), ("5 MB", 5_000_000), ("2 GiB", 2 << 30), ("64KiB", 64 << 10)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MB", "-1", "1.5 GB", "99999999999 GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_formatted_with_the_largest_fitting_unit() {
        assert_eq!(ByteSize(2 << 30).to_string(), "2 GiB");
        assert_eq!(ByteSize(64 << 10).to_string(), "64 KiB");
        assert_eq!(ByteSize(1_000_000_000).to_string(), "1 GB");
        assert_eq!(ByteSize(1_500_000).to_string(), "1.5 MB");
        assert_eq!(ByteSize(1001).to_string(), "1001 bytes");
    }
}
