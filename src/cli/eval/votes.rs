//! The class of a picture by the votes of several people, as in FER+.
//!
//! Source: Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
//! Distribution", and the code of its authors: a class that only one person names counts as noise and gets no votes. By
//! their majority rule, a picture counts if one class has more than half of the remaining votes.

/// Which pictures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All pictures of which most votes are for a class. On a tie it is the class of the first column.
    Most,
    /// Pictures of which more than half of the votes are for one class.
    Majority,
}

/// The columns of votes in a table.
pub struct VoteColumns {
    /// For each column its place in the table, and its class; `None` for votes for no class.
    columns: Vec<(usize, Option<usize>)>,
}

impl VoteColumns {
    /// Finds the columns that are named like a class, and those of FER+ for "unknown" and "not a face". Returns `None`
    /// if there is no column of a class.
    pub fn of<'a>(header: impl Iterator<Item = &'a str>, class: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let class = |name: &str| match name.to_lowercase().as_str() {
            "unknown" | "nf" => Some(None),
            name => class(name).map(Some),
        };
        let columns: Vec<_> = header.enumerate().filter_map(|(at, name)| Some((at, class(name)?))).collect();
        columns.iter().any(|(_, class)| class.is_some()).then_some(Self { columns })
    }

    /// Returns the class of a row by its votes, or `None` if it does not count. The error is the place of a cell that is
    /// no number.
    pub fn class(&self, row: &csv::StringRecord, rule: Rule) -> Result<Option<usize>, usize> {
        let votes = self.columns.iter().map(|&(at, class)| {
            let votes: u32 = row.get(at).and_then(|cell| cell.parse().ok()).ok_or(at)?;
            Ok((class, if votes > 1 { votes } else { 0 }))
        });
        let votes = votes.collect::<Result<Vec<_>, usize>>()?;
        let all: u32 = votes.iter().map(|(_, votes)| votes).sum();
        let first_of_most =
            |best: (Option<usize>, u32), next: (Option<usize>, u32)| if next.1 > best.1 { next } else { best };
        let (class, most) = votes.into_iter().fold((None, 0), first_of_most);
        Ok(class.filter(|_| rule == Rule::Most || 2 * most > all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF";
    const NAMES: [&str; 8] = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"];

    fn class(name: &str) -> Option<usize> {
        NAMES.iter().position(|known| *known == name)
    }

    /// The classes by both rules.
    fn classes(votes: &str) -> (Option<usize>, Option<usize>) {
        let columns = VoteColumns::of(HEADER.split(','), class).unwrap();
        let row: csv::StringRecord = format!("PublicTest,a.png,{votes}").split(',').collect();
        (columns.class(&row, Rule::Most).unwrap(), columns.class(&row, Rule::Majority).unwrap())
    }

    #[test]
    fn the_class_is_that_of_most_votes_and_counts_by_majority_if_it_has_more_than_half() {
        for (votes, most, majority) in [
            ("0,10,0,0,0,0,0,0,0,0", Some(1), Some(1)),
            // Single votes are dropped: 5 of 8, not 5 of 10.
            ("5,0,0,3,1,0,0,0,1,0", Some(0), Some(0)),
            // Exactly half.
            ("0,0,5,0,0,0,5,0,0,0", Some(2), None),
            ("4,0,0,4,2,0,0,0,0,0", Some(0), None),
            // Most do not know, or see no face.
            ("2,0,0,2,0,0,0,0,6,0", None, None),
            ("0,0,0,0,0,0,0,0,0,10", None, None),
            ("0,0,0,4,0,0,0,0,4,2", Some(3), None),
            // Nothing but single votes.
            ("1,1,1,1,1,1,1,1,1,1", None, None),
        ] {
            assert_eq!(classes(votes), (most, majority), "{votes}");
        }
    }

    #[test]
    fn a_table_without_classes_has_no_votes_and_a_cell_without_a_number_is_named() {
        assert!(VoteColumns::of("file,label,unknown".split(','), class).is_none());
        let columns = VoteColumns::of(HEADER.split(','), class).unwrap();
        let row: csv::StringRecord = "PublicTest,a.png,0,x,0,0,0,0,0,0,0,0".split(',').collect();
        assert_eq!(columns.class(&row, Rule::Most), Err(3));
    }
}
