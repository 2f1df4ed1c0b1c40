//! Predicts the motion of a face with a Kalman filter of constant velocity (Kalman 1960), and assigns faces to people.

use pathfinding::prelude::{Matrix, kuhn_munkres};

use super::{BBox, Point};

/// Process noise: standard deviation of the change of velocity in a second, in sides of the face a second.
const PROCESS_NOISE: f32 = 0.5;
/// Measurement noise: standard deviation of the position of a detector's box, in sides of the face.
const BOX_NOISE: f32 = 0.06;
/// Positions are predicted for at most this many seconds.
const MAX_PREDICTION_S: f32 = 2.0;

/// State of the filter along one axis: position and velocity in sides of the face, with their covariance.
#[derive(Debug, Clone, Copy)]
struct Axis {
    position: f32,
    velocity: f32,
    /// Variance of the position, covariance of position and velocity, variance of the velocity.
    covariance: [f32; 3],
}

impl Axis {
    /// Returns the state after the first measurement, with velocity 0.
    const fn at(position: f32) -> Self {
        Self { position, velocity: 0.0, covariance: [BOX_NOISE * BOX_NOISE, 0.0, 1.0] }
    }

    /// The prediction step.
    fn predict(self, time_s: f32) -> Self {
        let [pp, pv, vv] = self.covariance;
        let noise = PROCESS_NOISE * PROCESS_NOISE * time_s;
        let covariance = [
            pp + time_s * (2.0 * pv + time_s * vv) + noise * time_s * time_s / 3.0,
            pv + time_s * vv + noise * time_s / 2.0,
            vv + noise,
        ];
        Self { position: self.position + self.velocity * time_s, velocity: self.velocity, covariance }
    }

    /// The update step with a measured position.
    fn update(self, position: f32) -> Self {
        let [pp, pv, vv] = self.covariance;
        let (gain, velocity_gain) = (pp / (pp + BOX_NOISE * BOX_NOISE), pv / (pp + BOX_NOISE * BOX_NOISE));
        let off = position - self.position;
        Self {
            position: self.position + gain * off,
            velocity: self.velocity + velocity_gain * off,
            covariance: [(1.0 - gain) * pp, (1.0 - gain) * pv, vv - velocity_gain * pv],
        }
    }
}

/// The motion of one face.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    axes: [Axis; 2],
    last: BBox,
    time_s: f64,
    /// Side of the face in its first box, which is the unit of its positions.
    side: f32,
}

impl Motion {
    pub fn new(bbox: BBox, time_s: f64) -> Self {
        let side = bbox.area().sqrt().max(1.0);
        let Point { x, y } = bbox.centre();
        Self { axes: [x, y].map(|position| Axis::at(position / side)), last: bbox, time_s, side }
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds between samples")]
    fn axes_at(&self, time_s: f64) -> [Axis; 2] {
        let gap_s = ((time_s - self.time_s).max(0.0) as f32).min(MAX_PREDICTION_S);
        self.axes.map(|axis| axis.predict(gap_s))
    }

    /// Predicts the box of the face at a time. Its size is that of the last box.
    pub fn predict(&self, time_s: f64) -> BBox {
        let [x, y] = self.axes_at(time_s).map(|axis| axis.position * self.side);
        BBox { x: x - self.last.width / 2.0, y: y - self.last.height / 2.0, ..self.last }
    }

    /// Updates the motion with the next box of the face.
    pub fn update(&mut self, bbox: BBox, time_s: f64) {
        let [x, y] = self.axes_at(time_s);
        let centre = bbox.centre();
        self.axes = [x.update(centre.x / self.side), y.update(centre.y / self.side)];
        (self.last, self.time_s) = (bbox, time_s);
    }
}

/// Assigns each row to at most one column so that the sum of the affinities is largest, with the Hungarian method
/// (Kuhn 1955, Munkres 1957). Rows and columns with an affinity of 0 or less are never assigned to each other.
pub(super) fn assign(affinities: &[Vec<f32>]) -> Vec<Option<usize>> {
    // The method assigns every row, so it needs a column for each. A column of zeros means that the row
    // is not assigned.
    let (rows, columns) = (affinities.len(), affinities.first().map_or(0, Vec::len));
    let affinity = |row: usize, column: usize| affinities[row].get(column).copied().unwrap_or(0.0).max(0.0);
    let weights = Matrix::from_fn(rows, columns.max(rows), |(row, column)| weight(affinity(row, column)));
    let (_, assigned) = kuhn_munkres(&weights);
    let assigned = assigned.into_iter().enumerate();
    assigned.map(|(row, column)| (affinity(row, column) > 0.0).then_some(column)).collect()
}

/// Returns an affinity as an integer, because the sums of the method have to be exact.
#[expect(clippy::cast_possible_truncation, reason = "an affinity is at most 3")]
fn weight(affinity: f32) -> i64 {
    const UNIT: f64 = 4_294_967_296.0;
    (f64::from(affinity) * UNIT) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bbox(x: f32) -> BBox {
        BBox { x, y: 50.0, width: 80.0, height: 80.0 }
    }

    #[test]
    fn the_prediction_follows_the_velocity_up_to_a_limit() {
        let (mut walks, mut stands) = (Motion::new(bbox(0.0), 0.0), Motion::new(bbox(0.0), 0.0));
        for n in 1..6_u8 {
            walks.update(bbox(f32::from(n) * 40.0), f64::from(n) * 0.5);
            stands.update(bbox(0.0), f64::from(n) * 0.5);
        }
        let (further, there) = (walks.predict(3.0), stands.predict(3.0));
        assert!((further.x - 240.0).abs() < 8.0 && (further.y - 50.0).abs() < 1.0, "{further:?}");
        assert!(there.x.abs() < 1.0, "{there:?}");
        // The prediction stops after MAX_PREDICTION_S.
        assert!(walks.predict(60.0).x < 200.0 + 80.0 * 2.0 + 20.0);
    }

    /// Returns the largest sum by trying all assignments.
    fn best(affinities: &[Vec<f32>], row: usize, taken: &mut Vec<usize>) -> f32 {
        if row == affinities.len() {
            return 0.0;
        }
        let mut most = best(affinities, row + 1, taken);
        for column in 0..affinities[row].len() {
            if !taken.contains(&column) && affinities[row][column] > 0.0 {
                taken.push(column);
                most = most.max(affinities[row][column] + best(affinities, row + 1, taken));
                taken.pop();
            }
        }
        most
    }

    proptest! {
        #[test]
        fn no_other_assignment_has_a_larger_sum(
            rows in 0_usize..5, columns in 0_usize..5, values in prop::collection::vec(-1.0_f32..2.0, 25),
        ) {
            let affinities: Vec<Vec<f32>> =
                (0..rows).map(|row| values[row * 5..row * 5 + columns].to_vec()).collect();
            let given = assign(&affinities);
            let mut columns: Vec<usize> = given.iter().flatten().copied().collect();
            let sum: f32 = given.iter().enumerate().filter_map(|(row, column)| Some(affinities[row][(*column)?])).sum();
            prop_assert!((sum - best(&affinities, 0, &mut Vec::new())).abs() < 1e-4);
            columns.sort_unstable();
            columns.dedup();
            prop_assert_eq!(columns.len(), given.iter().flatten().count(), "two rows share a column");
        }
    }
}
