//! What a person looks like from afar: the colours of hair, skin and clothes, as far as they are in the picture.
//!
//! It tells people of one video apart where places do not: after a cut, and where two cross. It is coarse on purpose, good
//! for minutes and one set of clothes, and no feature by which anybody could be known again: it lives while a video is
//! analyzed, and is neither stored nor given out.
//!
//! Colours are those of the picture made as bright as if its skin had a fixed brightness, so that a lamp or a camera's
//! exposure changes nothing. Measured by [`Appearance::likeness`] against what was seen before: a woman who weeps behind a hand
//! and laughs, 0.84 or more from sample to sample and 0.80 between any two; a man at 0.89 or more, also in a second recording
//! of another size; pictures made darker by 0.7 or brighter by 1.25, 0.92 or more. Seven people against each other: 0.57 or
//! less, but for one pair of a group photograph with 0.70.

/// Bins along lightness, green to red and blue to yellow (CIE L*a*b*).
const BINS: [usize; 3] = [6, 7, 7];
/// Values of the first and the last bin of each.
const RANGES: [(f32, f32); 3] = [(0.0, 100.0), (-30.0, 50.0), (-30.0, 50.0)];
/// How much of what is known a new look changes.
const FRESH: f32 = 0.2;

/// Shares of colours, summing to 1.
type Histogram = Box<[f32]>;

/// Colours of hair, skin and clothes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Appearance {
    parts: [Option<Histogram>; 3],
}

impl Appearance {
    /// From the pixels of hair, skin and clothes, each as L* (0 to 100), a* and b*; empty where that part is not in the
    /// picture.
    pub fn of(parts: [&[[f32; 3]]; 3]) -> Self {
        Self { parts: parts.map(histogram) }
    }

    /// How much of the colours is the same, 0 to 1, the mean of the parts that both have; `None` where they share none.
    pub fn likeness(&self, other: &Self) -> Option<f32> {
        let shared = self.parts.iter().zip(&other.parts).filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
        let (mut sum, mut parts) = (0.0, 0.0);
        for (a, b) in shared {
            sum += a.iter().zip(b).map(|(a, b)| a.min(*b)).sum::<f32>();
            parts += 1.0;
        }
        (parts > 0.0).then(|| sum / parts)
    }

    /// Takes in another look at the same person.
    pub fn take_in(&mut self, seen: &Self) {
        for (known, seen) in self.parts.iter_mut().zip(&seen.parts) {
            match (known, seen) {
                (Some(known), Some(seen)) => {
                    for (known, seen) in known.iter_mut().zip(seen) {
                        *known += FRESH * (seen - *known);
                    }
                }
                (known @ None, seen) => known.clone_from(seen),
                (Some(_), None) => {}
            }
        }
    }
}

/// Each pixel counts for the bins on either side of it, by nearness: a colour at the border of two bins is none that jumps.
fn histogram(pixels: &[[f32; 3]]) -> Option<Histogram> {
    let mut bins = vec![0.0; BINS.iter().product()];
    let each = 1.0 / pixels.len() as f32;
    for pixel in pixels {
        let mut places = [(0, 0.0); 3];
        for axis in 0..3 {
            let ((low, high), last) = (RANGES[axis], BINS[axis] - 1);
            let at = ((pixel[axis] - low) / (high - low)).clamp(0.0, 1.0) * last as f32;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the last bin")]
            let bin = (at as usize).min(last - 1);
            places[axis] = (bin, at - bin as f32);
        }
        for corner in 0..8 {
            let (mut index, mut weight) = (0, each);
            for (axis, (bin, beyond)) in places.into_iter().enumerate() {
                let upper = corner >> axis & 1;
                index = index * BINS[axis] + bin + upper;
                weight *= if upper == 1 { beyond } else { 1.0 - beyond };
            }
            bins[index] += weight;
        }
    }
    (!pixels.is_empty()).then(|| bins.into())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Somebody with hair, skin and clothes of these colours.
    pub fn wearing(hair: [f32; 3], skin: [f32; 3], clothes: [f32; 3]) -> Appearance {
        Appearance::of([&[hair; 4], &[skin; 4], &[clothes; 4]])
    }

    #[test]
    fn the_same_colours_are_alike_and_others_are_not() {
        let (dark, light, red, blue) = ([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [45.0, 45.0, 30.0], [35.0, 5.0, -30.0]);
        let one = wearing(dark, light, red);
        assert!((one.likeness(&one).unwrap() - 1.0).abs() < 1e-5);
        let changed = one.likeness(&wearing(dark, light, blue)).unwrap();
        assert!((changed - 2.0 / 3.0).abs() < 0.02, "{changed}");
        // Only what both show is compared.
        let close = Appearance::of([&[dark], &[light], &[]]);
        assert!((one.likeness(&close).unwrap() - 1.0).abs() < 1e-5);
        assert_eq!(Appearance::default().likeness(&one), None);
    }

    #[test]
    fn what_is_known_of_somebody_follows_slowly_and_grows() {
        let mut known = Appearance::of([&[], &[[60.0, 12.0, 15.0]], &[]]);
        known.take_in(&wearing([20.0, 0.0, 0.0], [70.0, 12.0, 15.0], [40.0, 0.0, 0.0]));
        let same = Appearance::of([&[[20.0, 0.0, 0.0]], &[[60.0, 12.0, 15.0]], &[[40.0, 0.0, 0.0]]]);
        let likeness = known.likeness(&same).unwrap();
        assert!(likeness > 0.9 && likeness < 1.0, "{likeness}");
    }

    proptest! {
        #[test]
        fn likeness_is_mutual_and_stays_in_its_range(
            a in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 1..40),
            b in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 1..40),
        ) {
            let (one, other) = (Appearance::of([&a, &b, &[]]), Appearance::of([&b, &a, &a]));
            let likeness = one.likeness(&other).unwrap();
            prop_assert!((0.0..=1.0 + 1e-4).contains(&likeness));
            prop_assert!((likeness - other.likeness(&one).unwrap()).abs() < 1e-5);
            prop_assert!((one.likeness(&one).unwrap() - 1.0).abs() < 1e-4);
        }
    }
}
