//! Computes the orientation of the head and the direction of the eyes from the 478 points of a face.
//!
//! The orientation of the head comes from fitting the canonical face model to the points that expressions hardly move.
//! Each eye is modelled as a ball behind the midpoint of its corners. The pupil is where the line from the camera
//! through the iris meets the ball. The gaze is the direction from the centre of the ball to the pupil. This
//! distinguishes a turned head whose eyes look into the camera from one that looks away. Head or iris alone could not.

use opencv::core::Point3d;

use super::landmarks::Mesh;
use super::pnp::dot;
use super::pose::{Head, at};
use crate::analysis::{Clarity, Covered, Eyes, Gaze, Point, Pose};

/// Points on bone or close to it: number in the mesh, and position in MediaPipe's canonical face model
/// (`mediapipe/modules/face_geometry/data/canonical_face_model.obj`, a mean head in centimetres). Here y runs down and
/// z away from the camera, so both have the opposite sign. Most of these points are those to which MediaPipe fits its
/// model (`geometry_pipeline_metadata_landmarks.pbtxt`). Jaw and cheeks are left out, because they move with every word
/// and smile.
const RIGID: [(usize, Point3d); 29] = [
    // Ridge and base of the nose.
    (168, at(0.0, -3.271_027, -5.236_015)),
    (6, at(0.0, -2.473_255, -5.788_627)),
    (197, at(0.0, -1.728_369, -6.316_75)),
    (195, at(0.0, -1.059_413, -6.774_605)),
    (5, at(0.0, -0.365_669, -7.242_87)),
    (4, at(0.0, 0.463_17, -7.586_58)),
    (2, at(0.0, 2.089_024, -6.058_267)),
    (129, at(-1.785_794, 0.978_284, -4.850_47)),
    (358, at(1.785_794, 0.978_284, -4.850_47)),
    (198, at(-1.246_815, -0.230_297, -5.681_036)),
    (420, at(1.246_815, -0.230_297, -5.681_036)),
    // Corners of the eyes, and below the eyes.
    (33, at(-4.445_859, -2.663_991, -3.173_422)),
    (133, at(-1.856_432, -2.585_245, -3.757_904)),
    (362, at(1.856_432, -2.585_245, -3.757_904)),
    (263, at(4.445_859, -2.663_991, -3.173_422)),
    (117, at(-5.258_659, -0.945_811, -2.974_312)),
    (346, at(5.258_659, -0.945_811, -2.974_312)),
    (119, at(-3.300_681, -0.861_641, -3.872_784)),
    (348, at(3.300_681, -0.861_641, -3.872_784)),
    (121, at(-1.820_731, -1.467_954, -4.224_124)),
    (350, at(1.820_731, -1.467_954, -4.224_124)),
    // Temples and forehead.
    (143, at(-6.407_571, -2.236_021, -1.560_843)),
    (372, at(6.407_571, -2.236_021, -1.560_843)),
    (127, at(-7.743_095, -2.364_999, 2.005_167)),
    (356, at(7.743_095, -2.364_999, 2.005_167)),
    (54, at(-6.279_331, -6.615_427, -1.425_85)),
    (284, at(6.279_331, -6.615_427, -1.425_85)),
    (67, at(-3.523_964, -8.005_976, -3.729_163)),
    (297, at(3.523_964, -8.005_976, -3.729_163)),
];

/// One eye's points in the mesh.
struct Eye {
    /// Outer and inner corner.
    corners: [usize; 2],
    /// Upper lid and the lower one below it.
    lids: [[usize; 2]; 2],
    /// Points on the rim of the iris. Their mean is the centre of the iris. The network also gives a centre, but with
    /// more noise: between mirrored pictures the gaze differs by 2.3 degrees on average with that centre, and by 1.9
    /// with the mean.
    rim: [usize; 4],
    /// Midpoint of the corners in the canonical model.
    middle: [f64; 3],
}

const EYES: [Eye; 2] = [
    Eye {
        corners: [33, 133],
        lids: [[160, 144], [158, 153]],
        rim: [469, 470, 471, 472],
        middle: [-3.151_146, -2.624_618, -3.465_663],
    },
    Eye {
        corners: [263, 362],
        lids: [[387, 373], [385, 380]],
        rim: [474, 475, 476, 477],
        middle: [3.151_146, -2.624_618, -3.465_663],
    },
];

