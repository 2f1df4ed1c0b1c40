//! What is compared: a take, or a group of takes.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::difference::Estimate;
use super::figures::{ByFigure, FIGURES};
use super::take::Take;

/// A result, or a group of results.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ComparedSubject)]
pub struct Subject {
    /// The name of the group. Of a single result: its token or its file.
    pub name: String,
    /// The person in each result.
    pub takes: Vec<Take>,
    /// The figures that were measured: of a group, the mean of its results.
    #[schema(value_type = BTreeMap<String, Estimate>)]
    pub figures: ByFigure<Estimate>,
    #[serde(skip)]
    pub metrics_versions: BTreeSet<u32>,
}

impl Subject {
    pub fn of_take(take: Take) -> Self {
        Self::of_group(take.result.clone(), vec![take])
    }

    pub fn of_group(name: String, takes: Vec<Take>) -> Self {
        let figures = FIGURES.iter().enumerate().map(|(at, figure)| {
            let values: Vec<_> = takes.iter().filter_map(|take| take.figures[at]).collect();
            Estimate::mean(&values, figure.range)
        });
        Self {
            name,
            figures: ByFigure(figures.collect()),
            metrics_versions: takes.iter().map(|take| take.metrics_version).collect(),
            takes,
        }
    }
}
