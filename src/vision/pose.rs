//! Computes the orientation of the head from a few points of the face.

use opencv::core::Point3d;

use super::pnp::{self, dot};
use crate::analysis::{Face, Landmarks, Point, Pose};

/// A point of the head in centimetres: x to the person's left (the picture's right), y down, z away from the camera.
pub(super) const fn at(x: f64, y: f64, z: f64) -> Point3d {
    Point3d { x, y, z }
}

// Positions in MediaPipe's canonical face model (a mean head, in centimetres): pupils between the corners of the eyes,
// tip of the nose (vertex 1), corners of the mouth (vertices 61 and 291).
const RIGHT_EYE: Point3d = at(-3.15, -2.62, -3.6);
const LEFT_EYE: Point3d = at(3.15, -2.62, -3.6);
const NOSE: Point3d = at(0.0, 1.13, -7.48);
const RIGHT_MOUTH: Point3d = at(-2.46, 4.34, -4.28);
const LEFT_MOUTH: Point3d = at(2.46, 4.34, -4.28);
const MOUTH: Point3d = at(0.0, 4.2, -5.4);
// The canonical model has no ears. The tragus is level with the lower rim of the eye socket (the Frankfurt plane):
// about 1.7 cm below the pupil and 6.6 cm behind it. The two are 14.8 cm apart.
const RIGHT_EAR: Point3d = at(-7.4, -0.9, 3.0);
const LEFT_EAR: Point3d = at(7.4, -0.9, 3.0);

/// Computes the orientation of the head from its landmarks in a frame of the given size. Returns `None` without
/// landmarks, or if the landmarks fit no head.
///
/// The focal length is assumed to be the longer side of the picture (a field of view of 53 degrees), because videos do
/// not give it. The angles are relative to the line from the camera to the head: a face at the edge of the picture that
/// looks into the camera has the angles 0. The face turns up or down by `pitch`, then to the side by `yaw`, and about
/// its own direction by `roll`.
///
/// With points that are off by 2 % of the face's height, half of the results of [`pnp::solve`] are within 2 degrees and
/// all within 5. EPnP is off by up to 30.
pub fn head_pose(face: &Face, width: i32, height: i32) -> Option<Pose> {
    let (points, model): (&[Point], &[Point3d]) = match &face.landmarks {
        None => return None,
        Some(Landmarks::MouthCorners(points)) => (points, &[RIGHT_EYE, LEFT_EYE, NOSE, RIGHT_MOUTH, LEFT_MOUTH]),
        Some(Landmarks::Ears(points)) => (points, &[RIGHT_EYE, LEFT_EYE, NOSE, MOUTH, RIGHT_EAR, LEFT_EAR]),
    };
    Head::of(points, model, width, height)?.pose()
}

/// Position of a head in front of the camera, in a coordinate system whose axis is the line from the camera to the
/// head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Unit vectors along the head's own axes: to its left, to its chin, to its back.
    pub axes: [[f64; 3]; 3],
    /// Rotation from the camera's coordinate system to this one, row by row.
    pub onto_axis: [[f64; 3]; 3],
    /// Distance from the camera to the origin of the model, in centimetres.
    pub distance: f64,
}

impl Head {
    /// Fits the model to points of a frame of the given size, in the order of the model. Returns `None` if no head
    /// fits.
    pub fn of(points: &[Point], model: &[Point3d], width: i32, height: i32) -> Option<Self> {
        let (rotation, place) = solve(points, model, width, height)?;
        let distance = dot(place, place).sqrt();
        let onto_axis = onto_axis(place.map(|value| value / distance));
        let axes = [0, 1, 2].map(|axis| {
            let axis = rotation.map(|row| row[axis]);
            onto_axis.map(|row| dot(row, axis))
        });
        axes.iter().flatten().all(|value| value.is_finite()).then_some(Self { axes, onto_axis, distance })
    }

    pub fn pose(&self) -> Option<Pose> {
        let [right, _, back] = self.axes;
        let (yaw, pitch) = ((-back[0]).atan2(back[2]), back[1].clamp(-1.0, 1.0).asin());
        // `level` and `down` are the sideways axis and the chin axis of a head with this yaw and pitch and without
        // roll.
        let level = [yaw.cos(), 0.0, yaw.sin()];
        let down = [pitch.sin() * yaw.sin(), pitch.cos(), -pitch.sin() * yaw.cos()];
        let roll = dot(down, right).atan2(dot(level, right));
        let degrees = |radians: f64| radians.to_degrees() as f32;
        let pose = Pose { yaw: degrees(yaw), pitch: degrees(pitch), roll: degrees(roll) };
        [pose.yaw, pose.pitch, pose.roll].iter().all(|angle| angle.is_finite()).then_some(pose)
    }

