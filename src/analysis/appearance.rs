//! The appearance of a person: the colours of hair, skin and clothes, if the picture shows them.
//!
//! It distinguishes the people of one video where positions do not: after a cut, and when two people cross. It is
//! coarse on purpose: it is valid for minutes and for one set of clothes, so nobody can be recognised by it later. It
//! exists only until the end of the analysis of a video: an analysis that is broken off stores it, and erases it when it
//! ends. It is not part of the result. Only a client that sends single
//! pictures gets it back ([`super::People`]), and the service does not keep it.
//!
//! The picture is first scaled to a fixed brightness of the skin, so that lamps and exposure make no difference.
//! Measured values of [`Appearance::similarity`]:
//!
//! | compared | similarity |
//! | --- | --- |
//! | consecutive samples of a woman who weeps behind a hand and laughs | at least 0.84 |
//! | any two samples of this woman | at least 0.80 |
//! | samples of a man, some of them from a second recording of another size | at least 0.89 |
//! | a picture and its copy with 0.7 or 1.25 times the brightness | at least 0.92 |
//! | any two of seven people | at most 0.57; one pair of a group photograph 0.70 |

use serde::{Deserialize, Serialize};

/// Number of bins along each axis of CIE L*a*b*: lightness, green to red, blue to yellow.
const BINS: [usize; 3] = [6, 7, 7];
/// Values of the first and the last bin along each axis.
const RANGES: [(f32, f32); 3] = [(0.0, 100.0), (-30.0, 50.0), (-30.0, 50.0)];
/// Weight of a new observation in the running average.
const UPDATE_WEIGHT: f32 = 0.2;

/// Number of bins of a histogram.
const ALL_BINS: usize = BINS[0] * BINS[1] * BINS[2];
/// Bytes with a bit for each bin.
const BITMAP: usize = ALL_BINS.div_ceil(8);

/// Shares of the colours. They sum to 1.
type Histogram = Box<[f32]>;

/// The bins above 0 of the parts, with their numbers.
type SparseParts = [Option<Vec<(usize, f32)>>; 3];

/// Colours of hair, skin and clothes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(into = "SparseParts", try_from = "SparseParts")]
pub struct Appearance {
    parts: [Option<Histogram>; 3],
}

impl Appearance {
    /// Computes the appearance from the pixels of hair, skin and clothes, each as L* (0 to 100), a* and b*. A part
    /// that is not in the picture has no pixels.
    pub fn of(parts: [&[[f32; 3]]; 3]) -> Self {
        Self { parts: parts.map(histogram) }
    }

    /// Returns the similarity of the colours, 0 to 1: the intersection of the histograms, as the mean over the parts
    /// that both have. `None` if they have no part in common.
    pub fn similarity(&self, other: &Self) -> Option<f32> {
        let shared = self.parts.iter().zip(&other.parts).filter_map(|(a, b)| Some((a.as_ref()?, b.as_ref()?)));
        let (mut sum, mut parts) = (0.0, 0.0);
        for (a, b) in shared {
            sum += a.iter().zip(b).map(|(a, b)| a.min(*b)).sum::<f32>();
            parts += 1.0;
        }
        (parts > 0.0).then(|| sum / parts)
    }

    /// Updates the appearance with another observation of the same person.
    pub fn update(&mut self, seen: &Self) {
        for (known, seen) in self.parts.iter_mut().zip(&seen.parts) {
            match (known, seen) {
                (Some(known), Some(seen)) => {
                    for (known, seen) in known.iter_mut().zip(seen) {
                        *known += UPDATE_WEIGHT * (seen - *known);
                    }
                }
                (known @ None, seen) => known.clone_from(seen),
                (Some(_), None) => {}
            }
        }
    }

    /// Appends the appearance to some bytes: for each part a byte that says whether it is known, then a bit for each
    /// bin that says whether it is above 0, and those bins in units of the largest one divided by 255.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        for part in &self.parts {
            to.push(u8::from(part.is_some()));
            let Some(part) = part else { continue };
            let largest = part.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
            let units: Vec<u8> = part.iter().map(|share| (255.0 * share / largest).round() as u8).collect();
            let mut bitmap = [0; BITMAP];
            for (bin, _) in units.iter().enumerate().filter(|(_, unit)| **unit > 0) {
                bitmap[bin / 8] |= 1 << (bin % 8);
            }
            to.extend(bitmap);
            to.extend(units.into_iter().filter(|unit| *unit > 0));
        }
    }

    /// Reads an appearance from the start of some bytes and removes it from them. Returns `None` if they are not what
    /// [`Appearance::write`] wrote.
    pub(super) fn read(from: &mut &[u8]) -> Option<Self> {
        let mut parts = [None, None, None];
        for part in &mut parts {
            match from.split_off_first()? {
                0 => continue,
                1 => {}
                _ => return None,
            }
            let bitmap = from.split_off(..BITMAP)?;
            let mut bins = vec![0.0; ALL_BINS];
            let is_set = |bin: usize| bitmap[bin / 8] >> (bin % 8) & 1 == 1;
            if (ALL_BINS..8 * BITMAP).any(is_set) {
                return None;
            }
            for (_, share) in bins.iter_mut().enumerate().filter(|(bin, _)| is_set(*bin)) {
                *share = f32::from(*from.split_off_first().filter(|unit| **unit > 0)?);
            }
            let sum: f32 = bins.iter().sum();
            if sum <= 0.0 {
                return None;
            }
            bins.iter_mut().for_each(|share| *share /= sum);
            *part = Some(bins.into());
        }
        Some(Self { parts })
    }
}

