//! Plain types and arithmetic. This module does no I/O, is not async, and imports no other module of the crate.
//!
//! A [`Face`] found in a frame becomes an [`Observation`] (one face in one sample). The observations of one person
//! become a [`Track`]. The tracks become [`Findings`]: the [`Analysis`], which is stored and rendered, and its
//! [`Timeline`]. JSON, HTML, CSV and mail present these and compute no figures.

#![allow(unused_qualifications, reason = "the derive macro of ToSchema writes full paths")]

mod appearance;
mod appraisal;
mod blinks;
mod boxes;
mod comparison;
mod contact;
mod emotion;
mod evaluation;
mod expressions;
mod failure;
mod feedback;
mod five;
mod geometry;
mod group_figures;
mod intervals;
mod language;
mod live;
mod motion;
mod notice;
mod observation;
mod options;
mod people;
mod picture;
mod remark;
pub mod rounding;
mod scores;
mod segments;
mod speech;
mod steadiness;
mod story;
mod summarise;
mod summary;
mod tally;
#[cfg(test)]
mod testing;
mod timeline;
mod track;
mod usual;
mod warning;
mod weights;

pub use appearance::Appearance;
pub use appraisal::{Appraisal, appraise};
pub use blinks::MAX_INTERVAL_S as BLINKS_INTERVAL_S;
pub use boxes::{Boxes, LabelledBox};
pub use comparison::{ByFigure, Comparison, Difference, Differences, Estimate, FIGURES, Figure, NoTake, Subject, Take};
pub use contact::{GAZE_CONE_DEG, OFFSET_DEG};
pub use emotion::{Emotion, Probabilities};
pub use evaluation::{ClassFigures, Evaluation, EvaluationIntervals, Judged, evaluate};
pub use expressions::Expressions;
pub use failure::{FailureReason, Resource};
pub use five::{Five, Verdict};
pub use geometry::{BBox, Covered, Eyes, Face, Gaze, Landmarks, Point, Pose};
pub use group_figures::{GroupFigures, GroupShare};
pub use intervals::{CERTAIN_UP_TO, Certainty, Interval, Intervals};
pub use language::Language;
pub use live::{LiveFace, LivePeople};
pub use notice::{Notice, ShownNotice};
pub use observation::Observation;
pub use options::{Detail, Options, Sampling};
pub use people::People;
pub use picture::{PictureFace, picture_rows};
pub use remark::{Advice, Finding, FindingSpan, Reason, Remark, Shown};
pub use rounding::percentages;
pub use scores::{Clarity, FACING_PITCH_DEG, FACING_YAW_DEG, calmness, eye_contact, quality};
pub use segments::Segment;
pub use speech::{MOST_SPANS, PAUSE_S, SpeechTally};
pub use story::Story;
pub use summarise::summarise;
pub use summary::{
    Analysis, FaceSummary, Findings, LANDMARK_MODEL, METRICS_VERSION, ModelUsed, Span, Speech, SpeechQuality,
    StreamOrientation, Summary, VideoFacts,
};
pub use timeline::{Timeline, TimelineRow};
pub use track::{Sighting, Track, Tracker};
pub use usual::{AgainstUsual, Relative, Rise, USUAL_S, USUAL_SAMPLES};
pub use warning::Warning;
pub use weights::{OVERALL, PRESENCE, PartName, Parts, WeightedPart};
