//! Finds the position of a known set of points in front of the camera (the perspective-n-point problem).
//!
//! The error is the one that SQPnP minimizes (Terzakis & Lourakis 2020, "A consistently fast and globally optimal
//! solution to the perspective-n-point problem"): for each point, the distance from the line of sight in the plane
//! that is parallel to the picture, squared. The best translation follows from the rotation, so the error is a quadratic
//! form of the 9 entries of the rotation matrix. Newton's method minimizes it over the rotations from several starts.

use opencv::core::Point3d;

/// A matrix, row by row.
pub(super) type Matrix = [[f64; 3]; 3];

/// Steps from each of the 25 starts, after which only the best continue.
const FIRST_STEPS: usize = 4;
/// How many starts continue.
const FINALISTS: usize = 4;
/// A limit of the further steps. Five are usual.
const MOST_STEPS: usize = 50;
/// A step shorter than this many radians is the last.
const LAST_STEP: f64 = 1e-9;

/// Returns the rotation and the translation that move the points of the model onto the lines of sight. Each line of
/// sight goes through `[x, y, 1]`. Returns `None` if there is no such position in front of the camera.
pub(super) fn solve(model: &[Point3d], sights: &[[f64; 2]]) -> Option<(Matrix, [f64; 3])> {
    let problem = Problem::of(model, sights)?;
    let starts = cube().into_iter().chain(far_away(model, sights));
    let mut descents: Vec<Descent> = starts.map(|start| problem.start(start)).collect();
    for descent in &mut descents {
        problem.descend(descent, FIRST_STEPS);
    }
    descents.sort_by(|a, b| a.error.total_cmp(&b.error));
    descents.retain(|descent| problem.is_in_front(&descent.rotation));
    descents.truncate(FINALISTS);
    for descent in &mut descents {
        problem.descend(descent, MOST_STEPS);
    }
    let in_front = descents.into_iter().filter(|descent| problem.is_in_front(&descent.rotation));
    let best = in_front.min_by(|a, b| a.error.total_cmp(&b.error))?;
    Some((best.rotation, problem.translation(&best.rotation)))
}

/// A search for the least error.
struct Descent {
    rotation: Matrix,
    error: f64,
    /// Makes steps shorter. It grows while steps raise the error.
    damping: f64,
}

/// The error of a rotation `R` is the sum of all `R[i][j] form[i][j][k][l] R[k][l]`. The coordinate i of its best
/// translation is the sum of all `shift[i][k][l] R[k][l]`.
struct Problem {
    form: [[Matrix; 3]; 3],
    shift: [Matrix; 3],
    /// The mean of the model's points.
    middle: [f64; 3],
}

impl Problem {
    fn of(model: &[Point3d], sights: &[[f64; 2]]) -> Option<Self> {
        let (mut form, mut weighted, mut total) = ([[[[0.0; 3]; 3]; 3]; 3], [[[0.0; 3]; 3]; 3], [[0.0; 3]; 3]);
        let mut middle = [0.0; 3];
        for (point, &[x, y]) in model.iter().zip(sights) {
            let point = [point.x, point.y, point.z];
            // The squared distance of a point p from its line of sight is p' weight p.
            let weight = [[1.0, 0.0, -x], [0.0, 1.0, -y], [-x, -y, x * x + y * y]];
            for i in 0..3 {
                middle[i] += point[i] / model.len() as f64;
                for k in 0..3 {
                    total[i][k] += weight[i][k];
                    for l in 0..3 {
                        weighted[i][k][l] += weight[i][k] * point[l];
                        for j in 0..3 {
                            form[i][j][k][l] += weight[i][k] * point[j] * point[l];
                        }
                    }
                }
            }
        }
        // The error is least for the translation t with total t + weighted R = 0.
        let inverse = inverse(&total)?;
        let mut shift = [[[0.0; 3]; 3]; 3];
        for k in 0..3 {
            for l in 0..3 {
                let sums = [weighted[0][k][l], weighted[1][k][l], weighted[2][k][l]];
                for i in 0..3 {
                    shift[i][k][l] = -dot(inverse[i], sums);
                }
                for i in 0..3 {
                    for j in 0..3 {
                        form[i][j][k][l] +=
                            dot([0, 1, 2].map(|n| weighted[n][i][j]), [0, 1, 2].map(|n| shift[n][k][l]));
                    }
                }
            }
        }
        Some(Self { form, shift, middle })
    }

    fn error(&self, rotation: &Matrix) -> f64 {
        inner(rotation, &self.product(rotation))
    }

    /// Returns half of the derivatives of the error by the entries of a matrix.
    fn product(&self, matrix: &Matrix) -> Matrix {
        let row = |row: &[Matrix; 3]| [inner(&row[0], matrix), inner(&row[1], matrix), inner(&row[2], matrix)];
        [row(&self.form[0]), row(&self.form[1]), row(&self.form[2])]
    }

