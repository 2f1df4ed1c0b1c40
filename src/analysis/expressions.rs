//! What moved in a face: the 52 coefficients of MediaPipe's blendshapes model, under the names that Apple's ARKit gave them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Covered;

/// Movements of one face, each 0 (none) to 100 (all the way), in the order of [`Expressions::NAMES`]. Left and right are the
/// person's own.
///
/// JSON names them, as shares of 1, and leaves out those that are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expressions([u8; 52]);

impl Expressions {
    /// In the model's order; `_neutral` is what the model makes of a face at rest, and means nothing for one that is not.
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

    /// From shares of 1, which are cut to 0 and 1 and rounded to hundredths. `None` where one is no number.
    pub fn of_shares(shares: &[f32; 52]) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        let percent = |share: f32| (100.0 * share.clamp(0.0, 1.0)).round() as u8;
        shares.iter().all(|share| share.is_finite()).then(|| Self(shares.map(percent)))
    }

    /// One of them as a share of 1; `None` for a name that is not one of the 52.
    pub fn get(&self, name: &str) -> Option<f64> {
        Self::NAMES.iter().position(|known| *known == name).map(|n| share(self.0[n]))
    }

    /// Without the movements of parts that cannot be seen: the network makes them up.
    pub fn without(mut self, covered: Covered) -> Self {
        for (name, percent) in Self::NAMES.iter().zip(&mut self.0) {
            let of = |parts: &[&str]| parts.iter().any(|part| name.starts_with(part));
            if covered.eyes && of(&["eye"]) || covered.mouth && of(&["mouth", "jaw", "cheekPuff"]) {
                *percent = 0;
            }
        }
        self
    }

    /// All of them, in percent.
    pub const fn percent(&self) -> &[u8; 52] {
        &self.0
    }

    /// As [`Expressions::percent`] gives them; `None` where they are not 52, or one is above 100.
    pub fn of_percent(percent: &[u8]) -> Option<Self> {
        let percent = <[u8; 52]>::try_from(percent).ok()?;
        percent.iter().all(|value| *value <= 100).then_some(Self(percent))
    }
}

/// Hundredths as a share of 1.
pub(super) fn share(percent: u8) -> f64 {
    f64::from(percent) / 100.0
}

impl Serialize for Expressions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moved = || Self::NAMES.iter().zip(self.0).filter(|(_, percent)| *percent > 0);
        let mut map = serializer.serialize_map(Some(moved().count()))?;
        for (name, percent) in moved() {
            map.serialize_entry(name, &share(percent))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movements_keep_their_names_and_hundredths_in_json() {
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
    fn every_number_of_hundredths_is_written_as_it_is() {
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
