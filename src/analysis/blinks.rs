//! Blinks: eyes that shut for a moment.

use super::Observation;
use super::contact::Contact;

/// Samples further apart than this, in seconds, miss blinks: a blink takes 0.1 to 0.4 s (Schiffman 2001, "Sensation and
/// Perception"), and lids are down for only a part of that.
pub const MAX_INTERVAL_S: f64 = 0.125;
/// Eyes that stay shut for longer than this, in seconds, do not blink.
const LONGEST_S: f64 = 0.5;
/// Less time with readable eyes than this, in seconds, tells no rate: people blink every 3 to 4 seconds.
const MIN_WATCHED_S: f64 = 10.0;

/// What was seen of one person's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Blinks {
    count: u32,
    watched_s: f64,
}

impl Blinks {
    /// Counts the times that eyes were open, then shut for at most half a second, then open again. A sample without
    /// readable eyes, or a gap, ends what was being watched. `interval_s`: usual time between samples.
    pub fn count(seen: &[Observation], contacts: &[Contact], interval_s: f64) -> Self {
        let mut blinks = Self::default();
        if interval_s <= 0.0 || interval_s > MAX_INTERVAL_S {
            return blinks;
        }
        // Last sample, and since when eyes are shut; `None` in it: they were shut from the start.
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
                let moment = shut_since.flatten().is_some_and(|since| seen.time_s - since <= LONGEST_S);
                blinks.count += u32::from(moment);
                shut_since = None;
            }
            last = Some(seen.time_s);
        }
        blinks
    }

    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, watched_s: self.watched_s + other.watched_s }
    }

    /// Blinks a minute; `None` where the samples were too far apart or the eyes could be read for less than 10 s.
    pub fn a_minute(self) -> Option<f64> {
        (self.watched_s >= MIN_WATCHED_S).then(|| 60.0 * f64::from(self.count) / self.watched_s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::testing::seen;

    /// Samples so far apart, each with eyes open (`.`), shut (`-`) or unreadable (` `).
    fn watch(interval_s: f64, eyes: &str) -> Blinks {
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
    fn lids_that_go_down_and_up_again_at_once_are_a_blink_and_sleep_is_none() {
        for (eyes, count) in [
            ("...-....--...-..", 3),
            // Shut at the start or the end, nobody knows for how long.
            ("--....--", 0),
            // For more than half a second.
            ("...--------...", 0),
            // Behind a hand, it may be anything.
            ("...- -...", 0),
            ("... -...", 0),
            ("", 0),
        ] {
            assert_eq!(watch(0.1, eyes).count, count, "{eyes:?}");
        }
    }

    #[test]
    fn a_rate_needs_samples_close_together_and_time_enough() {
        let twice = ".........-...........-.........".repeat(5);
        let rate = watch(0.1, &twice).a_minute().unwrap();
        assert!((rate - 60.0 * 10.0 / 15.4).abs() < 0.1, "{rate}");
        assert_eq!(watch(0.2, &twice).a_minute(), None, "too coarse");
        assert_eq!(watch(0.1, &twice[..90]).a_minute(), None, "too short");
        let both = watch(0.1, &twice[..90]).and(watch(0.1, &twice[..90]));
        assert!(both.a_minute().is_some());
    }

    proptest! {
        #[test]
        fn there_are_no_more_blinks_than_times_that_eyes_shut(eyes in "[.\\- ]{0,300}") {
            let shut = eyes.as_bytes().windows(2).filter(|pair| pair[0] == b'.' && pair[1] == b'-').count();
            let found = watch(0.1, &eyes);
            prop_assert!(found.count as usize <= shut);
            prop_assert!(found.watched_s <= 0.1 * eyes.len() as f64 + 1e-9);
        }
    }
}