    fn translation(&self, rotation: &Matrix) -> [f64; 3] {
        let [x, y, z] = &self.shift;
        [inner(x, rotation), inner(y, rotation), inner(z, rotation)]
    }

    /// Whether the middle of the model is in front of the camera.
    fn is_in_front(&self, rotation: &Matrix) -> bool {
        dot(rotation[2], self.middle) + self.translation(rotation)[2] > 0.0
    }

    fn start(&self, rotation: Matrix) -> Descent {
        let trace: f64 = (0..3).map(|i| self.form[i][0][i][0] + self.form[i][1][i][1] + self.form[i][2][i][2]).sum();
        Descent { rotation, error: self.error(&rotation), damping: 1e-3 * trace }
    }

    /// Makes at most the given number of steps towards a local minimum of the error.
    fn descend(&self, descent: &mut Descent, steps: usize) {
        for _ in 0..steps {
            let (slope, mut curvature) = self.derivatives(&descent.rotation);
            for (axis, row) in curvature.iter_mut().enumerate() {
                row[axis] += descent.damping;
            }
            let step = inverse(&curvature).map_or([0.0; 3], |rows| rows.map(|row| -dot(row, slope)));
            let rotation = times(&descent.rotation, &turn(step));
            let error = self.error(&rotation);
            if error < descent.error {
                *descent = Descent { rotation, error, damping: descent.damping / 10.0 };
            } else {
                descent.damping *= 10.0;
            }
            let is_long = dot(step, step) > LAST_STEP * LAST_STEP;
            if !is_long {
                break;
            }
        }
    }

    /// Returns half of the first and of the second derivatives of the error of `R turn(v)` at `v = 0`.
    fn derivatives(&self, rotation: &Matrix) -> ([f64; 3], Matrix) {
        let product = self.product(rotation);
        // The derivatives of the rotation by the three entries of v, and half of those of the error by their entries.
        let [a, b, c] = *rotation;
        let moved = [
            [[0.0, a[2], -a[1]], [0.0, b[2], -b[1]], [0.0, c[2], -c[1]]],
            [[-a[2], 0.0, a[0]], [-b[2], 0.0, b[0]], [-c[2], 0.0, c[0]]],
            [[a[1], -a[0], 0.0], [b[1], -b[0], 0.0], [c[1], -c[0], 0.0]],
        ];
        let products = [self.product(&moved[0]), self.product(&moved[1]), self.product(&moved[2])];
        let back = times(&transposed(rotation), &product);
        let trace = back[0][0] + back[1][1] + back[2][2];
        let slope = [inner(&moved[0], &product), inner(&moved[1], &product), inner(&moved[2], &product)];
        let second = |a: usize, b: usize| inner(&moved[a], &products[b]) + (back[a][b] + back[b][a]) / 2.0;
        let (xy, xz, yz) = (second(0, 1), second(0, 2), second(1, 2));
        let [xx, yy, zz] = [second(0, 0) - trace, second(1, 1) - trace, second(2, 2) - trace];
        (slope, [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    }
}

/// Returns the rotation that fits best if all points are far away compared to the size of the model. Their x and y in the
/// picture are then linear functions of the model's points. Returns `None` if the points of the model are in one plane.
fn far_away(model: &[Point3d], sights: &[[f64; 2]]) -> Option<Matrix> {
    let count = model.len() as f64;
    let (mut middle, mut sight_middle) = ([0.0; 3], [0.0; 2]);
    for (point, sight) in model.iter().zip(sights) {
        middle = [middle[0] + point.x / count, middle[1] + point.y / count, middle[2] + point.z / count];
        sight_middle = [sight_middle[0] + sight[0] / count, sight_middle[1] + sight[1] / count];
    }
    let (mut scatter, mut x, mut y) = ([[0.0; 3]; 3], [0.0; 3], [0.0; 3]);
    for (point, sight) in model.iter().zip(sights) {
        let point = [point.x - middle[0], point.y - middle[1], point.z - middle[2]];
        for row in 0..3 {
            x[row] += (sight[0] - sight_middle[0]) * point[row];
            y[row] += (sight[1] - sight_middle[1]) * point[row];
            for column in 0..3 {
                scatter[row][column] += point[row] * point[column];
            }
        }
    }
    let inverse = inverse(&scatter)?;
    let unit = |v: [f64; 3]| v.map(|value| value / dot(v, v).sqrt());
    let x = unit(inverse.map(|row| dot(row, x)));
    let z = unit(cross(x, inverse.map(|row| dot(row, y))));
    Some([x, cross(z, x), z])
}

/// Returns the 24 rotations of a cube onto itself.
fn cube() -> Vec<Matrix> {
    let orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]];
    let mut rotations = Vec::new();
    for (n, order) in orders.into_iter().enumerate() {
        for signs in 0..4 {
            let (first, second) = ([1.0, -1.0][signs % 2], [1.0, -1.0][signs / 2]);
            // The last three orders are odd.
            let parity = if n < 3 { 1.0 } else { -1.0 };
            let mut rotation = [[0.0; 3]; 3];
            for (row, (column, sign)) in order.into_iter().zip([first, second, first * second * parity]).enumerate() {
                rotation[row][column] = sign;
            }
            rotations.push(rotation);
        }
    }
    rotations
}

