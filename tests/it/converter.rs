//! Compares the landmark and blendshape models that `visage models pull` converts with the outputs of the same networks
//! converted by tf2onnx 1.17 and TensorFlow, and run by ONNX Runtime 1.31.

use std::process::Command;

use ndarray::{ArrayD, IxDyn};
use visage::config::{Device, Settings};
use visage::engine::Engine;
use visage::vision::BLENDSHAPE_POINTS;

use crate::support::clips;

/// One line per face: file, frame, width and height of its pictures, the square around the face (left, top, side),
/// and the outputs of the networks: presence, 478 points as x, y, z in pixels of the square, 52 movements.
const FACES: &str = include_str!("reference/faces.txt");
const SIDE: usize = 256;
const POINTS: usize = 478;

struct Face {
    file: &'static str,
    frame: usize,
    /// Width and height.
    size: [usize; 2],
    /// Left, top and side.
    square: [i64; 3],
    presence: f32,
    points: Vec<f32>,
    movements: Vec<f32>,
}

impl Face {
    fn parse(line: &'static str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let numbers = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect::<Vec<f32>>();
        assert_eq!(words.len(), 8 + 3 * POINTS + 52);
        Self {
            file: words[0],
            frame: words[1].parse().unwrap(),
            size: [words[2], words[3]].map(|word| word.parse().unwrap()),
            square: [words[4], words[5], words[6]].map(|word| word.parse().unwrap()),
            presence: words[7].parse().unwrap(),
            points: numbers(&words[8..8 + 3 * POINTS]),
            movements: numbers(&words[8 + 3 * POINTS..]),
        }
    }

    /// Returns the square around the face as input of the network. Every step uses integers, so that the result is
    /// the same with any FFmpeg on any machine.
    fn picture(&self) -> Vec<f32> {
        let [width, height] = self.size;
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let select = format!("select=eq(n\\,{})", self.frame);
        let decoded = Command::new("ffmpeg")
            .args(["-v", "error", "-flags", "bitexact", "-idct", "simple", "-i"])
            .arg(clips::shared(self.file))
            .args(["-vf", &select, "-frames:v", "1", "-f", "rawvideo", "-"])
            .output()
            .unwrap();
        let planes = decoded.stdout;
        assert_eq!(planes.len(), width * height + 2 * half_width * half_height, "{}", self.file);
        let at = |start: usize, place: usize| i64::from(planes[start + place]);
        let [left, top, side] = self.square;
        let mut picture = Vec::with_capacity(SIDE * SIDE * 3);
        for row in 0..SIDE as i64 {
            for column in 0..SIDE as i64 {
                let (x, y) = (left + column * side / SIDE as i64, top + row * side / SIDE as i64);
                if !(0..width as i64).contains(&x) || !(0..height as i64).contains(&y) {
                    picture.extend([0.0; 3]);
                    continue;
                }
                let (x, y) = (x as usize, y as usize);
                let half = y / 2 * half_width + x / 2;
                let luma = at(0, y * width + x);
                let blue = at(width * height, half) - 128;
                let red = at(width * height + half_width * half_height, half) - 128;
                let green = 88 * blue + 183 * red;
                let rgb = [luma + ((359 * red) >> 8), luma - (green >> 8), luma + ((454 * blue) >> 8)];
                picture.extend(rgb.map(|value| value.clamp(0, 255) as f32 / 255.0));
            }
        }
        picture
    }
}

fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn ten_faces_have_the_same_points_and_movements_as_with_another_converter() {
    let mut settings = Settings::defaults().unwrap().engine;
    settings.device = Device::Cpu;
    let engine = Engine::start(&settings).unwrap();
    let landmarks = engine.load("face_landmarks", &clips::model("face_landmarks.onnx")).unwrap();
    let movements = engine.load_sequence("face_blendshapes", &clips::model("face_blendshapes.onnx")).unwrap();
    let [points, presence] = ["landmarks", "presence"].map(|name| landmarks.output(name).unwrap());
    let faces: Vec<Face> = FACES.lines().map(Face::parse).collect();
    assert_eq!(faces.len(), 10);
    for face in faces {
        let told = format!("{} {}", face.file, face.frame);
        let picture = ArrayD::from_shape_vec(IxDyn(&[1, SIDE, SIDE, 3]), face.picture()).unwrap();
        let outputs = landmarks.run(picture).unwrap();
        assert_eq!((outputs[points].shape(), outputs[presence].shape()), (&[1, POINTS, 3][..], &[1][..]));
        let off = furthest(outputs[points].as_slice().unwrap(), &face.points);
        assert!(off < 0.01, "{told}: a point is off by {off} of 256 pixels");
        let off = furthest(outputs[presence].as_slice().unwrap(), &[face.presence]);
        assert!(off < 0.01, "{told}: presence is off by {off}");
        let seen: Vec<f32> =
            BLENDSHAPE_POINTS.iter().flat_map(|n| [face.points[3 * n], face.points[3 * n + 1]]).collect();
        let seen = ArrayD::from_shape_vec(IxDyn(&[1, BLENDSHAPE_POINTS.len(), 2]), seen).unwrap();
        let outputs = movements.turn().run(vec![("landmarks", seen.view())]).unwrap();
        assert_eq!(outputs[0].len(), 52);
        let off = furthest(outputs[0].as_slice().unwrap(), &face.movements);
        assert!(off < 1e-4, "{told}: a movement is off by {off}");
    }
}
