//! Measures a classifier on labelled pictures.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::Interval;

/// Number of bins of confidence over which calibration is measured.
const CONFIDENCE_STEPS: usize = 15;

/// A labelled picture and the probabilities that a classifier gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Index of the true class.
    pub truth: usize,
    /// One probability for each class. They sum to 1.
    pub probabilities: Vec<f32>,
}

impl Judged {
    /// Returns the most probable class and its probability. On a tie it is the earlier class.
    pub fn named(&self) -> (usize, f32) {
        let each = self.probabilities.iter().copied().enumerate();
        each.fold((0, f32::MIN), |best, (class, p)| if p > best.1 { (class, p) } else { best })
    }
}

/// Figures of a classifier. All but counts are 0 to 1. Without pictures all are 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Number of pictures.
    pub count: usize,
    /// Share of the pictures that are classified correctly.
    pub accuracy: f64,
    /// Mean recall of the classes that occur: the accuracy if all of them were equally frequent.
    pub balanced_accuracy: f64,
    /// Mean F1 of the classes that occur.
    pub macro_f1: f64,
    /// Expected calibration error: the difference between the probability of the predicted class and the share of
    /// correct predictions, over 15 equal bins of that probability, weighted by the pictures in each bin.
    pub ece: f64,
    /// In the order of the classes.
    pub per_class: Vec<ClassFigures>,
    /// Number of pictures by true class (rows) and predicted class (columns).
    pub confusion: Vec<Vec<usize>>,
}

/// Figures of one class, each 0 to 1. They are 0 if there is nothing to divide by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassFigures {
    /// Share of correct pictures among those that are predicted to be of this class.
    pub precision: f64,
    /// Share of the pictures of this class that are predicted correctly.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
    /// Number of pictures of this class.
    pub support: usize,
}

/// Computes the figures of a classifier. `classes` is the number of classes. Every true and every predicted class is
/// below it.
pub fn evaluate(classes: usize, judged: &[Judged]) -> Evaluation {
    evaluate_all(classes, judged.iter())
}

fn evaluate_all<'a>(classes: usize, judged: impl Iterator<Item = &'a Judged>) -> Evaluation {
    let mut confusion = vec![vec![0_usize; classes]; classes];
    let (mut count, mut calibration) = (0, Calibration::default());
    for picture in judged {
        count += 1;
        calibration.add(picture);
        confusion[picture.truth][picture.named().0] += 1;
    }
    let figures = |class: usize| {
        let right = confusion[class][class];
        let support = confusion[class].iter().sum();
        let named: usize = confusion.iter().map(|row| row[class]).sum();
        let (precision, recall) = (share(right, named), share(right, support));
        ClassFigures { precision, recall, f1: share(2 * right, support + named), support }
    };
    let per_class: Vec<ClassFigures> = (0..classes).map(figures).collect();
    let mean = |of: fn(&ClassFigures) -> f64| {
        let present = per_class.iter().filter(|class| class.support > 0);
        let (sum, count) = present.fold((0.0, 0_usize), |(sum, count), class| (sum + of(class), count + 1));
        if count > 0 { sum / count as f64 } else { 0.0 }
    };
    Evaluation {
        count,
        accuracy: share((0..classes).map(|class| confusion[class][class]).sum(), count),
        balanced_accuracy: mean(|class| class.recall),
        macro_f1: mean(|class| class.f1),
        ece: calibration.error(count),
        per_class,
        confusion,
    }
}

/// Number of sets of pictures that are drawn for [`EvaluationIntervals`].
const DRAWS: usize = 1000;

/// 95 % intervals of the figures of a classifier, for other pictures of the same kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluationIntervals {
    pub accuracy: Interval,
    pub balanced_accuracy: Interval,
    pub macro_f1: Interval,
    pub ece: Interval,
}

impl EvaluationIntervals {
    /// Draws sets of as many pictures with replacement. The intervals hold the middle 95 % of their figures (percentile
    /// bootstrap: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7). The same
    /// pictures always give the same intervals.
    pub fn of(classes: usize, judged: &[Judged]) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(judged.len() as u64);
        let draws: Vec<Evaluation> = (0..if judged.is_empty() { 0 } else { DRAWS })
            .map(|_| {
                let drawn = (0..judged.len()).map(|_| &judged[random.random_range(0..judged.len())]);
                evaluate_all(classes, drawn)
            })
            .collect();
        let interval = |figure: fn(&Evaluation) -> f64| {
            let mut values: Vec<f64> = draws.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            let tail = values.len() / 40;
            let at = |index: usize| values.get(index).copied().unwrap_or_default();
            Interval { low: at(tail), high: at(values.len().saturating_sub(1 + tail)) }
        };
        Self {
            accuracy: interval(|figures| figures.accuracy),
            balanced_accuracy: interval(|figures| figures.balanced_accuracy),
            macro_f1: interval(|figures| figures.macro_f1),
            ece: interval(|figures| figures.ece),
        }
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole > 0 { part as f64 / whole as f64 } else { 0.0 }
}

/// For each bin of confidence, the sum of the confidence minus 1 for correct predictions, and of the confidence for wrong
/// ones.
#[derive(Default)]
struct Calibration([f64; CONFIDENCE_STEPS]);