/// Returns the rotation about an axis by its length in radians (Rodrigues' formula).
fn turn(axis: [f64; 3]) -> Matrix {
    let angle = dot(axis, axis).sqrt();
    let (a, b) = if angle < 1e-4 {
        (1.0 - angle * angle / 6.0, 0.5 - angle * angle / 24.0)
    } else {
        (angle.sin() / angle, (1.0 - angle.cos()) / (angle * angle))
    };
    let [x, y, z] = axis;
    let c = 1.0 - b * angle * angle;
    [
        [c + b * x * x, b * x * y - a * z, b * x * z + a * y],
        [b * x * y + a * z, c + b * y * y, b * y * z - a * x],
        [b * x * z - a * y, b * y * z + a * x, c + b * z * z],
    ]
}

fn transposed([a, b, c]: &Matrix) -> Matrix {
    [[a[0], b[0], c[0]], [a[1], b[1], c[1]], [a[2], b[2], c[2]]]
}

fn times(a: &Matrix, b: &Matrix) -> Matrix {
    let [x, y, z] = transposed(b);
    a.map(|row| [dot(row, x), dot(row, y), dot(row, z)])
}

/// Returns the sum of the products of the entries.
fn inner(a: &Matrix, b: &Matrix) -> f64 {
    dot(a[0], b[0]) + dot(a[1], b[1]) + dot(a[2], b[2])
}

/// Returns the inverse of a matrix, or `None` if it has none.
fn inverse(matrix: &Matrix) -> Option<Matrix> {
    let [a, b, c] = *matrix;
    let columns = [cross(b, c), cross(c, a), cross(a, b)];
    let determinant = dot(a, columns[0]);
    (determinant.abs() > f64::MIN_POSITIVE)
        .then(|| transposed(&columns.map(|column| column.map(|value| value / determinant))))
}

fn cross([a, b, c]: [f64; 3], [x, y, z]: [f64; 3]) -> [f64; 3] {
    [b * z - c * y, c * x - a * z, a * y - b * x]
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_starts_are_the_rotations_of_a_cube() {
        let rotations = cube();
        for (n, rotation) in rotations.iter().enumerate() {
            assert_eq!(times(rotation, &transposed(rotation)), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
            assert_eq!(dot(rotation[0], cross(rotation[1], rotation[2])), 1.0);
            assert!(!rotations[..n].contains(rotation));
        }
        assert_eq!(rotations.len(), 24);
    }

    #[test]
    fn points_in_one_plane_are_placed_and_equal_sights_are_not() {
        let model = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]].map(|[x, y]| Point3d { x, y, z: 0.0 });
        let sights = model.map(|p| [p.x / 10.0, p.y / 10.0]);
        let (rotation, place) = solve(&model, &sights).unwrap();
        assert!((rotation[0][0] - 1.0).abs() < 1e-6 && (rotation[2][2] - 1.0).abs() < 1e-6, "{rotation:?}");
        assert!((place[2] - 10.0).abs() < 1e-6, "{place:?}");
        assert_eq!(solve(&model, &[[0.1, 0.2]; 4]), None);
        assert_eq!(solve(&model, &[[f64::NAN; 2]; 4]), None);
    }

    proptest! {
        #[test]
        fn any_rotation_is_found(
            axis in prop::array::uniform3(-3.0..3.0_f64),
            place in (-30.0..30.0_f64, -20.0..20.0_f64, 40.0..300.0_f64),
        ) {
            let model = [[-3.0, -2.0, 1.0], [3.0, -2.0, 0.0], [0.0, 1.0, -4.0], [-2.0, 4.0, 2.0], [2.0, 4.0, -1.0]]
                .map(|[x, y, z]| Point3d { x, y, z });
            let (rotation, place) = (turn(axis), [place.0, place.1, place.2]);
            let sights = model.map(|p| {
                let [x, y, z] = [0, 1, 2].map(|row| dot(rotation[row], [p.x, p.y, p.z]) + place[row]);
                [x / z, y / z]
            });
            let (found, found_place) = solve(&model, &sights).unwrap();
            for row in 0..3 {
                prop_assert!((found_place[row] - place[row]).abs() < 1e-4, "{found_place:?} instead of {place:?}");
                for column in 0..3 {
                    let off = (found[row][column] - rotation[row][column]).abs();
                    prop_assert!(off < 1e-6, "{found:?} instead of {rotation:?}");
                }
            }
        }
    }
}
