//! Counts blinks.

use super::Observation;
use super::contact::Contact;

/// Maximum interval between samples, in seconds. With larger intervals, blinks are missed: a blink takes 0.1 to 0.4 s
/// (Schiffman 2001, "Sensation and Perception"), and the lids are down for only a part of that.
pub const MAX_INTERVAL_S: f64 = 0.125;
/// Maximum duration of a blink, in seconds.
const LONGEST_S: f64 = 0.5;
/// Minimum time with readable eyes from which a rate is computed, in seconds. People blink every 3 to 4 seconds.
const MIN_WATCHED_S: f64 = 10.0;

/// The blinks of one or more people.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Blinks {
    count: u32,
    /// Seconds in which the eyes could be read.
    watched_s: f64,
}

impl Blinks {
    /// Counts a blink each time that the eyes are open, then shut for at most half a second, then open again. A
    /// sample without readable eyes, or a gap, discards the blink in progress. `interval_s`: usual time between
    /// samples.
    pub fn count(seen: &[Observation], contacts: &[Contact], interval_s: f64) -> Self {
        let mut blinks = Self::default();
        if interval_s <= 0.0 || interval_s > MAX_INTERVAL_S {
            return blinks;
        }
        // The time of the last sample, and the time at which the eyes shut. The inner `None` means that they were
        // shut from the start.
        let (mut last, mut shut_since): (Option<f64>, Option<Option<f64>>) = (None, None);
        for (seen, contact) in seen.iter().zip(contacts) {
            let Some(shut) = contact.eyes_shut else {
                (last, shut_since) = (None, None);
                continue;
            };
            let followed = last.filter(|last| seen.time_s - last <= 2.5 * interval_s);
            blinks.watched_s += followed.map_or(0.0, |last| seen.time_s - last);
            if followed.is_none() {
                shut_since = shut.then_some(None);
            } else if shut && shut_since.is_none() {
                shut_since = Some(Some(seen.time_s));
            } else if !shut {
                let is_blink = shut_since.flatten().is_some_and(|since| seen.time_s - since <= LONGEST_S);
                blinks.count += u32::from(is_blink);
                shut_since = None;
            }
            last = Some(seen.time_s);
        }
        blinks
    }

    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, watched_s: self.watched_s + other.watched_s }
    }

    /// Returns the blinks a minute, or `None` if the samples were too far apart or the eyes could be read for less
    /// than 10 s.
    pub fn per_minute(self) -> Option<f64> {
        (self.watched_s >= MIN_WATCHED_S).then(|| 60.0 * f64::from(self.count) / self.watched_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;

    /// Counts the blinks of samples with this interval, each with eyes open (`.`), shut (`-`) or unreadable (` `).
    fn blinks(interval_s: f64, eyes: &str) -> Blinks {
        let at = |n: u32| seen(n, f64::from(n) * interval_s, (100.0, 100.0), 80.0);
        let contact = |eye| Contact {
            met: None,
            eyes_shut: match eye {
                '.' => Some(false),
                '-' => Some(true),
                _ => None,
            },
        };
        let contacts: Vec<Contact> = eyes.chars().map(contact).collect();
        let samples: Vec<Observation> = (0..).take(contacts.len()).map(at).collect();
        Blinks::count(&samples, &contacts, interval_s)
    }

    #[test]
    fn eyes_that_shut_briefly_are_a_blink_and_eyes_that_stay_shut_are_not() {
        for (eyes, count) in [
            ("...-....--...-..", 3),
            // The duration is unknown for eyes that are shut at the start or the end.
            ("--....--", 0),
            // Shut for more than half a second.
            ("...--------...", 0),
            // Eyes that cannot be read may have stayed shut.
            ("...- -...", 0),
            ("... -...", 0),
            ("", 0),
        ] {
            assert_eq!(blinks(0.1, eyes).count, count, "{eyes:?}");
        }
    }

    #[test]
    fn a_rate_needs_close_samples_and_ten_seconds() {
        let twice = ".........-...........-.........".repeat(5);
        let rate = blinks(0.1, &twice).per_minute().unwrap();
        assert!((rate - 60.0 * 10.0 / 15.4).abs() < 0.1, "{rate}");
        assert_eq!(blinks(0.2, &twice).per_minute(), None, "too coarse");
        assert_eq!(blinks(0.1, &twice[..90]).per_minute(), None, "too short");
        let both = blinks(0.1, &twice[..90]).plus(blinks(0.1, &twice[..90]));
        assert!(both.per_minute().is_some());
    }

    proptest! {
        #[test]
        fn there_are_at_most_as_many_blinks_as_closings_of_the_eyes(eyes in "[.\\- ]{0,300}") {
            let shut = eyes.as_bytes().windows(2).filter(|pair| pair[0] == b'.' && pair[1] == b'-').count();
            let found = blinks(0.1, &eyes);
            prop_assert!(found.count as usize <= shut);
            prop_assert!(found.watched_s <= 0.1 * eyes.len() as f64 + 1e-9);
        }
    }
}