/// Distance from the centre of the eyeball to the pupil, in centimetres. The centre of rotation lies 1.35 behind the
/// apex of the cornea (Fry and Hill 1962, "The center of rotation of the eye"), and the apparent pupil about 0.3 behind
/// it.
const TO_PUPIL: f64 = 1.05;
/// Distance from the midpoint of an eye's corners back to the centre of its ball, in centimetres.
const TO_BALL: f64 = 0.6;
/// Distance from the midpoint of an eye's corners up to the centre of its ball, in centimetres: pupils that look
/// straight ahead are slightly above the line of the corners. The value fits a man who looks into the camera. With it,
/// the gaze of five other people who look into the camera is off by at most 4 degrees. [`crate::analysis`] calibrates
/// differences between faces.
const UP_TO_BALL: f64 = 0.18;

/// Head and eyes of a face, read from its points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadAndEyes {
    pub pose: Pose,
    /// `None` if both are covered.
    pub eyes: Option<Eyes>,
    pub covered: Covered,
    pub clarity: Clarity,
}

/// Computes the orientation of the head and the direction of the eyes in a frame of the given size. Returns `None` if
/// the points fit no head. Angles are relative to the line from the camera to the head, as in [`super::head_pose`].
pub fn head_and_eyes(mesh: &Mesh, width: i32, height: i32) -> Option<HeadAndEyes> {
    let points = RIGID.map(|(n, _)| Point { x: mesh.points[n][0], y: mesh.points[n][1] });
    let head = Head::of(&points, &RIGID.map(|(_, place)| place), width, height)?;
    let pose = head.pose()?;
    let (mut openness, mut yaw, mut pitch, mut weights) = (0.0, 0.0, 0.0, 0.0);
    for (eye, bare) in EYES.iter().zip(mesh.bare.eyes) {
        let gaze = eye.gaze(mesh, &head, width, height)?;
        if !bare {
            continue;
        }
        // The far eye of a turned head is seen from the side and read less well.
        let weight = eye.visible_width_squared(mesh);
        openness += weight * eye.openness(mesh);
        yaw += weight * gaze[0];
        pitch += weight * gaze[1];
        weights += weight;
    }
    let [openness, yaw, pitch] = [openness, yaw, pitch].map(|sum| (sum / weights) as f32);
    let is_finite = [openness, yaw, pitch].iter().all(|value| value.is_finite());
    let eyes = is_finite.then_some(Eyes { openness, gaze: Gaze { yaw, pitch } });
    Some(HeadAndEyes { pose, eyes, covered: mesh.bare.covered(), clarity: mesh.clarity })
}