impl Calibration {
    fn add(&mut self, picture: &Judged) {
        let (class, confidence) = picture.named();
        let confidence = f64::from(confidence);
        let step = (confidence * CONFIDENCE_STEPS as f64) as usize;
        let right = if class == picture.truth { 1.0 } else { 0.0 };
        self.0[step.min(CONFIDENCE_STEPS - 1)] += confidence - right;
    }

    /// Returns the expected calibration error of so many pictures.
    fn error(&self, count: usize) -> f64 {
        let off: f64 = self.0.iter().map(|step| step.abs()).sum();
        if count == 0 { 0.0 } else { off / count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(truth: usize, probabilities: &[f32]) -> Judged {
        Judged { truth, probabilities: probabilities.to_vec() }
    }

    #[test]
    fn figures_of_a_small_example_are_correct() {
        // Three pictures are of class 0, and two of them are predicted correctly. One is of class 1 and predicted
        // correctly. Class 2 does not occur.
        let all = [
            judged(0, &[0.9, 0.1, 0.0]),
            judged(0, &[0.9, 0.1, 0.0]),
            judged(0, &[0.2, 0.8, 0.0]),
            judged(1, &[0.2, 0.8, 0.0]),
        ];
        let found = evaluate(3, &all);
        assert_eq!(found.confusion, [[2, 1, 0], [0, 1, 0], [0, 0, 0]]);
        assert_eq!((found.count, found.accuracy), (4, 0.75));
        assert!((found.balanced_accuracy - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        let first = found.per_class[0];
        assert_eq!((first.precision, first.support), (1.0, 3));
        assert!((first.recall - 2.0 / 3.0).abs() < 1e-12 && (first.f1 - 0.8).abs() < 1e-12, "{first:?}");
        assert!((found.macro_f1 - (0.8 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        // With confidence 0.9 two of two are correct, with 0.8 one of two.
        assert!((found.ece - (2.0 * 0.1 + 2.0 * 0.3) / 4.0).abs() < 1e-6, "{}", found.ece);
    }

    #[test]
    fn without_pictures_all_figures_are_zero() {
        let found = evaluate(2, &[]);
        assert_eq!((found.count, found.accuracy, found.balanced_accuracy, found.ece), (0, 0.0, 0.0, 0.0));
    }

    #[test]
    fn intervals_hold_the_middle_of_the_binomial_distribution() {
        // Of 400 pictures 300 are classified correctly: the standard deviation of the accuracy is 0.0217.
        let all: Vec<Judged> = (0..400).map(|n| judged(usize::from(n % 4 == 0), &[0.75, 0.25])).collect();
        let Interval { low, high } = EvaluationIntervals::of(2, &all).accuracy;
        assert!(
            (low - (0.75 - 1.96 * 0.0217)).abs() < 0.008 && (high - (0.75 + 1.96 * 0.0217)).abs() < 0.008,
            "{low} {high}"
        );
        assert_eq!(EvaluationIntervals::of(2, &all), EvaluationIntervals::of(2, &all));
        assert_eq!(EvaluationIntervals::of(2, &[]).accuracy, Interval { low: 0.0, high: 0.0 });
    }

    proptest! {
        #[test]
        fn figures_are_in_range_and_the_confusion_matrix_counts_every_picture(
            all in prop::collection::vec((0_usize..5, prop::collection::vec(0.01_f32..1.0, 5)), 1..60),
        ) {
            let all: Vec<Judged> = all.into_iter().map(|(truth, weights)| {
                let sum: f32 = weights.iter().sum();
                Judged { truth, probabilities: weights.iter().map(|weight| weight / sum).collect() }
            }).collect();
            let found = evaluate(5, &all);
            prop_assert_eq!(found.confusion.iter().flatten().sum::<usize>(), all.len());
            prop_assert_eq!(found.per_class.iter().map(|class| class.support).sum::<usize>(), all.len());
            let shares = [found.accuracy, found.balanced_accuracy, found.macro_f1, found.ece];
            prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{:?}", found);
            // The mean recall, weighted by the frequency of each class, is the accuracy.
            let weighted: f64 = found.per_class.iter().map(|class| class.recall * class.support as f64).sum();
            prop_assert!((weighted / all.len() as f64 - found.accuracy).abs() < 1e-9);
        }

        #[test]
        fn the_order_of_the_pictures_does_not_matter(
            mut all in prop::collection::vec((0_usize..3, 0.4_f32..1.0), 1..40), by in 0_usize..40,
        ) {
            let figures = |all: &[(usize, f32)]| {
                let judged: Vec<_> = all.iter().map(|&(truth, p)| judged(truth, &[p, 1.0 - p, 0.0])).collect();
                evaluate(3, &judged)
            };
            let before = figures(&all);
            let by = by % all.len();
            all.rotate_left(by);
            let after = figures(&all);
            prop_assert_eq!(&before.confusion, &after.confusion);
            prop_assert!((before.ece - after.ece).abs() < 1e-9);
        }

        #[test]
        fn certain_and_correct_predictions_have_no_calibration_error(
            truths in prop::collection::vec(0_usize..4, 1..40),
        ) {
            let sure = |truth: usize| {
                let mut probabilities = vec![0.0; 4];
                probabilities[truth] = 1.0;
                Judged { truth, probabilities }
            };
            let found = evaluate(4, &truths.into_iter().map(sure).collect::<Vec<_>>());
            prop_assert_eq!((found.accuracy, found.balanced_accuracy, found.macro_f1, found.ece), (1.0, 1.0, 1.0, 0.0));
        }
    }
}
