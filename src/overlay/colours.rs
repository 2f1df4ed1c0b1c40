//! The colours of people.

/// A colour, and the colour of text on it, each as blue, green and red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours {
    pub ground: [u8; 3],
    pub ink: [u8; 3],
}

const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];

/// The palette "bright" of Paul Tol (2021), "Colour Schemes", without grey. People with colour blindness can tell its
/// colours apart. None of them is the colour of an emotion in the report.
const PALETTE: [Colours; 6] = [
    Colours { ground: [0xee, 0xcc, 0x66], ink: BLACK },
    Colours { ground: [0x77, 0x66, 0xee], ink: BLACK },
    Colours { ground: [0x44, 0xbb, 0xcc], ink: BLACK },
    Colours { ground: [0x33, 0x88, 0x22], ink: WHITE },
    Colours { ground: [0x77, 0x33, 0xaa], ink: WHITE },
    Colours { ground: [0xaa, 0x77, 0x44], ink: WHITE },
];

/// Returns the colours of the person with this id. They repeat after six people.
pub fn of_person(id: u32) -> Colours {
    PALETTE[id.saturating_sub(1) as usize % PALETTE.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contrast ratio of WCAG 2.2.
    fn contrast(Colours { ground, ink }: Colours) -> f64 {
        let luminance = |[b, g, r]: [u8; 3]| {
            let linear = |channel: u8| {
                let c = f64::from(channel) / 255.0;
                if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
        };
        let (a, b) = (luminance(ground), luminance(ink));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn labels_are_readable_and_six_people_have_colours_of_their_own() {
        let colours: Vec<Colours> = (1..=6).map(of_person).collect();
        for (n, one) in colours.iter().enumerate() {
            assert!(contrast(*one) >= 4.5, "{one:?}: {}", contrast(*one));
            assert!(colours[..n].iter().all(|other| other.ground != one.ground));
        }
        assert_eq!(of_person(7), of_person(1));
    }
}
