//! Orientation of the head, from a few points of the face.

use opencv::calib3d::{SOLVEPNP_SQPNP, rodrigues_def, solve_pnp};
use opencv::core::{Mat, Matx33d, Point2d, Point3d, Vec3d, Vector};

use crate::analysis::{Face, Landmarks, Point, Pose};

/// A point of the head in centimetres: x to the person's left (the picture's right), y down, z away from the camera.
pub(super) const fn at(x: f64, y: f64, z: f64) -> Point3d {
    Point3d { x, y, z }
}

// Eyes, tip of the nose and corners of the mouth as in MediaPipe's canonical face model (a mean head, in centimetres): pupils
// between the corners of its eyes, vertex 1, vertices 61 and 291.
const RIGHT_EYE: Point3d = at(-3.15, -2.62, -3.6);
const LEFT_EYE: Point3d = at(3.15, -2.62, -3.6);
const NOSE: Point3d = at(0.0, 1.13, -7.48);
const RIGHT_MOUTH: Point3d = at(-2.46, 4.34, -4.28);
const LEFT_MOUTH: Point3d = at(2.46, 4.34, -4.28);
const MOUTH: Point3d = at(0.0, 4.2, -5.4);
// That model ends before the ears. The tragus lies as high as the lower rim of the eye's socket (the Frankfurt plane), some
// 1.7 cm below the pupil, 6.6 cm behind it, and the two 14.8 cm apart.
const RIGHT_EAR: Point3d = at(-7.4, -0.9, 3.0);
const LEFT_EAR: Point3d = at(7.4, -0.9, 3.0);

/// Orientation of the head from its landmarks in a frame of the given size; `None` without landmarks, or where no head could
/// look like them.
///
/// The camera is taken to see as wide as its longer side is far (a view of 53 degrees), as no video tells. The angles are
/// those against the line from the camera to the head: a face at the picture's edge that looks into the camera has none.
/// The face points first up or down by `pitch`, then to the side by `yaw`; `roll` turns it about that direction.
///
/// Solved by SQPnP (Terzakis & Lourakis 2020, "A consistently fast and globally optimal solution to the
/// perspective-n-point problem"): with points that are off by 2 % of the face's height, half of all results are within 2
/// degrees and all within 5, where EPnP is off by up to 30.
pub fn head_pose(face: &Face, width: i32, height: i32) -> Option<Pose> {
    let (points, model): (&[Point], &[Point3d]) = match &face.landmarks {
        None => return None,
        Some(Landmarks::MouthCorners(points)) => (points, &[RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH]),
        Some(Landmarks::Ears(points)) => (points, &[RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, RIGHT_EAR, LEFT_EAR]),
    };
    Head::of(points, model, width, height)?.pose()
}

/// How a head lies before the camera, seen along the line from the camera to it instead of along the camera's axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// The head's own axes (to its left, to its chin, to its back) as the camera sees them; unit vectors.
    pub axes: [[f64; 3]; 3],
    /// From the camera's axis to the line to the head, row by row.
    pub onto_axis: [[f64; 3]; 3],
    /// Of the model's origin from the camera, in centimetres of the model.
    pub distance: f64,
}

impl Head {
    /// The head whose points (in the model's order) lie so in a frame of the given size; `None` where no head could.
    pub fn of(points: &[Point], model: &[Point3d], width: i32, height: i32) -> Option<Self> {
        let (rotation, place) = solve(points, model, width, height).ok().flatten()?;
        let distance = dot(place, place).sqrt();
        let onto_axis = onto_axis(place.map(|value| value / distance));
        let axes = [0, 1, 2].map(|axis| {
            let axis = [0, 1, 2].map(|row| rotation[(row, axis)]);
            onto_axis.map(|row| dot(row, axis))
        });
        axes.iter().flatten().all(|value| value.is_finite()).then_some(Self { axes, onto_axis, distance })
    }

