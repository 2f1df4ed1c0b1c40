//! Groups one person's samples into a limited number of bins, so that the chart of a long video stays small.

use crate::analysis::{Emotion, Timeline, TimelineRow};

/// The emotions of one person in one span of time: one sample, or the mean of several.
#[derive(Debug, Clone, PartialEq)]
pub struct Bin {
    /// Seconds from the start of the video.
    pub from_s: f64,
    pub to_s: f64,
    /// Mean time of the samples, in seconds.
    pub at_s: f64,
    /// Mean probabilities in the order of [`Emotion::ALL`].
    pub emotions: [f64; 7],
    /// Mean valence, -1 to 1.
    pub valence: f64,
}

impl Bin {
    /// Returns the strongest emotion and its mean probability.
    pub fn top(&self) -> (Emotion, f64) {
        Emotion::ALL.into_iter().fold((Emotion::Neutral, f64::MIN), |best, emotion| {
            let p = self.emotions[emotion.index()];
            if p > best.1 { (emotion, p) } else { best }
        })
    }
}

/// If two samples are further apart than this many sampling intervals, the face was not seen in between.
const GAP: f64 = 1.75;

/// Returns the stretches in which a face was seen without a gap, with at most `most` + 1 bins in all.
pub fn stretches(timeline: &Timeline, face: u32, duration_s: f64, most: usize) -> Vec<Vec<Bin>> {
    let rows: Vec<&TimelineRow> = timeline.rows.iter().filter(|row| row.face == face).collect();
    let Some(last) = rows.last() else { return Vec::new() };
    let interval = if timeline.interval_s > 0.0 { timeline.interval_s } else { duration_s.max(1.0) };
    let end = duration_s.max(last.time_s);
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    let step = end / most.max(1) as f64;
    if step <= interval { by_sample(&rows, interval, end) } else { by_step(&rows, interval, end, step) }
}

/// Makes a bin of each sample.
fn by_sample(rows: &[&TimelineRow], interval: f64, end: f64) -> Vec<Vec<Bin>> {
    let mut stretches: Vec<Vec<Bin>> = Vec::new();
    for row in rows {
        let mut bin = mean(&[row]);
        (bin.from_s, bin.to_s) = span(row.time_s, row.time_s, interval, end);
        match stretches.last_mut().and_then(|stretch| stretch.last_mut().map(|last| last.at_s)) {
            Some(before) if row.time_s - before <= GAP * interval => {
                if let Some(stretch) = stretches.last_mut() {
                    let middle = f64::midpoint(before, row.time_s);
                    if let Some(last) = stretch.last_mut() {
                        last.to_s = middle;
                    }
                    bin.from_s = middle;
                    stretch.push(bin);
                }
            }
            _ => stretches.push(vec![bin]),
        }
    }
    stretches
}

/// Makes a bin of the samples in each time step.
fn by_step(rows: &[&TimelineRow], interval: f64, end: f64, step: f64) -> Vec<Vec<Bin>> {
    let index = |row: &TimelineRow| (row.time_s / step).floor();
    let mut stretches: Vec<Vec<Bin>> = Vec::new();
    let mut before = f64::NEG_INFINITY;
    for group in rows.chunk_by(|a, b| index(a) == index(b)) {
        let at = index(group[0]);
        let mut bin = mean(group);
        // A stretch begins and ends at its samples, not at the limits of its time steps.
        let (from_s, to_s) = span(group[0].time_s, group[group.len() - 1].time_s, interval, end);
        (bin.from_s, bin.to_s) = (from_s.max(at * step), to_s.min((at + 1.0) * step));
        match stretches.last_mut() {
            Some(stretch) if at - before <= 1.0 => {
                if let Some(last) = stretch.last_mut() {
                    last.to_s = at * step;
                    bin.from_s = at * step;
                }
                stretch.push(bin);
            }
            _ => stretches.push(vec![bin]),
        }
        before = at;
    }
    stretches
}

/// Returns the span of time that the samples from `first` to `last` represent. It extends half an interval to both
/// sides, or to the start or end of the video if that is closer than one interval.
fn span(first: f64, last: f64, interval: f64, end: f64) -> (f64, f64) {
    let from = if first < interval { 0.0 } else { first - interval / 2.0 };
    let to = if last + interval >= end { end } else { last + interval / 2.0 };
    (from, to)
}