    /// Returns the direction from the camera to a point of a frame of the given size, in this coordinate system. Before
    /// the rotation its component along the camera's axis is 1.
    pub fn direction_to(&self, [x, y]: [f32; 2], width: i32, height: i32) -> [f64; 3] {
        let (focal, [cx, cy]) = camera(width, height);
        let sight = [(f64::from(x) - cx) / focal, (f64::from(y) - cy) / focal, 1.0];
        self.onto_axis.map(|row| dot(row, sight))
    }
}

/// Returns the assumed focal length and the centre of a picture, in pixels.
fn camera(width: i32, height: i32) -> (f64, [f64; 2]) {
    (f64::from(width.max(height).max(1)), [width, height].map(|side| f64::from(side) / 2.0))
}

/// Returns the rotation and the position of the head in the camera's coordinate system.
fn solve(points: &[Point], model: &[Point3d], width: i32, height: i32) -> Option<(pnp::Matrix, [f64; 3])> {
    let (focal, [x, y]) = camera(width, height);
    let sights: Vec<_> = points.iter().map(|p| [(f64::from(p.x) - x) / focal, (f64::from(p.y) - y) / focal]).collect();
    let (rotation, place) = pnp::solve(model, &sights)?;
    // Solutions behind the camera are rejected.
    (place[2] > 0.0 && dot(place, place).is_finite()).then_some((rotation, place))
}

/// Returns the smallest rotation from a direction in front of the camera to the camera's axis, row by row.
pub(super) fn onto_axis([x, y, z]: [f64; 3]) -> [[f64; 3]; 3] {
    let k = 1.0 / (1.0 + z);
    [[1.0 - k * x * x, -k * x * y, -x], [-k * x * y, 1.0 - k * y * y, -y], [x, y, z]]
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

    /// Projects a point of the head into the picture. The head is rolled, pitched and yawed in that order. Its centre
    /// is seen at `middle`, `away` centimetres from the camera. Angles are relative to the line from the camera to the
    /// head.
    pub fn project(p: Point3d, pose: Pose, middle: (f64, f64), away: f64) -> Point {
        let [x, y, z] = turned(p, pose);
        // Rotates from the line to the head back to the camera's axes.
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

    /// Rolls, pitches and yaws a point of the head in that order.
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
    fn angles_have_the_documented_signs() {
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
    fn a_face_that_looks_into_the_camera_has_angles_of_zero_anywhere_in_the_picture() {
        for middle in [(30.0, 30.0), (610.0, 330.0), (320.0, 180.0)] {
            let pose = Pose::default();
            assert_near(head_pose(&five(pose, middle, 60.0), WIDTH, HEIGHT), pose, 0.1);
        }
    }

    #[test]
    fn missing_landmarks_and_landmarks_that_are_not_finite_give_no_pose() {
        assert_eq!(head_pose(&face(None), WIDTH, HEIGHT), None);
        let nowhere = Landmarks::MouthCorners([Point { x: f32::NAN, y: 1.0 }; 5]);
        assert_eq!(head_pose(&face(Some(nowhere)), WIDTH, HEIGHT), None);
    }

    /// Mirrors the landmarks of a face.
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
        fn mirroring_negates_yaw_and_roll_and_scaling_changes_nothing(
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
        fn a_known_pose_is_recovered(
            yaw in -60.0..60.0_f32, pitch in -40.0..40.0_f32, roll in -60.0..60.0_f32,
            x in 40.0..600.0_f64, y in 40.0..320.0_f64, away in 30.0..300.0_f64,
        ) {
            let pose = Pose { yaw, pitch, roll };
            assert_near(head_pose(&five(pose, (x, y), away), WIDTH, HEIGHT), pose, 0.5);
            let ears = Landmarks::Ears(SIX.map(|point| project(point, pose, (x, y), away)));
            assert_near(head_pose(&face(Some(ears)), WIDTH, HEIGHT), pose, 0.5);
        }

        #[test]
        fn landmarks_that_are_off_by_one_percent_change_the_pose_by_less_than_six_degrees(
            yaw in -40.0..40.0_f32, pitch in -25.0..25.0_f32, roll in -30.0..30.0_f32,
            noise in prop::array::uniform10(-1.0..1.0_f32),
        ) {
            let pose = Pose { yaw, pitch, roll };
            let mut seen = five(pose, (320.0, 180.0), 60.0);
            if let Some(Landmarks::MouthCorners(points)) = &mut seen.landmarks {
                // The distance from the eyes to the mouth is about 70 pixels.
                for (n, point) in points.iter_mut().enumerate() {
                    point.x += noise[2 * n] * 0.7;
                    point.y += noise[2 * n + 1] * 0.7;
                }
            }
            assert_near(head_pose(&seen, WIDTH, HEIGHT), pose, 6.0);
        }
    }
}