    pub fn pose(&self) -> Option<Pose> {
        let [right, _, back] = self.axes;
        let (yaw, pitch) = ((-back[0]).atan2(back[2]), back[1].clamp(-1.0, 1.0).asin());
        // Where the head's right would be without roll, and its chin: how far it is turned from the one to the other.
        let level = [yaw.cos(), 0.0, yaw.sin()];
        let down = [pitch.sin() * yaw.sin(), pitch.cos(), -pitch.sin() * yaw.cos()];
        let roll = dot(down, right).atan2(dot(level, right));
        let degrees = |radians: f64| radians.to_degrees() as f32;
        let pose = Pose { yaw: degrees(yaw), pitch: degrees(pitch), roll: degrees(roll) };
        [pose.yaw, pose.pitch, pose.roll].iter().all(|angle| angle.is_finite()).then_some(pose)
    }

    /// The direction in which the camera sees a point of a frame of the given size, against the line to the head; its last
    /// part is 1 for what lies as far along the camera's axis as it does along that line.
    pub fn sight(&self, [x, y]: [f32; 2], width: i32, height: i32) -> [f64; 3] {
        let (focal, [cx, cy]) = camera(width, height);
        let sight = [(f64::from(x) - cx) / focal, (f64::from(y) - cy) / focal, 1.0];
        self.onto_axis.map(|row| dot(row, sight))
    }
}

/// Focal length and middle of a picture, in pixels.
fn camera(width: i32, height: i32) -> (f64, [f64; 2]) {
    (f64::from(width.max(height).max(1)), [width, height].map(|side| f64::from(side) / 2.0))
}

/// Rotation of the head against the camera, and its place before it.
fn solve(points: &[Point], model: &[Point3d], width: i32, height: i32) -> opencv::Result<Option<(Matx33d, [f64; 3])>> {
    let image: Vector<Point2d> = points.iter().map(|p| Point2d::new(p.x.into(), p.y.into())).collect();
    let model: Vector<Point3d> = model.iter().copied().collect();
    let (focal, [x, y]) = camera(width, height);
    let camera = Matx33d::from_array([focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]);
    let (mut turn, mut place) = (Vec3d::default(), Vec3d::default());
    let undistorted = Mat::default();
    if !solve_pnp(&model, &image, &camera, &undistorted, &mut turn, &mut place, false, SOLVEPNP_SQPNP)? {
        return Ok(None);
    }
    let mut rotation = Matx33d::default();
    rodrigues_def(&turn, &mut rotation)?;
    let length = dot(place.0, place.0).sqrt();
    // A head behind the camera is no solution.
    Ok((place[2] > 0.0 && length.is_finite()).then_some((rotation, place.0)))
}

/// The smallest rotation that takes a direction in front of the camera onto the camera's axis, row by row.
pub(super) fn onto_axis([x, y, z]: [f64; 3]) -> [[f64; 3]; 3] {
    let k = 1.0 / (1.0 + z);
    [[1.0 - k * x * x, -k * x * y, -x], [-k * x * y, 1.0 - k * y * y, -y], [x, y, z]]
}

pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::BBox;

    pub const WIDTH: i32 = 640;
    pub const HEIGHT: i32 = 360;
    const FIVE: [Point3d; 5] = [RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH];
    const SIX: [Point3d; 6] = [RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, RIGHT_EAR, LEFT_EAR];

    /// Where a point of the head comes to lie in the picture: rolled, pitched and yawed in that order, with its middle at a
    /// point of the picture and `away` centimetres before the camera. Angles are those against the line to the camera.
    pub fn project(p: Point3d, pose: Pose, middle: (f64, f64), away: f64) -> Point {
        let [x, y, z] = turned(p, pose);
        // Back from the line of sight to the camera's axes.
        let focal = f64::from(WIDTH);
        let sight = [(middle.0 - f64::from(WIDTH) / 2.0) / focal, (middle.1 - f64::from(HEIGHT) / 2.0) / focal, 1.0];
        let length = dot(sight, sight).sqrt();
        let sight = sight.map(|value| value / length);
        let rows = onto_axis(sight);
        let turned = [0, 1, 2].map(|axis| dot([rows[0][axis], rows[1][axis], rows[2][axis]], [x, y, z]));
        let [x, y, z] = [0, 1, 2].map(|axis| turned[axis] + away * sight[axis]);
        let at = |value: f64, size: i32| (value / z * focal + f64::from(size) / 2.0) as f32;
        Point { x: at(x, WIDTH), y: at(y, HEIGHT) }
    }

    /// A point of the head, rolled, pitched and yawed in that order.
    pub fn turned(p: Point3d, pose: Pose) -> [f64; 3] {
        let [yaw, pitch, roll] = [pose.yaw, pose.pitch, pose.roll].map(|angle| f64::from(angle).to_radians());
        let (x, y) = (p.x * roll.cos() - p.y * roll.sin(), p.x * roll.sin() + p.y * roll.cos());
        let (y, z) = (y * pitch.cos() + p.z * pitch.sin(), p.z * pitch.cos() - y * pitch.sin());
        [x * yaw.cos() - z * yaw.sin(), y, x * yaw.sin() + z * yaw.cos()]
    }

    fn face(landmarks: Option<Landmarks>) -> Face {
        Face { bbox: BBox::default(), score: 1.0, landmarks }
    }

    fn five(pose: Pose, middle: (f64, f64), away: f64) -> Face {
        face(Some(Landmarks::MouthCorners(FIVE.map(|point| project(point, pose, middle, away)))))
    }

    fn assert_near(found: Option<Pose>, pose: Pose, within: f32) {
        let found = found.unwrap();
        let off = [found.yaw - pose.yaw, found.pitch - pose.pitch, found.roll - pose.roll];
        assert!(off.iter().all(|angle| angle.abs() < within), "{found:?} instead of {pose:?}");
    }

    #[test]
    fn signs_are_those_that_pose_promises() {
        let still = [(280.0, 150.0), (360.0, 150.0), (320.0, 197.0), (289.0, 238.0), (351.0, 238.0)];
        let pose = |by: &dyn Fn(usize, (f32, f32)) -> (f32, f32)| {
            let points = std::array::from_fn(|n| {
                let (x, y) = by(n, still[n]);
                Point { x, y }
            });
            head_pose(&face(Some(Landmarks::MouthCorners(points))), WIDTH, HEIGHT).unwrap()
        };
        let facing = pose(&|_, point| point);
        assert!(facing.yaw.abs() < 1.0 && facing.roll.abs() < 1.0 && facing.pitch.abs() < 8.0, "{facing:?}");
        let nose = |dx: f32, dy: f32| move |n, (x, y): (f32, f32)| if n == 2 { (x + dx, y + dy) } else { (x, y) };
        assert!(pose(&nose(12.0, 0.0)).yaw > 8.0, "the nose moves to the right edge");
        assert!(pose(&nose(0.0, -12.0)).pitch > facing.pitch + 8.0, "the nose moves up");
        let (sin, cos) = 20_f32.to_radians().sin_cos();
        let clockwise = |_, (x, y): (f32, f32)| {
            (320.0 + (x - 320.0) * cos - (y - 180.0) * sin, 180.0 + (x - 320.0) * sin + (y - 180.0) * cos)
        };
        assert!((pose(&clockwise).roll - 20.0).abs() < 2.0, "the head tilts clockwise");
    }

    #[test]
    fn a_face_at_the_picture_s_edge_that_looks_into_the_camera_has_no_angle() {
        for middle in [(30.0, 30.0), (610.0, 330.0), (320.0, 180.0)] {
            let pose = Pose::default();
            assert_near(head_pose(&five(pose, middle, 60.0), WIDTH, HEIGHT), pose, 0.1);
        }
    }

    #[test]
    fn without_landmarks_or_with_all_of_them_in_one_place_there_is_no_made_up_pose() {
        assert_eq!(head_pose(&face(None), WIDTH, HEIGHT), None);
        let nowhere = Landmarks::MouthCorners([Point { x: f32::NAN, y: 1.0 }; 5]);
        assert_eq!(head_pose(&face(Some(nowhere)), WIDTH, HEIGHT), None);
    }

    /// The same face in a mirror.
    fn mirrored(landmarks: Landmarks) -> Landmarks {
        let there = |point: Point| Point { x: WIDTH as f32 - point.x, ..point };
        match landmarks {
            Landmarks::MouthCorners([right, left, nose, mouth_right, mouth_left]) => {
                Landmarks::MouthCorners([left, right, nose, mouth_left, mouth_right].map(there))
            }
            Landmarks::Ears([right, left, nose, mouth, ear_right, ear_left]) => {
                Landmarks::Ears([left, right, nose, mouth, ear_left, ear_right].map(there))
            }
        }
    }

    proptest! {
        #[test]
        fn a_mirror_turns_yaw_and_roll_round_and_the_size_of_the_picture_does_not_matter(
            yaw in -60.0..60.0_f32, pitch in -40.0..40.0_f32, roll in -60.0..60.0_f32,
            x in 40.0..600.0_f64, y in 40.0..320.0_f64, away in 30.0..300.0_f64,
        ) {
            let pose = Pose { yaw, pitch, roll };
            let there = Pose { yaw: -yaw, roll: -roll, ..pose };
            let put = |point| project(point, pose, (x, y), away);
            for seen in [Landmarks::MouthCorners(FIVE.map(put)), Landmarks::Ears(SIX.map(put))] {
                assert_near(head_pose(&face(Some(mirrored(seen))), WIDTH, HEIGHT), there, 0.5);
                let twice = |point: Point| Point { x: 2.0 * point.x, y: 2.0 * point.y };
                let large = match seen {
                    Landmarks::MouthCorners(points) => Landmarks::MouthCorners(points.map(twice)),
                    Landmarks::Ears(points) => Landmarks::Ears(points.map(twice)),
                };
                assert_near(head_pose(&face(Some(large)), 2 * WIDTH, 2 * HEIGHT), pose, 0.5);
            }
        }

        #[test]
        fn a_known_pose_is_found_again(
            yaw in -60.0..60.0_f32, pitch in -40.0..40.0_f32, roll in -60.0..60.0_f32,
            x in 40.0..600.0_f64, y in 40.0..320.0_f64, away in 30.0..300.0_f64,
        ) {
            let pose = Pose { yaw, pitch, roll };
            assert_near(head_pose(&five(pose, (x, y), away), WIDTH, HEIGHT), pose, 0.5);
            let ears = Landmarks::Ears(SIX.map(|point| project(point, pose, (x, y), away)));
            assert_near(head_pose(&face(Some(ears)), WIDTH, HEIGHT), pose, 0.5);
        }

        #[test]
        fn landmarks_that_are_off_by_a_hundredth_cost_a_few_degrees(
            yaw in -40.0..40.0_f32, pitch in -25.0..25.0_f32, roll in -30.0..30.0_f32,
            noise in prop::array::uniform10(-1.0..1.0_f32),
        ) {
            let pose = Pose { yaw, pitch, roll };
            let mut seen = five(pose, (320.0, 180.0), 60.0);
            if let Some(Landmarks::MouthCorners(points)) = &mut seen.landmarks {
                // The face is some 70 pixels from the eyes to the mouth.
                for (n, point) in points.iter_mut().enumerate() {
                    point.x += noise[2 * n] * 0.7;
                    point.y += noise[2 * n + 1] * 0.7;
                }
            }
            assert_near(head_pose(&seen, WIDTH, HEIGHT), pose, 6.0);
        }
    }
}