impl From<Appearance> for SparseParts {
    fn from(appearance: Appearance) -> Self {
        let above_0 = |part: Histogram| part.iter().copied().enumerate().filter(|(_, share)| *share > 0.0).collect();
        appearance.parts.map(|part| part.map(above_0))
    }
}

impl TryFrom<SparseParts> for Appearance {
    type Error = &'static str;

    fn try_from(sparse: SparseParts) -> Result<Self, Self::Error> {
        let mut parts = [None, None, None];
        for (part, sparse) in parts.iter_mut().zip(sparse) {
            let Some(sparse) = sparse else { continue };
            let mut bins = vec![0.0; ALL_BINS];
            for (bin, share) in sparse {
                *bins.get_mut(bin).ok_or("there is no such bin")? = share;
            }
            *part = Some(bins.into());
        }
        Ok(Self { parts })
    }
}

/// Computes the histogram of some pixels. Each pixel is distributed over the eight nearest bins by trilinear
/// interpolation, so a small change of colour changes the histogram only a little.
fn histogram(pixels: &[[f32; 3]]) -> Option<Histogram> {
    let mut bins = vec![0.0; ALL_BINS];
    let each = 1.0 / pixels.len() as f32;
    for pixel in pixels {
        let mut positions = [(0, 0.0); 3];
        for axis in 0..3 {
            let ((low, high), last) = (RANGES[axis], BINS[axis] - 1);
            let at = ((pixel[axis] - low) / (high - low)).clamp(0.0, 1.0) * last as f32;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the last bin")]
            let bin = (at as usize).min(last - 1);
            positions[axis] = (bin, at - bin as f32);
        }
        for corner in 0..8 {
            let (mut index, mut weight) = (0, each);
            for (axis, (bin, fraction)) in positions.into_iter().enumerate() {
                let upper = corner >> axis & 1;
                index = index * BINS[axis] + bin + upper;
                weight *= if upper == 1 { fraction } else { 1.0 - fraction };
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

    /// Returns the appearance of a person with hair, skin and clothes of these colours.
    pub fn wearing(hair: [f32; 3], skin: [f32; 3], clothes: [f32; 3]) -> Appearance {
        Appearance::of([&[hair; 4], &[skin; 4], &[clothes; 4]])
    }

    #[test]
    fn similarity_is_high_for_equal_colours_and_lower_for_others() {
        let (dark, light, red, blue) = ([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [45.0, 45.0, 30.0], [35.0, 5.0, -30.0]);
        let one = wearing(dark, light, red);
        assert!((one.similarity(&one).unwrap() - 1.0).abs() < 1e-5);
        let changed = one.similarity(&wearing(dark, light, blue)).unwrap();
        assert!((changed - 2.0 / 3.0).abs() < 0.02, "{changed}");
        // Only parts that both have are compared.
        let close = Appearance::of([&[dark], &[light], &[]]);
        assert!((one.similarity(&close).unwrap() - 1.0).abs() < 1e-5);
        assert_eq!(Appearance::default().similarity(&one), None);
    }

    #[test]
    fn an_update_changes_known_parts_slowly_and_adds_new_ones() {
        let mut known = Appearance::of([&[], &[[60.0, 12.0, 15.0]], &[]]);
        known.update(&wearing([20.0, 0.0, 0.0], [70.0, 12.0, 15.0], [40.0, 0.0, 0.0]));
        let same = Appearance::of([&[[20.0, 0.0, 0.0]], &[[60.0, 12.0, 15.0]], &[[40.0, 0.0, 0.0]]]);
        let similarity = known.similarity(&same).unwrap();
        assert!(similarity > 0.9 && similarity < 1.0, "{similarity}");
    }

    #[test]
    fn bytes_that_are_no_appearance_are_not_read() {
        let mut bytes = Vec::new();
        wearing([20.0, 0.0, 0.0], [60.0, 12.0, 15.0], [45.0, 45.0, 30.0]).write(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Appearance::read(&mut &bytes[..end]), None, "{end}");
        }
        // An unknown mark, no bin at all, a bin beyond the last one, and a bin of 0.
        let empty = [&[1][..], &[0; BITMAP]].concat();
        let beyond = [&[1][..], &[0; BITMAP - 1], &[0x80, 255, 0, 0]].concat();
        let zero = [&[1, 1][..], &[0; BITMAP - 1], &[0, 0, 0]].concat();
        for wrong in [vec![2, 0, 0], [&empty[..], &[0, 0]].concat(), beyond, zero] {
            assert_eq!(Appearance::read(&mut &wrong[..]), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_appearance_is_read_almost_unchanged(
            a in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 0..200),
            b in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 1..40),
        ) {
            let written = Appearance::of([&a, &b, &[]]);
            let mut bytes = Vec::new();
            written.write(&mut bytes);
            bytes.push(7);
            let mut rest = &bytes[..];
            let read = Appearance::read(&mut rest).unwrap();
            prop_assert_eq!(rest, &[7][..]);
            prop_assert!(written.similarity(&read).unwrap() > 0.98);
        }

        #[test]
        fn similarity_is_symmetric_and_between_0_and_1(
            a in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 1..40),
            b in prop::collection::vec(prop::array::uniform3(-60.0_f32..110.0), 1..40),
        ) {
            let (one, other) = (Appearance::of([&a, &b, &[]]), Appearance::of([&b, &a, &a]));
            let similarity = one.similarity(&other).unwrap();
            prop_assert!((0.0..=1.0 + 1e-4).contains(&similarity));
            prop_assert!((similarity - other.similarity(&one).unwrap()).abs() < 1e-5);
            prop_assert!((one.similarity(&one).unwrap() - 1.0).abs() < 1e-4);
        }
    }
}
