//! Movements of a face: the 52 coefficients of MediaPipe's blendshapes model, with the names of Apple's ARKit.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Covered;

/// Movements of one face, each 0 (none) to 100 (full), in the order of [`Expressions::NAMES`]. Left and right are the
/// person's own.
///
/// In JSON it is a map from names to shares of 1, without the movements that are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expressions([u8; 52]);

impl Expressions {
    /// Names in the order of the model. `_neutral` has a meaning only for a face at rest.
    pub const NAMES: [&str; 52] = [
        "_neutral",
        "browDownLeft",
        "browDownRight",
        "browInnerUp",
        "browOuterUpLeft",
        "browOuterUpRight",
        "cheekPuff",
        "cheekSquintLeft",
        "cheekSquintRight",
        "eyeBlinkLeft",
        "eyeBlinkRight",
        "eyeLookDownLeft",
        "eyeLookDownRight",
        "eyeLookInLeft",
        "eyeLookInRight",
        "eyeLookOutLeft",
        "eyeLookOutRight",
        "eyeLookUpLeft",
        "eyeLookUpRight",
        "eyeSquintLeft",
        "eyeSquintRight",
        "eyeWideLeft",
        "eyeWideRight",
        "jawForward",
        "jawLeft",
        "jawOpen",
        "jawRight",
        "mouthClose",
        "mouthDimpleLeft",
        "mouthDimpleRight",
        "mouthFrownLeft",
        "mouthFrownRight",
        "mouthFunnel",
        "mouthLeft",
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthPressLeft",
        "mouthPressRight",
        "mouthPucker",
        "mouthRight",
        "mouthRollLower",
        "mouthRollUpper",
        "mouthShrugLower",
        "mouthShrugUpper",
        "mouthSmileLeft",
        "mouthSmileRight",
        "mouthStretchLeft",
        "mouthStretchRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
        "noseSneerLeft",
        "noseSneerRight",
    ];

    /// Converts shares of 1. Clamps them to 0 and 1 and rounds them to hundredths. Returns `None` if one is not finite.
    pub fn of_shares(shares: &[f32; 52]) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let percent = |share: f32| (100.0 * share.clamp(0.0, 1.0)).round() as u8;
        shares.iter().all(|share| share.is_finite()).then(|| Self(shares.map(percent)))
    }

    /// Returns one movement as a share of 1, or `None` for a name that is not one of the 52.
    pub fn get(&self, name: &str) -> Option<f64> {
        Self::NAMES.iter().position(|known| *known == name).map(|n| share(self.0[n]))
    }

    /// Sets the movements of covered parts to 0, because the network cannot see them.
    pub fn without(mut self, covered: Covered) -> Self {
        for (name, percent) in Self::NAMES.iter().zip(&mut self.0) {
            let of = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
            if covered.eyes && of(&["eye"]) || covered.mouth && of(&["mouth", "jaw", "cheekPuff"]) {
                *percent = 0;
            }
        }
        self
    }

    /// Returns all movements in percent.
    pub const fn percent(&self) -> &[u8; 52] {
        &self.0
    }

    /// Converts the values of [`Expressions::percent`] back. Returns `None` unless these are 52 values of at most 100.
    pub fn of_percent(percent: &[u8]) -> Option<Self> {
        let percent = <[u8; 52]>::try_from(percent).ok()?;
        percent.iter().all(|value| *value <= 100).then_some(Self(percent))
    }
}

/// Converts percent to a share of 1.
pub(super) fn share(percent: u8) -> f64 {
    f64::from(percent) / 100.0
}

/// Expressions in the form of a list without names.
pub(super) mod unnamed {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Expressions;

    pub fn serialize<S: Serializer>(expressions: &Option<Expressions>, serializer: S) -> Result<S::Ok, S::Error> {
        expressions.as_ref().map(|expressions| expressions.0.as_slice()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expressions>, D::Error> {
        let list = Option::<Vec<u8>>::deserialize(deserializer)?;
        let expressions =
            |list: Vec<u8>| list.try_into().map(Expressions).map_err(|_| Error::custom("not 52 movements"));
        list.map(expressions).transpose()
    }
}

impl Serialize for Expressions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nonzero = || Self::NAMES.iter().zip(self.0).filter(|(_, percent)| *percent > 0);
        let mut map = serializer.serialize_map(Some(nonzero().count()))?;
        for (name, percent) in nonzero() {
            map.serialize_entry(name, &share(percent))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_names_and_shares_rounded_to_hundredths() {
        let mut shares = [0.0; 52];
        (shares[44], shares[45], shares[9], shares[1]) = (0.9349, 1.2, 0.004, -0.5);
        let seen = Expressions::of_shares(&shares).unwrap();
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(text, r#"{"mouthSmileLeft":0.93,"mouthSmileRight":1.0}"#);
        assert_eq!(seen.get("mouthSmileLeft"), Some(0.93));
        assert_eq!((seen.get("eyeBlinkLeft"), seen.get("smile")), (Some(0.0), None));
        shares[3] = f32::NAN;
        assert_eq!(Expressions::of_shares(&shares), None);
    }

    #[test]
    fn movements_of_covered_parts_are_left_out() {
        let all = Expressions::of_percent(&[50; 52]).unwrap();
        let left = |eyes, mouth| all.without(Covered { eyes, mouth });
        assert_eq!(left(false, false), all);
        let masked = left(false, true);
        assert_eq!((masked.get("jawOpen"), masked.get("eyeBlinkLeft")), (Some(0.0), Some(0.5)));
        assert_eq!((masked.get("mouthSmileLeft"), masked.get("browInnerUp")), (Some(0.0), Some(0.5)));
        let shaded = left(true, false);
        assert_eq!((shaded.get("jawOpen"), shaded.get("eyeBlinkLeft")), (Some(0.5), Some(0.0)));
    }

    #[test]
    fn every_percentage_is_written_exactly() {
        for percent in 0..=100 {
            let seen = Expressions::of_percent(&[percent; 52]).unwrap();
            let json = serde_json::to_value(seen).unwrap();
            let written = json.get("jawOpen").and_then(serde_json::Value::as_f64);
            assert_eq!(written, (percent > 0).then(|| f64::from(percent) / 100.0));
        }
        assert_eq!(Expressions::of_percent(&[101; 52]), None);
        assert_eq!(Expressions::of_percent(&[1; 51]), None);
    }
}
