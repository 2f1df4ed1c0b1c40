//! Where a face is going: a Kalman filter of constant velocity (Kalman 1960), and which face goes to which person.

use super::{BBox, Point};

/// How much a head's velocity changes of itself in a second, in sides of the face a second.
const RESTLESSNESS: f32 = 0.5;
/// How far a detector's box is off, in sides of the face.
const BOX_NOISE: f32 = 0.06;
/// Nobody walks on for longer than this unseen, in seconds.
const FORESIGHT_S: f32 = 2.0;

/// Place and velocity along one axis, in sides of the face, with their covariance.
#[derive(Debug, Clone, Copy)]
struct Axis {
    place: f32,
    velocity: f32,
    /// Of place with itself, place with velocity, velocity with itself.
    covariance: [f32; 3],
}

impl Axis {
    /// Seen once: it stands still for all that is known.
    const fn at(place: f32) -> Self {
        Self { place, velocity: 0.0, covariance: [BOX_NOISE * BOX_NOISE, 0.0, 1.0] }
    }

    fn after(self, time_s: f32) -> Self {
        let [pp, pv, vv] = self.covariance;
        let noise = RESTLESSNESS * RESTLESSNESS * time_s;
        let covariance = [
            pp + time_s * (2.0 * pv + time_s * vv) + noise * time_s * time_s / 3.0,
            pv + time_s * vv + noise * time_s / 2.0,
            vv + noise,
        ];
        Self { place: self.place + self.velocity * time_s, velocity: self.velocity, covariance }
    }

    fn seen(self, place: f32) -> Self {
        let [pp, pv, vv] = self.covariance;
        let (gain, drag) = (pp / (pp + BOX_NOISE * BOX_NOISE), pv / (pp + BOX_NOISE * BOX_NOISE));
        let off = place - self.place;
        Self {
            place: self.place + gain * off,
            velocity: self.velocity + drag * off,
            covariance: [(1.0 - gain) * pp, (1.0 - gain) * pv, vv - drag * pv],
        }
    }
}

/// How one face moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    axes: [Axis; 2],
    last: BBox,
    time_s: f64,
    /// Side of the face when it was first seen, the unit of its places.
    side: f32,
}

impl Motion {
    pub fn new(bbox: BBox, time_s: f64) -> Self {
        let side = bbox.area().sqrt().max(1.0);
        let Point { x, y } = bbox.centre();
        Self { axes: [x, y].map(|place| Axis::at(place / side)), last: bbox, time_s, side }
    }

    #[expect(clippy::cast_possible_truncation, reason = "seconds between samples")]
    fn axes_at(&self, time_s: f64) -> [Axis; 2] {
        let gap_s = ((time_s - self.time_s).max(0.0) as f32).min(FORESIGHT_S);
        self.axes.map(|axis| axis.after(gap_s))
    }

    /// Where the face should be now, as large as it was.
    pub fn expected(&self, time_s: f64) -> BBox {
        let [x, y] = self.axes_at(time_s).map(|axis| axis.place * self.side);
        BBox { x: x - self.last.width / 2.0, y: y - self.last.height / 2.0, ..self.last }
    }

    pub fn see(&mut self, bbox: BBox, time_s: f64) {
        let [x, y] = self.axes_at(time_s);
        let centre = bbox.centre();
        self.axes = [x.seen(centre.x / self.side), y.seen(centre.y / self.side)];
        (self.last, self.time_s) = (bbox, time_s);
    }
}

/// For each row its column, so that the sum of the claims is largest; a claim of 0 or less is none, and who has no claim
/// gets nothing. The Hungarian method with potentials (Kuhn 1955, Munkres 1957).
pub(super) fn assign(claims: &[Vec<f32>]) -> Vec<Option<usize>> {
    let (rows, columns) = (claims.len(), claims.first().map_or(0, Vec::len));
    let size = rows.max(columns);
    let cost = |row: usize, column: usize| {
        let claim = claims.get(row).and_then(|claims| claims.get(column)).copied().unwrap_or(0.0);
        -f64::from(claim.max(0.0))
    };
    // Rows and columns count from 1; 0 stands for none.
    let (mut of_row, mut of_column) = (vec![0.0; size + 1], vec![0.0; size + 1]);
    let mut owner = vec![0; size + 1];
    for row in 1..=size {
        owner[0] = row;
        let mut column = 0;
        let (mut least, mut before, mut done) = (vec![f64::MAX; size + 1], vec![0; size + 1], vec![false; size + 1]);
        while owner[column] != 0 {
            done[column] = true;
            let (from, mut delta, mut next) = (owner[column], f64::MAX, 0);
            for to in 1..=size {
                if done[to] {
                    continue;
                }
                let reduced = cost(from - 1, to - 1) - of_row[from] - of_column[to];
                if reduced < least[to] {
                    (least[to], before[to]) = (reduced, column);
                }
                if least[to] < delta {
                    (delta, next) = (least[to], to);
                }
            }
            for to in 0..=size {
                if done[to] {
                    of_row[owner[to]] += delta;
                    of_column[to] -= delta;
                } else {
                    least[to] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            owner[column] = owner[before[column]];
            column = before[column];
        }
    }
    let mut given = vec![None; rows];
    for (column, row) in owner.iter().enumerate().skip(1) {
        if *row >= 1 && *row <= rows && column <= columns && claims[row - 1][column - 1] > 0.0 {
            given[row - 1] = Some(column - 1);
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bbox(x: f32) -> BBox {
        BBox { x, y: 50.0, width: 80.0, height: 80.0 }
    }

    #[test]
    fn who_walks_is_expected_further_on_and_who_stands_where_he_was() {
        let (mut walks, mut stands) = (Motion::new(bbox(0.0), 0.0), Motion::new(bbox(0.0), 0.0));
        for n in 1..6_u8 {
            walks.see(bbox(f32::from(n) * 40.0), f64::from(n) * 0.5);
            stands.see(bbox(0.0), f64::from(n) * 0.5);
        }
        let (further, there) = (walks.expected(3.0), stands.expected(3.0));
        assert!((further.x - 240.0).abs() < 8.0 && (further.y - 50.0).abs() < 1.0, "{further:?}");
        assert!(there.x.abs() < 1.0, "{there:?}");
        // Not to the end of the world.
        assert!(walks.expected(60.0).x < 200.0 + 80.0 * 2.0 + 20.0);
    }

    /// The largest sum by trying everything.
    fn best(claims: &[Vec<f32>], row: usize, taken: &mut Vec<usize>) -> f32 {
        if row == claims.len() {
            return 0.0;
        }
        let mut most = best(claims, row + 1, taken);
        for column in 0..claims[row].len() {
            if !taken.contains(&column) && claims[row][column] > 0.0 {
                taken.push(column);
                most = most.max(claims[row][column] + best(claims, row + 1, taken));
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
            let claims: Vec<Vec<f32>> =
                (0..rows).map(|row| values[row * 5..row * 5 + columns].to_vec()).collect();
            let given = assign(&claims);
            let mut columns: Vec<usize> = given.iter().flatten().copied().collect();
            let sum: f32 = given.iter().enumerate().filter_map(|(row, column)| Some(claims[row][(*column)?])).sum();
            prop_assert!((sum - best(&claims, 0, &mut Vec::new())).abs() < 1e-4);
            columns.sort_unstable();
            columns.dedup();
            prop_assert_eq!(columns.len(), given.iter().flatten().count(), "nobody shares");
        }
    }
}