/// Returns the mean of the rows, weighted by quality. There must be at least one row. The caller sets the span.
fn mean(rows: &[&TimelineRow]) -> Bin {
    let mut bin = Bin { from_s: 0.0, to_s: 0.0, at_s: 0.0, emotions: [0.0; 7], valence: 0.0 };
    let mut total = 0.0;
    for row in rows {
        // A row of quality 0 gets a small weight, so that the sum is never 0.
        let weight = f64::from(row.quality).max(1e-6);
        total += weight;
        bin.at_s += weight * row.time_s;
        for (sum, &p) in bin.emotions.iter_mut().zip(&row.emotions.0) {
            *sum += weight * f64::from(p);
        }
        bin.valence += weight * row.emotions.valence_arousal().0;
    }
    bin.at_s /= total;
    bin.valence /= total;
    for sum in &mut bin.emotions {
        *sum /= total;
    }
    bin
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{BBox, Probabilities};

    fn timeline(times: impl IntoIterator<Item = f64>) -> Timeline {
        let rows = times.into_iter().map(|time_s| TimelineRow {
            time_s,
            face: 1,
            bbox: BBox::default(),
            emotions: Probabilities([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
            pose: None,
            eye_contact: None,
            quality: 1.0,
            gaze: None,
            eyes_shut: None,
            covered: None,
            expressions: None,
            relative: None,
        });
        Timeline { interval_s: 1.0, rows: rows.collect() }
    }

    #[test]
    fn a_face_that_leaves_and_returns_has_two_stretches() {
        let found = stretches(&timeline([0.0, 1.0, 2.0, 6.0, 7.0]), 1, 10.0, 100);
        let spans: Vec<_> = found.iter().map(|s| (s[0].from_s, s[s.len() - 1].to_s)).collect();
        assert_eq!(spans, [(0.0, 2.5), (5.5, 7.5)]);
    }

    #[test]
    fn many_samples_are_grouped_into_few_bins_and_gaps_are_kept() {
        let times = (0..5400).filter(|t| !(2000..3000).contains(t)).map(f64::from);
        let found = stretches(&timeline(times), 1, 5400.0, 240);
        assert_eq!(found.len(), 2);
        let count: usize = found.iter().map(Vec::len).sum();
        assert!((190..=240).contains(&count), "{count}");
        assert!((found[0].last().unwrap().to_s - 1999.5).abs() < 1e-9);
        assert!((found[1][0].from_s - 2999.5).abs() < 1e-9);
    }

    proptest::proptest! {
        #[test]
        fn bins_are_ordered_lie_inside_the_video_and_sum_to_one(
            seen in proptest::collection::vec(proptest::bool::ANY, 1..400),
            most in 1_usize..300,
        ) {
            let times = seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(n, _)| n as f64);
            let end = seen.len() as f64;
            let bins: Vec<Bin> = stretches(&timeline(times), 1, end, most).into_iter().flatten().collect();
            proptest::prop_assert!(bins.len() <= most + 1);
            proptest::prop_assert_eq!(bins.is_empty(), !seen.contains(&true));
            for bin in &bins {
                proptest::prop_assert!(0.0 <= bin.from_s && bin.from_s <= bin.at_s + 1e-9);
                proptest::prop_assert!(bin.at_s <= bin.to_s + 1e-9 && bin.to_s <= end);
                proptest::prop_assert!((bin.emotions.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            }
            proptest::prop_assert!(bins.windows(2).all(|pair| pair[0].to_s <= pair[1].from_s + 1e-9));
        }
    }

    #[test]
    fn bins_of_a_stretch_have_no_gaps() {
        for most in [4, 100] {
            let found = stretches(&timeline((0..20).map(f64::from)), 1, 20.0, most);
            assert_eq!(found.len(), 1, "{most}");
            assert!(found[0].windows(2).all(|pair| (pair[0].to_s - pair[1].from_s).abs() < 1e-9));
        }
    }

    #[test]
    fn no_samples_give_no_stretch_and_one_sample_gives_one() {
        assert!(stretches(&timeline([]), 1, 10.0, 10).is_empty());
        assert!(stretches(&timeline([1.0]), 2, 10.0, 10).is_empty());
        let one = stretches(&Timeline { interval_s: 0.0, ..timeline([0.0]) }, 1, 0.0, 10);
        assert_eq!(one.len(), 1);
    }
}