impl Eye {
    /// Returns the square of the eye's width in the picture.
    fn visible_width_squared(&self, mesh: &Mesh) -> f64 {
        let [a, b] = self.corners.map(|n| mesh.points[n].map(f64::from));
        (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
    }

    /// Returns the distance of the lids divided by the distance of the corners. Both are distances in space: in the
    /// picture, turning the head narrows an eye, which would look like a wide open one.
    fn openness(&self, mesh: &Mesh) -> f64 {
        let length = |pair: [usize; 2]| {
            let [a, b] = pair.map(|n| mesh.points[n].map(f64::from));
            let along = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
            dot(along, along).sqrt()
        };
        (length(self.lids[0]) + length(self.lids[1])) / (2.0 * length(self.corners))
    }

    /// Returns yaw and pitch relative to the line from the camera to the eye, in degrees.
    fn gaze(&self, mesh: &Mesh, head: &Head, width: i32, height: i32) -> Option<[f64; 2]> {
        let [outer, inner] = self.corners.map(|n| mesh.points[n]);
        let middle = [f32::midpoint(outer[0], inner[0]), f32::midpoint(outer[1], inner[1])];
        let iris = [0, 1].map(|axis| self.rim.iter().map(|n| mesh.points[*n][axis]).sum::<f32>() / 4.0);
        let [middle, iris] = [middle, iris].map(|point| head.direction_to(point, width, height));

        // The ball is placed by the corners in the picture and not by those of the model: a difference of one
        // millimetre would change the gaze by five degrees.
        let [right, down, back] = head.axes;
        let depth = head.distance + dot(self.middle, [right[2], down[2], back[2]]);
        let ball =
            [0, 1, 2].map(|axis| middle[axis] / middle[2] * depth + TO_BALL * back[axis] - UP_TO_BALL * down[axis]);
        // The pupil is where the line to the iris first meets the ball. A line that misses the ball counts at its point
        // nearest to the ball.
        let length = dot(iris, iris).sqrt();
        let along = iris.map(|value| value / length);
        let nearest = dot(along, ball);
        let inside = (TO_PUPIL.powi(2) - (dot(ball, ball) - nearest * nearest)).max(0.0).sqrt();
        let pupil = along.map(|value| value * (nearest - inside));
        let looks = [0, 1, 2].map(|axis| pupil[axis] - ball[axis]);
        let angles = |[x, y, z]: [f64; 3]| [x.atan2(-z), (-y).atan2(x.hypot(z))].map(f64::to_degrees);
        let (gaze, camera) = (angles(looks), angles(ball.map(|value| -value)));
        let gaze = [gaze[0] - camera[0], gaze[1] - camera[1]];
        gaze.iter().all(|angle| angle.is_finite()).then_some(gaze)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vision::covered::Bare;
    use crate::vision::landmarks::POINTS;
    use crate::vision::pose::tests::{HEIGHT, WIDTH, project, turned};

    /// Returns the points of a face with a known pose and a known gaze, both as seen by the camera. `open` is the
    /// distance of the lids in widths of the eye.
    fn mesh(pose: Pose, gaze: Gaze, open: f64, place: (f64, f64), away: f64) -> Mesh {
        let mut points = vec![[0.0_f32; 3]; POINTS];
        let mut put = |n: usize, p: Point3d| {
            let seen = project(p, pose, place, away);
            let [_, _, z] = turned(p, pose);
            // Converts centimetres to pixels at the distance of the face.
            points[n] = [seen.x, seen.y, (z / away * f64::from(WIDTH)) as f32];
        };
        for (n, p) in RIGID {
            put(n, p);
        }
        let plus = |a: [f64; 3], b: [f64; 3]| at(a[0] + b[0], a[1] + b[1], a[2] + b[2]);
        for eye in &EYES {
            let width = 2.655;
            for (n, pair) in eye.lids.iter().enumerate() {
                let aside = [-0.5, 0.5][n];
                for (lid, side) in pair.iter().zip([-0.5, 0.5]) {
                    put(*lid, plus(eye.middle, [aside, side * open * width, 0.0]));
                }
            }
            let ball = [0.0, -UP_TO_BALL, TO_BALL];
            let centre = plus(eye.middle, ball);
            // The direction of the gaze in the axes of the head.
            let (yaw, pitch) = (f64::from(gaze.yaw).to_radians(), f64::from(gaze.pitch).to_radians());
            let towards = [yaw.sin() * pitch.cos(), -pitch.sin(), -yaw.cos() * pitch.cos()];
            let axes = [at(1.0, 0.0, 0.0), at(0.0, 1.0, 0.0), at(0.0, 0.0, 1.0)].map(|axis| turned(axis, pose));
            let own = axes.map(|axis| TO_PUPIL * dot(axis, towards));
            for n in eye.rim {
                put(n, plus([centre.x, centre.y, centre.z], own));
            }
        }
        Mesh { points, clarity: Clarity { presence: 1.0, sharpness: 1.0 }, bare: Bare::ALL }
    }

    fn read(mesh: &Mesh) -> (Pose, Eyes) {
        let found = head_and_eyes(mesh, WIDTH, HEIGHT).unwrap();
        (found.pose, found.eyes.unwrap())
    }

    #[test]
    fn gaze_combines_head_and_eyes() {
        let turned = Pose { yaw: 25.0, pitch: 5.0, roll: 0.0 };
        let (pose, eyes) = read(&mesh(turned, Gaze::default(), 0.3, (320.0, 180.0), 60.0));
        assert!((pose.yaw - 25.0).abs() < 1.0 && eyes.gaze.yaw.abs() < 3.0, "{pose:?} {eyes:?}");
        let aside = Gaze { yaw: 25.0, pitch: 0.0 };
        let (pose, eyes) = read(&mesh(Pose::default(), aside, 0.3, (320.0, 180.0), 60.0));
        assert!(pose.yaw.abs() < 1.0 && (eyes.gaze.yaw - 25.0).abs() < 3.0, "{pose:?} {eyes:?}");
    }

    #[test]
    fn openness_follows_the_lids_of_straight_and_turned_heads() {
        for yaw in [0.0, 35.0] {
            let openness = |open| {
                let pose = Pose { yaw, ..Pose::default() };
                read(&mesh(pose, Gaze::default(), open, (320.0, 180.0), 60.0)).1.openness
            };
            assert!((openness(0.3) - 0.3).abs() < 0.03, "{yaw}: {}", openness(0.3));
            assert!(openness(0.08) < 0.11, "{yaw}: {}", openness(0.08));
        }
    }

    #[test]
    fn a_covered_eye_is_left_out_and_the_other_eye_counts_for_both() {
        let bare = mesh(Pose::default(), Gaze { yaw: 10.0, pitch: 0.0 }, 0.3, (320.0, 180.0), 60.0);
        let under =
            |eyes, mouth| head_and_eyes(&Mesh { bare: Bare { eyes, mouth }, ..bare.clone() }, WIDTH, HEIGHT).unwrap();
        let both = under([false, false], true);
        assert_eq!((both.eyes, both.covered), (None, Covered { eyes: true, mouth: false }));
        for eyes in [[true, false], [false, true]] {
            let one = under(eyes, false);
            assert!((one.eyes.unwrap().gaze.yaw - 10.0).abs() < 5.0, "{one:?}");
            assert_eq!(one.covered, Covered { eyes: false, mouth: true });
        }
    }

    #[test]
    fn points_that_are_not_finite_give_no_result() {
        assert_eq!(
            head_and_eyes(
                &Mesh {
                    points: vec![[f32::NAN; 3]; POINTS],
                    clarity: Clarity { presence: 1.0, sharpness: 1.0 },
                    bare: Bare::ALL
                },
                WIDTH,
                HEIGHT
            ),
            None
        );
    }

    /// Mirrors a face: each point moves to the other side and gets the number of its counterpart.
    fn mirrored(mesh: &Mesh) -> Mesh {
        let other_side = |n: usize| {
            let (_, p) = RIGID.iter().find(|(point, _)| *point == n)?;
            RIGID.iter().find(|(_, q)| (q.x, q.y, q.z) == (-p.x, p.y, p.z)).map(|(point, _)| *point)
        };
        let pairs = RIGID.iter().map(|(n, _)| (*n, other_side(*n).unwrap()));
        let [right, left] = EYES;
        let lids = right.lids.iter().flatten().copied().zip(left.lids.iter().flatten().copied());
        let eyes: Vec<_> = lids.chain(right.rim.into_iter().zip(left.rim)).collect();
        let back: Vec<_> = eyes.iter().map(|(right, left)| (*left, *right)).collect();
        let mut points = mesh.points.clone();
        for (from, to) in pairs.chain(eyes).chain(back) {
            let [x, y, z] = mesh.points[from];
            points[to] = [WIDTH as f32 - x, y, z];
        }
        Mesh { points, ..mesh.clone() }
    }

    /// Returns the angle between two directions in degrees.
    fn between(one: Gaze, other: Gaze) -> f32 {
        let direction = |gaze: Gaze| {
            let (yaw, pitch) = (gaze.yaw.to_radians(), gaze.pitch.to_radians());
            [pitch.cos() * yaw.sin(), pitch.sin(), pitch.cos() * yaw.cos()]
        };
        let cosine: f32 = direction(one).iter().zip(direction(other)).map(|(a, b)| a * b).sum();
        cosine.clamp(-1.0, 1.0).acos().to_degrees()
    }

    /// Returns the largest difference between the angles of two heads, and between the angles of their gazes.
    fn apart((pose, eyes): (Pose, Eyes), (other_pose, other_eyes): (Pose, Eyes)) -> (f32, f32) {
        let most = |pairs: &[(f32, f32)]| pairs.iter().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let head = [(pose.yaw, other_pose.yaw), (pose.pitch, other_pose.pitch), (pose.roll, other_pose.roll)];
        let gaze = [(eyes.gaze.yaw, other_eyes.gaze.yaw), (eyes.gaze.pitch, other_eyes.gaze.pitch)];
        (most(&head), most(&gaze))
    }

    proptest! {
        #[test]
        fn mirroring_negates_yaw_roll_and_gaze_yaw_and_changes_nothing_else(
            yaw in -40.0..40.0_f32, pitch in -25.0..25.0_f32, roll in -40.0..40.0_f32,
            across in -25.0..25.0_f32, up in -20.0..20.0_f32, open in 0.05..0.4_f64,
            x in 100.0..540.0_f64, y in 80.0..280.0_f64, away in 40.0..200.0_f64,
        ) {
            let seen = mesh(
                Pose { yaw, pitch, roll }, Gaze { yaw: yaw + across, pitch: pitch + up }, open, (x, y), away,
            );
            let ((pose, eyes), there) = (read(&seen), read(&mirrored(&seen)));
            let turned = Pose { yaw: -pose.yaw, roll: -pose.roll, ..pose };
            let gaze = Gaze { yaw: -eyes.gaze.yaw, ..eyes.gaze };
            let (head, looks) = apart((turned, Eyes { gaze, ..eyes }), there);
            prop_assert!(head < 0.1 && looks < 0.1, "{pose:?} {eyes:?} {there:?}");
            prop_assert!((eyes.openness - there.1.openness).abs() < 0.002, "{eyes:?} {there:?}");
        }

        #[test]
        fn the_result_does_not_depend_on_the_size_of_the_picture_or_the_position_in_it(
            yaw in -40.0..40.0_f32, pitch in -25.0..25.0_f32, roll in -40.0..40.0_f32,
            across in -20.0..20.0_f32, up in -15.0..15.0_f32, by in 0.25..4.0_f32,
            x in 100.0..540.0_f64, y in 80.0..280.0_f64, away in 60.0..200.0_f64,
        ) {
            let (pose, gaze) = (Pose { yaw, pitch, roll }, Gaze { yaw: yaw + across, pitch: pitch + up });
            let seen = mesh(pose, gaze, 0.3, (x, y), away);
            let here = read(&seen);
            let points = seen.points.iter().map(|point| point.map(|value| value * by)).collect();
            let sides = [WIDTH, HEIGHT].map(|side| (f64::from(side) * f64::from(by)).round() as i32);
            let found = head_and_eyes(&Mesh { points, ..seen }, sides[0], sides[1]).unwrap();
            let (head, looks) = apart(here, (found.pose, found.eyes.unwrap()));
            // The sides of the scaled picture are rounded to whole pixels.
            prop_assert!(head < 0.6 && looks < 0.6, "{here:?} {found:?}");
            let elsewhere = read(&mesh(pose, gaze, 0.3, (320.0, 180.0), away));
            let (head, looks) = apart(here, elsewhere);
            prop_assert!(head < 0.5 && looks < 1.0, "{here:?} {elsewhere:?}");
        }

        #[test]
        fn half_a_pixel_of_noise_moves_the_head_by_less_than_two_degrees_and_the_gaze_by_less_than_seven(
            yaw in -35.0..35.0_f32, pitch in -20.0..20.0_f32, roll in -40.0..40.0_f32,
            across in -20.0..20.0_f32, up in -15.0..15.0_f32,
            noise in prop::collection::vec(-0.5..0.5_f32, 2 * POINTS),
        ) {
            // The face is about 150 pixels wide, so half a pixel is half a millimetre, or 2.5 degrees on an eyeball.
            let mut seen = mesh(
                Pose { yaw, pitch, roll }, Gaze { yaw: yaw + across, pitch: pitch + up }, 0.3, (320.0, 180.0), 60.0,
            );
            let here = read(&seen);
            for (point, noise) in seen.points.iter_mut().zip(noise.chunks_exact(2)) {
                (point[0], point[1]) = (point[0] + noise[0], point[1] + noise[1]);
            }
            let moved = read(&seen);
            let (head, looks) = apart(here, moved);
            prop_assert!(head < 2.0 && looks < 7.0, "{here:?} {moved:?}");
        }

        #[test]
        fn known_angles_of_head_and_eyes_are_recovered(
            yaw in -40.0..40.0_f32, pitch in -25.0..25.0_f32, roll in -40.0..40.0_f32,
            // Angles of the eyes in the head. Eyes do not easily turn further.
            across in -25.0..25.0_f32, up in -20.0..20.0_f32,
            x in 100.0..540.0_f64, y in 80.0..280.0_f64, away in 40.0..200.0_f64,
        ) {
            let (pose, gaze) = (Pose { yaw, pitch, roll }, Gaze { yaw: yaw + across, pitch: pitch + up });
            let (found, eyes) = read(&mesh(pose, gaze, 0.3, (x, y), away));
            for (found, known) in [(found.yaw, yaw), (found.pitch, pitch), (found.roll, roll)] {
                prop_assert!((found - known).abs() < 0.5, "{found:?} for {known:?}");
            }
            // The gaze is relative to the line to each eye, which at 40 cm is 5 degrees from the line to the head, and
            // less at larger distances. In the mean of both eyes this cancels out, except that the nearer eye has more
            // weight.
            let off = between(eyes.gaze, gaze);
            prop_assert!(off < 340.0 / away as f32, "{off} degrees: {eyes:?} for {gaze:?} {pose:?}");
        }
    }
}
