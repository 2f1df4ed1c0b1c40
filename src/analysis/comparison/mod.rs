//! Compares one person in several results, or groups of results, and finds the differences beyond chance.

mod difference;
mod figures;
mod subject;
mod take;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::difference::{Difference, Estimate};
pub use self::figures::{ByFigure, FIGURES, Figure};
pub use self::subject::Subject;
pub use self::take::{NoTake, Take};

/// Results or groups of results, and the differences of the others from the first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Comparison {
    pub subjects: Vec<Subject>,
    pub differences: Vec<Differences>,
}

/// The differences of a subject from the first one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Differences {
    /// The name of the first subject.
    pub from: String,
    /// The name of the other subject.
    pub to: String,
    /// How much each figure is higher in `to`. Without those that one of the two does not have, and those of different
    /// definitions.
    #[schema(value_type = BTreeMap<String, Difference>)]
    pub figures: ByFigure<Difference>,
}

impl Comparison {
    /// Compares each subject with the first one.
    pub fn new(subjects: Vec<Subject>) -> Self {
        let differences = match &subjects[..] {
            [first, others @ ..] => others.iter().map(|other| Differences::new(first, other)).collect(),
            [] => Vec::new(),
        };
        Self { subjects, differences }
    }
}

impl Differences {
    fn new(from: &Subject, to: &Subject) -> Self {
        let is_same = from.metrics_versions == to.metrics_versions && from.metrics_versions.len() == 1;
        let figures = FIGURES.iter().zip(from.figures.0.iter().zip(&to.figures.0)).map(|(figure, (from, to))| {
            let is_comparable = is_same || !figure.depends_on_version;
            from.as_ref().zip(to.as_ref()).filter(|_| is_comparable).map(|(from, to)| to.minus(from))
        });
        Self { from: from.name.clone(), to: to.name.clone(), figures: ByFigure(figures.collect()) }
    }
}
