//! How a classifier does on groups of pictures, for example by the age of the people.
//!
//! The intervals of shares are Wilson's (Wilson 1927, "Probable inference, the law of succession, and statistical
//! inference", Journal of the American Statistical Association 22), which are right for few pictures and for shares of
//! 0 and 100 %. Those of differences are Newcombe's (1998, see [`super::Estimate::minus`]).

use super::intervals::Z;
use super::{Difference, Estimate, Interval, Judged};

/// A share of the pictures of a group, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupShare {
    /// `takes` is the number of pictures of which it is a share.
    pub share: Estimate,
    /// How much it is higher than the share of the pictures of all other groups. `None` if they have no such picture.
    pub more_than_others: Option<Difference>,
}

/// The figures of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupFigures {
    pub name: String,
    /// Share of the pictures that are classified correctly.
    pub accuracy: GroupShare,
    /// The same for the pictures of each class, in the order of the classes. `None` for a class without pictures.
    pub recall: Vec<Option<GroupShare>>,
}

impl GroupFigures {
    /// Returns the figures of each group, in the order of their names. `pictures` have the name of their group.
    pub fn of(classes: usize, pictures: &[(&str, &Judged)]) -> Vec<Self> {
        let mut names: Vec<&str> = pictures.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let group = |name: &str| {
            let share = |of: Option<usize>| {
                let right = |member: bool| {
                    let chosen = pictures.iter().filter(|(group, _)| (*group == name) == member);
                    let chosen = chosen.filter(|(_, judged)| of.is_none_or(|class| judged.truth == class));
                    estimate(chosen.map(|(_, judged)| judged.named().0 == judged.truth))
                };
                let own = right(true)?;
                let more_than_others = right(false).map(|others| own.minus(&others));
                Some(GroupShare { share: own, more_than_others })
            };
            let recall = (0..classes).map(|class| share(Some(class))).collect();
            Some(Self { name: name.to_owned(), accuracy: share(None)?, recall })
        };
        names.into_iter().filter_map(group).collect()
    }
}

/// Returns the share of what is true with Wilson's interval, or `None` without any.
fn estimate(outcomes: impl Iterator<Item = bool>) -> Option<Estimate> {
    let (right, count) = outcomes.fold((0_u32, 0_u32), |(right, count), it| (right + u32::from(it), count + 1));
    if count == 0 {
        return None;
    }
    let (right, n) = (f64::from(right), f64::from(count));
    let share = right / n;
    let centre = (right + Z * Z / 2.0) / (n + Z * Z);
    let half = Z * (share * (1.0 - share) * n + Z * Z / 4.0).sqrt() / (n + Z * Z);
    // Rounding errors must not move an end beyond the share.
    let interval = Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) };
    Some(Estimate { value: share, interval, takes: count as usize })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(truth: usize, right: bool) -> Judged {
        let named = if right { truth } else { 1 - truth };
        let mut probabilities = vec![0.1, 0.1];
        probabilities[named] = 0.9;
        Judged { truth, probabilities }
    }

    fn share(right: u32, count: u32) -> Estimate {
        estimate((0..count).map(|n| n < right)).unwrap()
    }

    #[test]
    fn intervals_are_those_of_the_literature() {
        // Newcombe 1998, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17,
        // 857-872, table I, method 3.
        for (right, count, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = share(right, count).interval;
            assert!(
                (found.low - low).abs() < 1e-4 && (found.high - high).abs() < 1e-4,
                "{right} of {count}: {found:?}"
            );
        }
        assert!(estimate(std::iter::empty()).is_none());
    }

    #[test]
    fn each_group_is_compared_with_all_others_by_class() {
        let pictures: Vec<(&str, Judged)> = [("b", 0, 90), ("b", 1, 90), ("a", 0, 50), ("c", 1, 90)]
            .into_iter()
            .flat_map(|(name, truth, right)| (0..100).map(move |n| (name, judged(truth, n < right))))
            .collect();
        let pictures: Vec<(&str, &Judged)> = pictures.iter().map(|(name, judged)| (*name, judged)).collect();
        let found = GroupFigures::of(3, &pictures);
        let names: Vec<&str> = found.iter().map(|group| &*group.name).collect();
        assert_eq!(names, ["a", "b", "c"]);

        let worse = &found[0];
        assert_eq!((worse.accuracy.share.value, worse.accuracy.share.takes), (0.5, 100));
        let difference = worse.accuracy.more_than_others.unwrap();
        assert!((difference.value + 0.4).abs() < 1e-9 && difference.beyond_chance, "{difference:?}");
        assert_eq!(worse.recall[0].map(|recall| recall.share.takes), Some(100));
        assert_eq!((worse.recall[1], worse.recall[2]), (None, None));

        // Among pictures of class 1 the groups b and c are alike, whatever the group a does.
        let alike = found[2].recall[1].unwrap().more_than_others.unwrap();
        assert!(alike.value.abs() < 1e-9 && !alike.beyond_chance, "{alike:?}");
        assert!(found[2].recall[1].unwrap().share.takes == 100 && found[2].recall[0].is_none());
    }

    #[test]
    fn a_single_group_has_no_others() {
        let (one, two) = (judged(0, true), judged(1, false));
        let found = GroupFigures::of(2, &[("all", &one), ("all", &two)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].accuracy.share.value, found[0].accuracy.more_than_others), (0.5, None));
        assert!(GroupFigures::of(2, &[]).is_empty());
    }
}
