//! Colours: one for each emotion, and variants of the operator's accent that are readable on a given background.

use crate::analysis::Emotion;

/// Returns the colour of an emotion in every chart, table and mail, as `#rrggbb`. The palette is that of Okabe & Ito
/// (2008), "Color Universal Design", which people with red-green colour blindness can tell apart. Neutral is grey.
pub const fn of_emotion(emotion: Emotion) -> &'static str {
    match emotion {
        Emotion::Angry => "#d55e00",
        Emotion::Disgust => "#009e73",
        Emotion::Fear => "#cc79a7",
        Emotion::Happy => "#e69f00",
        Emotion::Sad => "#0072b2",
        Emotion::Surprise => "#56b4e9",
        Emotion::Neutral => "#a3a9b3",
    }
}

/// An sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    pub const WHITE: Self = Self([255; 3]);
    pub const BLACK: Self = Self([0; 3]);
    /// The background of the light page. Text that is readable on it is readable on white too.
    pub const DAY: Self = Self([0xf5, 0xf6, 0xf8]);
    /// The lightest background of the dark page.
    pub const NIGHT: Self = Self([0x1a, 0x20, 0x29]);

    /// Reads `#rrggbb`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        Some(Self([part(0)?, part(2)?, part(4)?]))
    }

    /// Returns the relative luminance of WCAG 2.2, 0 to 1.
    fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(|channel| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    /// Returns the contrast ratio of WCAG 2.2, 1 to 21.
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Returns black or white, whichever has the higher contrast to this colour.
    pub fn ink(self) -> Self {
        if self.contrast(Self::WHITE) >= self.contrast(Self::BLACK) { Self::WHITE } else { Self::BLACK }
    }

    /// Mixes this colour with black or white until text in it has enough contrast on `background` (4.5:1, WCAG AA).
    pub fn readable_on(self, background: Self) -> Self {
        let goal = background.ink();
        (0..=20)
            .map(|step| self.mix(goal, f64::from(step) / 20.0))
            .find(|c| c.contrast(background) >= 4.5)
            .unwrap_or(goal)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two bytes")]
    fn mix(self, other: Self, share: f64) -> Self {
        let mut mixed = self.0;
        for (channel, goal) in mixed.iter_mut().zip(other.0) {
            *channel = (f64::from(*channel) * (1.0 - share) + f64::from(goal) * share).round() as u8;
        }
        Self(mixed)
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_accent_becomes_readable_on_both_backgrounds() {
        for accent in ["#ffff00", "#000000", "#ffffff", "#3457d5", "#808080"] {
            let accent = Colour::parse(accent).unwrap();
            for ground in [Colour::WHITE, Colour::NIGHT] {
                assert!(accent.readable_on(ground).contrast(ground) >= 4.5, "{accent} on {ground}");
            }
            assert!(accent.ink().contrast(accent) >= 4.5);
        }
    }

    #[test]
    fn contrast_follows_wcag() {
        assert!((Colour::WHITE.contrast(Colour::BLACK) - 21.0).abs() < 1e-9);
        // #767676 is the lightest grey with enough contrast on white.
        assert!(Colour::parse("#767676").unwrap().contrast(Colour::WHITE) >= 4.5);
        assert!(Colour::parse("#777777").unwrap().contrast(Colour::WHITE) < 4.5);
    }

    #[test]
    fn texts_that_are_not_colours_are_refused() {
        for text in ["blue", "#12345", "#12345g", "123456", "#é2345"] {
            assert_eq!(Colour::parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_two_emotions_share_a_colour() {
        for a in Emotion::ALL {
            for b in Emotion::ALL {
                assert_eq!(a == b, of_emotion(a) == of_emotion(b));
            }
        }
    }
}
